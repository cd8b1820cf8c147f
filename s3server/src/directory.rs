//! The format of a server's directory.
//!
//! `format` names the version, `lock` keeps a second server out. `buckets/NAME/bucket` marks a bucket;
//! `buckets/NAME/objects/XX/HASH.json` is the record of one object (HASH is the SHA-256 of the key, XX its first
//! two digits) and refers to pieces of files under `bodies/`, which records may share. `tmp/` holds what is being
//! written. Everything appears by rename; records are written after the bodies that they refer to and removed
//! before them, so a crash leaves at most orphaned bodies, which the next start deletes.
//!
//! It does not sync: it survives the end of the process, not that of the machine.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use crate::attributes::{Attributes, Tags};
use crate::checksums::StoredChecksum;
use crate::content::{BodyFile, Content, Source};
use crate::storage::{Bucket, Buckets, Object, PartInfo};

const FORMAT: &str = "pailfs-s3 1\n";

#[derive(Serialize, Deserialize)]
struct Record {
    key: String,
    etag: String,
    modified_unix_seconds: i64,
    attributes: Attributes,
    tags: Tags,
    checksum: Option<StoredChecksum>,
    parts: Vec<PartInfo>,
    pieces: Vec<Piece>,
}

#[derive(Serialize, Deserialize)]
struct Piece {
    body: u64,
    offset: u64,
    len: u64,
}

/// An open directory.
pub(crate) struct Directory {
    root: PathBuf,
    closing: Arc<AtomicBool>,
    /// Held until the server is gone.
    _lock: File,
}

/// What a directory held when it was opened.
pub(crate) struct Loaded {
    pub(crate) buckets: Buckets,
    pub(crate) next_id: u64,
}

/// A record written but not yet in its place. Dropped unpublished, it is removed.
pub(crate) struct Prepared {
    temporary: PathBuf,
    place: PathBuf,
    published: bool,
}

