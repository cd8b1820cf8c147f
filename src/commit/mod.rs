//! Commits: how what was changed here becomes objects in S3.
//!
//! Owns the content of open files ([`file`]), the dirty map ([`extents`]), the plan of an upload ([`plan`]),
//! the requests of one ([`upload`]), their order ([`claims`]), what is done with bytes that lost a conflict
//! ([`conflict`]), what may have been done without an answer ([`unanswered`]) and changes that may wait a
//! moment ([`deferred`]).
//!
//! Invariants:
//! * Changes of one object are sent one after another (a claim on its inode); the object in S3 is only ever
//!   replaced by a whole new one, conditional on the version the change was based on.
//! * A commit that fails leaves the bytes where they are, dirty, and the caller with the error; a commit that
//!   lost against another client moves them to a conflict file.
//!
//! Locks: claims table, then inode table; `File::inner`, then inode table. None is held while waiting.
//!
//! Deliberately does not (yet): survive a crash with changes that no close or fsync has confirmed.

mod attributes;
pub mod claims;
pub mod conflict;
pub mod deferred;
pub mod extents;
pub mod file;
pub mod plan;
mod unanswered;
pub mod upload;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use self::claims::{Claims, Scope};
use self::deferred::Deferred;
use self::file::{Capture, File};
use crate::content::ContentStore;
use crate::fs::error::{Error, Result};
use crate::fs::types::{FileKind, Ino};
use crate::namespace::node::{Known, Node};
use crate::namespace::{Namespace, content_type};
use crate::runtime::budget::Budget;
use crate::store::error::ErrorKind;
use crate::store::object_store::ObjectStore;
use crate::store::types::{Condition, ETag, ObjectInfo, ObjectPath, Properties, Version, Written};

/// Content-Type of a directory's own object.
pub const DIRECTORY_TYPE: &str = "application/x-directory";

/// What to do when another client changed the object that a change was based on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnConflict {
    /// The caller gets ESTALE, its bytes go to a conflict file.
    Fail,
    /// The last writer wins.
    Overwrite,
}

/// How changes are sent.
#[derive(Clone, Debug)]
pub struct CommitConfig {
    /// Where staging files are.
    pub staging_dir: PathBuf,
    /// Where bytes go that lost a conflict.
    pub conflicts_dir: PathBuf,
    /// Bytes of a part, at least 5 MiB.
    pub part_size_bytes: u64,
    /// Files above this many bytes are sent in parts.
    pub multipart_threshold_bytes: u64,
    /// Parts of one file in flight.
    pub upload_concurrency: usize,
    /// Who wins.
    pub on_conflict: OnConflict,
    /// Storage class of new objects.
    pub storage_class: Option<String>,
    /// How long attribute changes wait for others of the same file.
    pub attr_delay: Duration,
}

/// Sends changes of files to S3.
pub struct Committer {
    pub(crate) names: Arc<Namespace>,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) content: Arc<ContentStore>,
    pub(crate) config: CommitConfig,
    pub(crate) budget: Arc<Budget>,
    pub(crate) claims: Arc<Claims>,
    /// Files whose content is not in S3: they outlive their handles. Attributes that are not in S3 keep
    /// their node in the table.
    pending: Mutex<HashMap<Ino, Option<Arc<File>>>>,
    /// Inodes that are clones of an object that is not theirs yet: it must not change before they commit.
    clones: Mutex<HashMap<ObjectPath, HashSet<Ino>>>,
    /// Commits that failed and may have been done all the same; each is of a pending inode.
    unanswered: Mutex<HashMap<Ino, Job>>,
    deferred: Deferred,
}

/// What one commit is about.
#[derive(Clone)]
pub(crate) struct Job {
    pub ino: Ino,
    pub path: ObjectPath,
    pub kind: FileKind,
    pub properties: Properties,
    pub tag_count: u32,
    pub version: Option<Version>,
    pub condition: Condition,
    pub meta_generation: u64,
    pub file: Option<Arc<File>>,
    /// The content to send, if that changed. Taken before the attributes: those may be newer than the
    /// content they go up with, never older.
    pub capture: Option<Capture>,
}

