//! Runs: they are started, stopped, retried, restarted.

use towpath_api_types::{Code, Problem, RestartRun, StartRun, StopRun};
use towpath_engine::{
    JobRef, NewRun, Pin, RunId, Status, StepIndex, StopMark, WorkspaceId, restart, retry, start,
};
use towpath_store::{Idempotency, Input, Loaded, StoredPipeline};

use crate::caller::no_run;
use crate::create::{Create, TakeOver};
use crate::outbox::Outbox;
use crate::stops::{Stopped, Stops};
use crate::{AgentSecrets, Caller, Error};

/// Starts and stops runs.
#[derive(Clone)]
pub struct Runs {
    outbox: Outbox,
    stops: Stops,
    create: Create,
    secrets: AgentSecrets,
}

impl Runs {
    pub(crate) fn new(outbox: Outbox, stops: Stops) -> Self {
        Self {
            create: Create::new(outbox.clone(), stops.clone()),
            secrets: AgentSecrets::new(outbox.ports.clone()),
            outbox,
            stops,
        }
    }

    /// Starts a run: the answer is its id. A start under the name of an earlier one is that one.
    ///
    /// # Errors
    /// The problem to tell the caller; nothing was written then.
    pub async fn start(
        &self,
        caller: &Caller,
        ask: &StartRun,
        name: Option<&Idempotency>,
    ) -> Result<RunId, Problem> {
        let (store, workspace) = (&self.outbox.ports.store, &caller.workspace);
        if let Some(first) = self.create.first(workspace, name).await? {
            return Ok(first);
        }
        let block = store.block(workspace, &ask.block_id).await;
        let no_block = || {
            let message = format!("there is no block {}", ask.block_id);
            Problem::new(Code::NotFound, message).at("blockId")
        };
        let block = block.map_err(Error::from)?.ok_or_else(no_block)?;
        let pipeline = self.pipeline(workspace, ask).await?;
        if block.repository.is_none() {
            let errors = pipeline.pipeline.errors_without_repository();
            if !errors.is_empty() {
                let message = format!(
                    "the pipeline works on a repository, and the block {} has none; put the block with a `repository`",
                    ask.block_id
                );
                let problem = Problem::new(Code::InvalidRequest, message).at("blockId");
                return Err(Problem { errors, ..problem });
            }
        }
        let errors = self.secrets.errors(workspace, &pipeline.pipeline).await?;
        if !errors.is_empty() {
            let message = "the pipeline names secrets that are not there; put what `errors` lists";
            let problem = Problem::new(Code::InvalidRequest, message).at("pipelineId");
            return Err(Problem { errors, ..problem });
        }
        let version = pipeline.version;
        let plan = store.plan(workspace, &ask.pipeline_id, version).await;
        let plan = plan.map_err(Error::from)?;
        let now = self.outbox.now();
        let id = self.outbox.ports.random.run_id(now);
        let pin = Pin {
            id: ask.pipeline_id.clone(),
            version,
            name: pipeline.pipeline.name.clone(),
            steps: plan.len(),
        };
        let input = Input {
            block,
            lineage: Vec::new(),
        };
        let replaced = format!("replaced by {id}");
        let take_over = match ask.replace {
            true => TakeOver::Any(&replaced),
            false => TakeOver::None,
        };
        let made = |replaces: Vec<JobRef>| {
            let new = NewRun {
                id: id.clone(),
                workspace: workspace.clone(),
                block: ask.block_id.clone(),
                pipeline: pin.clone(),
                initiated_by: Some(caller.name.clone()),
                approval: None,
                replaces,
            };
            start(new, plan.clone(), now)
        };
        self.create
            .create(caller, &made, &input, name, take_over)
            .await
    }

    /// The newest version of the pipeline that is asked for, if runs of it can start.
    async fn pipeline(
        &self,
        workspace: &WorkspaceId,
        ask: &StartRun,
    ) -> Result<StoredPipeline, Problem> {
        let id = &ask.pipeline_id;
        let pipeline = self.outbox.ports.store.pipeline(workspace, id).await;
        let problem = |code, message: String| Problem::new(code, message).at("pipelineId");
        let missing = || problem(Code::NotFound, format!("there is no pipeline {id}"));
        let pipeline = pipeline.map_err(Error::from)?.ok_or_else(missing)?;
        if pipeline.pipeline.archived {
            let message = format!("the pipeline {id} is archived and starts no runs");
            return Err(problem(Code::InvalidPipeline, message));
        }
        self.check(&pipeline.pipeline)
            .map_err(|problem| problem.at("pipelineId"))?;
        Ok(pipeline)
    }

