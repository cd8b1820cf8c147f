//! What one open file is being read like, and what to fetch for it.
//!
//! Owns: the pattern of one handle, the growth of its window. The kernel sends the reads of one program a little
//! out of order, so a read counts as sequential when it is within reach of where the last ones ended; the reach
//! grows with what was read in a row and never passes 1 MiB.
//!
//! Invariants: what is fetched ahead is at most twice what was read in a row, at least 1 MiB once the pattern is
//! sequential, and never more than the bound given. Lock: one mutex, innermost.
//!
//! Deliberately does not: know which bytes are on disk; it only says what would be good to have.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::{BLOCK_BYTES, GET_MAX_BYTES, GET_MIN_BYTES};

/// How far from the expected offset a read may be and still continue the pattern, in bytes.
const REACH_MAX_BYTES: u64 = 1 << 20;

/// The read pattern of one open handle. Dropped with the handle, which stops what was being fetched ahead for it.
#[derive(Default, Debug)]
pub struct Stream {
    pattern: Mutex<Pattern>,
    /// Fetches ahead hold the weak side and stop when this is gone.
    alive: Arc<()>,
}

#[derive(Default, Debug)]
struct Pattern {
    /// Where the furthest read so far ended.
    next: u64,
    /// Bytes read in a row.
    run: u64,
    /// The run began at offset 0, which alone makes it a promising one.
    from_start: bool,
    /// Up to where bytes were asked for already.
    frontier: u64,
    /// Present while this stream fetches ahead.
    active: Option<Active>,
}

/// Counts one stream among those that share the cache for fetching ahead.
#[derive(Debug)]
struct Active(Arc<AtomicUsize>);

impl Active {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What bounds a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Bytes of the object.
    pub size: u64,
    /// Most bytes to have ahead of all streams together, before `window_max` bounds each.
    pub share: u64,
    /// Most bytes ahead of one stream.
    pub window_max: u64,
}

/// What to fetch for one read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Advice {
    /// A fetch for the read itself covers at least this many bytes from the first one that is missing.
    pub unit: u64,
    /// Fetch these ahead, in this order, each in one GET.
    pub ahead: Vec<Range<u64>>,
}

impl Stream {
    /// Notes a read of `range` (not empty, within the size) and says what to fetch.
    pub(super) fn advise(&self, range: &Range<u64>, bounds: Bounds, streams: &Arc<AtomicUsize>) -> Advice {
        let mut pattern = self.pattern.lock();
        pattern.note(range);
        if !pattern.from_start && pattern.run < 2 * BLOCK_BYTES {
            pattern.active = None;
            return Advice { unit: 0, ahead: Vec::new() };
        }
        if pattern.active.is_none() {
            pattern.active = Some(Active::new(streams));
        }
        let sharing = u64::try_from(streams.load(Ordering::Relaxed)).unwrap_or(u64::MAX).max(1);
        let most = bounds.window_max.min(bounds.share / sharing);
        let advice = pattern.plan(range, bounds.size, most);
        if pattern.next >= bounds.size {
            pattern.active = None;
        }
        advice
    }

    /// Bytes up to `end` were asked for on behalf of this stream.
    pub(super) fn asked(&self, end: u64) {
        let mut pattern = self.pattern.lock();
        pattern.frontier = pattern.frontier.max(end);
    }

    /// Bytes from `start` on could not be asked for: try again with the next read.
    pub(super) fn not_asked(&self, start: u64) {
        let mut pattern = self.pattern.lock();
        pattern.frontier = pattern.frontier.min(start);
    }

    /// A read failed: what comes next is a new pattern.
    pub(super) fn failed(&self) {
        *self.pattern.lock() = Pattern::default();
    }

    /// Gone when the stream is.
    pub(super) fn alive(&self) -> Weak<()> {
        Arc::downgrade(&self.alive)
    }
}

impl Pattern {
    fn note(&mut self, range: &Range<u64>) {
        let reach = self.run.min(REACH_MAX_BYTES);
        let continues = range.start <= self.next.saturating_add(reach)
            && range.end.saturating_add(reach) >= self.next
            && (self.run > 0 || range.start == 0);
        if continues {
            self.from_start |= range.start == 0;
            self.run += range.end.saturating_sub(self.next);
            self.next = self.next.max(range.end);
        } else {
            self.run = range.end - range.start;
            self.next = range.end;
            self.from_start = range.start == 0;
            self.frontier = 0;
        }
    }

