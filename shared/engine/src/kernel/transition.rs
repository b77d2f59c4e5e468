//! The transitions of a run: what begins, what a look at a call found, what a rest's end brings. Everything that happens
//! to a step reaches its kind as an [`Event`], and the [`Action`] that the kind takes is carried out here.

use super::end::fail;
use super::record::{ask, ask_for_call, record};
use crate::policy::{UNREADABLE_LOOKS, eviction_is_borne, unreadable_is_counted};
use crate::{
    Action, Asked, Call, CallResult, CallStatus, Context, Event, Held, Illegal, JobRef, Loss,
    LossCause, Outcome, Phase, Rest, Revision, Run, Status, Step, StepIndex, Timestamp,
};

/// Begins the present step, if nothing has happened to it yet. A run that waits keeps waiting: a driver that re-enters
/// parks it again and never ends it.
///
/// # Errors
/// If the records contradict each other.
pub fn advance(run: &mut Run, now: Timestamp) -> Result<Outcome, Illegal> {
    match (run.head.status, &run.step.phase) {
        (Status::Done | Status::Failed | Status::Paused, _)
        | (Status::Running, Phase::Calling(_) | Phase::Resting(_))
        | (Status::Blocked, Phase::Asking(_)) => Ok(run.outcome()),
        (Status::Running, Phase::Pending) => {
            run.kind()?; // Nothing begins that no kind carries on.
            run.step.start_clock(now);
            run.step.epoch = run.head.epoch;
            deliver(run, Event::Begin, now)
        }
        (Status::Running, Phase::Done) => {
            Err(run.illegal("advance", "a finished step is left when it finishes"))
        }
        (Status::Running, Phase::Asking(_)) => {
            Err(run.illegal("advance", "a run that waits for a human is blocked"))
        }
        (Status::Blocked, _) => Err(run.illegal("advance", "a blocked run waits for a human")),
    }
}

/// Folds what a look at the present call found into the run. For a terminal run it comes too late.
///
/// # Errors
/// If the run waits for no call.
pub fn poll(run: &mut Run, status: CallStatus, now: Timestamp) -> Result<Outcome, Illegal> {
    let call = match (run.head.status, &run.step.phase) {
        (Status::Done | Status::Failed, _) => return Ok(Outcome::Noop),
        (Status::Running, Phase::Calling(call)) => call.clone(),
        (Status::Blocked, Phase::Asking(asked)) if asked.call.is_some() => {
            let asked = asked.clone();
            return poll_asking(run, asked, status, now);
        }
        _ => return Err(run.illegal("poll its call", "it waits for no call")),
    };
    if !matches!(status, CallStatus::Unreadable(_)) {
        run.step.unreadable = crate::Unreadable::default();
    }
    let spent = now >= call.deadline;
    match status {
        CallStatus::Running | CallStatus::Asks(_) | CallStatus::Unreadable(_) if spent => {
            let why = call.held.as_ref().map_or_else(
                || format!("the job {} did not end within its time budget", call.id),
                |held| {
                    format!(
                        "the job {} could not start within its time budget: {}",
                        call.id, held.why
                    )
                },
            );
            lost(run, &call, LossCause::TimedOut, why, now)
        }
        CallStatus::Running => Ok(run.outcome()),
        // The answer is on its way to it.
        CallStatus::Asks(asked) if run.step.answer_to(&call.id, &asked.id).is_some() => {
            Ok(run.outcome())
        }
        CallStatus::Asks(asked) => ask_for_call(run, call, asked, now),
        CallStatus::Unreadable(why) => unreadable(run, &call, why, now),
        CallStatus::Ended(result) => {
            // The run leaves the call with this commit, so that what the call used is counted once.
            run.step.meter(result.usage());
            match result {
                CallResult::Lost(loss) => evicted(run, &call, loss, spent, now),
                result => deliver(run, Event::Called(call.role, &result), now),
            }
        }
    }
}

/// Folds what a look at a call that has asked a human found into the run. A question that it does not ask any more is
/// withdrawn: it was answered elsewhere, or its call is over.
fn poll_asking(
    run: &mut Run,
    asked: Asked,
    status: CallStatus,
    now: Timestamp,
) -> Result<Outcome, Illegal> {
    let Asked {
        subject,
        since,
        call: Some(call),
        ..
    } = asked
    else {
        return Ok(run.outcome());
    };
    let decision = run.step.decisions.iter().find(|it| it.id == subject);
    let question = decision.and_then(|it| Some(it.asked_by.as_ref()?.question.clone()));
    match &status {
        CallStatus::Unreadable(_) => Ok(run.outcome()),
        CallStatus::Asks(same) if question.as_ref() == Some(&same.id) => Ok(run.outcome()),
        _ => {
            run.step.decisions.retain(|it| it.id != subject);
            run.go_on(call, since, now);
            poll(run, status, now)
        }
    }
}

/// Counts a look that could not be read, and gives the call up after too many.
fn unreadable(run: &mut Run, call: &Call, why: String, now: Timestamp) -> Result<Outcome, Illegal> {
    if unreadable_is_counted(&run.step.unreadable, now) {
        run.step.unreadable.looks += 1;
        run.step.unreadable.last = now;
    }
    if run.step.unreadable.looks < UNREADABLE_LOOKS {
        return Ok(run.outcome());
    }
    let why =
        format!("the job's status could not be read {UNREADABLE_LOOKS} times in a row: {why}");
    lost(run, call, LossCause::Unreadable, why, now)
}

