//! The one table from errors to errno. Exhaustive on purpose: a new error has to decide.

use libc::{
    E2BIG, EACCES, EBADF, EBUSY, EDQUOT, EEXIST, EFBIG, EILSEQ, EINVAL, EIO, EISDIR, ENAMETOOLONG, ENODATA,
    ENOENT, ENOSPC, ENOTDIR, ENOTEMPTY, ENOTSUP, ENXIO, EPERM, EROFS, ESTALE, EXDEV, c_int,
};

use super::error::Error;
use crate::store::error::ErrorKind;

/// The errno a program sees for `error`.
pub fn errno(error: &Error) -> c_int {
    match error {
        Error::NotFound => ENOENT,
        Error::Exists => EEXIST,
        Error::NotDirectory => ENOTDIR,
        Error::IsDirectory => EISDIR,
        Error::NotEmpty => ENOTEMPTY,
        Error::NameTooLong => ENAMETOOLONG,
        Error::NotUtf8 => EILSEQ,
        Error::Invalid(_) => EINVAL,
        Error::Unsupported(_) => ENOTSUP,
        Error::NotPermitted(_) => EPERM,
        Error::AccessDenied => EACCES,
        Error::ReadOnly => EROFS,
        Error::BadHandle => EBADF,
        Error::Stale(_) => ESTALE,
        Error::NoAttribute => ENODATA,
        Error::MetadataTooLarge(_) => E2BIG,
        Error::FileTooLarge => EFBIG,
        Error::NoSuchOffset => ENXIO,
        Error::NoSpace => ENOSPC,
        Error::Busy(_) => EBUSY,
        Error::CrossDevice => EXDEV,
        Error::Cut | Error::Deadline | Error::Internal(_) | Error::Local { .. } => EIO,
        Error::Store(store) => store_errno(store.kind),
    }
}

/// The errno for a failed store call that no operation gave a meaning of its own.
pub fn store_errno(kind: ErrorKind) -> c_int {
    match kind {
        ErrorKind::NotFound => ENOENT,
        ErrorKind::Precondition => ESTALE,
        ErrorKind::AccessDenied | ErrorKind::Credentials => EACCES,
        ErrorKind::TooLarge => EFBIG,
        ErrorKind::QuotaExceeded => EDQUOT,
        ErrorKind::Unsupported => ENOTSUP,
        ErrorKind::NoSuchBucket
        | ErrorKind::UploadGone
        | ErrorKind::Conflict
        | ErrorKind::NotModified
        | ErrorKind::InvalidRange
        | ErrorKind::ClockSkew
        | ErrorKind::WrongRegion
        | ErrorKind::InvalidBucketName
        | ErrorKind::InvalidRequest
        | ErrorKind::Archived
        | ErrorKind::Throttled
        | ErrorKind::ServerFault
        | ErrorKind::Timeout
        | ErrorKind::Unreachable
        | ErrorKind::Corrupt
        | ErrorKind::Protocol => EIO,
    }
}
