//! Conditional requests: what `If-Match` and its relatives mean for reads, writes, deletes and copy sources.
//!
//! Sources: RFC 9110 section 13, and the S3 API pages of GetObject, PutObject, DeleteObject and CopyObject.
//! Pure functions; whoever calls them for a write holds the lock under which the write happens.

use http::HeaderMap;
use s3s::dto::{ETagCondition, Timestamp};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};
use time::OffsetDateTime;

/// What the conditions of a request are compared with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Existing<'a> {
    pub(crate) etag: &'a str,
    /// Whole seconds.
    pub(crate) modified: OffsetDateTime,
}

/// Conditions on the object that is read: GET, HEAD and the source of a copy.
#[derive(Debug, Default, Clone)]
pub(crate) struct ReadConditions {
    pub(crate) if_match: Option<ETagCondition>,
    pub(crate) if_none_match: Option<ETagCondition>,
    pub(crate) if_modified_since: Option<Timestamp>,
    pub(crate) if_unmodified_since: Option<Timestamp>,
}

/// The outcome of [`ReadConditions::evaluate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Proceed,
    NotModified,
    PreconditionFailed,
}

/// Whether a condition names this ETag. Comparison ignores quotes and the weak mark, as S3 does.
fn names(condition: &ETagCondition, etag: &str) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(wanted) => wanted.value() == etag,
    }
}

fn changed_since(existing: &Existing<'_>, when: &Timestamp) -> bool {
    existing.modified > OffsetDateTime::from(when.clone())
}

impl ReadConditions {
    /// Compares an existing object with the conditions. A true `If-Match` outweighs `If-Unmodified-Since`, a
    /// false `If-None-Match` outweighs `If-Modified-Since`, as the S3 page of GetObject spells out.
    pub(crate) fn evaluate(&self, existing: &Existing<'_>) -> Verdict {
        if let Some(condition) = &self.if_match {
            if !names(condition, existing.etag) {
                return Verdict::PreconditionFailed;
            }
        } else if let Some(when) = &self.if_unmodified_since
            && changed_since(existing, when)
        {
            return Verdict::PreconditionFailed;
        }
        if let Some(condition) = &self.if_none_match {
            if names(condition, existing.etag) {
                return Verdict::NotModified;
            }
        } else if let Some(when) = &self.if_modified_since
            && !changed_since(existing, when)
        {
            return Verdict::NotModified;
        }
        Verdict::Proceed
    }

    /// As [`Self::evaluate`], for the source of a copy, where "not modified" is a failed condition too.
    ///
    /// # Errors
    /// PreconditionFailed (412).
    pub(crate) fn check_source(&self, existing: &Existing<'_>) -> S3Result<()> {
        match self.evaluate(existing) {
            Verdict::Proceed => Ok(()),
            Verdict::NotModified | Verdict::PreconditionFailed => Err(precondition_failed()),
        }
    }
}

/// Conditions on the key that is written: PutObject, CompleteMultipartUpload, CopyObject's destination.
#[derive(Debug, Default, Clone)]
pub(crate) struct WriteConditions {
    pub(crate) if_match: Option<ETagCondition>,
    pub(crate) if_none_match: Option<ETagCondition>,
}

impl WriteConditions {
    /// The conditions that stand in the headers of a request, for operations whose input has no field for them.
    ///
    /// # Errors
    /// InvalidArgument when a header is no ETag.
    pub(crate) fn from_headers(headers: &HeaderMap) -> S3Result<Self> {
        let parse = |name| match headers.get(name) {
            None => Ok(None),
            Some(value) => ETagCondition::parse_http_header(value.as_bytes())
                .map(Some)
                .map_err(|error| s3_error!(error, InvalidArgument, "invalid condition")),
        };
        Ok(Self {
            if_match: parse(http::header::IF_MATCH)?,
            if_none_match: parse(http::header::IF_NONE_MATCH)?,
        })
    }

