//! One version of an object as its readers see it.
//!
//! Invariant: what a read returns is complete or an error; its length is checked against the range before it is
//! given out.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::StreamExt;

use super::fetch::{Launch, UNWRITTEN_MAX_BYTES};
use super::files::page_aligned;
use super::flight::{Arrival, Flight, Landing, length};
use super::object::{Object, Source, State};
use super::ranges::RangeSet;
use super::store::ContentStore;
use super::stream::{Advice, Bounds, Stream, cut_at_end, round_down, round_up};
use super::{BLOCK_BYTES, GET_MAX_BYTES, GET_MIN_BYTES};
use crate::fs::error::{Error, Result};
use crate::runtime::disk::disk;
use crate::store::types::{ObjectPath, Version};

/// How often a read looks again for bytes that were evicted under it. Bytes it has to fetch are answered from
/// memory, so this only ends when others fetch and evict the same bytes all the time.
const ROUNDS_MAX: usize = 100;
/// How often bytes are made resident again that were evicted meanwhile.
const RESIDENT_ATTEMPTS: usize = 3;

/// The content of one version of an object. Dropped with the last one who has it open.
pub struct Content {
    store: Arc<ContentStore>,
    object: Arc<Object>,
}

impl Drop for Content {
    fn drop(&mut self) {
        self.store.released(&self.object);
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Content").field("path", &self.path()).finish_non_exhaustive()
    }
}

/// Bytes of a read in the order they were obtained: offset and pieces.
type Got = Vec<(u64, Vec<Bytes>)>;

/// Where a read finds its bytes.
#[derive(Default)]
struct Plan {
    files: Vec<Range<u64>>,
    memory: Got,
    arriving: Vec<(Range<u64>, Arrival)>,
    /// Nowhere even now; looked for again.
    again: Vec<Range<u64>>,
    launches: Vec<Launch>,
}

impl Content {
    pub(super) fn new(store: Arc<ContentStore>, object: Arc<Object>) -> Arc<Self> {
        object.state.lock().handles += 1;
        Arc::new(Self { store, object })
    }

    pub(super) fn inner(&self) -> &Arc<Object> {
        &self.object
    }

    /// Where the object is now.
    pub fn path(&self) -> ObjectPath {
        self.object.state.lock().identity.0.clone()
    }

    /// Which version this is.
    pub fn version(&self) -> Version {
        self.object.state.lock().identity.1.clone()
    }

    /// Bytes from `offset` on, cut at the end, if all of them are here already: one look at the map and one read
    /// of local disk, on this thread. `None` also when the file is being changed at this moment.
    ///
    /// The pattern of a handle is not told; [`Content::read_now`] tells it.
    pub fn read_resident(&self, offset: u64, len: usize) -> Option<Bytes> {
        let range = self.clip(offset, len);
        if range.is_empty() {
            return Some(Bytes::new());
        }
        let found = self.read_here(&range)?;
        self.store.touch(&self.object);
        self.store.counters.hits.fetch_add(1, Ordering::Relaxed);
        Some(found)
    }

    /// As [`Content::read_resident`], and lets the pattern of the handle go on, which may begin to fetch ahead.
    pub fn read_now(&self, stream: &Stream, offset: u64, len: usize) -> Option<Bytes> {
        let found = self.read_resident(offset, len)?;
        let range = self.clip(offset, len);
        if !range.is_empty()
            && let Some(advice) = self.advise(stream, &range)
            && !advice.ahead.is_empty()
        {
            let mut launches = Vec::new();
            self.begin_ahead(&mut self.object.state.lock(), stream, advice.ahead, &mut launches);
            self.store.launch(&self.object, launches);
        }
        Some(found)
    }

