//! Views: runs and outputs as clients see them.

use std::collections::BTreeMap;

use towpath_api_types::{
    ArtifactLink, Code, List, OutputLink, OutputText, Problem, RunSummary, RunView, StepView,
    WaitsFor,
};
use towpath_engine::{
    About, Artifact, Head, JobId, Phase, Plan, Reason, RunId, Status, Step, StepIndex, Wait, kinds,
};
use towpath_jobs::{LogPage, LogPosition, Registry, Unreadable};
use towpath_store::{EventCursor, EventPage, Input, Store, StoredOutput};

use crate::caller::no_run;
use crate::contract::output_path;
use crate::jobs::role_name;
use crate::{Caller, Error};

type Told<T> = Result<T, Problem>;

/// Shows runs.
#[derive(Clone)]
pub struct Views {
    store: Store,
    runtimes: Registry,
}

impl Views {
    pub(crate) fn new(store: Store, runtimes: Registry) -> Self {
        Self { store, runtimes }
    }

    /// A run, whole.
    ///
    /// # Errors
    /// The problem to tell the caller.
    pub async fn run(&self, caller: &Caller, id: &RunId) -> Told<RunView> {
        let loaded = self.store.load(id).await.map_err(Error::from)?;
        let own = loaded.filter(|loaded| loaded.run.head.workspace == caller.workspace);
        let loaded = own.ok_or_else(|| no_run(id))?;
        let (head, plan) = (&loaded.run.head, &loaded.run.plan);
        let input = self.store.input(id).await.map_err(Error::from)?;
        let mut steps: BTreeMap<StepIndex, (Option<RunId>, Step)> = BTreeMap::new();
        for segment in &input.lineage {
            let kept = self.store.steps(&segment.run).await.map_err(Error::from)?;
            let held = kept
                .into_iter()
                .filter(|step| input.holder(id, step.index) == &segment.run);
            steps.extend(held.map(|step| (step.index, (Some(segment.run.clone()), step))));
        }
        let own = self.store.steps(id).await.map_err(Error::from)?;
        // The present step is the one that was loaded with the head.
        let left = own.into_iter().filter(|step| step.index < head.current);
        let reached = left.chain([loaded.run.step.clone()]);
        steps.extend(reached.map(|step| (step.index, (None, step))));
        let audit = self.store.audits(id).await.map_err(Error::from)?;
        let views = plan.iter().map(|(index, spec)| {
            let pending = || {
                (
                    None,
                    Step::pending(index, spec.agent_kind.clone(), head.epoch),
                )
            };
            let (kept_from, step) = steps.remove(&index).unwrap_or_else(pending);
            let over = head.status == Status::Failed && step.phase != Phase::Done;
            let view = step_view(step, plan, &input, id, kept_from);
            StepView {
                requires_approval: spec.requires_approval,
                // Of a run that failed here nothing goes on, whatever the step was at.
                activity: match over && index == head.current {
                    true => "the run failed here".to_owned(),
                    false => view.activity,
                },
                ..view
            }
        });
        Ok(RunView {
            steps: views.collect(),
            summary: summary(loaded.run.head.clone(), Some(&loaded.wait)),
            block: input.block.clone().shown(),
            audit,
        })
    }

    /// A step of a run, if the run has it.
    async fn step(&self, caller: &Caller, id: &RunId, step: StepIndex) -> Told<Option<StepView>> {
        let view = self.run(caller, id).await?;
        Ok(view.steps.into_iter().find(|view| view.index == step))
    }

    /// The newest runs of the caller's workspace, after the one named; with `live`, only those that are not over.
    ///
    /// # Errors
    /// The problem to tell the caller.
    pub async fn runs(
        &self,
        caller: &Caller,
        after: Option<&str>,
        live: bool,
    ) -> Told<List<RunSummary>> {
        let page = match live {
            true => self.store.live_runs(&caller.workspace, after).await,
            false => self.store.runs(&caller.workspace, after).await,
        };
        let page = page.map_err(Error::from)?;
        let mut items = Vec::with_capacity(page.items.len());
        for head in page.items {
            let wait = match head.status.is_terminal() {
                true => None,
                false => self.store.wait(&head.id).await.map_err(Error::from)?,
            };
            items.push(summary(head, wait.as_ref()));
        }
        Ok(List {
            items,
            next: page.next,
        })
    }

