//! A daemon of one test and its mount.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal};

use super::program::wait_until;
use super::world::{BUCKET, World};

/// A daemon that lives longer than this is killed, so that a test that hangs fails instead.
const LIFE_MAX: Duration = Duration::from_secs(900);

/// What is to be mounted, and how.
pub struct Mounter<'a> {
    world: &'a World,
    target: String,
    flags: Vec<String>,
    cache: Option<PathBuf>,
    dir: Option<PathBuf>,
    keys: (String, String),
}

impl<'a> Mounter<'a> {
    pub(super) fn new(world: &'a World) -> Self {
        let keys = world.keys.clone();
        Self { world, target: BUCKET.to_owned(), flags: Vec::new(), cache: None, dir: None, keys }
    }

    pub fn target(mut self, target: &str) -> Self {
        self.target = target.to_owned();
        self
    }

    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// A cache directory that is used again.
    pub fn cache(mut self, cache: &Path) -> Self {
        self.cache = Some(cache.to_owned());
        self
    }

    /// A directory that is there already.
    pub fn dir(mut self, dir: &Path) -> Self {
        self.dir = Some(dir.to_owned());
        self
    }

    pub fn keys(mut self, access: &str, secret: &str) -> Self {
        self.keys = (access.to_owned(), secret.to_owned());
        self
    }

    /// The command, with the directory and the cache it uses.
    pub fn command(&self) -> (Command, PathBuf, PathBuf) {
        let fresh = |name: &str| {
            let dir = tempfile::Builder::new().prefix(name).tempdir_in(self.world.tmp.path()).unwrap();
            dir.keep()
        };
        let dir = self.dir.clone().unwrap_or_else(|| fresh("dir."));
        let cache = self.cache.clone().unwrap_or_else(|| fresh("cache."));
        let mut command = Command::new(env!("CARGO_BIN_EXE_pailfs"));
        command
            .arg("mount")
            .arg(&self.target)
            .arg(&dir)
            .args(["--endpoint-url", &self.world.server.endpoint()]);
        command.arg("--cache-dir").arg(&cache).args(&self.flags);
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"AWS_") || name.as_encoded_bytes().starts_with(b"PAILFS_")
            {
                command.env_remove(name);
            }
        }
        command.env("AWS_ACCESS_KEY_ID", &self.keys.0).env("AWS_SECRET_ACCESS_KEY", &self.keys.1);
        command.env("AWS_REGION", "us-east-1").env("AWS_EC2_METADATA_DISABLED", "true");
        command.env("HOME", self.world.tmp.path()).stdin(Stdio::null());
        (command, dir, cache)
    }

    /// Mounts in the foreground and waits until it is live.
    pub fn start(self) -> Mount {
        assert!(Path::new("/dev/fuse").exists(), "these tests need /dev/fuse");
        let (mut command, dir, cache) = self.command();
        let log = tempfile::Builder::new().prefix("log.").tempfile_in(self.world.tmp.path()).unwrap();
        let (log, log_path) = log.keep().unwrap();
        command.arg("--foreground").stdout(log.try_clone().unwrap()).stderr(log);
        let mut child = command.spawn().unwrap();
        let pid = Pid::from_child(&child);
        let (alive, watch) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            if watch.recv_timeout(LIFE_MAX) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("the daemon of a test has lived too long and is killed");
                // The child is waited for only after the sender is gone, so the number is still its own.
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        });
        let mut ended = None;
        wait_until("the mount is live", || {
            ended = child.try_wait().unwrap();
            // A dead mount that the daemon is to clear first is mounted as well.
            ended.is_some() || is_mounted(&dir) && std::fs::metadata(&dir).is_ok()
        });
        let mount = Mount { dir, cache, log: log_path, child: Some(child), alive: Some(alive) };
        assert!(ended.is_none(), "the daemon ended at once with {ended:?}:\n{}", mount.log_text());
        mount
    }
}

/// Whether a filesystem of ours is mounted at exactly `dir`.
pub fn is_mounted(dir: &Path) -> bool {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let dir = dir.to_str().unwrap();
    table.lines().any(|line| line.split(' ').nth(4) == Some(dir) && line.contains(" fuse.pailfs "))
}

/// A live mount. Dropping it kills the daemon and takes the mount away.
pub struct Mount {
    dir: PathBuf,
    cache: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    alive: Option<mpsc::Sender<()>>,
}

impl Mount {
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub fn cache(&self) -> &Path {
        &self.cache
    }

    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("the daemon runs"))
    }

    /// A field of /proc/PID/status in KiB: `VmRSS`, `VmHWM`.
    pub fn memory_kib(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// SIGTERM; everything has to be in S3 and the mount gone.
    #[track_caller]
    pub fn stop(self) {
        let (dir, log) = (self.dir.clone(), self.log.clone());
        let status = self.terminate();
        let log = std::fs::read_to_string(log).unwrap_or_default();
        assert!(status.success(), "the daemon ended with {status}:\n{log}");
        assert!(!is_mounted(&dir), "the daemon ended and left the mount:\n{log}");
    }

    /// Waits for the end of the daemon.
    pub fn wait(&mut self) -> ExitStatus {
        let child = self.child.as_mut().expect("the daemon runs");
        let end = Instant::now() + Duration::from_secs(120);
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                self.alive = None;
                return status;
            }
            assert!(Instant::now() < end, "the daemon does not end:\n{}", self.log_text());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// kill -9, as a crash; the dead mount is taken away.
    pub fn kill(mut self) {
        self.kill_only();
        self.clear();
    }

    /// kill -9 that leaves the dead mount where it is. Returns the directory.
    pub fn crash(mut self) -> PathBuf {
        self.kill_only();
        let dir = self.dir.clone();
        std::mem::forget(self);
        dir
    }

    fn kill_only(&mut self) {
        self.alive = None;
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            let _ = child.kill();
            let status = child.wait().unwrap();
            assert!(status.signal() != Some(libc::SIGSEGV), "the daemon crashed: {status}");
        }
    }

    fn clear(&self) {
        while is_mounted(&self.dir) {
            if rustix::mount::unmount(&self.dir, UnmountFlags::DETACH).is_err() {
                break;
            }
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log_text();
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            eprintln!("-- last lines of the daemon's log");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
        // The mount goes first, so that nothing waits for a daemon that is gone.
        self.clear();
        self.alive = None;
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
