//! Multipart uploads in memory.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use md5::{Digest, Md5};

use super::MemoryStore;
use super::state::{Object, State, etag_of};
use crate::store::error::{ErrorKind, Result, StoreError};
use crate::store::types::{
    Body, Condition, ETag, ObjectPath, Part, PendingUpload, Properties, UploadId, Written,
};
use crate::store::validate;

pub(super) struct Upload {
    key: String,
    properties: Properties,
    tags: BTreeMap<String, String>,
    initiated: SystemTime,
    parts: BTreeMap<u32, (ETag, [u8; 16], Bytes)>,
}

impl MemoryStore {
    pub(super) fn create_upload_now(
        &self,
        path: &ObjectPath,
        properties: &Properties,
        tags: &BTreeMap<String, String>,
    ) -> Result<UploadId> {
        const OPERATION: &str = "CreateMultipartUpload";
        validate::key(OPERATION, path)?;
        validate::properties(OPERATION, path, properties)?;
        validate::tags(OPERATION, path, tags)?;
        let mut state = self.state.lock();
        state.bucket(OPERATION, &path.bucket)?;
        state.uploads_begun += 1;
        let id = UploadId(format!("upload-{:08}", state.uploads_begun).into());
        let upload = Upload {
            key: path.key.to_string(),
            properties: properties.clone(),
            tags: tags.clone(),
            initiated: (self.clock)(),
            parts: BTreeMap::new(),
        };
        state.bucket_mut(OPERATION, &path.bucket)?.uploads.insert(id.clone(), upload);
        Ok(id)
    }

    pub(super) fn upload_part_now(
        &self,
        path: &ObjectPath,
        id: &UploadId,
        number: u32,
        body: Body,
    ) -> Result<Part> {
        const OPERATION: &str = "UploadPart";
        validate::key(OPERATION, path)?;
        validate::part_number(OPERATION, path, number)?;
        validate::body(OPERATION, path, &body)?;
        let mut state = self.state.lock();
        Ok(state.upload_mut(OPERATION, path, id)?.add(number, body.0))
    }

    pub(super) fn copy_part_now(
        &self,
        path: &ObjectPath,
        id: &UploadId,
        number: u32,
        from: &ObjectPath,
        from_etag: &ETag,
        range: (u64, u64),
    ) -> Result<Part> {
        const OPERATION: &str = "UploadPartCopy";
        validate::key(OPERATION, path)?;
        validate::key(OPERATION, from)?;
        validate::part_number(OPERATION, path, number)?;
        validate::copy_range(OPERATION, from, range)?;
        let mut state = self.state.lock();
        state.upload_mut(OPERATION, path, id)?;
        let source = state.object(OPERATION, from)?;
        let refuse = |kind, message: &str| Err(StoreError::new(kind, OPERATION, from, message));
        if source.etag != *from_etag {
            return refuse(ErrorKind::Precondition, "the source has another version");
        }
        if source.is_archived() {
            return refuse(ErrorKind::Archived, "the source is archived");
        }
        if range.0.checked_add(range.1).is_none_or(|end| end > source.data.len() as u64) {
            return refuse(ErrorKind::InvalidRequest, "the range reaches past the end of the source");
        }
        let bytes = source.slice(range.0, range.1);
        Ok(state.upload_mut(OPERATION, path, id)?.add(number, bytes))
    }

    pub(super) fn complete_upload_now(
        &self,
        path: &ObjectPath,
        id: &UploadId,
        parts: &[Part],
        condition: &Condition,
    ) -> Result<Written> {
        const OPERATION: &str = "CompleteMultipartUpload";
        validate::key(OPERATION, path)?;
        validate::parts(OPERATION, path, parts)?;
        let now = (self.clock)();
        let mut state = self.state.lock();
        let upload = state.upload_mut(OPERATION, path, id)?;
        let object = upload.object(path, parts, self.part_min_bytes, now)?;
        state.check(OPERATION, path, condition)?;
        let written = state.store(OPERATION, path, object)?;
        state.bucket_mut(OPERATION, &path.bucket)?.uploads.remove(id);
        Ok(written)
    }