    /// Bytes from `offset` on, cut at the end; fetches what is missing, and ahead when the pattern of the handle
    /// calls for it. Bytes that are here are read on this thread when it may block, see
    /// [`disk`](crate::runtime::disk).
    ///
    /// # Errors
    /// [`Error::Stale`] when S3 no longer has this version, [`Error::Store`] when it failed, [`Error::Local`] when
    /// local disk did and the bytes could not be fetched again.
    pub async fn read(self: &Arc<Self>, stream: &Stream, offset: u64, len: usize) -> Result<Bytes> {
        let range = self.clip(offset, len);
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        self.store.touch(&self.object);
        let advice = self.advise(stream, &range);
        let read = self.gather(range, stream, advice).await;
        if read.is_err() {
            stream.failed();
        }
        read
    }

    /// Bytes of this version that are known from elsewhere: the answer of a GET, the body of our own PUT. Readable
    /// at once, on local disk soon; dropped when there is no memory for them.
    pub fn prime(&self, offset: u64, bytes: &Bytes) {
        let range = self.clip(offset, bytes.len());
        let mut launches = Vec::new();
        {
            let mut state = self.object.state.lock();
            if state.dead {
                return;
            }
            for part in state.free_in(&range) {
                let (Ok(from), Ok(to)) =
                    (usize::try_from(part.start - offset), usize::try_from(part.end - offset))
                else {
                    continue;
                };
                let Some(permit) = self.store.budget.try_acquire(part.end - part.start) else { break };
                let mut flight = Flight::new(self.store.number(), part.clone());
                flight.push(bytes.slice(from..to));
                launches.push(Launch {
                    start: part.start,
                    id: flight.id,
                    stream: None,
                    permit: Some(permit),
                });
                state.flights.insert(part.start, flight);
            }
        }
        for launch in launches {
            self.store.launch_write(&self.object, launch);
        }
    }

    /// Fetches what is missing of a range until all of it is on local disk.
    ///
    /// # Errors
    /// As [`Content::read`], and [`Error::NoSpace`] when the cache or the disk has no room for the range.
    pub async fn make_resident(self: &Arc<Self>, range: Range<u64>) -> Result<()> {
        let range = range.start.min(self.object.size)..range.end.min(self.object.size);
        let parallel = usize::try_from(self.store.window_max_bytes / GET_MAX_BYTES).unwrap_or(1).clamp(1, 8);
        for _ in 0..RESIDENT_ATTEMPTS {
            let missing = self.not_on_disk(range.clone());
            if missing.is_empty() {
                return Ok(());
            }
            if missing.iter().map(|part| part.end - part.start).sum::<u64>() > self.store.cache_size_bytes {
                return Err(Error::NoSpace);
            }
            self.store.touch(&self.object);
            let pieces = missing.into_iter().flat_map(split);
            let mut filled =
                futures_util::stream::iter(pieces.map(|piece| self.fill(piece))).buffer_unordered(parallel);
            while let Some(outcome) = filled.next().await {
                outcome?;
            }
        }
        if self.not_on_disk(range).is_empty() { Ok(()) } else { Err(Error::NoSpace) }
    }

