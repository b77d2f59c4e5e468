//! A build: its record, and how it goes on.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use towpath_engine::{JobId, StepIndex};
use towpath_jobs::{CommandWork, JobRequest, JobSnapshot, Runtime, StartError, Work, error_class};

use super::CodeBuild;
use crate::data;
use crate::error::Error;
use crate::template::{ProjectSpec, REGION};

/// The pause between two looks at whether a build that waits can go on.
const LOOK: Duration = Duration::from_millis(100);
/// The time that the commands of a build have to tidy up when it is stopped.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// The record of a build.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Build {
    pub(crate) id: String,
    pub(crate) token: Option<String>,
    pub(crate) asked: Value,
    pub(crate) started_ms: u64,
    pub(crate) ended_ms: Option<u64>,
    pub(crate) image: String,
    pub(crate) compute_type: String,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) timeout_minutes: u64,
    pub(crate) queued_timeout_minutes: u64,
    pub(crate) status: String,
    pub(crate) phase: String,
    /// The phase that did not succeed: its name, its status, and the reason.
    pub(crate) failed: Option<(String, String, String)>,
    #[serde(default)]
    pub(crate) stopping: bool,
}

impl Build {
    pub(crate) fn is_live(&self) -> bool {
        self.status == "IN_PROGRESS"
    }

    fn waits(&self) -> bool {
        self.is_live() && self.phase == "QUEUED"
    }

    /// The name that the build's commands have as a process: the digits of its id.
    fn job(&self) -> Option<JobId> {
        let (_, uuid) = self.id.rsplit_once(':')?;
        let digits: String = uuid.chars().filter(|it| *it != '-').take(26).collect();
        format!("job_{}-1", digits.to_ascii_uppercase())
            .parse()
            .ok()
    }

    fn end(&mut self, status: &str, failed: Option<(&str, &str, String)>, now_ms: u64) {
        self.status = status.to_owned();
        self.phase = "COMPLETED".to_owned();
        self.failed = failed.map(|(phase, status, why)| (phase.to_owned(), status.to_owned(), why));
        self.ended_ms = Some(now_ms);
    }

    /// The build as the API shows it.
    pub(crate) fn shown(&self, project: &ProjectSpec) -> Value {
        let variables: Vec<_> = self
            .environment
            .iter()
            .map(|(name, value)| json!({ "name": name, "value": value, "type": "PLAINTEXT" }))
            .collect();
        let mut phases = vec![json!({ "phaseType": "SUBMITTED", "phaseStatus": "SUCCEEDED" })];
        if let Some((phase, status, why)) = &self.failed {
            let context = json!([{ "statusCode": status, "message": why }]);
            phases.push(json!({ "phaseType": phase, "phaseStatus": status, "contexts": context }));
        }
        if self.is_live() {
            phases.push(json!({ "phaseType": self.phase }));
        }
        let seconds = |ms: u64| ms as f64 / 1000.0;
        json!({
            "id": self.id,
            "arn": self.arn(project),
            "buildStatus": self.status,
            "currentPhase": self.phase,
            "buildComplete": !self.is_live(),
            "projectName": project.name,
            "startTime": seconds(self.started_ms),
            "endTime": self.ended_ms.map(seconds),
            "timeoutInMinutes": self.timeout_minutes,
            "queuedTimeoutInMinutes": self.queued_timeout_minutes,
            "phases": phases,
            "environment": {
                "image": self.image, "computeType": self.compute_type, "environmentVariables": variables,
            },
            "logs": { "deepLink": format!("https://console.aws.amazon.com/cloudwatch/home?region={REGION}#logEvent:build={}", self.id) },
        })
    }

    fn arn(&self, project: &ProjectSpec) -> String {
        let account = project.arn.rsplit_once(":project/");
        let account = account.map_or(&*project.arn, |(account, _)| account);
        format!("{account}:build/{}", self.id)
    }

