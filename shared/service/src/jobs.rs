//! The calls of a step: starting them and looking at them.

use std::time::Duration;

use towpath_engine::policy::start_pause;
use towpath_engine::{
    Call, CallFailure, CallResult, CallStatus, FailureKind, JobRef, Loss, LossCause, Role, Run,
    Work, gone,
};
use towpath_jobs::{
    Fate, Given, JobRequest, JobSnapshot, JobStatus, Reaped, Registry, StartError, Started,
    Unreadable, call_result,
};
use towpath_store::Store;

use crate::contract::{Texts, contract};
use crate::outbox::Outbox;
use crate::{AgentSecrets, Error, Ports};

/// The calls of steps.
#[derive(Clone)]
pub(crate) struct Jobs {
    store: Store,
    runtimes: Registry,
    outbox: Outbox,
    secrets: AgentSecrets,
}

/// The outcome of a try to move a call on.
pub(crate) enum Tried {
    /// The call has been started now.
    Started,
    /// The call has this status.
    Is(CallStatus),
    /// The call cannot start yet: try again after the pause.
    Held {
        /// The pause.
        pause: Duration,
        /// The reason, for people.
        why: String,
    },
}

impl Jobs {
    pub(crate) fn new(ports: &Ports) -> Self {
        Self {
            store: ports.store.clone(),
            runtimes: ports.runtimes.clone(),
            outbox: Outbox::new(ports.clone()),
            secrets: AgentSecrets::new(ports.clone()),
        }
    }

    /// Whether the run's call is answered by the very try to start it, so that nothing is waited for.
    pub(crate) fn is_inline(&self, run: &Run) -> bool {
        let call = run.step.call();
        call.is_some_and(|call| self.runtimes.is_inline(&call.runtime))
    }

    /// Whether the call's runtime knows it: one that is held back because its runtime has it queued is looked at when there
    /// is news of it, not only when its pause is over.
    pub(crate) async fn is_known(&self, call: &Call) -> bool {
        let fate = self.runtimes.status(&call.runtime, &call.id).await;
        matches!(fate, Fate::Known(_))
    }

    /// Looks at the run's call and starts it if it has not been started; `fresh` says that it certainly has not. Jobs that
    /// it replaces are noted in the run as they are found gone.
    pub(crate) async fn try_call(&self, run: &mut Run, fresh: bool) -> Result<Tried, Error> {
        let Some(call) = run.step.call().cloned() else {
            return Ok(Tried::Is(CallStatus::Running));
        };
        let (now, tries) = (
            self.outbox.now(),
            call.held.as_ref().map_or(0, |it| it.tries),
        );
        let fate = match fresh {
            true => Fate::NeverStarted,
            false => self.runtimes.status(&call.runtime, &call.id).await,
        };
        let held_for = |why: String, least: Duration| Tried::Held {
            pause: start_pause(tries + 1).max(least),
            why,
        };
        let held = |why: String| held_for(why, Duration::ZERO);
        match fate {
            Fate::Known(snapshot)
                if snapshot.status == JobStatus::Queued && now < call.deadline =>
            {
                let no_room = || format!("its runtime, {}, has no room for it yet", call.runtime);
                let why = snapshot.waits_for.map_or_else(no_room, String::from);
                return Ok(held(why));
            }
            // Its turn has come.
            Fate::Known(snapshot) if !snapshot.status.is_final() && call.held.is_some() => {
                return Ok(Tried::Started);
            }
            Fate::Known(snapshot) => {
                return Ok(Tried::Is(self.answered(run, &call, *snapshot).await));
            }
            Fate::Unreadable(why) => return Ok(Tried::Is(CallStatus::Unreadable(why))),
            // Its time is up before it began: there is nothing to start any more.
            Fate::NeverStarted if now >= call.deadline => {
                return Ok(Tried::Is(CallStatus::Running));
            }
            Fate::NeverStarted => {}
        }
        if let Some(job) = self.replaced(run).await {
            return Ok(held(format!("the job {job} must be gone first")));
        }
        // Boxed: it is the deepest future of all, and the compiler has a limit.
        Ok(match Box::pin(self.start(run, &call)).await? {
            Ok(Started::Accepted) => Tried::Started,
            Ok(Started::Answered(snapshot)) => Tried::Is(status(*snapshot)),
            Err(StartError::NoRoom(why)) => held(why),
            Err(StartError::Later { why, after }) => held_for(why, after),
            Err(StartError::Unavailable(why)) => held(format!("its runtime did not answer: {why}")),
            Err(StartError::Refused(message)) => {
                let refused = CallFailure::new(FailureKind::Dispatch, message);
                Tried::Is(CallStatus::Ended(CallResult::Failed(refused)))
            }
        })
    }

    /// Looks at the call that has asked a human, and goes on with the answer.
    pub(crate) async fn look_at_asking(&self, run: &Run) -> CallStatus {
        let Some(call) = run.step.asking_call() else {
            return CallStatus::Running;
        };
        match self.runtimes.status(&call.runtime, &call.id).await {
            Fate::Known(snapshot) => status(*snapshot),
            Fate::Unreadable(why) => CallStatus::Unreadable(why),
            Fate::NeverStarted => {
                let message = format!("its runtime knows nothing of the job {} any more", call.id);
                let cause = LossCause::Crashed;
                CallStatus::Ended(CallResult::Lost(Loss {
                    cause,
                    message,
                    usage: None,
                }))
            }
        }
    }

