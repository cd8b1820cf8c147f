//! The vocabulary of the store: keys, versions, metadata, conditions.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

/// A bucket and a key in it. Keys are UTF-8 of at most 1,024 bytes.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html>
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectPath {
    /// Bucket name.
    pub bucket: Arc<str>,
    /// Key, without a leading slash of ours; it may begin with one of its own.
    pub key: Arc<str>,
}

impl ObjectPath {
    /// The path of `key` in `bucket`.
    pub fn new(bucket: impl Into<Arc<str>>, key: impl Into<Arc<str>>) -> Self {
        Self { bucket: bucket.into(), key: key.into() }
    }
}

impl fmt::Display for ObjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

impl fmt::Debug for ObjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An entity tag exactly as the store sent it, quotes included (`"9b2c..."`).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ETag(pub Arc<str>);

impl ETag {
    /// An entity tag from its wire form.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The tag without the quotes, for people.
    pub fn unquoted(&self) -> &str {
        self.0.trim_matches('"')
    }
}

/// What identifies one version of an object: a metadata-only self-copy can keep the ETag, so the time and
/// the size belong to it. `last_modified` has whole seconds, because HEAD and GET send no more.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Version {
    /// Entity tag.
    pub etag: ETag,
    /// Time of the last change, cut to whole seconds.
    pub last_modified: SystemTime,
    /// Bytes.
    pub size: u64,
}

/// Headers and metadata that belong to an object and survive edits, chmod and rename.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Properties {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
    /// `Expires`, as the store sent it.
    pub expires: Option<String>,
    /// `x-amz-website-redirect-location`.
    pub website_redirect: Option<String>,
    /// User metadata: lower-case names without `x-amz-meta-`. At most 2 KB together on S3.
    pub metadata: BTreeMap<String, String>,
    /// Storage class; `None` is the bucket's default (`STANDARD`).
    pub storage_class: Option<String>,
    /// Server-side encryption, as far as a client may repeat it.
    pub encryption: Option<Encryption>,
}

impl Properties {
    /// Storage class and encryption, which a copy has to repeat.
    pub fn placement(&self) -> Placement {
        Placement { storage_class: self.storage_class.clone(), encryption: self.encryption.clone() }
    }
}

/// How the store keeps an object's bytes. CopyObject resets both to the bucket's defaults unless the request
/// repeats them. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html>
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Placement {
    /// Storage class; `None` is the bucket's default (`STANDARD`).
    pub storage_class: Option<String>,
    /// Server-side encryption; `None` is the bucket's default.
    pub encryption: Option<Encryption>,
}

/// Server-side encryption settings of an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Encryption {
    /// SSE-S3 (`AES256`).
    S3,
    /// SSE-KMS with a key id (`None`: the AWS managed key) and the bucket-key flag; `dual` is `aws:kms:dsse`.
    Kms {
        /// Key id or ARN.
        key_id: Option<String>,
        /// `x-amz-server-side-encryption-bucket-key-enabled`.
        bucket_key: bool,
        /// Dual-layer encryption.
        dual: bool,
    },
}

/// What HEAD and GET say of an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectInfo {
    /// The version this speaks of.
    pub version: Version,
    /// Headers and metadata.
    pub properties: Properties,
    /// Version id on a versioned bucket.
    pub version_id: Option<String>,
    /// Number of tags; S3 tells the count, not the tags.
    pub tag_count: u32,
    /// Whether the bytes can be read now: an archived object (Glacier, Deep Archive) needs a restore first.
    pub archived: bool,
}

/// One object in a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedObject {
    /// Whole key.
    pub key: String,
    /// ETag, time and size. Times are cut to whole seconds so that they compare with HEAD's.
    pub version: Version,
    /// Storage class where the listing tells it.
    pub storage_class: Option<String>,
}

/// What to list.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ListRequest {
    /// Bucket.
    pub bucket: String,
    /// Only keys that begin with this.
    pub prefix: String,
    /// Group what follows the prefix up to `/` into common prefixes.
    pub delimited: bool,
    /// Only keys after this one, in byte order. Used for the first page only.
    pub start_after: Option<String>,
    /// From [`ListPage::next`].
    pub continuation: Option<String>,
    /// At most this many keys and prefixes; 0 asks for the store's page size (1,000 on S3).
    pub max_keys: u32,
}

