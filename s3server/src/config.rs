//! What a server is started with.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Where buckets and objects live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backing {
    /// In the memory of the process; gone when the server stops.
    Memory,
    /// Under a directory, in a format of this server's own (see `directory`). Created when missing.
    Directory(PathBuf),
}

/// How a request signed for another region than [`ServerConfig::region`] is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongRegion {
    /// 400 AuthorizationHeaderMalformed, naming the right region, as regional endpoints of S3 do.
    Malformed,
    /// 301 PermanentRedirect with `x-amz-bucket-region`, as S3 does for a bucket that lives elsewhere.
    Redirect,
}

/// Settings of one server. `ServerConfig::default()` is an in-memory server on a free port of 127.0.0.1.
#[derive(Clone)]
pub struct ServerConfig {
    /// Address to listen on; port 0 takes a free one, [`crate::Server::endpoint`] tells which.
    pub listen: SocketAddr,
    /// The only access key that is known.
    pub access_key: String,
    /// The secret key that belongs to it.
    pub secret_key: String,
    /// Where objects live.
    pub backing: Backing,
    /// Most keys and common prefixes in one page of a listing; S3 has 1,000.
    pub page_size: usize,
    /// Smallest part, in bytes, that may stand before the last one; S3 has 5 MiB. 0 switches the check off.
    pub part_size_min_bytes: u64,
    /// ETags from a counter instead of MD5, for measurements where MD5 would cost more than what is measured.
    pub fast_etags: bool,
    /// Unsigned requests are served too.
    pub allow_anonymous: bool,
    /// When set, requests signed for another region are refused and buckets say that they are here.
    pub region: Option<String>,
    /// The answer to a request for another region.
    pub wrong_region: WrongRegion,
    /// Buckets that exist from the start.
    pub buckets: Vec<String>,
    /// Worker threads of the runtime of [`crate::Server::start_blocking`].
    pub worker_threads: usize,
}

impl fmt::Debug for ServerConfig {
    /// Leaves the secret key out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConfig")
            .field("listen", &self.listen)
            .field("access_key", &self.access_key)
            .field("backing", &self.backing)
            .field("region", &self.region)
            .field("buckets", &self.buckets)
            .finish_non_exhaustive()
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            access_key: "pailfs-test".to_owned(),
            secret_key: "pailfs-test-secret".to_owned(),
            backing: Backing::Memory,
            page_size: 1000,
            part_size_min_bytes: 5 * 1024 * 1024,
            fast_etags: false,
            allow_anonymous: false,
            region: None,
            wrong_region: WrongRegion::Malformed,
            buckets: Vec::new(),
            worker_threads: 2,
        }
    }
}
