//! A store to test with an empty bucket in it, and shorthands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use pailfs::store::error::{ErrorKind, Result};
use pailfs::store::memory::MemoryStore;
use pailfs::store::object_store::{GetRequest, GetResponse, ObjectStore};
use pailfs::store::s3::{Keys, S3Config};
use pailfs::store::types::{Body, Condition, ETag, ListPage, ListRequest, ObjectPath, Properties, Written};
use pailfs_s3_server::{Fault, Server, ServerConfig};

pub const BUCKET: &str = "bucket";

/// What the suite runs on.
pub struct Subject {
    pub store: Arc<dyn ObjectStore>,
}

pub fn memory() -> Subject {
    let store = MemoryStore::new();
    store.create_bucket(BUCKET);
    Subject { store: Arc::new(store) }
}

/// A client and the server it talks to.
pub struct Remote {
    pub subject: Subject,
    pub server: Server,
}

/// A client with everything around it, over a server of its own.
pub async fn s3(config: S3Config) -> Remote {
    s3_over(ServerConfig::default(), config).await
}

pub async fn s3_over(server: ServerConfig, config: S3Config) -> Remote {
    let server = start(server).await;
    let store = pailfs::store::open(&at(&server, config)).await.unwrap();
    Remote { subject: Subject { store }, server }
}

pub async fn start(server: ServerConfig) -> Server {
    Server::start(ServerConfig { buckets: vec![BUCKET.to_owned()], ..server }).await.unwrap()
}

/// The configuration for a server: its address and, unless others are given, its keys; retries are quick.
pub fn at(server: &Server, config: S3Config) -> S3Config {
    let ServerConfig { access_key, secret_key, .. } = ServerConfig::default();
    S3Config {
        endpoint_url: Some(server.endpoint()),
        keys: config.keys.clone().or(Some(Keys { access_key, secret_key })),
        retry_initial_backoff: Duration::from_millis(1),
        ..config
    }
}

impl Remote {
    /// Requests of an operation that have reached the server.
    pub fn requests(&self, operation: &str) -> u64 {
        self.server.counters().operations.get(operation).copied().unwrap_or(0)
    }

    pub fn fault(&self, fault: Fault) {
        self.server.knobs().add_fault(fault);
    }

    /// Ends all faults and begins to count anew.
    pub fn calm(&self) {
        self.server.knobs().clear_faults();
        self.server.reset_counters();
    }
}

pub fn path(key: &str) -> ObjectPath {
    ObjectPath::new(BUCKET, key)
}

pub fn body(bytes: impl Into<Bytes>) -> Body {
    Body(bytes.into())
}

pub fn none() -> BTreeMap<String, String> {
    BTreeMap::new()
}

pub fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

pub fn other_etag() -> ETag {
    ETag::new("\"00000000000000000000000000000000\"")
}

/// Bytes that differ at every position a part or chunk may begin.
pub fn pattern(len: usize) -> Bytes {
    (0..len).map(|i| (i.wrapping_mul(31) ^ (i >> 8) ^ (i >> 16)) as u8).collect::<Vec<u8>>().into()
}

pub fn kind<T>(result: Result<T>) -> ErrorKind {
    match result {
        Ok(_) => panic!("the call succeeded"),
        Err(error) => error.kind,
    }
}

pub async fn drain(response: GetResponse) -> Result<Vec<u8>> {
    let len = response.len;
    let chunks: Vec<Bytes> = response.body.try_collect().await?;
    let body = chunks.concat();
    assert_eq!(body.len() as u64, len);
    Ok(body)
}

impl Subject {
    pub async fn put(&self, key: &str, body: impl Into<Bytes>) -> Written {
        self.put_if(key, body, Condition::None).await.unwrap()
    }

    pub async fn put_if(&self, key: &str, body: impl Into<Bytes>, condition: Condition) -> Result<Written> {
        self.store.put(&path(key), Body(body.into()), &Properties::default(), &none(), condition).await
    }

    pub async fn read(&self, key: &str) -> Result<Vec<u8>> {
        drain(self.store.get(&path(key), GetRequest::default()).await?).await
    }

    pub async fn read_range(&self, key: &str, first: u64, len: u64) -> Result<Vec<u8>> {
        let request = GetRequest { range: Some((first, len)), ..GetRequest::default() };
        let response = self.store.get(&path(key), request).await?;
        assert_eq!(response.offset, first);
        drain(response).await
    }

    pub async fn list(&self, prefix: &str, delimited: bool) -> ListPage {
        let request = ListRequest {
            bucket: BUCKET.to_owned(),
            prefix: prefix.to_owned(),
            delimited,
            ..ListRequest::default()
        };
        self.list_all(request).await
    }

    /// Every page of a listing as one.
    pub async fn list_all(&self, mut request: ListRequest) -> ListPage {
        let mut all = ListPage::default();
        loop {
            let page = self.store.list(request.clone()).await.unwrap();
            if request.max_keys > 0 {
                assert!(page.objects.len() + page.prefixes.len() <= request.max_keys as usize);
            }
            all.objects.extend(page.objects);
            all.prefixes.extend(page.prefixes);
            match page.next {
                Some(next) => request.continuation = Some(next),
                None => return all,
            }
        }
    }

    pub async fn keys(&self, prefix: &str) -> Vec<String> {
        self.list(prefix, false).await.objects.into_iter().map(|object| object.key).collect()
    }
}

/// Keys that are no paths, or hard to write down.
pub fn odd_keys() -> Vec<String> {
    let mut keys: Vec<String> = [
        "a//b",
        "a//",
        "//",
        "/",
        "/leading",
        ".",
        "..",
        "a/./b",
        "a/../b",
        "dir/",
        "dir",
        "a b",
        " a ",
        "a+b",
        "a%2Fb",
        "a%b",
        "a?b=c&d",
        "a#b",
        "a;b",
        "a:b",
        "a\"b'c",
        "a<b>&amp;",
        "a\\b",
        "a*b[c]{d}|~^`",
        "tab\there",
        "new\nline",
        "return\rhere",
        "control\u{1}\u{1f}",
        "delete\u{7f}",
        "caf\u{e9}",
        "cafe\u{301}",
        "\u{65e5}\u{672c}",
        "\u{1f600}",
        "\u{fffd}",
    ]
    .map(str::to_owned)
    .into();
    keys.push("k".repeat(1_024));
    keys.push("\u{e9}".repeat(512));
    keys
}
