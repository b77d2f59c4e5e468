//! A run as a transition sees it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{
    Call, Effect, Head, JobId, JobRef, Kind, Outcome, Phase, Plan, Role, RunId, Status, Step,
    StepIndex, StepSpec, Timestamp,
};

/// A run: its head, the step it is at, its plan, and the effects that the transitions since the last commit want.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The record of where the run stands.
    pub head: Head,
    /// The record of the step the run is at.
    pub step: Step,
    /// The steps the run executes.
    pub plan: Arc<Plan>,
    /// The effects wanted since the last commit.
    pub effects: Vec<Effect>,
    /// Records of other steps that a loop needs; `None`: there is none.
    records: BTreeMap<StepIndex, Option<Step>>,
}

/// A transition that the run's state does not allow, and that has changed nothing. Either the caller did not look first,
/// or the record is one that no transition can have left behind: it was damaged, or written by a newer release. Only
/// where a kind of step wants what cannot be done, the run that was tried on may be half changed and is to be dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("run {run} cannot {event}: it is {status} at step {step}{phase}; {expected}")]
pub struct Illegal {
    run: RunId,
    event: &'static str,
    status: Status,
    step: StepIndex,
    phase: String,
    expected: &'static str,
}

impl Illegal {
    /// Describes a transition of a run of which only the head is known.
    pub(crate) fn of(event: &'static str, head: &Head, expected: &'static str) -> Self {
        Self {
            run: head.id.clone(),
            event,
            status: head.status,
            step: head.current,
            phase: String::new(),
            expected,
        }
    }
}

impl Run {
    /// Makes a run of its records.
    pub fn new(head: Head, step: Step, plan: Arc<Plan>) -> Self {
        Self {
            head,
            step,
            plan,
            effects: Vec::new(),
            records: BTreeMap::new(),
        }
    }

    /// Adds the record of another step, or that there is none: the answer to [`Outcome::NeedsRecord`].
    #[must_use]
    pub fn with_record(mut self, index: StepIndex, record: Option<Step>) -> Self {
        self.records.insert(index, record);
        self
    }

    /// The record of the step at this place, as far as it is here: the present one, or one that was added.
    pub(crate) fn record(&self, index: StepIndex) -> Option<&Step> {
        if index == self.head.current {
            return Some(&self.step);
        }
        self.records.get(&index)?.as_ref()
    }

    /// The record of another step, once it was added.
    pub(crate) fn take_record(&mut self, index: StepIndex) -> Option<Option<Step>> {
        self.records.remove(&index)
    }

    pub(crate) fn illegal(&self, event: &'static str, expected: &'static str) -> Illegal {
        Illegal {
            phase: format!(", which is {}", self.step.phase.name()),
            ..Illegal::of(event, &self.head, expected)
        }
    }

    /// The definition of the present step.
    ///
    /// # Errors
    /// If the plan has no such step.
    pub fn spec(&self) -> Result<&StepSpec, Illegal> {
        self.plan
            .step(self.head.current)
            .ok_or_else(|| self.illegal("read its plan", "the plan has no such step"))
    }

    /// The kind of the present step.
    ///
    /// # Errors
    /// If the plan has no such step, or no kind claims it.
    pub fn kind(&self) -> Result<&'static dyn Kind, Illegal> {
        self.plan
            .kind(self.head.current)
            .ok_or_else(|| self.illegal("read its plan", "no kind claims the step"))
    }

    /// The outcome that the run's present phase stands for.
    pub fn outcome(&self) -> Outcome {
        let step = self.head.current;
        match (self.head.status, &self.step.phase) {
            (Status::Done | Status::Failed, _) => Outcome::Noop,
            (Status::Paused, _) => Outcome::Paused,
            (_, Phase::Asking(asked)) => Outcome::AwaitingDecision {
                decision: asked.subject.clone(),
            },
            (_, Phase::Calling(call)) if call.held.is_none() => Outcome::AwaitingJob {
                job: call.id.clone(),
                step,
            },
            (_, Phase::Calling(_) | Phase::Resting(_)) => Outcome::AwaitingGate { step },
            (_, Phase::Pending | Phase::Done) => Outcome::Continue,
        }
    }

    /// Enters a phase. That is progress, so the drivers that died before it are forgotten.
    pub(crate) fn enter(&mut self, phase: Phase) {
        self.step.enter(phase);
        self.head.driver = crate::Deaths::default();
        self.head.status = match self.step.phase {
            Phase::Asking(_) => Status::Blocked,
            _ => Status::Running,
        };
    }

    /// Enters a call of this role. It is made once this is durable.
    pub(crate) fn call(
        &mut self,
        role: Role,
        deadline: Timestamp,
        now: Timestamp,
    ) -> Result<Outcome, Illegal> {
        let runtime = self
            .kind()?
            .work(self.spec()?, role)
            .ok_or_else(|| self.illegal("make a call", "its kind names no work for this role"))?
            .runtime()
            .to_owned();
        let number = self.head.next_number();
        self.step.attempt += 1;
        self.step.epoch = self.head.epoch;
        self.step.start_clock(now);
        self.step.unreadable = crate::Unreadable::default();
        self.enter(Phase::Calling(Call {
            id: JobId::derive(&self.head.id, number),
            role,
            runtime,
            deadline,
            held: None,
        }));
        Ok(self.outcome())
    }

    /// Goes on with a call that had asked a human. The time that it waited is none of its budget.
    pub(crate) fn go_on(&mut self, call: Call, asked_at: Timestamp, now: Timestamp) -> Outcome {
        let deadline = call.deadline.plus(now.since(asked_at));
        self.step.paused_at = None;
        self.enter(Phase::Calling(Call { deadline, ..call }));
        self.outcome()
    }

    /// Names the runtime of the present call, if the pipeline leaves that to the deployment: what it is, is on record
    /// with the call, so that it can be found there whatever becomes of the deployment.
    pub fn place_call(&mut self, commands: &str) {
        if let Phase::Calling(call) = &mut self.step.phase
            && call.runtime == crate::ANY_RUNTIME
        {
            call.runtime = commands.to_owned();
        }
    }

    /// Wants a job gone, once.
    pub(crate) fn reap(&mut self, job: JobRef) {
        let wanted = Effect::Reap(job);
        if !self.effects.contains(&wanted) {
            self.effects.push(wanted);
        }
    }

    /// Leaves the finished step for the next one. In a run that has gone back before, the next step may have a record of
    /// an earlier round, which is needed first.
    pub(crate) fn move_on(&mut self) -> Result<Outcome, Illegal> {
        let next = StepIndex(self.head.current.0 + 1);
        let spec = self.plan.step(next);
        let kind = spec
            .ok_or_else(|| self.illegal("move on", "there is no next step"))?
            .agent_kind
            .clone();
        let record = match self.head.epoch {
            0 => None,
            _ => match self.take_record(next) {
                None => return Ok(Outcome::NeedsRecord { step: next }),
                Some(record) => record,
            },
        };
        let step = match record {
            None => Step::pending(next, kind, self.head.epoch),
            Some(step) => step.again(self.head.epoch),
        };
        self.leave_for(step);
        Ok(Outcome::Continue)
    }

    /// Leaves the present step for another, at its beginning.
    pub(crate) fn leave_for(&mut self, step: Step) {
        self.head.current = step.index;
        let left = std::mem::replace(&mut self.step, step);
        self.effects.push(Effect::StepLeft(Box::new(left)));
        self.enter(Phase::Pending);
    }
}
