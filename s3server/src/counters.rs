//! Exact counts of what clients asked for.
//!
//! Every S3 request that arrives is counted under the name of its operation, whatever becomes of it; requests to
//! the control interface are not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// A snapshot of the counts since the start or the last reset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Requests by name of the S3 operation, for example `PutObject`; what has no name is `Unknown`.
    pub operations: BTreeMap<String, u64>,
    /// Bytes of request bodies received, as they were on the wire.
    pub bytes_in: u64,
    /// Bytes of answer bodies handed to connections.
    pub bytes_out: u64,
    /// TCP connections accepted.
    pub connections: u64,
    /// Most S3 requests that were being served at the same time.
    pub in_flight_max: u64,
}

impl Counters {
    /// Requests of one operation.
    pub fn count(&self, operation: &str) -> u64 {
        self.operations.get(operation).copied().unwrap_or_default()
    }

    /// Requests of all operations.
    pub fn total(&self) -> u64 {
        self.operations.values().sum()
    }
}

/// The live counts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    operations: Mutex<BTreeMap<&'static str, u64>>,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) connections: AtomicU64,
    in_flight: AtomicU64,
    in_flight_max: AtomicU64,
}

/// One request being served, until its answer has been handed over whole.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Tally>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Tally {
    /// Counts a request that arrived; the guard lives as long as it is served.
    pub(crate) fn arrived(self: &Arc<Self>, operation: &'static str) -> InFlight {
        *self.operations.lock().entry(operation).or_default() += 1;
        let now = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.in_flight_max.fetch_max(now, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    pub(crate) fn snapshot(&self) -> Counters {
        let operations = self.operations.lock();
        Counters {
            operations: operations.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            connections: self.connections.load(Ordering::Relaxed),
            in_flight_max: self.in_flight_max.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn reset(&self) {
        self.operations.lock().clear();
        for counter in [&self.bytes_in, &self.bytes_out, &self.connections] {
            counter.store(0, Ordering::Relaxed);
        }
        self.in_flight_max.store(self.in_flight.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}
