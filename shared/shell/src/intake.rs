//! Intake: runs come to be, and are stopped, retried, restarted.

use std::sync::Arc;

use towpath_contracts::{Code, Problem, RestartRun, StartRun, StopRun};
use towpath_engine::{
    Head, NewRun, Pin, Run, RunId, Status, StepIndex, StopMark, Wait, WorkspaceId, restart, retry,
    start, stop, stop_marked,
};
use towpath_store::{Commit, Creation, Error as StoreError, Idempotency, Input, Loaded, Takeover};

use crate::fold::Mailbox;
use crate::{App, Error};

/// Who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Whose runs they reach.
    pub workspace: WorkspaceId,
    /// What stands in the records as who did it.
    pub name: String,
}

/// A problem to be told, or an error to be logged and hidden.
pub(crate) type Told<T> = Result<T, Problem>;

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        tracing::error!(error = error.name(), "{error}");
        match error.name() {
            "Towpath.Throttled" => {
                Problem::new(Code::Throttled, "too much at once; try again in a moment")
            }
            "Towpath.Unavailable" => Problem::new(
                Code::Unavailable,
                "a service did not answer; try again in a moment",
            ),
            _ => Problem::new(
                Code::Internal,
                "a fault of our own; it is in the log under this request's id",
            ),
        }
    }
}

fn stored<T>(result: Result<T, StoreError>) -> Told<T> {
    result.map_err(|error| Error::from(error).into())
}

const TRIES: u32 = 20;

/// The number of lost races with a live run after which whoever takes its place stops it first.
const PATIENCE: u32 = 3;

/// Whose place a new run may take, and the reason its end is given.
#[derive(Clone, Copy)]
enum TakeOver<'a> {
    /// Nobody's.
    None,
    /// That of whichever run is live on the block.
    Any(&'a str),
    /// That of this run, and of no other that may have come since.
    Only(&'a RunId, &'a str),
}

impl<'a> TakeOver<'a> {
    /// Why `live` may be ended; `None` if it may not.
    fn reason(self, live: &RunId) -> Option<&'a str> {
        match self {
            TakeOver::None => None,
            TakeOver::Any(reason) => Some(reason),
            TakeOver::Only(run, reason) => (run == live).then_some(reason),
        }
    }
}

impl App {
    /// Starts a run: the answer is its id. A start under the name of an earlier one is that one.
    ///
    /// # Errors
    /// The problem to tell the caller; nothing was written then.
    pub async fn start_run(
        &self,
        caller: &Caller,
        ask: &StartRun,
        name: Option<&Idempotency>,
    ) -> Told<RunId> {
        let workspace = &caller.workspace;
        if let Some(first) = self.first_start(workspace, name).await? {
            return Ok(first);
        }
        let no_block = || {
            Problem::new(
                Code::NotFound,
                format!("there is no block {}", ask.block_id),
            )
            .at("blockId")
        };
        let block =
            stored(self.store.block(workspace, &ask.block_id).await)?.ok_or_else(no_block)?;
        let no_pipeline = || {
            Problem::new(
                Code::NotFound,
                format!("there is no pipeline {}", ask.pipeline_id),
            )
            .at("pipelineId")
        };
        let pipeline = stored(self.store.pipeline(workspace, &ask.pipeline_id).await)?
            .ok_or_else(no_pipeline)?;
        if pipeline.pipeline.archived {
            let message = format!(
                "the pipeline {} is archived and starts no runs",
                ask.pipeline_id
            );
            return Err(Problem::new(Code::InvalidPipeline, message).at("pipelineId"));
        }
        let flaws = pipeline.pipeline.flaws();
        if !flaws.is_empty() {
            let problem = Problem::new(
                Code::InvalidPipeline,
                "the pipeline cannot run; mend what `flaws` lists",
            );
            return Err(Problem {
                flaws: flaws.into_iter().map(Into::into).collect(),
                ..problem
            }
            .at("pipelineId"));
        }
        let plan = stored(
            self.store
                .plan(workspace, &ask.pipeline_id, pipeline.version)
                .await,
        )?;
        let id = self.new_run_id();
        let new = NewRun {
            id: id.clone(),
            workspace: workspace.clone(),
            block: ask.block_id.clone(),
            pipeline: Pin {
                id: ask.pipeline_id.clone(),
                version: pipeline.version,
                name: pipeline.pipeline.name.clone(),
                steps: plan.len(),
            },
            initiated_by: Some(caller.name.clone()),
        };
        let run = start(new, plan, self.now()).map_err(Error::from)?;
        let input = Input {
            block,
            lineage: Vec::new(),
        };
        let replaced = format!("replaced by {id}");
        self.create(
            caller,
            run,
            &input,
            name,
            if ask.replace {
                TakeOver::Any(&replaced)
            } else {
                TakeOver::None
            },
        )
        .await
    }

