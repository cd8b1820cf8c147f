//! GET and HEAD of objects, and what else only looks at them.

use std::ops::Range as Bytes;
use std::sync::Arc;

use http::StatusCode;
use s3s::dto::*;
use s3s::{S3ErrorCode, S3Request, S3Result, s3_error};

use crate::api::{self, Api};
use crate::attributes::{fill_encryption, parsed_date, tag_set};
use crate::checksums::{StoredChecksum, fill_checksums};
use crate::conditions::{ReadConditions, Verdict, precondition_failed};
use crate::storage::Object as Stored;

/// The part of an object that a request asks for.
struct Selected {
    bytes: Bytes<u64>,
    /// Set when the answer is partial.
    content_range: Option<String>,
    parts_count: Option<i32>,
    checksum: Option<StoredChecksum>,
}

fn part_bytes(object: &Stored, number: i32) -> S3Result<(Bytes<u64>, Option<StoredChecksum>)> {
    let mut start = 0;
    for part in &object.parts {
        if part.number == number {
            return Ok((start..start + part.size, part.checksum.clone()));
        }
        start += part.size;
    }
    if object.parts.is_empty() && number == 1 {
        return Ok((0..object.content.len(), object.checksum.clone()));
    }
    let message = "The requested partnumber is not satisfiable";
    Err(api::error(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidPartNumber", message))
}

fn select(
    object: &Stored,
    range: Option<&Range>,
    part: Option<i32>,
    checksum_mode: bool,
) -> S3Result<Selected> {
    let size = object.content.len();
    let parts_count = (!object.parts.is_empty()).then_some(object.parts.len() as i32);
    let content_range = |bytes: &Bytes<u64>| Some(format!("bytes {}-{}/{size}", bytes.start, bytes.end - 1));
    match (range, part) {
        (Some(_), Some(_)) => {
            Err(s3_error!(InvalidRequest, "Cannot specify both Range header and partNumber query parameter"))
        }
        (Some(range), None) => {
            let bytes = match range.check(size) {
                // An empty object has no satisfiable range, not even a suffix.
                Ok(bytes) if bytes.is_empty() => Err(S3ErrorCode::InvalidRange),
                Ok(bytes) => Ok(bytes),
                Err(_) => Err(S3ErrorCode::InvalidRange),
            };
            let bytes = bytes.map_err(|code| {
                let mut error = s3s::S3Error::with_message(code, "The requested range is not satisfiable");
                if let Ok(value) = http::HeaderValue::try_from(format!("bytes */{size}")) {
                    error.set_headers(http::HeaderMap::from_iter([(http::header::CONTENT_RANGE, value)]));
                }
                error
            })?;
            // S3 gives no checksum with a range of the bytes that it covers.
            Ok(Selected { content_range: content_range(&bytes), bytes, parts_count: None, checksum: None })
        }
        (None, Some(number)) => {
            let (bytes, checksum) = part_bytes(object, number)?;
            let content_range = if bytes.is_empty() { None } else { content_range(&bytes) };
            let checksum = checksum.filter(|_| checksum_mode);
            Ok(Selected { content_range, bytes, parts_count, checksum })
        }
        (None, None) => Ok(Selected {
            bytes: 0..size,
            content_range: None,
            parts_count: None,
            checksum: object.checksum.clone().filter(|_| checksum_mode),
        }),
    }
}

/// Fills the output fields that GET and HEAD have in common.
macro_rules! fill_read {
    ($output:ident, $object:ident, $selected:ident) => {
        let attributes = &$object.attributes;
        $output.accept_ranges = Some("bytes".to_owned());
        $output.content_length = Some(($selected.bytes.end - $selected.bytes.start) as i64);
        $output.content_range = $selected.content_range.clone();
        $output.parts_count = $selected.parts_count;
        $output.e_tag = Some(ETag::Strong($object.etag.clone()));
        $output.last_modified = Some($object.modified.into());
        let content_type = attributes.content_type.clone();
        $output.content_type = Some(content_type.unwrap_or_else(|| "binary/octet-stream".to_owned()));
        $output.cache_control = attributes.cache_control.clone();
        $output.content_disposition = attributes.content_disposition.clone();
        $output.content_encoding = attributes.content_encoding.clone();
        $output.content_language = attributes.content_language.clone();
        $output.expires = parsed_date(attributes.expires.as_ref());
        $output.website_redirect_location = attributes.website_redirect.clone();
        $output.storage_class = attributes.storage_class.clone().map(StorageClass::from);
        $output.metadata = Some(attributes.metadata.clone().into_iter().collect());
        fill_encryption!($output, &attributes.encryption);
        fill_checksums!($output, $selected.checksum.as_ref());
        $output.checksum_type = $selected.checksum.as_ref().map(|checksum| checksum.kind.dto());
    };
}

/// The conditions of an input.
macro_rules! read_conditions {
    ($input:expr) => {
        ReadConditions {
            if_match: $input.if_match.clone(),
            if_none_match: $input.if_none_match.clone(),
            if_modified_since: $input.if_modified_since.clone(),
            if_unmodified_since: $input.if_unmodified_since.clone(),
        }
    };
}

fn wants_checksum(mode: Option<&ChecksumMode>) -> bool {
    mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED)
}

fn no_version(version: Option<&String>) -> S3Result<()> {
    match version.map(String::as_str) {
        None | Some("null") => Ok(()),
        Some(_) => Err(s3_error!(NoSuchVersion, "this server keeps no versions")),
    }
}

impl Api {
    /// The object, if the conditions of the request let it be read.
    fn readable(
        &self,
        (bucket, key): (&str, &str),
        conditions: &ReadConditions,
        customer_key_md5: Option<&String>,
    ) -> S3Result<Arc<Stored>> {
        let object = self.storage.object(bucket, key)?;
        object.attributes.encryption.check_reader(customer_key_md5.map(String::as_str))?;
        match conditions.evaluate(&object.existing()) {
            Verdict::Proceed => Ok(object),
            Verdict::PreconditionFailed => Err(precondition_failed()),
            Verdict::NotModified => {
                let mut error = s3s::S3Error::new(S3ErrorCode::NotModified);
                if let Ok(value) = ETag::Strong(object.etag.clone()).to_http_header() {
                    error.set_headers(http::HeaderMap::from_iter([(http::header::ETAG, value)]));
                }
                Err(error)
            }
        }
    }

    pub(crate) async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<GetObjectOutput> {
        let input = request.input;
        no_version(input.version_id.as_ref())?;
        let conditions = read_conditions!(input);
        let place = (input.bucket.as_str(), input.key.as_str());
        let object = self.readable(place, &conditions, input.sse_customer_key_md5.as_ref())?;
        let checksum_mode = wants_checksum(input.checksum_mode.as_ref());
        let selected = select(&object, input.range.as_ref(), input.part_number, checksum_mode)?;
        let mut output = GetObjectOutput::default();
        fill_read!(output, object, selected);
        output.tag_count = (!object.tags.is_empty()).then_some(object.tags.len() as i32);
        output.body = Some(StreamingBlob::new(object.content.slice(selected.bytes).stream()));
        Ok(output)
    }

    pub(crate) async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<HeadObjectOutput> {
        let input = request.input;
        no_version(input.version_id.as_ref())?;
        let conditions = read_conditions!(input);
        let place = (input.bucket.as_str(), input.key.as_str());
        let object = self.readable(place, &conditions, input.sse_customer_key_md5.as_ref())?;
        let checksum_mode = wants_checksum(input.checksum_mode.as_ref());
        let selected = select(&object, input.range.as_ref(), input.part_number, checksum_mode)?;
        let mut output = HeadObjectOutput::default();
        fill_read!(output, object, selected);
        Ok(output)
    }

    pub(crate) async fn get_object_attributes(
        &self,
        request: S3Request<GetObjectAttributesInput>,
    ) -> S3Result<GetObjectAttributesOutput> {
        let input = request.input;
        no_version(input.version_id.as_ref())?;
        let object = self.storage.object(&input.bucket, &input.key)?;
        let wanted = |name: &str| input.object_attributes.iter().any(|wanted| wanted.as_str() == name);
        let mut output = GetObjectAttributesOutput {
            last_modified: Some(object.modified.into()),
            ..GetObjectAttributesOutput::default()
        };
        if wanted(ObjectAttributes::ETAG) {
            output.e_tag = Some(ETag::Strong(object.etag.clone()));
        }
        if wanted(ObjectAttributes::OBJECT_SIZE) {
            output.object_size = Some(object.content.len() as i64);
        }
        if wanted(ObjectAttributes::STORAGE_CLASS) {
            let class = object.attributes.storage_class.clone();
            let class = class.unwrap_or_else(|| StorageClass::STANDARD.to_owned());
            output.storage_class = Some(StorageClass::from(class));
        }
        if wanted(ObjectAttributes::CHECKSUM)
            && let Some(stored) = &object.checksum
        {
            let mut checksum = Checksum::default();
            fill_checksums!(checksum, Some(stored));
            checksum.checksum_type = Some(stored.kind.dto());
            output.checksum = Some(checksum);
        }
        if wanted(ObjectAttributes::OBJECT_PARTS) && !object.parts.is_empty() {
            output.object_parts = Some(GetObjectAttributesParts {
                total_parts_count: Some(object.parts.len() as i32),
                ..GetObjectAttributesParts::default()
            });
        }
        Ok(output)
    }

    pub(crate) async fn get_object_tagging(
        &self,
        request: S3Request<GetObjectTaggingInput>,
    ) -> S3Result<GetObjectTaggingOutput> {
        no_version(request.input.version_id.as_ref())?;
        let object = self.storage.object(&request.input.bucket, &request.input.key)?;
        Ok(GetObjectTaggingOutput { tag_set: tag_set(&object.tags), ..GetObjectTaggingOutput::default() })
    }
}
