//! Requests that change whole objects: PUT, copy, delete, tags.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{Delete, MetadataDirective, ObjectIdentifier, Tag, Tagging, TaggingDirective};
use futures_util::stream::{self, StreamExt};

use super::S3Store;
use super::attempts::{Attempts, settle_delete};
use super::convert::{self, with_placement, with_properties};
use super::errors;
use crate::store::error::{ErrorKind, Result, StoreError};
use crate::store::types::{
    Body, Condition, CopyProperties, CopyRequest, DeleteEntry, DeleteFailure, ETag, ObjectPath, Properties,
    Written,
};
use crate::store::validate;

/// Single deletes in flight for keys that a batch cannot carry.
const SINGLE_DELETES: usize = 8;

impl S3Store {
    pub(super) async fn put_object(
        &self,
        path: &ObjectPath,
        body: Body,
        properties: &Properties,
        tags: &BTreeMap<String, String>,
        condition: Condition,
    ) -> Result<Written> {
        const OPERATION: &str = "PutObject";
        validate::key(OPERATION, path)?;
        validate::properties(OPERATION, path, properties)?;
        validate::tags(OPERATION, path, tags)?;
        validate::body(OPERATION, path, &body)?;
        let attempts = Attempts::default();
        let (if_match, if_none_match) = condition_headers(&condition);
        let request = self.clients.bucket(&path.bucket).upload.put_object();
        let sent = with_placement!(with_properties!(request, properties), &properties.placement())
            .bucket(&*path.bucket)
            .key(&*path.key)
            .set_tagging(convert::tagging(tags))
            .set_if_match(if_match)
            .set_if_none_match(if_none_match)
            .set_checksum_algorithm(self.clients.checksum().map(convert::sdk_algorithm))
            .body(ByteStream::from(body.0.clone()))
            .customize()
            .disable_payload_signing()
            .interceptor(attempts.clone())
            .mutate_request(convert::expires_header(properties.expires.clone()))
            .send()
            .await;
        let error = match sent {
            Ok(answer) => return written(OPERATION, path, answer.e_tag, answer.version_id),
            Err(error) => self.failed_after(OPERATION, path, error, &attempts),
        };
        self.settle_put(error, &attempts, path, body.0, properties).await
    }

    pub(super) async fn copy_object(&self, request: CopyRequest) -> Result<Written> {
        const OPERATION: &str = "CopyObject";
        validate::key(OPERATION, &request.from)?;
        validate::key(OPERATION, &request.to)?;
        let mut from_etag = request.from_etag.clone();
        // S3 gives the copy the bucket's storage class and encryption unless the request repeats the source's.
        let (placement, replace) = match &request.properties {
            CopyProperties::Keep(Some(placement)) => (placement.clone(), None),
            CopyProperties::Keep(None) => {
                let source = self.head_object(&request.from).await?;
                from_etag.get_or_insert(source.version.etag);
                (source.properties.placement(), None)
            }
            CopyProperties::Replace(properties) => {
                validate::properties(OPERATION, &request.to, properties)?;
                (properties.placement(), Some(properties))
            }
        };
        let attempts = Attempts::default();
        let (if_match, if_none_match) = condition_headers(&request.condition);
        let mut copy = self.clients.bucket(&request.to.bucket).at_work.copy_object();
        copy = match replace {
            Some(properties) => with_properties!(copy, properties)
                .metadata_directive(MetadataDirective::Replace)
                .tagging_directive(TaggingDirective::Copy),
            None => copy.metadata_directive(MetadataDirective::Copy),
        };
        let sent = with_placement!(copy, &placement)
            .bucket(&*request.to.bucket)
            .key(&*request.to.key)
            .copy_source(convert::copy_source(&request.from))
            .set_copy_source_if_match(from_etag.map(|etag| etag.0.to_string()))
            .set_if_match(if_match)
            .set_if_none_match(if_none_match)
            .customize()
            .interceptor(attempts.clone())
            .mutate_request(convert::expires_header(
                replace.and_then(|properties| properties.expires.clone()),
            ))
            .send()
            .await;
        let error = match sent {
            Ok(answer) => {
                let result = answer.copy_object_result;
                let last_modified = result
                    .as_ref()
                    .and_then(|result| result.last_modified())
                    .map(|time| convert::whole_seconds(Some(time)));
                let etag = result.and_then(|result| result.e_tag);
                let written = written(OPERATION, &request.to, etag, answer.version_id)?;
                return Ok(Written { last_modified, ..written });
            }
            Err(error) => self.failed_after(OPERATION, &request.to, error, &attempts),
        };
        self.settle_copy(error, &attempts, &request).await
    }

    pub(super) async fn delete_object(&self, path: &ObjectPath, condition: Condition) -> Result<()> {
        const OPERATION: &str = "DeleteObject";
        validate::key(OPERATION, path)?;
        let if_match = match &condition {
            Condition::None => None,
            Condition::Match(etag) => Some(etag.0.to_string()),
            Condition::Absent => {
                let message = "there is no condition to delete what is absent";
                return Err(StoreError::new(ErrorKind::InvalidRequest, OPERATION, path, message));
            }
        };
        let attempts = Attempts::default();
        let sent = self
            .clients
            .bucket(&path.bucket)
            .quick
            .delete_object()
            .bucket(&*path.bucket)
            .key(&*path.key)
            .set_if_match(if_match)
            .customize()
            .interceptor(attempts.clone())
            .send()
            .await;
        match sent {
            Ok(_) => Ok(()),
            Err(error) => {
                let error = self.failed_after(OPERATION, path, error, &attempts);
                match (&condition, error.kind) {
                    // Some stores answer 404 to a plain delete of a missing key.
                    (Condition::None, ErrorKind::NotFound) => Ok(()),
                    _ => settle_delete(error, &attempts, &condition),
                }
            }
        }
    }

