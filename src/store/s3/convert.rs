//! Between the SDK's types and ours.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{
    ArchiveStatus, ChecksumAlgorithm as SdkAlgorithm, ObjectStorageClass, ServerSideEncryption, StorageClass,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::config::ChecksumAlgorithm;
use crate::store::error::{ErrorKind, Result, StoreError};
use crate::store::types::{Encryption, ObjectPath};

/// What stays as it is in `x-amz-copy-source` and in tag lists.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const SOURCE: &AsciiSet = &UNRESERVED.remove(b'/');

/// Sets headers and metadata on a builder of PutObject, CopyObject or CreateMultipartUpload, which share the
/// names of their setters but no trait. `Expires` is set apart, by [`expires_header`].
macro_rules! with_properties {
    ($builder:expr, $properties:expr) => {{
        let properties: &$crate::store::types::Properties = $properties;
        let metadata = &properties.metadata;
        $builder
            .set_content_type(properties.content_type.clone())
            .set_cache_control(properties.cache_control.clone())
            .set_content_disposition(properties.content_disposition.clone())
            .set_content_encoding(properties.content_encoding.clone())
            .set_content_language(properties.content_language.clone())
            .set_website_redirect_location(properties.website_redirect.clone())
            .set_metadata(
                (!metadata.is_empty())
                    .then(|| metadata.iter().map(|(k, v)| (k.clone(), v.clone())).collect()),
            )
    }};
}

/// Sets storage class and encryption on such a builder.
macro_rules! with_placement {
    ($builder:expr, $placement:expr) => {{
        let placement: &$crate::store::types::Placement = $placement;
        let sse = $crate::store::s3::convert::encryption_headers(placement.encryption.as_ref());
        $builder
            .set_storage_class(placement.storage_class.as_deref().map(aws_sdk_s3::types::StorageClass::from))
            .set_server_side_encryption(sse.algorithm)
            .set_ssekms_key_id(sse.key_id)
            .set_bucket_key_enabled(sse.bucket_key)
    }};
}

/// [`ObjectInfo`](crate::store::types::ObjectInfo) of a GetObject or HeadObject answer; the size of the whole
/// object is given, because a ranged GET tells it elsewhere.
macro_rules! object_info {
    ($operation:expr, $path:expr, $out:expr, $size:expr, $archive:expr) => {{
        let out = $out;
        let storage_class = out.storage_class().map(|class| class.as_str().to_owned());
        let archived = $crate::store::s3::convert::is_archived(out.storage_class(), $archive, out.restore());
        match out.e_tag() {
            None => Err($crate::store::error::StoreError::new(
                $crate::store::error::ErrorKind::Protocol,
                $operation,
                $path,
                "the answer has no ETag",
            )),
            Some(etag) => Ok($crate::store::types::ObjectInfo {
                version: $crate::store::types::Version {
                    etag: $crate::store::types::ETag::new(etag),
                    last_modified: $crate::store::s3::convert::whole_seconds(out.last_modified()),
                    size: $size,
                },
                properties: $crate::store::types::Properties {
                    content_type: out.content_type().map(str::to_owned),
                    cache_control: out.cache_control().map(str::to_owned),
                    content_disposition: out.content_disposition().map(str::to_owned),
                    content_encoding: out.content_encoding().map(str::to_owned),
                    content_language: out.content_language().map(str::to_owned),
                    expires: out.expires_string().map(str::to_owned),
                    website_redirect: out.website_redirect_location().map(str::to_owned),
                    metadata: $crate::store::s3::convert::metadata(out.metadata()),
                    storage_class,
                    encryption: $crate::store::s3::convert::encryption(
                        out.server_side_encryption(),
                        out.ssekms_key_id(),
                        out.bucket_key_enabled(),
                    ),
                },
                version_id: out.version_id().map(str::to_owned),
                tag_count: out.tag_count().and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
                archived,
            }),
        }
    }};
}

pub(super) use {object_info, with_placement, with_properties};

