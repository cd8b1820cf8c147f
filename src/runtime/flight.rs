//! Single flight: callers that want the same thing at the same time share one future.

use std::collections::HashMap;
use std::hash::Hash;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;

/// Work under way, by key. A caller that goes away leaves the work to the others; the last one ends it.
pub struct Flights<K, V: Clone> {
    under_way: Mutex<HashMap<K, WeakShared<BoxFuture<'static, V>>>>,
}

impl<K, V: Clone> Default for Flights<K, V> {
    fn default() -> Self {
        Self { under_way: Mutex::new(HashMap::new()) }
    }
}

impl<K: Hash + Eq + Clone, V: Clone + Send + Sync + 'static> Flights<K, V> {
    /// Joins the work under way for `key`, or begins it with `start`.
    pub fn join(
        &self,
        key: K,
        start: impl FnOnce() -> BoxFuture<'static, V>,
    ) -> Shared<BoxFuture<'static, V>> {
        let mut under_way = self.under_way.lock();
        if let Some(shared) = under_way.get(&key).and_then(WeakShared::upgrade)
            && shared.peek().is_none()
        {
            return shared;
        }
        under_way.retain(|_, weak| weak.upgrade().is_some_and(|s| s.peek().is_none()));
        let shared = start().shared();
        if let Some(weak) = shared.downgrade() {
            under_way.insert(key, weak);
        }
        shared
    }
}
