//! The runtime `ecs`: a job is a Fargate task, in which `towpath runner` carries it out. The rest is
//! [`towpath_jobs_remote`]'s.
//!
//! There is a task definition for each image and size. Its family is named after all that it holds, so that of two that
//! register it at once both register the same, and a deployment that changes gets others.
//!
//! The client token of a task is the id of its job. ECS knows it for a day, and for an hour after the task has stopped: a
//! start that is repeated later is another task.

mod spec;

use std::fmt::Write;

use async_trait::async_trait;
use serde_json::Value;
use spec::Spec;
use towpath_aws::{Ecs, EcsError, RunTask, Task, TaskDefinition};
use towpath_engine::JobId;
use towpath_jobs::{CommandWork, JobRequest, StartError, Unreadable};
use towpath_jobs_remote::{
    API, Cause, Order, Over, Seen, Substrate, Words, bootstrap, hash, spec_from_value,
    spec_to_value,
};

/// The name of the only container of a task.
const CONTAINER: &str = "job";
/// The longest client token that ECS takes.
const LONGEST_TOKEN: usize = 64;
/// The name of a task, as its containers learn it: their agent shows it.
const NAME: &str = r#"$(curl -fsS --retry 5 "$ECS_CONTAINER_METADATA_URI_V4/task" | sed -n 's/.*"TaskARN" *: *"\([^"]*\)".*/\1/p')"#;

/// Where the tasks of a deployment run, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The name of the cluster.
    pub cluster: String,
    /// The subnets of which each task is put into one.
    pub subnets: Vec<String>,
    /// The security groups of the tasks.
    pub security_groups: Vec<String>,
    /// Whether tasks have public addresses. Without one, a task needs a NAT to reach the API.
    pub public_ip: bool,
    /// Whether tasks run on spare capacity, which can be taken back.
    pub spot: bool,
    /// The ARN of the role of what runs in a task.
    pub task_role: String,
    /// The ARN of the role that pulls images and writes logs.
    pub execution_role: String,
    /// The log group.
    pub log_group: String,
    /// The beginning of the names of the families of task definitions.
    pub family: String,
    /// The processor architecture of tasks: `X86_64` or `ARM64`.
    pub architecture: String,
    /// The image of jobs whose pipeline names none.
    pub image: Option<String>,
    /// The address of the API, which runners call. Who starts no jobs need not know it.
    pub api: Option<String>,
}

/// The tasks of a deployment. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tasks {
    ecs: Ecs,
    settings: Settings,
}

impl Tasks {
    /// The tasks that are run by these settings.
    pub fn new(ecs: Ecs, settings: Settings) -> Self {
        Self { ecs, settings }
    }

    fn definition(&self, spec: &Spec) -> TaskDefinition {
        let settings = &self.settings;
        let mut definition = TaskDefinition {
            family: String::new(),
            container: CONTAINER.to_owned(),
            image: spec.image.clone(),
            command: ["/bin/sh", "-c", &bootstrap(NAME)]
                .map(str::to_owned)
                .into(),
            cpu: spec.cpu,
            memory_mb: spec.memory_mb,
            architecture: settings.architecture.clone(),
            task_role: settings.task_role.clone(),
            execution_role: settings.execution_role.clone(),
            log_group: settings.log_group.clone(),
        };
        let held = [
            &definition.image,
            &definition.command.join("\n"),
            &definition.cpu.to_string(),
            &definition.memory_mb.to_string(),
            &definition.architecture,
            &definition.task_role,
            &definition.execution_role,
            &definition.log_group,
        ];
        let held = held.map(String::as_str).join("\n");
        let name: String = hash(&held).chars().take(32).collect();
        definition.family = format!("{}-{name}", settings.family);
        definition
    }

