//! The CodeBuild runtime: a job is a build of the deployment's project, in which `towpath runner` carries it out.
//!
//! What is known of a job is its record ([`JobRecord`]), which any process reads; CodeBuild is asked what only it knows.
//!
//! | the record has | and the build is | the job |
//! | --- | --- | --- |
//! | nothing | | was never started |
//! | what was asked for, no `handle` | perhaps there | was never started: a start asks for the same again, and is given the same build |
//! | a `handle`, no claim | waiting or being prepared | is queued or provisioning |
//! | a claim | in progress | runs, or stops |
//! | no end | over | is lost: that is recorded, behind the last of its events |
//! | an `end` | any | is over, and this is how |
//!
//! The work begins with a claim: a build exchanges the job's start code for a token of its own, and of several builds that
//! a job may have got (the idempotency token of a start lives for five minutes only) one gets it, the others end at once.
//! So a stop needs no build to be found: where nothing has claimed the job, its record's end keeps everything from
//! beginning.

mod spec;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use spec::Spec;
use towpath_auth::Secret;
use towpath_aws::{Build, BuildStatus, CodeBuild, CodeBuildError, StartBuild};
use towpath_clock::Clock;
use towpath_engine::{Artifact, JobId, Timestamp};
use towpath_jobs::{
    JobRequest, JobSnapshot, JobStatus, LogPage, LogPosition, Runtime, StartError, Started,
    Unreadable, Work, error_class,
};
use towpath_store::{JobRecord, JobRecords, JobStop};

/// The time for which a start code is good after its build was last seen waiting.
const CODE_VALID: Duration = Duration::from_secs(600);
/// The time of a code's life that has to be left for it not to be renewed.
const CODE_LEFT: Duration = Duration::from_secs(300);
/// The time that a runner has, besides the grace of its command, to tell how the job ended after it was asked to stop.
const TELLING: Duration = Duration::from_secs(60);

/// The variable that names the job to its runner.
pub const JOB: &str = "TOWPATH_RUN_ID";
/// The variable that holds the code which the runner exchanges for its token.
pub const CODE: &str = "TOWPATH_START_CODE";

/// The codes by which runners prove themselves, once: made of the job's id and a key of the deployment, so that a
/// repeated start has the same.
#[async_trait]
pub trait StartCodes: Send + Sync {
    /// The code of a job.
    ///
    /// # Errors
    /// If the key cannot be read.
    async fn code(&self, job: &JobId) -> Result<Secret, Unreadable>;
}

/// The runtime of kind `codebuild`. Cheap to clone.
#[derive(Clone)]
pub struct CodeBuildRuntime {
    records: JobRecords,
    codebuild: CodeBuild,
    project: String,
    codes: Arc<dyn StartCodes>,
    clock: Clock,
}

/// The hash under which a start code or a runner's token is kept.
pub fn hash(secret: &str) -> String {
    format!("{:x}", Sha256::digest(secret.as_bytes()))
}

impl CodeBuildRuntime {
    /// The runtime whose builds are those of this project.
    pub fn new(
        records: JobRecords,
        codebuild: CodeBuild,
        project: String,
        codes: Arc<dyn StartCodes>,
        clock: Clock,
    ) -> Self {
        Self {
            records,
            codebuild,
            project,
            codes,
            clock,
        }
    }

    /// The job that a build was started for. `None`: there is no such build, or it is nobody's.
    ///
    /// # Errors
    /// If CodeBuild does not answer.
    pub async fn job_of(&self, build: &str) -> Result<Option<JobId>, Unreadable> {
        let found = self.codebuild.look(build).await.map_err(unreadable)?;
        let job = found.and_then(|build| build.variables.get(JOB)?.parse().ok());
        Ok(job)
    }

