//! read, lseek.

use crate::commit::claims::Scope;
use crate::fs::error::{Error, Result};
use crate::fs::filesystem::Filesystem;
use crate::fs::types::{Fh, Ino, ReadData, SeekWhence};

/// How often a read that finds its version gone looks again. More than once, because it may join a request
/// that another reader sent to the old place.
const STALE_TRIES: usize = 4;

impl Filesystem {
    /// Up to `len` bytes at `offset`; fewer only at the end of the file.
    pub async fn read(&self, _ino: Ino, fh: Fh, offset: u64, len: u32) -> Result<ReadData> {
        let handle = self.handles.file(fh)?;
        let first = handle.file.read(&handle.stream, offset, len as usize).await;
        if !matches!(first, Err(Error::Stale(_))) {
            return first;
        }
        // The version may have gone because this mount is just replacing or moving it, or has replaced it without
        // getting the answer: look again when that is over, with no other change of ours in between.
        let _claim = self.committer.claims.claim(&self.names, &[Scope::One(handle.ino)]).await;
        self.committer.settle_unanswered(handle.ino).await?;
        for _ in 1..STALE_TRIES {
            let again = handle.file.read(&handle.stream, offset, len as usize).await;
            if !matches!(again, Err(Error::Stale(_))) {
                return again;
            }
        }
        handle.file.read(&handle.stream, offset, len as usize).await
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
