//! The way to local disk from asynchronous code.
//!
//! Some threads may block on local disk for a moment: the threads that read the kernel's requests. They say so
//! with [`mark`]. Everywhere else the work moves to the blocking pool.
//!
//! Invariant: a worker thread of the runtime never carries the mark outside a call that was polled inline.

use std::cell::Cell;
use std::marker::PhantomData;

thread_local! {
    static MAY_BLOCK: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, this thread may block on local disk. Restores what was before when dropped.
#[derive(Debug)]
pub struct Mark {
    before: bool,
    /// Tied to its thread.
    _here: PhantomData<*const ()>,
}

/// Lets this thread block on local disk until the guard is dropped.
pub fn mark() -> Mark {
    Mark { before: MAY_BLOCK.replace(true), _here: PhantomData }
}

impl Drop for Mark {
    fn drop(&mut self) {
        MAY_BLOCK.set(self.before);
    }
}

/// Whether this thread may block on local disk now.
pub fn may_block() -> bool {
    MAY_BLOCK.get()
}

/// Runs `f`, which may block on local disk: at once when this thread may block, else on the blocking pool.
/// Needs the context of a runtime. A panic of `f` goes on in the caller.
pub async fn disk<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    if may_block() {
        return f();
    }
    match tokio::task::spawn_blocking(f).await {
        Ok(value) => value,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that shuts down cancels work of the pool, and it drops this future too.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_marked_thread_runs_it_at_once() {
        let here = std::thread::current().id();
        {
            let _mark = mark();
            let _again = mark();
            assert_eq!(disk(|| std::thread::current().id()).await, here);
        }
        assert!(!may_block());
        assert_ne!(disk(|| std::thread::current().id()).await, here);
    }

    #[tokio::test]
    async fn a_panic_reaches_the_caller() {
        let failed = tokio::spawn(disk(|| panic!("on purpose"))).await;
        assert!(failed.unwrap_err().is_panic());
    }
}
