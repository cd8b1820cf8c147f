//! Digests of bodies: what a client sent is verified, one of them is kept with the object.
//!
//! Sources: "Checking object integrity" in the S3 user guide. The MD5 is computed for the ETag as well, unless
//! the server runs with fast ETags. Checksums of the parts of an upload are combined here: hashes of hashes for
//! COMPOSITE, arithmetic on the CRCs for FULL_OBJECT.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crc_fast::CrcAlgorithm;
use http::HeaderMap;
use md5::{Digest as _, Md5};
use s3s::checksum::ChecksumHasher;
use s3s::crypto::Checksum as _;
use s3s::dto::{ChecksumAlgorithm, ChecksumType};
use s3s::{S3Result, TrailingHeaders, s3_error};
use serde::{Deserialize, Serialize};

/// The checksum algorithms of S3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

impl Algorithm {
    const ALL: [Algorithm; 5] =
        [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme, Algorithm::Sha1, Algorithm::Sha256];

    fn header(self) -> &'static str {
        match self {
            Algorithm::Crc32 => "x-amz-checksum-crc32",
            Algorithm::Crc32c => "x-amz-checksum-crc32c",
            Algorithm::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Algorithm::Sha1 => "x-amz-checksum-sha1",
            Algorithm::Sha256 => "x-amz-checksum-sha256",
        }
    }

    /// The name in `x-amz-checksum-algorithm`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Algorithm::Crc32 => ChecksumAlgorithm::CRC32,
            Algorithm::Crc32c => ChecksumAlgorithm::CRC32C,
            Algorithm::Crc64Nvme => ChecksumAlgorithm::CRC64NVME,
            Algorithm::Sha1 => ChecksumAlgorithm::SHA1,
            Algorithm::Sha256 => ChecksumAlgorithm::SHA256,
        }
    }

    /// The algorithm of that name.
    pub(crate) fn from_name(name: &str) -> Option<Algorithm> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            Algorithm::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            Algorithm::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
            Algorithm::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
            Algorithm::Sha1 | Algorithm::Sha256 => None,
        }
    }

    /// What S3 makes of the parts' checksums when the client does not say.
    pub(crate) fn default_kind(self) -> Kind {
        if self == Algorithm::Crc64Nvme { Kind::FullObject } else { Kind::Composite }
    }

    fn hasher(self) -> ChecksumHasher {
        let mut hasher = ChecksumHasher::default();
        self.enable(&mut hasher);
        hasher
    }

    fn enable(self, hasher: &mut ChecksumHasher) {
        match self {
            Algorithm::Crc32 => hasher.crc32 = Some(s3s::crypto::Crc32::new()),
            Algorithm::Crc32c => hasher.crc32c = Some(s3s::crypto::Crc32c::new()),
            Algorithm::Crc64Nvme => hasher.crc64nvme = Some(s3s::crypto::Crc64Nvme::new()),
            Algorithm::Sha1 => hasher.sha1 = Some(s3s::crypto::Sha1::new()),
            Algorithm::Sha256 => hasher.sha256 = Some(s3s::crypto::Sha256::new()),
        }
    }

    fn digest_of(self, hasher: ChecksumHasher) -> Option<String> {
        let all = hasher.finalize();
        match self {
            Algorithm::Crc32 => all.checksum_crc32,
            Algorithm::Crc32c => all.checksum_crc32c,
            Algorithm::Crc64Nvme => all.checksum_crc64nvme,
            Algorithm::Sha1 => all.checksum_sha1,
            Algorithm::Sha256 => all.checksum_sha256,
        }
    }
}

/// Whether a checksum covers the bytes of the object or the checksums of its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    FullObject,
    Composite,
}

impl Kind {
    /// The value of `x-amz-checksum-type`.
    pub(crate) fn dto(self) -> ChecksumType {
        ChecksumType::from_static(match self {
            Kind::FullObject => ChecksumType::FULL_OBJECT,
            Kind::Composite => ChecksumType::COMPOSITE,
        })
    }

