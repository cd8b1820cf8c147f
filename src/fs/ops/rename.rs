//! rename: of a file one server-side copy and one delete; of a directory a copy of each object below it.
//!
//! Order: what is new is there whole before anything old goes. A rename that fails halfway leaves the source
//! as it was; of a directory it removes the copies it made.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use futures_util::stream::{self, StreamExt};

use crate::commit::DIRECTORY_TYPE;
use crate::commit::claims::Scope;
use crate::fs::error::{Error, Result};
use crate::fs::filesystem::Filesystem;
use crate::fs::types::{FileKind, Ino, RenameFlags};
use crate::namespace::attributes;
use crate::namespace::node::{Known, Marker};
use crate::namespace::table::DirPath;
use crate::namespace::{Namespace, check_key, name_text};
use crate::store::error::ErrorKind;
use crate::store::types::{
    Body, COPY_MAX_BYTES, Condition, CopyProperties, CopyRequest, DELETE_BATCH_MAX, DeleteEntry, ListRequest,
    ListedObject, ObjectPath, Placement, Properties, Version, Written,
};

/// Copies of a directory rename in flight; the store's own limit applies as well.
const TREE_CONCURRENCY: usize = 64;

/// What one rename is about.
struct Move<'a> {
    ino: Ino,
    parent: Ino,
    name: &'a str,
    new_parent: Ino,
    new_name: &'a str,
    component: String,
    replaced: Option<Ino>,
}

/// While it lives, listings of the directory are not believed.
struct Moving {
    names: Arc<Namespace>,
    ino: Ino,
}

impl Moving {
    fn begin(names: &Arc<Namespace>, ino: Ino) -> Self {
        names.table().set_moving(ino, true);
        Self { names: Arc::clone(names), ino }
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        self.names.table().set_moving(self.ino, false);
    }
}

/// An object of a tree at its new key.
struct Moved {
    old: String,
    new: String,
    etag: crate::store::types::ETag,
    written: Written,
    size: u64,
}

impl Filesystem {
    /// Moves a name. See rename(2); `RENAME_EXCHANGE` is refused: S3 has no way to do it at once.
    pub async fn rename(
        &self,
        parent: Ino,
        name: &OsStr,
        new_parent: Ino,
        new_name: &OsStr,
        flags: RenameFlags,
    ) -> Result<()> {
        self.writable()?;
        if flags.exchange || flags.other {
            return Err(Error::Invalid("objects cannot be exchanged at once"));
        }
        let (name, new_name) = (name_text(name)?, name_text(new_name)?);
        self.not_repeated(parent, name)?;
        let ino = self.names.child(parent, name).await?.ok_or(Error::NotFound)?;
        let replaced = self.names.child(new_parent, new_name).await?;
        if replaced == Some(ino) {
            return Ok(());
        }
        if flags.no_replace && replaced.is_some() {
            return Err(Error::Exists);
        }
        if self.names.table().is_bucket_level(ino) {
            return Err(Error::NotPermitted("buckets are not renamed"));
        }
        let is_dir = self.names.with(ino, |n| n.kind)? == FileKind::Directory;
        if is_dir && self.names.table().is_within(new_parent, ino) {
            return Err(Error::Invalid("a directory cannot move into itself"));
        }
        if let Some(old) = replaced {
            match (is_dir, self.names.with(old, |n| n.kind)? == FileKind::Directory) {
                (true, false) => return Err(Error::NotDirectory),
                (false, true) => return Err(Error::IsDirectory),
                (false, false) | (true, true) => {}
            }
        }
        self.settle_sources(ino, replaced).await?;
        let mut scopes = vec![if is_dir { Scope::Tree(ino) } else { Scope::One(ino) }, Scope::One(parent)];
        scopes.push(Scope::One(new_parent));
        scopes.extend(replaced.map(Scope::Tree));
        let _claim = self.committer.claims.claim(&self.names, &scopes).await;
        if self.names.table().child_ino(parent, name) != Some(ino) {
            return Err(Error::NotFound);
        }
        // Keys are computed under the claim: a directory above may have moved while it was waited for.
        let (component, path) = match replaced {
            // An escaped name that is there already keeps the key it stands for.
            Some(old) => {
                let path = self.names.object_path(old).ok_or(Error::NotPermitted("buckets stay"))?;
                (self.names.with(old, |n| n.component.to_string())?, path)
            }
            None => self.names.new_path(new_parent, new_name)?,
        };
        check_key(&path)?;
        let concerned = self.names.table().subtree(ino);
        for ino in concerned.into_iter().chain(replaced) {
            self.committer.settle_unanswered(ino).await?;
        }
        let what = Move { ino, parent, name, new_parent, new_name, component, replaced };
        if is_dir { self.rename_dir(&what).await } else { self.rename_file(&what, path).await }
    }