    /// The event of the build's new status, as CodeBuild puts it on the bus.
    pub(crate) fn event(&self, project: &ProjectSpec, now_ms: u64) -> Value {
        let shown = self.shown(project);
        let environment = json!({
            "image": self.image,
            "compute-type": self.compute_type,
            "environment-variables": shown.pointer("/environment/environmentVariables"),
        });
        let now = Timestamp::from_millisecond(i64::try_from(now_ms).unwrap_or(i64::MAX));
        json!({
            "source": "aws.codebuild",
            "detail-type": "CodeBuild Build State Change",
            "time": now.unwrap_or_default().to_string(),
            "resources": [self.arn(project)],
            "detail": {
                "build-status": self.status,
                "project-name": project.name,
                "build-id": self.arn(project),
                "current-phase": self.phase,
                "additional-information": {
                    "environment": environment,
                    "build-complete": !self.is_live(),
                    "timeout-in-minutes": self.timeout_minutes,
                },
                "version": "1",
            },
        })
    }
}

/// The records in a folder.
pub(super) fn read_all(folder: &Path) -> Result<BTreeMap<String, Build>, Error> {
    let failed = |error| Error::io(format!("cannot read {}", folder.display()), error);
    let mut builds = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_none_or(|it| it != "json") {
            continue;
        }
        let Some(text) = data::read(&path)? else {
            continue;
        };
        match serde_json::from_str::<Build>(&text) {
            Ok(build) => builds.insert(build.id.clone(), build),
            Err(error) => {
                let message = error.to_string();
                return Err(Error::Syntax { path, message });
            }
        };
    }
    Ok(builds)
}

impl CodeBuild {
    /// Keeps a build as it is now. Where that fails, the build goes on, and a restart finds it as it was.
    pub(super) fn keep(&self, build: &Build) {
        let name = build.id.rsplit(':').next().unwrap_or_default();
        let path = self.folder.join(format!("{name}.json"));
        let kept = serde_json::to_string(build).map_err(|error| error.to_string());
        let kept = kept.and_then(|text| data::write(&path, &text).map_err(|e| e.to_string()));
        if let Err(error) = kept {
            tracing::error!(build = build.id, error, "a build could not be recorded");
        }
    }

    /// Changes a build, keeps it, and tells of its new status if it has one.
    fn change(&self, id: &str, change: impl FnOnce(&mut Build)) -> Option<Build> {
        let mut builds = self.builds();
        let build = builds.get_mut(id)?;
        let before = build.status.clone();
        change(build);
        let build = build.clone();
        drop(builds);
        self.keep(&build);
        if let Some(project) = self.project.as_ref().filter(|_| build.status != before) {
            self.tell(&build, project);
        }
        Some(build)
    }

    pub(super) fn tell(&self, build: &Build, project: &ProjectSpec) {
        let (events, event) = (
            Arc::clone(&self.events),
            build.event(project, self.clock.now_ms()),
        );
        self.tasks.spawn(async move { events.put(event).await });
    }

    /// Sees a build through, in the background.
    pub(super) fn go_on(self: &Arc<Self>, id: String) {
        let this = Arc::clone(self);
        self.tasks.spawn(async move { this.see_through(&id).await });
    }

    async fn see_through(&self, id: &str) {
        if !self.await_turn(id).await {
            return;
        }
        let Some(build) = self.prepare(id).await else {
            return;
        };
        if build.stopping {
            self.change(id, |build| build.end("STOPPED", None, self.clock.now_ms()));
            return;
        }
        if self.weather().lose_machines {
            let why = "Internal service error: the machine was lost".to_owned();
            let now = self.clock.now_ms();
            self.change(id, |it| {
                it.end("FAULT", Some(("PROVISIONING", "FAULT", why)), now)
            });
            return;
        }
        self.change(id, |build| build.phase = "BUILD".to_owned());
        let end = self.run(&build).await;
        let now = self.clock.now_ms();
        self.change(id, |build| build.finish(&end, now));
    }