/// Time cut to whole seconds; listings have milliseconds, HEAD and GET have not.
pub(super) fn whole_seconds(time: Option<&DateTime>) -> SystemTime {
    let secs = time.map_or(0, DateTime::secs);
    match u64::try_from(secs) {
        Ok(secs) => UNIX_EPOCH.checked_add(Duration::from_secs(secs)),
        Err(_) => UNIX_EPOCH.checked_sub(Duration::from_secs(secs.unsigned_abs())),
    }
    .unwrap_or(UNIX_EPOCH)
}

/// A size of the wire, where a negative one is nonsense.
pub(super) fn size(value: Option<i64>) -> u64 {
    value.and_then(|value| u64::try_from(value).ok()).unwrap_or(0)
}

pub(super) fn metadata(
    metadata: Option<&std::collections::HashMap<String, String>>,
) -> BTreeMap<String, String> {
    metadata.into_iter().flatten().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect()
}

/// Storage class of a listing.
pub(super) fn listed_class(class: Option<&ObjectStorageClass>) -> Option<String> {
    class.map(|class| class.as_str().to_owned()).filter(|class| class != "STANDARD")
}

/// Whether the bytes need a restore before they can be read.
pub(super) fn is_archived(
    class: Option<&StorageClass>,
    status: Option<&ArchiveStatus>,
    restore: Option<&str>,
) -> bool {
    let cold = status.is_some() || matches!(class, Some(StorageClass::Glacier | StorageClass::DeepArchive));
    // `ongoing-request="false", expiry-date="..."`: a restored copy is there.
    let restored = restore.is_some_and(|restore| restore.contains("ongoing-request=\"false\""));
    cold && !restored
}

pub(super) fn encryption(
    algorithm: Option<&ServerSideEncryption>,
    key_id: Option<&str>,
    bucket_key: Option<bool>,
) -> Option<Encryption> {
    let kms = |dual| Encryption::Kms {
        key_id: key_id.map(str::to_owned),
        bucket_key: bucket_key.unwrap_or(false),
        dual,
    };
    match algorithm? {
        ServerSideEncryption::Aes256 => Some(Encryption::S3),
        ServerSideEncryption::AwsKms => Some(kms(false)),
        ServerSideEncryption::AwsKmsDsse => Some(kms(true)),
        // Set by the file system behind an access point, not by a client.
        _ => None,
    }
}

/// The headers that ask for an encryption.
pub(super) struct EncryptionHeaders {
    pub(super) algorithm: Option<ServerSideEncryption>,
    pub(super) key_id: Option<String>,
    pub(super) bucket_key: Option<bool>,
}

pub(super) fn encryption_headers(encryption: Option<&Encryption>) -> EncryptionHeaders {
    match encryption {
        None => EncryptionHeaders { algorithm: None, key_id: None, bucket_key: None },
        Some(Encryption::S3) => EncryptionHeaders {
            algorithm: Some(ServerSideEncryption::Aes256),
            key_id: None,
            bucket_key: None,
        },
        Some(Encryption::Kms { key_id, bucket_key, dual }) => EncryptionHeaders {
            algorithm: Some(if *dual {
                ServerSideEncryption::AwsKmsDsse
            } else {
                ServerSideEncryption::AwsKms
            }),
            key_id: key_id.clone(),
            // Dual-layer encryption takes no bucket keys.
            bucket_key: (*bucket_key && !*dual).then_some(true),
        },
    }
}

/// Sets `Expires` in the very words it was found in, which the SDK's typed setter cannot.
pub(super) fn expires_header(
    expires: Option<String>,
) -> impl Fn(&mut aws_sdk_s3::config::http::HttpRequest) + Send + Sync + 'static {
    move |request| {
        if let Some(expires) = &expires {
            // The text was checked to be a header value.
            let _ = request.headers_mut().try_insert("expires", expires.clone());
        }
    }
}