    pub(super) fn abort_upload_now(&self, path: &ObjectPath, id: &UploadId) -> Result<()> {
        const OPERATION: &str = "AbortMultipartUpload";
        validate::key(OPERATION, path)?;
        self.state.lock().bucket_mut(OPERATION, &path.bucket)?.uploads.remove(id);
        Ok(())
    }

    pub(super) fn list_parts_now(&self, path: &ObjectPath, id: &UploadId) -> Result<Vec<Part>> {
        const OPERATION: &str = "ListParts";
        validate::key(OPERATION, path)?;
        let mut state = self.state.lock();
        let upload = state.upload_mut(OPERATION, path, id)?;
        let part = |(number, (etag, _, bytes)): (&u32, &(ETag, [u8; 16], Bytes))| Part {
            number: *number,
            etag: etag.clone(),
            size: bytes.len() as u64,
            checksum: None,
        };
        Ok(upload.parts.iter().map(part).collect())
    }

    pub(super) fn list_uploads_now(&self, bucket: &str, prefix: &str) -> Result<Vec<PendingUpload>> {
        let state = self.state.lock();
        let uploads = &state.bucket("ListMultipartUploads", bucket)?.uploads;
        let mut found: Vec<_> = uploads
            .iter()
            .filter(|(_, upload)| upload.key.starts_with(prefix))
            .map(|(id, upload)| PendingUpload {
                path: ObjectPath::new(bucket, upload.key.as_str()),
                id: id.clone(),
                initiated: upload.initiated,
            })
            .collect();
        found.sort_by(|a, b| (&a.path, a.initiated, &a.id.0).cmp(&(&b.path, b.initiated, &b.id.0)));
        Ok(found)
    }
}

impl State {
    fn upload_mut(
        &mut self,
        operation: &'static str,
        path: &ObjectPath,
        id: &UploadId,
    ) -> Result<&mut Upload> {
        let uploads = &mut self.bucket_mut(operation, &path.bucket)?.uploads;
        uploads.get_mut(id).filter(|upload| *upload.key == *path.key).ok_or_else(|| {
            StoreError::new(ErrorKind::UploadGone, operation, path, "the upload does not exist")
                .with_code("NoSuchUpload")
        })
    }
}

impl Upload {
    fn add(&mut self, number: u32, bytes: Bytes) -> Part {
        let digest: [u8; 16] = Md5::digest(&bytes).into();
        let etag = etag_of(&digest, "");
        let size = bytes.len() as u64;
        self.parts.insert(number, (etag.clone(), digest, bytes));
        Part { number, etag, size, checksum: None }
    }

    /// The object of the named parts.
    fn object(
        &self,
        path: &ObjectPath,
        parts: &[Part],
        part_min_bytes: u64,
        now: SystemTime,
    ) -> Result<Object> {
        let refuse = |code: &str, message: &str| {
            let error = StoreError::new(ErrorKind::InvalidRequest, "CompleteMultipartUpload", path, message);
            Err(error.with_code(code))
        };
        let mut digests = Md5::new();
        let mut data = BytesMut::new();
        for (at, part) in parts.iter().enumerate() {
            let Some((etag, digest, bytes)) = self.parts.get(&part.number) else {
                return refuse("InvalidPart", "a part was not uploaded");
            };
            if *etag != part.etag {
                return refuse("InvalidPart", "a part has another ETag");
            }
            if at + 1 < parts.len() && (bytes.len() as u64) < part_min_bytes {
                return refuse("EntityTooSmall", "a part but the last is smaller than 5 MiB");
            }
            digests.update(digest);
            data.extend_from_slice(bytes);
        }
        let etag = etag_of(&digests.finalize(), &format!("-{}", parts.len()));
        Ok(Object::with_etag(data.freeze(), etag, self.properties.clone(), self.tags.clone(), now))
    }
}
