//! The runtime `codebuild`: a job is a build of the deployment's project, in which `towpath runner` carries it out. The
//! rest is [`towpath_jobs_remote`]'s.
//!
//! The idempotency token of a start lives for five minutes only: a start that is repeated later is another build.

mod spec;

use async_trait::async_trait;
use serde_json::Value;
use spec::Spec;
use towpath_aws::{Build, BuildStatus, CodeBuild, CodeBuildError, StartBuild};
use towpath_engine::{JobId, JobRef};
use towpath_jobs::{CommandWork, JobRequest, StartError, Unreadable};
use towpath_jobs_remote::{
    Cause, JOB, Order, Over, Seen, Substrate, Words, spec_from_value, spec_to_value,
};

/// The builds of a project. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Builds {
    codebuild: CodeBuild,
    project: String,
}

impl Builds {
    /// The builds of this project.
    pub fn new(codebuild: CodeBuild, project: String) -> Self {
        Self { codebuild, project }
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
    pub async fn at_work(&self) -> Result<Vec<JobRef>, Unreadable> {
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
        let runtime = || self.kind().to_owned();
        Ok(jobs
            .map(|job| JobRef {
                job,
                runtime: runtime(),
            })
            .collect())
    }
}

#[async_trait]
impl Substrate for Builds {
    fn kind(&self) -> &'static str {
        "codebuild"
    }

    fn words(&self) -> Words {
        Words {
            service: "CodeBuild",
            machine: "build",
        }
    }

    fn spec(&self, request: &JobRequest, work: &CommandWork) -> Result<Value, StartError> {
        Spec::of(request, work).map(|spec| spec_to_value(&spec))
    }

    async fn start(&self, order: &Order<'_>) -> Result<String, StartError> {
        let spec: Spec = spec_from_value(order.spec)?;
        let build = StartBuild {
            project: self.project.clone(),
            token: order.job.to_string(),
            variables: order.variables.clone(),
            image: spec.image,
            compute_type: spec.compute_type,
            timeout_minutes: spec.timeout_minutes,
            queued_timeout_minutes: spec.queued_timeout_minutes,
        };
        let started = self.codebuild.start(&build).await;
        started.map_err(|error| match error {
            CodeBuildError::NoRoom(why) => StartError::NoRoom(why),
            CodeBuildError::Refused(why) => StartError::Refused(why),
            CodeBuildError::Unavailable(why) => StartError::Unavailable(why),
        })
    }

    async fn look(&self, handle: &str) -> Result<Option<Seen>, Unreadable> {
        let build = self.codebuild.look(handle).await.map_err(unreadable)?;
        Ok(build.as_ref().map(seen))
    }

    async fn stop(&self, handle: &str) -> Result<(), Unreadable> {
        self.codebuild.stop(handle).await.map_err(unreadable)
    }

    fn console(&self, handle: &str) -> Option<String> {
        Some(self.codebuild.console(handle))
    }
}

fn seen(build: &Build) -> Seen {
    let cause = match build.status {
        BuildStatus::InProgress => {
            return match build.phase.as_str() {
                "SUBMITTED" | "QUEUED" => Seen::Waiting,
                "BUILD" => Seen::InProgress,
                _ => Seen::Preparing,
            };
        }
        BuildStatus::Succeeded => Cause::Done,
        BuildStatus::Failed => Cause::Failed,
        BuildStatus::Fault => Cause::Reclaimed,
        BuildStatus::Stopped => Cause::Stopped,
        BuildStatus::TimedOut => Cause::TimedOut,
    };
    let why = build.failed.as_ref().map_or_else(String::new, |failed| {
        format!(" in its phase {} ({})", failed.phase, failed.message)
    });
    Seen::Over(Over { cause, why })
}

fn unreadable(error: CodeBuildError) -> Unreadable {
    Unreadable(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use towpath_aws::FailedPhase;

    use super::*;

    fn build(status: BuildStatus, phase: &str) -> Build {
        Build {
            id: "p:1".to_owned(),
            status,
            phase: phase.to_owned(),
            failed: None,
            variables: BTreeMap::new(),
            log: None,
        }
    }

    #[test]
    fn the_end_of_a_build_has_a_cause_and_the_phase_that_failed() {
        use BuildStatus::{Failed, Fault, Stopped, Succeeded, TimedOut};
        for (status, cause) in [
            (Failed, Cause::Failed),
            (Succeeded, Cause::Done),
            (Stopped, Cause::Stopped),
            (Fault, Cause::Reclaimed),
            (TimedOut, Cause::TimedOut),
        ] {
            let failed = FailedPhase {
                phase: "BUILD".to_owned(),
                status: "FAILED".to_owned(),
                message: "the reason".to_owned(),
            };
            let build = Build {
                failed: Some(failed),
                ..build(status, "COMPLETED")
            };
            let why = " in its phase BUILD (the reason)".to_owned();
            assert_eq!(seen(&build), Seen::Over(Over { cause, why }), "{status:?}");
        }
    }

    #[test]
    fn a_build_waits_is_prepared_and_then_works() {
        for (phase, expected) in [
            ("SUBMITTED", Seen::Waiting),
            ("QUEUED", Seen::Waiting),
            ("PROVISIONING", Seen::Preparing),
            ("BUILD", Seen::InProgress),
        ] {
            let found = seen(&build(BuildStatus::InProgress, phase));
            assert_eq!(found, expected, "{phase}");
        }
    }
}