    /// The parts of a range, cut at the end, that are not here: neither on local disk nor, as bytes that have just
    /// arrived or were primed are, in memory on their way to it. Only [`Content::make_resident`] promises the disk.
    pub fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let range = range.start..range.end.min(self.object.size);
        let parts = self.object.state.lock().locate(&range).into_iter();
        let away = parts.filter(|(_, source)| matches!(source, Source::Arriving(_) | Source::Nowhere));
        away.map(|(part, _)| part).collect::<RangeSet>().iter().collect()
    }

    /// The parts of a range that are not on local disk.
    pub(super) fn not_on_disk(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let range = range.start..range.end.min(self.object.size);
        self.object.state.lock().resident.missing_in(range)
    }

    /// The object was copied to a new name or rewritten with the same bytes: requests from now on go to `path` and
    /// `version`, and [`ContentStore::object`] finds it there. The size must be the same; otherwise nothing
    /// changes. To be called before the old object is deleted.
    pub fn relocate(&self, path: ObjectPath, version: Version) {
        if version.size != self.object.size {
            tracing::error!(object = %path, "content relocated to a version of another size");
            return;
        }
        self.store.relocate(&self.object, (path, version));
    }

    /// The object is gone from S3. What is on local disk stays until the last one who has it open drops it;
    /// nothing is fetched any more, and reading what is missing is [`Error::Stale`].
    pub fn detach(&self) {
        self.store.detach(&self.object);
    }

    /// Keeps what is on local disk from being evicted, or lets it go again, at the latest with the last one who has
    /// it open. For who makes content resident before detaching it.
    pub fn keep(&self, keep: bool) {
        self.object.state.lock().kept = keep;
    }

    fn clip(&self, offset: u64, len: usize) -> Range<u64> {
        let size = self.object.size;
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        offset.min(size)..offset.saturating_add(len).min(size)
    }

    /// What the pattern calls for; nothing for an object that is fetched whole.
    fn advise(&self, stream: &Stream, range: &Range<u64>) -> Option<Advice> {
        let bounds = Bounds {
            size: self.object.size,
            share: self.store.cache_size_bytes / 2,
            window_max: self.store.window_max_bytes,
        };
        (bounds.size > GET_MIN_BYTES).then(|| stream.advise(range, bounds, &self.store.streams))
    }

    /// A range that is wholly on disk or in memory, on this thread.
    fn read_here(&self, range: &Range<u64>) -> Option<Bytes> {
        let _shared = self.object.gate.try_read()?;
        let (parts, file) = {
            let state = self.object.state.lock();
            if state.resident.contains(range.clone()) {
                (Vec::new(), state.file.clone())
            } else if state.flights.is_empty() {
                return None;
            } else {
                (state.locate(range), state.file.clone())
            }
        };
        let (mut buffer, padding) = page_aligned(usize::try_from(range.end - range.start).ok()?);
        if parts.is_empty() {
            self.store.files.read(file.as_ref()?, range, &mut buffer).ok()?;
        }
        if parts.iter().any(|(_, source)| !matches!(source, Source::File | Source::Memory(_))) {
            return None;
        }
        for (part, source) in parts {
            match source {
                Source::File => self.store.files.read(file.as_ref()?, &part, &mut buffer).ok()?,
                Source::Memory(pieces) => pieces.iter().for_each(|piece| buffer.extend_from_slice(piece)),
                Source::Arriving(_) | Source::Nowhere => return None,
            }
        }
        finished(buffer, padding, range)
    }

    async fn gather(
        self: &Arc<Self>,
        range: Range<u64>,
        stream: &Stream,
        mut advice: Option<Advice>,
    ) -> Result<Bytes> {
        let mut got: Got = Vec::new();
        let mut todo = vec![range.clone()];
        let mut waited = false;
        for _ in 0..ROUNDS_MAX {
            let mut again = Vec::new();
            for range in todo {
                let unit = advice.as_ref().map_or(0, |advice| advice.unit);
                let ahead =
                    advice.as_mut().map(|advice| std::mem::take(&mut advice.ahead)).unwrap_or_default();
                let plan = self.plan(&range, stream, unit, ahead)?;
                got.extend(plan.memory);
                again.extend(plan.again);
                if !plan.files.is_empty() {
                    let content = Arc::clone(self);
                    for (range, read) in disk(move || content.read_files(plan.files)).await {
                        match read? {
                            Some(bytes) => got.push((range.start, vec![bytes])),
                            None => again.push(range),
                        }
                    }
                }
                for (range, arrival) in plan.arriving {
                    waited = true;
                    match arrival.await {
                        Ok(pieces) => got.push((range.start, pieces?)),
                        Err(_) => again.push(range),
                    }
                }
            }
            if again.is_empty() {
                let counters = &self.store.counters;
                let counter = if waited { &counters.misses } else { &counters.hits };
                counter.fetch_add(1, Ordering::Relaxed);
                return join(got, &range);
            }
            todo = again;
        }
        Err(Error::Internal("cached bytes were evicted faster than they could be read".to_owned()))
    }

    /// Decides where the bytes of a range come from, begins the flights that are needed and starts them.
    fn plan(&self, range: &Range<u64>, stream: &Stream, unit: u64, ahead: Vec<Range<u64>>) -> Result<Plan> {
        let mut plan = Plan::default();
        {
            let mut state = self.object.state.lock();
            let mut parts = state.locate(range);
            let nowhere: Vec<_> = parts
                .iter()
                .filter(|(_, source)| matches!(source, Source::Nowhere))
                .map(|(part, _)| part.clone())
                .collect();
            if !nowhere.is_empty() {
                if state.detached || state.dead {
                    return Err(state.stale());
                }
                for part in nowhere {
                    self.begin_demand(&mut state, stream, &part, unit, &mut plan.launches);
                }
                parts = state.locate(range);
            }
            self.begin_ahead(&mut state, stream, ahead, &mut plan.launches);
            for (part, source) in parts {
                match source {
                    Source::File => plan.files.push(part),
                    Source::Memory(pieces) => plan.memory.push((part.start, pieces)),
                    Source::Arriving(start) => {
                        if let Some(flight) = state.flights.get_mut(&start) {
                            let arrival = flight.wait(part.clone());
                            plan.arriving.push((part, arrival));
                        }
                    }
                    Source::Nowhere => plan.again.push(part),
                }
            }
        }
        self.store.launch(&self.object, std::mem::take(&mut plan.launches));
        Ok(plan)
    }

    /// Begins what a read waits for: its missing bytes in whole blocks, more when the pattern is sequential, a
    /// small object whole. Never waits for memory; without a permit it takes the blocks alone.
    fn begin_demand(
        &self,
        state: &mut State,
        stream: &Stream,
        missing: &Range<u64>,
        unit: u64,
        launches: &mut Vec<Launch>,
    ) {
        let size = self.object.size;
        let blocks = round_down(missing.start)..round_up(missing.end).min(size);
        let whole = if size <= GET_MIN_BYTES {
            0..size
        } else if unit > 0 {
            let end = blocks.end.max(cut_at_end(blocks.start, blocks.start.saturating_add(unit), size));
            blocks.start..end
        } else {
            blocks.clone()
        };
        let permit = self.store.budget.try_acquire((whole.end - whole.start).min(UNWRITTEN_MAX_BYTES));
        let extent = if permit.is_some() { whole } else { blocks };
        stream.asked(extent.end);
        let mut permit = permit;
        for free in state.free_in(&extent) {
            for part in split(free) {
                launches.push(self.begin(state, &part, None));
                if let Some(launch) = launches.last_mut() {
                    launch.permit = permit.take();
                }
            }
        }
    }

    /// Begins what the pattern calls for, as far as there is memory for it.
    fn begin_ahead(
        &self,
        state: &mut State,
        stream: &Stream,
        ahead: Vec<Range<u64>>,
        launches: &mut Vec<Launch>,
    ) {
        if ahead.is_empty() || state.detached || state.dead {
            return;
        }
        let refusing = self.store.is_disk_refusing();
        for free in ahead.iter().flat_map(|range| state.free_in(range)).collect::<Vec<_>>() {
            let permit = self.store.budget.try_acquire((free.end - free.start).min(UNWRITTEN_MAX_BYTES));
            let (Some(permit), false) = (permit, refusing) else {
                stream.not_asked(free.start);
                return;
            };
            let mut launch = self.begin(state, &free, Some(stream));
            launch.permit = Some(permit);
            launches.push(launch);
        }
    }

    fn begin(&self, state: &mut State, range: &Range<u64>, stream: Option<&Stream>) -> Launch {
        let id = self.store.number();
        state.flights.insert(range.start, Flight::new(id, range.clone()));
        Launch { start: range.start, id, stream: stream.map(Stream::alive), permit: None }
    }

    /// Reads ranges that were on local disk a moment ago. May block.
    fn read_files(&self, ranges: Vec<Range<u64>>) -> Vec<(Range<u64>, Result<Option<Bytes>>)> {
        ranges.into_iter().map(|range| (range.clone(), self.read_file(&range))).collect()
    }

    /// `None` when the range was evicted meanwhile, or the file turned out unreadable and was forgotten.
    fn read_file(&self, range: &Range<u64>) -> Result<Option<Bytes>> {
        let error = {
            let _shared = self.object.gate.read();
            let file = {
                let state = self.object.state.lock();
                if !state.resident.contains(range.clone()) {
                    return Ok(None);
                }
                state.file.clone()
            };
            let Some(file) = file else { return Ok(None) };
            let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
            let (mut buffer, padding) = page_aligned(len);
            match self.store.files.read(&file, range, &mut buffer) {
                Ok(()) => return Ok(finished(buffer, padding, range)),
                Err(error) => error,
            }
        };
        tracing::warn!(%error, object = %self.path(), "cannot read cached content; fetching it again");
        if self.store.forget_file(&self.object) {
            return Ok(None);
        }
        Err(Error::local("reading cached content", error))
    }

    /// Brings one piece to local disk.
    async fn fill(&self, range: Range<u64>) -> Result<()> {
        let mut launches = Vec::new();
        let landings: Vec<Landing> = {
            let mut state = self.object.state.lock();
            let missing = !state.resident.contains(range.clone());
            if missing && (state.detached || state.dead) {
                return Err(state.stale());
            }
            // What only lives in memory gets another chance to be written.
            state.flights.retain(|_, flight| !(flight.parked && overlap(&flight.range, &range)));
            for free in state.free_in(&range) {
                let permit = self.store.budget.try_acquire(UNWRITTEN_MAX_BYTES.min(free.end - free.start));
                launches.push(Launch { permit, ..self.begin(&mut state, &free, None) });
            }
            let flights = state.flights.values_mut();
            flights.filter(|flight| overlap(&flight.range, &range)).map(Flight::wait_landed).collect()
        };
        self.store.launch(&self.object, launches);
        for landing in landings {
            landing.await.unwrap_or(Ok(()))?;
        }
        Ok(())
    }
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

