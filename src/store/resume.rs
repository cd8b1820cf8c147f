//! Resumes a GET whose body breaks: the SDK repeats requests, but never a body that has begun.
//!
//! Invariants: the bytes of one stream are of one version, because every resumption is pinned to the ETag of
//! the first answer; the attempts between two chunks are bounded, and progress earns new ones.
//! Deliberately does not: retry anything but the body, or a body whose checksum was wrong at its end.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};

use super::around::{Around, Call};
use super::error::{Result, StoreError};
use super::object_store::{GetRequest, GetResponse, ObjectStore};
use super::types::{ETag, ObjectPath};

/// Resumptions in a row that bring no byte.
const ATTEMPTS_MAX: u32 = 3;
/// Wait before the second resumption in a row; doubles, and is cut by up to half so that readers of one outage
/// do not come back all at once.
const BACKOFF: Duration = Duration::from_millis(100);

/// GET bodies that go on where they broke. See the module's head.
pub struct Resuming {
    inner: Arc<dyn ObjectStore>,
    backoff: Duration,
}

impl Resuming {
    /// Resumes the bodies of `inner`.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, backoff: BACKOFF }
    }

    /// With another first wait, for tests.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Duration) -> Self {
        self.backoff = backoff;
        self
    }
}

impl Around for Resuming {
    fn inner(&self) -> &dyn ObjectStore {
        &*self.inner
    }

    fn around<'a, T: Send + 'a>(
        &'a self,
        _call: Call,
        inner: BoxFuture<'a, Result<T>>,
    ) -> BoxFuture<'a, Result<T>> {
        inner
    }

    fn around_get<'a>(
        &'a self,
        _call: Call,
        path: &'a ObjectPath,
        request: GetRequest,
    ) -> BoxFuture<'a, Result<GetResponse>> {
        Box::pin(async move {
            let mut response = self.inner.get(path, request).await?;
            let going = Going {
                store: self.inner.clone(),
                path: path.clone(),
                etag: response.info.version.etag.clone(),
                position: response.offset,
                remaining: response.len,
                body: Some(response.body),
                fruitless: 0,
                backoff: self.backoff,
            };
            response.body = stream::unfold(Some(going), |going| async move {
                let mut going = going?;
                match going.next().await {
                    Some(Ok(bytes)) => Some((Ok(bytes), Some(going))),
                    Some(Err(error)) => Some((Err(error), None)),
                    None => None,
                }
            })
            .boxed();
            Ok(response)
        })
    }
}

/// A body on its way.
struct Going {
    store: Arc<dyn ObjectStore>,
    path: ObjectPath,
    etag: ETag,
    /// Where in the object the next byte is.
    position: u64,
    remaining: u64,
    /// `None` after it broke: the connection is given back before another one is asked for.
    body: Option<BoxStream<'static, Result<Bytes>>>,
    fruitless: u32,
    backoff: Duration,
}

impl Going {
    async fn next(&mut self) -> Option<Result<Bytes>> {
        loop {
            let Some(body) = &mut self.body else {
                if let Err(error) = self.resume().await {
                    return Some(Err(error));
                }
                continue;
            };
            match body.next().await {
                Some(Ok(bytes)) => {
                    let len = bytes.len() as u64;
                    self.position += len;
                    self.remaining = self.remaining.saturating_sub(len);
                    self.fruitless = 0;
                    return Some(Ok(bytes));
                }
                Some(Err(error)) => {
                    self.body = None;
                    if !self.may_resume(&error) {
                        return Some(Err(error));
                    }
                    tracing::debug!(
                        key = %self.path, position = self.position, remaining = self.remaining, %error,
                        "body broke, resuming"
                    );
                }
                None => return None,
            }
        }
    }

    fn may_resume(&self, error: &StoreError) -> bool {
        error.kind.is_transient() && self.remaining > 0 && self.fruitless < ATTEMPTS_MAX
    }

    /// Asks for the rest, of the same version.
    async fn resume(&mut self) -> Result<()> {
        if self.fruitless > 0 {
            let doubled = self.backoff.saturating_mul(1 << (self.fruitless - 1).min(16));
            tokio::time::sleep(spread(doubled)).await;
        }
        self.fruitless += 1;
        let request = GetRequest {
            range: Some((self.position, self.remaining)),
            if_match: Some(self.etag.clone()),
            if_none_match: None,
        };
        self.body = Some(self.store.get(&self.path, request).await?.body);
        Ok(())
    }
}

