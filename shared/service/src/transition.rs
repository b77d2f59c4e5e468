//! Transitions that may need the record of an earlier step.

use towpath_engine::{Illegal, Outcome, Phase, Run, Status, Timestamp, advance};
use towpath_store::Store;

use crate::Error;

/// Does a transition on a copy of the run, and returns what it made of it. A run that goes back to a step of an earlier
/// round gets that step's record first.
pub(crate) async fn apply(
    store: &Store,
    run: &Run,
    transition: impl Fn(&mut Run) -> Result<Outcome, Illegal> + Send,
) -> Result<Run, Error> {
    let mut with_records = run.clone();
    loop {
        let mut after = with_records.clone();
        let Outcome::NeedsRecord { step } = transition(&mut after)? else {
            return Ok(after);
        };
        let record = store.step_left(&run.head.id, step).await?;
        with_records = with_records.with_record(step, record);
    }
}

/// Begins the next step, if the one before has just ended: its end and the intent of the next are one commit, which is
/// half the writes, and one crash less to think of.
pub(crate) fn begin_next(
    run: &mut Run,
    outcome: Outcome,
    now: Timestamp,
) -> Result<Outcome, Illegal> {
    let needs_record = matches!(outcome, Outcome::NeedsRecord { .. });
    if !needs_record && run.head.status == Status::Running && run.step.phase == Phase::Pending {
        return advance(run, now);
    }
    Ok(outcome)
}

/// Whether two states of a run differ in anything that is written.
pub(crate) fn differ(before: &Run, after: &Run) -> bool {
    before.head != after.head || before.step != after.step || before.effects != after.effects
}

/// Whether the run has a call that it did not have before.
pub(crate) fn has_new_call(before: &Run, after: &Run) -> bool {
    let id = |run: &Run| {
        let call = run.step.call().or(run.step.asking_call());
        call.map(|call| call.id.clone())
    };
    after.step.call().is_some() && id(after) != id(before)
}
