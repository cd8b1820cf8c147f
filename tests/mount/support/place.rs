//! A directory to work in: the root of a fresh mount, or a local directory when the tests themselves are checked.

use std::path::{Path, PathBuf};

use super::mounted::Mount;
use super::world::World;

/// Fields are dropped in order: the mount before the server.
pub struct Place {
    dir: PathBuf,
    _mount: Option<Mount>,
    _world: Option<World>,
    _local: Option<tempfile::TempDir>,
}

/// A fresh place.
pub fn place() -> Place {
    match std::env::var_os("PAILFS_TEST_ON") {
        Some(dir) => {
            let local = tempfile::Builder::new().prefix("place.").tempdir_in(dir).unwrap();
            Place { dir: local.path().to_owned(), _mount: None, _world: None, _local: Some(local) }
        }
        None => {
            let world = World::new();
            let mount = world.mount(&[]);
            Place { dir: mount.dir().to_owned(), _mount: Some(mount), _world: Some(world), _local: None }
        }
    }
}

impl Place {
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Whether this is a mount of ours: some answers differ from a local filesystem's on purpose.
    pub fn is_mount(&self) -> bool {
        self._mount.is_some()
    }
}