    /// Checks that a pipeline is correct, and that this deployment has what it needs.
    ///
    /// # Errors
    /// The problem to tell the caller, with every error of the pipeline.
    pub fn check(&self, pipeline: &towpath_engine::Pipeline) -> Result<(), Problem> {
        let usable = self.outbox.ports.runtimes.usable();
        let errors = pipeline.errors();
        if !errors.is_empty() {
            let message = "the pipeline cannot run; correct what `errors` lists";
            let problem = Problem::new(Code::InvalidPipeline, message);
            return Err(Problem { errors, ..problem });
        }
        let (missing, errors): (Vec<_>, Vec<_>) =
            pipeline.missing_runtimes(&usable).into_iter().unzip();
        let Some(provider) = missing.first() else {
            return Ok(());
        };
        let message = "the pipeline cannot run in this deployment; `errors` lists what is missing";
        Err(Problem {
            provider: Some((*provider).into()),
            errors,
            ..Problem::new(Code::RuntimeNotImplemented, message)
        })
    }

    /// Stops a run. Of one that is over nothing changes.
    ///
    /// # Errors
    /// The problem to tell the caller.
    #[tracing::instrument(skip_all, fields(run = %id, by = caller.name))]
    pub async fn stop(
        &self,
        caller: &Caller,
        id: &RunId,
        ask: &StopRun,
    ) -> Result<Stopped, Problem> {
        let head = self.outbox.ports.store.head(id).await;
        let head = head.map_err(Error::from)?;
        let own = head.filter(|head| head.workspace == caller.workspace);
        if own.ok_or_else(|| no_run(id))?.status.is_terminal() {
            return Ok(Stopped::Now);
        }
        let now = self.outbox.now();
        let mark = StopMark::new(&caller.name, ask.reason.as_deref(), now);
        Ok(self.stops.stop(id, &mark).await?)
    }

    /// Retries a failed run at the first step that is not done: the answer is the new run's id.
    ///
    /// # Errors
    /// The problem to tell the caller; nothing was written then.
    pub async fn retry(
        &self,
        caller: &Caller,
        id: &RunId,
        name: Option<&Idempotency>,
    ) -> Result<RunId, Problem> {
        let old = self.own(caller, id).await?;
        if old.run.head.status != Status::Failed {
            let message = "only a failed run can be retried; any run can be restarted from a step";
            return Err(Problem::new(Code::WrongState, message).with_run(id.clone()));
        }
        self.again(caller, old, None, name).await
    }

    /// Restarts a run from a step, whatever has become of it: the answer is the new run's id.
    ///
    /// # Errors
    /// The problem to tell the caller; nothing was written then.
    pub async fn restart(
        &self,
        caller: &Caller,
        id: &RunId,
        ask: &RestartRun,
        name: Option<&Idempotency>,
    ) -> Result<RunId, Problem> {
        let old = self.own(caller, id).await?;
        let (steps, from) = (old.run.plan.len(), ask.from_step);
        let refused =
            |message: String| Err(Problem::new(Code::InvalidRequest, message).at("fromStep"));
        if from.0 >= steps {
            return refused(format!(
                "the run has {steps} steps, counted from 0; {from} is none of them"
            ));
        }
        if from > old.run.head.current {
            return refused(format!(
                "the run has come to step {}; it cannot begin behind that",
                old.run.head.current
            ));
        }
        self.again(caller, old, Some(from), name).await
    }

    async fn again(
        &self,
        caller: &Caller,
        old: Loaded,
        from: Option<StepIndex>,
        name: Option<&Idempotency>,
    ) -> Result<RunId, Problem> {
        if let Some(first) = self.create.first(&caller.workspace, name).await? {
            return Ok(first);
        }
        let (store, now) = (&self.outbox.ports.store, self.outbox.now());
        let head = &old.run.head;
        let new = self.outbox.ports.random.run_id(now);
        let actor = Some(caller.name.as_str());
        let kept = store.input(&head.id).await.map_err(Error::from)?;
        let block = store.block(&head.workspace, &head.block).await;
        let block = block.map_err(Error::from)?.unwrap_or(kept.block.clone());
        let lineage = kept.lineage_at(&head.id, from.unwrap_or(head.current));
        let input = Input { block, lineage };
        let reason = format!("restarted as {new}");
        let made = |leaving: Vec<JobRef>| {
            let mut run = match from {
                None => retry(&old.run, new.clone(), actor, now),
                Some(from) => restart(&old.run, from, new.clone(), actor, now),
            }?;
            // The run may have gone on to another job since it was loaded.
            run.step.replaces.extend(leaving);
            run.step.replaces.sort();
            run.step.replaces.dedup();
            Ok(run)
        };
        let take_over = TakeOver::Only(&head.id, &reason);
        self.create
            .create(caller, &made, &input, name, take_over)
            .await
    }

    /// The run, if it is the caller's.
    async fn own(&self, caller: &Caller, id: &RunId) -> Result<Loaded, Problem> {
        let loaded = self.outbox.ports.store.load(id).await;
        let loaded = loaded.map_err(Error::from)?;
        let own = loaded.filter(|loaded| loaded.run.head.workspace == caller.workspace);
        own.ok_or_else(|| no_run(id))
    }
}
