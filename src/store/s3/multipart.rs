//! Multipart uploads.

use std::collections::BTreeMap;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumType, CompletedMultipartUpload, CompletedPart, EncodingType};

use super::S3Store;
use super::attempts::Attempts;
use super::config::ChecksumAlgorithm;
use super::convert::{self, with_placement, with_properties};
use super::write::{condition_headers, written};
use crate::store::error::{ErrorKind, Result, StoreError};
use crate::store::types::{
    Body, Condition, ETag, ObjectPath, Part, PendingUpload, Properties, UploadId, Written,
};
use crate::store::validate;

/// The checksum of a part in whatever algorithm the answer has one, as [`Part::checksum`] keeps it.
macro_rules! part_checksum {
    ($answer:expr) => {{
        let answer = $answer;
        [
            ("CRC64NVME", answer.checksum_crc64_nvme()),
            ("CRC32C", answer.checksum_crc32_c()),
            ("CRC32", answer.checksum_crc32()),
            ("SHA256", answer.checksum_sha256()),
        ]
        .into_iter()
        .find_map(|(algorithm, value)| value.map(|value| format!("{algorithm}={value}")))
    }};
}

impl S3Store {
    pub(super) async fn create_multipart(
        &self,
        path: &ObjectPath,
        properties: &Properties,
        tags: &BTreeMap<String, String>,
    ) -> Result<UploadId> {
        const OPERATION: &str = "CreateMultipartUpload";
        validate::key(OPERATION, path)?;
        validate::properties(OPERATION, path, properties)?;
        validate::tags(OPERATION, path, tags)?;
        let checksum = self.clients.checksum();
        let request = self.clients.bucket(&path.bucket).quick.create_multipart_upload();
        let answer = with_placement!(with_properties!(request, properties), &properties.placement())
            .bucket(&*path.bucket)
            .key(&*path.key)
            .set_tagging(convert::tagging(tags))
            .set_checksum_algorithm(checksum.map(convert::sdk_algorithm))
            .set_checksum_type(checksum.map(checksum_type))
            .customize()
            .mutate_request(convert::expires_header(properties.expires.clone()))
            .send()
            .await
            .map_err(|error| self.failed(OPERATION, &path.bucket, path, error))?;
        match answer.upload_id() {
            Some(id) => Ok(UploadId(id.into())),
            None => Err(StoreError::new(ErrorKind::Protocol, OPERATION, path, "the answer has no upload id")),
        }
    }

    pub(super) async fn put_part(
        &self,
        path: &ObjectPath,
        upload: &UploadId,
        number: u32,
        body: Body,
    ) -> Result<Part> {
        const OPERATION: &str = "UploadPart";
        validate::key(OPERATION, path)?;
        validate::part_number(OPERATION, path, number)?;
        validate::body(OPERATION, path, &body)?;
        let size = body.0.len() as u64;
        let answer = self
            .clients
            .bucket(&path.bucket)
            .upload
            .upload_part()
            .bucket(&*path.bucket)
            .key(&*path.key)
            .upload_id(&*upload.0)
            .part_number(part_number(number))
            .set_checksum_algorithm(self.clients.checksum().map(convert::sdk_algorithm))
            .body(ByteStream::from(body.0))
            .customize()
            .disable_payload_signing()
            .send()
            .await
            .map_err(|error| self.failed(OPERATION, &path.bucket, path, error))?;
        let checksum = part_checksum!(&answer);
        let etag = written(OPERATION, path, answer.e_tag, None)?.etag;
        Ok(Part { number, etag, size, checksum })
    }

    pub(super) async fn put_part_copy(
        &self,
        path: &ObjectPath,
        upload: &UploadId,
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
        let answer = self
            .clients
            .bucket(&path.bucket)
            .at_work
            .upload_part_copy()
            .bucket(&*path.bucket)
            .key(&*path.key)
            .upload_id(&*upload.0)
            .part_number(part_number(number))
            .copy_source(convert::copy_source(from))
            .copy_source_if_match(&*from_etag.0)
            .copy_source_range(convert::range_header(range))
            .send()
            .await
            .map_err(|error| self.failed(OPERATION, &path.bucket, path, error))?;
        let result = answer.copy_part_result;
        let checksum = result.as_ref().and_then(|result| part_checksum!(result));
        let etag = written(OPERATION, path, result.and_then(|result| result.e_tag), None)?.etag;
        Ok(Part { number, etag, size: range.1, checksum })
    }

    pub(super) async fn complete_multipart(
        &self,
        path: &ObjectPath,
        upload: &UploadId,
        parts: &[Part],
        condition: Condition,
    ) -> Result<Written> {
        const OPERATION: &str = "CompleteMultipartUpload";
        validate::key(OPERATION, path)?;
        validate::parts(OPERATION, path, parts)?;
        let attempts = Attempts::default();
        let (if_match, if_none_match) = condition_headers(&condition);
        let completed = CompletedMultipartUpload::builder()
            .set_parts(Some(parts.iter().map(completed_part).collect()))
            .build();
        let sent = self
            .clients
            .bucket(&path.bucket)
            .at_work
            .complete_multipart_upload()
            .bucket(&*path.bucket)
            .key(&*path.key)
            .upload_id(&*upload.0)
            .multipart_upload(completed)
            .set_checksum_type(self.clients.checksum().map(checksum_type))
            .set_if_match(if_match)
            .set_if_none_match(if_none_match)
            .customize()
            .interceptor(attempts.clone())
            .send()
            .await;
        let error = match sent {
            Ok(answer) => return written(OPERATION, path, answer.e_tag, answer.version_id),
            Err(error) => self.failed_after(OPERATION, path, error, &attempts),
        };
        self.settle_complete(error, &attempts, path, parts).await
    }

