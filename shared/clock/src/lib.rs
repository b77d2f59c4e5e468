//! Time, told by the system or by a test.
//!
//! Everything in Towpath that asks for the time or waits for it does so through a [`Clock`], so that a test can let a
//! day pass in a moment and nothing depends on how fast the machine is.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

/// A source of time: the system's, or one that only moves when a test says so.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<watch::Sender<u64>>),
}

impl Clock {
    /// The machine's own clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still at `millis` since the Unix epoch until [`Clock::advance`] moves it.
    pub fn manual(millis: u64) -> Self {
        Self(Source::Manual(Arc::new(watch::Sender::new(millis))))
    }

    /// Milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> u64 {
        match &self.0 {
            Source::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| {
                    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
                }),
            Source::Manual(now) => *now.borrow(),
        }
    }

    /// Moves a manual clock forward and wakes whoever sleeps until then. The system's clock is not ours to move: there
    /// this does nothing.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(now) = &self.0 {
            now.send_modify(|millis| *millis += u64::try_from(by.as_millis()).unwrap_or(u64::MAX));
        }
    }

    /// Returns when the clock shows `millis` or later.
    pub async fn sleep_until(&self, millis: u64) {
        match &self.0 {
            Source::System => {
                // A wall clock may be set back while we sleep, so look again.
                while let Some(left) = millis.checked_sub(self.now_ms()).filter(|left| *left > 0) {
                    tokio::time::sleep(Duration::from_millis(left)).await;
                }
            }
            Source::Manual(now) => {
                // The sender lives in `self`, so the wait cannot end early.
                let _ = now.subscribe().wait_for(|shown| *shown >= millis).await;
            }
        }
    }

    /// Returns after `duration` of this clock's time.
    pub async fn sleep(&self, duration: Duration) {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.sleep_until(self.now_ms().saturating_add(millis)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_clock_wakes_its_sleepers_only_when_it_is_moved_far_enough() {
        let clock = Clock::manual(1_000);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until(61_000).await }
        });
        clock.advance(Duration::from_secs(59));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(Duration::from_secs(1));
        sleeper.await.unwrap();
        assert_eq!(clock.now_ms(), 61_000);
    }
}
