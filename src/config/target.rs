//! What to mount: `BUCKET`, `BUCKET/PREFIX`, `s3://BUCKET/PREFIX` or `s3://` for every bucket.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::store::types::KEY_MAX_BYTES;

/// What a mount shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// One bucket, or what lies below a prefix of it.
    Bucket {
        /// Its name.
        bucket: String,
        /// Empty, or a prefix that ends with `/`.
        prefix: String,
    },
    /// Every bucket the credentials may list, each as a directory at the top.
    AllBuckets,
}

impl Target {
    /// Reads a target from the command line.
    ///
    /// # Errors
    /// A sentence that says why `text` cannot be a target.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("s3://");
        let path = rest.unwrap_or(text);
        if path.is_empty() {
            return if rest.is_some() { Ok(Self::AllBuckets) } else { Err("no bucket is named".into()) };
        }
        if rest.is_none() && path.contains("://") {
            return Err(format!(
                "'{text}' is a URL; name the bucket here and the server with --endpoint-url"
            ));
        }
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        check_bucket(bucket)?;
        let mut prefix = prefix.to_owned();
        if !prefix.is_empty() && !prefix.ends_with('/') {
            prefix.push('/');
        }
        if prefix.len() >= KEY_MAX_BYTES {
            return Err(format!("the prefix is as long as a whole key may be ({KEY_MAX_BYTES} bytes)"));
        }
        Ok(Self::Bucket { bucket: bucket.to_owned(), prefix })
    }

    /// A name for the directory that holds what belongs to this mount: the same for the same endpoint,
    /// bucket and prefix, different otherwise, and fit to be a file name.
    pub fn identity(&self, endpoint: Option<&str>) -> String {
        let (label, bucket, prefix) = match self {
            Self::Bucket { bucket, prefix } => (bucket.as_str(), bucket.as_str(), prefix.as_str()),
            Self::AllBuckets => ("all-buckets", "", ""),
        };
        let mut hash = Sha256::new();
        for field in [endpoint.unwrap_or("").trim_end_matches('/'), bucket, prefix] {
            hash.update((field.len() as u64).to_le_bytes());
            hash.update(field.as_bytes());
        }
        let digest = hash.finalize();
        let mut name = format!("{label}-");
        for byte in digest.iter().take(8) {
            name.push_str(&format!("{byte:02x}"));
        }
        name
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bucket { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::Bucket { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::AllBuckets => write!(f, "s3://"),
        }
    }
}

/// Old buckets may hold capitals and underscores, other stores are laxer than S3: only what can be no bucket
/// anywhere is refused here.
fn check_bucket(bucket: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if bucket.is_empty() || bucket.len() > 255 || !bucket.chars().all(fits) || bucket.starts_with('.') {
        return Err(format!(
            "'{bucket}' cannot be a bucket name: letters, digits, '.', '-' and '_', written BUCKET/PREFIX"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(bucket: &str, prefix: &str) -> Target {
        Target::Bucket { bucket: bucket.into(), prefix: prefix.into() }
    }

    #[test]
    fn forms() {
        assert_eq!(Target::parse("data"), Ok(bucket("data", "")));
        assert_eq!(Target::parse("data/"), Ok(bucket("data", "")));
        assert_eq!(Target::parse("data/a/b"), Ok(bucket("data", "a/b/")));
        assert_eq!(Target::parse("s3://data/a/"), Ok(bucket("data", "a/")));
        assert_eq!(Target::parse("s3://"), Ok(Target::AllBuckets));
        // A key may begin with a slash of its own.
        assert_eq!(Target::parse("data//x"), Ok(bucket("data", "/x/")));
        for text in ["", "/data", "http://host/x", "a b", "..", "s3:///x", &format!("b/{}", "k".repeat(1024))]
        {
            assert!(Target::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shown_as_given() {
        assert_eq!(bucket("data", "").to_string(), "s3://data");
        assert_eq!(bucket("data", "a/").to_string(), "s3://data/a/");
        assert_eq!(Target::AllBuckets.to_string(), "s3://");
    }

    #[test]
    fn identities_tell_mounts_apart() {
        let names = [
            bucket("data", "").identity(None),
            bucket("data", "a/").identity(None),
            bucket("data", "").identity(Some("http://127.0.0.1:9000")),
            bucket("dataa", "/").identity(None),
            Target::AllBuckets.identity(None),
        ];
        for (i, name) in names.iter().enumerate() {
            assert!(!name.contains('/'));
            assert!(names.iter().skip(i + 1).all(|other| other != name));
        }
        assert_eq!(
            bucket("data", "").identity(Some("http://h:1/")),
            bucket("data", "").identity(Some("http://h:1"))
        );
    }
}
