//! Requests that change nothing: listings, HEAD, GET, tags, presigned URLs.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::types::{ChecksumMode, EncodingType};

use super::convert::{self, object_info};
use super::{S3Store, body, errors};
use crate::store::error::{ErrorKind, Result, StoreError};
use crate::store::object_store::{GetRequest, GetResponse};
use crate::store::types::{
    BucketInfo, ETag, ListPage, ListRequest, ListedObject, ObjectInfo, ObjectPath, PresignMethod, Version,
};
use crate::store::validate;

/// Longest validity that signature version 4 allows.
const PRESIGN_EXPIRES_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

impl S3Store {
    pub(super) async fn list_page(&self, request: ListRequest) -> Result<ListPage> {
        const OPERATION: &str = "ListObjectsV2";
        let bucket = &request.bucket;
        let first = request.continuation.is_none();
        let answer = self
            .clients
            .bucket(bucket)
            .quick
            .list_objects_v2()
            .bucket(bucket)
            .encoding_type(EncodingType::Url)
            .set_prefix((!request.prefix.is_empty()).then_some(request.prefix))
            .set_delimiter(request.delimited.then(|| "/".to_owned()))
            .set_start_after(request.start_after.filter(|_| first))
            .set_continuation_token(request.continuation)
            .set_max_keys((request.max_keys > 0).then(|| i32::try_from(request.max_keys).unwrap_or(i32::MAX)))
            .send()
            .await
            .map_err(|error| self.failed(OPERATION, bucket, bucket, error))?;
        let encoded = answer.encoding_type() == Some(&EncodingType::Url);
        let decode = |text: &str| convert::listed_key(OPERATION, bucket, text, encoded);
        let mut page = ListPage::default();
        for object in answer.contents() {
            let Some(key) = object.key() else { continue };
            page.objects.push(ListedObject {
                key: decode(key)?,
                version: Version {
                    etag: ETag::new(object.e_tag().unwrap_or_default()),
                    last_modified: convert::whole_seconds(object.last_modified()),
                    size: convert::size(object.size()),
                },
                storage_class: convert::listed_class(object.storage_class()),
            });
        }
        for prefix in answer.common_prefixes().iter().filter_map(|prefix| prefix.prefix()) {
            page.prefixes.push(decode(prefix)?);
        }
        if answer.is_truncated() == Some(true) {
            page.next = answer.next_continuation_token;
            if page.next.is_none() {
                let message = "the listing goes on but has no continuation token";
                return Err(StoreError::new(ErrorKind::Protocol, OPERATION, bucket, message));
            }
        }
        Ok(page)
    }

