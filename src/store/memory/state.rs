//! What the in-memory store holds, and the conditions on it.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use md5::{Digest, Md5};

use super::multipart::Upload;
use crate::store::error::{ErrorKind, Result, StoreError};
use crate::store::types::{
    BucketInfo, Condition, ETag, ObjectInfo, ObjectPath, Properties, UploadId, Version, Written,
};

#[derive(Default)]
pub(super) struct State {
    pub(super) buckets: BTreeMap<String, Bucket>,
    pub(super) uploads_begun: u64,
}

pub(super) struct Bucket {
    created: SystemTime,
    pub(super) objects: BTreeMap<String, Object>,
    pub(super) uploads: HashMap<UploadId, Upload>,
}

#[derive(Clone)]
pub(super) struct Object {
    pub(super) data: Bytes,
    pub(super) etag: ETag,
    pub(super) last_modified: SystemTime,
    pub(super) properties: Properties,
    pub(super) tags: BTreeMap<String, String>,
}

impl Object {
    /// An object in one piece: its ETag is the MD5 of its bytes.
    pub(super) fn new(
        data: Bytes,
        properties: Properties,
        tags: BTreeMap<String, String>,
        now: SystemTime,
    ) -> Self {
        let etag = etag_of(&Md5::digest(&data), "");
        Self::with_etag(data, etag, properties, tags, now)
    }

    pub(super) fn with_etag(
        data: Bytes,
        etag: ETag,
        mut properties: Properties,
        tags: BTreeMap<String, String>,
        now: SystemTime,
    ) -> Self {
        if properties.content_type.is_none() {
            properties.content_type = Some("binary/octet-stream".to_owned());
        }
        // S3 names every storage class but the default one.
        properties.storage_class = properties.storage_class.filter(|class| class != "STANDARD");
        Self { data, etag, last_modified: whole_seconds(now), properties, tags }
    }

    pub(super) fn version(&self) -> Version {
        Version { etag: self.etag.clone(), last_modified: self.last_modified, size: self.data.len() as u64 }
    }

    pub(super) fn is_archived(&self) -> bool {
        matches!(self.properties.storage_class.as_deref(), Some("GLACIER" | "DEEP_ARCHIVE"))
    }

    pub(super) fn info(&self) -> ObjectInfo {
        ObjectInfo {
            version: self.version(),
            properties: self.properties.clone(),
            version_id: None,
            tag_count: u32::try_from(self.tags.len()).unwrap_or(u32::MAX),
            archived: self.is_archived(),
        }
    }

    /// Bytes of a range that lies within the object.
    pub(super) fn slice(&self, offset: u64, len: u64) -> Bytes {
        let at = |position: u64| usize::try_from(position).unwrap_or(usize::MAX).min(self.data.len());
        self.data.slice(at(offset)..at(offset.saturating_add(len)))
    }
}

pub(super) fn etag_of(digest: &[u8], ending: &str) -> ETag {
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    ETag::new(format!("\"{hex}{ending}\""))
}

fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

impl State {
    pub(super) fn create_bucket(&mut self, name: &str, now: SystemTime) {
        self.buckets.entry(name.to_owned()).or_insert_with(|| Bucket {
            created: whole_seconds(now),
            objects: BTreeMap::new(),
            uploads: HashMap::new(),
        });
    }

    pub(super) fn buckets(&self) -> Vec<BucketInfo> {
        let info = |(name, bucket): (&String, &Bucket)| BucketInfo {
            name: name.clone(),
            created: Some(bucket.created),
        };
        self.buckets.iter().map(info).collect()
    }

    pub(super) fn bucket(&self, operation: &'static str, name: &str) -> Result<&Bucket> {
        self.buckets.get(name).ok_or_else(|| no_such_bucket(operation, name))
    }

    pub(super) fn bucket_mut(&mut self, operation: &'static str, name: &str) -> Result<&mut Bucket> {
        self.buckets.get_mut(name).ok_or_else(|| no_such_bucket(operation, name))
    }

    pub(super) fn object(&self, operation: &'static str, path: &ObjectPath) -> Result<&Object> {
        let found = self.bucket(operation, &path.bucket)?.objects.get(&*path.key);
        found.ok_or_else(|| no_such_key(operation, path))
    }

    pub(super) fn object_mut(&mut self, operation: &'static str, path: &ObjectPath) -> Result<&mut Object> {
        let found = self.bucket_mut(operation, &path.bucket)?.objects.get_mut(&*path.key);
        found.ok_or_else(|| no_such_key(operation, path))
    }

    /// Whether the condition holds for what is there now.
    pub(super) fn check(
        &self,
        operation: &'static str,
        path: &ObjectPath,
        condition: &Condition,
    ) -> Result<()> {
        let there = self.bucket(operation, &path.bucket)?.objects.get(&*path.key);
        let refuse = |message: &str| {
            let error = StoreError::new(ErrorKind::Precondition, operation, path, message);
            Err(error.with_code("PreconditionFailed"))
        };
        match (condition, there) {
            (Condition::None, _) | (Condition::Absent, None) => Ok(()),
            (Condition::Absent, Some(_)) => refuse("the object exists"),
            (Condition::Match(_), None) => Err(no_such_key(operation, path)),
            (Condition::Match(etag), Some(object)) if *etag == object.etag => Ok(()),
            (Condition::Match(_), Some(_)) => refuse("the object has another version"),
        }
    }

    pub(super) fn store(
        &mut self,
        operation: &'static str,
        path: &ObjectPath,
        object: Object,
    ) -> Result<Written> {
        let written = Written { etag: object.etag.clone(), last_modified: None, version_id: None };
        self.bucket_mut(operation, &path.bucket)?.objects.insert(path.key.to_string(), object);
        Ok(written)
    }
}

fn no_such_bucket(operation: &'static str, name: &str) -> StoreError {
    StoreError::new(ErrorKind::NoSuchBucket, operation, name, "the bucket does not exist")
        .with_code("NoSuchBucket")
}

fn no_such_key(operation: &'static str, path: &ObjectPath) -> StoreError {
    StoreError::new(ErrorKind::NotFound, operation, path, "the key does not exist").with_code("NoSuchKey")
}
