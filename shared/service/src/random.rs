//! Randomness: the system's, or a sequence that a test can repeat.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use towpath_engine::{RunId, Timestamp};

/// A source of random numbers: for ids, and for pauses after lost races. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Random(Option<Arc<Mutex<u64>>>);

impl Random {
    /// The system's randomness.
    pub fn system() -> Self {
        Self(None)
    }

    /// The sequence of numbers that this seed begins.
    pub fn seeded(seed: u64) -> Self {
        Self(Some(Arc::new(Mutex::new(seed))))
    }

    /// The next number.
    pub fn next(&self) -> u64 {
        let Some(state) = &self.0 else {
            // A system without randomness has worse trouble than two equal pauses: ids also hold the time.
            return getrandom::u64().unwrap_or_default();
        };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        // SplitMix64: one addition and a mix, which is enough to spread pauses and to tell ids apart.
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// An id for a run that is accepted now.
    pub(crate) fn run_id(&self, now: Timestamp) -> RunId {
        let random = u128::from(self.next()) << 64 | u128::from(self.next());
        let ulid = ulid::Ulid::from_parts(now.0, random);
        // A ULID's text is what a run id takes, so the second form is never needed.
        RunId::from_ulid(&ulid.to_string()).unwrap_or_else(|_| self.run_id(now))
    }

    /// Counts lost races, up to `most` of them.
    pub(crate) fn races(&self, most: u32) -> Races {
        Races {
            lost: 0,
            most,
            random: self.clone(),
        }
    }
}

/// The number of races after which what was tried is given up or left to others.
pub(crate) const RACES: u32 = 20;

/// A count of lost races: whoever loses one waits a little longer each time, and never as long as another who met it.
pub(crate) struct Races {
    lost: u32,
    most: u32,
    random: Random,
}

impl Races {
    /// The number of races lost so far.
    pub(crate) fn lost(&self) -> u32 {
        self.lost
    }

    /// Whether to try again, after a pause, when a try came to this.
    pub(crate) async fn again<T>(&mut self, tried: &Result<T, crate::Error>) -> bool {
        let conflict = matches!(
            tried,
            Err(crate::Error::Store(towpath_store::Error::Conflict))
        );
        if !conflict || self.lost >= self.most {
            return false;
        }
        self.lost += 1;
        let spread = u64::from(4 * self.lost.min(16) + 1);
        tokio::time::sleep(Duration::from_millis(self.random.next() % spread)).await;
        true
    }
}
