//! Buckets, objects and uploads in progress: the state of the server and the only place that changes it.
//!
//! Invariants: a condition is checked under the same write lock as the change that depends on it; in directory
//! mode a record is on disk before the object can be seen, and gone from disk before the deletion can be seen.
//! Locks: `state` is the only one. No method awaits; in directory mode the caller runs them through
//! [`Storage::run`], which moves them to the blocking pool.
//!
//! It does not know HTTP, and computes no digests.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::attributes::{Attributes, Tags};
use crate::checksums::{Algorithm, Kind, StoredChecksum};
use crate::conditions::{Existing, WriteConditions};
use crate::config::Backing;
use crate::content::Content;
use crate::directory::Directory;

/// One version of an object; never changes once it can be seen, except by being replaced.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    /// Without quotes.
    pub(crate) etag: String,
    /// Whole seconds.
    pub(crate) modified: OffsetDateTime,
    pub(crate) attributes: Attributes,
    pub(crate) tags: Tags,
    pub(crate) checksum: Option<StoredChecksum>,
    /// Of an object that was put together from parts, in order; empty otherwise.
    pub(crate) parts: Vec<PartInfo>,
    pub(crate) content: Content,
}

impl Object {
    pub(crate) fn existing(&self) -> Existing<'_> {
        Existing { etag: &self.etag, modified: self.modified }
    }
}

/// What remains known of a part after its upload was completed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartInfo {
    pub(crate) number: i32,
    pub(crate) size: u64,
    pub(crate) checksum: Option<StoredChecksum>,
}

/// A part of an upload in progress.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) etag: String,
    pub(crate) modified: OffsetDateTime,
    pub(crate) checksum: Option<StoredChecksum>,
    pub(crate) content: Content,
}

/// A multipart upload in progress. Lives in memory: a restart of the server forgets it.
#[derive(Debug, Clone)]
pub(crate) struct Upload {
    pub(crate) key: String,
    /// Order of creation among all uploads.
    pub(crate) sequence: u64,
    pub(crate) initiated: OffsetDateTime,
    pub(crate) attributes: Attributes,
    pub(crate) tags: Tags,
    pub(crate) checksum: Option<(Algorithm, Kind)>,
    pub(crate) parts: BTreeMap<i32, Part>,
    /// Changes with every part; a completion based on an older one starts over.
    pub(crate) revision: u64,
}

/// A bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub(crate) created: OffsetDateTime,
    pub(crate) objects: BTreeMap<Box<str>, Arc<Object>>,
    /// By upload id.
    pub(crate) uploads: BTreeMap<String, Upload>,
}

impl Bucket {
    pub(crate) fn new(created: OffsetDateTime) -> Self {
        Self { created, objects: BTreeMap::new(), uploads: BTreeMap::new() }
    }

    fn upload_mut(&mut self, key: &str, id: &str) -> S3Result<&mut Upload> {
        self.uploads.get_mut(id).filter(|upload| upload.key == key).ok_or_else(no_such_upload)
    }
}

/// All buckets by name.
pub(crate) type Buckets = BTreeMap<String, Bucket>;

/// The state of one server.
pub(crate) struct Storage {
    state: RwLock<Buckets>,
    directory: Option<Directory>,
    /// Numbers uploads, body files and fast ETags; never repeats in one run.
    ids: AtomicU64,
    /// Tells the numbers of this run from those of others.
    epoch: u64,
    /// Closed when the storage is gone. The last field: the directory is free by then.
    gone: watch::Sender<()>,
}

/// The present in whole seconds, which is what S3 keeps.
pub(crate) fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(0).unwrap_or(now)
}

fn no_such_upload() -> S3Error {
    s3_error!(NoSuchUpload, "The specified multipart upload does not exist.")
}

impl Storage {
    /// Opens the backing; a directory is created or read.
    ///
    /// # Errors
    /// What the directory answers, or `AlreadyExists` semantics of a directory in use by another server.
    pub(crate) fn open(backing: &Backing) -> io::Result<Self> {
        let (directory, buckets, first_id) = match backing {
            Backing::Memory => (None, Buckets::new(), 1),
            Backing::Directory(path) => {
                let (directory, loaded) = Directory::open(path)?;
                (Some(directory), loaded.buckets, loaded.next_id)
            }
        };
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Ok(Self {
            state: RwLock::new(buckets),
            directory,
            ids: AtomicU64::new(first_id),
            epoch: since.as_nanos() as u64,
            gone: watch::Sender::new(()),
        })
    }

    /// A receiver that is closed when the storage is gone.
    pub(crate) fn watch_gone(&self) -> watch::Receiver<()> {
        self.gone.subscribe()
    }

