//! Writes whose answer was lost. S3 may have done such a write: then the version that the next change is based
//! on is not the one that is known here, and without a second look our own write would pass for another
//! client's. So what was sent is remembered, and before anything else is done to the object it is looked at.

use super::{Committer, Job};
use crate::fs::error::{Error, Result};
use crate::fs::types::{FileKind, Ino};
use crate::store::error::ErrorKind;
use crate::store::types::Written;

/// Whether the store may have done what it answered with `error`.
fn may_be_done(error: &Error) -> bool {
    matches!(error, Error::Store(e) if e.kind.is_transient() || e.kind == ErrorKind::Protocol)
}

impl Committer {
    /// Remembers a commit that failed, if it may have been done all the same. A directory's own object is put
    /// again without a condition and needs no memory.
    pub(super) fn note_unanswered(&self, job: Job, error: &Error) {
        if may_be_done(error) && job.kind != FileKind::Directory {
            self.unanswered.lock().insert(job.ino, job);
        }
    }

    /// Finds out what became of a commit whose answer was lost; with one request, or none when there is no
    /// such commit. For a caller that holds a claim on the inode. Fails when S3 cannot be asked.
    pub(crate) async fn settle_unanswered(&self, ino: Ino) -> Result<()> {
        let Some(job) = self.unanswered.lock().get(&ino).cloned() else { return Ok(()) };
        match self.store.head(&job.path).await {
            Ok(info) if job.made(&info) => {
                let written = Written {
                    etag: info.version.etag,
                    last_modified: Some(info.version.last_modified),
                    version_id: info.version_id,
                };
                match (&job.file, &job.capture) {
                    (Some(file), Some(capture)) => {
                        self.sent_content(&job, file, capture, &written, None).await
                    }
                    _ => self.sent_attributes(&job, &written),
                }
            }
            Ok(_) => {}
            Err(e) if e.kind == ErrorKind::NotFound => {}
            Err(e) => return Err(e.into()),
        }
        self.unanswered.lock().remove(&ino);
        Ok(())
    }
}
