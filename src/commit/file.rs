//! The content of one inode while it is open or not in S3 yet.
//!
//! A file is a base (one version of an object, read through the content store) with a staging file laid over
//! it: written ranges are in the staging file, the rest comes from the base as far as `base_len`, and what
//! neither has is zeros. A write touches the staging file and the extent map, nothing else.
//!
//! Invariants:
//! * `generation` grows with every change; the file is dirty while `committed` differs from it.
//! * A byte range is read from the staging file only while an extent says so, and an answer that was read
//!   while the staging file was handed over (`epoch`) is thrown away and read again.
//! * A staging file that holds bytes S3 has not is never removed.
//!
//! Locks: `inner` comes before the inode table. Local disk is written under it, S3 is never waited for.

use std::fs::OpenOptions;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::extents::{ExtentMap, Source, sources};
use crate::content::ranges::RangeSet;
use crate::content::{Content, ContentStore, Stream};
use crate::fs::error::{Error, Result};
use crate::fs::types::Ino;
use crate::runtime::disk::disk;
use crate::store::types::{ObjectPath, Version};

/// Largest file: what a store other than AWS takes as one object.
pub const FILE_MAX_BYTES: u64 = 5 << 40;

/// A staging file; removed when the last reference goes, which is never while it holds pending bytes.
#[derive(Debug)]
struct Staging {
    file: Arc<std::fs::File>,
    path: PathBuf,
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Gone already when the content store took it over.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[derive(Debug)]
struct Inner {
    size: u64,
    base: Option<Arc<Content>>,
    base_len: u64,
    extents: ExtentMap,
    staging: Option<Arc<Staging>>,
    /// Generation of the commit under way, or of one that failed: later writes must not join its extents.
    captured: u64,
    /// Smallest size since that commit began.
    low_water: u64,
    /// Counts hand-overs of the staging file.
    epoch: u64,
    failed: Option<Error>,
}

/// See the module head.
#[derive(Debug)]
pub struct File {
    ino: Ino,
    generation: AtomicU64,
    committed: AtomicU64,
    inner: Mutex<Inner>,
}

/// What a commit is about to put into S3.
#[derive(Clone, Debug)]
pub struct Capture {
    /// Everything up to this change.
    pub generation: u64,
    /// Size of the object to be.
    pub size: u64,
    /// The version it is based on.
    pub base: Option<Arc<Content>>,
    /// Where the bytes come from.
    pub sources: Vec<(Range<u64>, Source)>,
}

impl Capture {
    /// Whether the object to be is exactly the base: nothing written, nothing cut.
    pub fn is_base(&self) -> bool {
        let Some(base) = &self.base else { return false };
        base.version().size == self.size
            && self.sources.iter().all(|(_, s)| matches!(s, Source::Base | Source::Staged { dirty: false }))
    }
}

impl File {
    /// A file whose content is a version in S3.
    pub fn clean(ino: Ino, base: Option<Arc<Content>>, size: u64) -> Self {
        Self::with(ino, base, size, 0)
    }

    /// A new, empty file that is not in S3.
    pub fn created(ino: Ino) -> Self {
        Self::with(ino, None, 0, 1)
    }

    fn with(ino: Ino, base: Option<Arc<Content>>, size: u64, generation: u64) -> Self {
        Self {
            ino,
            generation: AtomicU64::new(generation),
            committed: AtomicU64::new(0),
            inner: Mutex::new(Inner {
                size,
                base,
                base_len: size,
                extents: ExtentMap::default(),
                staging: None,
                captured: 0,
                low_water: size,
                epoch: 0,
                failed: None,
            }),
        }
    }

    /// The inode.
    pub fn ino(&self) -> Ino {
        self.ino
    }

    /// Whether content is not in S3 yet. Takes no lock.
    pub fn dirty(&self) -> bool {
        self.generation.load(Ordering::Acquire) != self.committed.load(Ordering::Acquire)
    }

    /// Bytes that are not in S3 yet.
    pub fn dirty_bytes(&self) -> u64 {
        self.inner.lock().extents.dirty_bytes(self.committed.load(Ordering::Acquire))
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.inner.lock().size
    }

    /// The version it is based on.
    pub fn base(&self) -> Option<Arc<Content>> {
        self.inner.lock().base.clone()
    }

