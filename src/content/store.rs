//! The store of object versions: identities, handles, counters.
//!
//! Invariants: one object per identity in the index, one living handle per object. An object that is not in the
//! index (detached, or its identity was taken by another) disappears with its handle; one that is, stays as long
//! as it has bytes on local disk or a handle.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use lru::LruCache;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::files::Files;
use super::handle::Content;
use super::object::{Identity, Object, State, pages};
use super::ranges::RangeSet;
use crate::runtime::budget::Budget;
use crate::store::object_store::ObjectStore;
use crate::store::types::{ObjectPath, Version};

/// Where content lives and what bounds it.
#[derive(Clone, Debug)]
pub struct ContentConfig {
    /// Cache directory of this mount alone; content goes to `versions/` in it.
    pub dir: PathBuf,
    /// Most bytes that cached content may occupy on local disk.
    pub cache_size_bytes: u64,
    /// Most bytes to fetch ahead of one sequential stream.
    pub window_max_bytes: u64,
    /// Bounds the memory of what is fetched ahead.
    pub budget: Arc<Budget>,
}

/// A look at the store.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ContentStats {
    /// Bytes on local disk, in whole pages.
    pub bytes_used: u64,
    /// Versions with bytes on local disk that may be evicted.
    pub objects: u64,
    /// Reads answered from local disk or from memory.
    pub hits: u64,
    /// Reads that waited for S3.
    pub misses: u64,
    /// Bytes that came from S3.
    pub fetched_bytes: u64,
    /// Bytes given back to stay within the bound.
    pub evicted_bytes: u64,
}

/// Content of object versions on local disk. Shared by everything that reads.
pub struct ContentStore {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) runtime: Handle,
    pub(super) files: Files,
    pub(super) budget: Arc<Budget>,
    pub(super) cache_size_bytes: u64,
    pub(super) window_max_bytes: u64,
    /// Streams that fetch ahead now and share the cache for it.
    pub(super) streams: Arc<AtomicUsize>,
    /// One thread evicts at a time.
    pub(super) eviction: Mutex<()>,
    pub(super) index: Mutex<Index>,
    pub(super) overflow: Mutex<Overflow>,
    /// When local disk refused a write last.
    pub(super) refused: Mutex<Option<Instant>>,
    pub(super) counters: Counters,
    next_id: AtomicU64,
}

#[derive(Default)]
pub(super) struct Counters {
    pub hits: AtomicU64,
    pub misses: AtomicU64,
    pub fetched_bytes: AtomicU64,
    pub evicted_bytes: AtomicU64,
}

/// Who is who, and who was used when.
pub(super) struct Index {
    by_identity: HashMap<Identity, Entry>,
    /// Objects with bytes on local disk that are not detached.
    pub lru: LruCache<u64, Arc<Object>>,
    /// See [`super::room`].
    pub used_bytes: u64,
}

struct Entry {
    object: Arc<Object>,
    handle: Weak<Content>,
}

/// Bytes that could not be written to local disk and stay in memory for a while, oldest first.
#[derive(Default)]
pub(super) struct Overflow {
    pub queue: VecDeque<Parked>,
    pub bytes: u64,
}

/// One flight in the overflow.
pub(super) struct Parked {
    pub object: Weak<Object>,
    pub start: u64,
    pub id: u64,
    pub bytes: u64,
}

impl Index {
    fn holds(&self, object: &Arc<Object>, state: &State) -> bool {
        self.by_identity.get(&state.identity).is_some_and(|entry| Arc::ptr_eq(&entry.object, object))
    }

    /// Forgets an object that nobody has open and that has nothing on local disk or under way.
    pub fn drop_if_unused(&mut self, object: &Arc<Object>, state: &State) {
        let unused = self
            .by_identity
            .get(&state.identity)
            .is_some_and(|entry| Arc::ptr_eq(&entry.object, object) && entry.handle.strong_count() == 0);
        if unused && state.allocated.is_empty() && !state.is_busy() {
            self.by_identity.remove(&state.identity);
            self.lru.pop(&object.id);
        }
    }
}

impl ContentStore {
    /// Opens the store in its directory, made if needed. What an earlier run left there is removed.
    ///
    /// # Errors
    /// The directory cannot be made, listed or cleaned.
    pub fn open(
        config: ContentConfig,
        store: Arc<dyn ObjectStore>,
        runtime: Handle,
    ) -> io::Result<Arc<Self>> {
        let files = Files::open(&config.dir)?;
        Ok(Arc::new(Self {
            store,
            runtime,
            files,
            budget: config.budget,
            cache_size_bytes: config.cache_size_bytes,
            window_max_bytes: config.window_max_bytes,
            streams: Arc::default(),
            eviction: Mutex::new(()),
            index: Mutex::new(Index {
                by_identity: HashMap::new(),
                lru: LruCache::unbounded(),
                used_bytes: 0,
            }),
            overflow: Mutex::default(),
            refused: Mutex::new(None),
            counters: Counters::default(),
            next_id: AtomicU64::new(1),
        }))
    }

    /// The content of a version. The same identity gives the same `Arc` while one lives, and finds the bytes that
    /// are cached. Touches neither disk nor network.
    pub fn object(self: &Arc<Self>, path: &ObjectPath, version: &Version) -> Arc<Content> {
        let identity = (path.clone(), version.clone());
        let mut index = self.index.lock();
        if let Some(entry) = index.by_identity.get_mut(&identity) {
            if let Some(content) = entry.handle.upgrade() {
                return content;
            }
            let content = Content::new(Arc::clone(self), Arc::clone(&entry.object));
            entry.handle = Arc::downgrade(&content);
            return content;
        }
        let object = Arc::new(Object::new(self.number(), identity.clone()));
        let content = Content::new(Arc::clone(self), Arc::clone(&object));
        index.by_identity.insert(identity, Entry { object, handle: Arc::downgrade(&content) });
        content
    }