impl Job {
    /// Bytes of the object to be.
    pub(crate) fn size(&self) -> u64 {
        match (&self.capture, &self.version) {
            (Some(capture), _) => capture.size,
            (None, version) => version.as_ref().map_or(0, |v| v.size),
        }
    }

    /// Whether an object is what this job sent. Looks instead of guessing: size and every attribute (ctime to
    /// the nanosecond) must be ours.
    pub(crate) fn made(&self, info: &ObjectInfo) -> bool {
        info.version.size == self.size()
            && info.properties.metadata == self.properties.metadata
            && self.version.as_ref() != Some(&info.version)
    }

    /// The version that `written` is, as far as the answer tells.
    pub(crate) fn version_of(written: &Written, size: u64) -> (Version, bool) {
        let version = Version {
            etag: written.etag.clone(),
            last_modified: written.last_modified.unwrap_or(std::time::SystemTime::UNIX_EPOCH),
            size,
        };
        (version, written.last_modified.is_some())
    }
}

impl Committer {
    /// A committer; it does nothing until asked.
    pub fn new(
        config: CommitConfig,
        names: Arc<Namespace>,
        store: Arc<dyn ObjectStore>,
        content: Arc<ContentStore>,
        budget: Arc<Budget>,
    ) -> Arc<Self> {
        Arc::new(Self {
            names,
            store,
            content,
            config,
            budget,
            claims: Arc::default(),
            pending: Mutex::default(),
            clones: Mutex::default(),
            unanswered: Mutex::default(),
            deferred: Deferred::default(),
        })
    }

    /// Notes that an inode has something that is not in S3.
    pub fn note(&self, ino: Ino, file: Option<&Arc<File>>) {
        let mut pending = self.pending.lock();
        let entry = pending.entry(ino).or_default();
        if let Some(file) = file {
            *entry = Some(Arc::clone(file));
        }
    }

    /// Inodes with something that is not in S3, and how many bytes of it.
    pub fn pending(&self) -> Vec<(Ino, u64)> {
        let pending: Vec<_> = self.pending.lock().iter().map(|(i, f)| (*i, f.clone())).collect();
        pending.into_iter().map(|(ino, file)| (ino, file.map_or(0, |f| f.dirty_bytes()))).collect()
    }

    /// Has the inode committed after the delay, together with what changes until then.
    pub fn commit_later(self: &Arc<Self>, ino: Ino) {
        self.note(ino, None);
        self.deferred.schedule(Arc::clone(self), ino, self.config.attr_delay);
    }

    /// Has the inode committed now, with nobody waiting.
    pub fn commit_soon(self: &Arc<Self>, ino: Ino) {
        self.note(ino, None);
        self.deferred.schedule(Arc::clone(self), ino, Duration::ZERO);
    }

    /// Notes that `ino` is, until it is committed, a clone of `source`.
    pub fn note_clone(&self, source: ObjectPath, ino: Ino) {
        self.clones.lock().entry(source).or_default().insert(ino);
    }

    /// Commits the clones of an object that is about to change or to go. When one cannot be made now the
    /// object has to stay as it is: its bytes are nowhere else.
    pub fn settle_clones<'a>(self: &'a Arc<Self>, source: &'a ObjectPath) -> BoxFuture<'a, Result<()>> {
        async move {
            let mut clones = self.clones.lock().remove(source).unwrap_or_default();
            while let Some(ino) = clones.iter().next().copied() {
                match self.commit(ino).await {
                    // A clone that lost a conflict has been dealt with.
                    Ok(()) | Err(Error::Stale(_)) => {
                        clones.remove(&ino);
                    }
                    Err(error) => {
                        self.clones.lock().entry(source.clone()).or_default().extend(clones);
                        return Err(error);
                    }
                }
            }
            Ok(())
        }
        .boxed()
    }

    /// Puts everything that changed up to now into S3 and returns when it is there. Goes on when the caller
    /// goes away.
    pub async fn commit(self: &Arc<Self>, ino: Ino) -> Result<()> {
        if !self.is_pending(ino) {
            self.settle(ino);
            return Ok(());
        }
        let this = Arc::clone(self);
        match tokio::spawn(async move { this.commit_claimed(ino).await }).await {
            Ok(done) => done,
            Err(e) => Err(Error::Internal(format!("commit task: {e}"))),
        }
    }

