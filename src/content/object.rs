//! What is known of one object version: which of its bytes are on local disk, which are on their way.
//!
//! Invariants:
//! * A byte is in `resident` only after the write that brought it has wholly succeeded.
//! * `resident` is within `allocated`; `allocated` is whole pages and is what the version counts in the cache.
//! * Live flights do not overlap, and nothing is taken from `resident` within one of them. So a byte of a live
//!   flight that has arrived is either resident or in the memory of the flight.
//! * `file` changes its name whenever the file is removed, never otherwise.
//! * A `dead` object gets no file and counts nothing.
//!
//! Locks: `gate` before `state`. Reading and writing the file hold the gate shared; punching holes and removing
//! the file hold it alone, so that nobody reads a hole and no hole is punched over a later write.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::files::FileRef;
use super::flight::Flight;
use super::ranges::RangeSet;
use super::{ALLOCATION_BYTES, BLOCK_BYTES};
use crate::fs::error::Error;
use crate::store::types::{ObjectPath, Version};

/// What identifies a version of an object.
pub(super) type Identity = (ObjectPath, Version);

/// One version of an object.
pub(super) struct Object {
    /// No other object of this run has it.
    pub id: u64,
    /// Bytes; the same for ever.
    pub size: u64,
    /// See the module's head.
    pub gate: RwLock<()>,
    /// See the module's head.
    pub state: Mutex<State>,
}

/// What changes of an [`Object`].
pub(super) struct State {
    pub identity: Identity,
    pub resident: RangeSet,
    pub allocated: RangeSet,
    /// Allocated ranges, oldest first; a range taken out of `allocated` may linger here.
    pub order: VecDeque<Range<u64>>,
    pub file: Option<FileRef>,
    /// By start.
    pub flights: BTreeMap<u64, Flight>,
    /// The object is gone from S3: nothing is fetched, nothing evicted.
    pub detached: bool,
    /// Nothing is evicted.
    pub kept: bool,
    /// Nobody will read it again: nothing is written.
    pub dead: bool,
}

/// Where the bytes of a range are.
pub(super) enum Source {
    /// On local disk.
    File,
    /// In the memory of a flight.
    Memory(Vec<Bytes>),
    /// On their way, in the flight that starts here.
    Arriving(u64),
    /// Neither.
    Nowhere,
}

/// Most bytes of one run that the eviction order treats as one.
const ORDER_UNIT_BYTES: u64 = 1 << 20;

impl Object {
    pub fn new(id: u64, identity: Identity) -> Self {
        Self {
            id,
            size: identity.1.size,
            gate: RwLock::new(()),
            state: Mutex::new(State {
                identity,
                resident: RangeSet::new(),
                allocated: RangeSet::new(),
                order: VecDeque::new(),
                file: None,
                flights: BTreeMap::new(),
                detached: false,
                kept: false,
                dead: false,
            }),
        }
    }
}

impl State {
    /// The error for bytes of a version that S3 no longer has.
    pub fn stale(&self) -> Error {
        Error::Stale(self.identity.0.to_string())
    }

    /// Splits a range by where its bytes are, in order.
    pub fn locate(&self, range: &Range<u64>) -> Vec<(Range<u64>, Source)> {
        let mut parts = Vec::with_capacity(1);
        let mut at = range.start;
        while at < range.end {
            let (end, source) = if let Some(run) = self.resident.run_at(at) {
                (run.end.min(range.end), Source::File)
            } else {
                let end = self.resident.next_start(at).map_or(range.end, |start| start.min(range.end));
                match self.flight_at(at) {
                    Some(flight) => {
                        let end = end.min(flight.range.end);
                        let arrived = flight.received >= end;
                        (
                            end,
                            if arrived {
                                Source::Memory(flight.slices(&(at..end)))
                            } else {
                                Source::Arriving(flight.range.start)
                            },
                        )
                    }
                    None => {
                        let next = self.flights.range(at..).find(|(_, flight)| !flight.range.is_empty());
                        (next.map_or(end, |(&start, _)| start.min(end)), Source::Nowhere)
                    }
                }
            };
            parts.push((at..end, source));
            at = end;
        }
        parts
    }

    fn flight_at(&self, offset: u64) -> Option<&Flight> {
        let (_, flight) = self.flights.range(..=offset).next_back()?;
        flight.covers(offset).then_some(flight)
    }

    /// The flight that started here under this number, if it is not over.
    pub fn flight(&mut self, start: u64, id: u64) -> Option<&mut Flight> {
        self.flights.get_mut(&start).filter(|flight| flight.id == id)
    }

    /// The parts of a range that are neither resident nor under way, joined where only a little that is resident
    /// lies between them: fetching it again costs less than another request.
    pub fn free_in(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut free: Vec<Range<u64>> = Vec::new();
        let mut reachable = false;
        for (part, source) in self.locate(range) {
            match source {
                Source::Nowhere => match free.last_mut() {
                    Some(last) if reachable && part.start - last.end <= BLOCK_BYTES => last.end = part.end,
                    _ => free.push(part),
                },
                Source::File => continue,
                Source::Memory(_) | Source::Arriving(_) => {
                    reachable = false;
                    continue;
                }
            }
            reachable = true;
        }
        free
    }

    /// Whether a transfer is under way; one that is over and only lives in memory does not count.
    pub fn is_busy(&self) -> bool {
        self.flights.values().any(|flight| !flight.parked)
    }

    /// Whether its bytes may be evicted at all.
    pub fn is_evictable(&self) -> bool {
        !self.detached && !self.kept && !self.dead
    }

    /// Pages of a range that are not allocated yet.
    pub fn unallocated(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        self.allocated.missing_in(pages(range))
    }

    /// Counts pages as allocated.
    pub fn allocate(&mut self, range: Range<u64>) {
        self.allocated.insert(range.clone());
        match self.order.back_mut() {
            Some(last) if last.end == range.start && range.end - last.start <= ORDER_UNIT_BYTES => {
                last.end = range.end;
            }
            _ => self.order.push_back(range),
        }
    }

    /// Takes up to about `wanted` bytes of the oldest pages that no transfer touches out of the maps; returns what
    /// the disk must give back.
    pub fn release_oldest(&mut self, wanted: u64) -> Vec<Range<u64>> {
        let busy: RangeSet = self
            .flights
            .values()
            .filter(|flight| !flight.parked)
            .map(|flight| pages(&flight.range))
            .collect();
        let mut released = Vec::new();
        let mut freed = 0;
        for _ in 0..self.order.len() {
            if freed >= wanted {
                break;
            }
            let Some(range) = self.order.pop_front() else { break };
            for part in busy.missing_in(range.clone()) {
                freed += self.allocated.remove(part.clone());
                self.resident.remove(part.clone());
                released.push(part);
            }
            let mut staying = RangeSet::from_iter([range.clone()]);
            for part in busy.missing_in(range) {
                staying.remove(part);
            }
            self.order.extend(staying.iter());
        }
        released
    }

    /// Forgets all that is on local disk; returns the file and the bytes it counted.
    pub fn take_file(&mut self) -> (Option<FileRef>, u64) {
        let bytes = self.allocated.total_bytes();
        self.resident.clear();
        self.allocated.clear();
        self.order.clear();
        (self.file.take(), bytes)
    }
}

/// A range grown to whole pages.
pub(super) fn pages(range: &Range<u64>) -> Range<u64> {
    let end = range.end.checked_next_multiple_of(ALLOCATION_BYTES).unwrap_or(u64::MAX);
    if range.is_empty() { range.clone() } else { range.start - range.start % ALLOCATION_BYTES..end }
}
