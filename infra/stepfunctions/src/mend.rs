//! Opening a store again after it failed.
//!
//! A disk that is full, or a file that could not be written for another reason, is often all right a moment later. Until
//! the file is open again nothing is written, and requests that would drive executions are answered with status 503.
//! Then everything goes on as it does after the death of the process. A store that stays unusable is told to whoever
//! waits for [`StepFunctions::failed`](crate::StepFunctions::failed).

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use towpath_clock::Clock;

use crate::error::Error;

/// The pause after the first try that failed. It doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between two tries. A store that fails again before it worked for this long has the same trouble.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The time that an outage may last before the owner is told.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whoever has a store that can be opened again.
pub(crate) trait Reopen: Send + Sync + Sized {
    /// Opens the store again.
    fn reopen(self: &Arc<Self>) -> impl Future<Output = Result<(), Error>> + Send;

    /// Takes note that the store has been unusable for too long.
    fn give_up(&self);

    /// Whether nothing is to be done any more.
    fn is_closed(&self) -> bool;
}

/// Opens the store again whenever `failed` says that it failed, until the driver is gone or closed.
pub(crate) async fn mend(driver: Weak<impl Reopen>, clock: Clock, failed: Arc<Notify>) {
    let (mut since_ms, mut opened_ms, mut pause) = (0, None, Duration::ZERO);
    loop {
        failed.notified().await;
        if opened_ms.is_none_or(|opened| is_over(LONGEST_PAUSE, opened, &clock)) {
            (since_ms, pause) = (clock.now_ms(), Duration::ZERO);
        } else if is_over(PATIENCE, since_ms, &clock) {
            // A store that can be opened and then not be written is as unusable as one that cannot be opened.
            driver.upgrade().inspect(|driver| driver.give_up());
        }
        loop {
            clock.sleep(pause).await;
            pause = (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            let Some(driver) = driver.upgrade() else {
                return;
            };
            if driver.reopen().await.is_ok() {
                break;
            }
            if driver.is_closed() {
                return;
            }
            if is_over(PATIENCE, since_ms, &clock) {
                driver.give_up();
            }
        }
        opened_ms = Some(clock.now_ms());
    }
}

fn is_over(duration: Duration, since_ms: u64, clock: &Clock) -> bool {
    u128::from(clock.now_ms().saturating_sub(since_ms)) >= duration.as_millis()
}