    /// What a name was first used for, if the same was asked.
    async fn first_start(
        &self,
        workspace: &WorkspaceId,
        name: Option<&Idempotency>,
    ) -> Told<Option<RunId>> {
        let Some(name) = name else { return Ok(None) };
        match stored(self.store.created(workspace, &name.key).await)? {
            None => Ok(None),
            Some(first) if first.hash == name.hash => Ok(Some(first.run)),
            Some(first) => {
                let message = "this Idempotency-Key was used for another request; use a new one";
                Err(Problem::new(Code::IdempotencyMismatch, message).with_run(first.run))
            }
        }
    }

    /// Creates the run, and ends the block's live run if `take_over` says so.
    async fn create(
        &self,
        caller: &Caller,
        run: Run,
        input: &Input,
        name: Option<&Idempotency>,
        take_over: TakeOver<'_>,
    ) -> Told<RunId> {
        let (workspace, block) = (&run.head.workspace, &run.head.block);
        for conflicts in 1..=TRIES {
            let live = stored(self.store.live_run(workspace, block).await)?;
            let old = match live.as_ref().map(|live| (live, take_over.reason(live))) {
                None => None,
                Some((live, None)) => {
                    // The live run may be what an earlier attempt at this very start has made.
                    if let Some(first) = self.first_start(workspace, name).await? {
                        return Ok(first);
                    }
                    let message = format!(
                        "the block {block} has a live run; stop it, or start with `replace`"
                    );
                    return Err(Problem::new(Code::RunIsLive, message).with_run(live.clone()));
                }
                Some((live, Some(reason))) => {
                    // It ends in the transaction that begins the new run. One that is too busy for that is stopped first:
                    // then it goes no further.
                    if conflicts > PATIENCE {
                        let reason = "another start takes its place";
                        self.mark(caller, live, Some(reason)).await?;
                    }
                    let old = stored(self.store.load(live).await)?;
                    let old = old.filter(|old| !old.run.head.status.is_terminal());
                    old.map(|old| self.ended(old, caller, reason))
                }
            };
            let now = self.now();
            let wait = Wait::fresh(now);
            let takeover = old.as_ref().map(|(before, after, wait)| Takeover {
                commit: Commit {
                    before: &before.run.head,
                    head: &after.head,
                    step: None,
                    changes: &after.changes,
                    wait,
                    reap_at: now.plus(towpath_engine::REDELIVERY),
                },
            });
            let creation = Creation {
                run: &run,
                wait: &wait,
                input,
                idempotency: name,
                takeover,
            };
            match self.store.create(&creation).await {
                Ok(()) => {
                    if let Some((before, after, wait)) = old {
                        for job in &after.changes.reap {
                            self.reap(&before.run.plan, job).await;
                        }
                        self.try_deliver(&before.run.head.id, wait).await;
                    }
                    self.try_deliver(&run.head.id, wait).await;
                    return Ok(run.head.id);
                }
                // A lost answer may have been a success: then the run is there, under its own id.
                Err(StoreError::Conflict | StoreError::Unavailable)
                    if stored(self.store.head(&run.head.id).await)?.is_some() =>
                {
                    self.try_deliver(&run.head.id, wait).await;
                    return Ok(run.head.id);
                }
                Err(StoreError::Conflict) => {
                    if let Some(first) = self.first_start(workspace, name).await? {
                        return Ok(first);
                    }
                    crate::drive::pause(conflicts).await;
                }
                Err(other) => return Err(Error::from(other).into()),
            }
        }
        Err(busy())
    }

    /// A live run as it is once it was ended for `reason`, or by the stop that it is marked with.
    fn ended(&self, before: Loaded, caller: &Caller, reason: &str) -> (Loaded, Run, Wait) {
        let now = self.now();
        let mut after = before.run.clone();
        match after.head.stop {
            Some(_) => stop_marked(&mut after, now),
            None => stop(&mut after, &caller.name, Some(reason), now),
        };
        let wait = before.wait.over(now);
        (before, after, wait)
    }

    /// Stops a run. Of one that is over nothing changes.
    ///
    /// # Errors
    /// The problem to tell the caller.
    #[tracing::instrument(skip_all, fields(run = %id, by = caller.name))]
    pub async fn stop_run(&self, caller: &Caller, id: &RunId, ask: &StopRun) -> Told<()> {
        let head = stored(self.store.head(id).await)?
            .filter(|head| head.workspace == caller.workspace)
            .ok_or_else(|| Problem::new(Code::NotFound, format!("there is no run {id}")))?;
        if head.status.is_terminal() {
            return Ok(());
        }
        self.mark(caller, id, ask.reason.as_deref()).await?;
        Ok(self.end_marked(id).await?)
    }

