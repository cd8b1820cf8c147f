//! open, release, and the question whether another client changed the object.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::BytesMut;
use futures_util::TryStreamExt;

use super::attr::resized;
use crate::commit::file::File;
use crate::content::Stream;
use crate::fs::error::{Error, Result};
use crate::fs::filesystem::Filesystem;
use crate::fs::types::{Caller, Fh, FileKind, Ino, OpenFlags, Opened};
use crate::namespace::node::Known;
use crate::store::error::ErrorKind;
use crate::store::object_store::GetRequest;
use crate::store::types::{ObjectPath, Version};

/// What an open for reading fetches along with its question about the version.
const OPEN_FETCH_BYTES: u64 = 1 << 20;

/// What is there now, seen from an open.
enum Answer {
    Same,
    Object(Known),
    Gone,
}

impl Filesystem {
    /// Opens a file. Asks S3 whether it is still the version that is known, with one request at most, unless
    /// that was learnt a moment ago.
    pub async fn open(&self, caller: Caller, ino: Ino, flags: OpenFlags) -> Result<Opened> {
        if flags.write || flags.truncate {
            self.writable()?;
        }
        if self.names.with(ino, |n| n.kind)? == FileKind::Directory {
            return Err(Error::IsDirectory);
        }
        self.revalidate(ino, flags).await?;
        if flags.write {
            self.names.ensure_properties(ino).await?;
        }
        let file = self.attach(ino, flags.write)?;
        if flags.write
            && !flags.truncate
            && let Err(error) = fetch_small(&file).await
        {
            self.detach(ino, true);
            return Err(error);
        }
        if flags.truncate {
            let now = SystemTime::now();
            let done = file.truncate(0, |changes| {
                let _ = self.names.with(ino, |node| resized(node, caller, 0, changes, now));
            });
            if let Err(error) = done {
                self.detach(ino, flags.write);
                return Err(error);
            }
            self.committer.note(ino, Some(&file));
        }
        let keep_cache = self.names.with(ino, |node| std::mem::replace(&mut node.pages_valid, true))?;
        let fh = self.handles.add_file(ino, file, flags, caller.pid);
        Ok(Opened { fh, keep_cache, direct_io: false, no_flush: false })
    }

    /// The content of an inode, for one more handle: the one that is open or pending, else its version in S3.
    /// There is never a second one for an inode, so it is found, made and counted under one lock.
    pub(super) fn attach(&self, ino: Ino, write: bool) -> Result<Arc<File>> {
        let mut table = self.names.table();
        let path = table.object_path(ino);
        let node = table.get_mut(ino).ok_or(Error::NotFound)?;
        let file = node.file.get_or_insert_with(|| {
            let version = node.version.as_ref();
            let base = path.zip(version).map(|(path, version)| self.content.object(&path, version));
            Arc::new(File::clean(ino, base, node.stat.size))
        });
        let file = file.clone();
        node.opens += 1;
        node.writers += u32::from(write);
        Ok(file)
    }

    /// One handle less; whether something is left that is not in S3.
    pub(super) fn detach(&self, ino: Ino, write: bool) -> bool {
        let mut table = self.names.table();
        let Some(node) = table.get_mut(ino) else { return false };
        node.opens = node.opens.saturating_sub(1);
        node.writers = node.writers.saturating_sub(u32::from(write));
        let dirty = node.wants_commit();
        if node.opens == 0 && !dirty {
            node.file = None;
        }
        dirty
    }

