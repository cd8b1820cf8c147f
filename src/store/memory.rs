//! An S3 service in memory, with the semantics of the real one: the twin that models and tests run on.
//!
//! Owns: buckets, objects, uploads. ETags are MD5s as on S3, conditions and limits are checked as there, and
//! a test plays "another client" simply by calling the same store.
//! Lock: one mutex over everything, never held across an await (nothing here waits).
//! Deliberately does not: versions of objects, access control, latency, faults
//! ([`Faulty`](super::fault::Faulty) adds those).

mod listing;
mod multipart;
mod state;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};
use parking_lot::Mutex;

use self::state::{Object, State};
use super::error::{ErrorKind, Result, StoreError};
use super::object_store::{GetRequest, GetResponse, ObjectStore};
use super::types::{
    Body, BucketInfo, COPY_MAX_BYTES, Condition, CopyProperties, CopyRequest, DeleteEntry, DeleteFailure,
    ETag, ListPage, ListRequest, ObjectInfo, ObjectPath, PART_MIN_BYTES, Part, PendingUpload, PresignMethod,
    Properties, UploadId, Written,
};
use super::validate;

/// Bytes of one chunk of a GET body.
const CHUNK_BYTES: usize = 256 << 10;

type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// The in-memory store. Cheap to create; see the module's head.
pub struct MemoryStore {
    state: Mutex<State>,
    clock: Clock,
    page_size: usize,
    part_min_bytes: u64,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl MemoryStore {
    /// A store without buckets and with S3's limits.
    pub fn new() -> Self {
        Self {
            state: Mutex::default(),
            clock: Arc::new(SystemTime::now),
            page_size: 1_000,
            part_min_bytes: PART_MIN_BYTES,
        }
    }

    /// Takes the time from `clock`.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Lists at most this many entries in a page, so that few objects fill several.
    #[must_use]
    pub fn with_page_size(mut self, entries: usize) -> Self {
        self.page_size = entries.max(1);
        self
    }

    /// Takes parts as small as this, so that few bytes make several.
    #[must_use]
    pub fn with_part_min_bytes(mut self, bytes: u64) -> Self {
        self.part_min_bytes = bytes;
        self
    }

    /// Makes a bucket; one that is there stays as it is.
    pub fn create_bucket(&self, name: &str) {
        let now = (self.clock)();
        self.state.lock().create_bucket(name, now);
    }

    fn get_now(&self, path: &ObjectPath, request: &GetRequest) -> Result<GetResponse> {
        const OPERATION: &str = "GetObject";
        validate::key(OPERATION, path)?;
        let refuse = |kind, message: &str| Err(StoreError::new(kind, OPERATION, path, message));
        let state = self.state.lock();
        let object = state.object(OPERATION, path)?;
        if request.if_match.as_ref().is_some_and(|etag| *etag != object.etag) {
            return refuse(ErrorKind::Precondition, "the object has another version");
        }
        if request.if_none_match.as_ref() == Some(&object.etag) {
            return refuse(ErrorKind::NotModified, "the object has this version");
        }
        if object.is_archived() {
            return refuse(ErrorKind::Archived, "the object is archived");
        }
        let size = object.data.len() as u64;
        let (offset, len) = match request.range {
            None => (0, size),
            Some(range) => {
                validate::range(OPERATION, path, range)?;
                if range.0 >= size {
                    return refuse(ErrorKind::InvalidRange, "the range begins past the end");
                }
                (range.0, range.1.min(size - range.0))
            }
        };
        let body = object.slice(offset, len);
        let info = object.info();
        drop(state);
        Ok(GetResponse { info, offset, len, body: stream::iter(chunks(body)).map(Ok).boxed() })
    }

    fn put_now(
        &self,
        path: &ObjectPath,
        body: Body,
        properties: &Properties,
        tags: &BTreeMap<String, String>,
        condition: &Condition,
    ) -> Result<Written> {
        const OPERATION: &str = "PutObject";
        validate::key(OPERATION, path)?;
        validate::properties(OPERATION, path, properties)?;
        validate::tags(OPERATION, path, tags)?;
        validate::body(OPERATION, path, &body)?;
        let object = Object::new(body.0, properties.clone(), tags.clone(), (self.clock)());
        let mut state = self.state.lock();
        state.check(OPERATION, path, condition)?;
        state.store(OPERATION, path, object)
    }

    fn copy_now(&self, request: &CopyRequest) -> Result<Written> {
        const OPERATION: &str = "CopyObject";
        validate::key(OPERATION, &request.from)?;
        validate::key(OPERATION, &request.to)?;
        let refuse = |kind, message: &str| Err(StoreError::new(kind, OPERATION, &request.to, message));
        let now = (self.clock)();
        let mut state = self.state.lock();
        let source = state.object(OPERATION, &request.from)?.clone();
        if request.from_etag.as_ref().is_some_and(|etag| *etag != source.etag) {
            return refuse(ErrorKind::Precondition, "the source has another version");
        }
        state.check(OPERATION, &request.to, &request.condition)?;
        if source.is_archived() {
            return refuse(ErrorKind::Archived, "the source is archived");
        }
        if source.data.len() as u64 > COPY_MAX_BYTES {
            return refuse(ErrorKind::InvalidRequest, "the source is larger than 5 GiB");
        }
        let placement = source.properties.placement();
        let properties = match &request.properties {
            CopyProperties::Keep(known) => {
                if request.from == request.to && known.as_ref().is_none_or(|known| *known == placement) {
                    return refuse(ErrorKind::InvalidRequest, "a copy onto itself that changes nothing");
                }
                let known = known.clone().unwrap_or(placement);
                Properties {
                    storage_class: known.storage_class,
                    encryption: known.encryption,
                    ..source.properties.clone()
                }
            }
            CopyProperties::Replace(properties) => {
                validate::properties(OPERATION, &request.to, properties)?;
                (**properties).clone()
            }
        };
        // The copy of an upload in parts is one part again, so its ETag is the MD5 of the bytes.
        let copy = Object::new(source.data, properties, source.tags, now);
        let last_modified = Some(copy.last_modified);
        let written = state.store(OPERATION, &request.to, copy)?;
        Ok(Written { last_modified, ..written })
    }

    fn delete_now(&self, operation: &'static str, path: &ObjectPath, condition: &Condition) -> Result<()> {
        validate::key(operation, path)?;
        let mut state = self.state.lock();
        match condition {
            Condition::None => {}
            Condition::Match(_) => state.check(operation, path, condition)?,
            Condition::Absent => {
                let message = "there is no condition to delete what is absent";
                return Err(StoreError::new(ErrorKind::InvalidRequest, operation, path, message));
            }
        }
        state.bucket_mut(operation, &path.bucket)?.objects.remove(&*path.key);
        Ok(())
    }

    fn delete_batch_now(&self, bucket: &str, entries: Vec<DeleteEntry>) -> Result<Vec<DeleteFailure>> {
        const OPERATION: &str = "DeleteObjects";
        validate::batch(OPERATION, bucket, entries.len())?;
        self.state.lock().bucket(OPERATION, bucket)?;
        let delete = |entry: DeleteEntry| {
            let path = ObjectPath::new(bucket, entry.key.as_str());
            let condition = entry.etag.map_or(Condition::None, Condition::Match);
            let failed = self.delete_now(OPERATION, &path, &condition).err();
            failed.map(|error| DeleteFailure { key: entry.key, error })
        };
        Ok(entries.into_iter().filter_map(delete).collect())
    }

    fn set_tags_now(&self, path: &ObjectPath, tags: &BTreeMap<String, String>) -> Result<()> {
        const OPERATION: &str = "PutObjectTagging";
        validate::key(OPERATION, path)?;
        validate::tags(OPERATION, path, tags)?;
        self.state.lock().object_mut(OPERATION, path)?.tags = tags.clone();
        Ok(())
    }

    fn head_now(&self, path: &ObjectPath) -> Result<ObjectInfo> {
        const OPERATION: &str = "HeadObject";
        validate::key(OPERATION, path)?;
        Ok(self.state.lock().object(OPERATION, path)?.info())
    }

    fn tags_now(&self, path: &ObjectPath) -> Result<BTreeMap<String, String>> {
        const OPERATION: &str = "GetObjectTagging";
        validate::key(OPERATION, path)?;
        Ok(self.state.lock().object(OPERATION, path)?.tags.clone())
    }
}

fn chunks(mut body: Bytes) -> Vec<Bytes> {
    let mut chunks = Vec::with_capacity(body.len().div_ceil(CHUNK_BYTES));
    while !body.is_empty() {
        chunks.push(body.split_to(body.len().min(CHUNK_BYTES)));
    }
    chunks
}

/// The work is done when the future is polled, as with a request: a call that is dropped before has no effect.
fn lazy<'a, T: Send + 'a>(work: impl FnOnce() -> Result<T> + Send + 'a) -> BoxFuture<'a, Result<T>> {
    Box::pin(async move { work() })
}

impl ObjectStore for MemoryStore {
    fn list(&self, request: ListRequest) -> BoxFuture<'_, Result<ListPage>> {
        lazy(move || self.state.lock().list(&request, self.page_size))
    }

    fn list_buckets(&self) -> BoxFuture<'_, Result<Vec<BucketInfo>>> {
        lazy(move || Ok(self.state.lock().buckets()))
    }

