//! PutObject, the deletions, tags, and CopyObject.

use s3s::dto::*;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result, s3_error};

use crate::api::{Api, copy_source};
use crate::attributes::{Attributes, Tags, attributes_of, fill_encryption, tags_of_header, tags_of_set};
use crate::checksums::{Announced, Digests, etag_of, fill_checksums, sent_checksums};
use crate::conditions::{ReadConditions, WriteConditions, precondition_failed};
use crate::content::Content;
use crate::intake;
use crate::storage::{Object as Stored, now};

/// Largest body of one PutObject and largest source of one CopyObject, in bytes.
const SINGLE_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;
/// Most keys in one DeleteObjects.
const DELETE_KEYS_MAX: usize = 1000;

/// Whether the object may go, as a conditional DeleteObject or one entry of DeleteObjects says.
fn may_delete(
    present: Option<&Stored>,
    etag: Option<&ETagCondition>,
    size: Option<i64>,
    modified: Option<&Timestamp>,
) -> S3Result<()> {
    let Some(present) = present else {
        let conditional = etag.is_some() || size.is_some() || modified.is_some();
        return if conditional { Err(S3ErrorCode::NoSuchKey.into()) } else { Ok(()) };
    };
    let conditions = WriteConditions { if_match: etag.cloned(), if_none_match: None };
    conditions.check(Some(&present.existing()))?;
    let same_size = size.is_none_or(|size| size == present.content.len() as i64);
    let same_time = modified.is_none_or(|modified| {
        time::OffsetDateTime::from(modified.clone()).unix_timestamp() == present.modified.unix_timestamp()
    });
    if same_size && same_time { Ok(()) } else { Err(precondition_failed()) }
}

impl Api {
    /// The ETag of a single body: its MD5, or a number that never repeats.
    pub(crate) fn etag(&self, digests: &Digests) -> String {
        match digests.md5 {
            Some(md5) if !self.fast_etags => etag_of(md5),
            _ => self.storage.unique_hex(),
        }
    }

    pub(crate) async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<PutObjectOutput> {
        let mut input = request.input;
        if input.content_length.is_some_and(|len| len as u64 > SINGLE_BYTES_MAX) {
            return Err(S3ErrorCode::EntityTooLarge.into());
        }
        let attributes: Attributes = attributes_of!(input);
        let tags = tags_of_header(input.tagging.as_deref())?;
        let conditions = WriteConditions { if_match: input.if_match, if_none_match: input.if_none_match };
        self.storage.look(&input.bucket, |_| ())?;
        let sent = sent_checksums!(input);
        let algorithm = input.checksum_algorithm.as_ref();
        let trailers = request.trailing_headers;
        let announced = Announced::new(input.content_md5, sent, algorithm, &request.headers, trailers);
        let expected_len = input.content_length.and_then(|len| u64::try_from(len).ok());
        let body = input.body.take();
        let received =
            intake::receive(&self.storage, body, expected_len, &announced, !self.fast_etags).await?;
        let etag = self.etag(&received.digests);
        let mut output =
            PutObjectOutput { e_tag: Some(ETag::Strong(etag.clone())), ..PutObjectOutput::default() };
        fill_checksums!(output, received.checksum.as_ref());
        output.checksum_type = received.checksum.as_ref().map(|checksum| checksum.kind.dto());
        fill_encryption!(output, &attributes.encryption);
        let object = Stored {
            etag,
            modified: now(),
            attributes,
            tags,
            checksum: received.checksum,
            parts: Vec::new(),
            content: received.content,
        };
        let (bucket, key) = (input.bucket, input.key);
        self.storage.run(move |storage| storage.commit(&bucket, &key, object, &conditions)).await?;
        Ok(output)
    }

    pub(crate) async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<DeleteObjectOutput> {
        let input = request.input;
        self.storage
            .run(move |storage| {
                storage.delete(&input.bucket, &input.key, |present| {
                    let modified = input.if_match_last_modified_time.as_ref();
                    may_delete(present, input.if_match.as_ref(), input.if_match_size, modified)
                })
            })
            .await?;
        Ok(DeleteObjectOutput::default())
    }

    pub(crate) async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<DeleteObjectsOutput> {
        let input = request.input;
        self.storage.look(&input.bucket, |_| ())?;
        let objects = input.delete.objects;
        if objects.is_empty() || objects.len() > DELETE_KEYS_MAX {
            return Err(S3ErrorCode::MalformedXML.into());
        }
        let bucket = input.bucket;
        let (deleted, errors) = self
            .storage
            .run(move |storage| {
                let (mut deleted, mut errors) = (Vec::new(), Vec::new());
                for entry in objects {
                    let etag = entry.e_tag.map(ETagCondition::ETag);
                    let outcome = storage.delete(&bucket, &entry.key, |present| {
                        may_delete(present, etag.as_ref(), entry.size, entry.last_modified_time.as_ref())
                    });
                    match outcome {
                        Ok(()) => {
                            deleted.push(DeletedObject { key: Some(entry.key), ..DeletedObject::default() });
                        }
                        Err(error) => errors.push(Error {
                            code: Some(error.code().as_str().to_owned()),
                            key: Some(entry.key),
                            message: error.message().map(str::to_owned),
                            version_id: None,
                        }),
                    }
                }
                Ok((deleted, errors))
            })
            .await?;
        let quiet = input.delete.quiet == Some(true);
        Ok(DeleteObjectsOutput {
            deleted: (!quiet).then_some(deleted),
            errors: Some(errors),
            ..DeleteObjectsOutput::default()
        })
    }

