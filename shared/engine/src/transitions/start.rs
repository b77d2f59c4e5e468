//! Start, retry, restart: a run comes to be.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Illegal, Run};
use crate::run::{NAME_LIMIT, shorten};
use crate::{
    BlockId, Head, Pin, Plan, RunId, SCHEMA, Status, Step, StepIndex, Timestamp, WorkspaceId,
};

/// What a run is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRun {
    /// Its identity, never used before.
    pub id: RunId,
    /// Whose it is.
    pub workspace: WorkspaceId,
    /// What it works on.
    pub block: BlockId,
    /// What it does.
    pub pipeline: Pin,
    /// Who asked for it.
    pub initiated_by: Option<String>,
}

/// Steps whose records another run holds: those from the segment before's end up to `upto`, which is not one of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Segment {
    /// The first step that is not of this segment.
    pub upto: StepIndex,
    /// Which run holds them.
    pub run: RunId,
}

/// A run at its first step.
///
/// # Errors
/// If the plan has no step.
pub fn start(new: NewRun, plan: Arc<Plan>, now: Timestamp) -> Result<Run, Illegal> {
    at(new, plan, StepIndex(0), None, now)
}

/// A failed run, resumed at the first step that is not done. What came before stays where it is.
///
/// # Errors
/// If the run has not failed.
pub fn retry(
    failed: &Head,
    new: RunId,
    actor: Option<&str>,
    plan: Arc<Plan>,
    now: Timestamp,
) -> Result<Run, Illegal> {
    if failed.status != Status::Failed {
        return Err(Illegal::of("be retried", failed, "only a failed run can"));
    }
    restart(failed, failed.current, new, actor, plan, now)
}

/// Any run, begun again from a step of a human's choice. What came before stays where it is.
///
/// # Errors
/// If the run has not come to that step yet: what is to come before it does not exist.
pub fn restart(
    old: &Head,
    from: StepIndex,
    new: RunId,
    actor: Option<&str>,
    plan: Arc<Plan>,
    now: Timestamp,
) -> Result<Run, Illegal> {
    if from > old.current {
        return Err(Illegal::of(
            "be restarted",
            old,
            "it has not come to the step asked for",
        ));
    }
    let new = NewRun {
        id: new,
        workspace: old.workspace.clone(),
        block: old.block.clone(),
        pipeline: old.pipeline.clone(),
        initiated_by: actor
            .map(str::to_owned)
            .or_else(|| old.initiated_by.clone()),
    };
    at(new, plan, from, Some(old.id.clone()), now)
}

fn at(
    new: NewRun,
    plan: Arc<Plan>,
    from: StepIndex,
    retried_from: Option<RunId>,
    now: Timestamp,
) -> Result<Run, Illegal> {
    let head = Head {
        v: SCHEMA,
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
        generation: 1,
        deaths: 0,
        stop: None,
        failure: None,
        initiated_by: new.initiated_by.map(|who| shorten(&who, NAME_LIMIT)),
        retried_from,
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
