//! Local files of object versions: names, descriptors, the system calls.
//!
//! Owns: the directory `versions/` below the cache directory, the descriptors, a bound on them.
//! A file is `versions/XX/HASH.N`: HASH is the SHA-256 of the object's identity when the file was made, XX its
//! first two digits, N a number that no other file of this run has. A name is never used twice, so a late reader
//! of a deleted file finds nothing instead of another version's bytes. Directories have mode 0700, files 0600.
//!
//! Lock: the table of descriptors, innermost, never held over a read or a write.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, IoSlice};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use lru::LruCache;
use parking_lot::Mutex;
use rustix::fs::FallocateFlags;
use sha2::{Digest, Sha256};

use crate::store::types::{ObjectPath, Version};

/// Most descriptors kept open for cached content.
const OPEN_MAX: NonZeroUsize = match NonZeroUsize::new(256) {
    Some(most) => most,
    None => NonZeroUsize::MIN,
};
/// What the kernel copies fastest from; see fuse(4) replies and large copies.
const PAGE_BYTES: usize = 4096;

/// A file of the cache. Cheap to clone; holds no descriptor.
#[derive(Clone, Debug)]
pub(super) struct FileRef {
    id: u64,
    path: Arc<Path>,
}

/// Opens, reads, writes, punches and removes files of the cache.
pub(super) struct Files {
    root: PathBuf,
    next_id: AtomicU64,
    open: Mutex<LruCache<u64, Arc<File>>>,
    /// Makes every write fail as on a full disk.
    #[cfg(test)]
    pub full: std::sync::atomic::AtomicBool,
}

impl Files {
    /// The files below `dir`, which is made when it is not there; what an earlier run left is removed.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let root = dir.join("versions");
        DirBuilder::new().recursive(true).mode(0o700).create(&root)?;
        std::fs::set_permissions(&root, Permissions::from_mode(0o700))?;
        wipe(&root)?;
        Ok(Self {
            root,
            next_id: AtomicU64::new(1),
            open: Mutex::new(LruCache::new(OPEN_MAX)),
            #[cfg(test)]
            full: std::sync::atomic::AtomicBool::new(false),
        })
    }

    /// A new name for content of this identity; makes nothing.
    pub fn name(&self, path: &ObjectPath, version: &Version) -> FileRef {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let hash = hash(path, version);
        let shard = &hash[..2];
        FileRef { id, path: self.root.join(shard).join(format!("{hash}.{id:x}")).into() }
    }

    /// Moves `from` to the name `to`. When it cannot be moved it stays where it is and is used there.
    pub fn take_over(&self, from: &Path, to: FileRef, file: File) -> io::Result<FileRef> {
        let moved = match std::fs::rename(from, &to.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_parent(&to.path)?;
                std::fs::rename(from, &to.path)
            }
            other => other,
        };
        let place = match moved {
            Ok(()) => to,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(error),
            Err(_) => FileRef { id: to.id, path: from.into() },
        };
        file.set_permissions(Permissions::from_mode(0o600))?;
        self.open.lock().put(place.id, Arc::new(file));
        Ok(place)
    }

    fn descriptor(&self, file: &FileRef, create: bool) -> io::Result<Arc<File>> {
        if let Some(open) = self.open.lock().get(&file.id) {
            return Ok(Arc::clone(open));
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(create).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let opened = match options.open(&file.path) {
            Err(error) if create && error.kind() == io::ErrorKind::NotFound => {
                make_parent(&file.path)?;
                options.open(&file.path)?
            }
            other => other?,
        };
        let opened = Arc::new(opened);
        let replaced = {
            let mut table = self.open.lock();
            if let Some(open) = table.get(&file.id) {
                return Ok(Arc::clone(open));
            }
            table.push(file.id, Arc::clone(&opened))
        };
        // Closed without the lock.
        drop(replaced);
        Ok(opened)
    }

    /// Appends the bytes of `range` to `buffer`, whose capacity has room for them.
    pub fn read(&self, file: &FileRef, range: &Range<u64>, buffer: &mut Vec<u8>) -> io::Result<()> {
        let descriptor = self.descriptor(file, false)?;
        let mut at = range.start;
        while at < range.end {
            let before = buffer.len();
            let got = rustix::io::pread(&*descriptor, rustix::buffer::spare_capacity(buffer), at);
            let got = match got {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            if got == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let wanted = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(got);
            buffer.truncate(before + wanted);
            at += u64::try_from(wanted).unwrap_or(u64::MAX);
        }
        Ok(())
    }

    /// Writes all pieces one after another from `offset` on, making the file if it is not there.
    pub fn write(&self, file: &FileRef, mut offset: u64, pieces: &[Bytes]) -> io::Result<()> {
        #[cfg(test)]
        if self.full.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        let descriptor = self.descriptor(file, true)?;
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let batch = &rest[..rest.len().min(IOV_MAX)];
            let wrote = match rustix::io::pwritev(&*descriptor, batch, offset) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            if wrote == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            offset += u64::try_from(wrote).unwrap_or(u64::MAX);
            IoSlice::advance_slices(&mut rest, wrote);
        }
        Ok(())
    }

    /// Gives the disk space of `range` back; the bytes read as zeros afterwards, so nobody may read them.
    pub fn punch(&self, file: &FileRef, range: &Range<u64>) -> io::Result<()> {
        let descriptor = self.descriptor(file, false)?;
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&*descriptor, mode, range.start, range.end - range.start)?)
    }

    /// Removes a file; one that is not there is removed already.
    pub fn remove(&self, file: &FileRef) -> io::Result<()> {
        let closed = self.open.lock().pop(&file.id);
        drop(closed);
        match std::fs::remove_file(&file.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Descriptors open now.
    #[cfg(test)]
    pub fn open_count(&self) -> usize {
        self.open.lock().len()
    }
}

/// Most slices of one pwritev. See IOV_MAX in writev(2).
const IOV_MAX: usize = 512;

/// A buffer with room for `len` bytes that begins at a page, and how many bytes in front are padding.
pub(super) fn page_aligned(len: usize) -> (Vec<u8>, usize) {
    let mut buffer: Vec<u8> = Vec::with_capacity(len + PAGE_BYTES);
    let padding = buffer.as_ptr().align_offset(PAGE_BYTES).min(PAGE_BYTES);
    buffer.resize(padding, 0);
    (buffer, padding)
}

fn make_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => DirBuilder::new().recursive(true).mode(0o700).create(parent),
        None => Ok(()),
    }
}

