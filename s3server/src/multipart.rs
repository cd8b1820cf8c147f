//! Multipart uploads: parts in, one object out.
//!
//! Source: the S3 API pages of the operations, "Amazon S3 multipart upload limits".

use s3s::dto::*;
use s3s::{S3ErrorCode, S3Request, S3Result, s3_error};

use crate::api::{Api, copy_source};
use crate::attributes::{Attributes, attributes_of, fill_encryption, tags_of_header};
use crate::checksums::{
    Algorithm, Announced, Kind, StoredChecksum, combine, fill_checksums, multipart_etag, sent_checksums,
};
use crate::conditions::{ReadConditions, WriteConditions};
use crate::content::Content;
use crate::intake;
use crate::storage::{Object as Stored, Part as StoredPart, PartInfo, Upload, now};

const PART_NUMBER_MAX: i32 = 10_000;

fn check_part_number(number: i32) -> S3Result<()> {
    if (1..=PART_NUMBER_MAX).contains(&number) {
        return Ok(());
    }
    Err(s3_error!(InvalidArgument, "Part number must be an integer between 1 and 10000, inclusive"))
}

/// The first and last byte that `x-amz-copy-source-range` names.
fn copy_range(header: &str, size: u64) -> S3Result<std::ops::Range<u64>> {
    let invalid = || {
        s3_error!(
            InvalidArgument,
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the \
             zero-based offsets of the first and last bytes to copy"
        )
    };
    match Range::parse(header).map_err(|_| invalid())? {
        Range::Int { first, last: Some(last) } if last < size => Ok(first..last + 1),
        Range::Int { last: Some(_), .. } => {
            Err(s3_error!(InvalidArgument, "Range specified is not valid for source object of size: {size}"))
        }
        _ => Err(invalid()),
    }
}

impl Api {
    pub(crate) async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<CreateMultipartUploadOutput> {
        let input = request.input;
        let attributes: Attributes = attributes_of!(input);
        let tags = tags_of_header(input.tagging.as_deref())?;
        let checksum = match &input.checksum_algorithm {
            None => None,
            Some(name) => {
                let algorithm = Algorithm::from_name(name.as_str())
                    .ok_or_else(|| s3_error!(InvalidRequest, "unknown checksum algorithm"))?;
                let kind = input.checksum_type.as_ref().map(Kind::from_dto).transpose()?;
                Some((algorithm, kind.unwrap_or(algorithm.default_kind())))
            }
        };
        let mut output = CreateMultipartUploadOutput {
            bucket: Some(input.bucket.clone()),
            key: Some(input.key.clone()),
            checksum_algorithm: input.checksum_algorithm.clone(),
            checksum_type: checksum.map(|(_, kind)| kind.dto()),
            ..CreateMultipartUploadOutput::default()
        };
        fill_encryption!(output, &attributes.encryption);
        let id = self.storage.create_upload(&input.bucket, |sequence| Upload {
            key: input.key.clone(),
            sequence,
            initiated: now(),
            attributes,
            tags,
            checksum,
            parts: Default::default(),
            revision: 0,
        })?;
        output.upload_id = Some(id);
        Ok(output)
    }

    pub(crate) async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<UploadPartOutput> {
        let mut input = request.input;
        check_part_number(input.part_number)?;
        let upload = self.storage.upload(&input.bucket, &input.key, &input.upload_id)?;
        let sent = sent_checksums!(input);
        let algorithm = input.checksum_algorithm.as_ref();
        let trailers = request.trailing_headers;
        let mut announced = Announced::new(input.content_md5, sent, algorithm, &request.headers, trailers);
        announced.require(upload.checksum.map(|(algorithm, _)| algorithm));
        let expected_len = input.content_length.and_then(|len| u64::try_from(len).ok());
        let body = input.body.take();
        let received =
            intake::receive(&self.storage, body, expected_len, &announced, !self.fast_etags).await?;
        let etag = self.etag(&received.digests);
        let mut output =
            UploadPartOutput { e_tag: Some(ETag::Strong(etag.clone())), ..UploadPartOutput::default() };
        fill_checksums!(output, received.checksum.as_ref());
        fill_encryption!(output, &upload.attributes.encryption);
        let part =
            StoredPart { etag, modified: now(), checksum: received.checksum, content: received.content };
        self.storage.put_part(&input.bucket, &input.key, &input.upload_id, input.part_number, part)?;
        Ok(output)
    }

