//! Drivers: the executions that move a run, and their deaths.

use std::time::Duration;

use super::end::fail;
use crate::policy::{death_pause, excused_pause};
use crate::{Deaths, FailureKind, Run, Timestamp};

/// The errors of a driver that are waited out: they say nothing about the run. The names are those of the machine's
/// history.
const EXCUSED: [&str; 9] = [
    "Towpath.Throttled",
    "Towpath.Unavailable",
    "Towpath.AccessDenied",
    "Towpath.Newer",
    "Lambda.TooManyRequestsException",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.AccessDeniedException",
    "Lambda.ResourceNotFoundException",
];

/// A wait of this length is progress: a driver that dies after it did not die of what the one before died of.
pub const LASTING_WAIT: Duration = Duration::from_secs(300);

/// The consequence of a driver's death for its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Died {
    /// The run gets its next driver after a pause.
    Replaced {
        /// The pause.
        after: Duration,
    },
    /// The run failed: too many of its drivers died without progress.
    Failed,
    /// The run is terminal and needs no driver.
    Noop,
}

/// Gives the run to its next execution, since the present one is near what one execution may be. A terminal run needs
/// none.
pub fn hand_over(run: &mut Run) {
    if !run.head.status.is_terminal() {
        run.head.generation += 1;
    }
}

/// Takes note that the execution that drove the run died of `error`, after a wait of this length. The run gets another
/// driver, unless too many died without progress.
pub fn driver_died(run: &mut Run, error: &str, waited: Duration, now: Timestamp) -> Died {
    if run.head.status.is_terminal() {
        return Died::Noop;
    }
    if waited >= LASTING_WAIT {
        run.head.driver = Deaths::default();
    }
    let deaths = &mut run.head.driver;
    let after = if EXCUSED.contains(&error) {
        deaths.excused += 1;
        excused_pause(deaths.excused)
    } else {
        deaths.counted += 1;
        let counted = deaths.counted;
        let Some(pause) = death_pause(counted) else {
            let message = format!(
                "{counted} of the run's drivers died one after the other without progress, the last of {error}"
            );
            fail(run, FailureKind::Unknown, &message, None, now);
            return Died::Failed;
        };
        pause
    };
    run.head.generation += 1;
    Died::Replaced { after }
}