    /// The kind that a request names.
    ///
    /// # Errors
    /// InvalidRequest for another word.
    pub(crate) fn from_dto(kind: &ChecksumType) -> S3Result<Kind> {
        match kind.as_str() {
            ChecksumType::FULL_OBJECT => Ok(Kind::FullObject),
            ChecksumType::COMPOSITE => Ok(Kind::Composite),
            _ => Err(s3_error!(InvalidRequest, "unknown x-amz-checksum-type")),
        }
    }
}

/// A checksum kept with an object or a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredChecksum {
    pub(crate) algorithm: Algorithm,
    /// Base64; a composite one ends in `-` and the number of parts.
    pub(crate) value: String,
    pub(crate) kind: Kind,
}

/// The checksum fields of an input, in a form that does not depend on its type.
macro_rules! sent_checksums {
    ($input:expr) => {
        [
            ($crate::checksums::Algorithm::Crc32, $input.checksum_crc32.clone()),
            ($crate::checksums::Algorithm::Crc32c, $input.checksum_crc32c.clone()),
            ($crate::checksums::Algorithm::Crc64Nvme, $input.checksum_crc64nvme.clone()),
            ($crate::checksums::Algorithm::Sha1, $input.checksum_sha1.clone()),
            ($crate::checksums::Algorithm::Sha256, $input.checksum_sha256.clone()),
        ]
    };
}

/// Writes an `Option<&StoredChecksum>` into the checksum fields of an output.
macro_rules! fill_checksums {
    ($output:expr, $stored:expr) => {
        if let Some(stored) = $stored {
            let value = Some(stored.value.clone());
            match stored.algorithm {
                $crate::checksums::Algorithm::Crc32 => $output.checksum_crc32 = value,
                $crate::checksums::Algorithm::Crc32c => $output.checksum_crc32c = value,
                $crate::checksums::Algorithm::Crc64Nvme => $output.checksum_crc64nvme = value,
                $crate::checksums::Algorithm::Sha1 => $output.checksum_sha1 = value,
                $crate::checksums::Algorithm::Sha256 => $output.checksum_sha256 = value,
            }
        }
    };
}

pub(crate) use {fill_checksums, sent_checksums};

/// What a client announced about a body: digests in headers, or names of trailers that will follow.
#[derive(Debug, Default)]
pub(crate) struct Announced {
    md5: Option<String>,
    wanted: Vec<(Algorithm, Option<String>)>,
    trailers: Option<TrailingHeaders>,
}

impl Announced {
    /// Collects what a PutObject or UploadPart request says.
    pub(crate) fn new(
        content_md5: Option<String>,
        sent: [(Algorithm, Option<String>); 5],
        algorithm: Option<&ChecksumAlgorithm>,
        headers: &HeaderMap,
        trailers: Option<TrailingHeaders>,
    ) -> Self {
        let mut wanted: Vec<_> = sent.into_iter().filter(|(_, value)| value.is_some()).collect();
        let mut add = |found: Option<Algorithm>| {
            if let Some(found) = found
                && !wanted.iter().any(|(known, _)| *known == found)
            {
                wanted.push((found, None));
            }
        };
        for names in headers.get_all("x-amz-trailer") {
            for name in names.to_str().unwrap_or_default().split(',') {
                let name = name.trim();
                add(Algorithm::ALL.into_iter().find(|known| known.header().eq_ignore_ascii_case(name)));
            }
        }
        add(algorithm.and_then(|algorithm| Algorithm::from_name(algorithm.as_str())));
        Self { md5: content_md5, wanted, trailers }
    }

    /// Also computes `algorithm`, for a part of an upload that asked for it.
    pub(crate) fn require(&mut self, algorithm: Option<Algorithm>) {
        if let Some(algorithm) = algorithm
            && !self.wanted.iter().any(|(known, _)| *known == algorithm)
        {
            self.wanted.push((algorithm, None));
        }
    }

    /// A hasher for the body. `with_md5`: the ETag needs the MD5.
    pub(crate) fn hasher(&self, with_md5: bool) -> BodyHasher {
        let mut checksums = ChecksumHasher::default();
        for (algorithm, _) in &self.wanted {
            algorithm.enable(&mut checksums);
        }
        let md5 = (with_md5 || self.md5.is_some()).then(Md5::new);
        BodyHasher { md5, checksums, any: !self.wanted.is_empty() }
    }

