//! What an object carries besides its bytes: headers, user metadata, tags, storage class, encryption.
//!
//! Owns the limits of S3 on them. Values are kept as they were sent.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use s3s::dto::{Metadata, ServerSideEncryption, StorageClass, Tag, Timestamp, TimestampFormat};
use s3s::{S3Error, S3Result, s3_error};
use serde::{Deserialize, Serialize};

/// Most bytes of user metadata, names and values together (S3 user guide, "Working with object metadata").
const METADATA_BYTES_MAX: usize = 2048;
/// Most tags on an object, and the lengths of their parts in characters (S3 user guide, "Object tagging").
const TAGS_MAX: usize = 10;
const TAG_KEY_CHARS_MAX: usize = 128;
const TAG_VALUE_CHARS_MAX: usize = 256;

/// Headers stored with an object and given back with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Attributes {
    pub(crate) content_type: Option<String>,
    pub(crate) cache_control: Option<String>,
    pub(crate) content_disposition: Option<String>,
    pub(crate) content_encoding: Option<String>,
    pub(crate) content_language: Option<String>,
    /// An HTTP date.
    pub(crate) expires: Option<String>,
    pub(crate) website_redirect: Option<String>,
    pub(crate) metadata: BTreeMap<String, String>,
    /// None is STANDARD.
    pub(crate) storage_class: Option<String>,
    pub(crate) encryption: Encryption,
}

/// Server-side encryption as asked for; nothing is encrypted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Encryption {
    pub(crate) algorithm: Option<String>,
    pub(crate) kms_key: Option<String>,
    pub(crate) bucket_key: Option<bool>,
    pub(crate) customer_algorithm: Option<String>,
    pub(crate) customer_key_md5: Option<String>,
}

/// Builds [`Attributes`] from any input that has S3's header fields.
macro_rules! attributes_of {
    ($input:expr) => {
        $crate::attributes::Attributes {
            content_type: $input.content_type.clone(),
            cache_control: $input.cache_control.clone(),
            content_disposition: $input.content_disposition.clone(),
            content_encoding: $input
                .content_encoding
                .as_deref()
                .and_then($crate::attributes::stored_encoding),
            content_language: $input.content_language.clone(),
            expires: $crate::attributes::http_date($input.expires.as_ref())?,
            website_redirect: $input.website_redirect_location.clone(),
            metadata: $crate::attributes::checked_metadata($input.metadata.as_ref())?,
            storage_class: $crate::attributes::checked_storage_class($input.storage_class.as_ref())?,
            encryption: $crate::attributes::encryption_of!($input),
        }
    };
}

/// Builds [`Encryption`] from any input that has S3's encryption fields.
macro_rules! encryption_of {
    ($input:expr) => {
        $crate::attributes::Encryption {
            algorithm: $input.server_side_encryption.as_ref().map(|name| name.as_str().to_owned()),
            kms_key: $input.ssekms_key_id.clone(),
            bucket_key: $input.bucket_key_enabled,
            customer_algorithm: $input.sse_customer_algorithm.clone(),
            customer_key_md5: $input.sse_customer_key_md5.clone(),
        }
    };
}

/// Writes [`Encryption`] into the fields of an output.
macro_rules! fill_encryption {
    ($output:expr, $encryption:expr) => {
        let encryption: &$crate::attributes::Encryption = $encryption;
        $output.server_side_encryption = encryption.dto();
        $output.ssekms_key_id = encryption.kms_key.clone();
        $output.bucket_key_enabled = encryption.bucket_key;
        $output.sse_customer_algorithm = encryption.customer_algorithm.clone();
        $output.sse_customer_key_md5 = encryption.customer_key_md5.clone();
    };
}

pub(crate) use {attributes_of, encryption_of, fill_encryption};

impl Encryption {
    pub(crate) fn dto(&self) -> Option<ServerSideEncryption> {
        self.algorithm.clone().map(ServerSideEncryption::from)
    }

    /// Whether a reader that sent the MD5 of a customer key (or none) may read.
    ///
    /// # Errors
    /// InvalidRequest when a key is needed and missing or sent and not needed, AccessDenied for another key.
    pub(crate) fn check_reader(&self, key_md5: Option<&str>) -> S3Result<()> {
        match (&self.customer_key_md5, key_md5) {
            (None, None) => Ok(()),
            (Some(stored), Some(sent)) if stored == sent => Ok(()),
            (Some(_), Some(_)) => Err(s3_error!(AccessDenied)),
            (Some(_), None) | (None, Some(_)) => {
                Err(s3_error!(InvalidRequest, "The encryption parameters are not applicable to this object."))
            }
        }
    }
}