    /// The status of the run's call, which is brought the answer if it asks what a human has answered.
    async fn answered(&self, run: &Run, call: &Call, snapshot: JobSnapshot) -> CallStatus {
        let status = status(snapshot);
        let CallStatus::Asks(asked) = &status else {
            return status;
        };
        let Some(answer) = run.step.answer_to(&call.id, &asked.id) else {
            return status;
        };
        let told = self
            .runtimes
            .answer(&call.runtime, &call.id, &asked.id, answer);
        match told.await {
            Ok(()) => CallStatus::Running,
            Err(Unreadable(why)) => CallStatus::Unreadable(why),
        }
    }

    /// Puts the artifacts of the run's call into the bucket, unless its runner has, before the commit that refers to them.
    /// What is lost makes the call fail.
    pub(crate) async fn keep_artifacts(
        &self,
        run: &Run,
        status: CallStatus,
    ) -> Result<CallStatus, Error> {
        let call = run.step.call().or(run.step.asking_call());
        let (CallStatus::Ended(CallResult::Done(answer)), Some(call)) = (&status, call) else {
            return Ok(status);
        };
        if self.runtimes.asks_for_manifest(&call.runtime) {
            return Ok(status);
        }
        for artifact in answer.kept() {
            let message = match self.runtimes.read_artifact(&call.runtime, artifact).await {
                Ok(Some(bytes)) => {
                    self.store.put_artifact(artifact, bytes).await?;
                    continue;
                }
                Ok(None) => format!("the artifact {} is gone", artifact.name),
                Err(Unreadable(why)) => return Ok(CallStatus::Unreadable(why)),
            };
            let lost = CallFailure::new(FailureKind::Agent, message);
            return Ok(CallStatus::Ended(CallResult::Failed(lost)));
        }
        Ok(status)
    }

    /// Sees to the jobs that the run's call replaces. Returns one that is not gone yet.
    async fn replaced(&self, run: &mut Run) -> Option<towpath_engine::JobId> {
        let replaces: Vec<JobRef> = run.step.replaces.clone();
        for job in &replaces {
            match self.outbox.end(job).await {
                Ok(Reaped::Gone) => gone(run, job),
                _ => return Some(job.job.clone()),
            }
        }
        None
    }

    /// Starts the run's call. Idempotent by its id, so that whoever finds it not started may start it.
    async fn start(&self, run: &Run, call: &Call) -> Result<Result<Started, StartError>, Error> {
        let whole = !self.runtimes.asks_for_manifest(&call.runtime);
        Ok(match self.request(run, call, whole).await? {
            Ok(request) => self.runtimes.start(&call.runtime, &request).await,
            Err(refused) => Err(refused),
        })
    }

    fn texts(&self) -> Texts<'_> {
        Texts {
            store: &self.store,
            runtimes: &self.runtimes,
        }
    }

    /// What the run's call asks for, as things are now. `whole`: with the texts and the secrets that its command gets.
    pub(crate) async fn request(
        &self,
        run: &Run,
        call: &Call,
        whole: bool,
    ) -> Result<Result<JobRequest, StartError>, Error> {
        let input = self.store.input(&run.head.id).await?;
        let spec = run.spec()?;
        let mut contract = contract(run, &input, call)?;
        let Some(work) = run.kind()?.work(spec, call.role) else {
            let why = format!("the step {} has no work to do", run.head.current);
            return Ok(Err(StartError::Refused(why)));
        };
        let left = call.deadline.since(self.outbox.now());
        let (repository, budget) = (
            input.block.repository.as_ref(),
            spec.budgets.job().min(left),
        );
        let command = match work {
            Work::Command(command) => command,
            Work::Simulated(script) => return Ok(JobRequest::simulated(script, &contract, budget)),
            Work::Model(model) => {
                let texts = self.texts().add_to(&mut contract, run, &input).await?;
                return Ok(JobRequest::model(model, &contract, texts.0, budget));
            }
        };
        let given = match whole {
            false => Given::later(command),
            true => {
                let (inputs, artifacts) = self.texts().add_to(&mut contract, run, &input).await?;
                Given {
                    inputs,
                    artifacts,
                    secrets: self.secrets.of(&run.head.workspace, command).await?,
                }
            }
        };
        Ok(JobRequest::command(
            command, &contract, given, repository, budget,
        ))
    }
}

fn status(mut snapshot: JobSnapshot) -> CallStatus {
    if let Some(question) = snapshot.question.take()
        && !snapshot.status.is_final()
    {
        return CallStatus::Asks(*question);
    }
    call_result(snapshot).map_or(CallStatus::Running, CallStatus::Ended)
}

/// The name of what a call of this role does, for people.
pub(crate) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Main => "job",
        Role::Helper => "helper's job",
        Role::Probe => "gate's probe",
    }
}
