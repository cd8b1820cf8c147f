//! The content store over a fake S3.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::single_range_in_vec_init)]

mod evict;
mod fake;
mod read;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fake::{Fake, bytes_of};
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::*;
use crate::runtime::budget::Budget;
use crate::store::types::Version;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

pub struct Rig {
    pub dir: TempDir,
    pub fake: Arc<Fake>,
    pub budget: Arc<Budget>,
    pub store: Arc<ContentStore>,
}

impl Rig {
    pub fn new(cache_size_bytes: u64) -> Self {
        Self::with(cache_size_bytes, 64 * MIB)
    }

    pub fn with(cache_size_bytes: u64, budget_bytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fake = Fake::new();
        let budget = Arc::new(Budget::new(budget_bytes));
        let config = ContentConfig {
            dir: dir.path().to_owned(),
            cache_size_bytes,
            window_max_bytes: 64 * MIB,
            budget: Arc::clone(&budget),
        };
        let store = ContentStore::open(config, Arc::clone(&fake) as _, Handle::current()).unwrap();
        Self { dir, fake, budget, store }
    }

    pub fn put(&self, key: &str, size: u64) -> Arc<Content> {
        let (path, version) = self.fake.put(key, key, size);
        self.store.object(&path, &version)
    }

    /// Bytes that cached files occupy on disk now.
    pub fn disk_bytes(&self) -> u64 {
        walk(self.dir.path())
            .iter()
            .map(|path| std::fs::metadata(path).map_or(0, |meta| meta.blocks() * 512))
            .sum()
    }

    pub fn files(&self) -> usize {
        walk(self.dir.path()).len()
    }

    /// Waits until no transfer is under way and all permits came back.
    pub async fn settled(&self) {
        let fake = Arc::clone(&self.fake);
        until("transfers end", || fake.in_flight.load(Ordering::SeqCst) == 0 && self.budget.in_use() == 0)
            .await;
    }
}

fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries
        .flatten()
        .flat_map(|entry| if entry.path().is_dir() { walk(&entry.path()) } else { vec![entry.path()] })
        .collect()
}

/// Waits for a condition; fails after 30 s.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..15_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("waited too long: {what}");
}

/// Reads and compares every byte.
pub async fn check(content: &Arc<Content>, stream: &Stream, offset: u64, len: u64) {
    let read = content.read(stream, offset, usize::try_from(len).unwrap()).await.unwrap();
    compare(content, &read, offset, len);
}

pub fn compare(content: &Content, read: &[u8], offset: u64, len: u64) {
    let Version { etag, size, .. } = content.version();
    let expected = bytes_of(&etag, offset.min(size)..offset.saturating_add(len).min(size));
    assert_eq!(read.len(), expected.len(), "length at {offset}+{len}");
    if read != expected
        && let Some(at) = read.iter().zip(&expected).position(|(a, b)| a != b)
    {
        panic!(
            "{}: byte {} is {} and should be {}",
            content.path(),
            offset + at as u64,
            read[at],
            expected[at]
        );
    }
}

pub fn all(content: &Content) -> Vec<std::ops::Range<u64>> {
    content.not_on_disk(0..u64::MAX)
}
