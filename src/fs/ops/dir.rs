//! opendir, readdir, readdirplus, releasedir, fsyncdir.

use std::collections::HashSet;
use std::ffi::OsString;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};

use crate::fs::error::{Error, Result};
use crate::fs::filesystem::Filesystem;
use crate::fs::handles::DirHandle;
use crate::fs::types::{DirEntry, DirEntryPlus, Fh, FileKind, Ino, Opened};
use crate::namespace::node::Child;

/// Entries of one answer; the kernel's buffer takes fewer.
const BATCH: usize = 256;

/// Names whose kind is asked for at the same time.
const FILL_CONCURRENCY: usize = 64;

/// Cookies of `.` and `..`; names follow.
const DOT: u64 = 1;
const DOT_DOT: u64 = 2;

impl Filesystem {
    /// Opens a directory. Sends nothing: the first read does.
    pub async fn opendir(&self, ino: Ino) -> Result<Opened> {
        if self.names.with(ino, |n| n.kind)? != FileKind::Directory {
            return Err(Error::NotDirectory);
        }
        let fh = self.handles.add_dir(ino);
        Ok(Opened { fh, keep_cache: false, direct_io: false, no_flush: true })
    }

    /// Entries after the cookie `offset`, without attributes.
    pub async fn readdir(&self, ino: Ino, fh: Fh, offset: u64) -> Result<Vec<DirEntry>> {
        let handle = self.handles.dir(fh)?;
        let names = self.pass(&handle, offset).await?;
        let mut entries = self.dots(ino, offset)?;
        let batch: Vec<_> = after(&names, offset).map(|(at, name)| (at, name.clone())).collect();
        let dir = handle.ino;
        let kinds = stream::iter(batch)
            .map(|(at, name)| async move {
                let found = self.names.kind_of(dir, &name).await;
                (at, name, found)
            })
            .buffered(FILL_CONCURRENCY);
        let kinds: Vec<_> = kinds.collect().await;
        let mut offered = Vec::new();
        for (at, name, found) in kinds {
            let (ino, kind) = match found {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                // One object that cannot be asked about does not hide its neighbours.
                Err(_) => match self.names.materialise(handle.ino, &name) {
                    Some(ino) => (ino, FileKind::Regular),
                    None => continue,
                },
            };
            offered.push(ino);
            entries.push(DirEntry { ino, offset: at, kind, name: OsString::from(&*name) });
        }
        self.offer(&handle, offered);
        Ok(entries)
    }

    /// Entries after the cookie `offset`, with attributes: HEADs in parallel for those never seen.
    pub async fn readdirplus(&self, ino: Ino, fh: Fh, offset: u64) -> Result<Vec<DirEntryPlus>> {
        let handle = self.handles.dir(fh)?;
        let names = self.pass(&handle, offset).await?;
        let mut entries = Vec::with_capacity(BATCH + 2);
        for entry in self.dots(ino, offset)? {
            let known = self.attr_reply(entry.ino)?;
            entries.push(DirEntryPlus { entry, attr: known.attr, ttl: known.ttl });
        }
        let batch: Vec<_> = after(&names, offset).collect();
        let wanted: Vec<_> = batch.iter().map(|(_, name)| (*name).clone()).collect();
        let found = self.names.children(handle.ino, &wanted).await?;
        let mut at = batch.iter();
        for (name, ino) in &found {
            let Some((cookie, _)) = at.by_ref().find(|(_, n)| **n == *name) else { break };
            // Gone between the listing and now.
            let Ok(known) = self.attr_reply(*ino) else { continue };
            let entry =
                DirEntry { ino: *ino, offset: *cookie, kind: known.attr.kind, name: OsString::from(&**name) };
            entries.push(DirEntryPlus { entry, attr: known.attr, ttl: known.ttl });
        }
        self.offer(&handle, found.into_iter().map(|(_, ino)| ino).collect());
        Ok(entries)
    }

    /// Notes the inodes of this answer; those of the one before that did not reach the kernel go, unless they
    /// are offered again.
    fn offer(&self, handle: &DirHandle, offered: Vec<Ino>) {
        let again: HashSet<Ino> = offered.iter().copied().collect();
        let mut before = std::mem::replace(&mut *handle.offered.lock(), offered);
        before.retain(|ino| !again.contains(ino));
        self.withdraw(before);
    }

    /// Inodes of entries that did not reach the kernel.
    fn withdraw(&self, offered: Vec<Ino>) {
        let mut table = self.names.table();
        for ino in offered {
            table.reclaim(ino);
        }
    }

    /// The names of this pass; rewinding begins a new one.
    async fn pass(&self, handle: &Arc<DirHandle>, offset: u64) -> Result<Arc<[Box<str>]>> {
        if offset > 0
            && let Some(names) = handle.names.lock().clone()
        {
            return Ok(names);
        }
        self.names.list(handle.ino).await?;
        let names: Arc<[Box<str>]> = self.names.names(handle.ino)?.into();
        *handle.names.lock() = Some(names.clone());
        Ok(names)
    }

    fn dots(&self, ino: Ino, offset: u64) -> Result<Vec<DirEntry>> {
        let parent = self.names.with(ino, |n| n.parent)?;
        let dot = |ino, offset, name: &str| DirEntry {
            ino,
            offset,
            kind: FileKind::Directory,
            name: OsString::from(name),
        };
        let parent = if self.names.table().get(parent).is_some() { parent } else { ino };
        Ok([dot(ino, DOT, "."), dot(parent, DOT_DOT, "..")]
            .into_iter()
            .filter(|e| e.offset > offset)
            .collect())
    }

    /// Closes a directory.
    pub async fn releasedir(&self, _ino: Ino, fh: Fh) -> Result<()> {
        let handle = self.handles.remove_dir(fh).ok_or(Error::BadHandle)?;
        let offered = std::mem::take(&mut *handle.offered.lock());
        self.withdraw(offered);
        Ok(())
    }

    /// fsync(2) of a directory: attributes of it and of what is in it are in S3 when this succeeds. Names
    /// are there already.
    pub async fn fsyncdir(&self, ino: Ino, _fh: Fh) -> Result<()> {
        let mut pending = vec![ino];
        {
            let table = self.names.table();
            if let Some(dir) = table.get(ino).and_then(|n| n.dir.as_ref()) {
                pending.extend(dir.children.values().filter_map(|child| match child {
                    Child::Node(ino) => table.get(*ino).filter(|n| n.meta_dirty()).map(|n| n.ino),
                    Child::Listed(_) | Child::Gone(_) => None,
                }));
            }
        }
        for ino in pending {
            self.committer.commit(ino).await?;
        }
        Ok(())
    }
}

/// Names behind a cookie with their own cookies, one answer's worth.
fn after(names: &[Box<str>], offset: u64) -> impl Iterator<Item = (u64, &Box<str>)> {
    let from = usize::try_from(offset.saturating_sub(DOT_DOT)).unwrap_or(usize::MAX);
    names.iter().enumerate().skip(from).take(BATCH).map(|(i, name)| (i as u64 + DOT_DOT + 1, name))
}