    /// The jobs that builds are at work for, of the 100 newest builds.
    ///
    /// # Errors
    /// If CodeBuild does not answer.
    pub async fn at_work(&self) -> Result<Vec<JobId>, Unreadable> {
        let newest = self.codebuild.newest(&self.project).await;
        let newest = newest.map_err(unreadable)?;
        if newest.is_empty() {
            return Ok(Vec::new());
        }
        let builds = self.codebuild.look_at(&newest).await.map_err(unreadable)?;
        let live = builds
            .iter()
            .filter(|it| it.status == BuildStatus::InProgress);
        let jobs = live.filter_map(|build| build.variables.get(JOB)?.parse().ok());
        Ok(jobs.collect())
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now_ms())
    }

    async fn record(&self, job: &JobId) -> Result<Option<JobRecord>, Unreadable> {
        self.records.get(job).await.map_err(unwritable)
    }

    /// Begins the record of a job, or finds the one that it has.
    async fn begin(
        &self,
        request: &JobRequest,
        spec: &Spec,
        code: &Secret,
    ) -> Result<JobRecord, StartError> {
        let new = JobRecord {
            spec: Some(spec.to_value()),
            code_hash: Some(hash(code.expose())),
            code_until: Some(self.now().plus(CODE_VALID)),
            ..JobRecord::of(request)
        };
        if self.records.begin(&new).await.map_err(unavailable)? {
            return Ok(new);
        }
        let found = self.records.get(&request.job).await.map_err(unavailable)?;
        let gone = || StartError::Unavailable(format!("the record of {} is gone", request.job));
        found.ok_or_else(gone)
    }

    /// Asks for the build of a job. Everything in the request follows from the job's record and id.
    async fn ask(
        &self,
        record: &JobRecord,
        spec: &Spec,
        code: &Secret,
    ) -> Result<String, StartError> {
        let variables = BTreeMap::from([
            (JOB.to_owned(), record.job.to_string()),
            (CODE.to_owned(), code.expose().to_owned()),
        ]);
        let build = StartBuild {
            project: self.project.clone(),
            token: record.job.to_string(),
            variables,
            image: spec.image.clone(),
            compute_type: spec.compute_type.clone(),
            timeout_minutes: spec.timeout_minutes,
            queued_timeout_minutes: spec.queued_timeout_minutes,
        };
        self.codebuild
            .start(&build)
            .await
            .map_err(|error| match error {
                CodeBuildError::NoRoom(why) => StartError::NoRoom(why),
                CodeBuildError::Refused(why) => StartError::Refused(why),
                CodeBuildError::Unavailable(why) => StartError::Unavailable(why),
            })
    }

    /// Records the end of a job whose runner did not, and returns the end that is on record.
    async fn conclude(
        &self,
        record: &JobRecord,
        end: &JobSnapshot,
    ) -> Result<JobSnapshot, Unreadable> {
        let ended = self.records.end(record, end, self.clock.now_ms()).await;
        ended.map_err(unwritable)?;
        let now = self.record(&record.job).await?;
        let ended = match &now {
            Some(now) => self.records.ended(now).await.map_err(unwritable)?,
            None => None,
        };
        let open = || Unreadable(format!("the end of {} is not recorded yet", record.job));
        ended.ok_or_else(open)
    }

    /// The status of a job that is not over, as its record and its build tell.
    async fn live(&self, record: &JobRecord) -> Result<Option<JobSnapshot>, Unreadable> {
        let Some(handle) = record.worker() else {
            // Nothing has claimed it: asked to stop, it never will be.
            return match &record.stop {
                Some(_) => self.conclude(record, &stopped()).await.map(Some),
                None => Ok(None),
            };
        };
        let build = self.codebuild.look(handle).await.map_err(unreadable)?;
        let Some(build) = build else {
            return self.conclude(record, &lost(record, None)).await.map(Some);
        };
        if build.status != BuildStatus::InProgress {
            return self
                .conclude(record, &lost(record, Some(&build)))
                .await
                .map(Some);
        }
        let waiting = matches!(build.phase.as_str(), "SUBMITTED" | "QUEUED");
        let status = match (&record.stop, &record.claimed_by, waiting) {
            (Some(_), _, _) => JobStatus::Stopping,
            (None, Some(_), _) => JobStatus::Running,
            (None, None, true) => JobStatus::Queued,
            (None, None, false) => JobStatus::Provisioning,
        };
        let soon = self.now().plus(CODE_LEFT);
        let unclaimed = record.claimed_by.is_none() && record.stop.is_none();
        if unclaimed && record.code_until.is_none_or(|until| until < soon) {
            let until = self.now().plus(CODE_VALID);
            let renewed = self.records.renew_code(&record.job, until).await;
            renewed.map_err(unwritable)?;
        }
        Ok(Some(JobSnapshot::of(status)))
    }

    /// Ends the build of a job that is asked to stop, where its runner cannot, or does not in time.
    async fn end_build(&self, record: &JobRecord) -> Result<(), Unreadable> {
        let Some(build) = record.worker() else {
            return Ok(());
        };
        let late = record.stop.as_ref().is_none_or(|stop| {
            let grace = Duration::from_millis(stop.grace_ms).saturating_add(TELLING);
            stop.at.plus(grace) <= self.now()
        });
        if record.claimed_by.is_none() || late {
            self.codebuild.stop(build).await.map_err(unreadable)?;
        }
        Ok(())
    }
}

