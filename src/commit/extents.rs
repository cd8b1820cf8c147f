//! The dirty map of a file: which bytes are in the staging file, and since which change.
//!
//! Extents are half-open byte ranges that never overlap. Each carries the generation of the write that made
//! it. What is above the committed generation is not in S3; what is at or below it is a copy of what is.

use std::collections::BTreeMap;
use std::ops::Range;

/// One extent's end and generation, keyed by its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Extent {
    end: u64,
    generation: u64,
}

/// Ranges in the staging file.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct ExtentMap {
    extents: BTreeMap<u64, Extent>,
}

impl ExtentMap {
    /// Whether nothing is staged.
    pub fn is_empty(&self) -> bool {
        self.extents.is_empty()
    }

    /// Number of extents.
    pub fn len(&self) -> usize {
        self.extents.len()
    }

    /// Marks a range as staged by the change `generation`. It joins the extent before it when that one is
    /// newer than `floor` (committed, or being committed now), so that a sequential writer keeps one extent.
    pub fn insert(&mut self, range: Range<u64>, generation: u64, floor: u64) {
        if range.is_empty() {
            return;
        }
        self.remove(range.clone());
        let mut extent = Extent { end: range.end, generation };
        let mut start = range.start;
        // Of two that join, the higher generation is the safe one to keep.
        if let Some((&before, &left)) = self.extents.range(..start).next_back()
            && left.end == start
            && left.generation > floor
        {
            self.extents.remove(&before);
            start = before;
            extent.generation = extent.generation.max(left.generation);
        }
        if let Some(&right) = self.extents.get(&extent.end)
            && right.generation == extent.generation
        {
            self.extents.remove(&extent.end);
            extent.end = right.end;
        }
        self.extents.insert(start, extent);
    }

    /// Forgets a range.
    pub fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let first = self.extents.range(..range.start).next_back().map(|(&s, &e)| (s, e));
        if let Some((start, extent)) = first
            && extent.end > range.start
        {
            self.extents.insert(start, Extent { end: range.start, ..extent });
            if extent.end > range.end {
                self.extents.insert(range.end, extent);
                return;
            }
        }
        let inside: Vec<u64> = self.extents.range(range.clone()).map(|(&s, _)| s).collect();
        for start in inside {
            if let Some(extent) = self.extents.remove(&start)
                && extent.end > range.end
            {
                self.extents.insert(range.end, extent);
            }
        }
    }

    /// Forgets everything from `size` on.
    pub fn truncate(&mut self, size: u64) {
        self.remove(size..u64::MAX);
    }

    /// Staged ranges within `range`, in order, with their generations.
    pub fn within(&self, range: Range<u64>) -> Vec<(Range<u64>, u64)> {
        let before = self.extents.range(..range.start).next_back().filter(|(_, e)| e.end > range.start);
        before
            .into_iter()
            .chain(self.extents.range(range.clone()))
            .map(|(&s, e)| (s.max(range.start)..e.end.min(range.end), e.generation))
            .filter(|(r, _)| !r.is_empty())
            .collect()
    }

    /// Every staged range in order.
    pub fn iter(&self) -> impl Iterator<Item = (Range<u64>, u64)> {
        self.extents.iter().map(|(&s, e)| (s..e.end, e.generation))
    }

    /// Bytes staged after `committed`.
    pub fn dirty_bytes(&self, committed: u64) -> u64 {
        self.iter().filter(|(_, g)| *g > committed).map(|(r, _)| r.end - r.start).sum()
    }
}

/// Where the bytes of a range come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// The staging file; `dirty` when S3 does not have them.
    Staged {
        /// Whether S3 does not have them.
        dirty: bool,
    },
    /// The version the file is based on, at the same offset.
    Base,
    /// Nowhere: zeros.
    Zero,
}

/// Splits `range` of a file by where its bytes come from. `base_len` bytes of the base still count.
pub fn sources(
    extents: &ExtentMap,
    base_len: u64,
    range: Range<u64>,
    committed: u64,
) -> Vec<(Range<u64>, Source)> {
    let mut out = Vec::new();
    let mut at = range.start;
    let gap = |from: u64, to: u64, out: &mut Vec<(Range<u64>, Source)>| {
        if from < to.min(base_len) {
            out.push((from..to.min(base_len), Source::Base));
        }
        if from.max(base_len) < to {
            out.push((from.max(base_len)..to, Source::Zero));
        }
    };
    for (staged, generation) in extents.within(range.clone()) {
        gap(at, staged.start, &mut out);
        at = staged.end;
        let dirty = generation > committed;
        // Extents of several writers' generations are one source.
        if let Some((last, Source::Staged { dirty: d })) = out.last_mut()
            && last.end == staged.start
            && *d == dirty
        {
            last.end = staged.end;
            continue;
        }
        out.push((staged, Source::Staged { dirty }));
    }
    gap(at, range.end, &mut out);
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_sequential_writer_keeps_one_extent() {
        let mut map = ExtentMap::default();
        for i in 0..1000 {
            map.insert(i * 10..i * 10 + 10, i + 1, 0);
        }
        assert_eq!(map.len(), 1);
        assert_eq!(map.dirty_bytes(0), 10_000);
    }

    #[test]
    fn a_write_into_a_committed_extent_dirties_only_itself() {
        let mut map = ExtentMap::default();
        map.insert(0..100, 1, 0);
        map.insert(40..50, 2, 1);
        assert_eq!(map.dirty_bytes(1), 10);
        assert_eq!(map.within(60..70), vec![(60..70, 1)]);
    }

    proptest! {
        /// Against an array of generations: every byte has the newest write's generation or a later one of
        /// a neighbour it was joined with, and is staged exactly when it was written and not removed.
        #[test]
        fn behaves_like_an_array(ops in prop::collection::vec((0u64..64, 0u64..64, any::<bool>()), 1..60)) {
            let mut map = ExtentMap::default();
            let mut model = [0u64; 64];
            for (i, (a, b, write)) in ops.into_iter().enumerate() {
                let (a, b) = (a.min(b), a.max(b));
                let generation = i as u64 + 1;
                if write {
                    map.insert(a..b, generation, 0);
                } else {
                    map.remove(a..b);
                }
                for byte in &mut model[a as usize..b as usize] {
                    *byte = if write { generation } else { 0 };
                }
                let mut end = 0;
                for (range, _) in map.iter() {
                    prop_assert!(range.start >= end && !range.is_empty());
                    end = range.end;
                }
                for (at, &expected) in model.iter().enumerate() {
                    let found = map.within(at as u64..at as u64 + 1);
                    prop_assert_eq!(found.is_empty(), expected == 0);
                    prop_assert!(found.first().is_none_or(|(_, g)| *g >= expected));
                }
            }
        }

        /// Sources cover a range without gaps, in order.
        #[test]
        fn sources_cover(writes in prop::collection::vec((0u64..64, 0u64..64), 0..10), base in 0u64..64, end in 1u64..64) {
            let mut map = ExtentMap::default();
            for (a, b) in writes {
                map.insert(a.min(b)..a.max(b), 1, 0);
            }
            let mut at = 0;
            for (range, source) in sources(&map, base, 0..end, 0) {
                prop_assert_eq!(range.start, at);
                prop_assert!(range.end > range.start);
                match source {
                    Source::Base => prop_assert!(range.end <= base),
                    Source::Zero => prop_assert!(range.start >= base),
                    Source::Staged { .. } => {}
                }
                at = range.end;
            }
            prop_assert_eq!(at, end);
        }
    }
}
