//! Start, retry, restart: a run comes to be.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::head::{NAME_LIMIT, shorten};
use super::record::park;
use crate::{
    About, BlockId, Deaths, Decision, Head, Illegal, JobRef, Phase, Pin, Plan, Run, RunId, Status,
    Step, StepIndex, Timestamp, WorkspaceId,
};

/// The parts that a new run is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRun {
    /// The run's id, never used before.
    pub id: RunId,
    /// The workspace that owns the run.
    pub workspace: WorkspaceId,
    /// The block that the run works on.
    pub block: BlockId,
    /// The pipeline version that the run executes.
    pub pipeline: Pin,
    /// The name of the API key that starts the run.
    pub initiated_by: Option<String>,
    /// A question that a human must approve before the first step begins.
    pub approval: Option<String>,
    /// Jobs of the run whose place this one takes. The first job starts after they are gone.
    pub replaces: Vec<JobRef>,
}

/// Steps whose records another run holds: those from the previous segment's end up to `upto`, which is not one of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Segment {
    /// The first step that does not belong to the segment.
    pub upto: StepIndex,
    /// The run that holds the records.
    pub run: RunId,
}

/// Makes a run at its first step.
///
/// # Errors
/// If the plan has no step.
pub fn start(new: NewRun, plan: Arc<Plan>, now: Timestamp) -> Result<Run, Illegal> {
    let (approval, replaces) = (new.approval.clone(), new.replaces.clone());
    let mut run = at(new, plan, StepIndex(0), now)?;
    run.step.replaces = replaces;
    if let Some(question) = approval {
        ask_to_begin(&mut run, question, now);
    }
    Ok(run)
}

/// Parks the run before its first step, until a human approves that it begins.
fn ask_to_begin(run: &mut Run, question: String, now: Timestamp) {
    let id = format!("start-{}", run.head.next_number());
    run.step.decisions.push(Decision {
        id: id.clone(),
        question,
        options: vec!["approve".to_owned(), "reject".to_owned()],
        free_text: false,
        chosen: None,
        asked_by: None,
    });
    park(run, id, About::Start, now);
}

/// Makes a run that goes on where a failed one ended, at the first step that is not done. Everything else is as in
/// [`restart`].
///
/// # Errors
/// If the run has not failed.
pub fn retry(
    failed: &Run,
    new: RunId,
    actor: Option<&str>,
    now: Timestamp,
) -> Result<Run, Illegal> {
    let head = &failed.head;
    if head.status != Status::Failed {
        return Err(Illegal::of("be retried", head, "only a failed run can"));
    }
    restart(failed, head.current, new, actor, now)
}

/// Makes a run that begins again from a step of a human's choice, whatever became of the old one. What came before that
/// step stays where it is. What humans said in the step (answered decisions, requested changes) is kept, as far as its
/// record is here: that of an earlier step is, once it was added with [`Run::with_record`]. A run that nobody allowed to
/// begin asks again. Nothing starts before the old run's jobs are gone.
///
/// # Errors
/// If the old run has not come to that step yet: what is to come before it does not exist.
pub fn restart(
    old: &Run,
    from: StepIndex,
    new: RunId,
    actor: Option<&str>,
    now: Timestamp,
) -> Result<Run, Illegal> {
    let head = &old.head;
    if from > head.current {
        let expected = "it has not come to the step asked for";
        return Err(Illegal::of("be restarted", head, expected));
    }
    let new = NewRun {
        id: new,
        workspace: head.workspace.clone(),
        block: head.block.clone(),
        pipeline: head.pipeline.clone(),
        initiated_by: actor
            .map(str::to_owned)
            .or_else(|| head.initiated_by.clone()),
        approval: None,
        replaces: Vec::new(),
    };
    let mut run = at(new, Arc::clone(&old.plan), from, now)?;
    run.head.retried_from = Some(head.id.clone());
    // The count goes on, so that a decision that is kept never shares its id with a new one.
    run.head.calls = head.calls;
    run.step.replaces = old.step.live_jobs().collect();
    if let Some(record) = old.record(from) {
        keep_what_humans_said(&mut run, record, &head.id);
    }
    if let Some(question) = unanswered_start(&old.step) {
        ask_to_begin(&mut run, question, now);
    }
    Ok(run)
}

/// Takes the answered decisions and the requested changes over from the record of the same step of another run.
fn keep_what_humans_said(run: &mut Run, record: &Step, holder: &RunId) {
    run.step.decisions = record.decisions.clone();
    run.step
        .decisions
        .retain(|decision| decision.chosen.is_some());
    run.step.revision = record.revision.clone().map(|mut revision| {
        revision.previous.run.get_or_insert_with(|| holder.clone());
        revision
    });
}

/// The question whether the run may begin, if nobody has said yes.
fn unanswered_start(step: &Step) -> Option<String> {
    match &step.phase {
        Phase::Asking(asked) if asked.about == About::Start => {
            let asked = step
                .decisions
                .iter()
                .find(|decision| decision.id == asked.subject);
            asked.map(|decision| decision.question.clone())
        }
        _ => None,
    }
}

fn at(new: NewRun, plan: Arc<Plan>, from: StepIndex, now: Timestamp) -> Result<Run, Illegal> {
    let head = Head {
        id: new.id,
        workspace: new.workspace,
        block: new.block,
        pipeline: Pin {
            name: shorten(&new.pipeline.name, NAME_LIMIT),
            ..new.pipeline
        },
        status: Status::Running,
        current: from,
        epoch: 0,
        calls: 0,
        generation: 1,
        driver: Deaths::default(),
        stop: None,
        failure: None,
        initiated_by: new.initiated_by.map(|who| shorten(&who, NAME_LIMIT)),
        retried_from: None,
        created_at: now,
        finished_at: None,
        rev: 0,
    };
    let Some(spec) = plan.step(from) else {
        return Err(Illegal::of("begin", &head, "the plan has no such step"));
    };
    let step = Step::pending(from, spec.agent_kind.clone(), 0);
    Ok(Run::new(head, step, plan))
}
