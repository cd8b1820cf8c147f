//! A store whose objects are a function of key and offset, that logs every GET and fails on request.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::store::error::{ErrorKind, Result, StoreError};
use crate::store::object_store::{GetRequest, GetResponse, ObjectStore};
use crate::store::types::*;

const CHUNK_BYTES: usize = 37_000;

pub struct Fake {
    objects: Mutex<HashMap<String, Version>>,
    pub gets: Mutex<Vec<(String, Range<u64>)>>,
    /// The next GETs fail so; with a number: after so many chunks of the body.
    pub failures: Mutex<VecDeque<(ErrorKind, Option<usize>)>>,
    /// How many chunks of every body may be delivered.
    pub chunks: watch::Sender<usize>,
    pub in_flight: Arc<AtomicUsize>,
}

impl Fake {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            objects: Mutex::default(),
            gets: Mutex::default(),
            failures: Mutex::default(),
            chunks: watch::Sender::new(usize::MAX),
            in_flight: Arc::default(),
        })
    }

    /// Puts an object and returns its identity.
    pub fn put(&self, key: &str, etag: &str, size: u64) -> (ObjectPath, Version) {
        let last_modified = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let version = Version { etag: ETag::new(format!("\"{etag}\"")), last_modified, size };
        self.objects.lock().insert(key.to_owned(), version.clone());
        (ObjectPath::new("bucket", key), version)
    }

    pub fn delete(&self, key: &str) {
        self.objects.lock().remove(key);
    }

    pub fn take_gets(&self) -> Vec<Range<u64>> {
        std::mem::take(&mut *self.gets.lock()).into_iter().map(|(_, range)| range).collect()
    }
}