    /// Waits until the build is prepared, or is to be stopped.
    async fn prepare(&self, id: &str) -> Option<Build> {
        let since = self.clock.now_ms();
        loop {
            let build = self.builds().get(id).cloned()?;
            let passed = u128::from(self.clock.now_ms().saturating_sub(since));
            if build.stopping || passed >= self.weather().provisioning.as_millis() {
                return Some(build);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits for the build's turn. False: it is over before that.
    async fn await_turn(&self, id: &str) -> bool {
        loop {
            if let Some(its_turn) = self.look_at_turn(id) {
                return its_turn;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether it is the build's turn. `None`: not yet.
    fn look_at_turn(&self, id: &str) -> Option<bool> {
        let now = self.clock.now_ms();
        let change: fn(&mut Build, u64) = {
            let builds = self.builds();
            let build = builds.get(id).filter(|build| build.is_live());
            let Some(build) = build else {
                return Some(false);
            };
            if !build.waits() {
                return Some(true);
            }
            let running = builds.values().filter(|it| it.is_live() && !it.waits());
            let room = running.count() < self.weather().concurrent;
            let limit = build.queued_timeout_minutes * 60_000;
            if build.stopping {
                |build, now| build.end("STOPPED", None, now)
            } else if now.saturating_sub(build.started_ms) > limit {
                |build, now| {
                    let why = "Build has timed out.".to_owned();
                    build.end("TIMED_OUT", Some(("QUEUED", "TIMED_OUT", why)), now);
                }
            } else if room {
                |build, _| build.phase = "PROVISIONING".to_owned()
            } else {
                return None;
            }
        };
        let changed = self.change(id, |build| change(build, now));
        Some(changed.is_some_and(|build| build.is_live()))
    }

    /// Runs the commands of a build, or waits for those that run already.
    async fn run(&self, build: &Build) -> JobSnapshot {
        let lost = |why: &str| JobSnapshot::ended_badly(error_class::EVICTED, why);
        let (Some(processes), Some(project), Some(job)) =
            (&self.processes, &self.project, build.job())
        else {
            return lost("this local cloud has no program to supervise builds");
        };
        let mut env = project.environment.clone();
        env.extend(build.environment.clone());
        env.insert("CODEBUILD_BUILD_ID".to_owned(), build.id.clone());
        env.insert("CODEBUILD_BUILD_ARN".to_owned(), build.arn(project));
        let script = format!("set -e\n{}", project.commands.join("\n"));
        let Ok(workspace) = "builds".parse() else {
            return lost("the name of the builds is none");
        };
        let request = JobRequest {
            job: job.clone(),
            workspace,
            work: Work::Command(CommandWork {
                command: vec!["sh".to_owned(), "-c".to_owned(), script],
                env,
                secrets: Vec::new(),
                checkout: None,
                events: None,
                image: None,
                resources: None,
                executor: None,
            }),
            step: StepIndex(0),
            attempt: 1,
            context: Value::Null,
            inputs: Vec::new(),
            artifacts: Vec::new(),
            max_run: Duration::from_secs(build.timeout_minutes * 60),
            grace: STOP_GRACE,
        };
        match processes.start(&request).await {
            Ok(_) => {}
            Err(
                StartError::NoRoom(why)
                | StartError::Later { why, .. }
                | StartError::Refused(why)
                | StartError::Unavailable(why),
            ) => {
                return lost(&why);
            }
        }
        let now = self.builds().get(&build.id).is_some_and(|it| it.stopping);
        if now {
            let _ = processes.stop(&job, STOP_GRACE).await;
        }
        match processes.ended(&job).await {
            Ok(Some(end)) => end,
            Ok(None) => lost("its commands are gone"),
            Err(error) => lost(&error.to_string()),
        }
    }

    /// Asks a build to end.
    pub(super) async fn stop(&self, id: &str) {
        let asked = self.change(id, |build| build.stopping = build.is_live());
        let job = asked.filter(|it| it.stopping && it.phase == "BUILD");
        if let (Some(processes), Some(job)) = (&self.processes, job.and_then(|it| it.job()))
            && let Err(error) = processes.stop(&job, STOP_GRACE).await
        {
            tracing::warn!(build = id, "a build could not be stopped: {error:?}");
        }
    }
}

impl Build {
    /// Ends the build as its commands did.
    fn finish(&mut self, end: &JobSnapshot, now_ms: u64) {
        let why = end.terminal_error_message.clone().unwrap_or_default();
        let (status, failed) = match end.terminal_error_class.as_deref() {
            None => ("SUCCEEDED", None),
            Some(error_class::EXIT_CODE) => {
                let why = format!("Error while executing command: {why}");
                ("FAILED", Some(("BUILD", "COMMAND_EXECUTION_ERROR", why)))
            }
            Some(error_class::STOPPED) => ("STOPPED", Some(("BUILD", "STOPPED", why))),
            Some(error_class::TIMED_OUT) => ("TIMED_OUT", Some(("BUILD", "TIMED_OUT", why))),
            Some(_) => ("FAULT", Some(("BUILD", "FAULT", why))),
        };
        self.end(status, failed, now_ms);
    }
}
