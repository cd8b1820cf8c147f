//! A filesystem under test with everything below it, and proptest's configuration.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use pailfs::content::{ContentConfig, ContentStore};
use pailfs::fs::errno::errno;
use pailfs::fs::error::Error;
use pailfs::fs::filesystem::{AttrsMode, Filesystem, FsConfig, MountTarget, OnConflict};
use pailfs::fs::types::{Caller, Ino, KernelNotifier, OpenFlags};
use pailfs::runtime::budget::Budget;
use pailfs::store::memory::MemoryStore;
use pailfs::store::object_store::{GetRequest, ObjectStore};
use pailfs::store::types::{Body, Condition, ListRequest, ObjectInfo, ObjectPath, Properties};
use proptest::test_runner::{Config, RngSeed};

pub const BUCKET: &str = "model";
pub const CALLER: Caller = Caller { uid: 1000, gid: 1000, pid: 1 };
pub const FILE_MODE: u32 = 0o644;
pub const DIR_MODE: u32 = 0o755;
pub const READ: OpenFlags =
    OpenFlags { read: true, write: false, truncate: false, append: false, exclusive: false, direct: false };
pub const WRITE: OpenFlags = OpenFlags { write: true, ..READ };

/// No case takes this long unless it hangs.
const HANG: Duration = Duration::from_secs(60);

/// A kernel that is told and does not listen.
struct Deaf;

impl KernelNotifier for Deaf {
    fn inode_changed(&self, _ino: Ino, _data: bool) {}
    fn entry_changed(&self, _parent: Ino, _name: OsString) {}
}

/// What a mount is made of.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub ttl: Duration,
    pub part_size_bytes: u64,
    pub multipart_threshold_bytes: u64,
    pub cache_size_bytes: u64,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(60),
            part_size_bytes: 8 << 20,
            multipart_threshold_bytes: 16 << 20,
            cache_size_bytes: 64 << 20,
        }
    }
}

/// A mounted filesystem and the directories it uses.
pub struct Mount {
    pub fs: Arc<Filesystem>,
    pub dir: tempfile::TempDir,
}

impl Mount {
    pub fn staging(&self) -> PathBuf {
        self.dir.path().join("staging")
    }

    pub fn conflicts(&self) -> PathBuf {
        self.dir.path().join("conflicts")
    }

    /// Names of files that stay below the staging directory: a commit that nobody waits for may hold one until it
    /// has ended.
    pub async fn staged(&self) -> Vec<String> {
        self.settled(|mount| names_in(&mount.staging()).is_empty()).await;
        names_in(&self.staging())
    }

    /// Inodes and handles that nobody refers to, when commits that nobody waits for have ended.
    pub async fn counts(&self) -> (usize, usize) {
        self.settled(|mount| mount.fs.counts() == (1, 0)).await;
        self.fs.counts()
    }

