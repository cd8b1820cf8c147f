//! The bound on local disk: counting, choosing who has to go, giving space back.
//!
//! Invariants: `used_bytes` is the sum of `allocated` over all objects, plus what is being removed right now, so
//! that the bound holds on disk and not only in the books. Least recently used versions go first, as whole files;
//! when all that is left is in use by transfers, or is the very version that needs room, its oldest ranges go.
//!
//! Everything here that evicts may block and runs on the blocking pool.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::files::FileRef;
use super::object::Object;
use super::store::{ContentStore, Index};

/// Most versions with bytes on local disk: what is known of each is kept in memory.
const OBJECTS_MAX: usize = 500_000;
/// Least bytes that one eviction by ranges gives back, where there are as many.
const PUNCH_MIN_BYTES: u64 = 1 << 20;
/// How many candidates are looked at before their state is checked again.
const CANDIDATES: usize = 8;

impl ContentStore {
    /// Counts the pages of `range`, making room first. False when there is none. May block.
    pub(super) fn make_room(&self, object: &Arc<Object>, range: &Range<u64>) -> bool {
        let mut need = match self.take_room(object, range) {
            Ok(()) => return true,
            Err(need) => need,
        };
        let _turn = self.eviction.lock();
        loop {
            if need > self.cache_size_bytes || !self.evict_some(object, need) {
                return false;
            }
            match self.take_room(object, range) {
                Ok(()) => return true,
                Err(again) => need = again,
            }
        }
    }

    /// Counts the pages of `range` when they fit, else says how many bytes they are.
    fn take_room(&self, object: &Arc<Object>, range: &Range<u64>) -> Result<(), u64> {
        let mut index = self.index.lock();
        let mut state = object.state.lock();
        let added = state.unallocated(range);
        let bytes = added.iter().map(|part| part.end - part.start).sum();
        if state.dead {
            return Err(u64::MAX);
        }
        let fits = index.used_bytes.saturating_add(bytes) <= self.cache_size_bytes;
        let listed = index.lru.contains(&object.id);
        if !fits || (!listed && index.lru.len() >= OBJECTS_MAX) {
            return Err(bytes);
        }
        index.used_bytes += bytes;
        for part in added {
            state.allocate(part);
        }
        if !listed && !state.detached {
            index.lru.put(object.id, Arc::clone(object));
        }
        Ok(())
    }

    /// Gives some space back: the least recently used first. False when there is nothing to give.
    fn evict_some(&self, asking: &Arc<Object>, need: u64) -> bool {
        let (idle, others) = self.candidates(asking);
        if idle.iter().any(|object| self.evict(object) > 0) {
            return true;
        }
        let wanted = need.max(PUNCH_MIN_BYTES.min(self.cache_size_bytes / 16));
        others.iter().any(|object| self.punch(object, wanted) > 0)
    }

    /// Versions that may go as a whole, and those of which only parts may, least recently used first.
    fn candidates(&self, asking: &Arc<Object>) -> (Vec<Arc<Object>>, Vec<Arc<Object>>) {
        let index = self.index.lock();
        let (mut idle, mut others) = (Vec::new(), Vec::new());
        for (_, object) in index.lru.iter().rev() {
            let state = object.state.lock();
            if !state.is_evictable() {
                continue;
            }
            if state.is_busy() || Arc::ptr_eq(object, asking) {
                others.push(Arc::clone(object));
            } else {
                idle.push(Arc::clone(object));
                if idle.len() >= CANDIDATES {
                    break;
                }
            }
        }
        (idle, others)
    }

    /// Removes the file of a version that nothing is being fetched into; returns the bytes given back. May block.
    fn evict(&self, object: &Arc<Object>) -> u64 {
        let _alone = object.gate.write();
        let (file, bytes) = {
            let mut index = self.index.lock();
            let mut state = object.state.lock();
            if !state.is_evictable() || state.is_busy() {
                return 0;
            }
            let taken = state.take_file();
            index.lru.pop(&object.id);
            index.drop_if_unused(object, &state);
            taken
        };
        self.give_back(file, bytes);
        self.counters.evicted_bytes.fetch_add(bytes, Ordering::Relaxed);
        bytes
    }

    /// Punches the oldest ranges out of a version's file; returns the bytes given back. May block.
    fn punch(&self, object: &Arc<Object>, wanted: u64) -> u64 {
        let _alone = object.gate.write();
        let (file, before, ranges) = {
            let mut state = object.state.lock();
            let Some(file) = state.file.clone() else { return 0 };
            if !state.is_evictable() {
                return 0;
            }
            let before = state.allocated.total_bytes();
            (file, before, state.release_oldest(wanted))
        };
        let kept: Vec<_> = ranges.into_iter().filter(|range| !self.punch_one(&file, range)).collect();
        let mut index = self.index.lock();
        let mut state = object.state.lock();
        // Space that the filesystem would not give back stays counted.
        for range in kept {
            state.allocate(range);
        }
        let bytes = before.saturating_sub(state.allocated.total_bytes());
        index.used_bytes = index.used_bytes.saturating_sub(bytes);
        self.counters.evicted_bytes.fetch_add(bytes, Ordering::Relaxed);
        bytes
    }

    fn punch_one(&self, file: &FileRef, range: &Range<u64>) -> bool {
        let punched = self.files.punch(file, range);
        if let Err(error) = &punched {
            tracing::warn!(%error, "cannot give back part of a cached file");
        }
        punched.is_ok()
    }

    /// Removes a file and counts its bytes as free only then. May block.
    pub(super) fn give_back(&self, file: Option<FileRef>, bytes: u64) {
        if let Some(file) = file
            && let Err(error) = self.files.remove(&file)
        {
            // Nothing reads it again and the next start removes it; counting it for ever would help nobody.
            tracing::warn!(%error, "cannot remove a cached file");
        }
        let mut index = self.index.lock();
        index.used_bytes = index.used_bytes.saturating_sub(bytes);
    }

    /// Removes the file of a version that is dead already. May block.
    pub(super) fn bury(&self, object: &Object) {
        let _alone = object.gate.write();
        let (file, bytes) = object.state.lock().take_file();
        self.give_back(file, bytes);
    }

    /// The file turned out unreadable: forgets it, so that its bytes are fetched again. False while something is
    /// being fetched into it. May block.
    pub(super) fn forget_file(&self, object: &Arc<Object>) -> bool {
        let _alone = object.gate.write();
        let (file, bytes) = {
            let mut index = self.index.lock();
            let mut state = object.state.lock();
            if state.is_busy() {
                return false;
            }
            index.lru.pop(&object.id);
            state.take_file()
        };
        self.give_back(file, bytes);
        true
    }

    /// Evicts until the bound holds: after a file was taken over. May block.
    pub(super) fn enforce_bound(&self, latest: &Arc<Object>) {
        let _turn = self.eviction.lock();
        loop {
            let need = {
                let index = self.index.lock();
                if !self.is_over(&index) {
                    return;
                }
                index.used_bytes.saturating_sub(self.cache_size_bytes)
            };
            if !self.evict_some(latest, need) {
                return;
            }
        }
    }

    /// Whether more is cached than may be.
    pub(super) fn is_over(&self, index: &Index) -> bool {
        index.used_bytes > self.cache_size_bytes || index.lru.len() > OBJECTS_MAX
    }
}