    /// Copies that were promised of what moves or is replaced are made first.
    async fn settle_sources(&self, ino: Ino, replaced: Option<Ino>) -> Result<()> {
        for ino in [Some(ino), replaced].into_iter().flatten() {
            if let Some(path) = self.names.object_path(ino) {
                self.committer.settle_clones(&path).await?;
            }
        }
        Ok(())
    }

    async fn rename_file(&self, what: &Move<'_>, to: ObjectPath) -> Result<()> {
        let ino = what.ino;
        if let Some(old) = what.replaced {
            self.hold_content(old).await?;
        }
        if self.names.with(ino, |n| n.version.is_none())? {
            return self.rename_local(what).await;
        }
        let dirty_content = self.names.with(ino, |n| n.file.as_ref().is_some_and(|f| f.dirty()))?;
        if dirty_content {
            self.committer.commit_now(ino).await?;
        }
        self.names.ensure_properties(ino).await?;
        self.keep_alive(what.parent, what.name).await?;
        let now = SystemTime::now();
        let (from, version, properties, tag_count, meta) = self
            .names
            .with(ino, |node| {
                node.stat.ctime = now;
                let version = node.version.clone();
                (version, node.properties_to_write(), node.tag_count, node.meta_generation)
            })
            .and_then(|(version, properties, tags, meta)| {
                let from = self.names.object_path(ino).ok_or(Error::NotFound)?;
                Ok((from, version.ok_or(Error::NotFound)?, properties, tags, meta))
            })?;
        let condition = self.condition_on(what.replaced);
        let copied = self.committer.copy(&from, &version, &to, condition, &properties).await;
        let written = match copied {
            Err(error) => self.copied_by_us(&to, &version, &properties, error).await.map_err(|error| {
                self.names.table().doubt_name(what.new_parent, what.new_name);
                self.lost_race(what.parent, what.name, error)
            })?,
            Ok(written) => written,
        };
        let (new, exact) = version_of(&written, version.size);
        // Before the old object goes: a reader has to find the bytes at either place.
        self.relocate(ino, (&from, &version), (&to, &new));
        let deleted = match self.committer.delete(&from, Some(&version.etag)).await {
            // The answer was lost, the object is gone: that was us.
            Err(_) if self.is_gone(&from).await => Ok(()),
            done => done,
        };
        if let Err(error) = deleted {
            // Changed by another client after the copy: theirs stays, the copy is the version before.
            tracing::warn!(%from, %to, %error, "renamed, but the old name could not be removed");
            self.relocate(ino, (&to, &new), (&from, &version));
            // A file that was never committed finds our copy under its name, and may replace it.
            if let Some(old) = what.replaced {
                let _ = self.names.with(old, |node| {
                    if node.version.is_none() {
                        node.replaces = Some(new.clone());
                    }
                });
            }
            self.names.table().doubt_name(what.new_parent, what.new_name);
            return Err(self.lost_race(what.parent, what.name, error));
        }
        if let Some(old) = what.replaced {
            self.orphan(old);
            self.names.table().unlink(what.new_parent, what.new_name, Instant::now());
            self.committer.forget_unlinked(old);
        }
        self.moved(what);
        let properties = std::sync::Arc::new(properties);
        {
            let mut table = self.names.table();
            table.written(ino, new.clone(), exact);
            if let Some(node) = table.get_mut(ino) {
                node.properties = Some(properties.clone());
                node.meta_committed = node.meta_committed.max(meta);
            }
        }
        if exact {
            self.names.remember(to, Known { version: new, properties, tag_count });
        } else {
            self.names.unremember(&to);
        }
        self.committer.settle(ino);
        Ok(())
    }

