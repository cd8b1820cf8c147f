//! Counts how often the SDK sent a request, and decides what a refusal of a repeated write means.
//!
//! A write whose answer was lost is sent again by the SDK, with its condition. When the first attempt had been
//! carried out, the second one fails against our own work: `If-None-Match: *` finds the object we just made, an
//! upload we just completed is gone. Looking at the object tells.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use bytes::Bytes;
use md5::{Digest, Md5};

use super::S3Store;
use crate::store::error::{ErrorKind, Result, StoreError};
use crate::store::types::{
    Condition, CopyProperties, CopyRequest, ETag, ObjectInfo, ObjectPath, Part, Properties, Written,
};

/// Number of times one request was sent.
#[derive(Clone, Default, Debug)]
pub(super) struct Attempts(Arc<AtomicU32>);

impl Attempts {
    pub(super) fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    fn were_repeated(&self) -> bool {
        self.count() > 1
    }
}

impl Intercept for Attempts {
    fn name(&self) -> &'static str {
        "Attempts"
    }

    fn read_before_attempt(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl S3Store {
    /// A conditional PutObject that was refused.
    pub(super) async fn settle_put(
        &self,
        error: StoreError,
        attempts: &Attempts,
        path: &ObjectPath,
        body: Bytes,
        properties: &Properties,
    ) -> Result<Written> {
        if !attempts.were_repeated() || error.kind != ErrorKind::Precondition {
            return Err(error);
        }
        let size = body.len() as u64;
        self.settle(error, path, |found| found.version.size == size && same_metadata(found, properties))
            .await
            .and_then_digest(body)
            .await
    }

    /// A CompleteMultipartUpload that was refused.
    pub(super) async fn settle_complete(
        &self,
        error: StoreError,
        attempts: &Attempts,
        path: &ObjectPath,
        parts: &[Part],
    ) -> Result<Written> {
        let gone = error.kind == ErrorKind::UploadGone;
        if !attempts.were_repeated() || !(gone || error.kind == ErrorKind::Precondition) {
            return Err(error);
        }
        let size: u64 = parts.iter().map(|part| part.size).sum();
        let etag = multipart_etag(parts);
        // With SSE-KMS the ETag is not what the parts say; size and number of parts are.
        let ending = format!("-{}", parts.len());
        self.settle(error, path, |found| {
            let found = &found.version;
            found.size == size
                && (Some(&found.etag) == etag.as_ref() || (gone && found.etag.unquoted().ends_with(&ending)))
        })
        .await
        .result
    }

    /// A conditional CopyObject that was refused.
    pub(super) async fn settle_copy(
        &self,
        error: StoreError,
        attempts: &Attempts,
        request: &CopyRequest,
    ) -> Result<Written> {
        let repeated = attempts.were_repeated() && error.kind == ErrorKind::Precondition;
        let Some(etag) = request.from_etag.as_ref().filter(|_| repeated && request.from != request.to) else {
            return Err(error);
        };
        self.settle(error, &request.to, |found| {
            found.version.etag == *etag
                && match &request.properties {
                    CopyProperties::Keep(_) => true,
                    CopyProperties::Replace(properties) => same_metadata(found, properties),
                }
        })
        .await
        .result
    }

    async fn settle(
        &self,
        error: StoreError,
        path: &ObjectPath,
        is_ours: impl FnOnce(&ObjectInfo) -> bool,
    ) -> Settled {
        let result = match self.head_object(path).await {
            Ok(found) if is_ours(&found) => Ok(Written {
                etag: found.version.etag,
                last_modified: Some(found.version.last_modified),
                version_id: found.version_id,
            }),
            Ok(_) | Err(_) => Err(error.clone()),
        };
        Settled { result, error }
    }
}

/// What looking at the object said, and the error in case more speaks against it.
struct Settled {
    result: Result<Written>,
    error: StoreError,
}

impl Settled {
    /// Ours only when the ETag is the MD5 of the body as well.
    async fn and_then_digest(self, body: Bytes) -> Result<Written> {
        let written = self.result?;
        let digest = tokio::task::spawn_blocking(move || hex_etag(&Md5::digest(&body), "")).await;
        match digest {
            Ok(etag) if etag == written.etag => Ok(written),
            Ok(_) | Err(_) => Err(self.error),
        }
    }
}

/// Outcome of a conditional delete: what an earlier attempt removed is gone as wished.
pub(super) fn settle_delete(error: StoreError, attempts: &Attempts, condition: &Condition) -> Result<()> {
    match (error.kind, condition) {
        (ErrorKind::NotFound, Condition::Match(_)) if attempts.were_repeated() => Ok(()),
        _ => Err(error),
    }
}

fn same_metadata(found: &ObjectInfo, properties: &Properties) -> bool {
    found.properties.metadata == properties.metadata
}

fn hex_etag(digest: &[u8], ending: &str) -> ETag {
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    ETag::new(format!("\"{hex}{ending}\""))
}

/// The ETag of an object made of parts: MD5 of the parts' MD5s, and their number. `None` when a part's ETag
/// is no MD5.
fn multipart_etag(parts: &[Part]) -> Option<ETag> {
    let mut digest = Md5::new();
    for part in parts {
        let hex = part.etag.unquoted();
        if hex.len() != 32 || !hex.is_ascii() {
            return None;
        }
        for at in (0..hex.len()).step_by(2) {
            digest.update([u8::from_str_radix(&hex[at..at + 2], 16).ok()?]);
        }
    }
    Some(hex_etag(&digest.finalize(), &format!("-{}", parts.len())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn the_etag_of_an_upload_follows_from_its_parts() {
        let part = |number, etag: &str| Part { number, etag: ETag::new(etag), size: 1, checksum: None };
        let parts = [
            part(1, "\"0cc175b9c0f1b6a831c399e269772661\""), // MD5 of "a"
            part(2, "\"92eb5ffee6ae2fec3ad71c777531578f\""), // MD5 of "b"
        ];
        // printf 0cc1...92eb... | xxd -r -p | md5sum
        let mut all = Md5::digest(b"a").to_vec();
        all.extend(Md5::digest(b"b"));
        assert_eq!(multipart_etag(&parts).unwrap(), hex_etag(&Md5::digest(&all), "-2"));
        assert_eq!(multipart_etag(&[part(1, "\"zz\"")]), None);
    }
}