    /// Makes sure that the definition of a task is there, and returns its family.
    async fn define(&self, spec: &Spec) -> Result<String, EcsError> {
        let definition = self.definition(spec);
        if !self.ecs.is_defined(&definition.family).await? {
            self.ecs.register(&definition).await?;
        }
        Ok(definition.family)
    }
}

#[async_trait]
impl Substrate for Tasks {
    fn kind(&self) -> &'static str {
        "ecs"
    }

    fn words(&self) -> Words {
        Words {
            service: "ECS",
            machine: "task",
        }
    }

    fn spec(&self, _: &JobRequest, work: &CommandWork) -> Result<Value, StartError> {
        let spec = Spec::of(work, self.settings.image.as_deref())?;
        Ok(spec_to_value(&spec))
    }

    async fn start(&self, order: &Order<'_>) -> Result<String, StartError> {
        let spec: Spec = spec_from_value(order.spec)?;
        let Some(api) = self.settings.api.clone() else {
            let why = "TOWPATH_API_BASE is not set, so that runners could not call".to_owned();
            return Err(StartError::Unavailable(why));
        };
        let family = self.define(&spec).await.map_err(not_started)?;
        let mut variables = order.variables.clone();
        variables.insert(API.to_owned(), api);
        let settings = &self.settings;
        let task = RunTask {
            cluster: settings.cluster.clone(),
            family,
            token: token(order.job),
            started_by: order.job.to_string(),
            container: CONTAINER.to_owned(),
            variables,
            subnets: settings.subnets.clone(),
            security_groups: settings.security_groups.clone(),
            public_ip: settings.public_ip,
            spot: settings.spot,
        };
        self.ecs.run(&task).await.map_err(not_started)
    }

    async fn look(&self, handle: &str) -> Result<Option<Seen>, Unreadable> {
        let task = self.ecs.look(&self.settings.cluster, handle).await;
        Ok(task.map_err(unreadable)?.as_ref().map(seen))
    }

    async fn stop(&self, handle: &str) -> Result<(), Unreadable> {
        let stopped = self
            .ecs
            .stop(&self.settings.cluster, handle, "its job is over");
        stopped.await.map_err(unreadable)
    }

    fn console(&self, handle: &str) -> Option<String> {
        self.ecs.console(handle)
    }
}

/// The client token of a job's task: its id, as long as ECS takes that.
fn token(job: &JobId) -> String {
    match job.as_str().len() <= LONGEST_TOKEN {
        true => job.to_string(),
        false => hash(job.as_str()),
    }
}

fn seen(task: &Task) -> Seen {
    match task.last_status.as_str() {
        "PROVISIONING" | "PENDING" | "ACTIVATING" => Seen::Preparing,
        "STOPPED" | "DELETED" => Seen::Over(over(task)),
        // The container may still run while it is asked to stop, and has its addresses until it is gone.
        _ => Seen::InProgress,
    }
}

fn over(task: &Task) -> Over {
    let reason = task.stopped_reason.as_deref().unwrap_or_default();
    let container = task.containers.first();
    let cause = match task.stop_code.as_deref() {
        Some("UserInitiated") => Cause::Stopped,
        Some("EssentialContainerExited") => match container.and_then(|it| it.exit_code) {
            Some(0) => Cause::Done,
            _ => Cause::Failed,
        },
        Some("TaskFailedToStart") if !is_of_fargate(reason) => Cause::Failed,
        // An interruption of spare capacity, a host that is retired or lost, capacity that was not there after all.
        _ => Cause::Reclaimed,
    };
    let mut why = String::new();
    let said = container.and_then(|it| it.reason.as_deref());
    for text in [Some(reason), said].into_iter().flatten() {
        if !text.is_empty() && !why.contains(text) {
            let between = if why.is_empty() { "" } else { "; " };
            // Writing to a text cannot fail.
            let _ = write!(why, "{between}{text}");
        }
    }
    if !why.is_empty() {
        why = format!(" ({why})");
    }
    Over { cause, why }
}