impl Prepared {
    /// Moves the record to its place.
    pub(crate) fn publish(mut self) -> io::Result<()> {
        fs::rename(&self.temporary, &self.place)?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if !self.published {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

fn unix_time(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

impl Directory {
    /// Opens or creates a directory and reads all records.
    ///
    /// # Errors
    /// `InvalidData` for a directory of another format, `ResourceBusy` when another server has it, and what the
    /// file system answers.
    pub(crate) fn open(root: &Path) -> io::Result<(Self, Loaded)> {
        fs::create_dir_all(root)?;
        let format = root.join("format");
        match fs::read_to_string(&format) {
            Ok(text) if text == FORMAT => {}
            Ok(_) => {
                let message = format!("{} holds another format", root.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if fs::read_dir(root)?.next().is_some() {
                    let message = format!("{} is not empty and no directory of this server", root.display());
                    return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                }
                fs::write(&format, FORMAT)?;
            }
            Err(error) => return Err(error),
        }
        let lock = File::create(root.join("lock"))?;
        if lock.try_lock().is_err() {
            let message = format!("{} is in use by another server", root.display());
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
        }
        for name in ["buckets", "bodies", "tmp"] {
            fs::create_dir_all(root.join(name))?;
        }
        for leftover in fs::read_dir(root.join("tmp"))? {
            fs::remove_file(leftover?.path())?;
        }
        let directory =
            Self { root: root.to_owned(), closing: Arc::new(AtomicBool::new(false)), _lock: lock };
        let loaded = directory.load()?;
        Ok((directory, loaded))
    }

    /// From now on nothing is deleted any more.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    fn load(&self) -> io::Result<Loaded> {
        let mut bodies = HashMap::new();
        let mut next_id = 1;
        for entry in fs::read_dir(self.root.join("bodies"))? {
            let entry = entry?;
            let name = entry.file_name();
            if let Some(id) = name.to_str().and_then(|name| u64::from_str_radix(name, 16).ok()) {
                next_id = next_id.max(id + 1);
                bodies.insert(id, self.body_file(id));
            }
        }
        let mut buckets = Buckets::new();
        for entry in fs::read_dir(self.root.join("buckets"))? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if let Ok(created) = fs::read_to_string(entry.path().join("bucket")) {
                let mut bucket = Bucket::new(unix_time(created.trim().parse().unwrap_or_default()));
                self.load_objects(&name, &mut bucket, &bodies)?;
                buckets.insert(name, bucket);
            }
        }
        // The files that no record refers to are deleted here, as `bodies` lets go of them.
        Ok(Loaded { buckets, next_id })
    }

    fn load_objects(
        &self,
        name: &str,
        bucket: &mut Bucket,
        bodies: &HashMap<u64, Arc<BodyFile>>,
    ) -> io::Result<()> {
        for shelf in fs::read_dir(self.root.join("buckets").join(name).join("objects"))? {
            for file in fs::read_dir(shelf?.path())? {
                let path = file?.path();
                let record = serde_json::from_slice::<Record>(&fs::read(&path)?);
                let loaded = record.ok().and_then(|record| {
                    let pieces = record.pieces.iter().map(|piece| {
                        let body = Arc::clone(bodies.get(&piece.body)?);
                        Some((Source::File { body, offset: piece.offset }, piece.len))
                    });
                    let content = Content::from_sources(pieces.collect::<Option<Vec<_>>>()?);
                    Some((record, content))
                });
                let Some((record, content)) = loaded else {
                    tracing::warn!(path = %path.display(), "left out a record that cannot be read");
                    continue;
                };
                let object = Object {
                    etag: record.etag,
                    modified: unix_time(record.modified_unix_seconds),
                    attributes: record.attributes,
                    tags: record.tags,
                    checksum: record.checksum,
                    parts: record.parts,
                    content,
                };
                bucket.objects.insert(record.key.into(), Arc::new(object));
            }
        }
        Ok(())
    }

    /// A handle to the body file of that number, which may not exist yet.
    pub(crate) fn body_file(&self, id: u64) -> Arc<BodyFile> {
        let path = self.root.join("bodies").join(format!("{id:016x}"));
        Arc::new(BodyFile { id, path, closing: Arc::clone(&self.closing) })
    }

    pub(crate) fn create_bucket(&self, name: &str, created: OffsetDateTime) -> io::Result<()> {
        let path = self.root.join("buckets").join(name);
        fs::create_dir_all(path.join("objects"))?;
        fs::write(path.join("bucket"), created.unix_timestamp().to_string())
    }

    /// Removes an empty bucket.
    pub(crate) fn delete_bucket(&self, name: &str) -> io::Result<()> {
        let path = self.root.join("buckets").join(name);
        fs::remove_file(path.join("bucket"))?;
        fs::remove_dir_all(path)
    }

    fn place(&self, bucket: &str, key: &str) -> PathBuf {
        let hash = hex::encode(Sha256::digest(key.as_bytes()));
        let objects = self.root.join("buckets").join(bucket).join("objects");
        objects.join(&hash[..2]).join(format!("{hash}.json"))
    }

    /// Writes the record of an object next to its place.
    ///
    /// # Errors
    /// `NotFound` when the bucket is gone, and what the file system answers.
    pub(crate) fn prepare(&self, id: u64, bucket: &str, key: &str, object: &Object) -> io::Result<Prepared> {
        let pieces = object.content.sources().map(|(source, len)| match source {
            Source::File { body, offset } => Ok(Piece { body: body.id, offset: *offset, len }),
            Source::Memory(_) => Err(io::Error::other("a body that is not on disk")),
        });
        let record = Record {
            key: key.to_owned(),
            etag: object.etag.clone(),
            modified_unix_seconds: object.modified.unix_timestamp(),
            attributes: object.attributes.clone(),
            tags: object.tags.clone(),
            checksum: object.checksum.clone(),
            parts: object.parts.clone(),
            pieces: pieces.collect::<io::Result<_>>()?,
        };
        let place = self.place(bucket, key);
        if let Some(shelf) = place.parent() {
            match fs::create_dir(shelf) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        let temporary = self.root.join("tmp").join(format!("{id:016x}"));
        let prepared = Prepared { temporary, place, published: false };
        fs::write(&prepared.temporary, serde_json::to_vec(&record)?)?;
        Ok(prepared)
    }

    /// Removes the record of an object.
    pub(crate) fn delete(&self, bucket: &str, key: &str) -> io::Result<()> {
        fs::remove_file(self.place(bucket, key))
    }
}
