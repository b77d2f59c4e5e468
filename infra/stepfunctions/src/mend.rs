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

use crate::drive::Driver;
use crate::error::Error;

/// The pause after the first try that failed. It doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between two tries. A store that fails again before it worked for this long is the same trouble.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a store may be unusable before its owner is told.
const PATIENCE: Duration = Duration::from_secs(60);

/// Opens the store again whenever `failed` says that it failed, until the driver is gone or closed.
pub(crate) async fn mend(driver: Weak<Driver>, clock: Clock, failed: Arc<Notify>) {
    let mut pause = Duration::ZERO;
    let (mut since_ms, mut mended_ms) = (0, None);
    loop {
        failed.notified().await;
        if mended_ms.is_none_or(|mended| is_over(LONGEST_PAUSE, mended, &clock)) {
            pause = Duration::ZERO;
            since_ms = clock.now_ms();
        }
        loop {
            clock.sleep(pause).await;
            pause = (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            let Some(driver) = driver.upgrade() else {
                return;
            };
            match driver.reopen().await {
                Ok(()) => break,
                Err(Error::Closed) => return,
                Err(error) if is_over(PATIENCE, since_ms, &clock) => driver.give_up(&error),
                Err(_) => {}
            }
        }
        mended_ms = Some(clock.now_ms());
    }
}

fn is_over(duration: Duration, since_ms: u64, clock: &Clock) -> bool {
    u128::from(clock.now_ms().saturating_sub(since_ms)) >= duration.as_millis()
}