    /// Why it can no longer be written, if it cannot.
    pub fn failure(&self) -> Option<Error> {
        self.inner.lock().failed.clone()
    }

    /// Refuses writes from now on, or no longer.
    pub fn refuse(&self, error: Option<Error>) {
        self.inner.lock().failed = error;
    }

    /// Its bytes went to a conflict file: no more writes, nothing left to commit.
    pub fn fail(&self, error: Error) {
        let mut inner = self.inner.lock();
        inner.failed = Some(error);
        self.committed.store(self.generation.load(Ordering::Acquire), Ordering::Release);
    }

    /// The name is gone: nothing is left to commit, the bytes stay readable. Takes no lock.
    pub fn abandon(&self) {
        self.committed.store(self.generation.load(Ordering::Acquire), Ordering::Release);
    }

    fn bump(&self) -> u64 {
        self.generation.fetch_add(1, Ordering::AcqRel) + 1
    }

    fn floor(&self, inner: &Inner) -> u64 {
        self.committed.load(Ordering::Acquire).max(inner.captured)
    }

    fn staging(inner: &mut Inner, dir: &Path, ino: Ino) -> Result<Arc<Staging>> {
        if let Some(staging) = &inner.staging {
            return Ok(staging.clone());
        }
        // A new name each time: an earlier staging file of the inode may still be read, or be on its way to the
        // cache.
        static LAST: AtomicU64 = AtomicU64::new(0);
        let path = dir.join(format!("{}.{}", ino.0, LAST.fetch_add(1, Ordering::Relaxed)));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(|e| Error::local("creating a staging file", e))?;
        let staging = Arc::new(Staging { file: Arc::new(file), path });
        inner.staging = Some(staging.clone());
        Ok(staging)
    }

    /// Writes `data` at `offset`, then runs `after` with the new size while the file is still locked. Local
    /// disk only. True when nothing was dirty before: the file has to be noted as pending. `NoSpace` when the
    /// disk is full, `FileTooLarge` past the store's limit.
    pub fn write(&self, dir: &Path, offset: u64, data: &[u8], after: impl FnOnce(u64)) -> Result<bool> {
        let end = offset.checked_add(data.len() as u64).ok_or(Error::FileTooLarge)?;
        if end > FILE_MAX_BYTES {
            return Err(Error::FileTooLarge);
        }
        let mut inner = self.inner.lock();
        if let Some(error) = &inner.failed {
            return Err(error.clone());
        }
        if data.is_empty() {
            return Ok(false);
        }
        let staging = Self::staging(&mut inner, dir, self.ino)?;
        staging.file.write_all_at(data, offset).map_err(|e| Error::local("writing a staging file", e))?;
        let floor = self.floor(&inner);
        let clean = !self.dirty();
        let generation = self.bump();
        inner.extents.insert(offset..end, generation, floor);
        inner.size = inner.size.max(end);
        after(inner.size);
        Ok(clean)
    }

    /// Cuts or extends with zeros, then runs `after` while the file is still locked; it is told whether the
    /// size changed, since nothing has to be committed for the content otherwise.
    pub fn truncate(&self, size: u64, after: impl FnOnce(bool)) -> Result<()> {
        if size > FILE_MAX_BYTES {
            return Err(Error::FileTooLarge);
        }
        let mut inner = self.inner.lock();
        if let Some(error) = &inner.failed {
            return Err(error.clone());
        }
        let changes = size != inner.size;
        if changes {
            self.bump();
            inner.size = size;
            inner.base_len = inner.base_len.min(size);
            inner.low_water = inner.low_water.min(size);
            inner.extents.truncate(size);
        }
        after(changes);
        Ok(())
    }

    /// Makes a range zeros, without changing the size; false when nothing of it is within the file.
    pub fn zero(&self, dir: &Path, range: Range<u64>) -> Result<bool> {
        let mut inner = self.inner.lock();
        if let Some(error) = &inner.failed {
            return Err(error.clone());
        }
        let range = range.start..range.end.min(inner.size);
        if range.is_empty() {
            return Ok(false);
        }
        let staging = Self::staging(&mut inner, dir, self.ino)?;
        punch(&staging.file, range.clone()).map_err(|e| Error::local("punching a staging file", e))?;
        let floor = self.floor(&inner);
        let generation = self.bump();
        inner.extents.insert(range, generation, floor);
        Ok(true)
    }