    pub(crate) async fn upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<UploadPartCopyOutput> {
        let input = request.input;
        check_part_number(input.part_number)?;
        let upload = self.storage.upload(&input.bucket, &input.key, &input.upload_id)?;
        let (source_bucket, source_key) = copy_source(&input.copy_source)?;
        let source = self.storage.object(source_bucket, source_key)?;
        let wanted = ReadConditions {
            if_match: input.copy_source_if_match.clone(),
            if_none_match: input.copy_source_if_none_match.clone(),
            if_modified_since: input.copy_source_if_modified_since.clone(),
            if_unmodified_since: input.copy_source_if_unmodified_since.clone(),
        };
        wanted.check_source(&source.existing())?;
        source.attributes.encryption.check_reader(input.copy_source_sse_customer_key_md5.as_deref())?;
        let content = match &input.copy_source_range {
            None => source.content.clone(),
            Some(header) => source.content.slice(copy_range(header, source.content.len())?),
        };
        let algorithm = upload.checksum.map(|(algorithm, _)| algorithm);
        let (etag, checksum) = self.digest(&content, algorithm).await?;
        let modified = now();
        let mut result = CopyPartResult {
            e_tag: Some(ETag::Strong(etag.clone())),
            last_modified: Some(modified.into()),
            ..CopyPartResult::default()
        };
        fill_checksums!(result, checksum.as_ref());
        let mut output = UploadPartCopyOutput { copy_part_result: Some(result), ..Default::default() };
        fill_encryption!(output, &upload.attributes.encryption);
        let part = StoredPart { etag, modified, checksum, content };
        self.storage.put_part(&input.bucket, &input.key, &input.upload_id, input.part_number, part)?;
        Ok(output)
    }

    /// The ETag and the checksum of bytes that are here already.
    async fn digest(
        &self,
        content: &Content,
        algorithm: Option<Algorithm>,
    ) -> S3Result<(String, Option<StoredChecksum>)> {
        if self.fast_etags && algorithm.is_none() {
            return Ok((self.storage.unique_hex(), None));
        }
        let mut announced = Announced::default();
        announced.require(algorithm);
        let (content, with_md5) = (content.clone(), !self.fast_etags);
        let digested = tokio::task::spawn_blocking(move || {
            let mut hasher = announced.hasher(with_md5);
            content.visit_blocking(|bytes| hasher.update(bytes)).map_err(s3s::S3Error::internal_error)?;
            let digests = hasher.finish();
            let checksum = announced.verify(&digests)?;
            Ok::<_, s3s::S3Error>((digests, checksum))
        });
        let (digests, checksum) = digested.await.map_err(s3s::S3Error::internal_error)??;
        Ok((self.etag(&digests), checksum))
    }

    pub(crate) async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<ListPartsOutput> {
        let input = request.input;
        let upload = self.storage.upload(&input.bucket, &input.key, &input.upload_id)?;
        let limit = self.limit(input.max_parts)?;
        let marker = input.part_number_marker.unwrap_or(0);
        let mut behind = upload.parts.range(marker.saturating_add(1)..);
        let mut parts = Vec::new();
        for (number, stored) in behind.by_ref().take(limit) {
            let mut part = Part {
                part_number: Some(*number),
                e_tag: Some(ETag::Strong(stored.etag.clone())),
                size: Some(stored.content.len() as i64),
                last_modified: Some(stored.modified.into()),
                ..Part::default()
            };
            fill_checksums!(part, stored.checksum.as_ref());
            parts.push(part);
        }
        let truncated = behind.next().is_some();
        let class = upload.attributes.storage_class.as_deref().unwrap_or(StorageClass::STANDARD);
        Ok(ListPartsOutput {
            next_part_number_marker: parts.last().and_then(|part| part.part_number).filter(|_| truncated),
            is_truncated: Some(truncated),
            parts: Some(parts),
            max_parts: Some(limit as i32),
            part_number_marker: Some(marker),
            storage_class: Some(StorageClass::from(class.to_owned())),
            checksum_algorithm: upload.checksum.map(|(a, _)| ChecksumAlgorithm::from_static(a.name())),
            checksum_type: upload.checksum.map(|(_, kind)| kind.dto()),
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            ..ListPartsOutput::default()
        })
    }

    pub(crate) async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<AbortMultipartUploadOutput> {
        let input = request.input;
        self.storage.abort_upload(&input.bucket, &input.key, &input.upload_id)?;
        Ok(AbortMultipartUploadOutput::default())
    }