/// Half of `wait` to all of it, at random.
fn spread(wait: Duration) -> Duration {
    let random = RandomState::new().hash_one(()) % 1_000;
    wait.mul_f64(0.5 + random as f64 / 2_000.0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::collections::BTreeMap;

    use futures_util::TryStreamExt;

    use super::*;
    use crate::store::around::Operation;
    use crate::store::error::ErrorKind;
    use crate::store::fault::{Fault, Faulty};
    use crate::store::memory::MemoryStore;
    use crate::store::types::{Body, Condition, Properties};

    async fn put(store: &MemoryStore, path: &ObjectPath, byte: u8) {
        let body = Body(Bytes::from(vec![byte; 1 << 20]));
        store.put(path, body, &Properties::default(), &BTreeMap::new(), Condition::None).await.unwrap();
    }

    struct Scene {
        memory: Arc<MemoryStore>,
        faulty: Arc<Faulty>,
        store: Resuming,
        path: ObjectPath,
    }

    async fn scene() -> Scene {
        let memory = Arc::new(MemoryStore::new());
        memory.create_bucket("b");
        let path = ObjectPath::new("b", "k");
        put(&memory, &path, 1).await;
        let faulty = Arc::new(Faulty::new(memory.clone()));
        let store = Resuming::new(faulty.clone()).with_backoff(Duration::from_millis(1));
        Scene { memory, faulty, store, path }
    }

    #[tokio::test]
    async fn a_broken_body_goes_on_where_it_broke() {
        let s = scene().await;
        s.faulty.inject(Fault::body(ErrorKind::Unreachable, 300_000).times(1));
        s.faulty.inject(Fault::body(ErrorKind::Corrupt, 400_000).times(1));
        let request = GetRequest { range: Some((10, 900_000)), ..GetRequest::default() };
        let got = s.store.get(&s.path, request).await.unwrap();
        let body: Vec<Bytes> = got.body.try_collect().await.unwrap();
        assert_eq!(body.iter().map(Bytes::len).sum::<usize>(), 900_000);
        assert_eq!(s.faulty.calls(Operation::GetObject), 3);
    }

    #[tokio::test]
    async fn progress_earns_new_attempts_and_none_ends_them() {
        let s = scene().await;
        s.faulty.inject(Fault::body(ErrorKind::Unreachable, 100_000).times(10));
        let got = s.store.get(&s.path, GetRequest::default()).await.unwrap();
        let body: Vec<Bytes> = got.body.try_collect().await.unwrap();
        assert_eq!(body.iter().map(Bytes::len).sum::<usize>(), 1 << 20);
        s.faulty.clear();
        s.faulty.inject(Fault::body(ErrorKind::Timeout, 0));
        let calls = s.faulty.calls(Operation::GetObject);
        let got = s.store.get(&s.path, GetRequest::default()).await.unwrap();
        let error = got.body.try_collect::<Vec<_>>().await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Timeout);
        assert_eq!(s.faulty.calls(Operation::GetObject) - calls, 1 + u64::from(ATTEMPTS_MAX));
    }

    #[tokio::test]
    async fn another_version_is_not_mixed_in() {
        let s = scene().await;
        s.faulty.inject(Fault::body(ErrorKind::Unreachable, 300_000).times(1));
        let mut got = s.store.get(&s.path, GetRequest::default()).await.unwrap();
        let first = got.body.next().await.unwrap().unwrap();
        put(&s.memory, &s.path, 2).await;
        let mut seen = first.len();
        let error = loop {
            match got.body.next().await.unwrap() {
                Ok(bytes) => seen += bytes.len(),
                Err(error) => break error,
            }
        };
        assert_eq!(seen, 300_000);
        assert_eq!(error.kind, ErrorKind::Precondition);
        assert!(got.body.next().await.is_none());
    }

    #[tokio::test]
    async fn what_will_not_get_better_is_not_repeated() {
        let s = scene().await;
        s.faulty.inject(Fault::body(ErrorKind::AccessDenied, 10).times(1));
        let got = s.store.get(&s.path, GetRequest::default()).await.unwrap();
        let error = got.body.try_collect::<Vec<_>>().await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::AccessDenied);
        assert_eq!(s.faulty.calls(Operation::GetObject), 1);
    }
}
