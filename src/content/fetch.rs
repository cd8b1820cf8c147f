//! Transfers: the task that runs one GET, answers those who wait and fills the file.
//!
//! Invariants: a flight that was begun ends, also when its task panics or is dropped with its runtime: those who
//! wait are answered. Bytes are written in order, one write of a flight at a time. The body is not read further
//! while more than [`UNWRITTEN_MAX_BYTES`] wait to be written.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::task::JoinSet;

use super::flight::{Flight, length};
use super::object::{Identity, Object};
use super::store::{ContentStore, Parked};
use crate::fs::error::{Error, Result};
use crate::runtime::budget::Permit;
use crate::store::error::{ErrorKind, Result as StoreResult, StoreError};
use crate::store::object_store::{GetRequest, GetResponse};
use crate::store::types::{ETag, ObjectPath, Version};

/// Bytes are written in pieces of at least this size, but for the last.
const WRITE_BYTES: u64 = 256 << 10;
/// Most bytes of one flight that wait to be written; also what a flight takes from the budget.
pub(super) const UNWRITTEN_MAX_BYTES: u64 = 1 << 20;
/// Most bytes, of all flights, that stay in memory because they could not be written.
const OVERFLOW_MAX_BYTES: u64 = 32 << 20;
/// How long after a refused write nothing is fetched ahead.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// How often a flight follows its object to a new name.
const MOVES_MAX: usize = 3;

/// A flight that is in the object's state and whose task is to be started.
pub(super) struct Launch {
    pub start: u64,
    pub id: u64,
    /// Fetched ahead for this stream; pointless when it is gone and nobody waits.
    pub stream: Option<Weak<()>>,
    /// Memory it may use; none for a read that had to go without.
    pub permit: Option<Permit>,
}

/// Which flight of an object.
#[derive(Clone)]
struct Leg {
    object: Arc<Object>,
    start: u64,
    id: u64,
}

impl Leg {
    fn with<T>(&self, f: impl FnOnce(&mut Flight) -> T) -> Option<T> {
        self.object.state.lock().flight(self.start, self.id).map(f)
    }
}

/// Ends the flight whatever happens to its task.
struct Ending {
    store: Arc<ContentStore>,
    leg: Leg,
    outcome: Result<()>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.store.end_flight(&self.leg, &self.outcome);
    }
}

impl ContentStore {
    /// Starts the tasks of flights that were begun.
    pub(super) fn launch(self: &Arc<Self>, object: &Arc<Object>, launches: Vec<Launch>) {
        for launch in launches {
            let store = Arc::clone(self);
            let leg = Leg { object: Arc::clone(object), start: launch.start, id: launch.id };
            let mut ending = Ending {
                store: Arc::clone(self),
                leg: leg.clone(),
                outcome: Err(Error::Internal("a transfer was dropped".to_owned())),
            };
            self.runtime.spawn(async move {
                let mut writer = Writer::new(Arc::clone(&store), leg.clone());
                let fetched = store.fetch(&leg, launch.stream.as_ref(), &mut writer).await;
                if let Err(error) = &fetched {
                    // Those who wait need not wait for the disk as well.
                    leg.with(|flight| flight.fail(error));
                }
                writer.finish().await;
                ending.outcome = fetched;
                drop(ending);
                drop(launch.permit);
            });
        }
    }

    /// Starts the task that writes a flight whose bytes are all there already.
    pub(super) fn launch_write(self: &Arc<Self>, object: &Arc<Object>, launch: Launch) {
        let leg = Leg { object: Arc::clone(object), start: launch.start, id: launch.id };
        let mut ending = Ending {
            store: Arc::clone(self),
            leg: leg.clone(),
            outcome: Err(Error::Internal("a write was dropped".to_owned())),
        };
        let store = Arc::clone(self);
        self.runtime.spawn_blocking(move || {
            store.write_arrived(&leg);
            ending.outcome = Ok(());
            drop(ending);
            drop(launch.permit);
        });
    }

