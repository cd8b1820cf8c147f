//! write, fallocate, flush, fsync.

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use bytes::Bytes;

use super::attr::drop_set_id;
use crate::fs::error::{Error, Result};
use crate::fs::filesystem::Filesystem;
use crate::fs::handles::FileHandle;
use crate::fs::types::{Allocate, Fh, Ino, WriteFlags};
use crate::runtime::disk;

impl Filesystem {
    /// Writes at once, without copying `data`: local disk only. `None` when this thread may not block.
    pub fn write_now(
        &self,
        _ino: Ino,
        fh: Fh,
        offset: u64,
        data: &[u8],
        flags: WriteFlags,
    ) -> Option<Result<u32>> {
        if !disk::may_block() {
            return None;
        }
        Some(self.handles.file(fh).and_then(|handle| self.write_staged(&handle, offset, data, flags)))
    }

    /// Writes at `offset`. The bytes are in the staging file when this returns, in S3 with the next flush or
    /// fsync.
    pub async fn write(&self, ino: Ino, fh: Fh, offset: u64, data: Bytes, flags: WriteFlags) -> Result<u32> {
        let _ = ino;
        let handle = self.handles.file(fh)?;
        // A write is one copy into the page cache: handing it to another thread costs more than it takes.
        self.write_staged(&handle, offset, &data, flags)
    }

    fn write_staged(&self, handle: &FileHandle, offset: u64, data: &[u8], flags: WriteFlags) -> Result<u32> {
        self.writable()?;
        let (ino, file) = (handle.ino, &handle.file);
        handle.owners.wrote(if flags.from_cache { 0 } else { flags.pid });
        handle.wrote.store(true, Ordering::Relaxed);
        let now = SystemTime::now();
        let first = file.write(&self.config.staging_dir, offset, data, |size| {
            let _ = self.names.with(ino, |node| {
                node.stat.size = size;
                node.stat.mtime = now;
                node.stat.ctime = now;
                node.changed = Some(std::time::Instant::now());
                if flags.kill_suidgid {
                    drop_set_id(node);
                }
            });
        })?;
        if first {
            self.committer.note(ino, Some(file));
        }
        u32::try_from(data.len()).map_err(|_| Error::Invalid("write of more than 4 GiB"))
    }

    /// Space and holes: see fallocate(2). Space is never reserved in S3, so keeping the size does nothing.
    pub async fn fallocate(&self, ino: Ino, fh: Fh, offset: u64, len: u64, mode: Allocate) -> Result<()> {
        self.writable()?;
        let handle = self.handles.file(fh)?;
        let end = offset.checked_add(len).ok_or(Error::FileTooLarge)?;
        let file = handle.file.clone();
        let extends = matches!(mode, Allocate::Extend | Allocate::ZeroRange { keep_size: false });
        let zeroed = if matches!(mode, Allocate::PunchHole | Allocate::ZeroRange { .. }) {
            let (file, dir) = (file.clone(), self.config.staging_dir.clone());
            disk::disk(move || file.zero(&dir, offset..end)).await?
        } else {
            false
        };
        let now = SystemTime::now();
        let grows = extends && end > file.size();
        let touch = |_| {
            let _ = self.names.with(ino, |node| {
                node.stat.size = if grows { end } else { node.stat.size };
                node.stat.mtime = now;
                node.stat.ctime = now;
            });
        };
        if grows {
            file.truncate(end, touch)?;
        } else if zeroed {
            touch(true);
        }
        if file.dirty() {
            self.committer.note(ino, Some(&file));
        }
        Ok(())
    }

    /// close(2): everything written before is in S3 when this succeeds.
    pub async fn flush(&self, ino: Ino, fh: Fh) -> Result<()> {
        self.flush_by(ino, fh, 0).await
    }

    /// The same by a thread. The close of a descriptor that a child inherited and did not use sends nothing, nor
    /// does one after which the file is just emptied: a shell opens with `O_TRUNC`, duplicates and closes before it
    /// runs the program, and the old object is to stay until there is a new one. The last close sends both. A `pid` of
    /// 0 is nobody in particular, and everything is sent.
    pub async fn flush_by(&self, ino: Ino, fh: Fh, pid: u32) -> Result<()> {
        let handle = self.handles.file(fh)?;
        if let Some(error) = handle.file.failure().filter(|_| handle.flags.write) {
            return Err(error);
        }
        let emptied = pid != 0
            && handle.flags.truncate
            && !handle.wrote.load(Ordering::Relaxed)
            && handle.file.size() == 0
            && self.names.with(ino, |n| n.version.as_ref().is_some_and(|v| v.size > 0)).unwrap_or(false);
        if handle.flags.write && (emptied || !handle.owners.may_be(pid)) {
            return Ok(());
        }
        let attributes = self.names.with(ino, |n| n.meta_dirty()).unwrap_or(false);
        if handle.flags.write || attributes { self.committer.commit(ino).await } else { Ok(()) }
    }

    /// fsync(2): everything written before is in S3 when this succeeds.
    pub async fn fsync(&self, ino: Ino, fh: Fh, _datasync: bool) -> Result<()> {
        let handle = self.handles.file(fh)?;
        if let Some(error) = handle.file.failure().filter(|_| handle.flags.write) {
            return Err(error);
        }
        self.committer.commit(ino).await
    }
}
