//! Limits of S3 that are checked before a request is sent, so that every implementation refuses the same
//! things with the same errors. <https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html>

use std::collections::BTreeMap;

use super::error::{ErrorKind, Result, StoreError};
use super::types::{
    Body, COPY_MAX_BYTES, DELETE_BATCH_MAX, KEY_MAX_BYTES, METADATA_MAX_BYTES, ObjectPath, PART_MAX_BYTES,
    PARTS_MAX, Part, Properties, TAGS_MAX,
};

/// Longest tag key and longest tag value, in UTF-16 units as S3 counts them.
const TAG_KEY_MAX: usize = 128;
const TAG_VALUE_MAX: usize = 256;

fn refuse(operation: &'static str, path: &ObjectPath, code: &str, message: &str) -> StoreError {
    StoreError::new(ErrorKind::InvalidRequest, operation, path, message).with_code(code)
}

/// A key has 1 to [`KEY_MAX_BYTES`] bytes.
pub fn key(operation: &'static str, path: &ObjectPath) -> Result<()> {
    match path.key.len() {
        0 => Err(refuse(operation, path, "InvalidArgument", "the key is empty")),
        1..=KEY_MAX_BYTES => Ok(()),
        _ => Err(refuse(operation, path, "KeyTooLongError", "the key is longer than 1,024 bytes")),
    }
}

/// User metadata fits 2 KB, its names are header tokens in lower case, its values survive as header values.
pub fn properties(operation: &'static str, path: &ObjectPath, properties: &Properties) -> Result<()> {
    let total: usize = properties.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if total > METADATA_MAX_BYTES {
        return Err(refuse(operation, path, "MetadataTooLarge", "user metadata is larger than 2 KB"));
    }
    for (name, value) in &properties.metadata {
        if name.is_empty() || !name.bytes().all(is_name_byte) {
            return Err(refuse(operation, path, "InvalidArgument", "a metadata name is no lower-case token"));
        }
        if !is_header_value(value) {
            return Err(refuse(operation, path, "InvalidArgument", "a metadata value is no header value"));
        }
    }
    let headers = [
        &properties.content_type,
        &properties.cache_control,
        &properties.content_disposition,
        &properties.content_encoding,
        &properties.content_language,
        &properties.expires,
        &properties.website_redirect,
    ];
    if headers.into_iter().flatten().any(|value| !is_header_value(value)) {
        return Err(refuse(operation, path, "InvalidArgument", "a property is no header value"));
    }
    Ok(())
}

/// At most ten tags within S3's lengths.
pub fn tags(operation: &'static str, path: &ObjectPath, tags: &BTreeMap<String, String>) -> Result<()> {
    if tags.len() > TAGS_MAX {
        return Err(refuse(operation, path, "BadRequest", "an object has at most 10 tags"));
    }
    let fits = |text: &str, max: usize| text.encode_utf16().count() <= max;
    if tags.iter().any(|(k, v)| k.is_empty() || !fits(k, TAG_KEY_MAX) || !fits(v, TAG_VALUE_MAX)) {
        return Err(refuse(operation, path, "InvalidTag", "a tag key or value is empty or too long"));
    }
    Ok(())
}

/// The body of one PutObject or UploadPart call.
pub fn body(operation: &'static str, path: &ObjectPath, body: &Body) -> Result<()> {
    if body.0.len() as u64 > PART_MAX_BYTES {
        return Err(StoreError::new(ErrorKind::TooLarge, operation, path, "more than 5 GiB in one request")
            .with_code("EntityTooLarge"));
    }
    Ok(())
}

/// A range of bytes has at least one byte.
pub fn range(operation: &'static str, path: &ObjectPath, range: (u64, u64)) -> Result<()> {
    match range.1 {
        0 => Err(refuse(operation, path, "InvalidArgument", "a range of no bytes")),
        _ => Ok(()),
    }
}

/// A range that UploadPartCopy takes.
pub fn copy_range(operation: &'static str, path: &ObjectPath, bytes: (u64, u64)) -> Result<()> {
    range(operation, path, bytes)?;
    if bytes.1 > COPY_MAX_BYTES {
        return Err(StoreError::new(ErrorKind::TooLarge, operation, path, "more than 5 GiB in one copy")
            .with_code("EntityTooLarge"));
    }
    Ok(())
}

/// A part number is 1 to 10,000.
pub fn part_number(operation: &'static str, path: &ObjectPath, number: u32) -> Result<()> {
    match number {
        1..=PARTS_MAX => Ok(()),
        _ => Err(refuse(operation, path, "InvalidArgument", "part numbers are 1 to 10,000")),
    }
}

/// At least one part, in ascending order.
pub fn parts(operation: &'static str, path: &ObjectPath, parts: &[Part]) -> Result<()> {
    if parts.is_empty() {
        return Err(refuse(operation, path, "MalformedXML", "an upload has at least one part"));
    }
    if parts.windows(2).any(|pair| pair[0].number >= pair[1].number) {
        return Err(refuse(operation, path, "InvalidPartOrder", "parts are not in ascending order"));
    }
    parts.iter().try_for_each(|part| part_number(operation, path, part.number))
}

/// A batch delete has at most 1,000 keys.
pub fn batch(operation: &'static str, bucket: &str, len: usize) -> Result<()> {
    if len > DELETE_BATCH_MAX {
        return Err(StoreError::new(ErrorKind::InvalidRequest, operation, bucket, "more than 1,000 keys")
            .with_code("MalformedXML"));
    }
    Ok(())
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// S3 returns anything but printable ASCII in another form (RFC 2047), and HTTP trims blanks at the ends.
fn is_header_value(value: &str) -> bool {
    value.bytes().all(|byte| (0x20..0x7f).contains(&byte)) && value.trim_matches(' ').len() == value.len()
}
