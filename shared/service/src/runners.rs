//! Runners: what a job that runs elsewhere is told, and what it tells.
//!
//! A runner proves itself with its job's start code, once, and from then on with a token of its own making, which dies with
//! the job. It learns its manifest, hands in the answer, and appends events, the last of which is the end of the job.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use towpath_aws::EventBus;
use towpath_clock::Clock;
use towpath_engine::{Artifact, Head, JobId, Phase, Timestamp};
use towpath_jobs::{
    Answer, BatchError, EventBatch, EventKind, JobRequest, JobSnapshot, JobStatus, RunnerEvent,
    error_class,
};
use towpath_jobs_executor::{JobNews, Refused, Registrar};
use towpath_jobs_remote::hash;
use towpath_store::{Appended, Claimed, JobRecord, JobRecords, JobStop, Store, UploadUrl};

use crate::jobs::Jobs;
use crate::{Error, Ports};

/// Speaks with the runners of jobs.
#[derive(Clone)]
pub struct Runners {
    records: JobRecords,
    of_runs: OfRuns,
    /// What jobs are told instead of what their runs say.
    manifests: Option<Arc<dyn Manifests>>,
    clock: Clock,
    news: News,
    registrar: Registrar,
}

/// What jobs are to do.
#[async_trait]
pub trait Manifests: Send + Sync {
    /// What a job is to do, as things are now.
    ///
    /// # Errors
    /// [`RunnerRefused::Over`] if nobody waits for the job any more.
    async fn manifest(&self, job: &JobId) -> Result<JobRequest, RunnerRefused>;
}

/// The jobs of runs: what the run's call asks for.
#[derive(Clone)]
struct OfRuns {
    store: Store,
    jobs: Jobs,
}

impl OfRuns {
    async fn manifest(&self, job: &JobId) -> Result<JobRequest, RunnerRefused> {
        let loaded = self.store.load(&job.run()).await?;
        let loaded = loaded.ok_or(RunnerRefused::Over)?;
        let run = &loaded.run;
        let call = match &run.step.phase {
            Phase::Calling(call) if call.id == *job && !is_ending(&run.head) => call.clone(),
            _ => return Err(RunnerRefused::Over),
        };
        match self.jobs.request(run, &call, true).await? {
            Ok(request) => Ok(request),
            Err(refused) => Err(RunnerRefused::NoWork(refused.to_string())),
        }
    }
}

/// Where the end of a job is told.
#[derive(Clone)]
pub enum News {
    /// The event bus, whose rule wakes the run.
    Bus(EventBus),
    /// Nowhere: whoever looks finds it.
    Nowhere,
}

/// A job whose runner proved itself by its token.
#[derive(Clone, Debug)]
pub struct RunnersJob(JobRecord);

/// The reason a runner is refused.
#[derive(Debug)]
pub enum RunnerRefused {
    /// The code or token is none of this job.
    Unknown,
    /// The code was good for ten minutes, which are over.
    CodeExpired,
    /// Another runner works on the job.
    Claimed,
    /// The job is over, or is to stop before it has begun.
    Over,
    /// The batch breaks a rule; the last sequence number that is stored.
    Batch(BatchError, Option<u64>),
    /// The artifact breaks a rule, in words for people.
    Artifact(String),
    /// The end tells of an answer that was not handed in.
    AnswerMissing,
    /// The job cannot be told what to do, in words for people: nothing can come of it.
    NoWork(String),
    /// The records could not be reached, or are wrong.
    Failed(Error),
}