    /// Compares the digests of the whole body with what was announced; gives back the checksum to keep.
    ///
    /// # Errors
    /// BadDigest, InvalidDigest for a Content-MD5 that is none.
    pub(crate) fn verify(&self, digests: &Digests) -> S3Result<Option<StoredChecksum>> {
        if let Some(sent) = &self.md5 {
            let sent = BASE64.decode(sent).ok().filter(|sent| sent.len() == 16);
            let sent = sent.ok_or_else(|| s3_error!(InvalidDigest))?;
            if digests.md5.is_none_or(|md5| md5[..] != sent[..]) {
                return Err(s3_error!(
                    BadDigest,
                    "The Content-MD5 you specified did not match what we received"
                ));
            }
        }
        let mut kept = None;
        for (algorithm, in_header) in &self.wanted {
            let in_trailer = self.trailers.as_ref().and_then(|trailers| {
                trailers.read(|map| map.get(algorithm.header())?.to_str().ok().map(str::to_owned)).flatten()
            });
            let computed = digests.value(*algorithm).unwrap_or_default();
            let sent = in_header.clone().or(in_trailer);
            if sent.as_ref().is_some_and(|sent| *sent != computed) {
                let name = algorithm.name();
                return Err(s3_error!(
                    BadDigest,
                    "The {name} you specified did not match the calculated checksum."
                ));
            }
            if kept.is_none() || sent.is_some() {
                let kind = Kind::FullObject;
                kept = Some(StoredChecksum { algorithm: *algorithm, value: computed, kind });
            }
        }
        Ok(kept)
    }
}

/// Hashes a body while it arrives.
pub(crate) struct BodyHasher {
    md5: Option<Md5>,
    checksums: ChecksumHasher,
    any: bool,
}

/// The digests of a whole body.
pub(crate) struct Digests {
    pub(crate) md5: Option<[u8; 16]>,
    checksums: s3s::dto::Checksum,
}

impl Digests {
    fn value(&self, algorithm: Algorithm) -> Option<String> {
        let field = match algorithm {
            Algorithm::Crc32 => &self.checksums.checksum_crc32,
            Algorithm::Crc32c => &self.checksums.checksum_crc32c,
            Algorithm::Crc64Nvme => &self.checksums.checksum_crc64nvme,
            Algorithm::Sha1 => &self.checksums.checksum_sha1,
            Algorithm::Sha256 => &self.checksums.checksum_sha256,
        };
        field.clone()
    }
}

impl BodyHasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        if let Some(md5) = &mut self.md5 {
            md5.update(bytes);
        }
        if self.any {
            self.checksums.update(bytes);
        }
    }

    pub(crate) fn finish(self) -> Digests {
        Digests { md5: self.md5.map(|md5| md5.finalize().into()), checksums: self.checksums.finalize() }
    }
}

/// The checksum of an object put together from parts of these checksums and lengths, in order. None when a part
/// lacks one, or when the algorithm cannot be combined (a SHA of the full object).
pub(crate) fn combine(
    algorithm: Algorithm,
    kind: Kind,
    parts: &[(Option<StoredChecksum>, u64)],
) -> Option<StoredChecksum> {
    let mut raw = Vec::with_capacity(parts.len());
    for (checksum, len) in parts {
        let checksum = checksum.as_ref().filter(|checksum| checksum.algorithm == algorithm)?;
        raw.push((BASE64.decode(&checksum.value).ok()?, *len));
    }
    let value = match kind {
        Kind::Composite => {
            let mut hasher = algorithm.hasher();
            for (digest, _) in &raw {
                hasher.update(digest);
            }
            format!("{}-{}", algorithm.digest_of(hasher)?, parts.len())
        }
        Kind::FullObject => {
            let crc = algorithm.crc()?;
            let width = if algorithm == Algorithm::Crc64Nvme { 8 } else { 4 };
            let number = |digest: &[u8]| digest.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
            let mut pieces = raw.iter();
            let (first, _) = pieces.next()?;
            let whole = pieces.fold(number(first), |sum, (digest, len)| {
                crc_fast::checksum_combine(crc, sum, number(digest), *len)
            });
            BASE64.encode(&whole.to_be_bytes()[8 - width..])
        }
    };
    Some(StoredChecksum { algorithm, value, kind })
}

