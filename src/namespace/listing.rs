//! Listing a directory and merging what S3 says into what is known.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::stream::{self, StreamExt};

use super::escape;
use super::node::{Child, Listed, ListedChild, Marker};
use super::table::{DirPath, MountTarget, Table};
use super::{AttrsMode, Namespace};
use crate::fs::error::{Error, Result};
use crate::fs::types::{FileKind, Ino};
use crate::store::types::{ListPage, ListRequest, Version};

/// HEADs in flight while the attributes of a listing are filled in; the store's own limit applies as well.
const FILL_CONCURRENCY: usize = 64;

/// Longest target of a symbolic link: a larger object is a regular file without asking.
const SYMLINK_MAX_BYTES: u64 = 4_096;

/// Names of one directory as S3 lists them.
#[derive(Default)]
struct Found {
    names: BTreeMap<Box<str>, (Option<Box<str>>, Listed)>,
    prefixes: Vec<String>,
    marker: Option<Version>,
}

impl Found {
    fn take(&mut self, page: ListPage, prefix_len: usize) {
        for object in page.objects {
            let Some(component) = object.key.get(prefix_len..) else { continue };
            if component.is_empty() {
                self.marker = Some(object.version.clone());
                // The directory's own object is a name in it only when it has bytes.
                if object.version.size == 0 {
                    continue;
                }
            }
            self.add(escape::to_name(component), component, Listed::Object(object.version));
        }
        self.prefixes.extend(page.prefixes);
    }

    /// Directories come last: an object of the same name keeps the plain one.
    fn finish(mut self, prefix_len: usize) -> Self {
        for prefix in std::mem::take(&mut self.prefixes) {
            let Some(component) = prefix.get(prefix_len..prefix.len() - 1) else { continue };
            let plain = escape::to_name(component);
            if self.names.contains_key(plain.as_str()) {
                self.add(escape::dir_beside_file(component), component, Listed::Prefix);
            } else {
                self.add(plain, component, Listed::Prefix);
            }
        }
        self
    }

    fn add(&mut self, name: String, component: &str, what: Listed) {
        let component = (name != component).then(|| component.into());
        self.names.insert(name.into_boxed_str(), (component, what));
    }
}

/// What the kernel has to hear after a merge.
#[derive(Default)]
struct News {
    entries: Vec<OsString>,
    inodes: Vec<Ino>,
}

impl Namespace {
    /// Makes sure that every name of `dir` is known and fresh: one LIST per 1,000 names when it is not.
    pub async fn list(self: &Arc<Self>, dir: Ino) -> Result<()> {
        if self.table().complete(dir, self.config.ttl) {
            return Ok(());
        }
        let this = Arc::clone(self);
        self.listings.join(dir, || async move { this.list_now(dir).await }.boxed()).await
    }

    async fn list_now(&self, dir: Ino) -> Result<()> {
        let started = Instant::now();
        let buckets = dir == Ino::ROOT && *self.table().target() == MountTarget::AllBuckets;
        let news = if buckets {
            let found = self.find_buckets().await?;
            merge(&mut self.table(), dir, found, started)
        } else {
            let path = self.dir_path(dir)?;
            let found = self.find(&path).await?;
            let mut table = self.table();
            // A directory that is being moved, or was: the answer is about keys it no longer has.
            if table.is_moving(dir) || table.dir_path(dir).as_ref() != Some(&path) {
                return Ok(());
            }
            merge(&mut table, dir, found, started)
        };
        for name in news.entries {
            self.notifier.entry_changed(dir, name);
        }
        for ino in news.inodes {
            self.notifier.inode_changed(ino, true);
        }
        Ok(())
    }