    /// Marks a run as to be stopped, unless it is over or marked already. From then on the run cannot go on, whatever it
    /// was doing.
    async fn mark(&self, caller: &Caller, id: &RunId, reason: Option<&str>) -> Told<()> {
        let mark = StopMark::new(&caller.name, reason, self.now());
        for conflicts in 1..=TRIES {
            let due = self.now().plus(towpath_engine::REDELIVERY);
            match self.store.mark_stop(id, &mark, due).await {
                Ok(()) => return Ok(()),
                Err(StoreError::Conflict) => {}
                Err(other) => return Err(Error::from(other).into()),
            }
            let head = stored(self.store.head(id).await)?;
            if head.is_none_or(|head| head.status.is_terminal() || head.stop.is_some()) {
                return Ok(());
            }
            crate::drive::pause(conflicts).await;
        }
        Err(busy())
    }

    /// Ends a run that is marked as to be stopped. Whoever finds the mark may do so; under contention it is left to the
    /// others that have found it, the tick among them.
    ///
    /// # Errors
    /// If the records or the services cannot be reached; the mark stays, and the tick ends the run.
    pub(crate) async fn end_marked(&self, id: &RunId) -> Result<(), Error> {
        for conflicts in 1..=TRIES {
            let Some(loaded) = self.store.load(id).await? else {
                return Ok(());
            };
            if loaded.run.head.status.is_terminal() || loaded.run.head.stop.is_none() {
                return Ok(());
            }
            let (mut run, now) = (loaded.run.clone(), self.now());
            stop_marked(&mut run, now);
            let wait = loaded.wait.over(now);
            match self.commit(&loaded, run, Mailbox::Becomes(wait)).await {
                Ok(committed) => {
                    self.try_deliver(id, committed.wait).await;
                    return Ok(());
                }
                Err(Error::Store(StoreError::Conflict)) => crate::drive::pause(conflicts).await,
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }

    /// Retries a failed run at the first step that is not done: the answer is the new run's id.
    ///
    /// # Errors
    /// The problem to tell the caller; nothing was written then.
    pub async fn retry_run(
        &self,
        caller: &Caller,
        id: &RunId,
        name: Option<&Idempotency>,
    ) -> Told<RunId> {
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
    pub async fn restart_run(
        &self,
        caller: &Caller,
        id: &RunId,
        ask: &RestartRun,
        name: Option<&Idempotency>,
    ) -> Told<RunId> {
        let old = self.own(caller, id).await?;
        let steps = old.run.plan.len();
        if ask.from_step.0 >= steps {
            let message = format!(
                "the run has {steps} steps, counted from 0; {} is none of them",
                ask.from_step
            );
            return Err(Problem::new(Code::InvalidRequest, message).at("fromStep"));
        }
        if ask.from_step > old.run.head.current {
            let message = format!(
                "the run has come to step {}; it cannot begin behind that",
                old.run.head.current
            );
            return Err(Problem::new(Code::InvalidRequest, message).at("fromStep"));
        }
        self.again(caller, old, Some(ask.from_step), name).await
    }

    async fn again(
        &self,
        caller: &Caller,
        old: Loaded,
        from: Option<StepIndex>,
        name: Option<&Idempotency>,
    ) -> Told<RunId> {
        if let Some(first) = self.first_start(&caller.workspace, name).await? {
            return Ok(first);
        }
        let (head, plan, new): (&Head, _, _) =
            (&old.run.head, Arc::clone(&old.run.plan), self.new_run_id());
        let actor = Some(caller.name.as_str());
        let run = match from {
            None => retry(head, new, actor, plan, self.now()),
            Some(from) => restart(head, from, new, actor, plan, self.now()),
        };
        let run = run.map_err(Error::from)?;
        let kept = stored(self.store.input(&head.id).await)?;
        let block = stored(self.store.block(&head.workspace, &head.block).await)?
            .unwrap_or(kept.block.clone());
        let lineage = kept.lineage_at(&head.id, run.head.current);
        let input = Input { block, lineage };
        let reason = format!("restarted as {}", run.head.id);
        self.create(caller, run, &input, name, TakeOver::Only(&head.id, &reason))
            .await
    }

    /// The run, if it is the caller's.
    pub(crate) async fn own(&self, caller: &Caller, id: &RunId) -> Told<Loaded> {
        let loaded =
            stored(self.store.load(id).await)?.filter(|l| l.run.head.workspace == caller.workspace);
        loaded.ok_or_else(|| Problem::new(Code::NotFound, format!("there is no run {id}")))
    }

    fn new_run_id(&self) -> RunId {
        let ulid = ulid::Ulid::from_parts(self.now().0, ulid::Ulid::new().random());
        // A ULID's text is what a run id takes, so the second form is never needed.
        RunId::from_ulid(&ulid.to_string()).unwrap_or_else(|_| self.new_run_id())
    }
}

pub(crate) fn busy() -> Problem {
    Problem::new(
        Code::Busy,
        "others were faster again and again; try again in a moment",
    )
}
