//! Calls that fail on purpose, for tests: before they are done, after they were done, or within a body.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};
use parking_lot::Mutex;

use super::around::{Around, Call, Operation};
use super::error::{ErrorKind, Result, StoreError};
use super::object_store::{GetRequest, GetResponse, ObjectStore};
use super::types::ObjectPath;

/// Where a call fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// It never reaches the store.
    Before,
    /// The store has done it; only the answer is lost.
    After,
    /// The body of a GET breaks after so many bytes.
    Body(u64),
}

/// A failure to come.
#[derive(Clone, Debug)]
pub struct Fault {
    operation: Option<Operation>,
    key_contains: Option<String>,
    place: Place,
    kind: ErrorKind,
    skip: u64,
    /// `None` for ever.
    remaining: Option<u64>,
}

impl Fault {
    /// Every call fails without reaching the store.
    pub fn before(kind: ErrorKind) -> Self {
        Self { operation: None, key_contains: None, place: Place::Before, kind, skip: 0, remaining: None }
    }

    /// Every call is done and then answered with an error.
    pub fn after(kind: ErrorKind) -> Self {
        Self { place: Place::After, ..Self::before(kind) }
    }

    /// The body of every GET breaks after `bytes`.
    pub fn body(kind: ErrorKind, bytes: u64) -> Self {
        Self { place: Place::Body(bytes), ..Self::before(kind) }.on(Operation::GetObject)
    }

    /// Only calls of `operation`.
    #[must_use]
    pub fn on(mut self, operation: Operation) -> Self {
        self.operation = Some(operation);
        self
    }

    /// Only keys that contain `text`.
    #[must_use]
    pub fn key_contains(mut self, text: impl Into<String>) -> Self {
        self.key_contains = Some(text.into());
        self
    }

    /// Only from the `n`-th matching call on, the first being 1.
    #[must_use]
    pub fn from_call(mut self, n: u64) -> Self {
        self.skip = n.saturating_sub(1);
        self
    }

    /// Only so many times.
    #[must_use]
    pub fn times(mut self, n: u64) -> Self {
        self.remaining = Some(n);
        self
    }

    fn matches(&self, call: &Call) -> bool {
        self.operation.is_none_or(|operation| operation == call.operation)
            && self.key_contains.as_ref().is_none_or(|text| call.target.key.contains(text.as_str()))
            && self.remaining != Some(0)
    }
}

/// A store whose calls fail as told. Faults that match the same call are used up in the order they came.
pub struct Faulty {
    inner: Arc<dyn ObjectStore>,
    faults: Mutex<Vec<Fault>>,
    calls: [AtomicU64; Operation::ALL.len()],
    hits: AtomicU64,
}

impl Faulty {
    /// `inner`, without faults yet.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, faults: Mutex::default(), calls: Default::default(), hits: AtomicU64::new(0) }
    }

    /// Adds a fault.
    pub fn inject(&self, fault: Fault) {
        self.faults.lock().push(fault);
    }

    /// Ends all faults.
    pub fn clear(&self) {
        self.faults.lock().clear();
    }

    /// Calls of `operation` so far, failed ones included.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.calls[operation as usize].load(Ordering::Relaxed)
    }

    /// Faults that struck so far.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Counts the call and finds what happens to it.
    fn strike(&self, call: &Call) -> Option<(Place, StoreError)> {
        self.calls[call.operation as usize].fetch_add(1, Ordering::Relaxed);
        let mut faults = self.faults.lock();
        for fault in faults.iter_mut().filter(|fault| fault.matches(call)) {
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            fault.remaining = fault.remaining.map(|left| left - 1);
            self.hits.fetch_add(1, Ordering::Relaxed);
            let error = StoreError::new(fault.kind, call.operation.name(), &call.target, "injected fault");
            return Some((fault.place, error));
        }
        None
    }
}

impl Around for Faulty {
    fn inner(&self) -> &dyn ObjectStore {
        &*self.inner
    }

    fn around<'a, T: Send + 'a>(
        &'a self,
        call: Call,
        inner: BoxFuture<'a, Result<T>>,
    ) -> BoxFuture<'a, Result<T>> {
        Box::pin(async move {
            match self.strike(&call) {
                Some((Place::Before, error)) => {
                    // A store that answers at once has done its work when the call was made, so it must not be
                    // made at all: `inner` is dropped unpolled, and the in-memory store works when polled.
                    drop(inner);
                    Err(error)
                }
                Some((Place::After, error)) => inner.await.and(Err(error)),
                Some((Place::Body(_), _)) | None => inner.await,
            }
        })
    }

    fn around_get<'a>(
        &'a self,
        call: Call,
        path: &'a ObjectPath,
        request: GetRequest,
    ) -> BoxFuture<'a, Result<GetResponse>> {
        Box::pin(async move {
            match self.strike(&call) {
                Some((Place::Before, error)) => Err(error),
                Some((Place::After, error)) => self.inner.get(path, request).await.and(Err(error)),
                Some((Place::Body(bytes), error)) => {
                    let response = self.inner.get(path, request).await?;
                    Ok(break_after(response, bytes, error))
                }
                None => self.inner.get(path, request).await,
            }
        })
    }
}

/// The same answer with a body that breaks after `bytes`, or not at all when it is shorter.
fn break_after(mut response: GetResponse, bytes: u64, error: StoreError) -> GetResponse {
    if response.len <= bytes {
        return response;
    }
    let state = Some((response.body, bytes, error));
    response.body = stream::unfold(state, |state| async move {
        let (mut body, left, error) = state?;
        if left == 0 {
            return Some((Err(error), None));
        }
        let mut chunk = match body.next().await? {
            Ok(chunk) => chunk,
            Err(error) => return Some((Err(error), None)),
        };
        chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        let left = left - chunk.len() as u64;
        Some((Ok(chunk), Some((body, left, error))))
    })
    .boxed();
    response
}
