//! Why a store call failed, by condition rather than by status code.

use std::error::Error as StdError;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// Result of a store call.
pub type Result<T> = std::result::Result<T, StoreError>;

/// The condition behind a failed call. Every kind has its errno in `fs::errno`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ErrorKind {
    /// No such object (NoSuchKey, 404 of HEAD).
    NotFound,
    /// No such bucket; never retried.
    NoSuchBucket,
    /// The multipart upload is not known (NoSuchUpload).
    UploadGone,
    /// A condition did not hold (412).
    Precondition,
    /// Another writer was at work at the same time (409 ConditionalRequestConflict, OperationAborted).
    Conflict,
    /// `If-None-Match` held (304).
    NotModified,
    /// The range begins past the end (416).
    InvalidRange,
    /// Credentials are valid but may not do this (403 AccessDenied, AllAccessDisabled); never retried.
    AccessDenied,
    /// Credentials are missing, wrong or expired (InvalidAccessKeyId, SignatureDoesNotMatch, ExpiredToken).
    Credentials,
    /// The clock is off by too much (RequestTimeTooSkewed).
    ClockSkew,
    /// The bucket lives elsewhere (301, PermanentRedirect, AuthorizationHeaderMalformed with a region).
    WrongRegion,
    /// The bucket name cannot be one (InvalidBucketName); never retried.
    InvalidBucketName,
    /// The request itself is wrong: key or metadata too long, malformed (400).
    InvalidRequest,
    /// The object or the part is larger than the store takes (EntityTooLarge).
    TooLarge,
    /// The store is out of room or over a quota (507, QuotaExceeded, XMinioStorageFull).
    QuotaExceeded,
    /// The object is archived and must be restored first (InvalidObjectState).
    Archived,
    /// The store does not have this operation or header (501 NotImplemented).
    Unsupported,
    /// The store asked to slow down and retries were used up (503 SlowDown, 429).
    Throttled,
    /// The store failed and retries were used up (500, 502, 504).
    ServerFault,
    /// No answer within the time allowed.
    Timeout,
    /// No connection: refused, reset, DNS, TLS.
    Unreachable,
    /// The answer ended early or its checksum is wrong.
    Corrupt,
    /// The answer could not be understood.
    Protocol,
}

impl ErrorKind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Self; 23] = [
        Self::NotFound,
        Self::NoSuchBucket,
        Self::UploadGone,
        Self::Precondition,
        Self::Conflict,
        Self::NotModified,
        Self::InvalidRange,
        Self::AccessDenied,
        Self::Credentials,
        Self::ClockSkew,
        Self::WrongRegion,
        Self::InvalidBucketName,
        Self::InvalidRequest,
        Self::TooLarge,
        Self::QuotaExceeded,
        Self::Archived,
        Self::Unsupported,
        Self::Throttled,
        Self::ServerFault,
        Self::Timeout,
        Self::Unreachable,
        Self::Corrupt,
        Self::Protocol,
    ];

    /// Whether the same call may succeed later without anyone doing anything.
    pub fn is_transient(self) -> bool {
        matches!(
            self,
            Self::Conflict
                | Self::Throttled
                | Self::ServerFault
                | Self::Timeout
                | Self::Unreachable
                | Self::Corrupt
        )
    }
}

/// A failed store call with everything the log line needs. Cheap to clone: one failed fetch may answer many
/// waiting readers.
#[derive(Clone, Debug)]
pub struct StoreError(Box<Details>);

/// What a [`StoreError`] carries; reached through `Deref`.
#[derive(Clone, Debug)]
pub struct Details {
    /// Condition.
    pub kind: ErrorKind,
    /// Operation in S3's words (`PutObject`).
    pub operation: &'static str,
    /// Bucket or bucket and key.
    pub target: String,
    /// S3 error code (`NoSuchKey`), when there was one.
    pub code: Option<String>,
    /// Request id, when there was one.
    pub request_id: Option<String>,
    /// The store's message; never holds a secret.
    pub message: String,
    /// Region the store named for a bucket that lives elsewhere.
    pub region: Option<String>,
    /// How often the request was sent, where the operation counts it (put, copy, delete and complete do): a
    /// write that was sent more than once may have been done by an earlier attempt. 0 when not counted.
    pub attempts: u32,
    /// What it came from.
    pub source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Deref for StoreError {
    type Target = Details;

    fn deref(&self) -> &Details {
        &self.0
    }
}

impl DerefMut for StoreError {
    fn deref_mut(&mut self) -> &mut Details {
        &mut self.0
    }
}

impl StoreError {
    /// An error of `kind` from `operation` on `target`, with a message.
    pub fn new(
        kind: ErrorKind,
        operation: &'static str,
        target: impl fmt::Display,
        message: impl Into<String>,
    ) -> Self {
        Self(Box::new(Details {
            kind,
            operation,
            target: target.to_string(),
            code: None,
            request_id: None,
            message: message.into(),
            region: None,
            attempts: 0,
            source: None,
        }))
    }

    /// The same error with the S3 code a store would have sent.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {:?}", self.operation, self.target, self.kind)?;
        if let Some(code) = &self.code {
            write!(f, " ({code})")?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        if let Some(id) = &self.request_id {
            write!(f, " [request {id}]")?;
        }
        Ok(())
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|s| &**s as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_numbered_as_listed() {
        for (at, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, at);
        }
    }
}