#[async_trait]
impl Runtime for CodeBuildRuntime {
    fn kind(&self) -> &'static str {
        "codebuild"
    }

    fn asks_for_manifest(&self) -> bool {
        true
    }

    async fn start(&self, request: &JobRequest) -> Result<Started, StartError> {
        let Work::Command(work) = &request.work else {
            let why = "the runtime `codebuild` runs commands, and cannot answer for an agent that is none";
            return Err(StartError::Refused(why.to_owned()));
        };
        if request.job.number().is_none() {
            let why = format!("the job {} is of release 0.1.0; retry its run", request.job);
            return Err(StartError::Refused(why));
        }
        let spec = Spec::of(request, work)?;
        let code = self.codes.code(&request.job).await;
        let code = code.map_err(|Unreadable(why)| StartError::Unavailable(why))?;
        let record = self.begin(request, &spec, &code).await?;
        if record.handle.is_some() || record.stop.is_some() || record.end.is_some() {
            return Ok(Started::Accepted);
        }
        // What was asked for first counts: CodeBuild refuses the same token with other parameters.
        let spec = record.spec.as_ref().and_then(Spec::read).unwrap_or(spec);
        let build = self.ask(&record, &spec, &code).await?;
        self.records
            .started(&request.job, &build)
            .await
            .map_err(unavailable)?;
        // A stop that came in between did not know of the build.
        let now = self.records.get(&request.job).await.map_err(unavailable)?;
        if now.is_some_and(|now| now.stop.is_some() && now.claimed_by.is_none())
            && let Err(error) = self.codebuild.stop(&build).await
        {
            tracing::warn!(job = %request.job, "a build that has nothing to do runs until it learns so: {error}");
        }
        Ok(Started::Accepted)
    }

    async fn status(&self, job: &JobId) -> Result<Option<JobSnapshot>, Unreadable> {
        if job.number().is_none() {
            return Ok(None);
        }
        let Some(record) = self.record(job).await? else {
            return Ok(None);
        };
        match self.records.ended(&record).await.map_err(unwritable)? {
            Some(end) => Ok(Some(end)),
            None => self.live(&record).await,
        }
    }

    async fn stop(&self, job: &JobId, grace: Duration) -> Result<(), Unreadable> {
        if job.number().is_none() {
            return Ok(());
        }
        let stop = JobStop {
            at: self.now(),
            grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
        };
        let record = self.records.ask_stop(job, &stop).await;
        let record = record.map_err(unwritable)?;
        if record.end.is_some() {
            return Ok(());
        }
        self.end_build(&record).await?;
        if record.claimed_by.is_none() {
            // Nothing can claim it any more, so it is over, whatever becomes of its build.
            self.conclude(&record, &stopped()).await?;
        }
        Ok(())
    }

    /// Its jobs ask nothing while they are under way.
    async fn answer(&self, _: &JobId, _: &str, _: &str) -> Result<(), Unreadable> {
        Ok(())
    }

    async fn tail_logs(&self, job: &JobId, lines: usize) -> Result<Option<String>, Unreadable> {
        self.records.log_tail(job, lines).await.map_err(unwritable)
    }

    /// The runner has put it into the bucket.
    async fn read_artifact(&self, _: &Artifact) -> Result<Option<Vec<u8>>, Unreadable> {
        Ok(None)
    }

    async fn read_log(
        &self,
        job: &JobId,
        after: LogPosition,
    ) -> Result<Option<LogPage>, Unreadable> {
        let found = self.records.log(job, after).await.map_err(unwritable)?;
        Ok(found.map(|(page, record)| LogPage {
            console: record.worker().map(|build| self.codebuild.console(build)),
            ..page
        }))
    }
}

fn stopped() -> JobSnapshot {
    JobSnapshot::ended_badly(error_class::STOPPED, "the job was stopped")
}