    fn is_pending(&self, ino: Ino) -> bool {
        self.names.with(ino, |n| n.dirty()).unwrap_or(false)
            || self.pending.lock().get(&ino).is_some_and(|f| f.as_ref().is_some_and(|f| f.dirty()))
    }

    async fn commit_claimed(self: Arc<Self>, ino: Ino) -> Result<()> {
        if let Some(path) = self.names.object_path(ino) {
            self.settle_clones(&path).await?;
        }
        let _claim = self.claims.claim(&self.names, &[Scope::One(ino)]).await;
        self.commit_now(ino).await
    }

    /// Like [`Self::commit`], for a caller that holds a claim on the inode.
    pub(crate) async fn commit_now(self: &Arc<Self>, ino: Ino) -> Result<()> {
        for _ in 1..CUT_TRIES {
            match self.commit_once(ino).await {
                // Nothing was replaced yet: what the file is now goes instead.
                Err(Error::Cut) => {}
                done => return done,
            }
        }
        self.commit_once(ino).await
    }

    async fn commit_once(self: &Arc<Self>, ino: Ino) -> Result<()> {
        if !self.is_pending(ino) {
            self.settle(ino);
            return Ok(());
        }
        let (linked, lost) = self.names.with(ino, |n| (n.linked, n.lost)).unwrap_or((false, false));
        if !linked {
            if lost && let Some(job) = self.job(ino)? {
                return Err(self.lost(&job).await);
            }
            // Nobody can reach it by name any more; the bytes stay for those who have it open.
            self.forget_changes(ino);
            return Ok(());
        }
        self.settle_unanswered(ino).await?;
        self.names.ensure_properties(ino).await?;
        let Some(job) = self.job(ino)? else {
            self.forget_changes(ino);
            return Ok(());
        };
        let done = match (&job.file, &job.capture, job.kind) {
            (_, _, FileKind::Directory) => self.send_marker(&job).await,
            (Some(file), Some(capture), _) => self.send_content(&job, file, capture).await,
            _ if self.names.with(ino, |n| n.meta_dirty())? => self.send_attributes(&job).await,
            _ => Ok(()),
        };
        match done {
            Ok(()) => {
                self.settle(ino);
                Ok(())
            }
            Err(error) => {
                let error = self.failed(&job, error).await;
                self.note_unanswered(job, &error);
                Err(error)
            }
        }
    }

    /// What is to be sent; `None` when the inode has no object (the top of a bucket).
    fn job(&self, ino: Ino) -> Result<Option<Job>> {
        let file = self.names.with(ino, |n| n.file.clone())?;
        let file = file.or_else(|| self.pending.lock().get(&ino).cloned().flatten());
        let capture = file.as_ref().filter(|f| f.dirty()).map(|f| f.capture());
        let mut table = self.names.table();
        let path = table.object_path(ino);
        let node = table.get_mut(ino).ok_or(Error::NotFound)?;
        // Who lost its name may have lost the directory as well.
        let nowhere = || node.lost.then(|| ObjectPath::new("", &*node.component));
        let Some(path) = path.or_else(nowhere) else { return Ok(None) };
        let mut properties = node.properties_to_write();
        if properties.content_type.is_none() {
            properties.content_type = Some(match node.kind {
                FileKind::Directory => DIRECTORY_TYPE.to_owned(),
                _ => content_type::from_name(&node.component).to_owned(),
            });
        }
        if node.version.is_none() && properties.storage_class.is_none() && node.kind == FileKind::Regular {
            properties.storage_class.clone_from(&self.config.storage_class);
        }
        let condition = match self.config.on_conflict {
            OnConflict::Fail => node.condition(),
            OnConflict::Overwrite => Condition::None,
        };
        Ok(Some(Job {
            ino,
            path,
            kind: node.kind,
            properties,
            tag_count: node.tag_count,
            version: node.version.clone(),
            condition,
            meta_generation: node.meta_generation,
            file,
            capture,
        }))
    }

