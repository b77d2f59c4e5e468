//! The ends of a run: the one funnel for failures, the stop, and the end that is well.

use crate::{
    Audit, AuditAction, BlockChange, Deaths, Effect, Ended, FailureKind, Outcome, Run, Status,
    StopMark, Timestamp,
};

/// Fails the run. The first failure wins: a terminal run stays what it is. Nothing else marks a run failed.
pub fn fail(
    run: &mut Run,
    kind: FailureKind,
    message: &str,
    detail: Option<&str>,
    now: Timestamp,
) -> Outcome {
    if run.head.status.is_terminal() {
        return Outcome::Noop;
    }
    let live: Vec<_> = run.step.live_jobs().collect();
    live.into_iter().for_each(|job| run.reap(job));
    run.head.failure = Some(run.head.failure_of(kind, message, detail, now));
    end(run, Status::Failed, Ended::Failed, now)
}

/// Ends a run that carries the mark of a stop. Of a terminal run nothing changes.
pub fn stop(run: &mut Run, mark: &StopMark, now: Timestamp) -> Outcome {
    if run.head.status.is_terminal() {
        return Outcome::Noop;
    }
    run.effects.push(Effect::Audit(Audit {
        at: mark.at,
        actor: mark.actor.clone(),
        action: AuditAction::Stop,
        subject: run.head.id.to_string(),
        reason: mark.reason.clone(),
        digest: None,
    }));
    let reason = mark.reason.as_deref().unwrap_or("stopped on request");
    fail(run, FailureKind::Cancelled, reason, None, now)
}

/// Ends the run well, at the end of its last step.
pub(crate) fn end_well(run: &mut Run, now: Timestamp) -> Outcome {
    end(run, Status::Done, Ended::Done, now);
    Outcome::Done
}

fn end(run: &mut Run, status: Status, ended: Ended, now: Timestamp) -> Outcome {
    run.head.status = status;
    run.head.finished_at = Some(now);
    run.head.stop = None;
    run.head.driver = Deaths::default();
    run.effects.push(Effect::Block(BlockChange::Ended(ended)));
    Outcome::Noop
}