/// Whether a task that did not start failed through no fault of its image or of the deployment: the next one may start.
fn is_of_fargate(reason: &str) -> bool {
    let signs = [
        "Capacity is unavailable",
        "Timeout waiting for",
        "InternalError",
        "Unexpected EC2 error",
    ];
    signs.iter().any(|sign| reason.contains(sign))
}

fn not_started(error: EcsError) -> StartError {
    match error {
        EcsError::NoRoom(why) => StartError::NoRoom(why),
        EcsError::Refused(why) => StartError::Refused(why),
        EcsError::Unavailable(why) => StartError::Unavailable(why),
    }
}

fn unreadable(error: EcsError) -> Unreadable {
    Unreadable(error.to_string())
}

#[cfg(test)]
mod tests {
    use towpath_aws::TaskContainer;

    use super::*;

    fn stopped(code: &str, reason: &str, exit_code: Option<i32>) -> Over {
        let task = Task {
            last_status: "STOPPED".to_owned(),
            stop_code: Some(code.to_owned()),
            stopped_reason: Some(reason.to_owned()),
            containers: vec![TaskContainer {
                exit_code,
                reason: None,
            }],
        };
        over(&task)
    }

    #[test]
    fn the_end_of_a_task_has_a_cause_and_the_words_of_ecs() {
        let pull = "CannotPullContainerError: no such image";
        let full = "Capacity is unavailable at this time";
        for (code, reason, exit_code, cause) in [
            ("EssentialContainerExited", "exited", Some(0), Cause::Done),
            ("EssentialContainerExited", "exited", Some(1), Cause::Failed),
            ("EssentialContainerExited", "exited", None, Cause::Failed),
            ("TaskFailedToStart", pull, None, Cause::Failed),
            ("TaskFailedToStart", full, None, Cause::Reclaimed),
            (
                "SpotInterruption",
                "interrupted",
                Some(137),
                Cause::Reclaimed,
            ),
            ("TerminationNotice", "retired", None, Cause::Reclaimed),
            ("UserInitiated", "by hand", Some(143), Cause::Stopped),
        ] {
            let over = stopped(code, reason, exit_code);
            assert_eq!(over.cause, cause, "{code} {reason}");
            assert_eq!(over.why, format!(" ({reason})"));
        }
    }

    #[test]
    fn what_the_container_says_is_told_too_and_nothing_twice() {
        let task = |said: &str| Task {
            stopped_reason: Some("Essential container in task exited".to_owned()),
            containers: vec![TaskContainer {
                exit_code: Some(137),
                reason: Some(said.to_owned()),
            }],
            ..Task::default()
        };
        let told = over(&task("OutOfMemoryError")).why;
        assert_eq!(
            told,
            " (Essential container in task exited; OutOfMemoryError)"
        );
        let told = over(&task("Essential container in task exited")).why;
        assert_eq!(told, " (Essential container in task exited)");
    }

    #[test]
    fn a_task_is_prepared_works_and_is_over_when_it_has_stopped() {
        for (status, expected) in [
            ("PROVISIONING", Seen::Preparing),
            ("PENDING", Seen::Preparing),
            ("ACTIVATING", Seen::Preparing),
            ("RUNNING", Seen::InProgress),
            ("DEACTIVATING", Seen::InProgress),
            ("STOPPING", Seen::InProgress),
            ("DEPROVISIONING", Seen::InProgress),
        ] {
            let task = Task {
                last_status: status.to_owned(),
                ..Task::default()
            };
            assert_eq!(seen(&task), expected, "{status}");
        }
    }

    #[test]
    fn a_token_is_never_longer_than_ecs_takes() {
        let job = "job_01ARZ3NDEKTSV4RRFFQ69G5FAV-4294967295".parse().unwrap();
        assert_eq!(token(&job), job.as_str());
        assert!(token(&job).len() <= LONGEST_TOKEN);
    }
}