    fn plan(&mut self, range: &Range<u64>, size: u64, most: u64) -> Advice {
        let window = (2 * self.run).max(GET_MIN_BYTES).min(most);
        let piece = ((window / 4) & !(GET_MIN_BYTES - 1)).clamp(GET_MIN_BYTES, GET_MAX_BYTES);
        let unit = piece.min(most.max(BLOCK_BYTES));
        let mut ahead = Vec::new();
        let first = self.run == range.end - range.start;
        self.frontier = self.frontier.max(round_up(self.next));
        if first || window < GET_MIN_BYTES {
            return Advice { unit, ahead };
        }
        let goal = self.next.saturating_add((window - piece).max(piece)).min(size);
        while self.frontier < goal {
            let end = cut_at_end(self.frontier, self.frontier + piece, size);
            ahead.push(self.frontier..end);
            self.frontier = end;
        }
        Advice { unit, ahead }
    }
}

/// `end`, or the size when what would remain is too little for a request of its own.
pub(super) fn cut_at_end(start: u64, end: u64, size: u64) -> u64 {
    let nearly = size.saturating_sub(end) <= GET_MIN_BYTES / 2;
    if nearly && size - start <= GET_MAX_BYTES { size } else { end.min(size) }
}

/// The end of the block that `offset` is in or ends.
pub(super) fn round_up(offset: u64) -> u64 {
    offset.checked_next_multiple_of(BLOCK_BYTES).unwrap_or(u64::MAX)
}

/// The start of the block that `offset` is in.
pub(super) fn round_down(offset: u64) -> u64 {
    offset - offset % BLOCK_BYTES
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn read(stream: &Stream, start: u64, len: u64, size: u64, window_max: u64) -> Advice {
        let bounds = Bounds { size, share: u64::MAX, window_max };
        stream.advise(&(start..(start + len).min(size)), bounds, &Arc::new(AtomicUsize::new(0)))
    }

    #[test]
    fn a_sequential_stream_grows_to_its_window_and_covers_the_file_once() {
        let size = 512 * MIB + 12345;
        let stream = Stream::default();
        let mut asked = 0;
        let mut ahead_max = 0;
        for block in 0..size.div_ceil(BLOCK_BYTES) {
            let at = block * BLOCK_BYTES;
            let advice = read(&stream, at, BLOCK_BYTES, size, 64 * MIB);
            if at == 0 {
                assert_eq!(advice, Advice { unit: MIB, ahead: vec![] });
                asked = MIB;
                stream.asked(asked);
            }
            for range in advice.ahead {
                assert_eq!(range.start, asked, "gap or overlap");
                assert!(range.end - range.start <= GET_MAX_BYTES);
                asked = range.end;
            }
            let ahead = asked.saturating_sub(at + BLOCK_BYTES);
            ahead_max = ahead_max.max(ahead);
            assert!(ahead <= (2 * (at + BLOCK_BYTES)).max(2 * MIB), "{ahead} ahead at {at}");
        }
        assert_eq!(asked, size);
        assert!((56 * MIB..=64 * MIB).contains(&ahead_max), "{ahead_max}");
    }

    #[test]
    fn reads_out_of_order_by_a_little_stay_sequential() {
        let size = 256 * MIB;
        let stream = Stream::default();
        let order = [0, 2, 1, 3, 5, 4, 7, 6, 9, 8, 11, 10];
        let asked: u64 = order
            .iter()
            .flat_map(|block| read(&stream, block * BLOCK_BYTES, BLOCK_BYTES, size, 64 * MIB).ahead)
            .map(|range| range.end - range.start)
            .sum();
        assert!(asked >= 2 * MIB, "{asked}");
    }

    #[test]
    fn random_reads_fetch_nothing_ahead() {
        let size = 256 * MIB;
        let stream = Stream::default();
        let mut at = 7919 * 4096;
        for _ in 0..1000 {
            let advice = read(&stream, at, 4096, size, 64 * MIB);
            assert_eq!(advice, Advice { unit: 0, ahead: vec![] });
            at = (at + 40_503 * 4096) % (size - 4096) + 1;
        }
    }

    #[test]
    fn streams_share_and_give_their_share_back() {
        let streams = Arc::new(AtomicUsize::new(0));
        let bounds = Bounds { size: 1 << 30, share: 16 * MIB, window_max: 64 * MIB };
        let all: Vec<_> = (0..4).map(|_| Stream::default()).collect();
        let mut ahead = 0;
        for stream in &all {
            for step in 0..256 {
                let start = step * BLOCK_BYTES;
                ahead = stream
                    .advise(&(start..start + BLOCK_BYTES), bounds, &streams)
                    .ahead
                    .iter()
                    .fold(ahead, |_, range| range.end - start);
            }
        }
        assert_eq!(streams.load(Ordering::Relaxed), 4);
        assert!(ahead <= 6 * MIB, "{ahead}");
        drop(all);
        assert_eq!(streams.load(Ordering::Relaxed), 0);
    }
}
