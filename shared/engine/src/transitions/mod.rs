//! The transitions: one idea each, all on a [`Run`].

mod advance;
mod answer;
mod driver;
mod end;
mod poll_gate;
mod poll_job;
mod record;
mod start;

pub use advance::advance;
pub use answer::{Refused, Reply, answer};
pub use driver::{DRIVER_DEATHS, driver_died, hand_over};
pub use end::{fail, fail_outcome, stop, stop_marked};
pub use poll_gate::{GateAnswer, begin_probe, next_probe, poll_gate};
pub use poll_job::{JobAnswer, UNREADABLE_LIMIT, poll_job};
pub use record::{AgentAnswer, record};
pub use start::{NewRun, Segment, restart, retry, start};

use std::sync::Arc;

use crate::{
    Activity, Changes, Head, JobId, Outcome, Plan, Role, RunId, Status, Step, StepIndex, StepSpec,
    Timestamp,
};

/// A run as a transition sees it: its head, the step it is at, its plan, and what the transition wants besides.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Where it stands.
    pub head: Head,
    /// The step it is at.
    pub step: Step,
    /// What it does.
    pub plan: Arc<Plan>,
    /// What is wanted since the last commit.
    pub changes: Changes,
}

/// A transition that the run's state does not allow, and that has changed nothing. Either the caller did not look first,
/// or the record is one that no transition can have left behind: it was damaged, or written by a newer release.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("run {run} cannot {event}: it is {status} at step {step}{activity}; {expected}")]
pub struct Illegal {
    run: RunId,
    event: &'static str,
    status: Status,
    step: StepIndex,
    activity: String,
    expected: &'static str,
}

impl Illegal {
    /// Of a run of which only the head is known.
    fn of(event: &'static str, head: &Head, expected: &'static str) -> Self {
        Self {
            run: head.id.clone(),
            event,
            status: head.status,
            step: head.current,
            activity: String::new(),
            expected,
        }
    }
}

impl Run {
    /// A run as it was loaded.
    pub fn new(head: Head, step: Step, plan: Arc<Plan>) -> Self {
        Self {
            head,
            step,
            plan,
            changes: Changes::default(),
        }
    }

    pub(crate) fn illegal(&self, event: &'static str, expected: &'static str) -> Illegal {
        Illegal {
            activity: format!(", which is {}", self.step.activity.name()),
            ..Illegal::of(event, &self.head, expected)
        }
    }

    /// What the present step is to do.
    pub fn spec(&self) -> Result<&StepSpec, Illegal> {
        self.plan
            .step(self.head.current)
            .ok_or_else(|| self.illegal("read its plan", "the plan has no such step"))
    }

    /// What the run waits for or does, as an outcome.
    pub fn outcome(&self) -> Outcome {
        use Status::{Blocked, Done, Failed, Paused, Running};
        match (self.head.status, &self.step.activity) {
            (Done | Failed, _) => Outcome::Noop,
            (Paused, _) => Outcome::Paused,
            (_, Activity::Deciding { decision }) => Outcome::AwaitingDecision {
                decision: decision.clone(),
            },
            (_, Activity::Approving { approval }) => Outcome::AwaitingDecision {
                decision: approval.clone(),
            },
            (_, Activity::Job(job)) => Outcome::AwaitingJob {
                job: job.id.clone(),
                step: self.head.current,
            },
            (_, Activity::Checking(_)) => Outcome::AwaitingGate {
                step: self.head.current,
            },
            (Running | Blocked, Activity::Pending | Activity::Inline | Activity::Done) => {
                Outcome::Continue
            }
        }
    }

    /// Raises the attempt and derives the job's id from it.
    fn next_job(&mut self, role: Role) -> JobId {
        self.step.attempt += 1;
        JobId::derive(&self.head.id, self.head.current, self.step.attempt, role)
    }

    /// Sends a job for the present step. It is started once this is durable.
    fn dispatch(&mut self, role: Role, now: Timestamp) -> Result<Outcome, Illegal> {
        let deadline = now.plus(self.spec()?.budgets.job());
        let id = self.next_job(role);
        self.step.activity = Activity::Job(crate::Job { id, role, deadline });
        Ok(self.outcome())
    }

    /// Sends a gate's probe. It is started once this is durable.
    fn look(&mut self) -> Outcome {
        let probe = self.next_job(Role::Probe);
        self.step.activity = Activity::Checking(crate::Checking { probe: Some(probe) });
        self.outcome()
    }

    /// Leaves the finished step for the next one.
    fn move_on(&mut self) -> Result<(), Illegal> {
        let next = StepIndex(self.head.current.0 + 1);
        let kind = self
            .plan
            .step(next)
            .ok_or_else(|| self.illegal("move on", "there is no next step"))?
            .agent_kind
            .clone();
        let left = std::mem::replace(&mut self.step, Step::pending(next, kind, self.head.epoch));
        self.changes.left.push(left);
        self.head.current = next;
        self.head.deaths = 0;
        Ok(())
    }
}
