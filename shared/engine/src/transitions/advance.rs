//! Advance: one step action.

use super::{Illegal, Run};
use crate::{Activity, Binding, Gate, Outcome, Role, Status, Timestamp};

/// Performs at most one action of the present step. A run that waits keeps waiting: a driver that re-enters re-parks
/// it and never ends it.
///
/// # Errors
/// If the records contradict each other.
pub fn advance(run: &mut Run, now: Timestamp) -> Result<Outcome, Illegal> {
    use Activity::{Approving, Checking, Deciding, Done, Inline, Job, Pending};
    match (run.head.status, &run.step.activity) {
        (Status::Done | Status::Failed | Status::Paused, _)
        | (Status::Running, Inline | Job(_) | Checking(_))
        | (Status::Blocked, Deciding { .. } | Approving { .. }) => Ok(run.outcome()),
        (Status::Running, Pending) => begin(run, now),
        (Status::Running, Done) => Err(run.illegal(
            "advance",
            "a finished step is moved on from when it finishes",
        )),
        (Status::Running, Deciding { .. } | Approving { .. }) => {
            Err(run.illegal("advance", "a run that waits for a human is blocked"))
        }
        (Status::Blocked, Pending | Inline | Job(_) | Checking(_) | Done) => {
            Err(run.illegal("advance", "a blocked run waits for a human"))
        }
    }
}

fn begin(run: &mut Run, now: Timestamp) -> Result<Outcome, Illegal> {
    let spec = run.spec()?;
    match (&spec.gate, &spec.runtime) {
        (Some(gate), _) => {
            let max_attempts = if gate.helper.is_some() {
                gate.attempts_of(&spec.agent_kind)
            } else {
                0
            };
            let revised = run.step.revision.is_some() && gate.helper.is_some();
            open(run, now);
            run.step.gate = Some(Gate {
                max_attempts,
                since: now,
                ..Gate::default()
            });
            if revised {
                // A human sent the gate's result back: whoever can mend it is the helper, at no cost to its attempts.
                return run.dispatch(Role::Helper, now);
            }
            Ok(run.look())
        }
        (None, Some(Binding::Process(_))) => {
            open(run, now);
            run.dispatch(Role::Main, now)
        }
        (None, Some(Binding::Simulated(_))) => {
            open(run, now);
            run.step.attempt += 1;
            run.step.activity = Activity::Inline;
            Ok(run.outcome())
        }
        (None, None) => Err(run.illegal("advance", "its step has neither a runtime nor a gate")),
    }
}

/// Work on the step begins, or goes on after a human's answer.
fn open(run: &mut Run, now: Timestamp) {
    run.step.start_clock(now);
    run.step.epoch = run.head.epoch;
}