    /// Takes a local file over as the cached content of a version: `file` is open for reading and writing at
    /// `disk_path`, and the bytes in `resident` are those of the version. The file is moved into the store, or
    /// used and later removed where it is when it cannot be moved. When it cannot be taken over at all the content
    /// is simply not cached. Renames a file and may evict; never waits for the network.
    pub fn adopt(
        self: &Arc<Self>,
        path: &ObjectPath,
        version: &Version,
        file: File,
        disk_path: &Path,
        resident: RangeSet,
    ) -> Arc<Content> {
        let content = self.object(path, version);
        let object = content.inner();
        let taken = match self.files.take_over(disk_path, self.files.name(path, version), file) {
            Ok(taken) => taken,
            Err(error) => {
                tracing::warn!(%error, object = %path, "cannot keep a written file as cached content");
                return content;
            }
        };
        let mut resident = resident;
        resident.remove(version.size..u64::MAX);
        let alone = object.gate.write();
        let (unused, freed, over) = {
            let mut index = self.index.lock();
            let mut state = object.state.lock();
            if state.is_busy() || state.dead || resident.is_empty() {
                (Some(taken), 0, false)
            } else {
                let (old, freed) = state.take_file();
                state.flights.clear();
                state.file = Some(taken);
                for range in resident.iter() {
                    for part in state.unallocated(&pages(&range)) {
                        state.allocate(part);
                    }
                }
                state.resident = resident;
                index.used_bytes += state.allocated.total_bytes();
                if !state.detached {
                    index.lru.put(object.id, Arc::clone(object));
                }
                (old, freed, self.is_over(&index))
            }
        };
        self.give_back(unused, freed);
        drop(alone);
        if over {
            let (store, object) = (Arc::clone(self), Arc::clone(object));
            self.runtime.spawn_blocking(move || store.enforce_bound(&object));
        }
        content
    }

    /// A look at the counters.
    pub fn stats(&self) -> ContentStats {
        let (bytes_used, objects) = {
            let index = self.index.lock();
            (index.used_bytes, index.lru.len())
        };
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ContentStats {
            bytes_used,
            objects: u64::try_from(objects).unwrap_or(u64::MAX),
            hits: load(&self.counters.hits),
            misses: load(&self.counters.misses),
            fetched_bytes: load(&self.counters.fetched_bytes),
            evicted_bytes: load(&self.counters.evicted_bytes),
        }
    }

    /// A number that was not given before.
    pub(super) fn number(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes an object the most recently used.
    pub(super) fn touch(&self, object: &Object) {
        self.index.lock().lru.promote(&object.id);
    }

    /// A transfer ended: an object that nobody wants any more is forgotten.
    pub(super) fn settle(&self, object: &Arc<Object>) {
        let mut index = self.index.lock();
        let state = object.state.lock();
        index.drop_if_unused(object, &state);
    }

    /// The handle of an object was dropped.
    pub(super) fn released(self: &Arc<Self>, object: &Arc<Object>) {
        let doomed = {
            let mut index = self.index.lock();
            let mut state = object.state.lock();
            state.handles -= 1;
            state.kept &= state.handles > 0;
            if index.holds(object, &state) {
                index.drop_if_unused(object, &state);
                false
            } else if state.handles > 0 {
                // Another handle was made in the last moment of this one.
                false
            } else {
                index.lru.pop(&object.id);
                state.dead = true;
                state.file.is_some() || !state.allocated.is_empty()
            }
        };
        if doomed {
            self.bury_later(object);
        }
    }

    fn bury_later(self: &Arc<Self>, object: &Arc<Object>) {
        let (store, object) = (Arc::clone(self), Arc::clone(object));
        self.runtime.spawn_blocking(move || store.bury(&object));
    }

    /// The object is gone from S3: a new one of the same identity is another one.
    pub(super) fn detach(&self, object: &Arc<Object>) {
        let mut index = self.index.lock();
        let mut state = object.state.lock();
        if index.holds(object, &state) {
            index.by_identity.remove(&state.identity);
        }
        index.lru.pop(&object.id);
        state.detached = true;
    }

    /// The same bytes have a new identity. An object without a handle that had it before makes way.
    pub(super) fn relocate(self: &Arc<Self>, object: &Arc<Object>, identity: Identity) {
        let replaced = {
            let mut index = self.index.lock();
            let mut state = object.state.lock();
            let own =
                if index.holds(object, &state) { index.by_identity.remove(&state.identity) } else { None };
            state.identity = identity.clone();
            drop(state);
            let Some(entry) = own else { return };
            match index.by_identity.get(&identity) {
                Some(other) if other.handle.strong_count() > 0 => return,
                Some(_) | None => {}
            }
            let other = index.by_identity.insert(identity, entry).map(|other| other.object);
            if let Some(other) = &other {
                index.lru.pop(&other.id);
                other.state.lock().dead = true;
            }
            other
        };
        if let Some(replaced) = replaced {
            self.bury_later(&replaced);
        }
    }

    /// Objects in the index.
    #[cfg(test)]
    pub(super) fn known(&self) -> usize {
        self.index.lock().by_identity.len()
    }

    /// What all objects in the index count.
    #[cfg(test)]
    pub(super) fn allocated_sum(&self) -> u64 {
        let index = self.index.lock();
        index.by_identity.values().map(|entry| entry.object.state.lock().allocated.total_bytes()).sum()
    }
}
