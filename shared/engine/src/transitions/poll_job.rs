//! Poll job: what became of the job the run waits for.

use super::{AgentAnswer, Illegal, Run, record};
use crate::{Activity, FailureKind, Job, Outcome, Role, Status, Timestamp};

/// What a job's runtime says.
#[derive(Clone, Debug, PartialEq)]
pub enum JobAnswer {
    /// It is at work, or about to be.
    Running,
    /// It did its work.
    Done(AgentAnswer),
    /// It ended badly.
    Failed {
        /// The class of failure.
        kind: FailureKind,
        /// What happened.
        error: String,
        /// More of it.
        detail: Option<String>,
    },
    /// Its place was taken away. By the runtime's own word, never guessed from a message.
    Evicted {
        /// Whether the infrastructure announced it, or what ran the job just died.
        transient: bool,
        /// What happened.
        error: String,
    },
    /// Its runtime could not say.
    Unreadable(String),
}

/// Evictions of either kind that are borne before the step fails.
const CRASHES: u32 = 1;
const TRANSIENT: u32 = 5;

/// Unreadable answers in a row before the step fails.
pub const UNREADABLE_LIMIT: u32 = 6;

/// Folds what the runtime says of the present step's job into the run. To a terminal run it comes too late.
///
/// # Errors
/// If the run waits for no job.
pub fn poll_job(run: &mut Run, answer: JobAnswer, now: Timestamp) -> Result<Outcome, Illegal> {
    let job = match (run.head.status, &run.step.activity) {
        (Status::Done | Status::Failed, _) => return Ok(Outcome::Noop),
        (Status::Running, Activity::Job(job)) => job.clone(),
        _ => return Err(run.illegal("poll its job", "it waits for no job")),
    };
    if !matches!(answer, JobAnswer::Unreadable(_)) && run.step.unreadable > 0 {
        run.step.unreadable = 0;
    }
    match answer {
        JobAnswer::Running if now >= job.deadline => Ok(out_of_time(&job, run)),
        JobAnswer::Running => Ok(run.outcome()),
        JobAnswer::Evicted { transient, error } => evicted(run, &job, transient, error, now),
        JobAnswer::Unreadable(_) if now >= job.deadline => Ok(out_of_time(&job, run)),
        JobAnswer::Unreadable(error) => Ok(unreadable(run, error)),
        // A helper's own result is ignored: the probe says whether it helped.
        JobAnswer::Done(_) | JobAnswer::Failed { .. } if job.role == Role::Helper => {
            Ok(look_again(run, now))
        }
        JobAnswer::Done(answer) => record(run, answer, now),
        JobAnswer::Failed {
            kind,
            error,
            detail,
        } => Ok(Outcome::JobFailed {
            kind,
            error,
            detail,
        }),
    }
}

fn out_of_time(job: &Job, run: &Run) -> Outcome {
    let minutes = run
        .spec()
        .map_or(0, |spec| spec.budgets.job().as_secs() / 60);
    Outcome::JobFailed {
        kind: FailureKind::Timeout,
        error: format!(
            "the job {} did not end within its {minutes} minutes and was stopped",
            job.id
        ),
        detail: None,
    }
}

fn evicted(
    run: &mut Run,
    job: &Job,
    transient: bool,
    error: String,
    now: Timestamp,
) -> Result<Outcome, Illegal> {
    let evictions = &mut run.step.evictions;
    let (count, budget) = if transient {
        (&mut evictions.transient, TRANSIENT)
    } else {
        (&mut evictions.crashes, CRASHES)
    };
    if *count < budget {
        *count += 1;
        // The old job may not be as gone as it looks.
        run.changes.reap.push(job.id.clone());
        run.dispatch(job.role, now)?;
        return Ok(Outcome::Continue);
    }
    Ok(match job.role {
        Role::Helper => {
            run.changes.reap.push(job.id.clone());
            look_again(run, now)
        }
        Role::Main | Role::Probe => Outcome::JobEvicted {
            error,
            detail: None,
        },
    })
}

/// The helper's turn is over, however it went: the probe says whether it helped. What it changed must be looked at from
/// the start, and its time was not the gate's, so the polling budget begins anew.
fn look_again(run: &mut Run, now: Timestamp) -> Outcome {
    if let Some(gate) = run.step.gate.as_mut() {
        gate.since = now;
    }
    run.look()
}

fn unreadable(run: &mut Run, error: String) -> Outcome {
    run.step.unreadable += 1;
    if run.step.unreadable < UNREADABLE_LIMIT {
        return run.outcome();
    }
    Outcome::JobFailed {
        kind: FailureKind::Timeout,
        error: format!("the job's status could not be read {UNREADABLE_LIMIT} times in a row"),
        detail: Some(error),
    }
}