/// What remains of Content-Encoding once `aws-chunked`, which describes the transfer, is taken off.
pub(crate) fn stored_encoding(value: &str) -> Option<String> {
    let kept: Vec<&str> = value
        .split(',')
        .map(str::trim)
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

/// A timestamp as the HTTP date that is stored.
///
/// # Errors
/// InvalidArgument when the time cannot be written so.
pub(crate) fn http_date(when: Option<&Timestamp>) -> S3Result<Option<String>> {
    let Some(when) = when else { return Ok(None) };
    let mut text = Vec::new();
    when.format(TimestampFormat::HttpDate, &mut text)
        .map_err(|error| s3_error!(error, InvalidArgument, "invalid Expires"))?;
    Ok(String::from_utf8(text).ok())
}

/// The stored HTTP date as the protocol layer wants it.
pub(crate) fn parsed_date(text: Option<&String>) -> Option<Timestamp> {
    Timestamp::parse(TimestampFormat::HttpDate, text?).ok()
}

/// User metadata within the limit of S3.
///
/// # Errors
/// MetadataTooLarge.
pub(crate) fn checked_metadata(metadata: Option<&Metadata>) -> S3Result<BTreeMap<String, String>> {
    let metadata: BTreeMap<String, String> =
        metadata.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())).collect();
    let bytes: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > METADATA_BYTES_MAX {
        return Err(s3_error!(
            MetadataTooLarge,
            "Your metadata headers exceed the maximum allowed metadata size"
        ));
    }
    Ok(metadata)
}

/// The storage class to keep: None for STANDARD.
///
/// # Errors
/// InvalidStorageClass for a word that is none.
pub(crate) fn checked_storage_class(class: Option<&StorageClass>) -> S3Result<Option<String>> {
    let Some(class) = class else { return Ok(None) };
    match class.as_str() {
        StorageClass::STANDARD => Ok(None),
        StorageClass::DEEP_ARCHIVE
        | StorageClass::EXPRESS_ONEZONE
        | StorageClass::GLACIER
        | StorageClass::GLACIER_IR
        | StorageClass::INTELLIGENT_TIERING
        | StorageClass::ONEZONE_IA
        | StorageClass::OUTPOSTS
        | StorageClass::REDUCED_REDUNDANCY
        | StorageClass::SNOW
        | StorageClass::STANDARD_IA => Ok(Some(class.as_str().to_owned())),
        _ => Err(s3_error!(InvalidStorageClass)),
    }
}

/// Tags in the order in which they were given.
pub(crate) type Tags = Vec<(String, String)>;

fn invalid_tag(message: &'static str) -> S3Error {
    s3_error!(InvalidTag, "{message}")
}

/// Tags within the limits of S3.
///
/// # Errors
/// InvalidTag, BadRequest for more than ten.
fn checked_tags(tags: Tags) -> S3Result<Tags> {
    if tags.len() > TAGS_MAX {
        return Err(s3_error!(InvalidTag, "Object tags cannot be greater than 10"));
    }
    for (index, (key, value)) in tags.iter().enumerate() {
        if key.is_empty() || key.chars().count() > TAG_KEY_CHARS_MAX {
            return Err(invalid_tag("The TagKey you have provided is invalid"));
        }
        if value.chars().count() > TAG_VALUE_CHARS_MAX {
            return Err(invalid_tag("The TagValue you have provided is invalid"));
        }
        if tags[..index].iter().any(|(earlier, _)| earlier == key) {
            return Err(invalid_tag("Cannot provide multiple Tags with the same key"));
        }
    }
    Ok(tags)
}

/// Tags of an `x-amz-tagging` header: a query string.
///
/// # Errors
/// InvalidTag, InvalidArgument for a value that is not UTF-8.
pub(crate) fn tags_of_header(header: Option<&str>) -> S3Result<Tags> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        percent_decode_str(&text)
            .decode_utf8()
            .map(std::borrow::Cow::into_owned)
            .map_err(|error| s3_error!(error, InvalidArgument, "The header 'x-amz-tagging' is not UTF-8"))
    };
    let pairs = header.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let tags = pairs.map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decode(key)?, decode(value)?))
    });
    checked_tags(tags.collect::<S3Result<_>>()?)
}

/// Tags of a request body.
///
/// # Errors
/// InvalidTag.
pub(crate) fn tags_of_set(set: &[Tag]) -> S3Result<Tags> {
    let tag = |tag: &Tag| (tag.key.clone().unwrap_or_default(), tag.value.clone().unwrap_or_default());
    checked_tags(set.iter().map(tag).collect())
}

/// Tags for an answer.
pub(crate) fn tag_set(tags: &Tags) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag { key: Some(key.clone()), value: Some(value.clone()) }).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_limited() {
        let of = |len: usize| Metadata::from([("ab".to_owned(), "x".repeat(len))]);
        assert!(checked_metadata(Some(&of(2046))).is_ok());
        let error = checked_metadata(Some(&of(2047))).unwrap_err();
        assert_eq!(error.code().as_str(), "MetadataTooLarge");
    }

    #[test]
    fn tag_headers() {
        let tags = tags_of_header(Some("a=1&b=x%20y+z&c")).unwrap();
        assert_eq!(tags, [("a", "1"), ("b", "x y z"), ("c", "")].map(|(k, v)| (k.into(), v.into())));
        assert!(tags_of_header(None).unwrap().is_empty());
        assert!(tags_of_header(Some("a=1&a=2")).is_err());
        let many: Vec<String> = (0..11).map(|n| format!("k{n}=v")).collect();
        assert!(tags_of_header(Some(&many.join("&"))).is_err());
    }

    #[test]
    fn transfer_codings_are_not_stored() {
        assert_eq!(stored_encoding("aws-chunked"), None);
        assert_eq!(stored_encoding("gzip, aws-chunked"), Some("gzip".to_owned()));
    }
}
