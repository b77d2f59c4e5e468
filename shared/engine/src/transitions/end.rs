//! The one funnel for failures, and the stop.

use super::Run;
use crate::{Audit, Ended, FailureKind, Outcome, Say, Status, Timestamp};

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
    run.changes.reap.extend(run.step.live_job().cloned());
    run.head.status = Status::Failed;
    run.head.stop = None;
    run.head.failure = Some(run.head.failure_of(kind, message, detail, now));
    run.head.finished_at = Some(now);
    run.changes.block.ended = Some(Ended::Failed);
    Outcome::Noop
}

/// Takes an outcome that reports a failure to [`fail`]; hands any other on.
pub fn fail_outcome(run: &mut Run, outcome: Outcome, now: Timestamp) -> Outcome {
    match outcome {
        Outcome::JobFailed {
            kind,
            error,
            detail,
        } => fail(run, kind, &error, detail.as_deref(), now),
        Outcome::JobEvicted { error, detail } => {
            fail(run, FailureKind::Evicted, &error, detail.as_deref(), now)
        }
        other => other,
    }
}

/// Ends a run that carries the mark of a stop, whatever it is at. A run without the mark, or one that is terminal, stays
/// what it is.
pub fn stop_marked(run: &mut Run, now: Timestamp) -> Outcome {
    let Some(mark) = run.head.stop.clone() else {
        return Outcome::Noop;
    };
    let outcome = stop(run, &mark.actor, mark.reason.as_deref(), now);
    if let Some(audit) = run.changes.audit.as_mut() {
        audit.at = mark.at;
    }
    outcome
}

/// Stops the run, whatever it is at. Of a terminal run nothing changes.
pub fn stop(run: &mut Run, actor: &str, reason: Option<&str>, now: Timestamp) -> Outcome {
    if run.head.status.is_terminal() {
        return Outcome::Noop;
    }
    run.changes.audit = Some(Audit {
        at: now,
        actor: actor.to_owned(),
        action: Say::Stop,
        subject: run.head.id.to_string(),
        reason: reason.map(|words| crate::run::shorten(words, 1024)),
        digest: None,
    });
    fail(
        run,
        FailureKind::Cancelled,
        reason.unwrap_or("stopped on request"),
        None,
        now,
    )
}