/// One page of a listing: keys and common prefixes, each in byte order.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ListPage {
    /// Objects.
    pub objects: Vec<ListedObject>,
    /// Common prefixes, each ending in `/`.
    pub prefixes: Vec<String>,
    /// Present when more follows.
    pub next: Option<String>,
}

/// A condition on a write or a delete.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum Condition {
    /// No condition.
    #[default]
    None,
    /// Only when nothing is there (`If-None-Match: *`).
    Absent,
    /// Only when this version is there (`If-Match`).
    Match(ETag),
}

/// Bytes to upload, kept in memory in pieces so that a retry can send them again without a copy.
#[derive(Clone, Default, Debug)]
pub struct Body(pub Bytes);

/// A part that was uploaded or copied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// 1 to 10,000.
    pub number: u32,
    /// Entity tag the store gave it.
    pub etag: ETag,
    /// Bytes.
    pub size: u64,
    /// Checksum as `ALGORITHM=base64` when the upload has an algorithm: repeated at completion.
    pub checksum: Option<String>,
}

/// A multipart upload that is under way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct UploadId(pub Arc<str>);

/// An upload found by [`list_uploads`](super::object_store::ObjectStore::list_uploads).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PendingUpload {
    /// Key it would become.
    pub path: ObjectPath,
    /// Its id.
    pub id: UploadId,
    /// When it began.
    pub initiated: SystemTime,
}

/// What a write answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    /// Entity tag of the new version.
    pub etag: ETag,
    /// Only a copy tells it; a put does not.
    pub last_modified: Option<SystemTime>,
    /// Version id on a versioned bucket.
    pub version_id: Option<String>,
}

/// Where properties of a copy come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CopyProperties {
    /// As the source has them. Storage class and encryption are repeated from what the caller knows of the
    /// source; `None` costs a HEAD of the source before the copy.
    Keep(Option<Placement>),
    /// These instead, storage class and encryption included (tags are kept all the same).
    Replace(Box<Properties>),
}

/// A server-side copy of a whole object of at most 5 GiB.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyRequest {
    /// Source.
    pub from: ObjectPath,
    /// The version to copy; `None` copies whatever is there.
    pub from_etag: Option<ETag>,
    /// Destination, possibly the source itself.
    pub to: ObjectPath,
    /// Condition on the destination.
    pub condition: Condition,
    /// Properties of the destination.
    pub properties: CopyProperties,
}

/// One key of a batch delete.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeleteEntry {
    /// Key.
    pub key: String,
    /// Only this version, where the store supports it in a batch.
    pub etag: Option<ETag>,
}

/// A key that a batch delete could not remove.
#[derive(Debug)]
pub struct DeleteFailure {
    /// Key.
    pub key: String,
    /// Why.
    pub error: super::error::StoreError,
}

/// A bucket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BucketInfo {
    /// Name.
    pub name: String,
    /// When it was made, where the store tells it.
    pub created: Option<SystemTime>,
}

/// The method a presigned URL is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PresignMethod {
    /// Download.
    Get,
    /// Upload.
    Put,
}

/// How long a presigned URL is valid by default.
pub const PRESIGN_EXPIRES_DEFAULT: Duration = Duration::from_secs(3600);

/// Largest object that one CopyObject call takes, and largest range of UploadPartCopy: 5 GiB.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>
pub const COPY_MAX_BYTES: u64 = 5 << 30;
/// Smallest part but the last: 5 MiB.
pub const PART_MIN_BYTES: u64 = 5 << 20;
/// Largest part: 5 GiB.
pub const PART_MAX_BYTES: u64 = 5 << 30;
/// Most parts of one upload.
pub const PARTS_MAX: u32 = 10_000;
/// Most keys of one DeleteObjects call.
pub const DELETE_BATCH_MAX: usize = 1_000;
/// Longest key in bytes.
pub const KEY_MAX_BYTES: usize = 1_024;
/// Most bytes of user metadata: names and values together.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html>
pub const METADATA_MAX_BYTES: usize = 2_048;
/// Most tags of one object.
pub const TAGS_MAX: usize = 10;
