//! One bound, in bytes, on the memory that transfers hold.
//!
//! Invariant: the sum of all live permits is at most the limit. A request above the limit is clamped to it, so
//! that it is granted when it is alone instead of never. Waiters are served in the order they came.
//!
//! Deliberately does not: allocate anything; a permit is a promise of its holder.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A bound in bytes, shared by everything that buffers bodies.
#[derive(Debug)]
pub struct Budget {
    semaphore: Arc<Semaphore>,
    limit_bytes: u64,
}

/// Bytes taken from a [`Budget`]; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    held: OwnedSemaphorePermit,
}

impl Budget {
    /// A budget of `limit_bytes`, at least 1.
    pub fn new(limit_bytes: u64) -> Self {
        let most = u64::try_from(Semaphore::MAX_PERMITS).unwrap_or(u64::MAX);
        let limit_bytes = limit_bytes.clamp(1, most);
        let permits = usize::try_from(limit_bytes).unwrap_or(Semaphore::MAX_PERMITS);
        Self { semaphore: Arc::new(Semaphore::new(permits)), limit_bytes }
    }

    /// Takes `bytes`, clamped to the limit, waiting until they are free.
    ///
    /// Whoever already holds a permit must not wait for a second one: two such holders can wait for each other.
    pub async fn acquire(&self, bytes: u64) -> Permit {
        loop {
            let taken = Arc::clone(&self.semaphore).acquire_many_owned(self.clamp(bytes)).await;
            match taken {
                Ok(held) => return Permit { held },
                // The semaphore is never closed; waiting for ever would be wrong and a panic is not ours.
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    /// Takes `bytes`, clamped to the limit, if they are free now.
    pub fn try_acquire(&self, bytes: u64) -> Option<Permit> {
        let held = Arc::clone(&self.semaphore).try_acquire_many_owned(self.clamp(bytes)).ok()?;
        Some(Permit { held })
    }

    /// Bytes in live permits.
    pub fn in_use(&self) -> u64 {
        let free = u64::try_from(self.semaphore.available_permits()).unwrap_or(u64::MAX);
        self.limit_bytes.saturating_sub(free)
    }

    /// The bound in bytes.
    pub fn limit(&self) -> u64 {
        self.limit_bytes
    }

    /// A single permit is also at most 4 GiB, which is what the semaphore counts in one step.
    fn clamp(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.min(self.limit_bytes)).unwrap_or(u32::MAX)
    }
}

impl Permit {
    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        u64::try_from(self.held.num_permits()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn permits_add_up_and_come_back() {
        let budget = Budget::new(100);
        let first = budget.acquire(60).await;
        assert_eq!((first.bytes(), budget.in_use(), budget.limit()), (60, 60, 100));
        assert!(budget.try_acquire(41).is_none());
        let second = budget.try_acquire(40).unwrap();
        assert_eq!(budget.in_use(), 100);
        drop((first, second));
        assert_eq!(budget.in_use(), 0);
    }

    #[tokio::test]
    async fn a_request_above_the_limit_is_granted_alone() {
        let budget = Budget::new(10);
        let all = budget.acquire(u64::MAX).await;
        assert_eq!(all.bytes(), 10);
        assert!(budget.try_acquire(1).is_none());
        drop(all);
        assert!(budget.try_acquire(1).is_some());
    }

    #[tokio::test]
    async fn a_waiter_gets_what_is_given_back() {
        let budget = Arc::new(Budget::new(10));
        let held = budget.acquire(10).await;
        let other = Arc::clone(&budget);
        let waiting = tokio::spawn(async move { other.acquire(5).await.bytes() });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(held);
        assert_eq!(waiting.await.unwrap(), 5);
    }
}
