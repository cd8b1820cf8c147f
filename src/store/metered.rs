//! Counts and times every request, and logs each once.
//!
//! Invariant: a request is counted once, when it ends; a GET ends with its body, so its time is that of the whole
//! transfer. No lock: counters are atomics of their own per operation, and a snapshot may catch a request between
//! two of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::StreamExt;

use super::around::{Around, Call, Operation};
use super::error::{ErrorKind, Result, StoreError};
use super::object_store::{GetRequest, GetResponse, ObjectStore};
use super::types::ObjectPath;

/// What is known of one operation so far.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OperationMetrics {
    /// Which.
    pub operation: Operation,
    /// Requests that have ended, one way or the other.
    pub count: u64,
    /// Those that went well.
    pub successes: u64,
    /// Those that failed, by kind; kinds that never occurred are left out.
    pub failures: Vec<(ErrorKind, u64)>,
    /// Requests that have not ended.
    pub in_flight: u64,
    /// Bytes of bodies received.
    pub bytes_in: u64,
    /// Bytes of bodies sent; counted once however often the SDK sent them.
    pub bytes_out: u64,
    /// Time of all ended requests together, the SDK's retries included.
    pub total_time: Duration,
    /// Longest request.
    pub max_time: Duration,
}

#[derive(Default)]
struct Counters {
    begun: AtomicU64,
    successes: AtomicU64,
    failures: [AtomicU64; ErrorKind::ALL.len()],
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    total_us: AtomicU64,
    max_us: AtomicU64,
}

/// The counters of a [`Metered`] store.
#[derive(Default)]
pub struct Metrics {
    operations: [Counters; Operation::ALL.len()],
}

impl Metrics {
    /// What is known of each operation that was called.
    pub fn snapshot(&self) -> Vec<OperationMetrics> {
        Operation::ALL
            .into_iter()
            .map(|operation| self.of(operation))
            .filter(OperationMetrics::seen)
            .collect()
    }

    /// What is known of one operation.
    pub fn of(&self, operation: Operation) -> OperationMetrics {
        let counters = &self.operations[operation as usize];
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let successes = read(&counters.successes);
        let failures: Vec<_> = ErrorKind::ALL
            .into_iter()
            .map(|kind| (kind, read(&counters.failures[kind as usize])))
            .filter(|(_, count)| *count > 0)
            .collect();
        let count = successes + failures.iter().map(|(_, count)| count).sum::<u64>();
        OperationMetrics {
            operation,
            count,
            successes,
            failures,
            in_flight: read(&counters.begun).saturating_sub(count),
            bytes_in: read(&counters.bytes_in),
            bytes_out: read(&counters.bytes_out),
            total_time: Duration::from_micros(read(&counters.total_us)),
            max_time: Duration::from_micros(read(&counters.max_us)),
        }
    }

    fn counters(&self, operation: Operation) -> &Counters {
        &self.operations[operation as usize]
    }
}

impl OperationMetrics {
    fn seen(&self) -> bool {
        self.count > 0 || self.in_flight > 0
    }
}

/// A request under way. Ends when told, else when dropped: a caller that loses interest (a deadline, a body read
/// in part) is no failure of the store.
struct Request {
    metrics: Arc<Metrics>,
    call: Call,
    begun: Instant,
    bytes_in: u64,
    ended: bool,
}

impl Request {
    fn begin(metrics: Arc<Metrics>, call: Call) -> Self {
        let counters = metrics.counters(call.operation);
        counters.begun.fetch_add(1, Ordering::Relaxed);
        counters.bytes_out.fetch_add(call.bytes_sent, Ordering::Relaxed);
        Self { metrics, call, begun: Instant::now(), bytes_in: 0, ended: false }
    }

    fn received(&mut self, bytes: &Bytes) {
        let len = bytes.len() as u64;
        self.bytes_in += len;
        self.metrics.counters(self.call.operation).bytes_in.fetch_add(len, Ordering::Relaxed);
    }