    pub(crate) fn directory(&self) -> Option<&Directory> {
        self.directory.as_ref()
    }

    /// A number that was not used before in this run.
    pub(crate) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// 32 hex digits that were not used before.
    pub(crate) fn unique_hex(&self) -> String {
        format!("{:016x}{:016x}", self.epoch, self.next_id())
    }

    /// Runs `job` where it may block: on the spot in memory mode, on the blocking pool in directory mode.
    ///
    /// # Errors
    /// Those of `job`; InternalError when it panicked.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        job: impl FnOnce(&Storage) -> S3Result<T> + Send + 'static,
    ) -> S3Result<T> {
        if self.directory.is_none() {
            return job(self);
        }
        let storage = Arc::clone(self);
        tokio::task::spawn_blocking(move || job(&storage)).await.map_err(S3Error::internal_error)?
    }

    /// All buckets with their time of creation, by name.
    pub(crate) fn buckets(&self) -> Vec<(String, OffsetDateTime)> {
        self.state.read().iter().map(|(name, bucket)| (name.clone(), bucket.created)).collect()
    }

    /// # Errors
    /// BucketAlreadyOwnedByYou (409); InternalError from the directory.
    pub(crate) fn create_bucket(&self, name: &str) -> S3Result<()> {
        let mut state = self.state.write();
        if state.contains_key(name) {
            return Err(s3_error!(BucketAlreadyOwnedByYou));
        }
        let bucket = Bucket::new(now());
        if let Some(directory) = &self.directory {
            directory.create_bucket(name, bucket.created).map_err(S3Error::internal_error)?;
        }
        state.insert(name.to_owned(), bucket);
        Ok(())
    }

    /// # Errors
    /// NoSuchBucket, BucketNotEmpty; InternalError from the directory.
    pub(crate) fn delete_bucket(&self, name: &str) -> S3Result<()> {
        let mut state = self.state.write();
        let bucket = state.get(name).ok_or(S3ErrorCode::NoSuchBucket)?;
        if !bucket.objects.is_empty() {
            return Err(s3_error!(BucketNotEmpty, "The bucket you tried to delete is not empty"));
        }
        if let Some(directory) = &self.directory {
            directory.delete_bucket(name).map_err(S3Error::internal_error)?;
        }
        state.remove(name);
        Ok(())
    }

    /// Looks at a bucket under the read lock; `look` must be short.
    ///
    /// # Errors
    /// NoSuchBucket.
    pub(crate) fn look<T>(&self, bucket: &str, look: impl FnOnce(&Bucket) -> T) -> S3Result<T> {
        let state = self.state.read();
        Ok(look(state.get(bucket).ok_or(S3ErrorCode::NoSuchBucket)?))
    }

    /// The present version of an object.
    ///
    /// # Errors
    /// NoSuchBucket, NoSuchKey.
    pub(crate) fn object(&self, bucket: &str, key: &str) -> S3Result<Arc<Object>> {
        let found = self.look(bucket, |bucket| bucket.objects.get(key).cloned())?;
        found.ok_or_else(|| s3_error!(NoSuchKey, "The specified key does not exist."))
    }

    /// Makes `object` the present version of `key` if the conditions hold.
    ///
    /// # Errors
    /// NoSuchBucket, those of the conditions, InternalError from the directory.
    pub(crate) fn commit(
        &self,
        bucket: &str,
        key: &str,
        object: Object,
        conditions: &WriteConditions,
    ) -> S3Result<()> {
        self.commit_with(bucket, key, object, conditions, |_| Ok(()))
    }

    /// As [`Self::commit`], with `admit` as a last check and change under the same lock.
    fn commit_with(
        &self,
        bucket: &str,
        key: &str,
        object: Object,
        conditions: &WriteConditions,
        admit: impl FnOnce(&mut Bucket) -> S3Result<()>,
    ) -> S3Result<()> {
        let prepared = match &self.directory {
            Some(directory) => {
                let id = self.next_id();
                Some(directory.prepare(id, bucket, key, &object).map_err(S3Error::internal_error)?)
            }
            None => None,
        };
        let replaced;
        {
            let mut state = self.state.write();
            let bucket = state.get_mut(bucket).ok_or(S3ErrorCode::NoSuchBucket)?;
            conditions.check(bucket.objects.get(key).map(|object| object.existing()).as_ref())?;
            admit(bucket)?;
            if let Some(prepared) = prepared {
                prepared.publish().map_err(S3Error::internal_error)?;
            }
            replaced = bucket.objects.insert(key.into(), Arc::new(object));
        }
        // Freed outside the lock: a large body takes a while.
        drop(replaced);
        Ok(())
    }

    /// Replaces the tags of an object; its ETag and time stay.
    ///
    /// # Errors
    /// NoSuchBucket, NoSuchKey, InternalError from the directory.
    pub(crate) fn set_tags(&self, bucket: &str, key: &str, tags: Tags) -> S3Result<()> {
        let mut state = self.state.write();
        let objects = &mut state.get_mut(bucket).ok_or(S3ErrorCode::NoSuchBucket)?.objects;
        let present = objects.get_mut(key).ok_or(S3ErrorCode::NoSuchKey)?;
        let tagged = Object { tags, ..Object::clone(present) };
        if let Some(directory) = &self.directory {
            let id = self.next_id();
            let prepared = directory.prepare(id, bucket, key, &tagged).map_err(S3Error::internal_error)?;
            prepared.publish().map_err(S3Error::internal_error)?;
        }
        *present = Arc::new(tagged);
        Ok(())
    }

    /// Deletes an object if `check` lets it; a key that is not there is a success when `check` says so.
    ///
    /// # Errors
    /// NoSuchBucket, those of `check`, InternalError from the directory.
    pub(crate) fn delete(
        &self,
        bucket: &str,
        key: &str,
        check: impl FnOnce(Option<&Object>) -> S3Result<()>,
    ) -> S3Result<()> {
        let removed;
        {
            let mut state = self.state.write();
            let objects = &mut state.get_mut(bucket).ok_or(S3ErrorCode::NoSuchBucket)?.objects;
            check(objects.get(key).map(Arc::as_ref))?;
            if let Some(directory) = &self.directory
                && objects.contains_key(key)
            {
                directory.delete(bucket, key).map_err(S3Error::internal_error)?;
            }
            removed = objects.remove(key);
        }
        drop(removed);
        Ok(())
    }

    /// Starts an upload; gives back its id.
    ///
    /// # Errors
    /// NoSuchBucket.
    pub(crate) fn create_upload(&self, bucket: &str, make: impl FnOnce(u64) -> Upload) -> S3Result<String> {
        let sequence = self.next_id();
        let id = format!("{:016x}{sequence:016x}", self.epoch);
        let mut state = self.state.write();
        let bucket = state.get_mut(bucket).ok_or(S3ErrorCode::NoSuchBucket)?;
        bucket.uploads.insert(id.clone(), make(sequence));
        Ok(id)
    }

    /// A snapshot of an upload; the parts share their content.
    ///
    /// # Errors
    /// NoSuchBucket, NoSuchUpload.
    pub(crate) fn upload(&self, bucket: &str, key: &str, id: &str) -> S3Result<Upload> {
        let found = self.look(bucket, |bucket| bucket.uploads.get(id).cloned())?;
        found.filter(|upload| upload.key == key).ok_or_else(no_such_upload)
    }

    /// Stores a part, replacing an earlier one of the same number.
    ///
    /// # Errors
    /// NoSuchBucket, NoSuchUpload.
    pub(crate) fn put_part(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
        number: i32,
        part: Part,
    ) -> S3Result<()> {
        let replaced;
        {
            let mut state = self.state.write();
            let bucket = state.get_mut(bucket).ok_or(S3ErrorCode::NoSuchBucket)?;
            let upload = bucket.upload_mut(key, id)?;
            upload.revision += 1;
            replaced = upload.parts.insert(number, part);
        }
        drop(replaced);
        Ok(())
    }

    /// Forgets an upload and its parts.
    ///
    /// # Errors
    /// NoSuchBucket, NoSuchUpload.
    pub(crate) fn abort_upload(&self, bucket: &str, key: &str, id: &str) -> S3Result<()> {
        let removed;
        {
            let mut state = self.state.write();
            let bucket = state.get_mut(bucket).ok_or(S3ErrorCode::NoSuchBucket)?;
            bucket.upload_mut(key, id)?;
            removed = bucket.uploads.remove(id);
        }
        drop(removed);
        Ok(())
    }

    /// Makes the object of an upload the present version and forgets the upload, both or neither. `revision` is
    /// that of the snapshot from which `object` was put together.
    ///
    /// # Errors
    /// Those of [`Self::commit`]; NoSuchUpload; OperationAborted (409) when a part came in meanwhile.
    pub(crate) fn complete_upload(
        &self,
        bucket: &str,
        (id, revision): (&str, u64),
        key: &str,
        object: Object,
        conditions: &WriteConditions,
    ) -> S3Result<()> {
        self.commit_with(bucket, key, object, conditions, |bucket| {
            if bucket.upload_mut(key, id)?.revision != revision {
                return Err(s3_error!(OperationAborted, "a part changed while the upload was completed"));
            }
            bucket.uploads.remove(id);
            Ok(())
        })
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        // Before the contents go: what is on disk stays.
        if let Some(directory) = &self.directory {
            directory.close();
        }
    }
}