    async fn find(&self, dir: &DirPath) -> Result<Found> {
        let mut found = Found::default();
        let mut continuation = None;
        loop {
            let request = ListRequest {
                bucket: dir.bucket.to_string(),
                prefix: dir.prefix.clone(),
                delimited: true,
                continuation,
                ..ListRequest::default()
            };
            let mut page = self.store.list(request).await?;
            continuation = page.next.take();
            found.take(page, dir.prefix.len());
            if continuation.is_none() {
                return Ok(found.finish(dir.prefix.len()));
            }
        }
    }

    async fn find_buckets(&self) -> Result<Found> {
        let mut found = Found::default();
        for bucket in self.store.list_buckets().await? {
            found.add(bucket.name.clone(), &bucket.name, Listed::Prefix);
        }
        Ok(found)
    }

    /// Names of a directory in order, for one pass of readdir.
    pub fn names(&self, dir: Ino) -> Result<Vec<Box<str>>> {
        let table = self.table();
        let node = table.get(dir).ok_or(Error::NotFound)?;
        let dir = node.dir.as_ref().ok_or(Error::NotDirectory)?;
        Ok(dir.live().map(|(name, _)| name.into()).collect())
    }

    /// Inodes of those names that still exist, with their attributes known: HEADs in parallel for those
    /// that were never seen.
    pub async fn children(&self, dir: Ino, names: &[Box<str>]) -> Result<Vec<(Box<str>, Ino)>> {
        let found: Vec<_> =
            names.iter().filter_map(|n| self.materialise(dir, n).map(|ino| (n.clone(), ino))).collect();
        let inos: Vec<Ino> = found.iter().map(|(_, ino)| *ino).collect();
        let failed = stream::iter(inos)
            .map(|ino| self.ensure_attrs(ino))
            .buffer_unordered(FILL_CONCURRENCY)
            .filter_map(|done| async move { done.err().filter(|e| !matches!(e, Error::NotFound)) })
            .collect::<Vec<_>>()
            .await;
        match failed.into_iter().next() {
            // One unreadable object does not hide its neighbours; if none can be read, say so.
            Some(e) if found.len() == 1 => Err(e),
            _ => Ok(found),
        }
    }

    /// Kind and number of a name, for a readdir without attributes. Small objects may be symbolic links or
    /// pipes, which only HEAD tells.
    pub async fn kind_of(&self, dir: Ino, name: &str) -> Result<Option<(Ino, FileKind)>> {
        {
            let table = self.table();
            match table.child(dir, name) {
                None | Some(Child::Gone(_)) => return Ok(None),
                Some(Child::Listed(child)) => {
                    let small = matches!(&child.what, Listed::Object(v) if v.size <= SYMLINK_MAX_BYTES);
                    if self.config.attrs == AttrsMode::List || !small {
                        let kind = match child.what {
                            Listed::Object(_) => FileKind::Regular,
                            Listed::Prefix => FileKind::Directory,
                        };
                        return Ok(Some((child.ino, kind)));
                    }
                }
                Some(Child::Node(ino)) => {
                    if let Some(node) = table.get(*ino)
                        && (node.properties.is_some() || node.dir.is_some() || node.dirty())
                    {
                        return Ok(Some((*ino, node.kind)));
                    }
                }
            }
        }
        let Some(ino) = self.materialise(dir, name) else { return Ok(None) };
        match self.ensure_attrs(ino).await {
            Err(Error::NotFound) => return Ok(None),
            Err(e) => return Err(e),
            Ok(()) => {}
        }
        // The caller gives the inode back when the kernel has not asked for it.
        Ok(self.with(ino, |n| n.kind).ok().map(|kind| (ino, kind)))
    }