/// Lower-case hexadecimal SHA-256 of an identity. Fields cannot run into each other: neither a bucket name nor an
/// ETag holds a NUL, and the key comes last.
fn hash(path: &ObjectPath, version: &Version) -> String {
    let time = version.last_modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut sha = Sha256::new();
    sha.update(path.bucket.as_bytes());
    sha.update([0]);
    sha.update(version.etag.0.as_bytes());
    sha.update([0]);
    sha.update(time.to_le_bytes());
    sha.update(version.size.to_le_bytes());
    sha.update(path.key.as_bytes());
    sha.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        use std::fmt::Write;
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Removes files of an earlier run. Only what looks like ours: a mistaken cache directory loses nothing else.
fn wipe(root: &Path) -> io::Result<()> {
    for shard in std::fs::read_dir(root)? {
        let shard = shard?;
        if !shard.file_type()?.is_dir() || !is_hex(&shard.file_name(), 2) {
            continue;
        }
        for entry in std::fs::read_dir(shard.path())? {
            let entry = entry?;
            let name = entry.file_name();
            let (hash, number) = (Path::new(&name).file_stem(), Path::new(&name).extension());
            let ours = hash.is_some_and(|hash| is_hex(hash, 64)) && number.is_some();
            if ours && entry.file_type()?.is_file() {
                std::fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

fn is_hex(text: &OsStr, len: usize) -> bool {
    let bytes = text.as_encoded_bytes();
    bytes.len() == len && bytes.iter().all(u8::is_ascii_hexdigit)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::store::types::ETag;

    fn name(files: &Files, key: &str) -> FileRef {
        let version = Version { etag: ETag::new("\"e\""), last_modified: UNIX_EPOCH, size: 10 };
        files.name(&ObjectPath::new("bucket", key), &version)
    }

    #[test]
    fn opening_wipes_what_is_ours_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path()).unwrap();
        let ours = name(&files, "a/b");
        files.write(&ours, 0, &[Bytes::from_static(b"bytes")]).unwrap();
        let others =
            [dir.path().join("notes"), dir.path().join("versions/ab.txt"), ours.path.with_file_name("x.1")];
        for other in &others {
            std::fs::write(other, "keep").unwrap();
        }
        drop(files);
        Files::open(dir.path()).unwrap();
        assert!(!ours.path.exists());
        assert!(others.iter().all(|other| other.exists()));
    }

    #[test]
    fn directories_and_files_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(&dir.path().join("cache")).unwrap();
        let file = name(&files, "k");
        files.write(&file, 0, &[Bytes::from_static(b"bytes")]).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&file.path), 0o600);
        for level in file.path.ancestors().skip(1).take(3) {
            assert_eq!(mode(level), 0o700, "{}", level.display());
        }
    }

    #[test]
    fn descriptors_are_bounded_and_files_reopened() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path()).unwrap();
        let all: Vec<_> = (0..400).map(|n| name(&files, &format!("{n}"))).collect();
        for (n, file) in all.iter().enumerate() {
            files
                .write(file, 3, &[Bytes::from(n.to_string()), Bytes::new(), Bytes::from_static(b".")])
                .unwrap();
        }
        assert_eq!(files.open_count(), OPEN_MAX.get());
        for (n, file) in all.iter().enumerate() {
            let expected = format!("{n}.");
            let (mut buffer, padding) = page_aligned(expected.len());
            files.read(file, &(3..3 + expected.len() as u64), &mut buffer).unwrap();
            assert_eq!(&buffer[padding..], expected.as_bytes());
            assert_eq!(buffer[padding..].as_ptr() as usize % PAGE_BYTES, 0);
        }
        files.remove(&all[0]).unwrap();
        files.remove(&all[0]).unwrap();
        assert!(files.read(&all[0], &(3..4), &mut Vec::with_capacity(8)).is_err());
    }
}