/// Calls again for a job that lost its place, within what is left of its time budget, or tells the kind of the loss.
fn evicted(
    run: &mut Run,
    call: &Call,
    loss: Loss,
    spent: bool,
    now: Timestamp,
) -> Result<Outcome, Illegal> {
    if spent || !eviction_is_borne(&mut run.step.evictions, loss.cause) {
        return lost(run, call, loss.cause, loss.message, now);
    }
    give_up(run, call);
    run.call(call.role, call.deadline, now)?;
    Ok(Outcome::Continue)
}

/// Gives the call's job up and tells the kind. The consequence is the same whoever noticed the loss.
fn lost(
    run: &mut Run,
    call: &Call,
    cause: LossCause,
    message: String,
    now: Timestamp,
) -> Result<Outcome, Illegal> {
    give_up(run, call);
    let result = CallResult::Lost(Loss {
        cause,
        message,
        usage: None,
    });
    deliver(run, Event::Called(call.role, &result), now)
}

/// The job may not be as gone as it looks: the step's next one waits until it is.
fn give_up(run: &mut Run, call: &Call) {
    run.reap(call.job_ref());
    run.step.replaces.push(call.job_ref());
}

/// Ends the rest of the present step, if it is over.
///
/// # Errors
/// If the records contradict each other.
pub fn due(run: &mut Run, now: Timestamp) -> Result<Outcome, Illegal> {
    match (run.head.status, &run.step.phase) {
        (Status::Running, Phase::Resting(rest)) if now >= rest.until => {
            deliver(run, Event::Due, now)
        }
        _ => Ok(run.outcome()),
    }
}

/// Keeps the present call back until a time: its runtime has no room, or a job that it replaces is not gone yet. For a
/// terminal run it comes too late.
///
/// # Errors
/// If the run waits for no call.
pub fn hold(
    run: &mut Run,
    pause: std::time::Duration,
    why: &str,
    now: Timestamp,
) -> Result<Outcome, Illegal> {
    let call = match (run.head.status, &mut run.step.phase) {
        (Status::Done | Status::Failed, _) => return Ok(Outcome::Noop),
        (Status::Running, Phase::Calling(call)) => call,
        _ => return Err(run.illegal("keep its call back", "it waits for no call")),
    };
    let tries = call.held.as_ref().map_or(0, |held| held.tries) + 1;
    call.held = Some(Held {
        // A call whose budget ends sooner is looked at then.
        until: now.plus(pause).min(call.deadline.max(now)),
        tries,
        why: crate::kernel::head::shorten(why, 300),
    });
    Ok(run.outcome())
}

/// Notes that the present call has started, after it was kept back. Of a terminal run nothing changes.
pub fn started(run: &mut Run) {
    if let (Status::Running, Phase::Calling(call)) = (run.head.status, &mut run.step.phase) {
        call.held = None;
    }
}

/// Notes that a job which the present call replaces is gone. Of a terminal run nothing changes.
pub fn gone(run: &mut Run, job: &JobRef) {
    if !run.head.status.is_terminal() {
        run.step.replaces.retain(|replaced| replaced != job);
    }
}

/// Hands an event to the step's kind and carries out its action.
pub(crate) fn deliver(run: &mut Run, event: Event<'_>, now: Timestamp) -> Result<Outcome, Illegal> {
    let kind = run.kind()?;
    let mut state = run.step.state.take();
    let action = kind.on_event(
        &mut Context {
            spec: run.spec()?,
            step: &run.step,
            state: &mut state,
            now,
        },
        event,
    );
    run.step.state = state;
    match action {
        Action::Call { role, deadline } => run.call(role, deadline, now),
        Action::Rest { pause, why } => {
            run.enter(Phase::Resting(Rest {
                since: now,
                until: now.plus(pause),
                why,
            }));
            Ok(run.outcome())
        }
        Action::Ask(question) => ask(run, question, now),
        Action::Finish(answer) => record(run, answer, now),
        Action::Skip { why } => {
            run.step.skipped = true;
            super::record::skip(run, &why, now)
        }
        Action::GoBack { to, revision } => go_back(run, to, revision),
        Action::Fail {
            kind,
            message,
            detail,
        } => {
            fail(run, kind, &message, detail.as_deref(), now);
            Ok(Outcome::JobFailed {
                kind,
                error: message,
            })
        }
    }
}

/// Goes back to an earlier step. Everything from there on reads as pending, with what loops keep.
fn go_back(run: &mut Run, to: StepIndex, revision: Option<Revision>) -> Result<Outcome, Illegal> {
    if to >= run.head.current {
        return Err(run.illegal("go back", "a loop leads to an earlier step"));
    }
    let spec = run.plan.step(to).map(|spec| spec.agent_kind.clone());
    let agent_kind = spec.ok_or_else(|| run.illegal("go back", "the plan has no such step"))?;
    let Some(record) = run.take_record(to) else {
        return Ok(Outcome::NeedsRecord { step: to });
    };
    run.head.epoch += 1;
    let epoch = run.head.epoch;
    let step = record.map_or_else(
        || Step::pending(to, agent_kind, epoch),
        |step| step.again(epoch),
    );
    run.leave_for(Step { revision, ..step });
    Ok(Outcome::Continue)
}
