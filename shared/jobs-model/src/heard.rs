//! What is heard of a call while it is under way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What was heard of the present try of a call.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    text: Mutex<String>,
    /// Whether the model may be at work: the call was sent, and no answer says that it was not taken.
    taken: AtomicBool,
}

impl Heard {
    fn lock(&self) -> MutexGuard<'_, String> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets everything, for the next try.
    pub(crate) fn clear(&self) {
        self.lock().clear();
        self.refused();
    }

    /// Notes that the call is sent.
    pub(crate) fn sent(&self) {
        self.taken.store(true, Ordering::Relaxed);
    }

    /// Notes that the gateway did not take the call.
    pub(crate) fn refused(&self) {
        self.taken.store(false, Ordering::Relaxed);
    }

    /// Adds a piece of the answer's text.
    pub(crate) fn add(&self, piece: &str) {
        self.lock().push_str(piece);
    }

    /// The answer's text so far.
    pub(crate) fn text(&self) -> String {
        self.lock().clone()
    }

    /// Whether the call may have cost something.
    pub(crate) fn was_taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed)
    }
}
