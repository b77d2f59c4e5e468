//! Starting the job that a run is committed to.

use towpath_engine::{Activity, JobId, Role, Run};
use towpath_runtime::{Changes, Contract, Findings, Objective, OutputLink, SubstrateError};
use towpath_store::Input;

use crate::{App, Error};

impl App {
    /// Starts the present step's job or probe. Idempotent by its id, so that whoever finds it not started may start it.
    pub(crate) async fn start_work(&self, run: &Run) -> Result<Result<(), SubstrateError>, Error> {
        let Some(job) = run.step.live_job().cloned() else {
            return Ok(Ok(()));
        };
        let input = self.store.input(&run.head.id).await?;
        let contract = contract(run, &input, job)?;
        Ok(self
            .substrates
            .start(run.spec()?, &contract, input.block.repository.as_ref())
            .await)
    }

    /// Asks a job to end. What does not succeed is tried again by the tick, until the job is gone.
    pub(crate) async fn reap(&self, plan: &towpath_engine::Plan, job: &JobId) {
        match self.substrates.reap(plan, job).await {
            Ok(true) => {
                if let Err(error) = self.store.reaped(job).await {
                    tracing::warn!(%job, "the job is gone, but its row is not: {error}");
                }
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(%job, "the job could not be stopped yet: {error}"),
        }
    }
}

/// Everything the job may know.
fn contract(run: &Run, input: &Input, job: JobId) -> Result<Contract, Error> {
    let (step, _, _) = job.origin();
    let spec = run.spec()?;
    let role = match &run.step.activity {
        Activity::Job(job) => job.role,
        _ => Role::Probe,
    };
    let helper = spec
        .gate
        .as_ref()
        .and_then(|gate| gate.helper.as_ref())
        .filter(|_| role == Role::Helper);
    let href = |step| {
        format!(
            "/runs/{}/steps/{step}/output",
            input.holder(&run.head.id, step)
        )
    };
    let revision = run.step.revision.as_ref().map(|revision| Changes {
        previous: format!("{}?attempt={}", href(step), revision.previous.attempt),
        feedback: revision.feedback.clone(),
        comments: revision.comments.clone(),
    });
    let findings = run
        .step
        .gate
        .as_ref()
        .filter(|_| role == Role::Helper)
        .map(|gate| Findings {
            summary: gate.last_failure.clone(),
            failing: gate.failing_checks.clone(),
        });
    let earlier = run.plan.iter().take_while(|(index, _)| *index < step);
    let outputs = earlier.map(|(index, spec)| OutputLink {
        step: index,
        agent_kind: spec.agent_kind.clone(),
        href: href(index),
    });
    Ok(Contract {
        job,
        run: run.head.id.clone(),
        workspace: run.head.workspace.clone(),
        step,
        role,
        agent_kind: helper
            .map_or(&spec.agent_kind, |helper| &helper.agent_kind)
            .clone(),
        pipeline: run.head.pipeline.name.clone(),
        is_final: run.plan.is_final(step),
        initiated_by: run.head.initiated_by.clone(),
        objective: Objective {
            block: input.block.id.to_string(),
            title: input.block.title.clone(),
            description: input.block.description.clone(),
        },
        branch: input.block.branch(),
        decisions: run.step.decisions.clone(),
        revision,
        findings,
        outputs: outputs.collect(),
    })
}
