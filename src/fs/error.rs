//! Errors of filesystem operations. A cause is kept until the adapter has logged it.

use crate::store::error::StoreError;

/// Result of a filesystem operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation failed. `errno` maps each to the number a program sees, in one exhaustive table.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The name or the inode does not exist.
    #[error("no such file or directory")]
    NotFound,
    /// The name is taken.
    #[error("file exists")]
    Exists,
    /// A directory was needed.
    #[error("not a directory")]
    NotDirectory,
    /// Anything but a directory was needed.
    #[error("is a directory")]
    IsDirectory,
    /// The directory has entries.
    #[error("directory not empty")]
    NotEmpty,
    /// The name has more than 255 bytes, or the key more than 1,024.
    #[error("name too long")]
    NameTooLong,
    /// The name cannot be part of a key: it is not UTF-8.
    #[error("name is not UTF-8 and S3 keys are")]
    NotUtf8,
    /// The argument makes no sense.
    #[error("invalid argument: {0}")]
    Invalid(&'static str),
    /// The operation is not supported here, and the reason.
    #[error("not supported: {0}")]
    Unsupported(&'static str),
    /// The caller may not do this.
    #[error("operation not permitted: {0}")]
    NotPermitted(&'static str),
    /// The caller lacks permission.
    #[error("permission denied")]
    AccessDenied,
    /// The mount is read-only.
    #[error("read-only filesystem")]
    ReadOnly,
    /// The handle is not open for this, or not known.
    #[error("bad file descriptor")]
    BadHandle,
    /// The version this was based on is gone: another client changed or deleted the object.
    #[error("stale: {0}")]
    Stale(String),
    /// The attribute does not exist.
    #[error("no such attribute")]
    NoAttribute,
    /// The attribute value or all metadata together are too large for the store.
    #[error("metadata too large: {0}")]
    MetadataTooLarge(&'static str),
    /// The file would be larger than the store takes.
    #[error("file too large")]
    FileTooLarge,
    /// The offset is beyond the end (SEEK_DATA, SEEK_HOLE).
    #[error("no data beyond the offset")]
    NoSuchOffset,
    /// The file was truncated while it was being sent; the commit begins again.
    #[error("truncated while it was being sent")]
    Cut,
    /// Local disk is full.
    #[error("no space left for local data")]
    NoSpace,
    /// The object is in use in a way that forbids this.
    #[error("busy: {0}")]
    Busy(&'static str),
    /// Source and destination are on different filesystems.
    #[error("cross-device")]
    CrossDevice,
    /// Nothing answered in time.
    #[error("deadline passed")]
    Deadline,
    /// A panic was caught at the boundary.
    #[error("internal error: {0}")]
    Internal(String),
    /// Local disk failed.
    #[error("local disk: {context}: {source}")]
    Local {
        /// What was being done.
        context: &'static str,
        /// Why it failed.
        source: std::sync::Arc<std::io::Error>,
    },
    /// S3 failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Error {
    /// A local disk error; a full disk becomes [`Error::NoSpace`].
    pub fn local(context: &'static str, source: std::io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => Self::NoSpace,
            _ => Self::Local { context, source: std::sync::Arc::new(source) },
        }
    }
}
