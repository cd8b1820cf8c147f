//! How a daemon ends when it cannot simply end: S3 fails, the user is impatient, it was killed, nobody waits.
//! On a real mount over the embedded server.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use pailfs_s3_server::{Fault, FaultKind, Server, ServerConfig};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

/// A server with the bucket `data`, a directory to mount it on, a cache.
struct World {
    server: Server,
    top: TempDir,
}

impl World {
    fn new() -> Self {
        let config = ServerConfig { buckets: vec!["data".into()], ..ServerConfig::default() };
        let world =
            Self { server: Server::start_blocking(config).unwrap(), top: tempfile::tempdir().unwrap() };
        fs::create_dir(world.dir()).unwrap();
        world
    }

    /// Without symbolic links, as the kernel names it.
    fn dir(&self) -> PathBuf {
        self.top.path().canonicalize().unwrap().join("mnt")
    }

    fn pailfs(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pailfs"));
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", self.top.path())
            .env("XDG_RUNTIME_DIR", self.top.path())
            .env("AWS_ACCESS_KEY_ID", "pailfs-test")
            .env("AWS_SECRET_ACCESS_KEY", "pailfs-test-secret")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("PAILFS_CACHE_DIR", self.top.path().join("cache"))
            .env("PAILFS_ENDPOINT_URL", self.server.endpoint())
            .env("PAILFS_MAX_ATTEMPTS", "1")
            .current_dir(self.top.path());
        command
    }

    /// Runs `pailfs` with `arguments` to its end.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let Output { status, stderr, .. } = self.pailfs().args(arguments).output().unwrap();
        (status.code(), String::from_utf8_lossy(&stderr).into_owned())
    }

    /// A daemon in the foreground, live.
    fn foreground(&self) -> Daemon {
        let mut command = self.pailfs();
        command.args(["mount", "data", "mnt", "--foreground"]).stderr(Stdio::piped());
        let mut daemon = Daemon { child: command.spawn().unwrap() };
        wait_for("the mount", || {
            assert!(daemon.child.try_wait().unwrap().is_none(), "the daemon ended");
            is_mounted(&self.dir())
        });
        daemon
    }

    /// A file with bytes that are not in S3, because it is open.
    fn open_file(&self) -> File {
        let mut file = File::create(self.dir().join("open")).unwrap();
        file.write_all(b"bytes to keep").unwrap();
        file
    }

    /// The one file below `place` in this mount's cache directory.
    fn kept(&self, place: &str) -> Vec<u8> {
        let mount_dir = fs::read_dir(self.top.path().join("cache")).unwrap();
        let mount_dir = mount_dir.map(|e| e.unwrap().path()).find(|p| p.join("lock").exists()).unwrap();
        let mut folder = mount_dir.join(place);
        loop {
            let mut entries: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
            assert_eq!(entries.len(), 1, "{entries:?}");
            let entry = entries.remove(0);
            if entry.is_file() {
                return fs::read(entry).unwrap();
            }
            folder = entry;
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.server.knobs().clear_faults();
        let dir = self.dir();
        if is_mounted(&dir) {
            let _ = self.run(&["umount", "mnt"]);
        }
        if is_mounted(&dir) {
            let _ = pailfs::fuse::mount::detach(&dir);
        }
    }
}

struct Daemon {
    child: Child,
}

impl Daemon {
    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Reads the log up to the first line that has `word`.
    fn read_log_until(&mut self, word: &str) -> String {
        let mut log = BufReader::with_capacity(1, self.child.stderr.as_mut().unwrap());
        let mut text = String::new();
        while !text.contains(word) {
            assert_ne!(log.read_line(&mut text).unwrap(), 0, "no '{word}' in:\n{text}");
        }
        text
    }

