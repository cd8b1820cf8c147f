//! Names: which inode a name means, which key an inode has, and how long either may be believed.
//!
//! Owns the inode table ([`table`]), its nodes ([`node`]), the resolution of names against S3 ([`lookup`],
//! [`listing`]), the escape of odd keys ([`escape`]) and the codec of attributes ([`attributes`]).
//!
//! Invariants:
//! * What this host changed wins over anything S3 said of an earlier moment (`Node::changed`).
//! * A node with open handles stands for one version of its object. When the name turns out to have another
//!   one, the name gets a new inode and the open one goes on as an unlinked file.
//!
//! Locks: `table`, then `known`; both are leaves for everybody else and never held while waiting.
//!
//! Deliberately does not: move bytes, change S3.

pub mod attributes;
pub mod content_type;
pub mod escape;
pub mod listing;
pub mod lookup;
pub mod node;
pub mod table;

use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use lru::LruCache;
use parking_lot::{Mutex, MutexGuard};

use self::node::{Defaults, Known, Node};
use self::table::{DirPath, MountTarget, Table};
use crate::fs::error::{Error, Result};
use crate::fs::types::{FileKind, Ino, KernelNotifier};
use crate::runtime::flight::Flights;
use crate::store::object_store::ObjectStore;
use crate::store::types::{KEY_MAX_BYTES, ObjectPath, Version};

/// Longest name a directory entry may have, in bytes. FUSE itself lets 1,024 through.
pub const NAME_MAX_BYTES: usize = 255;

/// Versions whose attributes are remembered without an inode.
const KNOWN_MAX: NonZeroUsize = NonZeroUsize::new(65_536).unwrap();

/// Where attributes come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttrsMode {
    /// Mode, owner, times and kind from user metadata, at the price of one HEAD per object.
    Posix,
    /// Size and time from listings, defaults for the rest; never a HEAD for attributes alone.
    List,
}

/// How names are resolved.
#[derive(Clone, Debug)]
pub struct NamesConfig {
    /// What the root stands for.
    pub target: MountTarget,
    /// How long a name or an attribute may be believed.
    pub ttl: Duration,
    /// Where attributes come from.
    pub attrs: AttrsMode,
    /// What objects without attributes show.
    pub defaults: Defaults,
}

/// The names of a mount.
pub struct Namespace {
    table: Mutex<Table>,
    known: Mutex<LruCache<ObjectPath, Known>>,
    listings: Flights<Ino, Result<()>>,
    store: Arc<dyn ObjectStore>,
    notifier: Arc<dyn KernelNotifier>,
    config: NamesConfig,
}

impl Namespace {
    /// The names of `config.target`; sends no request.
    pub fn new(
        config: NamesConfig,
        store: Arc<dyn ObjectStore>,
        notifier: Arc<dyn KernelNotifier>,
    ) -> Arc<Self> {
        Arc::new(Self {
            table: Mutex::new(Table::new(config.target.clone(), &config.defaults)),
            known: Mutex::new(LruCache::new(KNOWN_MAX)),
            listings: Flights::default(),
            store,
            notifier,
            config,
        })
    }

    /// The table, for a moment.
    pub fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }

    /// How names are resolved.
    pub fn config(&self) -> &NamesConfig {
        &self.config
    }

    /// Tells the kernel; never with the table locked.
    pub fn notifier(&self) -> &dyn KernelNotifier {
        &*self.notifier
    }

    /// Something of a node, or ENOENT when it is not known (any more).
    pub fn with<T>(&self, ino: Ino, f: impl FnOnce(&mut Node) -> T) -> Result<T> {
        self.table().get_mut(ino).map(f).ok_or(Error::NotFound)
    }

    /// Where the objects of a directory are. The root of all buckets has none: names there are buckets.
    pub fn dir_path(&self, ino: Ino) -> Result<DirPath> {
        let table = self.table();
        if table.get(ino).is_some_and(|n| n.kind != FileKind::Directory) {
            return Err(Error::NotDirectory);
        }
        table.dir_path(ino).ok_or(Error::NotPermitted("buckets are not made or removed through the mount"))
    }

    /// The key of a node; a top directory has none.
    pub fn object_path(&self, ino: Ino) -> Option<ObjectPath> {
        self.table().object_path(ino)
    }

    /// Remembers attributes of a version, so that no HEAD is sent for them again.
    pub fn remember(&self, path: ObjectPath, known: Known) {
        self.known.lock().put(path, known);
    }

    /// Forgets what was remembered of an object that was changed or removed here. Its version is no proof:
    /// the same bytes written again within a second have the same ETag, size and time.
    pub fn unremember(&self, path: &ObjectPath) {
        self.known.lock().pop(path);
    }

    /// Attributes of that version, if they were seen.
    pub fn recall(&self, path: &ObjectPath, version: &Version) -> Option<Known> {
        self.known.lock().get(path).filter(|k| k.version == *version).cloned()
    }
}

/// A name as the kernel gave it, as text. Names longer than POSIX allows and names that are not UTF-8 are
/// refused here.
pub fn name_text(name: &OsStr) -> Result<&str> {
    if name.len() > NAME_MAX_BYTES {
        return Err(Error::NameTooLong);
    }
    name.to_str().ok_or(Error::NotUtf8)
}

/// Refuses keys that S3 would refuse.
pub fn check_key(path: &ObjectPath) -> Result<()> {
    if path.key.len() > KEY_MAX_BYTES { Err(Error::NameTooLong) } else { Ok(()) }
}
