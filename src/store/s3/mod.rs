//! S3 through the AWS SDK: the only place that knows it.
//!
//! Owns: settings and clients (`config`, `connect`), the requests (`read`, `write`, `multipart`), the body of
//! a GET (`body`), the table of errors (`errors`), what a refused repetition of a write means (`attempts`).
//!
//! Invariants: one connection pool and one set of credentials for all buckets; every request has a time limit;
//! uploads are `Bytes` in memory, so that the SDK can send them again, and are not hashed for the signature.
//! Locks: the map of clients per bucket in `connect`, held for a lookup or an insert.
//! Deliberately does not: bound requests in flight ([`Limited`](crate::store::limit::Limited)), resume broken
//! bodies ([`Resuming`](crate::store::resume::Resuming)), count ([`Metered`](crate::store::metered::Metered)).

mod attempts;
mod body;
mod config;
mod connect;
mod convert;
mod errors;
mod multipart;
mod read;
mod write;

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt::Display;
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use futures_util::future::BoxFuture;

pub use config::{ChecksumAlgorithm, Checksums, Keys, RetryMode, S3Config};

use self::attempts::Attempts;
use self::connect::Clients;
use super::error::{Result, StoreError};
use super::object_store::{GetRequest, GetResponse, ObjectStore};
use super::types::{
    Body, BucketInfo, Condition, CopyRequest, DeleteEntry, DeleteFailure, ETag, ListPage, ListRequest,
    ObjectInfo, ObjectPath, Part, PendingUpload, PresignMethod, Properties, UploadId, Written,
};

/// An S3 service. See the module's head.
pub struct S3Store {
    clients: Clients,
}

impl S3Store {
    /// Prepares the clients. Nothing is sent to the store: [`ObjectStore::head_bucket`] tells whether it is
    /// there and ours.
    ///
    /// # Errors
    /// `InvalidRequest` for settings that allow no request.
    pub async fn connect(config: S3Config) -> Result<Self> {
        Ok(Self { clients: Clients::connect(config).await? })
    }

    /// The error of a failed request. When it names the region of the bucket, later requests go there.
    fn failed<E>(
        &self,
        operation: &'static str,
        bucket: &str,
        target: impl Display,
        error: SdkError<E, HttpResponse>,
    ) -> StoreError
    where
        E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let error = errors::from_sdk(operation, target, error);
        if error.kind == super::error::ErrorKind::WrongRegion
            && let Some(region) = &error.region
        {
            self.clients.follow(bucket, region);
        }
        error
    }

    /// The same for a request whose attempts were counted.
    fn failed_after<E>(
        &self,
        operation: &'static str,
        path: &ObjectPath,
        error: SdkError<E, HttpResponse>,
        attempts: &Attempts,
    ) -> StoreError
    where
        E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let mut error = self.failed(operation, &path.bucket, path, error);
        error.attempts = attempts.count();
        error
    }
}

impl ObjectStore for S3Store {
    fn list(&self, request: ListRequest) -> BoxFuture<'_, Result<ListPage>> {
        Box::pin(self.list_page(request))
    }

    fn list_buckets(&self) -> BoxFuture<'_, Result<Vec<BucketInfo>>> {
        Box::pin(self.buckets())
    }

    fn head_bucket<'a>(&'a self, bucket: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.head_bucket_or_why(bucket))
    }

    fn head<'a>(&'a self, path: &'a ObjectPath) -> BoxFuture<'a, Result<ObjectInfo>> {
        Box::pin(self.head_object(path))
    }

    fn get<'a>(&'a self, path: &'a ObjectPath, request: GetRequest) -> BoxFuture<'a, Result<GetResponse>> {
        Box::pin(self.get_object(path, request))
    }

    fn put<'a>(
        &'a self,
        path: &'a ObjectPath,
        body: Body,
        properties: &'a Properties,
        tags: &'a BTreeMap<String, String>,
        condition: Condition,
    ) -> BoxFuture<'a, Result<Written>> {
        Box::pin(self.put_object(path, body, properties, tags, condition))
    }

    fn copy(&self, request: CopyRequest) -> BoxFuture<'_, Result<Written>> {
        Box::pin(self.copy_object(request))
    }

    fn delete<'a>(&'a self, path: &'a ObjectPath, condition: Condition) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.delete_object(path, condition))
    }

    fn delete_batch<'a>(
        &'a self,
        bucket: &'a str,
        entries: Vec<DeleteEntry>,
    ) -> BoxFuture<'a, Result<Vec<DeleteFailure>>> {
        Box::pin(self.delete_objects(bucket, entries))
    }

    fn create_upload<'a>(
        &'a self,
        path: &'a ObjectPath,
        properties: &'a Properties,
        tags: &'a BTreeMap<String, String>,
    ) -> BoxFuture<'a, Result<UploadId>> {
        Box::pin(self.create_multipart(path, properties, tags))
    }

    fn upload_part<'a>(
        &'a self,
        path: &'a ObjectPath,
        upload: &'a UploadId,
        number: u32,
        body: Body,
    ) -> BoxFuture<'a, Result<Part>> {
        Box::pin(self.put_part(path, upload, number, body))
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
        Box::pin(self.put_part_copy(path, upload, number, from, from_etag, range))
    }

    fn complete_upload<'a>(
        &'a self,
        path: &'a ObjectPath,
        upload: &'a UploadId,
        parts: &'a [Part],
        condition: Condition,
    ) -> BoxFuture<'a, Result<Written>> {
        Box::pin(self.complete_multipart(path, upload, parts, condition))
    }

    fn abort_upload<'a>(&'a self, path: &'a ObjectPath, upload: &'a UploadId) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.abort_multipart(path, upload))
    }

    fn list_parts<'a>(
        &'a self,
        path: &'a ObjectPath,
        upload: &'a UploadId,
    ) -> BoxFuture<'a, Result<Vec<Part>>> {
        Box::pin(self.parts_of(path, upload))
    }

    fn list_uploads<'a>(
        &'a self,
        bucket: &'a str,
        prefix: &'a str,
    ) -> BoxFuture<'a, Result<Vec<PendingUpload>>> {
        Box::pin(self.pending_uploads(bucket, prefix))
    }

    fn tags<'a>(&'a self, path: &'a ObjectPath) -> BoxFuture<'a, Result<BTreeMap<String, String>>> {
        Box::pin(self.object_tags(path))
    }

    fn set_tags<'a>(
        &'a self,
        path: &'a ObjectPath,
        tags: &'a BTreeMap<String, String>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.replace_tags(path, tags))
    }

    fn presign<'a>(
        &'a self,
        path: &'a ObjectPath,
        method: PresignMethod,
        expires: Duration,
    ) -> BoxFuture<'a, Result<String>> {
        Box::pin(self.presigned_url(path, method, expires))
    }
}
