//! Bounds the requests in flight.
//!
//! Invariant: at most the given number of requests run at once. A GET counts until its body has ended or was
//! dropped, because its connection is busy until then. So a task must not wait for another request while it
//! holds an unread body: enough such tasks would wait for each other.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::around::{Around, Call};
use super::error::{ErrorKind, Result, StoreError};
use super::object_store::{GetRequest, GetResponse, ObjectStore};
use super::types::ObjectPath;

/// At most so many requests at once; others wait in order. See the module's head.
pub struct Limited {
    inner: Arc<dyn ObjectStore>,
    permits: Arc<Semaphore>,
}

impl Limited {
    /// Bounds `inner` to `max_in_flight` requests, at least one.
    pub fn new(inner: Arc<dyn ObjectStore>, max_in_flight: usize) -> Self {
        let permits = max_in_flight.clamp(1, Semaphore::MAX_PERMITS);
        Self { inner, permits: Arc::new(Semaphore::new(permits)) }
    }

    /// Requests that could begin at once now.
    pub fn available(&self) -> usize {
        self.permits.available_permits()
    }

    async fn permit(&self, call: &Call) -> Result<OwnedSemaphorePermit> {
        let permits = self.permits.clone();
        permits.acquire_owned().await.map_err(|_| {
            // Nobody closes the semaphore.
            StoreError::new(ErrorKind::Unreachable, call.operation.name(), &call.target, "shut down")
        })
    }
}

impl Around for Limited {
    fn inner(&self) -> &dyn ObjectStore {
        &*self.inner
    }

    fn around<'a, T: Send + 'a>(
        &'a self,
        call: Call,
        inner: BoxFuture<'a, Result<T>>,
    ) -> BoxFuture<'a, Result<T>> {
        Box::pin(async move {
            let _permit = self.permit(&call).await?;
            inner.await
        })
    }

    fn around_get<'a>(
        &'a self,
        call: Call,
        path: &'a ObjectPath,
        request: GetRequest,
    ) -> BoxFuture<'a, Result<GetResponse>> {
        Box::pin(async move {
            let permit = self.permit(&call).await?;
            let mut response = self.inner.get(path, request).await?;
            // The permit goes when the last byte was handed out, not only when the reader drops the stream.
            let mut left = response.len;
            let mut held = Some(permit).filter(|_| left > 0);
            let body = response.body.map(move |chunk| {
                left = left.saturating_sub(chunk.as_ref().map_or(u64::MAX, |bytes| bytes.len() as u64));
                if left == 0 {
                    held = None;
                }
                let _keeps_it = &held;
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

    use bytes::Bytes;
    use futures_util::FutureExt;

    use super::*;
    use crate::store::memory::MemoryStore;
    use crate::store::types::{Body, Condition, Properties};

    async fn store_with(len: usize) -> (Limited, ObjectPath) {
        let memory = MemoryStore::new();
        memory.create_bucket("b");
        let path = ObjectPath::new("b", "k");
        let body = Body(Bytes::from(vec![1; len]));
        memory.put(&path, body, &Properties::default(), &BTreeMap::new(), Condition::None).await.unwrap();
        (Limited::new(Arc::new(memory), 2), path)
    }

    #[tokio::test]
    async fn a_get_counts_until_its_body_ends() {
        let (store, path) = store_with(600 << 10).await;
        let mut first = store.get(&path, GetRequest::default()).await.unwrap();
        let second = store.get(&path, GetRequest::default()).await.unwrap();
        assert_eq!(store.available(), 0);
        let mut waiting = store.head(&path);
        assert!((&mut waiting).now_or_never().is_none());
        drop(second);
        waiting.await.unwrap();
        assert_eq!(store.available(), 1);
        let mut seen = 0;
        while let Some(chunk) = first.body.next().await {
            seen += chunk.unwrap().len();
        }
        assert_eq!(seen, 600 << 10);
        assert_eq!(store.available(), 2, "the stream is still alive, but its body has ended");
    }

    #[tokio::test]
    async fn an_empty_body_holds_nothing() {
        let (store, path) = store_with(0).await;
        let got = store.get(&path, GetRequest::default()).await.unwrap();
        assert_eq!(got.len, 0);
        assert_eq!(store.available(), 2);
        assert!(store.head(&ObjectPath::new("b", "missing")).await.is_err());
        assert_eq!(store.available(), 2);
    }
}
