//! Chance: every choice of a simulation, from one seed.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// The choices of one simulation. Cheap to clone; clones share the sequence.
#[derive(Clone, Debug)]
pub(crate) struct Chance(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    rng: fastrand::Rng,
    /// The number of faults that may still happen.
    faults: u32,
    injected: u32,
}

tokio::task_local! {
    /// The signal that ends the invocation which a task is.
    static LIFE: Arc<Notify>;
}

impl Chance {
    /// The choices that this seed leads to, with at most so many faults among them.
    pub(crate) fn new(seed: u64, faults: u32) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: fastrand::Rng::with_seed(seed),
            faults,
            injected: 0,
        })))
    }

    fn with<T>(&self, choose: impl FnOnce(&mut State) -> T) -> T {
        choose(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A number below `n`.
    pub(crate) fn below(&self, n: u64) -> u64 {
        self.with(|state| state.rng.u64(..n.max(1)))
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of these.
    pub(crate) fn pick<T: Clone>(&self, of: &[T]) -> T {
        let index = self.below(of.len() as u64);
        of[usize::try_from(index).unwrap()].clone()
    }

    /// Whether a fault happens here, once in `n` times and as long as faults are left.
    pub(crate) fn fault(&self, n: u64) -> bool {
        self.with(|state| {
            let happens = state.faults > 0 && state.rng.u64(..n) == 0;
            state.faults -= u32::from(happens);
            state.injected += u32::from(happens);
            happens
        })
    }

    /// Does something during which no fault happens.
    pub(crate) async fn kindly<T>(&self, work: impl Future<Output = T>) -> T {
        let faults = self.with(|state| std::mem::take(&mut state.faults));
        let done = work.await;
        self.with(|state| state.faults = faults);
        done
    }

    /// From now on no fault happens.
    pub(crate) fn be_kind(&self) {
        self.with(|state| state.faults = 0);
    }

    /// The number of faults that have happened.
    pub(crate) fn injected(&self) -> u32 {
        self.with(|state| state.injected)
    }

    /// A point between two effects: other tasks may go first, and the invocation may die.
    pub(crate) async fn turn(&self) {
        let mortal = LIFE.try_with(Arc::clone).ok();
        if let Some(life) = mortal.filter(|_| self.fault(250)) {
            life.notify_one();
            std::future::pending::<()>().await;
        }
        match self.below(4) {
            0 => {}
            pause => tokio::time::sleep(Duration::from_millis(pause)).await,
        }
    }
}

/// Does the work of one invocation. `None`: it died at one of its turns, and nothing it held is left.
pub(crate) async fn mortal<T>(work: impl Future<Output = T>) -> Option<T> {
    let life = Arc::new(Notify::new());
    let end = Arc::clone(&life);
    LIFE.scope(life, async {
        tokio::select! {
            biased;
            () = end.notified() => None,
            done = work => Some(done),
        }
    })
    .await
}
