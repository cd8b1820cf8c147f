//! Wrapping every call of a store in the same thing: what limits, counts or breaks calls says once what it does
//! around a call and is a store itself.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::error::Result;
use super::object_store::{GetRequest, GetResponse, ObjectStore};
use super::types::{
    Body, BucketInfo, Condition, CopyRequest, DeleteEntry, DeleteFailure, ETag, ListPage, ListRequest,
    ObjectInfo, ObjectPath, Part, PendingUpload, PresignMethod, Properties, UploadId, Written,
};

/// A request of S3, by S3's name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Operation {
    /// [`ObjectStore::list`].
    ListObjectsV2,
    /// [`ObjectStore::list_buckets`].
    ListBuckets,
    /// [`ObjectStore::head_bucket`].
    HeadBucket,
    /// [`ObjectStore::head`].
    HeadObject,
    /// [`ObjectStore::get`].
    GetObject,
    /// [`ObjectStore::put`].
    PutObject,
    /// [`ObjectStore::copy`].
    CopyObject,
    /// [`ObjectStore::delete`].
    DeleteObject,
    /// [`ObjectStore::delete_batch`].
    DeleteObjects,
    /// [`ObjectStore::create_upload`].
    CreateMultipartUpload,
    /// [`ObjectStore::upload_part`].
    UploadPart,
    /// [`ObjectStore::copy_part`].
    UploadPartCopy,
    /// [`ObjectStore::complete_upload`].
    CompleteMultipartUpload,
    /// [`ObjectStore::abort_upload`].
    AbortMultipartUpload,
    /// [`ObjectStore::list_parts`].
    ListParts,
    /// [`ObjectStore::list_uploads`].
    ListMultipartUploads,
    /// [`ObjectStore::tags`].
    GetObjectTagging,
    /// [`ObjectStore::set_tags`].
    PutObjectTagging,
}

impl Operation {
    /// Every operation, in the order of their numbers.
    pub const ALL: [Self; 18] = [
        Self::ListObjectsV2,
        Self::ListBuckets,
        Self::HeadBucket,
        Self::HeadObject,
        Self::GetObject,
        Self::PutObject,
        Self::CopyObject,
        Self::DeleteObject,
        Self::DeleteObjects,
        Self::CreateMultipartUpload,
        Self::UploadPart,
        Self::UploadPartCopy,
        Self::CompleteMultipartUpload,
        Self::AbortMultipartUpload,
        Self::ListParts,
        Self::ListMultipartUploads,
        Self::GetObjectTagging,
        Self::PutObjectTagging,
    ];

    /// S3's name (`PutObject`).
    pub fn name(self) -> &'static str {
        match self {
            Self::ListObjectsV2 => "ListObjectsV2",
            Self::ListBuckets => "ListBuckets",
            Self::HeadBucket => "HeadBucket",
            Self::HeadObject => "HeadObject",
            Self::GetObject => "GetObject",
            Self::PutObject => "PutObject",
            Self::CopyObject => "CopyObject",
            Self::DeleteObject => "DeleteObject",
            Self::DeleteObjects => "DeleteObjects",
            Self::CreateMultipartUpload => "CreateMultipartUpload",
            Self::UploadPart => "UploadPart",
            Self::UploadPartCopy => "UploadPartCopy",
            Self::CompleteMultipartUpload => "CompleteMultipartUpload",
            Self::AbortMultipartUpload => "AbortMultipartUpload",
            Self::ListParts => "ListParts",
            Self::ListMultipartUploads => "ListMultipartUploads",
            Self::GetObjectTagging => "GetObjectTagging",
            Self::PutObjectTagging => "PutObjectTagging",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A call that is about to be made.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is called.
    pub operation: Operation,
    /// The object, or the bucket or prefix with the rest of the path empty.
    pub target: ObjectPath,
    /// Bytes of the body that is sent.
    pub bytes_sent: u64,
}

impl Call {
    fn new(operation: Operation, target: &ObjectPath) -> Self {
        Self { operation, target: target.clone(), bytes_sent: 0 }
    }

    fn in_bucket(operation: Operation, bucket: &str, prefix: &str) -> Self {
        Self { operation, target: ObjectPath::new(bucket, prefix), bytes_sent: 0 }
    }
}

/// Something that goes around every call of the store inside it. Whoever implements this is an [`ObjectStore`].
pub trait Around: Send + Sync + 'static {
    /// The store inside.
    fn inner(&self) -> &dyn ObjectStore;

    /// Goes around a call: `call` is the one inside, not yet begun.
    fn around<'a, T: Send + 'a>(
        &'a self,
        call: Call,
        inner: BoxFuture<'a, Result<T>>,
    ) -> BoxFuture<'a, Result<T>>;

    /// Goes around a GET, which lasts until its body ends.
    fn around_get<'a>(
        &'a self,
        call: Call,
        path: &'a ObjectPath,
        request: GetRequest,
    ) -> BoxFuture<'a, Result<GetResponse>> {
        self.around(call, self.inner().get(path, request))
    }
}