    async fn is_gone(&self, path: &ObjectPath) -> bool {
        matches!(self.store.head(path).await, Err(e) if e.kind == ErrorKind::NotFound)
    }

    /// What is here of the bytes of an object belongs to another one now.
    fn relocate(&self, ino: Ino, from: (&ObjectPath, &Version), to: (&ObjectPath, &Version)) {
        match self.names.with(ino, |n| n.file.clone()) {
            Ok(Some(file)) => file.relocate(from.0, to.0, to.1),
            _ => self.content.object(from.0, from.1).relocate(to.0.clone(), to.1.clone()),
        }
    }

    /// A refused copy may have been done by a request whose answer was lost.
    async fn copied_by_us(
        &self,
        to: &ObjectPath,
        version: &Version,
        properties: &crate::store::types::Properties,
        error: Error,
    ) -> Result<Written> {
        if !matches!(&error, Error::Store(e) if e.kind == ErrorKind::Precondition) {
            return Err(error);
        }
        match self.store.head(to).await {
            Ok(info)
                if info.version.size == version.size
                    && (info.properties.metadata == properties.metadata
                        // An earlier try of the same rename had another ctime; its bytes are the same.
                        || info.version.etag == version.etag
                            && attributes::same_but_ctime(&info.properties.metadata, &properties.metadata)) =>
            {
                Ok(Written {
                    etag: info.version.etag,
                    last_modified: Some(info.version.last_modified),
                    version_id: info.version_id,
                })
            }
            _ => Err(error),
        }
    }

    /// The condition for writing to a name: it must be what we know it to be.
    fn condition_on(&self, replaced: Option<Ino>) -> Condition {
        if self.condition_new() == Condition::None {
            return Condition::None;
        }
        match replaced {
            Some(old) => self.names.with(old, |n| n.condition()).unwrap_or(Condition::Absent),
            None => Condition::Absent,
        }
    }

    /// A file that was never committed moves without a request: its first commit goes to the new key, and
    /// replaces what is there. What it was to replace under its old name goes now, as that name does.
    async fn rename_local(&self, what: &Move<'_>) -> Result<()> {
        let left = self.names.with(what.ino, |n| n.replaces.clone())?;
        let mut theirs = false;
        if let (Some(left), Some(from)) = (left, self.names.object_path(what.ino)) {
            self.keep_alive(what.parent, what.name).await?;
            match self.committer.delete(&from, Some(&left.etag)).await {
                // Another client's by now: it stays, and is what the name means again.
                Err(Error::Store(e)) if e.kind == ErrorKind::Precondition => theirs = true,
                done => done?,
            }
        }
        let replaces = match what.replaced {
            Some(old) => self.names.with(old, |n| n.version.clone().or_else(|| n.replaces.clone()))?,
            None => None,
        };
        if let Some(old) = what.replaced {
            self.orphan(old);
            self.names.table().unlink(what.new_parent, what.new_name, Instant::now());
            self.committer.forget_unlinked(old);
        }
        self.names.with(what.ino, |node| {
            node.stat.ctime = SystemTime::now();
            node.replaces = replaces;
        })?;
        self.moved(what);
        if theirs {
            self.names.table().forget_name(what.parent, what.name);
        }
        Ok(())
    }

    fn moved(&self, what: &Move<'_>) {
        let now = Instant::now();
        let mut table = self.names.table();
        table.rename(what.ino, what.new_parent, &what.component, what.new_name, now);
        table.touch_dir(what.parent);
        table.touch_dir(what.new_parent);
    }