    /// Whether a directory has no names. Asks S3 when that is not known: one LIST of two keys.
    pub async fn is_empty(&self, dir: Ino) -> Result<bool> {
        {
            let table = self.table();
            let node = table.get(dir).ok_or(Error::NotFound)?;
            let dir_data = node.dir.as_ref().ok_or(Error::NotDirectory)?;
            // Names that exist only here are not in any listing.
            let pending = dir_data.live().any(|(_, child)| match child {
                Child::Node(ino) => table.get(*ino).is_some_and(|n| n.dirty() || n.version.is_none()),
                Child::Listed(_) | Child::Gone(_) => false,
            });
            if pending {
                return Ok(false);
            }
            if table.complete(dir, self.config.ttl) {
                return Ok(dir_data.live().next().is_none());
            }
        }
        let path = self.dir_path(dir)?;
        let request = ListRequest {
            bucket: path.bucket.to_string(),
            prefix: path.prefix.clone(),
            max_keys: 2,
            ..ListRequest::default()
        };
        let page = self.store.list(request).await?;
        Ok(!page.objects.iter().any(|o| o.key != path.prefix || o.version.size > 0))
    }
}

/// Merges a whole listing that was begun at `started`.
fn merge(table: &mut Table, dir: Ino, found: Found, started: Instant) -> News {
    let mut news = News::default();
    let Some(mut data) = table.get_mut(dir).and_then(|n| n.dir.take()) else { return news };
    data.marker = if found.marker.is_some() { Marker::Present } else { Marker::Absent };
    let mut names = found.names;
    let mut dropped = Vec::new();
    data.children.retain(|name, child| match child {
        Child::Gone(at) => {
            if *at >= started {
                // Removed here after the listing began: the listing does not know.
                names.remove(name);
                return true;
            }
            false
        }
        Child::Listed(_) => names.contains_key(name),
        Child::Node(ino) => match names.get(name) {
            Some((_, what)) => {
                let keep = merge_node(table, *ino, what, started, &mut news);
                if keep {
                    names.remove(name);
                } else {
                    news.entries.push(OsString::from(&**name));
                    dropped.push(*ino);
                }
                keep
            }
            None => {
                let keep = table.get(*ino).is_some_and(|n| {
                    n.dirty()
                        || n.changed.is_some_and(|at| at >= started)
                        || (n.kind != FileKind::Directory && n.version.is_none())
                });
                if !keep {
                    news.entries.push(OsString::from(&**name));
                    dropped.push(*ino);
                }
                keep
            }
        },
    });
    for (name, (component, what)) in names {
        let ino = match data.children.get(&name) {
            Some(Child::Listed(old))
                if std::mem::discriminant(&old.what) == std::mem::discriminant(&what) =>
            {
                old.ino
            }
            _ => table.allocate(),
        };
        data.children.insert(name, Child::Listed(ListedChild { ino, component, what }));
    }
    data.complete = Some(started);
    if let Some(node) = table.get_mut(dir) {
        node.dir = Some(data);
    }
    for ino in dropped {
        if let Some(node) = table.get_mut(ino) {
            node.lose();
        }
        table.reclaim(ino);
    }
    news
}

/// One name that has an inode and is in the listing; false when the name gets a new inode.
fn merge_node(table: &mut Table, ino: Ino, what: &Listed, started: Instant, news: &mut News) -> bool {
    let Some(node) = table.get_mut(ino) else { return false };
    if node.dirty() || node.changed.is_some_and(|at| at >= started) {
        return true;
    }
    match (what, node.dir.is_some()) {
        (Listed::Prefix, true) => {
            node.prove(started);
            true
        }
        (Listed::Object(version), false) => {
            if node.is_version(version) {
                node.prove(started);
                return true;
            }
            // Ours, but written by a clock that is not ours: or changed by somebody who kept the bytes.
            if node.opens > 0 && node.version.as_ref().is_none_or(|v| v.etag != version.etag) {
                return false;
            }
            node.version = Some(version.clone());
            node.written = None;
            node.properties = None;
            node.stat.size = version.size;
            node.file = if node.opens > 0 { node.file.take() } else { None };
            node.pages_valid = false;
            node.prove(started);
            news.inodes.push(ino);
            true
        }
        (Listed::Prefix, false) | (Listed::Object(_), true) => false,
    }
}