    pub(crate) async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<CompleteMultipartUploadOutput> {
        let input = request.input;
        let upload = self.storage.upload(&input.bucket, &input.key, &input.upload_id)?;
        let listed = input.multipart_upload.as_ref().and_then(|listed| listed.parts.as_deref());
        let chosen = self.chosen_parts(&upload, listed.unwrap_or_default())?;
        let object = put_together(&upload, &chosen, self.fast_etags.then(|| self.storage.unique_hex()));
        if input.mpu_object_size.is_some_and(|size| size as u64 != object.content.len()) {
            return Err(s3_error!(
                InvalidRequest,
                "The provided 'x-amz-mp-object-size' header does not match"
            ));
        }
        for (algorithm, sent) in sent_checksums!(input) {
            let Some(sent) = sent else { continue };
            let computed = object.checksum.as_ref().filter(|checksum| checksum.algorithm == algorithm);
            if computed.is_some_and(|computed| computed.value != sent) {
                return Err(s3_error!(BadDigest, "The checksum of the whole object did not match"));
            }
        }
        let mut output = CompleteMultipartUploadOutput {
            e_tag: Some(ETag::Strong(object.etag.clone())),
            location: Some(format!("/{}/{}", input.bucket, input.key)),
            bucket: Some(input.bucket.clone()),
            key: Some(input.key.clone()),
            ..CompleteMultipartUploadOutput::default()
        };
        fill_checksums!(output, object.checksum.as_ref());
        output.checksum_type = object.checksum.as_ref().map(|checksum| checksum.kind.dto());
        output.server_side_encryption = object.attributes.encryption.dto();
        let conditions = WriteConditions { if_match: input.if_match, if_none_match: input.if_none_match };
        let (bucket, key, id) = (input.bucket, input.key, input.upload_id);
        let revision = upload.revision;
        self.storage
            .run(move |storage| storage.complete_upload(&bucket, (&id, revision), &key, object, &conditions))
            .await?;
        Ok(output)
    }

    /// The parts that a completion names, checked one by one.
    fn chosen_parts<'a>(
        &self,
        upload: &'a Upload,
        listed: &[CompletedPart],
    ) -> S3Result<Vec<(i32, &'a StoredPart)>> {
        if listed.is_empty() {
            return Err(s3_error!(MalformedXML, "You must specify at least one part"));
        }
        let mut chosen: Vec<(i32, &StoredPart)> = Vec::with_capacity(listed.len());
        for part in listed {
            let number = part.part_number.ok_or(S3ErrorCode::MalformedXML)?;
            if chosen.last().is_some_and(|(earlier, _)| *earlier >= number) {
                return Err(s3_error!(
                    InvalidPartOrder,
                    "The list of parts was not in ascending order. Parts must be ordered by part number."
                ));
            }
            let stored = upload.parts.get(&number);
            let named =
                stored.filter(|stored| part.e_tag.as_ref().is_some_and(|etag| etag.value() == stored.etag));
            let checksums_agree = |stored: &StoredPart| {
                sent_checksums!(part).iter().all(|(algorithm, sent)| {
                    let known = stored.checksum.as_ref().filter(|known| known.algorithm == *algorithm);
                    sent.as_ref().is_none_or(|sent| known.is_some_and(|known| known.value == *sent))
                })
            };
            let Some(stored) = named.filter(|stored| checksums_agree(stored)) else {
                return Err(s3_error!(
                    InvalidPart,
                    "One or more of the specified parts could not be found. The part may not have been uploaded, \
                     or the specified entity tag may not match the part's entity tag."
                ));
            };
            chosen.push((number, stored));
        }
        let before_last = &chosen[..chosen.len() - 1];
        if before_last.iter().any(|(_, part)| part.content.len() < self.part_size_min_bytes) {
            return Err(s3_error!(
                EntityTooSmall,
                "Your proposed upload is smaller than the minimum allowed size"
            ));
        }
        Ok(chosen)
    }
}

fn put_together(upload: &Upload, chosen: &[(i32, &StoredPart)], fast_etag: Option<String>) -> Stored {
    let sums: Vec<_> = chosen.iter().map(|(_, part)| (part.checksum.clone(), part.content.len())).collect();
    let etag = match fast_etag {
        Some(unique) => format!("{unique}-{}", chosen.len()),
        None => multipart_etag(chosen.iter().map(|(_, part)| part.etag.as_str())),
    };
    let info = |(number, part): &(i32, &StoredPart)| PartInfo {
        number: *number,
        size: part.content.len(),
        checksum: part.checksum.clone(),
    };
    Stored {
        etag,
        modified: now(),
        attributes: upload.attributes.clone(),
        tags: upload.tags.clone(),
        checksum: upload.checksum.and_then(|(algorithm, kind)| combine(algorithm, kind, &sums)),
        parts: chosen.iter().map(info).collect(),
        content: Content::concat(chosen.iter().map(|(_, part)| &part.content)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn copy_ranges() {
        assert_eq!(copy_range("bytes=0-9", 10).unwrap(), 0..10);
        assert_eq!(copy_range("bytes=3-3", 10).unwrap(), 3..4);
        for wrong in ["bytes=0-10", "bytes=5-", "bytes=-5", "bytes=9-3", "0-9", ""] {
            assert_eq!(copy_range(wrong, 10).unwrap_err().code().as_str(), "InvalidArgument", "{wrong}");
        }
    }

    #[test]
    fn part_numbers() {
        assert!(check_part_number(1).is_ok() && check_part_number(10_000).is_ok());
        assert!(check_part_number(0).is_err() && check_part_number(10_001).is_err());
    }
}
