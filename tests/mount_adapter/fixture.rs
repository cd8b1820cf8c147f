//! A mounted toy, and waiting.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use pailfs::fuse::mount::detach;
use pailfs::fuse::{
    MountOptions, Mounted, OperationSnapshot, QueuedNotifier, SessionConfig, SessionEnd, mount,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::toy::Toy;

/// Bound on waiting for something that has to happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A mounted toy; the mount goes with it, also when a test fails.
pub struct Fixture {
    pub toy: Arc<Toy>,
    pub mounted: Option<Mounted>,
    pub notifier: Arc<QueuedNotifier>,
    pub runtime: Runtime,
    pub dir: TempDir,
}

pub fn config() -> SessionConfig {
    SessionConfig { deadline: PATIENCE, ..SessionConfig::default() }
}

impl Fixture {
    pub fn new() -> Self {
        Self::with(Toy::new(), &MountOptions::default(), &config())
    }

    pub fn with(toy: Toy, options: &MountOptions, config: &SessionConfig) -> Self {
        let toy = Arc::new(toy);
        let notifier = QueuedNotifier::new();
        let dir = tempfile::tempdir().unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mounted = mount(
            dir.path(),
            options,
            config,
            Arc::clone(&toy),
            Arc::clone(&notifier),
            runtime.handle().clone(),
        )
        .unwrap();
        Self { toy, mounted: Some(mounted), notifier, runtime, dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn mounted(&self) -> &Mounted {
        self.mounted.as_ref().unwrap()
    }

    pub fn ended(&self) -> SessionEnd {
        self.runtime.block_on(async {
            tokio::time::timeout(PATIENCE, self.mounted().ended()).await.expect("the session goes on")
        })
    }

    pub fn unmount(&self) -> io::Result<()> {
        self.runtime.block_on(self.mounted().unmount())
    }

    pub fn stat(&self, operation: &str) -> OperationSnapshot {
        let all = self.mounted().stats().snapshot();
        all.into_iter().find(|s| s.operation == operation).unwrap_or_else(|| panic!("no {operation} yet"))
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // Whoever still waits in the toy goes on, or the threads of a failed test would hang in the kernel.
        self.toy.gate.add_permits(1000);
        self.mounted = None;
        while kind_mounted_at(self.dir.path()).is_some() && detach(self.dir.path()).is_ok() {}
    }
}

/// Polls for a condition: the pause is how often it looks, not what it waits for.
#[allow(clippy::disallowed_methods)]
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The line of the mount table for a path.
pub fn kind_mounted_at(path: &Path) -> Option<String> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    let found = table.lines().rfind(|line| line.split(' ').nth(1) == path.to_str());
    found.map(str::to_owned)
}

pub fn errno<T>(result: io::Result<T>) -> i32 {
    result.err().expect("an error").raw_os_error().unwrap()
}
