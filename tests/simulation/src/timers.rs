//! Timers by the simulated clock.

use std::sync::{Arc, Mutex, PoisonError};

/// Things that become due by the simulated clock. Cheap to clone.
#[derive(Debug)]
pub(crate) struct Timers<T>(Arc<Mutex<Vec<(u64, T)>>>);

impl<T> Clone for Timers<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Timers<T> {
    fn with<R>(&self, f: impl FnOnce(&mut Vec<(u64, T)>) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets a timer for `at`, in milliseconds since the epoch.
    pub(crate) fn set(&self, at: u64, what: T) {
        self.with(|timers| timers.push((at, what)));
    }

    /// Takes what is due at `now`, in the order in which it became due.
    pub(crate) fn due(&self, now: u64) -> Vec<T> {
        self.with(|timers| {
            timers.sort_by_key(|(at, _)| *at);
            let count = timers.partition_point(|(at, _)| *at <= now);
            timers.drain(..count).map(|(_, what)| what).collect()
        })
    }

    /// The time of the next timer for something that is still wanted.
    pub(crate) fn next(&self, wanted: impl Fn(&T) -> bool) -> Option<u64> {
        self.with(|timers| {
            let wanted = timers.iter().filter(|(_, what)| wanted(what));
            wanted.map(|(at, _)| *at).min()
        })
    }
}
