//! Sets of half-open byte ranges: which bytes of a version are on local disk.
//!
//! Invariants: ranges are not empty, do not overlap and do not touch; `total` is the sum of their lengths.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of byte offsets, kept as ranges. Empty ranges given to any method count as nothing.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct RangeSet {
    /// Start to end.
    runs: BTreeMap<u64, u64>,
    total: u64,
}

impl RangeSet {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a range; returns how many bytes were not in the set before.
    pub fn insert(&mut self, range: Range<u64>) -> u64 {
        let Range { mut start, mut end } = range;
        if start >= end {
            return 0;
        }
        let before = self.total;
        if let Some((&s, &e)) = self.runs.range(..=start).next_back()
            && e >= start
        {
            start = s;
            end = end.max(e);
            self.runs.remove(&s);
            self.total -= e - s;
        }
        while let Some((&s, &e)) = self.runs.range(start..=end).next() {
            end = end.max(e);
            self.runs.remove(&s);
            self.total -= e - s;
        }
        self.runs.insert(start, end);
        self.total += end - start;
        self.total - before
    }

    /// Takes a range out; returns how many bytes were in the set before.
    pub fn remove(&mut self, range: Range<u64>) -> u64 {
        let Range { start, end } = range;
        if start >= end {
            return 0;
        }
        let before = self.total;
        if let Some((&s, &e)) = self.runs.range(..start).next_back()
            && e > start
        {
            self.runs.insert(s, start);
            self.total -= e - start;
            if e > end {
                self.runs.insert(end, e);
                self.total += e - end;
            }
        }
        while let Some((&s, &e)) = self.runs.range(start..end).next() {
            self.runs.remove(&s);
            self.total -= e - s;
            if e > end {
                self.runs.insert(end, e);
                self.total += e - end;
            }
        }
        before - self.total
    }

    /// Whether every byte of the range is in the set; true for an empty range.
    pub fn contains(&self, range: Range<u64>) -> bool {
        range.start >= range.end || self.run_at(range.start).is_some_and(|run| run.end >= range.end)
    }

    /// Whether any byte of the range is in the set.
    pub fn overlaps(&self, range: Range<u64>) -> bool {
        range.start < range.end
            && self.runs.range(..range.end).next_back().is_some_and(|(_, &end)| end > range.start)
    }

    /// The run that holds this offset.
    pub fn run_at(&self, offset: u64) -> Option<Range<u64>> {
        let (&start, &end) = self.runs.range(..=offset).next_back()?;
        (end > offset).then_some(start..end)
    }

    /// Where the first run that begins at or after the offset begins.
    pub fn next_start(&self, offset: u64) -> Option<u64> {
        self.runs.range(offset..).next().map(|(&start, _)| start)
    }

    /// The parts of a range that are not in the set, in order.
    pub fn missing_in(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut missing = Vec::new();
        let mut at = range.start;
        while at < range.end {
            if let Some(run) = self.run_at(at) {
                at = run.end;
            } else {
                let end = self.next_start(at).map_or(range.end, |start| start.min(range.end));
                missing.push(at..end);
                at = end;
            }
        }
        missing
    }

    /// The runs in order.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.runs.iter().map(|(&start, &end)| start..end)
    }

    /// Bytes in the set.
    pub fn total_bytes(&self) -> u64 {
        self.total
    }

    /// Whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Takes everything out.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.total = 0;
    }
}

impl FromIterator<Range<u64>> for RangeSet {
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(ranges: I) -> Self {
        let mut set = Self::new();
        for range in ranges {
            set.insert(range);
        }
        set
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPACE: u64 = 96;

    fn check(set: &RangeSet, bits: &[bool]) {
        let runs: Vec<_> = set.iter().collect();
        for run in &runs {
            assert!(run.start < run.end);
        }
        for pair in runs.windows(2) {
            assert!(pair[0].end < pair[1].start, "runs touch: {runs:?}");
        }
        let have: Vec<bool> = (0..SPACE).map(|at| runs.iter().any(|run| run.contains(&at))).collect();
        assert_eq!(have, bits);
        assert_eq!(set.total_bytes(), bits.iter().filter(|bit| **bit).count() as u64);
        assert_eq!(set.is_empty(), runs.is_empty());
    }

    fn ask(set: &RangeSet, bits: &[bool], range: Range<u64>) {
        let part = &bits[range.start as usize..range.end as usize];
        assert_eq!(set.contains(range.clone()), part.iter().all(|bit| *bit));
        assert_eq!(set.overlaps(range.clone()), part.iter().any(|bit| *bit));
        let missing = set.missing_in(range.clone());
        let gaps: Vec<u64> = missing.iter().cloned().flatten().collect();
        let expected: Vec<u64> = range.clone().filter(|at| !bits[*at as usize]).collect();
        assert_eq!(gaps, expected);
        for pair in missing.windows(2) {
            assert!(pair[0].end < pair[1].start);
        }
        assert_eq!(set.run_at(range.start).is_some(), bits.get(range.start as usize) == Some(&true));
    }

    proptest! {
        #[test]
        fn behaves_like_a_bitmap(
            steps in prop::collection::vec((any::<bool>(), 0..SPACE, 0..40u64, 0..SPACE, 0..40u64), 1..60)
        ) {
            let mut set = RangeSet::new();
            let mut bits = vec![false; SPACE as usize];
            for (add, start, len, ask_start, ask_len) in steps {
                let range = start..(start + len).min(SPACE);
                let part = &mut bits[range.start as usize..range.end as usize];
                let changed = part.iter().filter(|bit| **bit != add).count() as u64;
                part.fill(add);
                let told = if add { set.insert(range) } else { set.remove(range) };
                prop_assert_eq!(told, changed);
                check(&set, &bits);
                ask(&set, &bits, ask_start..(ask_start + ask_len).min(SPACE));
                let again: RangeSet = set.iter().collect();
                prop_assert_eq!(&again, &set);
            }
        }
    }

    #[test]
    fn empty_ranges_are_nothing() {
        let mut set = RangeSet::new();
        assert_eq!(set.insert(5..5), 0);
        assert_eq!(set.remove(7..7), 0);
        assert!(set.is_empty() && set.contains(3..3) && !set.overlaps(3..3));
        assert!(set.missing_in(4..4).is_empty());
        set.insert(0..u64::MAX);
        assert!(set.contains(0..u64::MAX));
    }
}
