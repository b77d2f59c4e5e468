//! The jobs a run is committed to: starting them, looking at them, seeing that they are gone.

use towpath_engine::{
    Activity, GateAnswer, JobAnswer, JobId, Outcome, Role, Run, poll_gate, poll_job,
};
use towpath_runtime::{
    Changes, Contract, Fate, Findings, Objective, OutputLink, SubstrateError, gate_answer,
    job_answer,
};
use towpath_store::Input;

use crate::{App, Error};

/// What a look at the present step's job or probe came to.
pub(crate) enum Observed {
    /// There is none yet: it is to be started.
    NeverStarted,
    /// What the run made of it.
    Said(Outcome),
}

impl App {
    /// Looks at the present step's job or probe, and folds what is seen into the run.
    pub(crate) async fn observe(&self, run: &mut Run) -> Result<Observed, Error> {
        let Some(job) = run.step.live_job().cloned() else {
            return Ok(Observed::Said(run.outcome()));
        };
        let (fate, now) = (self.substrates.fate(run.spec()?, &job).await, self.now());
        let outcome = match (&run.step.activity, fate) {
            (Activity::Job(at), Fate::NeverStarted) if now < at.deadline => {
                return Ok(Observed::NeverStarted);
            }
            // Its time is up before it began: there is nothing to start any more.
            (Activity::Job(_), Fate::NeverStarted) => poll_job(run, JobAnswer::Running, now)?,
            (Activity::Job(_), Fate::Unreadable(why)) => {
                poll_job(run, JobAnswer::Unreadable(why), now)?
            }
            (Activity::Job(_), Fate::Known(snapshot)) => poll_job(run, job_answer(snapshot), now)?,
            (_, Fate::NeverStarted) => match poll_gate(run, GateAnswer::Looking, now)? {
                Outcome::AwaitingGate { .. } => return Ok(Observed::NeverStarted),
                spent => spent,
            },
            // The probe's budget is the gate's: it looks on until that is spent.
            (_, Fate::Unreadable(_)) => poll_gate(run, GateAnswer::Looking, now)?,
            (_, Fate::Known(snapshot)) => poll_gate(run, gate_answer(snapshot), now)?,
        };
        Ok(Observed::Said(outcome))
    }

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
