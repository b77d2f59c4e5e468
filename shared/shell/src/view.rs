//! What a run looks like from outside.

use std::collections::BTreeMap;

use towpath_contracts::{
    Code, List, OutputLink, OutputText, Problem, RunSummary, RunView, StepView, WaitsFor,
};
use towpath_engine::{Activity, Head, Reason, RunId, Step, StepIndex, StepSpec, Wait};
use towpath_store::{Input, Kept, Kind};

use crate::intake::{Caller, Told};
use crate::{App, Error};

impl App {
    /// A run, whole.
    ///
    /// # Errors
    /// The problem to tell the caller.
    pub async fn view(&self, caller: &Caller, id: &RunId) -> Told<RunView> {
        let loaded = self.own(caller, id).await?;
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
        // What lies ahead of the run is pending, whatever an earlier round has left there.
        let reached = own.into_iter().filter(|step| step.index < head.current);
        steps.extend(
            reached
                .chain([loaded.run.step.clone()])
                .map(|step| (step.index, (None, step))),
        );
        let audit = self.store.audits(id).await.map_err(Error::from)?;
        let views = plan.iter().map(|(index, spec)| {
            let pending = || {
                (
                    None,
                    Step::pending(index, spec.agent_kind.clone(), head.epoch),
                )
            };
            let (kept_from, step) = steps.remove(&index).unwrap_or_else(pending);
            step_view(step, spec, &input, id, kept_from)
        });
        Ok(RunView {
            steps: views.collect(),
            summary: summary(loaded.run.head.clone(), Some(&loaded.wait)),
            block: input.block.clone(),
            audit,
        })
    }

    /// The newest runs of the caller's workspace, after the one named.
    ///
    /// # Errors
    /// The problem to tell the caller.
    pub async fn runs(&self, caller: &Caller, after: Option<&str>) -> Told<List<RunSummary>> {
        let page = self
            .store
            .list::<Head>(&caller.workspace, Kind::Run, after)
            .await
            .map_err(Error::from)?;
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

    /// The output of a step, or of one attempt at it.
    ///
    /// # Errors
    /// The problem to tell the caller.
    pub async fn output(
        &self,
        caller: &Caller,
        id: &RunId,
        step: StepIndex,
        attempt: Option<u32>,
    ) -> Told<OutputText> {
        let none = || {
            Problem::new(
                Code::NotFound,
                format!("step {step} of {id} has no such output"),
            )
        };
        let view = self.view(caller, id).await?;
        let found = view
            .steps
            .into_iter()
            .find(|view| view.index == step)
            .ok_or_else(none)?;
        let holder = found.kept_from.clone().unwrap_or_else(|| id.clone());
        let newest = found
            .output
            .as_ref()
            .and_then(|link| link.href.rsplit_once("attempt=")?.1.parse().ok());
        let attempt = attempt.or(newest).ok_or_else(none)?;
        let kept = self
            .store
            .output(&holder, step, attempt)
            .await
            .map_err(Error::from)?;
        match kept.ok_or_else(none)? {
            Kept::Row { text } => Ok(OutputText::Here { text }),
            Kept::Object {
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
}

fn summary(head: Head, wait: Option<&Wait>) -> RunSummary {
    RunSummary {
        waits_for: wait.filter(|_| !head.status.is_terminal()).map(waits_for),
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

fn waits_for(wait: &Wait) -> WaitsFor {
    let (reason, text, subject) = match &wait.reason {
        _ if wait.wake.is_some() || wait.token.is_none() => {
            ("driver", "its driver is at work".to_owned(), None)
        }
        Reason::Driver | Reason::Nothing => ("driver", "its driver is at work".to_owned(), None),
        Reason::Job { job, .. } => ("job", format!("the job {job}"), Some(job.to_string())),
        Reason::Gate { step, .. } => ("gate", format!("the gate at step {step}"), None),
        Reason::Human { subject } => (
            "human",
            format!("a human's answer to {subject}"),
            Some(subject.clone()),
        ),
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
    spec: &StepSpec,
    input: &Input,
    run: &RunId,
    kept_from: Option<RunId>,
) -> StepView {
    let holder = input.holder(run, step.index);
    let output = step.output.as_ref().map(|output| OutputLink {
        href: format!(
            "/runs/{holder}/steps/{}/output?attempt={}",
            step.index, output.attempt
        ),
        bytes: output.bytes,
    });
    StepView {
        index: step.index,
        agent_kind: step.agent_kind.clone(),
        state: step.state(),
        requires_approval: spec.requires_approval,
        activity: activity(&step, spec),
        job_id: step.live_job().cloned(),
        attempt: step.attempt,
        started_at: step.started_at,
        paused_at: step.paused_at,
        finished_at: step.finished_at,
        output,
        decisions: step.decisions,
        approval: step.approval,
        gate: step.gate,
        evictions: step.evictions,
        model: step.model,
        kept_from,
    }
}

fn activity(step: &Step, spec: &StepSpec) -> String {
    let gate = step.gate.as_ref();
    match &step.activity {
        Activity::Pending => "not begun".to_owned(),
        Activity::Inline => "working".to_owned(),
        Activity::Job(job) if job.role == towpath_engine::Role::Helper => {
            let helper = spec.gate.as_ref().and_then(|gate| gate.helper.as_ref());
            let kind = helper.map_or("the helper", |helper| helper.agent_kind.as_str());
            let (attempt, of) = gate.map_or((0, 0), |gate| (gate.attempts, gate.max_attempts));
            format!("{kind} mends it, attempt {attempt} of {of}")
        }
        Activity::Job(_) => "a job works on it".to_owned(),
        Activity::Checking(checking) if checking.probe.is_some() => "its probe looks".to_owned(),
        Activity::Checking(_) => "waits to look again".to_owned(),
        Activity::Deciding { .. } => "waits for a decision".to_owned(),
        Activity::Approving { .. } => "waits for approval".to_owned(),
        Activity::Done => "done".to_owned(),
    }
}
