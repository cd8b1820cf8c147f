//! What is the same for every operation: where it runs, how long it may take, panics, counters, log lines.
//!
//! An operation is polled once on the thread that read the request. Most are ready then (names in memory,
//! resident blocks, a staged file) and are answered there: moving costs more than such an operation. One that
//! has to wait moves to the runtime with its reply.
//!
//! Invariant: each [`Answer`] is given exactly once; one that is dropped (a panic, the end of the runtime)
//! answers EIO.
//!
//! Deliberately does not: know what an operation does, or bound how many wait (the kernel and the store do).

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use fuser::Errno;
use futures_util::FutureExt;
use tokio::runtime::Handle;
use tracing::{debug, error, warn};

use super::respond::{Refuse, Respond};
use super::stats::{Op, OperationStats};
use crate::fs::errno::errno;
use crate::fs::error::{Error, Result};
use crate::runtime::disk;
use crate::store::error::ErrorKind;

/// How long the kernel waits for an operation that moved to the runtime.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Patience {
    /// Until it ends: it commits, and its own requests have their bounds.
    Unbounded,
    /// Up to the deadline; then it is dropped. For operations that change nothing.
    Drop,
    /// Up to the deadline; then the kernel gets EIO and the operation goes on, so that nothing stops half way.
    Leave,
}

/// Runs operations.
#[derive(Clone, Debug)]
pub(super) struct Dispatcher {
    pub(super) runtime: Handle,
    /// Of operations that are not [`Patience::Unbounded`].
    pub(super) deadline: Duration,
    pub(super) stats: Arc<OperationStats>,
}

/// One request that waits for its answer.
pub(super) struct Answer<R: Refuse> {
    /// `None` once given.
    reply: Option<R>,
    op: Op,
    /// Inode of the request, for the log.
    ino: u64,
    started: Instant,
    stats: Arc<OperationStats>,
}

impl Dispatcher {
    /// Takes responsibility for answering a request about inode `ino`.
    pub(super) fn accept<R: Refuse>(&self, op: Op, ino: u64, reply: R) -> Answer<R> {
        self.stats.began();
        Answer { reply: Some(reply), op, ino, started: Instant::now(), stats: Arc::clone(&self.stats) }
    }

    /// Runs an operation and answers with its result.
    pub(super) fn run<T, F, R>(&self, answer: Answer<R>, patience: Patience, make: impl FnOnce() -> F)
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
        R: Respond<T>,
    {
        self.run_or_undo(answer, patience, make, |_| std::future::ready(()));
    }

    /// The same; `undo` gets the result of an operation that succeeded after its deadline, of which the kernel
    /// never heard: a lookup is to be forgotten, a handle to be released.
    pub(super) fn run_or_undo<T, F, R, U>(
        &self,
        answer: Answer<R>,
        patience: Patience,
        make: impl FnOnce() -> F,
        undo: impl FnOnce(T) -> U + Send + 'static,
    ) where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
        R: Respond<T>,
        U: Future<Output = ()> + Send + 'static,
    {
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let _runtime = self.runtime.enter();
            let _disk = disk::mark();
            let mut future = Box::pin(make());
            match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(result) => Ok(result),
                Poll::Pending => Err(future),
            }
        }));
        match polled {
            Ok(Ok(result)) => answer.give(result),
            Ok(Err(future)) => {
                self.stats.moved(answer.op);
                let rest = finish(future, answer, patience, self.deadline, undo);
                drop(self.runtime.spawn(rest));
            }
            Err(panic) => answer.panicked(&*panic),
        }
    }

    /// Runs something short on this thread and hands its result back with the answer that is still to be given;
    /// `None` when it panicked and the answer was given.
    pub(super) fn attempt<T, R: Refuse>(
        &self,
        answer: Answer<R>,
        work: impl FnOnce() -> T,
    ) -> Option<(Answer<R>, T)> {
        let done = catch_unwind(AssertUnwindSafe(|| {
            let _runtime = self.runtime.enter();
            let _disk = disk::mark();
            work()
        }));
        match done {
            Ok(done) => Some((answer, done)),
            Err(panic) => {
                answer.panicked(&*panic);
                None
            }
        }
    }

    /// Runs something that has no answer.
    pub(super) fn tell(&self, op: Op, ino: u64, work: impl FnOnce()) {
        let started = Instant::now();
        self.stats.began();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
            self.stats.panicked(op);
            error!(operation = op.name(), ino, "panic: {}", message(&*panic));
        }
        self.stats.ended(op, started.elapsed(), None);
    }
}

/// The rest of an operation, on the runtime.
async fn finish<T, F, R, U>(
    future: Pin<Box<F>>,
    answer: Answer<R>,
    patience: Patience,
    deadline: Duration,
    undo: impl FnOnce(T) -> U + Send + 'static,
) where
    F: Future<Output = Result<T>> + Send,
    R: Respond<T>,
    U: Future<Output = ()> + Send,
{
    let mut future = pin!(AssertUnwindSafe(future).catch_unwind());
    let in_time = match patience {
        Patience::Unbounded => Some(future.as_mut().await),
        Patience::Drop | Patience::Leave => tokio::time::timeout(deadline, future.as_mut()).await.ok(),
    };
    match in_time {
        Some(Ok(result)) => return answer.give(result),
        Some(Err(panic)) => return answer.panicked(&*panic),
        None => {}
    }
    let (op, ino, started) = (answer.op, answer.ino, answer.started);
    answer.stats.deadline_passed(op);
    answer.give(Err(Error::Deadline));
    if patience == Patience::Drop {
        return;
    }
    let late = future.await;
    let seconds = started.elapsed().as_secs_f32();
    match late {
        Ok(Ok(value)) => {
            warn!(operation = op.name(), ino, seconds, "ended well after its deadline");
            undo(value).await;
        }
        Ok(Err(error)) => warn!(operation = op.name(), ino, seconds, "failed after its deadline: {error}"),
        Err(panic) => {
            error!(operation = op.name(), ino, seconds, "panic after its deadline: {}", message(&*panic));
        }
    }
}