impl From<Error> for RunnerRefused {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<towpath_store::Error> for RunnerRefused {
    fn from(error: towpath_store::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl RunnersJob {
    /// The id of the job.
    pub fn job(&self) -> &JobId {
        &self.0.job
    }

    /// The request to stop the job, if there is one.
    pub fn stop(&self) -> Option<&JobStop> {
        self.0.stop.as_ref()
    }

    /// Whether the job is a mission of an executor: it is claimed by the executor's token, and has no start code.
    fn is_mission(&self) -> bool {
        self.0.code_hash.is_none()
    }

    /// Whether the job is over.
    pub fn is_over(&self) -> bool {
        self.0.end.is_some()
    }
}

impl Runners {
    pub(crate) fn new(ports: Ports, jobs: Jobs, registrar: Registrar) -> Self {
        let store = ports.store;
        Self {
            records: store.jobs(),
            of_runs: OfRuns { store, jobs },
            manifests: None,
            clock: ports.clock,
            news: ports.news,
            registrar,
        }
    }

    /// The same, with jobs that are told from elsewhere what to do.
    #[must_use]
    pub fn with_manifests(self, manifests: Arc<dyn Manifests>) -> Self {
        Self {
            manifests: Some(manifests),
            ..self
        }
    }

    /// Checks a start code, which is still good.
    ///
    /// # Errors
    /// The reason it is not.
    pub async fn check_code(&self, job: &JobId, code: &str) -> Result<(), RunnerRefused> {
        self.with_code(job, code).await.map(|_| ())
    }

    async fn with_code(&self, job: &JobId, code: &str) -> Result<JobRecord, RunnerRefused> {
        let record = self.record(job).await?;
        if record.code_hash.as_deref() != Some(&*hash(code)) {
            return Err(RunnerRefused::Unknown);
        }
        if record.end.is_some() {
            return Err(RunnerRefused::Over);
        }
        Ok(record)
    }

    async fn record(&self, job: &JobId) -> Result<JobRecord, RunnerRefused> {
        if job.number().is_none() {
            return Err(RunnerRefused::Unknown);
        }
        let record = self.records.get(job).await?;
        record.ok_or(RunnerRefused::Unknown)
    }

    /// Gives a job to the first runner that shows its code. The token is the runner's own, so that a claim whose answer
    /// was lost can be made again.
    ///
    /// # Errors
    /// The reason the job is not the runner's.
    pub async fn claim(
        &self,
        job: &JobId,
        code: &str,
        by: &str,
        token: &str,
    ) -> Result<(), RunnerRefused> {
        let record = self.with_code(job, code).await?;
        let token = hash(token);
        if record.token_hash.as_deref() == Some(&*token) {
            return Ok(());
        }
        if record.token_hash.is_some() {
            return Err(RunnerRefused::Claimed);
        }
        if record.stop.is_some() {
            return Err(RunnerRefused::Over);
        }
        let now = Timestamp(self.clock.now_ms());
        if record.code_until.is_none_or(|until| until < now) {
            return Err(RunnerRefused::CodeExpired);
        }
        match self.records.claim(job, by, &token).await? {
            Claimed::Yes => Ok(()),
            Claimed::No(found) if found.token_hash.is_some() => Err(RunnerRefused::Claimed),
            Claimed::No(_) => Err(RunnerRefused::Over),
        }
    }

    /// Gives a job to the executor that has its mission, and again to the same: an executor that was restarted makes itself
    /// another token.
    ///
    /// # Errors
    /// [`RunnerRefused::Unknown`] if the executor does not have the mission.
    pub async fn claim_as_executor(
        &self,
        job: &JobId,
        executor: &str,
        token: &str,
    ) -> Result<(), RunnerRefused> {
        let identity = match self.registrar.authenticate(executor).await {
            Ok(identity) => identity,
            Err(Refused::Failed(error)) => return Err(error.into()),
            Err(_) => return Err(RunnerRefused::Unknown),
        };
        let executor = &identity.record;
        if !executor.missions.contains(job.as_str()) {
            return Err(RunnerRefused::Unknown);
        }
        let by = executor.executor.as_str();
        match self.records.claim_again(job, by, &hash(token)).await? {
            true => Ok(()),
            false => Err(RunnerRefused::Over),
        }
    }

    /// The job of a token.
    ///
    /// # Errors
    /// [`RunnerRefused::Unknown`] if the token is none of this job.
    pub async fn with_token(&self, job: &JobId, token: &str) -> Result<RunnersJob, RunnerRefused> {
        let record = self.record(job).await?;
        match record.token_hash.as_deref() == Some(&*hash(token)) {
            true => Ok(RunnersJob(record)),
            false => Err(RunnerRefused::Unknown),
        }
    }

    /// What a job is to do, as things are now.
    ///
    /// # Errors
    /// [`RunnerRefused::Over`] if nobody waits for the job any more.
    pub async fn manifest(&self, of: &RunnersJob) -> Result<JobRequest, RunnerRefused> {
        if of.is_over() || of.stop().is_some() {
            return Err(RunnerRefused::Over);
        }
        // Called by name: behind a `dyn`, every function would link what only that of runners needs.
        match &self.manifests {
            None => self.of_runs.manifest(of.job()).await,
            Some(manifests) => manifests.manifest(of.job()).await,
        }
    }

    /// Keeps the answer of a job's command. It counts once the job has ended.
    ///
    /// # Errors
    /// [`RunnerRefused::Over`] if the job is over.
    pub async fn answer(&self, of: &RunnersJob, answer: &Answer) -> Result<(), RunnerRefused> {
        let (text, printed) = match answer {
            Answer::File(text) => (text, false),
            Answer::Stdout(text) => (text, true),
        };
        match self.records.keep_answer(of.job(), text, printed).await? {
            true => Ok(()),
            false => Err(RunnerRefused::Over),
        }
    }

    /// The place where a job's runner puts a file that the answer names. It counts once the job has ended, and only as what
    /// the end of the job says it is.
    ///
    /// # Errors
    /// [`RunnerRefused::Over`] if the job is over; [`RunnerRefused::Artifact`] if the artifact breaks a rule.
    pub fn artifact(
        &self,
        of: &RunnersJob,
        artifact: &Artifact,
    ) -> Result<UploadUrl, RunnerRefused> {
        if of.is_over() {
            return Err(RunnerRefused::Over);
        }
        let one = std::slice::from_ref(artifact);
        check_artifacts(of.job(), one).map_err(RunnerRefused::Artifact)?;
        Ok(self.records.artifact_upload(artifact)?)
    }

    /// Appends events to a job's. The `runtime_terminal` among them is the end of the job, and is told at once. Returns the
    /// last sequence number that is stored.
    ///
    /// # Errors
    /// The reason the batch is not taken.
    pub async fn append(&self, to: &RunnersJob, batch: &EventBatch) -> Result<u64, RunnerRefused> {
        let terminal = batch.events.iter().position(is_terminal);
        if terminal.is_some_and(|at| at + 1 < batch.events.len()) {
            return Err(RunnerRefused::Over);
        }
        let terminal = terminal.and_then(|at| batch.events.get(at));
        let end = terminal.map(|event| end_of(to.job(), &event.data));
        if let Some(end) = &end
            && !to.is_over()
            && end.terminal_error_class.is_none()
            && to.0.answer.is_none()
        {
            return Err(RunnerRefused::AnswerMissing);
        }
        let appended = self.records.append(&to.0, &batch.events, end.as_ref());
        let through = match appended.await? {
            Appended::Through(seq) => seq,
            Appended::Refused(error, last) => return Err(RunnerRefused::Batch(error, last)),
            Appended::Over => return Err(RunnerRefused::Over),
        };
        // That of a mission is told when the mission ends too, a moment later: its executor is then free for the next.
        if end.is_some() && !to.is_mission() {
            self.news.tell(to.job()).await;
        }
        Ok(through)
    }
}

#[async_trait]
impl JobNews for News {
    /// If that fails, the job's runtime tells it too, or the tick looks.
    async fn tell(&self, job: &JobId) {
        let News::Bus(bus) = self else { return };
        let detail = serde_json::json!({ "job": job });
        if let Err(error) = bus.put("towpath.jobs", "Job State Change", &detail).await {
            tracing::warn!(%job, "news of a job could not be told: {error}");
        }
    }
}

/// Whether nobody waits any more for what a run does.
fn is_ending(head: &Head) -> bool {
    head.stop.is_some() || head.status.is_terminal()
}

fn is_terminal(event: &RunnerEvent) -> bool {
    event.kind == EventKind::RuntimeTerminal
}

/// Checks artifacts that the runner of a job tells of: they are the job's own.
fn check_artifacts(job: &JobId, artifacts: &[Artifact]) -> Result<(), String> {
    Artifact::check_all(artifacts)?;
    match artifacts.iter().find(|it| it.job != *job) {
        None => Ok(()),
        Some(other) => Err(format!("the artifact {} is of another job", other.name)),
    }
}

/// The end of a job, as its runner tells it. A runner that says nothing of how it ended has ended well; a class that is not
/// known is that of an agent that failed.
fn end_of(job: &JobId, data: &serde_json::Map<String, Value>) -> JobSnapshot {
    let mut data = data.clone();
    // The answer was handed in before, and is never a part of an event.
    data.remove("answer");
    data.entry("status").or_insert("terminated".into());
    let told = serde_json::from_value::<JobSnapshot>(Value::Object(data));
    let mut end = told.unwrap_or_else(|_| {
        let message = "the runner's word on how the job ended cannot be read";
        JobSnapshot::ended_badly(error_class::AGENT_ERROR, message)
    });
    if !end.status.is_final() {
        end.status = JobStatus::Terminated;
    }
    if let Some(class) = &end.terminal_error_class
        && !error_class::ALL.contains(&class.as_str())
    {
        end.terminal_error_class = Some(error_class::AGENT_ERROR.to_owned());
    }
    if end.status == JobStatus::Failed && end.terminal_error_class.is_none() {
        end.terminal_error_class = Some(error_class::AGENT_ERROR.to_owned());
    }
    if let Err(broken) = check_artifacts(job, &end.artifacts) {
        return JobSnapshot::ended_badly(error_class::AGENT_ERROR, broken);
    }
    // What a person reads is bounded, whoever wrote it.
    let bounded = |text: String| towpath_jobs::last_lines(text.as_bytes(), 4 * 1024);
    end.terminal_error_message = end.terminal_error_message.map(bounded);
    end.printed = end.printed.map(bounded);
    end
}
