//! A server of one test.

use std::sync::Arc;
use std::time::Duration;

use pailfs::store::object_store::ObjectStore;
use pailfs::store::s3::{Keys, S3Config, S3Store};
use pailfs_s3_server::{Counters, Server, ServerConfig};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::bucket::Bucket;
use super::mounted::{Mount, Mounter};

/// The bucket that every world has.
pub const BUCKET: &str = "data";

/// A running S3 server, a client for it, and a directory for what a test needs on local disk. Fields are
/// dropped in order: the client before the server.
pub struct World {
    pub tmp: TempDir,
    store: Arc<dyn ObjectStore>,
    runtime: Arc<Runtime>,
    pub server: Server,
    pub keys: (String, String),
}

impl World {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// A world whose server is set up differently.
    pub fn with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let mut config = ServerConfig { buckets: vec![BUCKET.to_owned()], ..ServerConfig::default() };
        change(&mut config);
        let keys = (config.access_key.clone(), config.secret_key.clone());
        let server = Server::start_blocking(config).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let s3 = S3Config {
            endpoint_url: Some(server.endpoint()),
            region: Some("us-east-1".to_owned()),
            keys: Some(Keys { access_key: keys.0.clone(), secret_key: keys.1.clone() }),
            ..S3Config::default()
        };
        let store = runtime.block_on(S3Store::connect(s3)).unwrap();
        let tmp = tempfile::Builder::new().prefix("pailfs-mount.").tempdir().unwrap();
        Self { tmp, store: Arc::new(store), runtime: Arc::new(runtime), server, keys }
    }

    /// The bucket, past the mount.
    pub fn bucket(&self) -> Bucket {
        self.bucket_named(BUCKET)
    }

    pub fn bucket_named(&self, name: &str) -> Bucket {
        Bucket { store: self.store.clone(), runtime: self.runtime.clone(), name: name.to_owned() }
    }

    /// A mount of the bucket with these flags, a cache of its own, ready to use.
    pub fn mount(&self, flags: &[&str]) -> Mount {
        self.mounter().flags(flags).start()
    }

    pub fn mounter(&self) -> Mounter<'_> {
        Mounter::new(self)
    }

    /// What `action` asks of the server. Requests that follow it at once, unasked, are counted too.
    pub fn count(&self, action: impl FnOnce()) -> Counters {
        self.settle();
        self.server.reset_counters();
        action();
        self.settle();
        self.server.counters()
    }

    /// Waits until no request has come for a while: prefetch and deferred changes are through.
    pub fn settle(&self) {
        let mut before = u64::MAX;
        loop {
            let now = self.server.counters().total();
            if now == before {
                return;
            }
            before = now;
            std::thread::sleep(Duration::from_millis(400));
        }
    }
}