    fn head_bucket<'a>(&'a self, bucket: &'a str) -> BoxFuture<'a, Result<()>> {
        lazy(move || self.state.lock().bucket("HeadBucket", bucket).map(drop))
    }

    fn head<'a>(&'a self, path: &'a ObjectPath) -> BoxFuture<'a, Result<ObjectInfo>> {
        lazy(move || self.head_now(path))
    }

    fn get<'a>(&'a self, path: &'a ObjectPath, request: GetRequest) -> BoxFuture<'a, Result<GetResponse>> {
        lazy(move || self.get_now(path, &request))
    }

    fn put<'a>(
        &'a self,
        path: &'a ObjectPath,
        body: Body,
        properties: &'a Properties,
        tags: &'a BTreeMap<String, String>,
        condition: Condition,
    ) -> BoxFuture<'a, Result<Written>> {
        lazy(move || self.put_now(path, body, properties, tags, &condition))
    }

    fn copy(&self, request: CopyRequest) -> BoxFuture<'_, Result<Written>> {
        lazy(move || self.copy_now(&request))
    }

    fn delete<'a>(&'a self, path: &'a ObjectPath, condition: Condition) -> BoxFuture<'a, Result<()>> {
        lazy(move || self.delete_now("DeleteObject", path, &condition))
    }

    fn delete_batch<'a>(
        &'a self,
        bucket: &'a str,
        entries: Vec<DeleteEntry>,
    ) -> BoxFuture<'a, Result<Vec<DeleteFailure>>> {
        lazy(move || self.delete_batch_now(bucket, entries))
    }

    fn create_upload<'a>(
        &'a self,
        path: &'a ObjectPath,
        properties: &'a Properties,
        tags: &'a BTreeMap<String, String>,
    ) -> BoxFuture<'a, Result<UploadId>> {
        lazy(move || self.create_upload_now(path, properties, tags))
    }

    fn upload_part<'a>(
        &'a self,
        path: &'a ObjectPath,
        upload: &'a UploadId,
        number: u32,
        body: Body,
    ) -> BoxFuture<'a, Result<Part>> {
        lazy(move || self.upload_part_now(path, upload, number, body))
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
        lazy(move || self.copy_part_now(path, upload, number, from, from_etag, range))
    }

    fn complete_upload<'a>(
        &'a self,
        path: &'a ObjectPath,
        upload: &'a UploadId,
        parts: &'a [Part],
        condition: Condition,
    ) -> BoxFuture<'a, Result<Written>> {
        lazy(move || self.complete_upload_now(path, upload, parts, &condition))
    }

    fn abort_upload<'a>(&'a self, path: &'a ObjectPath, upload: &'a UploadId) -> BoxFuture<'a, Result<()>> {
        lazy(move || self.abort_upload_now(path, upload))
    }

    fn list_parts<'a>(
        &'a self,
        path: &'a ObjectPath,
        upload: &'a UploadId,
    ) -> BoxFuture<'a, Result<Vec<Part>>> {
        lazy(move || self.list_parts_now(path, upload))
    }

    fn list_uploads<'a>(
        &'a self,
        bucket: &'a str,
        prefix: &'a str,
    ) -> BoxFuture<'a, Result<Vec<PendingUpload>>> {
        lazy(move || self.list_uploads_now(bucket, prefix))
    }

    fn tags<'a>(&'a self, path: &'a ObjectPath) -> BoxFuture<'a, Result<BTreeMap<String, String>>> {
        lazy(move || self.tags_now(path))
    }

    fn set_tags<'a>(
        &'a self,
        path: &'a ObjectPath,
        tags: &'a BTreeMap<String, String>,
    ) -> BoxFuture<'a, Result<()>> {
        lazy(move || self.set_tags_now(path, tags))
    }

    fn presign<'a>(
        &'a self,
        path: &'a ObjectPath,
        _method: PresignMethod,
        _expires: Duration,
    ) -> BoxFuture<'a, Result<String>> {
        let message = "objects in memory have no address";
        lazy(move || Err(StoreError::new(ErrorKind::Unsupported, "Presign", path, message)))
    }
}