    /// Waits for the end: exit code and the rest of the log.
    fn end(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Only what a failed test left: end() has waited otherwise.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_mounted(dir: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().any(|line| line.split(' ').nth(4) == dir.to_str())
}

#[track_caller]
fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what} did not come");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

#[test]
fn a_second_signal_names_files_and_a_third_gives_up() {
    let world = World::new();
    let mut daemon = world.foreground();
    let file = world.open_file();
    world.server.knobs().add_fault(Fault::new(FaultKind::Stall).on("PutObject"));
    daemon.signal(Signal::INT);
    daemon.read_log_until("left to upload");
    daemon.signal(Signal::TERM);
    let told = daemon.read_log_until("once more gives up");
    assert!(told.contains("open (13 B)"), "{told}");
    daemon.signal(Signal::INT);
    let (code, screen) = daemon.end();
    assert_eq!(code, Some(74), "{screen}");
    assert!(screen.contains("open: 13 B not uploaded") && screen.contains("staging"), "{screen}");
    assert!(!is_mounted(&world.dir()));
    assert_eq!(world.kept("staging"), b"bytes to keep");
    drop(file);

    world.server.knobs().clear_faults();
    let (code, notices) = world.run(&["mount", "data", "mnt"]);
    assert_eq!(code, Some(0), "{notices}");
    assert!(notices.contains("1 file (13 B) put aside in"), "{notices}");
    assert_eq!(world.kept("left-behind"), b"bytes to keep");
}

#[test]
fn a_drain_goes_on_when_s3_comes_back() {
    let world = World::new();
    let mut daemon = world.foreground();
    let file = world.open_file();
    world.server.knobs().add_fault(Fault::new(FaultKind::Stall).on("PutObject"));
    daemon.signal(Signal::TERM);
    daemon.read_log_until("left to upload");
    world.server.knobs().clear_faults();
    drop(file);
    let (code, log) = daemon.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("everything is in S3"), "{log}");
    let (code, _) = world.run(&["mount", "data", "mnt"]);
    assert_eq!((code, fs::read(world.dir().join("open")).unwrap()), (Some(0), b"bytes to keep".to_vec()));
}

#[test]
fn umount_tells_what_could_not_be_uploaded() {
    let world = World::new();
    assert_eq!(world.run(&["mount", "data", "mnt"]).0, Some(0));
    let file = world.open_file();
    world.server.knobs().add_fault(Fault::new(FaultKind::InternalError).on("PutObject"));
    // Held open for as long as the daemon waits for it, then seen off.
    let (code, screen) = world.run(&["umount", "mnt"]);
    assert_eq!(code, Some(74), "{screen}");
    for word in ["not everything is in S3", "open: ", "InternalError", "staging", "pailfs.log"] {
        assert!(screen.contains(word), "no '{word}' in {screen}");
    }
    assert!(!is_mounted(&world.dir()));
    assert_eq!(world.kept("staging"), b"bytes to keep");
    drop(file);
    assert_eq!(world.run(&["umount", "mnt"]).0, Some(66), "told once");
}

#[test]
fn a_mount_of_a_killed_daemon_is_cleared() {
    for clear in [&["umount", "mnt"][..], &["mount", "data", "mnt"]] {
        let world = World::new();
        let mut daemon = world.foreground();
        daemon.child.kill().unwrap();
        daemon.child.wait().unwrap();
        wait_for("the end of the connection", || fs::read_dir(world.dir()).is_err());
        assert!(is_mounted(&world.dir()));
        let (code, screen) = world.run(clear);
        assert_eq!(code, Some(0), "{screen}");
        assert!(screen.contains("dead") && screen.contains("s3://data"), "{screen}");
        assert_eq!(is_mounted(&world.dir()), clear[0] == "mount");
        assert!(fs::read_dir(world.dir()).is_ok());
    }
}

#[test]
fn an_unmount_from_outside_drains() {
    let world = World::new();
    let daemon = world.foreground();
    let file = world.open_file();
    // Lazily: the file is open. The daemon goes on until it is closed.
    pailfs::fuse::mount::detach(&world.dir()).unwrap();
    drop(file);
    let (code, log) = daemon.end();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(world.server.counters().count("PutObject"), 1, "{log}");
}

#[test]
fn an_interrupted_start_leaves_nothing() {
    let world = World::new();
    world.server.knobs().add_fault(Fault::new(FaultKind::Stall).on("ListObjectsV2"));
    let mut command = world.pailfs();
    // A group of its own, as a shell gives its jobs: Ctrl-C reaches the daemon-to-be as well.
    let mut child = command.args(["mount", "data", "mnt"]).process_group(0).spawn().unwrap();
    wait_for("the request", || world.server.knobs().faults_hit() > 0);
    let group = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process_group(group, Signal::INT).unwrap();
    assert!(!child.wait().unwrap().success());
    world.server.knobs().clear_faults();
    // The lock is free again once the other process has ended, so a mount works.
    wait_for("the end of the interrupted start", || world.run(&["mount", "data", "mnt"]).0 == Some(0));
}

#[test]
fn calls_in_the_form_of_mount_work() {
    let world = World::new();
    let (code, screen) = world.run(&["data", "mnt", "-o", "ro,noexec,nofail,_netdev,x-systemd.automount"]);
    assert_eq!(code, Some(0), "{screen}");
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table.lines().find(|line| line.split(' ').nth(4) == world.dir().to_str()).unwrap();
    assert!(line.contains(" ro,nosuid,nodev,noexec,") && line.contains("fuse.pailfs s3://data"), "{line}");
    assert_eq!(world.run(&["umount", "mnt"]).0, Some(0));
}
