//! Advance: one step action.

use super::{Illegal, Run};
use crate::{Activity, Binding, Gate, Outcome, Role, Status, Timestamp};

/// Performs at most one action of the present step. A run that waits keeps waiting: a driver that re-enters re-parks
/// it and never ends it.
///
/// # Errors
/// If the records contradict each other.
pub fn advance(run: &mut Run, now: Timestamp) -> Result<Outcome, Illegal> {
    match (run.head.status, &run.step.activity) {
        (Status::Running, Activity::Pending) => begin(run, now),
        (Status::Running, Activity::Done) => {
            Err(run.illegal("a finished step is moved on from when it finishes"))
        }
        _ => Ok(run.outcome()),
    }
}

fn begin(run: &mut Run, now: Timestamp) -> Result<Outcome, Illegal> {
    run.step.start_clock(now);
    run.step.epoch = run.head.epoch;
    let spec = run.spec()?;
    match (&spec.gate, &spec.runtime) {
        (Some(gate), _) => {
            let max_attempts = if gate.helper.is_some() {
                gate.attempts
            } else {
                0
            };
            let revised = run.step.revision.is_some() && gate.helper.is_some();
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
        (None, Some(Binding::Process(_))) => run.dispatch(Role::Main, now),
        (None, Some(Binding::Simulated(_))) => {
            run.step.attempt += 1;
            run.step.activity = Activity::Inline;
            Ok(run.outcome())
        }
        (None, None) => Err(run.illegal("its step has neither a runtime nor a gate")),
    }
}
