//! The boundary to S3: everything above speaks this trait, nothing above knows the SDK.
//!
//! Semantics that every implementation keeps, and that `tests/store_conformance.rs` checks on each:
//! * A condition that does not hold is [`ErrorKind::Precondition`]; a missing object is
//!   [`ErrorKind::NotFound`], also for `Condition::Match` on a missing object (S3 answers 404 there).
//! * A body is either delivered whole or ends in an error: a short body is never an `Ok`.
//! * `delete` of a missing key succeeds when unconditional, as on S3.
//! * Listings are in byte order of the key (UTF-8).
//!
//! [`ErrorKind::Precondition`]: super::error::ErrorKind::Precondition
//! [`ErrorKind::NotFound`]: super::error::ErrorKind::NotFound

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use super::error::Result;
use super::types::{
    Body, BucketInfo, Condition, CopyRequest, DeleteEntry, DeleteFailure, ETag, ListPage, ListRequest,
    ObjectInfo, ObjectPath, Part, PendingUpload, PresignMethod, Properties, UploadId, Written,
};

/// Which bytes to get, of which version.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct GetRequest {
    /// First byte and number of bytes; `None` gets the whole object. A range that reaches past the end is
    /// cut; one that begins past the end is `InvalidRange`, as on S3.
    pub range: Option<(u64, u64)>,
    /// Only this version (`If-Match`); another one answers `Precondition`.
    pub if_match: Option<ETag>,
    /// Only another version (`If-None-Match`); the same answers `NotModified`.
    pub if_none_match: Option<ETag>,
}

/// An answered GET. The stream yields the bytes of the range in order.
pub struct GetResponse {
    /// What the object is; `info.version.size` is the size of the whole object, not of the range.
    pub info: ObjectInfo,
    /// Offset of the first byte of the body in the object.
    pub offset: u64,
    /// Bytes the body has.
    pub len: u64,
    /// The body.
    pub body: BoxStream<'static, Result<Bytes>>,
}

/// An S3 store. Cloning the `Arc` around it is the way to share it; there is one per process.
pub trait ObjectStore: Send + Sync + 'static {
    /// One page of a listing. ListObjectsV2.
    fn list(&self, request: ListRequest) -> BoxFuture<'_, Result<ListPage>>;

    /// Every bucket the credentials may see. ListBuckets.
    fn list_buckets(&self) -> BoxFuture<'_, Result<Vec<BucketInfo>>>;

    /// Succeeds when the bucket is there and ours to use. HeadBucket.
    fn head_bucket<'a>(&'a self, bucket: &'a str) -> BoxFuture<'a, Result<()>>;

    /// What an object is, without its bytes. HeadObject.
    fn head<'a>(&'a self, path: &'a ObjectPath) -> BoxFuture<'a, Result<ObjectInfo>>;

    /// A range of an object, pinned to a version on request. GetObject.
    fn get<'a>(&'a self, path: &'a ObjectPath, request: GetRequest) -> BoxFuture<'a, Result<GetResponse>>;

    /// Replaces or creates an object. `tags` become its tags; an empty map sets none. PutObject.
    fn put<'a>(
        &'a self,
        path: &'a ObjectPath,
        body: Body,
        properties: &'a Properties,
        tags: &'a BTreeMap<String, String>,
        condition: Condition,
    ) -> BoxFuture<'a, Result<Written>>;

    /// Copies an object on the server. CopyObject.
    fn copy(&self, request: CopyRequest) -> BoxFuture<'_, Result<Written>>;

    /// Deletes an object. DeleteObject.
    fn delete<'a>(&'a self, path: &'a ObjectPath, condition: Condition) -> BoxFuture<'a, Result<()>>;

    /// Deletes up to [`DELETE_BATCH_MAX`](super::types::DELETE_BATCH_MAX) keys; returns those that stayed.
    /// DeleteObjects.
    fn delete_batch<'a>(
        &'a self,
        bucket: &'a str,
        entries: Vec<DeleteEntry>,
    ) -> BoxFuture<'a, Result<Vec<DeleteFailure>>>;

    /// Begins a multipart upload. CreateMultipartUpload.
    fn create_upload<'a>(
        &'a self,
        path: &'a ObjectPath,
        properties: &'a Properties,
        tags: &'a BTreeMap<String, String>,
    ) -> BoxFuture<'a, Result<UploadId>>;

    /// Uploads part `number` (1 to 10,000), replacing an earlier one of that number. UploadPart.
    fn upload_part<'a>(
        &'a self,
        path: &'a ObjectPath,
        upload: &'a UploadId,
        number: u32,
        body: Body,
    ) -> BoxFuture<'a, Result<Part>>;

    /// Makes part `number` of a range (first byte, length) of another object of that version.
    /// UploadPartCopy.
    fn copy_part<'a>(
        &'a self,
        path: &'a ObjectPath,
        upload: &'a UploadId,
        number: u32,
        from: &'a ObjectPath,
        from_etag: &'a ETag,
        range: (u64, u64),
    ) -> BoxFuture<'a, Result<Part>>;

    /// Makes the object of its parts, which are in ascending order of their numbers.
    /// CompleteMultipartUpload. `UploadGone` when the store no longer knows the upload.
    fn complete_upload<'a>(
        &'a self,
        path: &'a ObjectPath,
        upload: &'a UploadId,
        parts: &'a [Part],
        condition: Condition,
    ) -> BoxFuture<'a, Result<Written>>;

    /// Gives an upload up. Succeeds when it is gone already. AbortMultipartUpload.
    fn abort_upload<'a>(&'a self, path: &'a ObjectPath, upload: &'a UploadId) -> BoxFuture<'a, Result<()>>;

    /// Parts an upload has so far, in ascending order. ListParts.
    fn list_parts<'a>(
        &'a self,
        path: &'a ObjectPath,
        upload: &'a UploadId,
    ) -> BoxFuture<'a, Result<Vec<Part>>>;

    /// Uploads under way below a prefix, every page of them. ListMultipartUploads.
    fn list_uploads<'a>(
        &'a self,
        bucket: &'a str,
        prefix: &'a str,
    ) -> BoxFuture<'a, Result<Vec<PendingUpload>>>;

    /// Tags of an object. GetObjectTagging.
    fn tags<'a>(&'a self, path: &'a ObjectPath) -> BoxFuture<'a, Result<BTreeMap<String, String>>>;

    /// Replaces the tags of an object. PutObjectTagging.
    fn set_tags<'a>(
        &'a self,
        path: &'a ObjectPath,
        tags: &'a BTreeMap<String, String>,
    ) -> BoxFuture<'a, Result<()>>;

    /// A URL that lets anyone who has it do one thing for a while; sends no request.
    fn presign<'a>(
        &'a self,
        path: &'a ObjectPath,
        method: PresignMethod,
        expires: Duration,
    ) -> BoxFuture<'a, Result<String>>;
}
