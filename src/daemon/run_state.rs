//! What a running daemon tells `pailfs umount`: one small file per mountpoint in a runtime directory.
//!
//! The daemon writes it whole and renames it into place; it is removed when the daemon has ended with
//! everything in S3. One that stays with `left` filled tells what is not in S3 and where the bytes are.
//!
//! Deliberately does not: carry commands. Stopping is a signal.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::machine::Machine;

/// Most bytes of a state file that are read.
const STATE_MAX_BYTES: u64 = 1 << 20;
/// Most files that are named as left.
const LEFT_MAX: usize = 100;

/// State of a daemon.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct RunState {
    /// Its process.
    pub pid: i32,
    /// When that process began, in clock ticks since boot: a pid is used again one day.
    pub started_ticks: u64,
    /// Where it mounts.
    pub mountpoint: PathBuf,
    /// What it mounts.
    pub source: String,
    /// Its log, when it is a file.
    pub log: Option<PathBuf>,
    /// It was asked to stop and drains.
    pub stopping: bool,
    /// What is left to upload, in words.
    pub progress: String,
    /// It ended with these files not in S3.
    pub left: Vec<String>,
    /// Where the bytes of `left` are.
    pub kept_in: Option<PathBuf>,
    /// Who wrote the file it was read from. A user may write any number into a file of theirs, which must not
    /// make root end a process of somebody else.
    #[serde(skip)]
    pub owner: u32,
}

impl RunState {
    /// The state of this process.
    pub fn of_this_process(mountpoint: &Path, source: String, log: Option<PathBuf>) -> Self {
        let pid = rustix::process::getpid().as_raw_pid();
        Self {
            pid,
            started_ticks: started_ticks(pid).unwrap_or(0),
            mountpoint: mountpoint.to_owned(),
            source,
            log,
            stopping: false,
            progress: String::new(),
            left: Vec::new(),
            kept_in: None,
            owner: rustix::process::geteuid().as_raw(),
        }
    }

    /// The last word: these files are not in S3, and where their bytes are. Long lists are cut.
    pub fn finish(&mut self, left: &[String], kept_in: Option<PathBuf>) {
        self.left = left.iter().take(LEFT_MAX).cloned().collect();
        if left.len() > LEFT_MAX {
            self.left.push(format!("and {} more", left.len() - LEFT_MAX));
        }
        self.kept_in = kept_in;
    }

    /// The process, when it still runs and belongs to who wrote this.
    pub fn process(&self) -> Option<Process> {
        let pid = Pid::from_raw(self.pid)?;
        let fd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Read after the descriptor is held: it cannot become another process from here on.
        let same = started_ticks(self.pid) == Some(self.started_ticks);
        let theirs = fs::metadata(format!("/proc/{}", self.pid)).is_ok_and(|m| m.uid() == self.owner);
        (same && theirs).then_some(Process { fd })
    }
}

/// A running process that cannot be mistaken for a later one with its number.
#[derive(Debug)]
pub struct Process {
    fd: OwnedFd,
}

impl Process {
    /// Sends SIGTERM.
    pub fn terminate(&self) -> io::Result<()> {
        Ok(rustix::process::pidfd_send_signal(&self.fd, Signal::TERM)?)
    }

    /// Waits until it has ended, at most `time`; whether it has.
    pub fn wait(&self, time: Duration) -> io::Result<bool> {
        let timeout = Timespec::try_from(time).map_err(io::Error::other)?;
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Where a daemon's state lies.
#[derive(Clone, Debug)]
pub struct StateFile {
    path: PathBuf,
}

impl StateFile {
    /// The file of a daemon of this user for `mountpoint`; `None` when there is no place for it.
    pub fn own(machine: &Machine, mountpoint: &Path) -> Option<Self> {
        let dir = own_dirs(machine).into_iter().find(|dir| make_dir(dir).is_ok())?;
        Some(Self { path: dir.join(file_name(mountpoint)) })
    }

    /// The file that some daemon wrote for `mountpoint`: of this user, of root, and for root of the user who
    /// mounted.
    pub fn find(machine: &Machine, mountpoint: &Path, mounted_by: Option<u32>) -> Option<(Self, RunState)> {
        let mut dirs = own_dirs(machine);
        dirs.push(PathBuf::from("/run/pailfs"));
        dirs.extend(mounted_by.map(|uid| PathBuf::from(format!("/run/user/{uid}/pailfs"))));
        dirs.extend(mounted_by.and_then(home_of).map(|home| home.join(".cache/pailfs/run")));
        dirs.into_iter().find_map(|dir| {
            let file = Self { path: dir.join(file_name(mountpoint)) };
            let state = file.read()?;
            (state.mountpoint == mountpoint).then_some((file, state))
        })
    }

    /// What is in it now; `None` when it is gone or not readable.
    pub fn read(&self) -> Option<RunState> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&self.path).ok()?;
        let metadata = file.metadata().ok().filter(fs::Metadata::is_file)?;
        let text = io::BufReader::new(file.take(STATE_MAX_BYTES));
        let state: RunState = serde_json::from_reader(text).ok()?;
        Some(RunState { owner: metadata.uid(), ..state })
    }