    pub(crate) async fn put_object_tagging(
        &self,
        request: S3Request<PutObjectTaggingInput>,
    ) -> S3Result<PutObjectTaggingOutput> {
        let input = request.input;
        let tags = tags_of_set(&input.tagging.tag_set)?;
        self.storage.run(move |storage| storage.set_tags(&input.bucket, &input.key, tags)).await?;
        Ok(PutObjectTaggingOutput::default())
    }

    pub(crate) async fn delete_object_tagging(
        &self,
        request: S3Request<DeleteObjectTaggingInput>,
    ) -> S3Result<DeleteObjectTaggingOutput> {
        let input = request.input;
        self.storage.run(move |storage| storage.set_tags(&input.bucket, &input.key, Tags::new())).await?;
        Ok(DeleteObjectTaggingOutput::default())
    }

    pub(crate) async fn copy_object(
        &self,
        request: S3Request<CopyObjectInput>,
    ) -> S3Result<CopyObjectOutput> {
        let conditions = WriteConditions::from_headers(&request.headers)?;
        let input = request.input;
        let (source_bucket, source_key) = copy_source(&input.copy_source)?;
        let source = self.storage.object(source_bucket, source_key)?;
        self.storage.look(&input.bucket, |_| ())?;
        let wanted = ReadConditions {
            if_match: input.copy_source_if_match.clone(),
            if_none_match: input.copy_source_if_none_match.clone(),
            if_modified_since: input.copy_source_if_modified_since.clone(),
            if_unmodified_since: input.copy_source_if_unmodified_since.clone(),
        };
        wanted.check_source(&source.existing())?;
        let key_md5 = input.copy_source_sse_customer_key_md5.as_deref();
        source.attributes.encryption.check_reader(key_md5)?;
        if source.content.len() > SINGLE_BYTES_MAX {
            return Err(s3_error!(InvalidRequest, "The specified copy source is larger than 5 GiB"));
        }
        let attributes = copied_attributes(&input, &source)?;
        let to_itself = source_bucket == input.bucket && source_key == input.key;
        if to_itself && changes_nothing(&input, &source, &attributes) {
            return Err(s3_error!(
                InvalidRequest,
                "This copy request is illegal because it is trying to copy an object to itself without changing \
                 the object's metadata, storage class, website redirect location or encryption attributes."
            ));
        }
        let replace_tags =
            input.tagging_directive.as_ref().is_some_and(|d| d.as_str() == TaggingDirective::REPLACE);
        let tags = if replace_tags { tags_of_header(input.tagging.as_deref())? } else { source.tags.clone() };
        let object = Stored {
            etag: self.copied_etag(&source).await?,
            modified: now(),
            attributes,
            tags,
            // A checksum of checksums says nothing about the bytes of a single body.
            checksum: source.checksum.clone().filter(|_| source.parts.is_empty()),
            parts: Vec::new(),
            content: source.content.clone(),
        };
        let mut result = CopyObjectResult {
            e_tag: Some(ETag::Strong(object.etag.clone())),
            last_modified: Some(object.modified.into()),
            ..CopyObjectResult::default()
        };
        fill_checksums!(result, object.checksum.as_ref());
        let mut output = CopyObjectOutput { copy_object_result: Some(result), ..CopyObjectOutput::default() };
        fill_encryption!(output, &object.attributes.encryption);
        let (bucket, key) = (input.bucket, input.key);
        self.storage.run(move |storage| storage.commit(&bucket, &key, object, &conditions)).await?;
        Ok(output)
    }

    /// A copy is a single body: that of an object from one PUT keeps the ETag, that of an object from parts gets
    /// the one of its whole content.
    async fn copied_etag(&self, source: &Stored) -> S3Result<String> {
        if source.parts.is_empty() {
            return Ok(source.etag.clone());
        }
        if self.fast_etags {
            return Ok(self.storage.unique_hex());
        }
        let content = source.content.clone();
        let etag = tokio::task::spawn_blocking(move || md5_etag(&content)).await;
        etag.map_err(S3Error::internal_error)?.map_err(S3Error::internal_error)
    }
}

fn md5_etag(content: &Content) -> std::io::Result<String> {
    use md5::{Digest as _, Md5};
    let mut md5 = Md5::new();
    content.visit_blocking(|bytes| md5.update(bytes))?;
    Ok(etag_of(md5.finalize().into()))
}

fn replaces_metadata(input: &CopyObjectInput) -> bool {
    input.metadata_directive.as_ref().is_some_and(|d| d.as_str() == MetadataDirective::REPLACE)
}

/// What the copy carries. Storage class, website redirect and encryption never come from the source.
fn copied_attributes(input: &CopyObjectInput, source: &Stored) -> S3Result<Attributes> {
    let requested: Attributes = attributes_of!(input);
    if replaces_metadata(input) {
        return Ok(requested);
    }
    Ok(Attributes {
        storage_class: requested.storage_class,
        website_redirect: requested.website_redirect,
        encryption: requested.encryption,
        ..source.attributes.clone()
    })
}

fn changes_nothing(input: &CopyObjectInput, source: &Stored, copied: &Attributes) -> bool {
    let asked_encryption = copied.encryption != crate::attributes::Encryption::default();
    let other_class =
        input.storage_class.is_some() && copied.storage_class != source.attributes.storage_class;
    !replaces_metadata(input) && !other_class && copied.website_redirect.is_none() && !asked_encryption
}