    pub(super) async fn delete_objects(
        &self,
        bucket: &str,
        entries: Vec<DeleteEntry>,
    ) -> Result<Vec<DeleteFailure>> {
        validate::batch("DeleteObjects", bucket, entries.len())?;
        let (batch, single): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| fits_xml(&entry.key));
        let mut failures = match batch.is_empty() {
            true => Vec::new(),
            false => self.delete_in_batch(bucket, batch).await?,
        };
        let singles: Vec<_> = stream::iter(single)
            .map(|entry| async move {
                let path = ObjectPath::new(bucket, entry.key.as_str());
                let condition = entry.etag.map_or(Condition::None, Condition::Match);
                let done = self.delete_object(&path, condition).await;
                done.err().map(|error| DeleteFailure { key: entry.key, error })
            })
            .buffer_unordered(SINGLE_DELETES)
            .collect()
            .await;
        failures.extend(singles.into_iter().flatten());
        Ok(failures)
    }

    async fn delete_in_batch(&self, bucket: &str, entries: Vec<DeleteEntry>) -> Result<Vec<DeleteFailure>> {
        const OPERATION: &str = "DeleteObjects";
        let broken = |error: aws_sdk_s3::error::BuildError| {
            StoreError::new(ErrorKind::InvalidRequest, OPERATION, bucket, error.to_string())
        };
        let conditional: HashMap<String, bool> =
            entries.iter().map(|entry| (entry.key.clone(), entry.etag.is_some())).collect();
        let mut delete = Delete::builder().quiet(true);
        for entry in entries {
            let etag = entry.etag.map(|etag| etag.0.to_string());
            let object =
                ObjectIdentifier::builder().key(entry.key).set_e_tag(etag).build().map_err(broken)?;
            delete = delete.objects(object);
        }
        let answer = self
            .clients
            .bucket(bucket)
            .quick
            .delete_objects()
            .bucket(bucket)
            .delete(delete.build().map_err(broken)?)
            .send()
            .await
            .map_err(|error| self.failed(OPERATION, bucket, bucket, error))?;
        let mut failures = Vec::new();
        for failure in answer.errors() {
            let key = failure.key().unwrap_or_default().to_owned();
            let kind = errors::kind_of_entry(failure.code());
            if kind == ErrorKind::NotFound && conditional.get(&key) != Some(&true) {
                continue;
            }
            let path = ObjectPath::new(bucket, key.as_str());
            let mut error = StoreError::new(kind, OPERATION, path, failure.message().unwrap_or_default());
            error.code = failure.code().map(str::to_owned);
            failures.push(DeleteFailure { key, error });
        }
        Ok(failures)
    }

    pub(super) async fn replace_tags(
        &self,
        path: &ObjectPath,
        tags: &BTreeMap<String, String>,
    ) -> Result<()> {
        const OPERATION: &str = "PutObjectTagging";
        validate::key(OPERATION, path)?;
        validate::tags(OPERATION, path, tags)?;
        let broken = |error: aws_sdk_s3::error::BuildError| {
            StoreError::new(ErrorKind::InvalidRequest, OPERATION, path, error.to_string())
        };
        let set = tags
            .iter()
            .map(|(key, value)| Tag::builder().key(key).value(value).build())
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(broken)?;
        let tagging = Tagging::builder().set_tag_set(Some(set)).build().map_err(broken)?;
        self.clients
            .bucket(&path.bucket)
            .quick
            .put_object_tagging()
            .bucket(&*path.bucket)
            .key(&*path.key)
            .tagging(tagging)
            .send()
            .await
            .map_err(|error| self.failed(OPERATION, &path.bucket, path, error))?;
        Ok(())
    }
}

/// `If-Match` and `If-None-Match` of a condition on what is written.
pub(super) fn condition_headers(condition: &Condition) -> (Option<String>, Option<String>) {
    match condition {
        Condition::None => (None, None),
        Condition::Absent => (None, Some("*".to_owned())),
        Condition::Match(etag) => (Some(etag.0.to_string()), None),
    }
}

/// The answer of a write, which always has an ETag.
pub(super) fn written(
    operation: &'static str,
    path: &ObjectPath,
    etag: Option<String>,
    version_id: Option<String>,
) -> Result<Written> {
    match etag {
        Some(etag) => Ok(Written { etag: ETag::new(etag), last_modified: None, version_id }),
        None => Err(StoreError::new(ErrorKind::Protocol, operation, path, "the answer has no ETag")),
    }
}

/// Whether XML 1.0 can carry a key. Control characters cannot be written at all, and a carriage return does
/// not survive every parser. <https://www.w3.org/TR/xml/#charsets>
fn fits_xml(key: &str) -> bool {
    key.chars().all(|c| c >= ' ' && !matches!(c, '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}'))
}