/// The tag list of a header: `a=1&b=2`, percent-encoded.
pub(super) fn tagging(tags: &BTreeMap<String, String>) -> Option<String> {
    if tags.is_empty() {
        return None;
    }
    let mut text = String::new();
    for (key, value) in tags {
        if !text.is_empty() {
            text.push('&');
        }
        let key = utf8_percent_encode(key, UNRESERVED);
        let value = utf8_percent_encode(value, UNRESERVED);
        let _ = write!(text, "{key}={value}");
    }
    Some(text)
}

/// `x-amz-copy-source`, which the SDK takes already encoded.
pub(super) fn copy_source(path: &ObjectPath) -> String {
    format!("{}/{}", path.bucket, utf8_percent_encode(&path.key, SOURCE))
}

/// A key or prefix of a listing, decoded when the store says that it encoded it.
pub(super) fn listed_key(operation: &'static str, bucket: &str, text: &str, encoded: bool) -> Result<String> {
    if !encoded {
        return Ok(text.to_owned());
    }
    // S3 writes a blank as `+` and a plus as `%2B`.
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8().map(|key| key.into_owned()).map_err(|_| {
        StoreError::new(ErrorKind::Protocol, operation, bucket, format!("a listed key is not UTF-8: {text}"))
    })
}

/// Where a body sits in its object: offset, length and size of the whole, from `Content-Range`.
pub(super) fn content_range(text: &str) -> Option<(u64, u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
    let total = total.parse::<u64>().ok()?;
    (first <= last && last < total).then(|| (first, last - first + 1, total))
}

/// `Range` of `len` bytes from `first`.
pub(super) fn range_header((first, len): (u64, u64)) -> String {
    format!("bytes={first}-{}", first.saturating_add(len.saturating_sub(1)))
}

pub(super) fn sdk_algorithm(algorithm: ChecksumAlgorithm) -> SdkAlgorithm {
    match algorithm {
        ChecksumAlgorithm::Crc64Nvme => SdkAlgorithm::Crc64Nvme,
        ChecksumAlgorithm::Crc32C => SdkAlgorithm::Crc32C,
        ChecksumAlgorithm::Crc32 => SdkAlgorithm::Crc32,
        ChecksumAlgorithm::Sha256 => SdkAlgorithm::Sha256,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn listed_keys_are_decoded_once() {
        let decoded = |text| listed_key("ListObjectsV2", "b", text, true).unwrap();
        assert_eq!(decoded("a+b%2Bc%252F%01"), "a b+c%2F\u{1}");
        assert_eq!(listed_key("ListObjectsV2", "b", "a+b%2B", false).unwrap(), "a+b%2B");
        assert!(listed_key("ListObjectsV2", "b", "%FF", true).is_err());
    }

    #[test]
    fn content_ranges() {
        assert_eq!(content_range("bytes 2-4/10"), Some((2, 3, 10)));
        assert_eq!(content_range("bytes */10"), None);
        assert_eq!(content_range("bytes 4-2/10"), None);
        assert_eq!(content_range("bytes 2-10/10"), None);
    }

    #[test]
    fn ranges_do_not_overflow() {
        assert_eq!(range_header((5, 1)), "bytes=5-5");
        assert_eq!(range_header((5, u64::MAX)), format!("bytes=5-{}", u64::MAX));
    }

    #[test]
    fn a_restored_object_is_not_archived() {
        let glacier = Some(&StorageClass::Glacier);
        assert!(is_archived(glacier, None, None));
        assert!(is_archived(glacier, None, Some("ongoing-request=\"true\"")));
        assert!(!is_archived(glacier, None, Some("ongoing-request=\"false\", expiry-date=\"x\"")));
        assert!(!is_archived(Some(&StorageClass::GlacierIr), None, None));
    }

    #[test]
    fn copy_sources_and_tags_are_encoded() {
        assert_eq!(copy_source(&ObjectPath::new("b", "a b/\u{e9}+%")), "b/a%20b/%C3%A9%2B%25");
        let tags = BTreeMap::from([("a b".to_owned(), "1&2".to_owned())]);
        assert_eq!(tagging(&tags).unwrap(), "a%20b=1%262");
    }
}
