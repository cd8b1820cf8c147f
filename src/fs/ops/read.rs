//! read, lseek.

use crate::commit::claims::Scope;
use crate::fs::error::{Error, Result};
use crate::fs::filesystem::Filesystem;
use crate::fs::types::{Fh, Ino, ReadData, SeekWhence};

impl Filesystem {
    /// Up to `len` bytes at `offset`; fewer only at the end of the file.
    pub async fn read(&self, _ino: Ino, fh: Fh, offset: u64, len: u32) -> Result<ReadData> {
        let handle = self.handles.file(fh)?;
        match handle.file.read(&handle.stream, offset, len as usize).await {
            // The version may have gone because this mount is just replacing or moving it: look again when
            // that is over, with no other change of ours in between.
            Err(Error::Stale(_)) => {
                let _claim = self.committer.claims.claim(&self.names, &[Scope::One(handle.ino)]).await;
                handle.file.read(&handle.stream, offset, len as usize).await
            }
            done => done,
        }
    }

    /// The next data or hole: see lseek(2). What S3 has counts as data.
    pub async fn lseek(&self, _ino: Ino, fh: Fh, offset: u64, whence: SeekWhence) -> Result<u64> {
        let handle = self.handles.file(fh)?;
        if offset > i64::MAX as u64 {
            return Err(Error::NoSuchOffset);
        }
        handle.file.seek(offset, whence == SeekWhence::Data)
    }
}