    /// The output of a step: the newest, or the one of this number.
    ///
    /// # Errors
    /// The problem to tell the caller.
    pub async fn output(
        &self,
        caller: &Caller,
        id: &RunId,
        step: StepIndex,
        number: Option<u32>,
    ) -> Told<OutputText> {
        let none = || {
            Problem::new(
                Code::NotFound,
                format!("step {step} of {id} has no such output"),
            )
        };
        let found = self.step(caller, id, step).await?.ok_or_else(none)?;
        let holder = found.kept_from.clone().unwrap_or_else(|| id.clone());
        let newest = found.output.as_ref().map(|link| link.number);
        let number = number.or(newest).ok_or_else(none)?;
        let kept = self.store.output(&holder, step, number).await;
        let kept = kept.map_err(Error::from)?;
        match kept.ok_or_else(none)? {
            StoredOutput::Row { text } => Ok(OutputText::Here { text }),
            StoredOutput::Object {
                object,
                bytes,
                sha256,
            } => {
                let link = self.store.output_url(&object).map_err(Error::from)?;
                Ok(OutputText::Elsewhere {
                    url: link.url,
                    bytes,
                    sha256,
                    expires_at: link.expires_at,
                })
            }
        }
    }

    /// A URL to fetch an artifact of a step by: of the newest output.
    ///
    /// # Errors
    /// The problem to tell the caller.
    pub async fn artifact(
        &self,
        caller: &Caller,
        id: &RunId,
        step: StepIndex,
        name: &str,
    ) -> Told<String> {
        let none = || {
            let name: String = name.chars().take(200).collect();
            let message = format!("step {step} of {id} has no artifact {name:?}");
            Problem::new(Code::NotFound, message)
        };
        let found = self.step(caller, id, step).await?;
        let output = found.and_then(|view| view.output).ok_or_else(none)?;
        let link = output
            .artifacts
            .into_iter()
            .find(|it| it.artifact.name == name);
        let link = link.ok_or_else(none)?;
        let url = self.store.artifact_url(&link.artifact);
        Ok(url.map_err(Error::from)?.url)
    }

    /// A page of what the jobs of a run tell, in the order of the jobs, from a place on.
    ///
    /// # Errors
    /// The problem to tell the caller.
    pub async fn events(&self, caller: &Caller, id: &RunId, after: EventCursor) -> Told<EventPage> {
        // Looked at first: what is told after this is on the next page.
        let head = self.store.head(id).await.map_err(Error::from)?;
        let head = head.filter(|head| head.workspace == caller.workspace);
        let head = head.ok_or_else(|| no_run(id))?;
        let page = self.store.jobs().events(id, after).await;
        let page = page.map_err(Error::from)?;
        Ok(EventPage {
            over: head.status.is_terminal() && page.events.is_empty(),
            ..page
        })
    }

    /// A page of what a job of a step has printed: of the one that worked for it last, or of the one named.
    ///
    /// # Errors
    /// The problem to tell the caller.
    pub async fn log(
        &self,
        caller: &Caller,
        id: &RunId,
        step: StepIndex,
        job: Option<JobId>,
        after: LogPosition,
    ) -> Told<LogPage> {
        let none = |message: String| Problem::new(Code::NotFound, message);
        let found = self.step(caller, id, step).await?;
        let found = found.ok_or_else(|| none(format!("{id} has no step {step}")))?;
        let holder = found.kept_from.as_ref().unwrap_or(id);
        let job = job.or(found.job_id);
        let job = job.ok_or_else(|| none(format!("no job has worked for step {step} yet")))?;
        if job.run() != *holder {
            return Err(none(format!("{job} is no job of step {step}")));
        }
        match self.runtimes.read_log(&job, after).await {
            Ok(Some(page)) => Ok(page),
            Ok(None) => Err(none(format!(
                "there is no log of {job}: its runtime keeps none, or no longer"
            ))),
            Err(Unreadable(why)) => {
                tracing::warn!(%job, "its log cannot be read: {why}");
                let message = "the log cannot be read now; try again";
                Err(Problem::new(Code::Unavailable, message))
            }
        }
    }
}

