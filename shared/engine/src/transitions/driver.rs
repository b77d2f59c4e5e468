//! Drivers: the executions that move a run.

use super::{Run, fail};
use crate::{FailureKind, Outcome, Timestamp};

/// Drivers that may die one after the other without progress before the run is failed.
pub const DRIVER_DEATHS: u32 = 3;

/// Gives the run to its next execution: the present one is near what one execution may be. A terminal run needs none.
pub fn hand_over(run: &mut Run) {
    if !run.head.status.is_terminal() {
        run.head.generation += 1;
    }
}

/// The execution that drove the run has died. The run gets another, unless too many died without progress.
pub fn driver_died(run: &mut Run, error: &str, now: Timestamp) -> Outcome {
    if run.head.status.is_terminal() {
        return Outcome::Noop;
    }
    run.head.deaths += 1;
    if run.head.deaths >= DRIVER_DEATHS {
        let message =
            format!("its driver died {DRIVER_DEATHS} times without progress, last of {error}");
        return fail(run, FailureKind::Unknown, &message, None, now);
    }
    run.head.generation += 1;
    Outcome::Continue
}