    async fn fetch(
        self: &Arc<Self>,
        leg: &Leg,
        stream: Option<&Weak<()>>,
        writer: &mut Writer,
    ) -> Result<()> {
        let mut moves = 0;
        loop {
            if give_up(leg, stream, writer.persists) {
                return Ok(());
            }
            let identity = leg.object.state.lock().identity.clone();
            match self.pull(leg, &identity, stream, writer).await {
                Err(Error::Stale(_)) if moves < MOVES_MAX && leg.object.state.lock().identity != identity => {
                    moves += 1;
                }
                Err(error) => {
                    tracing::debug!(%error, object = %identity.0, "a transfer failed");
                    return Err(error);
                }
                Ok(()) => return Ok(()),
            }
        }
    }

    /// One GET of what has not arrived yet.
    async fn pull(
        self: &Arc<Self>,
        leg: &Leg,
        (path, version): &Identity,
        stream: Option<&Weak<()>>,
        writer: &mut Writer,
    ) -> Result<()> {
        let Some(Range { start, end }) = leg.with(|flight| flight.received..flight.range.end) else {
            return Ok(());
        };
        let request = GetRequest {
            range: Some((start, end - start)),
            if_match: Some(version.etag.clone()),
            if_none_match: None,
        };
        let response = self.store.get(path, request).await.map_err(|error| translate(error, path))?;
        check(&response, path, version, &(start..end))?;
        let mut body: BoxStream<'static, StoreResult<Bytes>> = response.body;
        loop {
            let unwritten = leg.with(|flight| flight.unwritten()).unwrap_or(0);
            if unwritten >= WRITE_BYTES {
                writer.start();
            }
            let more = unwritten < UNWRITTEN_MAX_BYTES || !writer.persists;
            tokio::select! {
                Some(done) = writer.running.join_next(), if !writer.running.is_empty() => writer.done(done),
                next = body.next(), if more => match next {
                    Some(bytes) => {
                        let bytes = bytes.map_err(|error| translate(error, path))?;
                        self.counters.fetched_bytes.fetch_add(length(&bytes), Ordering::Relaxed);
                        leg.with(|flight| flight.push(bytes));
                    }
                    None => break,
                },
                else => writer.start(),
            }
            if give_up(leg, stream, writer.persists) {
                return Ok(());
            }
        }
        match leg.with(|flight| flight.received < flight.range.end) {
            Some(true) => {
                let message = "the body ended early";
                Err(StoreError::new(ErrorKind::Corrupt, "GetObject", path, message).into())
            }
            _ => Ok(()),
        }
    }

    /// Writes what has arrived of a flight. False when it cannot be written; then it stays in memory. May block.
    fn write_arrived(&self, leg: &Leg) -> bool {
        let Some((offset, pieces)) = leg.with(|flight| flight.batch()) else { return false };
        let end = offset + pieces.iter().map(length).sum::<u64>();
        if offset == end {
            return true;
        }
        if !self.make_room(&leg.object, &(offset..end)) {
            *self.refused.lock() = Some(Instant::now());
            return false;
        }
        let _shared = leg.object.gate.read();
        let file = {
            let mut state = leg.object.state.lock();
            if state.dead {
                return false;
            }
            let (path, version) = state.identity.clone();
            state.file.get_or_insert_with(|| self.files.name(&path, &version)).clone()
        };
        if let Err(error) = self.files.write(&file, offset, &pieces) {
            if self.refused.lock().replace(Instant::now()).is_none_or(|last| last.elapsed() > REFUSED_PAUSE) {
                tracing::warn!(%error, "cannot write to the cache; reads are answered from memory");
            }
            return false;
        }
        let mut state = leg.object.state.lock();
        if state.flight(leg.start, leg.id).map(|flight| flight.wrote(end)).is_some() && !state.dead {
            state.resident.insert(offset..end);
        }
        true
    }

    /// Whether local disk refused a write a moment ago.
    pub(super) fn is_disk_refusing(&self) -> bool {
        self.refused.lock().is_some_and(|last| last.elapsed() < REFUSED_PAUSE)
    }