    pub(super) async fn abort_multipart(&self, path: &ObjectPath, upload: &UploadId) -> Result<()> {
        const OPERATION: &str = "AbortMultipartUpload";
        validate::key(OPERATION, path)?;
        let sent = self
            .clients
            .bucket(&path.bucket)
            .quick
            .abort_multipart_upload()
            .bucket(&*path.bucket)
            .key(&*path.key)
            .upload_id(&*upload.0)
            .send()
            .await;
        match sent.map_err(|error| self.failed(OPERATION, &path.bucket, path, error)) {
            Ok(_) => Ok(()),
            Err(error) if error.kind == ErrorKind::UploadGone => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn parts_of(&self, path: &ObjectPath, upload: &UploadId) -> Result<Vec<Part>> {
        const OPERATION: &str = "ListParts";
        validate::key(OPERATION, path)?;
        let mut found = Vec::new();
        let mut marker: Option<String> = None;
        loop {
            let answer = self
                .clients
                .bucket(&path.bucket)
                .quick
                .list_parts()
                .bucket(&*path.bucket)
                .key(&*path.key)
                .upload_id(&*upload.0)
                .set_part_number_marker(marker.clone())
                .send()
                .await
                .map_err(|error| self.failed(OPERATION, &path.bucket, path, error))?;
            for part in answer.parts() {
                let Some(number) = part.part_number().and_then(|number| u32::try_from(number).ok()) else {
                    continue;
                };
                found.push(Part {
                    number,
                    etag: ETag::new(part.e_tag().unwrap_or_default()),
                    size: convert::size(part.size()),
                    checksum: part_checksum!(part),
                });
            }
            let next = answer.next_part_number_marker;
            if answer.is_truncated != Some(true) || next.is_none() || next == marker {
                return Ok(found);
            }
            marker = next;
        }
    }

    pub(super) async fn pending_uploads(&self, bucket: &str, prefix: &str) -> Result<Vec<PendingUpload>> {
        const OPERATION: &str = "ListMultipartUploads";
        let mut found = Vec::new();
        let mut marker: (Option<String>, Option<String>) = (None, None);
        loop {
            let answer = self
                .clients
                .bucket(bucket)
                .quick
                .list_multipart_uploads()
                .bucket(bucket)
                .encoding_type(EncodingType::Url)
                .set_prefix((!prefix.is_empty()).then(|| prefix.to_owned()))
                .set_key_marker(marker.0.clone())
                .set_upload_id_marker(marker.1.clone())
                .send()
                .await
                .map_err(|error| self.failed(OPERATION, bucket, bucket, error))?;
            let encoded = answer.encoding_type() == Some(&EncodingType::Url);
            let decode = |text: &str| convert::listed_key(OPERATION, bucket, text, encoded);
            for upload in answer.uploads() {
                let (Some(key), Some(id)) = (upload.key(), upload.upload_id()) else { continue };
                found.push(PendingUpload {
                    path: ObjectPath::new(bucket, decode(key)?),
                    id: UploadId(id.into()),
                    initiated: convert::whole_seconds(upload.initiated()),
                });
            }
            let next_key = answer.next_key_marker().filter(|key| !key.is_empty()).map(decode).transpose()?;
            let next_id = answer.next_upload_id_marker().filter(|id| !id.is_empty()).map(str::to_owned);
            let next = (next_key, next_id);
            if answer.is_truncated() != Some(true) || next.0.is_none() || next == marker {
                return Ok(found);
            }
            marker = next;
        }
    }
}

/// Part numbers were checked to be 1 to 10,000.
fn part_number(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// CRC-64/NVME exists only over the whole object, SHA-256 only over the parts; CRCs can do both.
fn checksum_type(algorithm: ChecksumAlgorithm) -> ChecksumType {
    match algorithm {
        ChecksumAlgorithm::Crc64Nvme | ChecksumAlgorithm::Crc32C | ChecksumAlgorithm::Crc32 => {
            ChecksumType::FullObject
        }
        ChecksumAlgorithm::Sha256 => ChecksumType::Composite,
    }
}

fn completed_part(part: &Part) -> CompletedPart {
    let mut completed = CompletedPart::builder().part_number(part_number(part.number)).e_tag(&*part.etag.0);
    if let Some((algorithm, value)) = part.checksum.as_deref().and_then(|text| text.split_once('=')) {
        completed = match algorithm {
            "CRC64NVME" => completed.checksum_crc64_nvme(value),
            "CRC32C" => completed.checksum_crc32_c(value),
            "CRC32" => completed.checksum_crc32(value),
            "SHA256" => completed.checksum_sha256(value),
            _ => completed,
        };
    }
    completed.build()
}
