//! The jobs a run is committed to: starting them, looking at them, seeing that they are gone.

use towpath_engine::{
    Activity, Command, GateAnswer, JobAnswer, JobId, Outcome, Plan, Role, Run, StepSpec, poll_gate,
    poll_job,
};
use towpath_jobs::{
    Contract, Fate, Findings, JobRequest, Objective, OutputLink, Reaped, RequestedChanges,
    StartError, Unreadable,
};
use towpath_store::Input;

use crate::call_end::{gate_answer, job_answer};

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
        let (fate, now) = (self.runtimes.status(PROCESS, &job).await, self.now());
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
    pub(crate) async fn start_work(&self, run: &Run) -> Result<Result<(), StartError>, Error> {
        let Some(job) = run.step.live_job().cloned() else {
            return Ok(Ok(()));
        };
        let input = self.store.input(&run.head.id).await?;
        let contract = contract(run, &input, job)?;
        let Some(command) = command(run.spec()?, contract.role) else {
            let why = format!("the step {} has no command to run", run.head.current);
            return Ok(Err(StartError::Refused(why)));
        };
        let (repository, budget) = (input.block.repository.as_ref(), run.spec()?.budgets.job());
        let request = JobRequest::command(command, &contract, repository, budget);
        Ok(match request {
            Ok(request) => self.runtimes.start(PROCESS, &request).await.map(|_| ()),
            Err(refused) => Err(refused),
        })
    }

    /// Asks a job to end. What does not succeed is tried again by the tick, until the job is gone.
    pub(crate) async fn reap(&self, plan: &Plan, job: &JobId) {
        match self.reap_once(plan, job).await {
            Ok(Reaped::Gone) => {
                if let Err(error) = self.store.reaped(job).await {
                    tracing::warn!(%job, "the job is gone, but its row is not: {error}");
                }
            }
            Ok(Reaped::Ending) => {}
            Err(Unreadable(why)) => tracing::warn!(%job, "the job could not be stopped yet: {why}"),
        }
    }

    async fn reap_once(&self, plan: &Plan, job: &JobId) -> Result<Reaped, Unreadable> {
        let (step, _, role) = job.origin();
        let spec = plan.step(step);
        // A step without a command never had a job.
        match spec.and_then(|spec| command(spec, role)) {
            None => Ok(Reaped::Gone),
            Some(_) => self.runtimes.reap(PROCESS, job).await,
        }
    }
}

/// The kind of the runtime that runs commands.
const PROCESS: &str = "process";

/// The command that a step runs in a role, if it runs one.
fn command(spec: &StepSpec, role: Role) -> Option<&Command> {
    use towpath_engine::{Binding, Probe};
    let gate = spec.gate.as_ref();
    let binding = match role {
        Role::Main => spec.runtime.as_ref(),
        Role::Helper => gate.and_then(|gate| Some(&gate.helper.as_ref()?.runtime)),
        Role::Probe => {
            return gate.map(|gate| match &gate.probe {
                Probe::Command(command) => command,
            });
        }
    };
    match binding {
        Some(Binding::Process(command)) => Some(command),
        Some(Binding::Simulated(_)) | None => None,
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
    let revision = run.step.revision.as_ref().map(|revision| RequestedChanges {
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
