//! The filesystem as one value: names, commits, content and handles.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::error::{Error, Result};
use super::handles::Handles;
use super::lost_races::LostRaces;
use super::types::{AttrReply, Caller, Entry, FileKind, Ino, KernelNotifier};
use crate::commit::{CommitConfig, Committer};
use crate::content::ContentStore;
use crate::namespace::node::{Defaults, Node, Stat};
use crate::namespace::{NamesConfig, Namespace};
use crate::runtime::budget::Budget;
use crate::store::object_store::ObjectStore;
use crate::store::types::Condition;

pub use crate::commit::OnConflict;
pub use crate::namespace::AttrsMode;
pub use crate::namespace::table::MountTarget;

/// How long attribute changes wait for others of the same file.
const ATTR_DELAY: Duration = Duration::from_millis(200);

/// What a mount is and how it behaves.
#[derive(Clone, Debug)]
pub struct FsConfig {
    /// What the root stands for.
    pub target: MountTarget,
    /// How long a name or an attribute may be believed.
    pub ttl: Duration,
    /// How long an open may rely on what was learnt before it; then it asks S3 (close-to-open).
    pub open_window: Duration,
    /// Where attributes come from.
    pub attrs: AttrsMode,
    /// Nothing may be changed.
    pub read_only: bool,
    /// Owner of objects without one.
    pub uid: u32,
    /// Group of objects without one.
    pub gid: u32,
    /// Permissions of objects without any.
    pub file_mode: u32,
    /// Permissions of directories without any.
    pub dir_mode: u32,
    /// Bytes of a part.
    pub part_size_bytes: u64,
    /// Files above this many bytes go up in parts.
    pub multipart_threshold_bytes: u64,
    /// Parts of one file in flight.
    pub upload_concurrency: usize,
    /// Where staging files are.
    pub staging_dir: PathBuf,
    /// Where bytes go that lost a conflict.
    pub conflicts_dir: PathBuf,
    /// Who wins.
    pub on_conflict: OnConflict,
    /// Storage class of new objects.
    pub storage_class: Option<String>,
    /// Memory of transfers.
    pub budget: Arc<Budget>,
}

/// A file that is not in S3 yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PendingFile {
    /// Path below the mount.
    pub path: String,
    /// Bytes to send; 0 when only attributes or the name are missing.
    pub bytes: u64,
}

/// What a drain left behind.
#[derive(Debug, Default)]
pub struct DrainReport {
    /// Paths below the mount, and why each is not in S3.
    pub failed: Vec<(String, Error)>,
}

/// A mounted bucket. Its operations are in [`super::ops`], one family per file.
pub struct Filesystem {
    pub(super) names: Arc<Namespace>,
    pub(super) committer: Arc<Committer>,
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) content: Arc<ContentStore>,
    pub(super) handles: Handles,
    pub(super) lost_races: LostRaces,
    pub(super) config: FsConfig,
}

impl Filesystem {
    /// A filesystem over `store`. Sends no request; makes the staging and conflict directories' parents
    /// nobody else's business: they have to exist.
    ///
    /// # Errors
    /// None so far; local set-up that can fail will be reported here.
    pub fn new(
        config: FsConfig,
        store: Arc<dyn ObjectStore>,
        content: Arc<ContentStore>,
        notifier: Arc<dyn KernelNotifier>,
    ) -> Result<Arc<Self>> {
        let defaults = Defaults {
            uid: config.uid,
            gid: config.gid,
            file_mode: config.file_mode,
            dir_mode: config.dir_mode,
        };
        let names_config =
            NamesConfig { target: config.target.clone(), ttl: config.ttl, attrs: config.attrs, defaults };
        let names = Namespace::new(names_config, store.clone(), notifier);
        let commit_config = CommitConfig {
            staging_dir: config.staging_dir.clone(),
            conflicts_dir: config.conflicts_dir.clone(),
            part_size_bytes: config.part_size_bytes,
            multipart_threshold_bytes: config.multipart_threshold_bytes,
            upload_concurrency: config.upload_concurrency.max(1),
            on_conflict: config.on_conflict,
            storage_class: config.storage_class.clone(),
            attr_delay: ATTR_DELAY,
        };
        let budget = config.budget.clone();
        let committer = Committer::new(commit_config, names.clone(), store.clone(), content.clone(), budget);
        Ok(Arc::new(Self {
            names,
            committer,
            store,
            content,
            handles: Handles::default(),
            lost_races: LostRaces::default(),
            config,
        }))
    }

    /// What is not in S3 yet.
    pub fn pending(&self) -> Vec<PendingFile> {
        let pending = self.committer.pending();
        let table = self.names.table();
        pending.into_iter().map(|(ino, bytes)| PendingFile { path: table.display_path(ino), bytes }).collect()
    }

    /// Puts everything that is pending into S3. May be called again; what failed stays pending.
    pub async fn drain(&self) -> DrainReport {
        let failed = self.committer.drain().await;
        let table = self.names.table();
        DrainReport { failed: failed.into_iter().map(|(ino, e)| (table.display_path(ino), e)).collect() }
    }

    /// Inodes in memory and open files.
    pub fn counts(&self) -> (usize, usize) {
        (self.names.table().len(), self.handles.open_files())
    }

    pub(super) fn writable(&self) -> Result<()> {
        if self.config.read_only { Err(Error::ReadOnly) } else { Ok(()) }
    }

    /// The condition under which something new may be made.
    pub(super) fn condition_new(&self) -> Condition {
        match self.config.on_conflict {
            OnConflict::Fail => Condition::Absent,
            OnConflict::Overwrite => Condition::None,
        }
    }

    /// The answer to a lookup that found `ino`; counts the reference that the kernel gets with it.
    pub(super) fn entry(&self, ino: Ino) -> Result<Entry> {
        let ttl = self.config.ttl;
        self.names.with(ino, |node| {
            node.lookups += 1;
            Entry { attr: Some(node.attr()), ttl: kernel_ttl(node, ttl) }
        })
    }

    pub(super) fn attr_reply(&self, ino: Ino) -> Result<AttrReply> {
        let ttl = self.config.ttl;
        self.names.with(ino, |node| AttrReply { attr: node.attr(), ttl: kernel_ttl(node, ttl) })
    }

    /// Attributes of something that `caller` makes in `parent`: owner, group and set-group-id as in
    /// inode(7).
    pub(super) fn new_stat(&self, caller: Caller, parent: Ino, kind: FileKind, mode: u32) -> Result<Stat> {
        let now = SystemTime::now();
        let (parent_mode, parent_gid) = self.names.with(parent, |n| (n.stat.mode, n.stat.gid))?;
        let inherits = parent_mode & libc::S_ISGID != 0;
        let set_gid = if inherits && kind == FileKind::Directory { libc::S_ISGID } else { 0 };
        Ok(Stat {
            mode: (mode & 0o7777) | set_gid,
            uid: caller.uid,
            gid: if inherits { parent_gid } else { caller.gid },
            rdev: 0,
            atime: now,
            mtime: now,
            ctime: now,
            size: 0,
        })
    }
}

/// How long the kernel may believe a node: what is left of the time, all of it for what is only here.
fn kernel_ttl(node: &Node, ttl: Duration) -> Duration {
    match (node.dirty(), node.doubted) {
        (true, _) => ttl,
        (false, true) => Duration::ZERO,
        (false, false) => ttl.saturating_sub(node.proved.elapsed()),
    }
}