    /// Replaces its content in one step.
    pub fn write(&self, state: &RunState) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(state).map_err(io::Error::other)?)?;
        fs::rename(&new, &self.path)
    }

    /// Removes it.
    pub fn remove(&self) {
        // It is in a directory of our own; when it cannot go, the next start replaces it.
        let _ = fs::remove_file(&self.path);
    }
}

fn own_dirs(machine: &Machine) -> Vec<PathBuf> {
    if machine.uid == 0 {
        return vec![PathBuf::from("/run/pailfs"), PathBuf::from("/var/cache/pailfs/run")];
    }
    let runtime = machine.runtime_dir.iter().map(|dir| dir.join("pailfs"));
    runtime.chain(machine.default_cache_dir().map(|dir| dir.join("run"))).collect()
}

/// The home of a user on this machine. passwd(5).
fn home_of(uid: u32) -> Option<PathBuf> {
    let table = fs::read_to_string("/etc/passwd").ok()?;
    let line =
        table.lines().find(|line| line.split(':').nth(2).and_then(|id| id.parse().ok()) == Some(uid))?;
    line.split(':').nth(5).map(PathBuf::from).filter(|home| home.is_absolute())
}

fn make_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let metadata = fs::symlink_metadata(dir)?;
    let ours = metadata.is_dir() && metadata.uid() == rustix::process::geteuid().as_raw();
    let writable = rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).is_ok();
    if ours && writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

fn file_name(mountpoint: &Path) -> String {
    let digest = Sha256::digest(mountpoint.as_os_str().as_bytes());
    let mut name: String = digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    name.push_str(".json");
    name
}

/// Field 22 of proc_pid_stat(5); the second field may hold spaces and parentheses.
fn started_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.iter().rposition(|b| *b == b')')? + 2;
    let rest = std::str::from_utf8(stat.get(after_name..)?).ok()?;
    // A process that has ended and is not yet waited for is no running process.
    let mut fields = rest.split(' ');
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn machine(home: &Path) -> Machine {
        Machine {
            uid: 12_345,
            gid: 0,
            memory_bytes: None,
            cache_home: None,
            home: Some(home.to_owned()),
            runtime_dir: None,
            current_dir: "/".into(),
            aws_endpoint: None,
        }
    }

    #[test]
    fn written_found_and_removed() {
        let home = tempfile::tempdir().unwrap();
        let machine = machine(home.path());
        let mountpoint = Path::new("/mnt/a b");
        let file = StateFile::own(&machine, mountpoint).unwrap();
        let mut state = RunState::of_this_process(mountpoint, "s3://b".into(), None);
        file.write(&state).unwrap();
        state.progress = "2 files".into();
        file.write(&state).unwrap();
        let (found, read) = StateFile::find(&machine, mountpoint, None).unwrap();
        assert_eq!(read, state);
        assert!(StateFile::find(&machine, Path::new("/mnt/other"), None).is_none());
        found.remove();
        assert!(StateFile::find(&machine, mountpoint, None).is_none());
    }

    #[test]
    fn a_process_is_known_by_its_start_too() {
        let state = RunState::of_this_process(Path::new("/m"), String::new(), None);
        let process = state.process().expect("this process runs");
        assert!(!process.wait(Duration::ZERO).unwrap());
        let other = RunState { started_ticks: state.started_ticks + 1, ..state.clone() };
        assert!(other.process().is_none());
        let forged = RunState { owner: state.owner + 1, ..state };
        assert!(forged.process().is_none());
    }

    #[test]
    fn the_end_of_a_process_is_seen() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let mut state = RunState::of_this_process(Path::new("/m"), String::new(), None);
        state.pid = pid;
        state.started_ticks = started_ticks(pid).unwrap();
        let process = state.process().unwrap();
        process.terminate().unwrap();
        assert!(process.wait(Duration::from_secs(30)).unwrap());
        child.wait().unwrap();
        assert!(state.process().is_none());
    }
}
