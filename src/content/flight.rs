//! One transfer into the cache while it is under way: the bytes that arrived, who waits for which.
//!
//! Invariants:
//! * Of the bytes below `received`, those from `written` on are in `pieces`; so are those a waiter still needs.
//! * A waiter is answered as soon as its last byte has arrived, with the bytes themselves: what the cache does
//!   with them afterwards does not concern it.
//! * `pieces` are contiguous and in order.
//!
//! Lives inside the lock of its object; blocks nothing and does no I/O.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::fs::error::{Error, Result};

/// What a waiter gets: the bytes of its range, in pieces.
pub(super) type Arrival = oneshot::Receiver<Result<Vec<Bytes>>>;
/// What one who waits for the whole flight gets.
pub(super) type Landing = oneshot::Receiver<Result<()>>;

/// A range that is being transferred, or was and could not be written to local disk.
pub(super) struct Flight {
    /// No other flight has this number.
    pub id: u64,
    /// What it brings. Cut to what has arrived when the transfer fails or is given up.
    pub range: Range<u64>,
    /// Up to where bytes have arrived.
    pub received: u64,
    /// Up to where bytes are on local disk.
    pub written: u64,
    /// The transfer is over and its bytes live in memory only, for as long as the overflow keeps them.
    pub parked: bool,
    pieces: VecDeque<(u64, Bytes)>,
    waiters: Vec<Waiter>,
    landings: Vec<oneshot::Sender<Result<()>>>,
}

struct Waiter {
    range: Range<u64>,
    answer: oneshot::Sender<Result<Vec<Bytes>>>,
}

impl Flight {
    pub fn new(id: u64, range: Range<u64>) -> Self {
        Self {
            id,
            received: range.start,
            written: range.start,
            range,
            parked: false,
            pieces: VecDeque::new(),
            waiters: Vec::new(),
            landings: Vec::new(),
        }
    }

    /// Whether the flight covers this offset.
    pub fn covers(&self, offset: u64) -> bool {
        self.range.contains(&offset)
    }

    /// Bytes that arrived. What is beyond the range is dropped.
    pub fn push(&mut self, mut bytes: Bytes) {
        let room = usize::try_from(self.range.end - self.received).unwrap_or(usize::MAX);
        bytes.truncate(room);
        if bytes.is_empty() {
            return;
        }
        let at = self.received;
        self.received += length(&bytes);
        self.pieces.push_back((at, bytes));
        let (ready, waiting) = std::mem::take(&mut self.waiters)
            .into_iter()
            .filter(|waiter| !waiter.answer.is_closed())
            .partition(|waiter: &Waiter| waiter.range.end <= self.received);
        self.waiters = waiting;
        for Waiter { range, answer } in ready {
            let _ = answer.send(Ok(self.slices(&range)));
        }
    }

    /// The bytes of a range that has arrived and is in memory.
    pub fn slices(&self, range: &Range<u64>) -> Vec<Bytes> {
        let mut slices = Vec::new();
        for (at, bytes) in &self.pieces {
            let end = at + length(bytes);
            if end <= range.start || *at >= range.end {
                continue;
            }
            let from = range.start.max(*at) - at;
            let to = range.end.min(end) - at;
            if let (Ok(from), Ok(to)) = (usize::try_from(from), usize::try_from(to)) {
                slices.push(bytes.slice(from..to));
            }
        }
        slices
    }

    /// Waits for a range that has not arrived wholly; it begins at or after what is in memory.
    pub fn wait(&mut self, range: Range<u64>) -> Arrival {
        let (answer, arrival) = oneshot::channel();
        self.waiters.push(Waiter { range, answer });
        arrival
    }

    /// Waits until everything is on local disk.
    pub fn wait_landed(&mut self) -> Landing {
        let (answer, landing) = oneshot::channel();
        self.landings.push(answer);
        landing
    }

    /// Whether anyone needs bytes that have not arrived.
    pub fn is_wanted(&mut self) -> bool {
        self.waiters.retain(|waiter| !waiter.answer.is_closed());
        self.landings.retain(|landing| !landing.is_closed());
        !self.waiters.is_empty() || !self.landings.is_empty()
    }

    /// Whether a reader needs bytes that have not arrived.
    pub fn is_read(&mut self) -> bool {
        self.waiters.retain(|waiter| !waiter.answer.is_closed());
        !self.waiters.is_empty()
    }

    /// Bytes that arrived and are not on local disk.
    pub fn unwritten(&self) -> u64 {
        self.received - self.written
    }

    /// What to write next.
    pub fn batch(&self) -> (u64, Vec<Bytes>) {
        (self.written, self.slices(&(self.written..self.received)))
    }

    /// Bytes up to `end` are on local disk.
    pub fn wrote(&mut self, end: u64) {
        self.written = end;
        let needed = self.waiters.iter().map(|waiter| waiter.range.start).fold(end, u64::min);
        while let Some((at, bytes)) = self.pieces.front()
            && at + length(bytes) <= needed
        {
            self.pieces.pop_front();
        }
    }

    /// Nothing more arrives: those who wait for more are told why.
    pub fn fail(&mut self, error: &Error) {
        self.range.end = self.received;
        for waiter in self.waiters.drain(..) {
            let _ = waiter.answer.send(Err(error.clone()));
        }
        self.tell_landed(&Err(error.clone()));
    }

    /// Answers those who wait for the end.
    pub fn tell_landed(&mut self, outcome: &Result<()>) {
        for landing in self.landings.drain(..) {
            let _ = landing.send(outcome.clone());
        }
    }

    /// Makes what could not be written all that the flight is.
    pub fn park(&mut self) {
        self.wrote(self.written);
        self.range = self.written..self.received;
        self.parked = true;
    }
}

/// Length of a piece in the unit of offsets.
pub(super) fn length(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