/// Cuts a range into requests, at multiples of the largest one.
fn split(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        let start = at;
        if range.end.saturating_sub(start) <= GET_MAX_BYTES {
            at = range.end;
            return (start < range.end).then_some(start..at);
        }
        at = (start - start % GET_MAX_BYTES).saturating_add(GET_MAX_BYTES).min(range.end);
        (start < range.end).then_some(start..at)
    })
}

/// The bytes behind the padding, if they are as many as the range has.
fn finished(buffer: Vec<u8>, padding: usize, range: &Range<u64>) -> Option<Bytes> {
    let bytes = Bytes::from(buffer).slice(padding..);
    (length(&bytes) == range.end - range.start).then_some(bytes)
}

/// Puts what was obtained together.
fn join(mut got: Got, range: &Range<u64>) -> Result<Bytes> {
    let incomplete = || Error::Internal("a read came out incomplete".to_owned());
    if let [(start, pieces)] = &mut got[..]
        && let [piece] = &pieces[..]
        && *start == range.start
        && length(piece) == range.end - range.start
        && piece.as_ptr().addr() % 4096 == 0
    {
        return Ok(piece.clone());
    }
    got.sort_by_key(|(start, _)| *start);
    let (mut buffer, padding) =
        page_aligned(usize::try_from(range.end - range.start).map_err(|_| incomplete())?);
    let mut at = range.start;
    for (start, pieces) in got {
        if start != at {
            return Err(incomplete());
        }
        for piece in pieces {
            at += length(&piece);
            buffer.extend_from_slice(&piece);
        }
    }
    finished(buffer, padding, range).ok_or_else(incomplete)
}

const _: () = assert!(BLOCK_BYTES <= GET_MIN_BYTES && GET_MIN_BYTES <= GET_MAX_BYTES);