    /// Makes `[0, end)` a clone of a version of another object: see copy_file_range(2). Only for a file that
    /// has nothing of its own behind `from`.
    pub fn clone_base(&self, base: &Arc<Content>, from: u64, end: u64, after: impl FnOnce(u64)) -> bool {
        let mut inner = self.inner.lock();
        let same = inner.base.as_ref().is_some_and(|b| Arc::ptr_eq(b, base)) && inner.base_len == from;
        let empty = inner.size == 0 && inner.extents.is_empty();
        // A commit that ends later would put the version it made in the place of this base.
        if inner.captured != 0
            || inner.failed.is_some()
            || inner.size != from
            || !inner.extents.is_empty()
            || !(same || empty)
        {
            return false;
        }
        self.bump();
        inner.base = Some(base.clone());
        inner.base_len = end;
        inner.size = end;
        after(end);
        true
    }

    /// Reads up to `len` bytes at `offset`; fewer only at the end of the file.
    pub async fn read(&self, stream: &Stream, offset: u64, len: usize) -> Result<Bytes> {
        loop {
            let (plan, base, staging, epoch, end) = {
                let inner = self.inner.lock();
                let end = offset.saturating_add(len as u64).min(inner.size);
                if offset >= end {
                    return Ok(Bytes::new());
                }
                let plan = sources(&inner.extents, inner.base_len, offset..end, 0);
                (plan, inner.base.clone(), inner.staging.clone(), inner.epoch, end)
            };
            let wanted = (end - offset) as usize;
            if let [(_, Source::Base)] = plan[..]
                && let Some(base) = &base
            {
                if let Some(bytes) = base.read_now(stream, offset, wanted) {
                    return Ok(bytes);
                }
                let base = base.clone();
                return base.read(stream, offset, wanted).await;
            }
            let mut out = Vec::with_capacity(wanted);
            for (range, source) in plan {
                let n = (range.end - range.start) as usize;
                match (source, &base, &staging) {
                    (Source::Zero, _, _) => out.resize(out.len() + n, 0),
                    (Source::Base, Some(base), _) => {
                        let bytes = base.read(stream, range.start, n).await?;
                        if bytes.len() != n {
                            return Err(Error::Stale("the version read from is shorter than it was".into()));
                        }
                        out.extend_from_slice(&bytes);
                    }
                    (Source::Staged { .. }, _, Some(staging)) => {
                        let file = staging.file.clone();
                        out.extend_from_slice(&disk(move || read_exact(&file, range)).await?);
                    }
                    (Source::Base, None, _) | (Source::Staged { .. }, _, None) => {
                        return Err(Error::Internal("a range without a source".into()));
                    }
                }
            }
            if self.inner.lock().epoch == epoch {
                return Ok(Bytes::from(out));
            }
        }
    }

    /// The next data or hole at or after `offset`: see lseek(2).
    pub fn seek(&self, offset: u64, data: bool) -> Result<u64> {
        let inner = self.inner.lock();
        if offset >= inner.size {
            return Err(Error::NoSuchOffset);
        }
        let plan = sources(&inner.extents, inner.base_len, offset..inner.size, 0);
        let found = plan.iter().find(|(_, s)| (*s != Source::Zero) == data).map(|(r, _)| r.start);
        match (found, data) {
            (Some(at), _) => Ok(at),
            (None, true) => Err(Error::NoSuchOffset),
            (None, false) => Ok(inner.size),
        }
    }

    /// Begins a commit: everything up to now belongs to it.
    pub fn capture(&self) -> Capture {
        let mut inner = self.inner.lock();
        let generation = self.generation.load(Ordering::Acquire);
        inner.captured = generation;
        inner.low_water = inner.size;
        let committed = self.committed.load(Ordering::Acquire);
        Capture {
            generation,
            size: inner.size,
            base: inner.base.clone(),
            sources: sources(&inner.extents, inner.base_len, 0..inner.size, committed),
        }
    }