impl<R: Refuse> Answer<R> {
    /// Answers.
    pub(super) fn give<T>(mut self, result: Result<T>)
    where
        R: Respond<T>,
    {
        let Some(reply) = self.reply.take() else { return };
        match result {
            Ok(value) => {
                // Counted before it is answered, so that whoever saw the answer sees the count.
                self.stats.ended(self.op, self.started.elapsed(), None);
                // Encoding calls the filesystem once (readdirplus counts lookups), so a panic is possible.
                // The reply it had is dropped then, which answers EIO.
                match catch_unwind(AssertUnwindSafe(|| reply.respond(value))) {
                    Ok(errno) => {
                        if let Some(errno) = errno {
                            debug!(
                                operation = self.op.name(),
                                ino = self.ino,
                                errno = errno.code(),
                                "refused"
                            );
                        }
                    }
                    Err(panic) => self.log_panic(&*panic),
                }
            }
            Err(error) => {
                let number = errno(&error);
                self.log(&error);
                self.stats.ended(self.op, self.started.elapsed(), Some(number));
                reply.refuse(Errno::from_i32(number));
            }
        }
    }

    /// Refuses without asking the filesystem; not worth a log line.
    pub(super) fn refuse(mut self, errno: Errno) {
        let Some(reply) = self.reply.take() else { return };
        self.stats.ended(self.op, self.started.elapsed(), Some(errno.code()));
        reply.refuse(errno);
    }

    fn panicked(mut self, panic: &(dyn Any + Send)) {
        self.log_panic(panic);
        self.fail();
    }

    fn log_panic(&self, panic: &(dyn Any + Send)) {
        self.stats.panicked(self.op);
        error!(operation = self.op.name(), ino = self.ino, "panic: {}", message(panic));
    }

    fn log(&self, error: &Error) {
        let (operation, ino) = (self.op.name(), self.ino);
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        match gravity(error) {
            Gravity::Ordinary => debug!(operation, ino, ms, "{error}"),
            Gravity::Warn => warn!(operation, ino, ms, "{error}"),
            Gravity::Error => error!(operation, ino, ms, "{error}"),
        }
    }

    fn fail(&mut self) {
        if let Some(reply) = self.reply.take() {
            self.stats.ended(self.op, self.started.elapsed(), Some(libc::EIO));
            reply.refuse(Errno::EIO);
        }
    }
}

impl<R: Refuse> Drop for Answer<R> {
    fn drop(&mut self) {
        if self.reply.is_some() {
            warn!(operation = self.op.name(), ino = self.ino, "given up before it ended");
            self.fail();
        }
    }
}

/// How loud a failed operation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Gravity {
    /// An answer programs ask for all day.
    Ordinary,
    /// Something outside is not as it should be.
    Warn,
    /// Something is broken, here or in what the store keeps.
    Error,
}

fn gravity(error: &Error) -> Gravity {
    match error {
        Error::NotFound
        | Error::Exists
        | Error::NotDirectory
        | Error::IsDirectory
        | Error::NotEmpty
        | Error::NameTooLong
        | Error::NotUtf8
        | Error::Invalid(_)
        | Error::Unsupported(_)
        | Error::NotPermitted(_)
        | Error::ReadOnly
        | Error::NoAttribute
        | Error::MetadataTooLarge(_)
        | Error::FileTooLarge
        | Error::NoSuchOffset
        | Error::Busy(_)
        | Error::CrossDevice => Gravity::Ordinary,
        Error::AccessDenied
        | Error::BadHandle
        | Error::Stale(_)
        | Error::NoSpace
        | Error::Cut
        | Error::Deadline => Gravity::Warn,
        Error::Internal(_) | Error::Local { .. } => Gravity::Error,
        Error::Store(store) => match store.kind {
            ErrorKind::NotFound => Gravity::Ordinary,
            ErrorKind::NoSuchBucket
            | ErrorKind::Credentials
            | ErrorKind::ClockSkew
            | ErrorKind::WrongRegion
            | ErrorKind::InvalidBucketName
            | ErrorKind::QuotaExceeded
            | ErrorKind::Corrupt
            | ErrorKind::Protocol => Gravity::Error,
            ErrorKind::UploadGone
            | ErrorKind::Precondition
            | ErrorKind::Conflict
            | ErrorKind::NotModified
            | ErrorKind::InvalidRange
            | ErrorKind::AccessDenied
            | ErrorKind::InvalidRequest
            | ErrorKind::TooLarge
            | ErrorKind::Archived
            | ErrorKind::Unsupported
            | ErrorKind::Throttled
            | ErrorKind::ServerFault
            | ErrorKind::Timeout
            | ErrorKind::Unreachable => Gravity::Warn,
        },
    }
}

/// The words of a panic.
fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
