//! A pool of deciders that tasks share.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{decision::Decider, policy::Policy};

/// Deciders of one policy, for a server whose tasks move between threads or are cloned for each connection.
///
/// Clones share the deciders; cloning costs one reference count. The pool grows to the number of deciders that are taken at
/// the same time: one per thread, if no guard is held across an `await`. A server with its own worker threads needs no pool,
/// because it can give each worker a [`Decider`].
///
/// ```
/// use routing_claims::{DeciderPool, Outcome, Policy};
///
/// let pool = DeciderPool::new(Policy::from_json(br#"{"services": [{"name": "shop"}]}"#)?);
/// let handle = pool.clone();
/// let outcome = std::thread::spawn(move || handle.take().decide([], 0).outcome()).join().unwrap();
/// assert_eq!(outcome, Outcome::NoToken);
/// # Ok::<(), routing_claims::PolicyError>(())
/// ```
#[derive(Clone)]
pub struct DeciderPool(Arc<Inner>);

struct Inner {
    policy: Policy,
    /// A stack, because the memory of the last one returned is the most likely to be in the processor's cache.
    idle: Mutex<Vec<Decider>>,
}

/// A [`Decider`] that returns to its [`DeciderPool`] when it is dropped.
pub struct PooledDecider<'p> {
    pool: &'p DeciderPool,
    /// `Some` until it is dropped.
    decider: Option<Decider>,
}

impl DeciderPool {
    /// Creates an empty pool.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self(Arc::new(Inner { policy, idle: Mutex::default() }))
    }

    /// Takes an idle decider, or a new one if none is idle.
    #[must_use]
    pub fn take(&self) -> PooledDecider<'_> {
        let idle = self.idle().pop();
        let decider = idle.unwrap_or_else(|| Decider::new(self.0.policy.clone()));
        PooledDecider { pool: self, decider: Some(decider) }
    }

    /// The policy of all deciders.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.0.policy
    }

    /// Ignores poisoning, because nothing panics while it changes the list.
    fn idle(&self) -> MutexGuard<'_, Vec<Decider>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for PooledDecider<'_> {
    type Target = Decider;

    #[expect(clippy::expect_used, reason = "taken only by `drop`")]
    fn deref(&self) -> &Decider {
        self.decider.as_ref().expect("not dropped")
    }
}

impl DerefMut for PooledDecider<'_> {
    #[expect(clippy::expect_used, reason = "taken only by `drop`")]
    fn deref_mut(&mut self) -> &mut Decider {
        self.decider.as_mut().expect("not dropped")
    }
}

impl Drop for PooledDecider<'_> {
    fn drop(&mut self) {
        self.pool.idle().extend(self.decider.take());
    }
}

impl fmt::Debug for DeciderPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeciderPool").field("policy", &self.0.policy).finish_non_exhaustive()
    }
}

impl fmt::Debug for PooledDecider<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PooledDecider").field("decider", &self.decider).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_as_many_deciders_as_are_taken_at_once() {
        let pool = DeciderPool::new(Policy::from_json(br#"{"services": [{"name": "a"}]}"#).unwrap());
        let clone = pool.clone();
        assert!(pool.idle().is_empty());
        let (one, two) = (pool.take(), clone.take());
        drop(one);
        let again = clone.take();
        assert!(pool.idle().is_empty());
        drop((two, again));
        assert_eq!(pool.idle().len(), 2);
    }

    #[test]
    fn handles_can_be_sent_and_shared() {
        fn check<T: Send + Sync + Clone + 'static>() {}
        check::<DeciderPool>();
        check::<crate::OwnedDecision>();
    }
}
