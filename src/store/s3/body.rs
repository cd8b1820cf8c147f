//! The body of a GET as a stream that is whole or ends in an error.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::time::{Instant, timeout_at};

use super::errors;
use crate::store::error::{ErrorKind, Result, StoreError};
use crate::store::types::ObjectPath;

const OPERATION: &str = "GetObject";

/// What is needed to go on with a body.
struct State {
    source: ByteStream,
    path: ObjectPath,
    /// Bytes that are still to come.
    remaining: u64,
    /// Bytes of the answer after those that were asked for, from a store that ignores ranges.
    surplus: bool,
    /// Longest wait for a chunk.
    silence: Duration,
    /// End of the time for the whole body.
    deadline: Instant,
}

/// The `len` bytes of `source`. The last bytes are handed out only after the answer has ended properly, so
/// that a checksum at its end is verified before the reader believes it has everything.
pub(super) fn stream(
    source: ByteStream,
    path: ObjectPath,
    len: u64,
    surplus: bool,
    silence: Duration,
    whole: Duration,
) -> BoxStream<'static, Result<Bytes>> {
    let deadline = Instant::now() + whole;
    let state = State { source, path, remaining: len, surplus, silence, deadline };
    stream::unfold(Some(state), |state| async move {
        let mut state = state?;
        match state.next().await {
            Ok(Some(bytes)) if state.remaining == 0 => Some((Ok(bytes), None)),
            Ok(Some(bytes)) => Some((Ok(bytes), Some(state))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

impl State {
    /// The next bytes; `None` is the proper end of an empty body.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let Some(mut bytes) = self.chunk().await? else {
                return match self.remaining {
                    0 => Ok(None),
                    missing => Err(self.error(ErrorKind::Corrupt, format!("{missing} bytes are missing"))),
                };
            };
            if bytes.is_empty() {
                continue;
            }
            let len = bytes.len() as u64;
            if len < self.remaining {
                self.remaining -= len;
                return Ok(Some(bytes));
            }
            if len > self.remaining {
                if !self.surplus {
                    return Err(self.error(ErrorKind::Corrupt, "the body is longer than announced".into()));
                }
                bytes.truncate(usize::try_from(self.remaining).unwrap_or(usize::MAX));
                self.remaining = 0;
                return Ok(Some(bytes));
            }
            self.remaining = 0;
            return self.end(bytes).await.map(Some);
        }
    }

    /// Waits for the end of the answer behind its last bytes.
    async fn end(&mut self, last: Bytes) -> Result<Bytes> {
        if self.surplus {
            return Ok(last);
        }
        while let Some(bytes) = self.chunk().await? {
            if !bytes.is_empty() {
                return Err(self.error(ErrorKind::Corrupt, "the body is longer than announced".into()));
            }
        }
        Ok(last)
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>> {
        let until = self.deadline.min(Instant::now() + self.silence);
        match timeout_at(until, self.source.next()).await {
            Ok(Some(Ok(bytes))) => Ok(Some(bytes)),
            Ok(Some(Err(error))) => Err(errors::from_body(OPERATION, &self.path, error)),
            Ok(None) => Ok(None),
            Err(_) => Err(self.error(ErrorKind::Timeout, "the body stalled".into())),
        }
    }

    fn error(&self, kind: ErrorKind, message: String) -> StoreError {
        StoreError::new(kind, OPERATION, &self.path, message)
    }
}