/// The bytes an object of this tag has: never 0, so that a hole is noticed; repeating after a prime number of bytes,
/// so that a shift by blocks is.
pub fn bytes_of(etag: &ETag, range: Range<u64>) -> Vec<u8> {
    const PERIOD: usize = 65_521;
    static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mix = |at: u64| ((at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 | 1;
        (0..PERIOD as u64).map(mix).collect()
    });
    let seed = etag.0.bytes().fold(7u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    let len = (range.end - range.start) as usize;
    let mut bytes = Vec::with_capacity(len);
    let mut from = (range.start % PERIOD as u64 + seed % PERIOD as u64) as usize % PERIOD;
    while bytes.len() < len {
        let part = (PERIOD - from).min(len - bytes.len());
        bytes.extend_from_slice(&PATTERN[from..from + part]);
        from = 0;
    }
    bytes
}

struct InFlight(Arc<AtomicUsize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn refuse<T: Send>(operation: &'static str) -> BoxFuture<'static, Result<T>> {
    async move { Err(StoreError::new(ErrorKind::Unsupported, operation, "fake", "not here")) }.boxed()
}

impl ObjectStore for Fake {
    fn get<'a>(&'a self, path: &'a ObjectPath, request: GetRequest) -> BoxFuture<'a, Result<GetResponse>> {
        async move {
            let fail = |kind| StoreError::new(kind, "GetObject", path, "as planned");
            let failure = self.failures.lock().pop_front();
            if let Some((kind, None)) = failure {
                return Err(fail(kind));
            }
            let version = self.objects.lock().get(&*path.key).cloned();
            let version = version.ok_or_else(|| fail(ErrorKind::NotFound))?;
            let wanted = request.if_match.expect("every GET is pinned");
            if wanted != version.etag {
                return Err(fail(ErrorKind::Precondition));
            }
            let (start, len) = request.range.expect("every GET has a range");
            assert!(len > 0 && start < version.size && len <= super::GET_MAX_BYTES);
            let range = start..(start + len).min(version.size);
            self.gets.lock().push((path.key.to_string(), range.clone()));
            self.in_flight.fetch_add(1, Ordering::SeqCst);
            let guard = InFlight(Arc::clone(&self.in_flight));
            let etag = version.etag.clone();
            let allowed = self.chunks.subscribe();
            let broken = failure.map(|(kind, after)| (fail(kind), after.unwrap_or(0)));
            let steps = range.clone().step_by(CHUNK_BYTES).enumerate();
            let end = range.end;
            let body = futures_util::stream::iter(steps).then(move |(number, at)| {
                let _ = &guard;
                let (mut allowed, etag, broken) = (allowed.clone(), etag.clone(), broken.clone());
                async move {
                    if let Some((error, after)) = broken
                        && number >= after
                    {
                        return Err(error);
                    }
                    let _ = allowed.wait_for(|allowed| number < *allowed).await;
                    Ok(Bytes::from(bytes_of(&etag, at..(at + CHUNK_BYTES as u64).min(end))))
                }
            });
            let properties = Properties::default();
            let info = ObjectInfo { version, properties, version_id: None, tag_count: 0, archived: false };
            Ok(GetResponse { info, offset: range.start, len: range.end - range.start, body: body.boxed() })
        }
        .boxed()
    }

    fn list(&self, _: ListRequest) -> BoxFuture<'_, Result<ListPage>> {
        refuse("ListObjectsV2")
    }
    fn list_buckets(&self) -> BoxFuture<'_, Result<Vec<BucketInfo>>> {
        refuse("ListBuckets")
    }
    fn head_bucket<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<()>> {
        refuse("HeadBucket")
    }
    fn head<'a>(&'a self, _: &'a ObjectPath) -> BoxFuture<'a, Result<ObjectInfo>> {
        refuse("HeadObject")
    }
    fn put<'a>(
        &'a self,
        _: &'a ObjectPath,
        _: Body,
        _: &'a Properties,
        _: &'a BTreeMap<String, String>,
        _: Condition,
    ) -> BoxFuture<'a, Result<Written>> {
        refuse("PutObject")
    }
    fn copy(&self, _: CopyRequest) -> BoxFuture<'_, Result<Written>> {
        refuse("CopyObject")
    }
    fn delete<'a>(&'a self, _: &'a ObjectPath, _: Condition) -> BoxFuture<'a, Result<()>> {
        refuse("DeleteObject")
    }
    fn delete_batch<'a>(
        &'a self,
        _: &'a str,
        _: Vec<DeleteEntry>,
    ) -> BoxFuture<'a, Result<Vec<DeleteFailure>>> {
        refuse("DeleteObjects")
    }
    fn create_upload<'a>(
        &'a self,
        _: &'a ObjectPath,
        _: &'a Properties,
        _: &'a BTreeMap<String, String>,
    ) -> BoxFuture<'a, Result<UploadId>> {
        refuse("CreateMultipartUpload")
    }
    fn upload_part<'a>(
        &'a self,
        _: &'a ObjectPath,
        _: &'a UploadId,
        _: u32,
        _: Body,
    ) -> BoxFuture<'a, Result<Part>> {
        refuse("UploadPart")
    }
    fn copy_part<'a>(
        &'a self,
        _: &'a ObjectPath,
        _: &'a UploadId,
        _: u32,
        _: &'a ObjectPath,
        _: &'a ETag,
        _: (u64, u64),
    ) -> BoxFuture<'a, Result<Part>> {
        refuse("UploadPartCopy")
    }
    fn complete_upload<'a>(
        &'a self,
        _: &'a ObjectPath,
        _: &'a UploadId,
        _: &'a [Part],
        _: Condition,
    ) -> BoxFuture<'a, Result<Written>> {
        refuse("CompleteMultipartUpload")
    }
    fn abort_upload<'a>(&'a self, _: &'a ObjectPath, _: &'a UploadId) -> BoxFuture<'a, Result<()>> {
        refuse("AbortMultipartUpload")
    }
    fn list_parts<'a>(&'a self, _: &'a ObjectPath, _: &'a UploadId) -> BoxFuture<'a, Result<Vec<Part>>> {
        refuse("ListParts")
    }
    fn list_uploads<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Vec<PendingUpload>>> {
        refuse("ListMultipartUploads")
    }
    fn tags<'a>(&'a self, _: &'a ObjectPath) -> BoxFuture<'a, Result<BTreeMap<String, String>>> {
        refuse("GetObjectTagging")
    }
    fn set_tags<'a>(
        &'a self,
        _: &'a ObjectPath,
        _: &'a BTreeMap<String, String>,
    ) -> BoxFuture<'a, Result<()>> {
        refuse("PutObjectTagging")
    }
    fn presign<'a>(
        &'a self,
        _: &'a ObjectPath,
        _: PresignMethod,
        _: Duration,
    ) -> BoxFuture<'a, Result<String>> {
        refuse("presign")
    }
}