    /// The bytes of a range as they are now, for an upload. `base` holds the pieces of the base that the
    /// capture named within the range; a piece that was written meanwhile is taken from the staging file.
    /// One moment's bytes: no write is seen half. `Cut` when the file was truncated below the range since: the
    /// object would have zeros that were never in the file.
    pub fn body(&self, range: Range<u64>, base: &[(Range<u64>, Bytes)]) -> Result<Bytes> {
        let inner = self.inner.lock();
        if inner.low_water < range.end {
            return Err(Error::Cut);
        }
        let mut out = Vec::with_capacity((range.end - range.start) as usize);
        for (part, source) in sources(&inner.extents, inner.base_len, range, 0) {
            match (source, &inner.staging) {
                (Source::Zero, _) => out.resize(out.len() + (part.end - part.start) as usize, 0),
                (Source::Staged { .. }, Some(staging)) => {
                    out.extend_from_slice(&read_exact(&staging.file, part)?);
                }
                (Source::Staged { .. }, None) => {
                    return Err(Error::Internal("an extent without a staging file".into()));
                }
                (Source::Base, _) => append_base(&mut out, base, part)?,
            }
        }
        Ok(Bytes::from(out))
    }

    /// The commit of `capture` is in S3 as `version`. Without later writes the staging file becomes cached
    /// content of that version; otherwise it stays, and what was captured counts as clean.
    pub fn finish(&self, capture: &Capture, path: &ObjectPath, version: &Version, store: &Arc<ContentStore>) {
        let mut inner = self.inner.lock();
        self.committed.store(capture.generation, Ordering::Release);
        inner.captured = 0;
        if self.dirty() {
            inner.base = Some(store.object(path, version));
            inner.base_len = capture.size.min(inner.low_water);
            return;
        }
        let content = match inner.staging.take() {
            Some(staging) => {
                let mut resident = RangeSet::default();
                for (range, _) in inner.extents.iter() {
                    resident.insert(range);
                }
                match staging.file.try_clone() {
                    Ok(file) => store.adopt(path, version, file, &staging.path, resident),
                    Err(_) => store.object(path, version),
                }
            }
            None => store.object(path, version),
        };
        inner.extents = ExtentMap::default();
        inner.base = Some(content);
        inner.base_len = capture.size;
        inner.epoch += 1;
    }

    /// The object at `from` moved or its attributes were rewritten: the same bytes are now another version.
    pub fn relocate(&self, from: &ObjectPath, path: &ObjectPath, version: &Version) {
        // The base of a clone that is not committed is another file's.
        if let Some(base) = self.base().filter(|base| base.path() == *from) {
            base.relocate(path.clone(), version.clone());
        }
    }

    /// Pieces of the base that a capture needs within `range`.
    pub fn base_pieces(capture: &Capture, range: &Range<u64>) -> Vec<Range<u64>> {
        capture
            .sources
            .iter()
            .filter(|(_, s)| *s == Source::Base)
            .map(|(r, _)| r.start.max(range.start)..r.end.min(range.end))
            .filter(|r| !r.is_empty())
            .collect()
    }
}

fn append_base(out: &mut Vec<u8>, pieces: &[(Range<u64>, Bytes)], part: Range<u64>) -> Result<()> {
    // A base range of now may lie in one piece only: writes since the capture shrink them, never join them.
    let piece = pieces.iter().find(|(r, _)| r.start <= part.start && part.end <= r.end);
    let (range, bytes) = piece.ok_or_else(|| Error::Internal("a base piece was not fetched".into()))?;
    let from = (part.start - range.start) as usize;
    let to = (part.end - range.start) as usize;
    out.extend_from_slice(bytes.get(from..to).ok_or_else(|| Error::Internal("short base piece".into()))?);
    Ok(())
}

fn read_exact(file: &std::fs::File, range: Range<u64>) -> Result<Vec<u8>> {
    let mut buf = vec![0; (range.end - range.start) as usize];
    file.read_exact_at(&mut buf, range.start).map_err(|e| Error::local("reading a staging file", e))?;
    Ok(buf)
}

/// Zeros in a file: a hole where the filesystem can, and the file long enough to read them.
fn punch(file: &std::fs::File, range: Range<u64>) -> std::io::Result<()> {
    use rustix::fs::FallocateFlags;
    if file.metadata()?.len() < range.end {
        file.set_len(range.end)?;
    }
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match rustix::fs::fallocate(file, flags, range.start, range.end - range.start) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP) => {
            let zeros = vec![0; 1 << 20];
            let mut at = range.start;
            while at < range.end {
                let n = (range.end - at).min(zeros.len() as u64);
                file.write_all_at(&zeros[..n as usize], at)?;
                at += n;
            }
            Ok(())
        }
        Err(e) => Err(e.into()),
    }
}
