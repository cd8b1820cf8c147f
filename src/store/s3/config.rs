//! What the S3 store is told: endpoint, identity, limits, times.

use std::fmt;
use std::time::Duration;

/// How the SDK spaces its retries.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum RetryMode {
    /// Exponential back-off, bounded by the retry token bucket.
    #[default]
    Standard,
    /// Besides, the client slows all its requests to a bucket down after the store throttled one: to a request
    /// every few seconds at first, and back up slowly.
    Adaptive,
}

/// Checksums sent with uploads and verified on whole-object downloads.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Checksums {
    /// CRC64NVME when the endpoint is AWS itself, else none: other stores differ in what they understand.
    #[default]
    Auto,
    /// None beyond what S3 demands.
    Off,
    /// Always this one.
    Always(ChecksumAlgorithm),
}

/// A checksum algorithm of S3.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChecksumAlgorithm {
    /// CRC-64/NVME, over the whole object also when it is uploaded in parts.
    Crc64Nvme,
    /// CRC-32C.
    Crc32C,
    /// CRC-32.
    Crc32,
    /// SHA-256.
    Sha256,
}

/// A key pair given by the program itself, as tests over a server of their own do. Users' keys come from the AWS
/// chain and never pass through here.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// Access key id.
    pub access_key: String,
    /// Secret; never shown.
    pub secret_key: String,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

/// Settings of [`S3Store::connect`](super::S3Store::connect).
#[derive(Clone, PartialEq, Debug)]
pub struct S3Config {
    /// Endpoint other than AWS (`https://minio.example:9000`); `None` also looks at the AWS chain
    /// (`AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, profile).
    pub endpoint_url: Option<String>,
    /// Region; `None` takes it from the chain, else `us-east-1`, and follows the store when it names another.
    pub region: Option<String>,
    /// Profile of the shared configuration files.
    pub profile: Option<String>,
    /// Keys instead of those of the chain.
    pub keys: Option<Keys>,
    /// Send unsigned requests.
    pub anonymous: bool,
    /// `None`: on for endpoints that are an IP address, `localhost` or a name without a dot.
    pub force_path_style: Option<bool>,
    /// Most requests in flight, and idle connections kept.
    pub max_connections: usize,
    /// Attempts of one request, the first included.
    pub max_attempts: u32,
    /// Spacing of retries.
    pub retry_mode: RetryMode,
    /// First back-off; doubles with each attempt, with jitter.
    pub retry_initial_backoff: Duration,
    /// Longest back-off.
    pub retry_max_backoff: Duration,
    /// Tokens of the retry bucket of each bucket; a retry takes 5, after a timeout 10.
    pub retry_tokens: usize,
    /// Tokens that come back each second whatever happens, so that an outage does not end retries for good.
    pub retry_tokens_per_s: f32,
    /// Longest attempt of a request with a body to send, of a server-side copy and of a completion, and longest
    /// time a body may take to arrive.
    pub transfer_timeout: Duration,
    /// Longest time to a TCP and TLS connection.
    pub connect_timeout: Duration,
    /// Longest attempt of a request without a body to send, up to the head of its answer; longest silence
    /// within a body.
    pub read_timeout: Duration,
    /// Time without progress after which a stalled transfer is given up.
    pub stall_grace: Duration,
    /// Checksums beyond TLS and the ETag.
    pub checksums: Checksums,
}

impl Default for S3Config {
    fn default() -> Self {
        Self {
            endpoint_url: None,
            region: None,
            profile: None,
            keys: None,
            anonymous: false,
            force_path_style: None,
            max_connections: 50,
            max_attempts: 3,
            retry_mode: RetryMode::Standard,
            retry_initial_backoff: Duration::from_secs(1),
            retry_max_backoff: Duration::from_secs(20),
            retry_tokens: 500,
            retry_tokens_per_s: 10.0,
            transfer_timeout: Duration::from_secs(300),
            connect_timeout: Duration::from_millis(3_100),
            read_timeout: Duration::from_secs(30),
            stall_grace: Duration::from_secs(10),
            checksums: Checksums::Auto,
        }
    }
}

/// Host of an endpoint URL, without port, user and brackets.
pub(super) fn host_of(endpoint: &str) -> &str {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(v6),
        None => host.split(':').next().unwrap_or(host),
    }
}

/// Whether `bucket.host` cannot be a name, so that the bucket has to go into the path.
pub(super) fn needs_path_style(endpoint: &str) -> bool {
    let host = host_of(endpoint);
    host.parse::<std::net::IpAddr>().is_ok() || host.ends_with(".localhost") || !host.contains('.')
}

/// Whether the endpoint is AWS itself.
pub(super) fn is_aws(endpoint: Option<&str>) -> bool {
    endpoint.map(host_of).is_none_or(|host| {
        [".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu"].iter().any(|end| host.ends_with(end))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found() {
        for (endpoint, host) in [
            ("http://127.0.0.1:9000", "127.0.0.1"),
            ("http://127.0.0.1", "127.0.0.1"),
            ("https://[::1]:9000/x", "::1"),
            ("https://user@minio.example:9000/path", "minio.example"),
            ("minio.example", "minio.example"),
        ] {
            assert_eq!(host_of(endpoint), host, "{endpoint}");
        }
    }

    #[test]
    fn path_style_where_a_bucket_name_cannot_precede_the_host() {
        for endpoint in
            ["http://127.0.0.1:9000", "http://[::1]:9000", "http://localhost:9000", "http://minio:9000/"]
        {
            assert!(needs_path_style(endpoint), "{endpoint}");
        }
        for endpoint in ["https://s3.eu-west-1.amazonaws.com", "https://minio.example"] {
            assert!(!needs_path_style(endpoint), "{endpoint}");
        }
    }

    #[test]
    fn aws_is_told_from_others() {
        assert!(is_aws(None));
        assert!(is_aws(Some("https://s3.eu-west-1.amazonaws.com")));
        assert!(!is_aws(Some("https://minio.example")));
        assert!(!is_aws(Some("https://amazonaws.com.example")));
    }
}