    async fn rename_dir(&self, what: &Move<'_>) -> Result<()> {
        if let Some(old) = what.replaced
            && !self.names.is_empty(old).await?
        {
            return Err(Error::NotEmpty);
        }
        let from = self.names.dir_path(what.ino)?;
        let parent = self.names.dir_path(what.new_parent)?;
        let to = DirPath { bucket: parent.bucket, prefix: format!("{}{}/", parent.prefix, what.component) };
        let objects = self.objects_below(&from).await?;
        for object in &objects {
            let key = format!("{}{}", to.prefix, object.key.get(from.prefix.len()..).unwrap_or_default());
            check_key(&ObjectPath::new(to.bucket.clone(), key))?;
        }
        self.keep_alive(what.parent, what.name).await?;
        // Its own object carries its attributes, the time of this change among them.
        self.names.ensure_properties(what.ino).await?;
        let (own, meta) = self.names.with(what.ino, |node| {
            node.stat.ctime = SystemTime::now();
            (node.properties.is_some().then(|| node.properties_to_write()), node.meta_generation)
        })?;
        let own_object = objects.iter().any(|o| o.key == from.prefix);
        if what.replaced.is_some() && !own_object {
            self.take_marker(what.ino, &to).await?;
        }
        let _moving = Moving::begin(&self.names, what.ino);
        let moved = self.copy_tree(&from, &to, objects, own.as_ref()).await?;
        // What another client changed after its copy stays where it was; the rest has moved all the same.
        let deleted = self.delete_tree(&from, &moved).await;
        if let Some(old) = what.replaced {
            self.names.table().unlink(what.new_parent, what.new_name, Instant::now());
            self.committer.forget_unlinked(old);
        }
        self.moved(what);
        self.learn_tree(what.ino, &to, moved);
        if let Some(own) = own {
            self.names.with(what.ino, |node| {
                node.properties = Some(std::sync::Arc::new(own));
                node.meta_committed = node.meta_committed.max(meta);
            })?;
            self.committer.settle(what.ino);
        }
        if deleted.is_err() {
            self.names.table().forget_name(what.parent, what.name);
        }
        deleted
    }

    /// A directory without an object of its own replaces one that may have one: that one's attributes are not
    /// this directory's.
    async fn take_marker(&self, ino: Ino, to: &DirPath) -> Result<()> {
        let Some(path) = to.marker() else { return Ok(()) };
        let mut properties = self.names.with(ino, |n| n.properties_to_write())?;
        properties.content_type = Some(DIRECTORY_TYPE.to_owned());
        let none = BTreeMap::new();
        self.store.put(&path, Body::default(), &properties, &none, Condition::None).await?;
        self.names.unremember(&path);
        self.names.table().set_marker(ino, Marker::Present);
        Ok(())
    }

    async fn objects_below(&self, dir: &DirPath) -> Result<Vec<ListedObject>> {
        let mut objects = Vec::new();
        let mut continuation = None;
        loop {
            let request = ListRequest {
                bucket: dir.bucket.to_string(),
                prefix: dir.prefix.clone(),
                continuation,
                ..ListRequest::default()
            };
            let page = self.store.list(request).await?;
            objects.extend(page.objects);
            continuation = page.next;
            if continuation.is_none() {
                return Ok(objects);
            }
        }
    }