    /// Takes a flight out of its object; what could not be written stays in the overflow.
    fn end_flight(&self, leg: &Leg, outcome: &Result<()>) {
        let parked = {
            let mut state = leg.object.state.lock();
            let Some(flight) = state.flight(leg.start, leg.id) else { return };
            if let Err(error) = outcome {
                flight.fail(error);
            }
            let unwritten = flight.unwritten();
            let Some(mut flight) = state.flights.remove(&leg.start) else { return };
            if unwritten == 0 {
                flight.tell_landed(&Ok(()));
                None
            } else {
                flight.tell_landed(&Err(Error::NoSpace));
                flight.park();
                let start = flight.range.start;
                if !state.dead {
                    state.flights.insert(start, flight);
                }
                (!state.dead).then(|| Parked {
                    object: Arc::downgrade(&leg.object),
                    start,
                    id: leg.id,
                    bytes: unwritten,
                })
            }
        };
        if let Some(parked) = parked {
            self.park(parked);
        }
        self.settle(&leg.object);
    }

    fn park(&self, parked: Parked) {
        let dropped: Vec<Parked> = {
            let mut overflow = self.overflow.lock();
            overflow.bytes += parked.bytes;
            overflow.queue.push_back(parked);
            let mut dropped = Vec::new();
            while overflow.bytes > OVERFLOW_MAX_BYTES
                && let Some(oldest) = overflow.queue.pop_front()
            {
                overflow.bytes -= oldest.bytes;
                dropped.push(oldest);
            }
            dropped
        };
        for Parked { object, start, id, .. } in dropped {
            if let Some(object) = object.upgrade() {
                let mut state = object.state.lock();
                if state.flight(start, id).is_some() {
                    state.flights.remove(&start);
                }
                drop(state);
                self.settle(&object);
            }
        }
    }
}

/// Whether the rest of a flight is not worth fetching; then the flight is cut to what has arrived.
fn give_up(leg: &Leg, stream: Option<&Weak<()>>, persists: bool) -> bool {
    let orphaned = stream.is_some_and(|stream| stream.strong_count() == 0);
    if persists && !orphaned {
        return false;
    }
    leg.with(|flight| {
        let wanted = if persists { flight.is_wanted() } else { flight.is_read() };
        if !wanted {
            flight.range.end = flight.received;
        }
        !wanted
    })
    .unwrap_or(true)
}

/// The writes of one flight, one at a time.
struct Writer {
    store: Arc<ContentStore>,
    leg: Leg,
    running: JoinSet<bool>,
    /// No write has failed.
    persists: bool,
}

impl Writer {
    fn new(store: Arc<ContentStore>, leg: Leg) -> Self {
        Self { store, leg, running: JoinSet::new(), persists: true }
    }

    /// Writes what has arrived, unless a write is running or one has failed.
    fn start(&mut self) {
        if self.persists && self.running.is_empty() {
            let (store, leg) = (Arc::clone(&self.store), self.leg.clone());
            self.running.spawn_blocking(move || store.write_arrived(&leg));
        }
    }

    fn done(&mut self, done: std::result::Result<bool, tokio::task::JoinError>) {
        self.persists &= done.unwrap_or(false);
    }

    /// Writes the rest.
    async fn finish(&mut self) {
        loop {
            while let Some(done) = self.running.join_next().await {
                self.done(done);
            }
            if !self.persists || self.leg.with(|flight| flight.unwritten()).unwrap_or(0) == 0 {
                return;
            }
            self.start();
        }
    }
}

/// The version is gone, or the store failed.
fn translate(error: StoreError, path: &ObjectPath) -> Error {
    match error.kind {
        ErrorKind::Precondition | ErrorKind::NotFound => Error::Stale(path.to_string()),
        _ => Error::Store(error),
    }
}

/// Not every store honours `If-Match` on a GET; what it answers is compared as well.
fn check(response: &GetResponse, path: &ObjectPath, version: &Version, range: &Range<u64>) -> Result<()> {
    let answered = &response.info.version;
    if opaque(&answered.etag) != opaque(&version.etag) || answered.size != version.size {
        return Err(Error::Stale(path.to_string()));
    }
    if response.offset != range.start || response.len != range.end - range.start {
        let message = "the answer has another range than was asked for";
        return Err(StoreError::new(ErrorKind::Protocol, "GetObject", path, message).into());
    }
    Ok(())
}

/// An entity tag without quotes and without the mark of a weak one, which proxies add.
fn opaque(etag: &ETag) -> &str {
    etag.0.trim_start_matches("W/").trim_matches('"')
}