/// The ETag of a single body, without quotes.
pub(crate) fn etag_of(md5: [u8; 16]) -> String {
    hex::encode(md5)
}

/// The ETag of an object put together from parts: MD5 over the parts' MD5s, and their number.
pub(crate) fn multipart_etag<'a>(parts: impl ExactSizeIterator<Item = &'a str>) -> String {
    let count = parts.len();
    let mut md5 = Md5::new();
    for etag in parts {
        md5.update(hex::decode(etag).unwrap_or_default());
    }
    format!("{}-{count}", hex::encode(md5.finalize()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn one(algorithm: Algorithm, bytes: &[u8]) -> StoredChecksum {
        let mut announced = Announced::default();
        announced.require(Some(algorithm));
        let mut hasher = announced.hasher(false);
        hasher.update(bytes);
        announced.verify(&hasher.finish()).unwrap().unwrap()
    }

    #[test]
    fn known_values() {
        // Check values of the CRC catalogue for "123456789", base64 of the big-endian number.
        assert_eq!(one(Algorithm::Crc32, b"123456789").value, BASE64.encode(0xcbf4_3926u32.to_be_bytes()));
        assert_eq!(one(Algorithm::Crc32c, b"123456789").value, BASE64.encode(0xe306_9283u32.to_be_bytes()));
        assert_eq!(
            one(Algorithm::Crc64Nvme, b"123456789").value,
            BASE64.encode(0xae8b_1486_0a79_9888u64.to_be_bytes())
        );
    }

    #[test]
    fn full_object_crcs_of_parts_equal_the_crc_of_the_whole() {
        for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme] {
            let parts: Vec<_> = [&b"hello "[..], b"wide ", b"world"]
                .iter()
                .map(|part| (Some(one(algorithm, part)), part.len() as u64))
                .collect();
            let combined = combine(algorithm, Kind::FullObject, &parts).unwrap();
            assert_eq!(combined.value, one(algorithm, b"hello wide world").value);
        }
        assert_eq!(
            combine(Algorithm::Sha1, Kind::FullObject, &[(Some(one(Algorithm::Sha1, b"x")), 1)]),
            None
        );
        assert_eq!(combine(Algorithm::Crc32, Kind::FullObject, &[(None, 1)]), None);
    }

    #[test]
    fn wrong_digests_are_refused() {
        let sent = |value: &str| {
            let none = || None;
            [
                (Algorithm::Crc32, Some(value.to_owned())),
                (Algorithm::Crc32c, none()),
                (Algorithm::Crc64Nvme, none()),
                (Algorithm::Sha1, none()),
                (Algorithm::Sha256, none()),
            ]
        };
        let check = |md5: Option<&str>, crc: &str| {
            let announced = Announced::new(md5.map(str::to_owned), sent(crc), None, &HeaderMap::new(), None);
            let mut hasher = announced.hasher(false);
            hasher.update(b"123456789");
            announced.verify(&hasher.finish()).map_err(|error| error.code().as_str().to_owned())
        };
        let right = BASE64.encode(0xcbf4_3926u32.to_be_bytes());
        assert!(check(None, &right).unwrap().is_some());
        assert_eq!(check(None, "AAAAAA=="), Err("BadDigest".to_owned()));
        assert_eq!(check(Some("nonsense"), &right), Err("InvalidDigest".to_owned()));
        assert_eq!(check(Some("1B2M2Y8AsgTpgAmY7PhCfg=="), &right), Err("BadDigest".to_owned()));
    }

    #[test]
    fn multipart_etags_have_the_form_of_s3() {
        let part = etag_of(Md5::digest(b"a").into());
        let etag = multipart_etag([part.as_str(), part.as_str()].into_iter());
        assert_eq!(etag.len(), 34);
        assert!(etag.ends_with("-2"));
    }
}