    pub(super) async fn buckets(&self) -> Result<Vec<BucketInfo>> {
        const OPERATION: &str = "ListBuckets";
        let mut found = Vec::new();
        let mut token = None;
        loop {
            // AWS names each bucket's region only to a request with a parameter.
            let answer = self
                .clients
                .service()
                .quick
                .list_buckets()
                .set_max_buckets(self.clients.is_aws().then_some(1_000))
                .set_continuation_token(token)
                .send()
                .await
                .map_err(|error| errors::from_sdk(OPERATION, "s3", error))?;
            for bucket in answer.buckets() {
                let Some(name) = bucket.name() else { continue };
                if let Some(region) = bucket.bucket_region() {
                    self.clients.follow(name, region);
                }
                let created = bucket.creation_date().map(|time| convert::whole_seconds(Some(time)));
                found.push(BucketInfo { name: name.to_owned(), created });
            }
            token = answer.continuation_token.filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(found);
            }
        }
    }

    /// HeadBucket. A failed HEAD has no code, so that a one-key listing is asked why; a bucket that lives in
    /// another region is asked again there.
    pub(super) async fn head_bucket_or_why(&self, bucket: &str) -> Result<()> {
        const OPERATION: &str = "HeadBucket";
        let mut moved = false;
        loop {
            let sent = self.clients.bucket(bucket).quick.head_bucket().bucket(bucket).send().await;
            let Err(error) = sent else { return Ok(()) };
            let error = errors::from_sdk(OPERATION, bucket, error);
            let unclear = matches!(error.kind, ErrorKind::AccessDenied | ErrorKind::InvalidRequest);
            let reason = match unclear && error.code.is_none() && error.region.is_none() {
                true => {
                    let request =
                        ListRequest { bucket: bucket.to_owned(), max_keys: 1, ..ListRequest::default() };
                    match self.list_page(request).await {
                        Ok(_) => return Ok(()),
                        Err(reason) => reason,
                    }
                }
                false => error,
            };
            match &reason.region {
                Some(region) if !moved && self.clients.follow(bucket, region) => moved = true,
                _ => return Err(reason),
            }
        }
    }

    pub(super) async fn head_object(&self, path: &ObjectPath) -> Result<ObjectInfo> {
        const OPERATION: &str = "HeadObject";
        validate::key(OPERATION, path)?;
        let answer = self
            .clients
            .bucket(&path.bucket)
            .quick
            .head_object()
            .bucket(&*path.bucket)
            .key(&*path.key)
            .send()
            .await
            .map_err(|error| self.failed(OPERATION, &path.bucket, path, error))?;
        let size = convert::size(answer.content_length());
        object_info!(OPERATION, path, &answer, size, answer.archive_status())
    }

    pub(super) async fn get_object(&self, path: &ObjectPath, request: GetRequest) -> Result<GetResponse> {
        const OPERATION: &str = "GetObject";
        validate::key(OPERATION, path)?;
        if let Some(range) = request.range {
            validate::range(OPERATION, path, range)?;
        }
        // A checksum covers the whole object; of a range the store has none.
        let verify = request.range.is_none() && self.clients.checksum().is_some();
        let answer = self
            .clients
            .bucket(&path.bucket)
            .quick
            .get_object()
            .bucket(&*path.bucket)
            .key(&*path.key)
            .set_range(request.range.map(convert::range_header))
            .set_if_match(request.if_match.map(|etag| etag.0.to_string()))
            .set_if_none_match(request.if_none_match.map(|etag| etag.0.to_string()))
            .set_checksum_mode(verify.then_some(ChecksumMode::Enabled))
            .send()
            .await
            .map_err(|error| self.failed(OPERATION, &path.bucket, path, error))?;
        let protocol = |message: &'static str| StoreError::new(ErrorKind::Protocol, OPERATION, path, message);
        let sent = answer.content_length().and_then(|len| u64::try_from(len).ok()).ok_or_else(|| {
            protocol("the answer has no length") // Without one a short body could not be told.
        })?;
        let (offset, announced, total) = match answer.content_range() {
            Some(text) => {
                convert::content_range(text).ok_or_else(|| protocol("Content-Range is malformed"))?
            }
            None => (0, sent, sent),
        };
        let (first, wanted) = request.range.unwrap_or((0, total));
        if offset != first || announced != sent {
            return Err(protocol("the answer is not the range that was asked for"));
        }
        let len = wanted.min(sent);
        let info = object_info!(OPERATION, path, &answer, total, None)?;
        let config = self.clients.config();
        let body = body::stream(
            answer.body,
            path.clone(),
            len,
            sent > len,
            config.read_timeout,
            config.transfer_timeout,
        );
        Ok(GetResponse { info, offset, len, body })
    }

    pub(super) async fn object_tags(&self, path: &ObjectPath) -> Result<BTreeMap<String, String>> {
        const OPERATION: &str = "GetObjectTagging";
        validate::key(OPERATION, path)?;
        let answer = self
            .clients
            .bucket(&path.bucket)
            .quick
            .get_object_tagging()
            .bucket(&*path.bucket)
            .key(&*path.key)
            .send()
            .await
            .map_err(|error| self.failed(OPERATION, &path.bucket, path, error))?;
        Ok(answer.tag_set().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect())
    }

    pub(super) async fn presigned_url(
        &self,
        path: &ObjectPath,
        method: PresignMethod,
        expires: Duration,
    ) -> Result<String> {
        let operation = match method {
            PresignMethod::Get => "GetObject",
            PresignMethod::Put => "PutObject",
        };
        validate::key(operation, path)?;
        let refuse = |kind, message: &str| StoreError::new(kind, operation, path, message);
        if self.clients.config().anonymous {
            return Err(refuse(ErrorKind::Credentials, "an anonymous client cannot sign a URL"));
        }
        if expires.is_zero() || expires > PRESIGN_EXPIRES_MAX {
            return Err(refuse(ErrorKind::InvalidRequest, "a URL is valid for one second to seven days"));
        }
        let config = PresigningConfig::expires_in(expires)
            .map_err(|error| refuse(ErrorKind::InvalidRequest, &error.to_string()))?;
        let views = self.clients.bucket(&path.bucket);
        let (bucket, key) = (&*path.bucket, &*path.key);
        let signed = match method {
            PresignMethod::Get => views
                .quick
                .get_object()
                .bucket(bucket)
                .key(key)
                .presigned(config)
                .await
                .map_err(|error| self.failed(operation, bucket, path, error)),
            PresignMethod::Put => views
                .quick
                .put_object()
                .bucket(bucket)
                .key(key)
                .presigned(config)
                .await
                .map_err(|error| self.failed(operation, bucket, path, error)),
        }?;
        Ok(signed.uri().to_owned())
    }
}