    async fn revalidate(&self, ino: Ino, flags: OpenFlags) -> Result<()> {
        let (path, version, at) = {
            let table = self.names.table();
            let node = table.get(ino).ok_or(Error::NotFound)?;
            let Some(version) = node.version.clone() else { return Ok(()) };
            let known = !node.doubted && node.content_proved().elapsed() <= self.config.open_window;
            if node.dirty() || !node.linked || known {
                return Ok(());
            }
            let Some(path) = table.object_path(ino) else { return Ok(()) };
            (path, version, (node.parent, node.shown.clone(), node.component.clone()))
        };
        let started = Instant::now();
        let large_write = flags.write && version.size > OPEN_FETCH_BYTES;
        let answer = if large_write || flags.truncate || version.size == 0 {
            self.ask_head(&path).await?
        } else {
            self.ask_get(&path, &version).await?
        };
        let (parent, name, component) = at;
        // What changed here while S3 was asked wins: a commit, a rename to or from this name.
        {
            let table = self.names.table();
            let still = table.child_ino(parent, &name) == Some(ino);
            let node = table.get(ino).ok_or(Error::NotFound)?;
            if !still || node.dirty() || node.changed.is_some_and(|at| at >= started) {
                return Ok(());
            }
        }
        match answer {
            // An equal ETag speaks of the bytes only: attributes may have been rewritten.
            Answer::Same => self.names.with(ino, |node| node.same_content = Some(Instant::now())),
            Answer::Object(known) => {
                self.names.remember(path, known.clone());
                let found = self.names.saw_object(parent, &name, &component, &known);
                let same = known.version.etag == version.etag && known.version.size == version.size;
                // On ESTALE the kernel looks the name up again, which tells it the new size (or the new
                // inode) before it reads a byte; an answer here would leave it with the old one.
                if found == ino && same {
                    Ok(())
                } else {
                    Err(Error::Stale("the file was replaced in S3".into()))
                }
            }
            Answer::Gone => {
                self.names.gone(parent, &name);
                self.names.notifier().entry_changed(parent, (&*name).into());
                Err(Error::NotFound)
            }
        }
    }

    async fn ask_head(&self, path: &ObjectPath) -> Result<Answer> {
        match self.store.head(path).await {
            Ok(info) => Ok(Answer::Object(info.into())),
            Err(e) if e.kind == ErrorKind::NotFound => Ok(Answer::Gone),
            Err(e) => Err(e.into()),
        }
    }

    /// Asks and fetches in one: the first bytes come along unless they are here already.
    async fn ask_get(&self, path: &ObjectPath, version: &Version) -> Result<Answer> {
        let first = version.size.min(OPEN_FETCH_BYTES);
        let resident = self.content.object(path, version).missing(0..first).is_empty();
        let request = GetRequest {
            range: Some((0, OPEN_FETCH_BYTES)),
            if_match: None,
            if_none_match: resident.then(|| version.etag.clone()),
        };
        let response = match self.store.get(path, request).await {
            Ok(response) => response,
            Err(e) if e.kind == ErrorKind::NotModified => return Ok(Answer::Same),
            Err(e) if e.kind == ErrorKind::NotFound => return Ok(Answer::Gone),
            // Empty now: look at it whole.
            Err(e) if e.kind == ErrorKind::InvalidRange => return self.ask_head(path).await,
            Err(e) => return Err(e.into()),
        };
        let known = Known::from(response.info);
        if response.offset == 0 && response.len <= OPEN_FETCH_BYTES {
            let body: BytesMut = response.body.try_fold(BytesMut::new(), collect).await?;
            let (content, body) = (self.content.object(path, &known.version), body.freeze());
            crate::runtime::disk::disk(move || content.prime(0, &body)).await;
        }
        Ok(Answer::Object(known))
    }

    /// The last close of a handle. What is still dirty (a memory map that outlived close, a flush that
    /// failed) is sent in the background, again and again.
    pub async fn release(&self, ino: Ino, fh: Fh) -> Result<()> {
        let Some(handle) = self.handles.remove_file(fh) else { return Err(Error::BadHandle) };
        let dirty = self.detach(ino, handle.flags.write);
        if dirty && handle.flags.write {
            self.committer.commit_soon(ino);
        } else if !dirty {
            self.committer.forget_unlinked(ino);
        }
        Ok(())
    }
}

/// A small file that is going to be edited is fetched now: the upload needs all of it, and should another client
/// replace it meanwhile, the conflict file has more than the edited bytes.
async fn fetch_small(file: &Arc<File>) -> Result<()> {
    let Some(base) = file.base().filter(|_| !file.dirty()) else { return Ok(()) };
    let size = base.version().size;
    if size > OPEN_FETCH_BYTES || base.missing(0..size).is_empty() {
        return Ok(());
    }
    match base.read(&Stream::default(), 0, size as usize).await {
        // Replaced since: the commit will find out, and says so with what there is to keep.
        Ok(_) | Err(Error::Stale(_)) => Ok(()),
        Err(e) => Err(e),
    }
}

async fn collect(mut all: BytesMut, piece: bytes::Bytes) -> crate::store::error::Result<BytesMut> {
    all.extend_from_slice(&piece);
    Ok(all)
}