    async fn settled(&self, done: impl Fn(&Self) -> bool) {
        for _ in 0..1_000 {
            if done(self) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// Bytes of every conflict file.
    pub fn conflict_files(&self) -> Vec<Vec<u8>> {
        let dir = self.conflicts();
        let files = names_in(&dir);
        files.iter().filter(|n| n.ends_with(".bytes")).map(|n| std::fs::read(dir.join(n)).unwrap()).collect()
    }
}

fn names_in(dir: &std::path::Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A filesystem over `store`, with an empty cache. To be called on a runtime.
pub fn mount(store: &Arc<dyn ObjectStore>, shape: Shape) -> Mount {
    let dir = tempfile::tempdir().unwrap();
    for name in ["staging", "conflicts", "content"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    let budget = Arc::new(Budget::new(64 << 20));
    let content = ContentConfig {
        dir: dir.path().join("content"),
        cache_size_bytes: shape.cache_size_bytes,
        window_max_bytes: 8 << 20,
        budget: budget.clone(),
    };
    let content = ContentStore::open(content, store.clone(), tokio::runtime::Handle::current()).unwrap();
    let config = FsConfig {
        target: MountTarget::Bucket { bucket: BUCKET.into(), prefix: String::new() },
        ttl: shape.ttl,
        open_window: Duration::from_secs(1),
        attrs: AttrsMode::Posix,
        read_only: false,
        uid: CALLER.uid,
        gid: CALLER.gid,
        file_mode: FILE_MODE,
        dir_mode: DIR_MODE,
        part_size_bytes: shape.part_size_bytes,
        multipart_threshold_bytes: shape.multipart_threshold_bytes,
        upload_concurrency: 4,
        staging_dir: dir.path().join("staging"),
        conflicts_dir: dir.path().join("conflicts"),
        on_conflict: OnConflict::Fail,
        storage_class: None,
        budget,
    };
    let fs = Filesystem::new(config, store.clone(), content, Arc::new(Deaf)).unwrap();
    Mount { fs, dir }
}

/// An S3 with one empty bucket.
pub fn memory() -> Arc<MemoryStore> {
    let store = MemoryStore::new();
    store.create_bucket(BUCKET);
    Arc::new(store)
}

pub fn path(key: &str) -> ObjectPath {
    ObjectPath::new(BUCKET, key)
}

/// Puts an object as another client would, without attributes.
pub async fn put(store: &dyn ObjectStore, key: &str, bytes: &[u8]) {
    let body = Body(Bytes::copy_from_slice(bytes));
    store.put(&path(key), body, &Properties::default(), &BTreeMap::new(), Condition::None).await.unwrap();
}

/// An object with its bytes, straight from the store.
pub async fn object(store: &dyn ObjectStore, key: &str) -> Option<(ObjectInfo, Vec<u8>)> {
    let response = store.get(&path(key), GetRequest::default()).await.ok()?;
    let bytes = response.body.try_fold(BytesMut::new(), |mut all, piece| async move {
        all.extend_from_slice(&piece);
        Ok(all)
    });
    Some((response.info, bytes.await.unwrap().to_vec()))
}

/// Every key of the bucket.
pub async fn keys(store: &dyn ObjectStore) -> Vec<String> {
    let mut keys = Vec::new();
    let mut continuation = None;
    loop {
        let request = ListRequest { bucket: BUCKET.into(), continuation, ..ListRequest::default() };
        let page = store.list(request).await.unwrap();
        keys.extend(page.objects.into_iter().map(|o| o.key));
        continuation = page.next;
        if continuation.is_none() {
            return keys;
        }
    }
}

/// The inode of a path, as the kernel would find it; `None` when there is none.
pub async fn find(fs: &Filesystem, path: &str) -> Result<Option<Ino>, Error> {
    let mut at = Ino::ROOT;
    for name in path.split('/').filter(|n| !n.is_empty()) {
        match fs.lookup(at, name.as_ref()).await?.attr {
            Some(attr) => at = attr.ino,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

/// All bytes of a file, read in pieces.
pub async fn read_all(fs: &Filesystem, ino: Ino, fh: pailfs::fs::types::Fh) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    loop {
        let piece = fs.read(ino, fh, all.len() as u64, 128 << 10).await?;
        if piece.is_empty() {
            return Ok(all);
        }
        all.extend_from_slice(&piece);
    }
}

/// The bytes of a path.
pub async fn cat(fs: &Filesystem, path: &str) -> Result<Vec<u8>, Error> {
    let ino = find(fs, path).await?.ok_or(Error::NotFound)?;
    let opened = fs.open(CALLER, ino, READ).await?;
    let bytes = read_all(fs, ino, opened.fh).await;
    fs.release(ino, opened.fh).await?;
    bytes
}

/// The number a program sees.
pub fn number<T>(result: &Result<T, Error>) -> i32 {
    result.as_ref().map_or_else(errno, |_| 0)
}

/// `cases` with a fixed seed, unless the environment says otherwise.
pub fn config(cases: u32, seed: u64) -> Config {
    let asked = Config::default();
    let has = |name: &str| std::env::var_os(name).is_some();
    Config {
        cases: if has("PROPTEST_CASES") { asked.cases } else { cases },
        rng_seed: if has("PROPTEST_RNG_SEED") { asked.rng_seed } else { RngSeed::Fixed(seed) },
        failure_persistence: None,
        max_shrink_iters: 4_000,
        ..asked
    }
}

/// Runs a case on a runtime of its own. A case that does not end has failed.
pub fn run<T>(case: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let done = runtime.block_on(async { tokio::time::timeout(HANG, case).await });
    runtime.shutdown_background();
    done.expect("it hangs")
}

/// The same on many threads, watched from outside: a deadlock of the threads themselves is noticed, too.
pub fn run_parallel<T: Send + 'static>(case: impl Future<Output = T> + Send + 'static) -> T {
    let (done, wait) = std::sync::mpsc::channel();
    let worker = std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap();
        let result = runtime.block_on(case);
        runtime.shutdown_background();
        let _ = done.send(());
        result
    });
    // A case that panicked drops its end of the channel and is joined at once.
    if let Err(std::sync::mpsc::RecvTimeoutError::Timeout) = wait.recv_timeout(HANG) {
        panic!("it hangs");
    }
    worker.join().unwrap()
}

/// Bytes that tell where they come from.
pub fn pattern(seed: u32, len: usize) -> Vec<u8> {
    let start = seed.wrapping_mul(2_654_435_761);
    (0..len).map(|i| (start.wrapping_add(i as u32).wrapping_mul(97) >> 8) as u8 | 1).collect()
}