    /// Whether a write may replace what is there.
    ///
    /// # Errors
    /// PreconditionFailed (412); NoSuchKey (404) for If-Match where nothing is; NotImplemented for If-None-Match
    /// with an ETag, which S3 does not take on writes.
    pub(crate) fn check(&self, existing: Option<&Existing<'_>>) -> S3Result<()> {
        match (&self.if_none_match, existing) {
            (None, _) | (Some(ETagCondition::Any), None) => {}
            (Some(ETagCondition::Any), Some(_)) => return Err(precondition_failed()),
            (Some(ETagCondition::ETag(_)), _) => {
                return Err(s3_error!(NotImplemented, "If-None-Match takes only * on a write"));
            }
        }
        match (&self.if_match, existing) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(S3ErrorCode::NoSuchKey.into()),
            (Some(condition), Some(existing)) if names(condition, existing.etag) => Ok(()),
            (Some(_), Some(_)) => Err(precondition_failed()),
        }
    }
}

/// The error of a failed condition: 412 PreconditionFailed.
pub(crate) fn precondition_failed() -> S3Error {
    s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn etag(value: &str) -> Option<ETagCondition> {
        Some(ETagCondition::parse_http_header(value.as_bytes()).unwrap())
    }

    fn at(seconds: i64) -> Option<Timestamp> {
        Some(OffsetDateTime::from_unix_timestamp(seconds).unwrap().into())
    }

    fn existing() -> Existing<'static> {
        Existing { etag: "abc", modified: OffsetDateTime::from_unix_timestamp(1000).unwrap() }
    }

    #[test]
    fn reads() {
        let check = |if_match, if_none_match, if_modified_since, if_unmodified_since| {
            ReadConditions { if_match, if_none_match, if_modified_since, if_unmodified_since }
                .evaluate(&existing())
        };
        assert_eq!(check(None, None, None, None), Verdict::Proceed);
        assert_eq!(check(etag("\"abc\""), None, None, None), Verdict::Proceed);
        assert_eq!(check(etag("abc"), None, None, None), Verdict::Proceed);
        assert_eq!(check(etag("*"), None, None, None), Verdict::Proceed);
        assert_eq!(check(etag("\"abd\""), None, None, None), Verdict::PreconditionFailed);
        assert_eq!(check(None, etag("\"abc\""), None, None), Verdict::NotModified);
        assert_eq!(check(None, etag("\"abd\""), None, None), Verdict::Proceed);
        assert_eq!(check(None, None, at(1000), None), Verdict::NotModified);
        assert_eq!(check(None, None, at(999), None), Verdict::Proceed);
        assert_eq!(check(None, None, None, at(999)), Verdict::PreconditionFailed);
        assert_eq!(check(None, None, None, at(1000)), Verdict::Proceed);
        // The S3 page's two combinations.
        assert_eq!(check(etag("\"abc\""), None, None, at(1)), Verdict::Proceed);
        assert_eq!(check(None, etag("\"abc\""), at(1), None), Verdict::NotModified);
    }

    #[test]
    fn writes() {
        let check = |if_match, if_none_match, there: bool| {
            let existing = existing();
            WriteConditions { if_match, if_none_match }
                .check(there.then_some(&existing))
                .map_err(|error| error.code().as_str().to_owned())
        };
        assert_eq!(check(None, None, true), Ok(()));
        assert_eq!(check(None, etag("*"), false), Ok(()));
        assert_eq!(check(None, etag("*"), true), Err("PreconditionFailed".into()));
        assert_eq!(check(None, etag("\"abc\""), true), Err("NotImplemented".into()));
        assert_eq!(check(etag("\"abc\""), None, true), Ok(()));
        assert_eq!(check(etag("\"abd\""), None, true), Err("PreconditionFailed".into()));
        assert_eq!(check(etag("\"abc\""), None, false), Err("NoSuchKey".into()));
        assert_eq!(check(etag("*"), None, false), Err("NoSuchKey".into()));
    }
}
