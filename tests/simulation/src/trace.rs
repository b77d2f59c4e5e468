//! The trace of a simulation: its last events, and the first violation of an invariant.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// The last events, and the first violation. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    events: VecDeque<String>,
    count: u64,
    violation: Option<String>,
}

/// The number of events that are kept.
const KEPT: usize = 120;

impl Trace {
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes an event.
    pub(crate) fn note(&self, event: impl Into<String>) {
        self.with(|state| {
            if state.violation.is_some() {
                return;
            }
            state.count += 1;
            if state.events.len() == KEPT {
                state.events.pop_front();
            }
            let event = format!("{:>5} {}", state.count, event.into());
            state.events.push_back(event);
        });
    }

    /// Notes that an invariant does not hold. The first one counts.
    pub(crate) fn violated(&self, what: impl Into<String>) {
        self.with(|state| {
            state.violation.get_or_insert(what.into());
        });
    }

    /// The violation, with the events that led there.
    pub(crate) fn violation(&self) -> Option<String> {
        self.with(|state| {
            let what = state.violation.clone()?;
            let events: Vec<_> = state.events.iter().cloned().collect();
            Some(format!("{}\n\nVIOLATED: {what}", events.join("\n")))
        })
    }

    /// The number of events so far.
    pub(crate) fn count(&self) -> u64 {
        self.with(|state| state.count)
    }
}