fn summary(head: Head, wait: Option<&Wait>) -> RunSummary {
    RunSummary {
        waits_for: wait
            .filter(|_| !head.status.is_terminal())
            .map(|wait| waits_for(wait, head.status)),
        id: head.id,
        workspace: head.workspace,
        block_id: head.block.to_string(),
        pipeline: head.pipeline,
        status: head.status,
        current_step: head.current,
        failure: head.failure,
        initiated_by: head.initiated_by,
        retried_from: head.retried_from,
        created_at: head.created_at,
        finished_at: head.finished_at,
        rev: head.rev,
    }
}

/// What a live run waits for. A blocked run's question is there to be answered, whether or not a driver waits for that;
/// otherwise the mailbox speaks of what is past until a driver has parked.
fn waits_for(wait: &Wait, status: Status) -> WaitsFor {
    let at_work = || ("driver", "its driver is at work".to_owned(), None);
    let (reason, text, subject) = match &wait.reason {
        _ if status != Status::Blocked && wait.token.is_none() => at_work(),
        _ if wait.wake.is_some() => at_work(),
        Reason::Driver | Reason::Nothing => at_work(),
        Reason::Job { job, role, .. } => {
            let text = format!("the {} {job}", role_name(*role));
            ("job", text, Some(job.to_string()))
        }
        Reason::Rest { step, .. } => ("rest", format!("a time: step {step} rests"), None),
        Reason::Human { subject } => {
            let text = format!("a human's answer to {subject}");
            ("human", text, Some(subject.clone()))
        }
        Reason::Budget => ("budget", "its workspace's budget".to_owned(), None),
    };
    WaitsFor {
        reason: reason.to_owned(),
        text,
        subject,
        since: wait.since,
        due: wait.due,
    }
}

fn step_view(
    step: Step,
    plan: &Plan,
    input: &Input,
    run: &RunId,
    kept_from: Option<RunId>,
) -> StepView {
    let output = step.output.as_ref().map(|output| OutputLink {
        href: output_path(input, run, step.index, Some(output.number)),
        number: output.number,
        bytes: output.bytes,
        artifacts: output
            .artifacts
            .iter()
            .map(|artifact| artifact_link(artifact, run, step.index))
            .collect(),
    });
    StepView {
        index: step.index,
        agent_kind: step.agent_kind.clone(),
        state: step.state(),
        requires_approval: false,
        activity: activity(&step, plan),
        job_id: step
            .call()
            .map(|call| call.id.clone())
            .or(step.last_job.clone()),
        attempt: step.attempt,
        started_at: step.started_at,
        paused_at: step.paused_at,
        finished_at: step.finished_at,
        output,
        gate: kinds::gate::state(&step),
        decisions: step.decisions,
        approval: step.approval,
        evictions: step.evictions,
        model: step.model,
        usage: step.usage,
        kept_from,
    }
}

fn artifact_link(artifact: &Artifact, run: &RunId, step: StepIndex) -> ArtifactLink {
    ArtifactLink {
        href: format!("/runs/{run}/steps/{step}/artifacts/{}", artifact.name),
        artifact: artifact.clone(),
    }
}

/// The activity of a step, in words for people.
fn activity(step: &Step, plan: &Plan) -> String {
    match &step.phase {
        Phase::Pending => "not begun".to_owned(),
        Phase::Done if step.skipped => "skipped".to_owned(),
        Phase::Done => "done".to_owned(),
        Phase::Asking(asked) => match asked.about {
            About::Decision => "waits for a decision",
            About::Approval => "waits for approval",
            About::Start => "waits for leave to begin",
        }
        .to_owned(),
        Phase::Calling(call) if call.held.is_some() => {
            let why = call.held.as_ref().map(|held| held.why.as_str());
            format!("cannot start yet: {}", why.unwrap_or_default())
        }
        Phase::Calling(_) | Phase::Resting(_) => plan
            .step(step.index)
            .zip(plan.kind(step.index))
            .map_or_else(String::new, |(spec, kind)| kind.describe(spec, step)),
    }
}