/// The end of a job whose build is over, or gone, without a word of its runner.
fn lost(record: &JobRecord, build: Option<&Build>) -> JobSnapshot {
    if record.stop.is_some() {
        return stopped();
    }
    let Some(build) = build else {
        let message = "CodeBuild does not know the job's build any more";
        return JobSnapshot::ended_badly(error_class::EVICTED, message);
    };
    let why = build.failed.as_ref().map_or_else(String::new, |failed| {
        format!(" in its phase {} ({})", failed.phase, failed.message)
    });
    let begun = record.claimed_by.is_some();
    let (class, what) = match build.status {
        BuildStatus::TimedOut if begun => (error_class::TIMED_OUT, "ran longer than it may"),
        // Its turn did not come while it waited.
        BuildStatus::TimedOut => (error_class::TIMED_OUT, "got no machine in time"),
        BuildStatus::Fault => (error_class::RECLAIMED, "was ended by CodeBuild"),
        BuildStatus::Stopped => (error_class::EVICTED, "was stopped in CodeBuild"),
        BuildStatus::Failed if !begun => (
            error_class::START_FAILED,
            "failed before the job began; its image needs sh, curl, and git for a checkout",
        ),
        BuildStatus::Failed | BuildStatus::Succeeded | BuildStatus::InProgress => (
            error_class::EVICTED,
            "ended without telling how the job did",
        ),
    };
    JobSnapshot::ended_badly(class, format!("the build {} {what}{why}", build.id))
}

fn unreadable(error: CodeBuildError) -> Unreadable {
    Unreadable(error.to_string())
}

fn unavailable(error: towpath_store::Error) -> StartError {
    StartError::Unavailable(error.to_string())
}

fn unwritable(error: towpath_store::Error) -> Unreadable {
    Unreadable(error.to_string())
}

#[cfg(test)]
mod tests {
    use towpath_aws::FailedPhase;

    use super::*;

    fn record(claimed: bool, stopped: bool) -> JobRecord {
        let at = Timestamp(1);
        JobRecord {
            job: "job_01ARZ3NDEKTSV4RRFFQ69G5FAV-7".parse().unwrap(),
            workspace: None,
            step: None,
            attempt: None,
            spec: None,
            code_hash: None,
            code_until: None,
            handle: Some("p:1".to_owned()),
            claimed_by: claimed.then(|| "p:1".to_owned()),
            token_hash: None,
            stop: stopped.then_some(JobStop { at, grace_ms: 1 }),
            answer: None,
            end: None,
            calls: None,
        }
    }

    fn build(status: BuildStatus) -> Build {
        Build {
            id: "p:1".to_owned(),
            status,
            phase: "COMPLETED".to_owned(),
            failed: Some(FailedPhase {
                phase: "BUILD".to_owned(),
                status: "FAILED".to_owned(),
                message: "the reason".to_owned(),
            }),
            variables: BTreeMap::new(),
            log: None,
        }
    }

    #[test]
    fn what_became_of_a_job_follows_from_its_build_and_from_whether_it_had_begun() {
        use BuildStatus::{Failed, Fault, Stopped, Succeeded, TimedOut};
        for (status, claimed, class) in [
            (Failed, false, error_class::START_FAILED),
            (Failed, true, error_class::EVICTED),
            (Succeeded, false, error_class::EVICTED),
            (Succeeded, true, error_class::EVICTED),
            (Stopped, true, error_class::EVICTED),
            (Fault, false, error_class::RECLAIMED),
            (Fault, true, error_class::RECLAIMED),
            (TimedOut, false, error_class::TIMED_OUT),
            (TimedOut, true, error_class::TIMED_OUT),
        ] {
            let end = lost(&record(claimed, false), Some(&build(status)));
            assert_eq!(
                end.terminal_error_class.as_deref(),
                Some(class),
                "{status:?} {claimed}"
            );
            let message = end.terminal_error_message.unwrap();
            assert!(
                message.contains("p:1") && message.contains("the reason"),
                "{message}"
            );
            let asked = lost(&record(claimed, true), Some(&build(status)));
            let class = asked.terminal_error_class.as_deref();
            assert_eq!(class, Some(error_class::STOPPED), "{status:?} {claimed}");
        }
        let gone = lost(&record(true, false), None);
        assert_eq!(
            gone.terminal_error_class.as_deref(),
            Some(error_class::EVICTED)
        );
    }
}