impl<A: Around> ObjectStore for A {
    fn list(&self, request: ListRequest) -> BoxFuture<'_, Result<ListPage>> {
        let call = Call::in_bucket(Operation::ListObjectsV2, &request.bucket, &request.prefix);
        self.around(call, self.inner().list(request))
    }

    fn list_buckets(&self) -> BoxFuture<'_, Result<Vec<BucketInfo>>> {
        self.around(Call::in_bucket(Operation::ListBuckets, "", ""), self.inner().list_buckets())
    }

    fn head_bucket<'a>(&'a self, bucket: &'a str) -> BoxFuture<'a, Result<()>> {
        self.around(Call::in_bucket(Operation::HeadBucket, bucket, ""), self.inner().head_bucket(bucket))
    }

    fn head<'a>(&'a self, path: &'a ObjectPath) -> BoxFuture<'a, Result<ObjectInfo>> {
        self.around(Call::new(Operation::HeadObject, path), self.inner().head(path))
    }

    fn get<'a>(&'a self, path: &'a ObjectPath, request: GetRequest) -> BoxFuture<'a, Result<GetResponse>> {
        self.around_get(Call::new(Operation::GetObject, path), path, request)
    }

    fn put<'a>(
        &'a self,
        path: &'a ObjectPath,
        body: Body,
        properties: &'a Properties,
        tags: &'a BTreeMap<String, String>,
        condition: Condition,
    ) -> BoxFuture<'a, Result<Written>> {
        let bytes_sent = body.0.len() as u64;
        let call = Call { bytes_sent, ..Call::new(Operation::PutObject, path) };
        self.around(call, self.inner().put(path, body, properties, tags, condition))
    }

    fn copy(&self, request: CopyRequest) -> BoxFuture<'_, Result<Written>> {
        self.around(Call::new(Operation::CopyObject, &request.to), self.inner().copy(request))
    }

    fn delete<'a>(&'a self, path: &'a ObjectPath, condition: Condition) -> BoxFuture<'a, Result<()>> {
        self.around(Call::new(Operation::DeleteObject, path), self.inner().delete(path, condition))
    }

    fn delete_batch<'a>(
        &'a self,
        bucket: &'a str,
        entries: Vec<DeleteEntry>,
    ) -> BoxFuture<'a, Result<Vec<DeleteFailure>>> {
        let call = Call::in_bucket(Operation::DeleteObjects, bucket, "");
        self.around(call, self.inner().delete_batch(bucket, entries))
    }

    fn create_upload<'a>(
        &'a self,
        path: &'a ObjectPath,
        properties: &'a Properties,
        tags: &'a BTreeMap<String, String>,
    ) -> BoxFuture<'a, Result<UploadId>> {
        let call = Call::new(Operation::CreateMultipartUpload, path);
        self.around(call, self.inner().create_upload(path, properties, tags))
    }

    fn upload_part<'a>(
        &'a self,
        path: &'a ObjectPath,
        upload: &'a UploadId,
        number: u32,
        body: Body,
    ) -> BoxFuture<'a, Result<Part>> {
        let bytes_sent = body.0.len() as u64;
        let call = Call { bytes_sent, ..Call::new(Operation::UploadPart, path) };
        self.around(call, self.inner().upload_part(path, upload, number, body))
    }

    fn copy_part<'a>(
        &'a self,
        path: &'a ObjectPath,
        upload: &'a UploadId,
        number: u32,
        from: &'a ObjectPath,
        from_etag: &'a ETag,
        range: (u64, u64),
    ) -> BoxFuture<'a, Result<Part>> {
        let call = Call::new(Operation::UploadPartCopy, path);
        self.around(call, self.inner().copy_part(path, upload, number, from, from_etag, range))
    }

    fn complete_upload<'a>(
        &'a self,
        path: &'a ObjectPath,
        upload: &'a UploadId,
        parts: &'a [Part],
        condition: Condition,
    ) -> BoxFuture<'a, Result<Written>> {
        let call = Call::new(Operation::CompleteMultipartUpload, path);
        self.around(call, self.inner().complete_upload(path, upload, parts, condition))
    }

    fn abort_upload<'a>(&'a self, path: &'a ObjectPath, upload: &'a UploadId) -> BoxFuture<'a, Result<()>> {
        let call = Call::new(Operation::AbortMultipartUpload, path);
        self.around(call, self.inner().abort_upload(path, upload))
    }

    fn list_parts<'a>(
        &'a self,
        path: &'a ObjectPath,
        upload: &'a UploadId,
    ) -> BoxFuture<'a, Result<Vec<Part>>> {
        self.around(Call::new(Operation::ListParts, path), self.inner().list_parts(path, upload))
    }

    fn list_uploads<'a>(
        &'a self,
        bucket: &'a str,
        prefix: &'a str,
    ) -> BoxFuture<'a, Result<Vec<PendingUpload>>> {
        let call = Call::in_bucket(Operation::ListMultipartUploads, bucket, prefix);
        self.around(call, self.inner().list_uploads(bucket, prefix))
    }

    fn tags<'a>(&'a self, path: &'a ObjectPath) -> BoxFuture<'a, Result<BTreeMap<String, String>>> {
        self.around(Call::new(Operation::GetObjectTagging, path), self.inner().tags(path))
    }

    fn set_tags<'a>(
        &'a self,
        path: &'a ObjectPath,
        tags: &'a BTreeMap<String, String>,
    ) -> BoxFuture<'a, Result<()>> {
        self.around(Call::new(Operation::PutObjectTagging, path), self.inner().set_tags(path, tags))
    }

    /// Sends no request, so nothing goes around it.
    fn presign<'a>(
        &'a self,
        path: &'a ObjectPath,
        method: PresignMethod,
        expires: Duration,
    ) -> BoxFuture<'a, Result<String>> {
        self.inner().presign(path, method, expires)
    }
}