    /// Tags that a put would lose.
    pub(crate) async fn tags(&self, job: &Job) -> Result<BTreeMap<String, String>> {
        if job.tag_count == 0 || job.version.is_none() {
            return Ok(BTreeMap::new());
        }
        Ok(self.store.tags(&job.path).await?)
    }

    /// Takes what was sent over into the table; the version it is now.
    pub(crate) fn committed(&self, job: &Job, written: &Written, size: u64) -> Version {
        let (version, exact) = Job::version_of(written, size);
        let mut table = self.names.table();
        table.written(job.ino, version.clone(), exact);
        if let Some(node) = table.get_mut(job.ino) {
            node.meta_committed = node.meta_committed.max(job.meta_generation);
            // Headers set while this was on its way go with the next commit.
            if node.meta_generation == job.meta_generation {
                node.properties = Some(Arc::new(job.properties.clone()));
            }
        }
        drop(table);
        if exact {
            let properties = Arc::new(job.properties.clone());
            let known = Known { version: version.clone(), properties, tag_count: job.tag_count };
            self.names.remember(job.path.clone(), known);
        } else {
            self.names.unremember(&job.path);
        }
        version
    }

    /// What a timer began: content that somebody is still writing waits for the close, which takes the
    /// attributes along.
    pub(crate) async fn commit_deferred(self: &Arc<Self>, ino: Ino) -> Result<()> {
        let writing = |n: &mut Node| n.writers > 0 && n.file.as_ref().is_some_and(|f| f.dirty());
        if self.names.with(ino, writing).unwrap_or(false) {
            return Ok(());
        }
        self.commit(ino).await
    }

    /// Attributes that S3 will never take are not shown any longer: the next look asks S3 what it has.
    pub(crate) fn give_up_attributes(&self, ino: Ino) {
        let given_up = self.names.with(ino, |node| {
            if node.file.as_ref().is_some_and(|f| f.dirty()) || !node.meta_dirty() {
                return false;
            }
            node.meta_committed = node.meta_generation;
            node.properties = None;
            true
        });
        if given_up.unwrap_or(false) {
            self.settle(ino);
            self.names.notifier().inode_changed(ino, false);
        }
    }

    /// Nothing of this inode has to reach S3 any more.
    pub(crate) fn forget_changes(&self, ino: Ino) {
        let file = self.pending.lock().remove(&ino).flatten();
        self.unanswered.lock().remove(&ino);
        let _ = self.names.with(ino, |node| {
            node.meta_committed = node.meta_generation;
            if let Some(file) = file.as_ref().or(node.file.as_ref()) {
                file.abandon();
            }
        });
        self.names.table().reclaim(ino);
    }

    /// After a close: an unlinked file that nobody has open any more takes its changes with it.
    pub(crate) fn forget_unlinked(&self, ino: Ino) {
        if self.names.with(ino, |n| !n.linked && n.opens == 0 && !n.wants_commit()).unwrap_or(false) {
            self.forget_changes(ino);
            let _ = self.names.with(ino, |n| n.file = None);
        }
        self.names.table().reclaim(ino);
    }

    /// Drops an inode from the pending ones when nothing is left of it. Looked at under both locks, so that
    /// a change made meanwhile stays noted.
    pub(crate) fn settle(&self, ino: Ino) {
        let mut table = self.names.table();
        {
            let mut pending = self.pending.lock();
            let dirty = table.get(ino).is_some_and(Node::dirty)
                || pending.get(&ino).is_some_and(|f| f.as_ref().is_some_and(|f| f.dirty()));
            if dirty {
                return;
            }
            pending.remove(&ino);
        }
        self.clones.lock().retain(|_, inos| {
            inos.remove(&ino);
            !inos.is_empty()
        });
        if let Some(node) = table.get_mut(ino)
            && node.opens == 0
        {
            node.file = None;
        }
        table.reclaim(ino);
    }

    /// A commit failed: looks whether it was done all the same, whether another client won, and sees to it
    /// that the bytes are kept.
    async fn failed(self: &Arc<Self>, job: &Job, error: Error) -> Error {
        let conflict = match &error {
            Error::Store(e) => is_conflict(e.kind),
            // Bytes of the version it is based on are needed and gone.
            Error::Stale(_) => true,
            _ => false,
        };
        if job.kind == FileKind::Directory || !conflict {
            return error;
        }
        tracing::warn!(path = %job.path, %error, "the object is not the version that our change is based on");
        self.lost(job).await
    }