    /// Copies every object to its new key; on a failure removes the copies again.
    async fn copy_tree(
        &self,
        from: &DirPath,
        to: &DirPath,
        objects: Vec<ListedObject>,
        own: Option<&Properties>,
    ) -> Result<Vec<Moved>> {
        let mut done = Vec::with_capacity(objects.len());
        let mut failed = None;
        let mut copies = stream::iter(objects)
            .map(|object| self.copy_one(from, to, object, own))
            .buffer_unordered(TREE_CONCURRENCY);
        while let Some(copied) = copies.next().await {
            match copied {
                Ok(moved) => done.push(moved),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        // Copies under way are finished too, or nobody would know of them.
        if let Some(error) = failed {
            while let Some(copied) = copies.next().await {
                done.extend(copied);
            }
            drop(copies);
            let entries = done.iter().map(|m| (m.new.clone(), m.written.etag.clone())).collect();
            if let Err(cleanup) = self.delete_all(&to.bucket, entries).await {
                tracing::warn!(error = %cleanup, "copies of a failed directory rename are left");
            }
            return Err(error);
        }
        Ok(done)
    }

    /// The condition for a copy below a new directory: nothing of another client's is overwritten.
    fn condition_below(&self, key: &str, from: &DirPath) -> Condition {
        if key == from.prefix { Condition::None } else { self.condition_new() }
    }

    async fn copy_one(
        &self,
        from: &DirPath,
        to: &DirPath,
        object: ListedObject,
        own: Option<&Properties>,
    ) -> Result<Moved> {
        let new = format!("{}{}", to.prefix, object.key.get(from.prefix.len()..).unwrap_or_default());
        let source = ObjectPath::new(from.bucket.clone(), object.key.as_str());
        let target = ObjectPath::new(to.bucket.clone(), new.as_str());
        let condition = self.condition_below(&object.key, from);
        let known = self.names.recall(&source, &object.version);
        let written = if object.version.size > COPY_MAX_BYTES {
            let properties = match &known {
                Some(known) => (*known.properties).clone(),
                None => self.store.head(&source).await?.properties,
            };
            self.committer.copy(&source, &object.version, &target, condition, &properties).await?
        } else if let Some(own) = own
            && object.key == from.prefix
        {
            self.committer.copy(&source, &object.version, &target, Condition::None, own).await?
        } else {
            let placement = match &known {
                Some(known) => known.properties.placement(),
                None => Placement { storage_class: object.storage_class.clone(), encryption: None },
            };
            let request = CopyRequest {
                from: source,
                from_etag: Some(object.version.etag.clone()),
                to: target.clone(),
                condition,
                properties: CopyProperties::Keep(Some(placement)),
            };
            self.store.copy(request).await?
        };
        let as_before = own.is_none() || object.key != from.prefix;
        match (known, version_of(&written, object.version.size)) {
            (Some(known), (version, true)) if as_before => {
                self.names.remember(target, Known { version, ..known });
            }
            _ => self.names.unremember(&target),
        }
        Ok(Moved { old: object.key, new, etag: object.version.etag, written, size: object.version.size })
    }

    async fn delete_tree(&self, from: &DirPath, moved: &[Moved]) -> Result<()> {
        let entries = moved.iter().map(|m| (m.old.clone(), m.etag.clone())).collect();
        self.delete_all(&from.bucket, entries).await
    }

    async fn delete_all(
        &self,
        bucket: &str,
        entries: Vec<(String, crate::store::types::ETag)>,
    ) -> Result<()> {
        for (key, _) in &entries {
            self.names.unremember(&ObjectPath::new(bucket, key.as_str()));
        }
        let mut failed = None;
        for batch in entries.chunks(DELETE_BATCH_MAX) {
            let batch: Vec<_> = batch
                .iter()
                .map(|(key, etag)| DeleteEntry { key: key.clone(), etag: Some(etag.clone()) })
                .collect();
            match self.store.delete_batch(bucket, batch).await {
                Ok(failures) => failed = failed.or(failures.into_iter().next().map(|f| f.error)),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Inodes below a moved directory get the versions of the copies.
    fn learn_tree(&self, top: Ino, to: &DirPath, moved: Vec<Moved>) {
        let mut by_key: HashMap<String, Moved> = moved.into_iter().map(|m| (m.new.clone(), m)).collect();
        let mut relocations = Vec::new();
        let mut others = Vec::new();
        {
            let mut table = self.names.table();
            for ino in table.subtree(top) {
                let Some(path) = table.object_path(ino) else { continue };
                let Some(moved) = by_key.remove(&*path.key) else { continue };
                let (version, exact) = version_of(&moved.written, moved.size);
                let Some(node) = table.get_mut(ino) else { continue };
                if let Some(dir) = node.dir.as_mut() {
                    dir.marker = Marker::Present;
                } else if let Some(known) = node.version.as_ref().or(node.replaces.as_ref())
                    && known.etag != moved.etag
                {
                    // Another client's version was copied: the bytes here are not its bytes.
                    others.push((node.parent, node.shown.clone()));
                    continue;
                }
                if node.version.is_none() && node.replaces.is_some() {
                    node.replaces = Some(version);
                    continue;
                }
                let from = ObjectPath::new(path.bucket.clone(), moved.old.as_str());
                relocations.extend(node.file.clone().map(|file| (file, from, path, version.clone())));
                if node.version.is_some() {
                    table.written(ino, version, exact);
                }
            }
            for (parent, name) in others {
                table.forget_name(parent, &name);
            }
            // What listings told of versions below is about the old keys.
            table.expire_below(top);
        }
        for (file, from, path, version) in relocations {
            file.relocate(&from, &path, &version);
        }
        tracing::debug!(to = %to.prefix, "directory renamed");
    }
}

fn version_of(written: &Written, size: u64) -> (Version, bool) {
    let last_modified = written.last_modified.unwrap_or(SystemTime::UNIX_EPOCH);
    (Version { etag: written.etag.clone(), last_modified, size }, written.last_modified.is_some())
}