    fn end(&mut self, error: Option<&StoreError>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let time = self.begun.elapsed();
        let time_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let counters = self.metrics.counters(self.call.operation);
        counters.total_us.fetch_add(time_us, Ordering::Relaxed);
        counters.max_us.fetch_max(time_us, Ordering::Relaxed);
        match error {
            None => counters.successes.fetch_add(1, Ordering::Relaxed),
            Some(error) => counters.failures[error.kind as usize].fetch_add(1, Ordering::Relaxed),
        };
        tracing::debug!(
            operation = self.call.operation.name(),
            key = %self.call.target,
            time_us,
            bytes_in = self.bytes_in,
            bytes_out = self.call.bytes_sent,
            kind = error.map(|error| tracing::field::debug(error.kind)),
            code = error.and_then(|error| error.code.as_deref()),
            request_id = error.and_then(|error| error.request_id.as_deref()),
            attempts = error.map(|error| error.attempts).filter(|attempts| *attempts > 0),
            "store request"
        );
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.end(None);
    }
}

/// A store whose requests are counted. See the module's head.
pub struct Metered {
    inner: Arc<dyn ObjectStore>,
    metrics: Arc<Metrics>,
}

impl Metered {
    /// Counts the requests of `inner`.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, metrics: Arc::default() }
    }

    /// The counters, to be read while the store is used.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }
}

impl Around for Metered {
    fn inner(&self) -> &dyn ObjectStore {
        &*self.inner
    }

    fn around<'a, T: Send + 'a>(
        &'a self,
        call: Call,
        inner: BoxFuture<'a, Result<T>>,
    ) -> BoxFuture<'a, Result<T>> {
        Box::pin(async move {
            let mut request = Request::begin(self.metrics(), call);
            let result = inner.await;
            request.end(result.as_ref().err());
            result
        })
    }

    fn around_get<'a>(
        &'a self,
        call: Call,
        path: &'a ObjectPath,
        request: GetRequest,
    ) -> BoxFuture<'a, Result<GetResponse>> {
        Box::pin(async move {
            let mut metered = Request::begin(self.metrics(), call);
            let mut response = match self.inner.get(path, request).await {
                Ok(response) => response,
                Err(error) => {
                    metered.end(Some(&error));
                    return Err(error);
                }
            };
            let len = response.len;
            let body = response.body.map(move |chunk| {
                match &chunk {
                    Ok(bytes) => metered.received(bytes),
                    Err(error) => metered.end(Some(error)),
                }
                if metered.bytes_in >= len {
                    metered.end(None);
                }
                chunk
            });
            response.body = body.boxed();
            Ok(response)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::collections::BTreeMap;

    use futures_util::TryStreamExt;

    use super::*;
    use crate::store::fault::{Fault, Faulty};
    use crate::store::memory::MemoryStore;
    use crate::store::types::{Body, Condition, Properties};

    #[tokio::test]
    async fn requests_are_counted_once_when_they_end() {
        let memory = MemoryStore::new();
        memory.create_bucket("b");
        let faulty = Arc::new(Faulty::new(Arc::new(memory)));
        let store = Metered::new(faulty.clone());
        let metrics = store.metrics();
        let path = ObjectPath::new("b", "k");
        let body = Body(Bytes::from(vec![1; 500_000]));
        let put = async |condition| {
            store.put(&path, body.clone(), &Properties::default(), &BTreeMap::new(), condition).await
        };
        put(Condition::None).await.unwrap();
        put(Condition::Absent).await.unwrap_err();
        let puts = metrics.of(Operation::PutObject);
        assert_eq!((puts.count, puts.successes, puts.bytes_out), (2, 1, 1_000_000));
        assert_eq!(puts.failures, [(ErrorKind::Precondition, 1)]);

        let got = store.get(&path, GetRequest::default()).await.unwrap();
        let gets = metrics.of(Operation::GetObject);
        assert_eq!((gets.count, gets.in_flight), (0, 1));
        got.body.try_collect::<Vec<_>>().await.unwrap();
        let gets = metrics.of(Operation::GetObject);
        assert_eq!((gets.count, gets.successes, gets.in_flight, gets.bytes_in), (1, 1, 0, 500_000));

        let mut got = store.get(&path, GetRequest::default()).await.unwrap();
        got.body.next().await.unwrap().unwrap();
        drop(got);
        faulty.inject(Fault::body(ErrorKind::Timeout, 10));
        let got = store.get(&path, GetRequest::default()).await.unwrap();
        got.body.try_collect::<Vec<_>>().await.unwrap_err();
        let gets = metrics.of(Operation::GetObject);
        assert_eq!((gets.count, gets.successes), (3, 2));
        assert_eq!(gets.failures, [(ErrorKind::Timeout, 1)]);
        assert!(gets.max_time <= gets.total_time);
        assert_eq!(metrics.snapshot().len(), 2);
    }
}