    /// Another client was first: keeps the bytes, ends the file, gives the name up. When they cannot be kept
    /// (the disk is full) nothing changes: they stay pending.
    async fn lost(self: &Arc<Self>, job: &Job) -> Error {
        let changed = format!("{} was changed by another client", job.path);
        let mut kept = "only attributes were changed".to_owned();
        if let Some(file) = job.file.as_ref().filter(|f| f.dirty()) {
            // From here on a write would be missing in what is kept.
            file.refuse(Some(Error::Stale(changed.clone())));
            match conflict::keep(self, job, file).await {
                Ok(path) => kept = format!("its bytes are in {}", path.display()),
                Err(error) => {
                    file.refuse(None);
                    tracing::error!(path = %job.path, %error, "{changed}; a conflict file could not be written");
                    return error;
                }
            }
        }
        tracing::warn!(path = %job.path, %kept, "another client changed this object; our change was not written");
        let stale = Error::Stale(format!("{changed}; {kept}"));
        if let Some(file) = &job.file {
            file.fail(stale.clone());
        }
        self.pending.lock().remove(&job.ino);
        let mut table = self.names.table();
        let name = table.get_mut(job.ino).map(|node: &mut Node| {
            node.meta_committed = node.meta_generation;
            (node.parent, node.shown.clone())
        });
        let had = name.filter(|(parent, shown)| table.child_ino(*parent, shown) == Some(job.ino));
        if let Some((parent, shown)) = &had {
            table.forget_name(*parent, shown);
        }
        table.reclaim(job.ino);
        drop(table);
        if let Some((parent, shown)) = had {
            self.names.notifier().entry_changed(parent, (&*shown).into());
        }
        stale
    }

    /// After a refused condition: whether the object there is what we sent, by a request whose answer was
    /// lost.
    ///
    /// # Errors
    /// When S3 cannot be asked: then nobody knows who won, and the change stays pending.
    pub(crate) async fn was_ours(&self, job: &Job) -> Result<Option<Written>> {
        let info = match self.store.head(&job.path).await {
            Ok(info) => info,
            Err(e) if e.kind == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        Ok(job.made(&info).then_some(Written {
            etag: info.version.etag,
            last_modified: Some(info.version.last_modified),
            version_id: info.version_id,
        }))
    }

    /// Commits everything that is pending, a few files at a time; what failed and why.
    pub async fn drain(self: &Arc<Self>) -> Vec<(Ino, Error)> {
        use futures_util::stream::{self, StreamExt};
        let inos: Vec<Ino> = self.pending.lock().keys().copied().collect();
        stream::iter(inos)
            .map(|ino| async move { self.commit(ino).await.err().map(|e| (ino, e)) })
            .buffer_unordered(DRAIN_CONCURRENCY)
            .filter_map(|failed| async move { failed })
            .collect()
            .await
    }

    /// Deletes an object that is `etag`; it being gone already is fine.
    pub(crate) async fn delete(&self, path: &ObjectPath, etag: Option<&ETag>) -> Result<()> {
        let condition = match (etag, self.config.on_conflict) {
            (Some(etag), OnConflict::Fail) => Condition::Match(etag.clone()),
            _ => Condition::None,
        };
        self.names.unremember(path);
        match self.store.delete(path, condition).await {
            Err(e) if e.kind == ErrorKind::NotFound => Ok(()),
            done => Ok(done?),
        }
    }
}

/// How often a commit is begun again because the file was truncated meanwhile.
const CUT_TRIES: u32 = 4;

/// Files that drain at the same time.
const DRAIN_CONCURRENCY: usize = 16;

/// Whether a failed conditional write means that another client was first.
pub(crate) fn is_conflict(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Precondition | ErrorKind::NotFound)
}

/// A store error's kind, if it is one.
pub(crate) fn store_kind(error: &Error) -> Option<ErrorKind> {
    match error {
        Error::Store(e) => Some(e.kind),
        _ => None,
    }
}
