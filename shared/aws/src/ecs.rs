//! ECS, as far as a job needs it: a task is run on Fargate, looked at, and stopped.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::bucket::{Refused, Setup};
use crate::json::{JsonService, Named, RESOURCES};
use crate::trouble::{Trouble, classify};

/// ECS. Cheap to clone; all clones share connections.
#[derive(Clone, Debug)]
pub struct Ecs {
    service: JsonService,
    region: String,
}

/// A task definition of one container, for Fargate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskDefinition {
    /// The name of its family.
    pub family: String,
    /// The name of the container.
    pub container: String,
    /// The image, best by digest.
    pub image: String,
    /// The program and its arguments, in place of the image's.
    pub command: Vec<String>,
    /// The processors, in units of 1/1024.
    pub cpu: u32,
    /// The memory in MiB.
    pub memory_mb: u32,
    /// The processor architecture: `X86_64` or `ARM64`.
    pub architecture: String,
    /// The ARN of the role that the container's program has.
    pub task_role: String,
    /// The ARN of the role that pulls the image and writes the log.
    pub execution_role: String,
    /// The group of the log, whose streams begin with the container's name.
    pub log_group: String,
}

/// A task to run. The same request again is the same task, for as long as ECS remembers the token: a day, and an hour
/// after the task has stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunTask {
    /// The name of the cluster.
    pub cluster: String,
    /// The family of the task's definition, whose newest active revision is taken.
    pub family: String,
    /// The token by which a repeated request is known, of 64 characters at most.
    pub token: String,
    /// The text that the task and its events carry as `startedBy`, of 128 characters at most.
    pub started_by: String,
    /// The name of the container.
    pub container: String,
    /// Environment variables. Everybody who may describe tasks can read them.
    pub variables: BTreeMap<String, String>,
    /// The subnets of which the task is put into one.
    pub subnets: Vec<String>,
    /// The security groups of the task. If there are none, it has the VPC's own.
    pub security_groups: Vec<String>,
    /// Whether the task has a public address, without which it needs a NAT to reach anything.
    pub public_ip: bool,
    /// Whether the task runs on spare capacity, which can be taken back.
    pub spot: bool,
}

/// A task, as one look at it found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Task {
    /// The status of the task: `PROVISIONING`, `PENDING`, `ACTIVATING`, `RUNNING`, `DEACTIVATING`, `STOPPING`,
    /// `DEPROVISIONING`, `STOPPED`, `DELETED`.
    pub last_status: String,
    /// The sort of reason for which the task stopped: `EssentialContainerExited`, `SpotInterruption`, ….
    pub stop_code: Option<String>,
    /// The reason for which the task stopped, in ECS's words.
    pub stopped_reason: Option<String>,
    /// The containers of the task.
    pub containers: Vec<TaskContainer>,
}

/// A container of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskContainer {
    /// The exit code of the container's program, if it ran to its end.
    pub exit_code: Option<i32>,
    /// What went wrong, in ECS's words.
    pub reason: Option<String>,
}

/// The reason a call did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EcsError {
    /// There is no capacity for another task now, or the account is at its limit. Nothing was started.
    #[error("{0}")]
    NoRoom(String),
    /// ECS does not take the request as it is. Nothing was started.
    #[error("{0}")]
    Refused(String),
    /// There was no usable answer. It may or may not have been done.
    #[error("{0}")]
    Unavailable(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Started {
    task_arn: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Failure {
    reason: String,
    detail: String,
}

#[derive(Deserialize)]
struct Tasks<T> {
    #[serde(default = "Vec::new")]
    tasks: Vec<T>,
    #[serde(default)]
    failures: Vec<Failure>,
}

impl Ecs {
    pub(crate) fn new(endpoint: Option<&str>, setup: &Setup) -> Self {
        let named = Named {
            name: "ECS",
            signed: "ecs",
            target: "AmazonEC2ContainerServiceV20141113",
        };
        Self {
            service: JsonService::new(named, endpoint, setup),
            region: setup.signer.region.clone(),
        }
    }

    /// The region of the tasks.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The address at which AWS's console shows a task, by its ARN. `None`: the ARN is none of a task in a cluster.
    pub fn console(&self, task: &str) -> Option<String> {
        let (_, place) = task.split_once(":task/")?;
        let (cluster, id) = place.split_once('/')?;
        let region = &self.region;
        let host = match region.starts_with("cn-") {
            true => "console.amazonaws.cn",
            false => "console.aws.amazon.com",
        };
        Some(format!(
            "https://{region}.{host}/ecs/v2/clusters/{cluster}/tasks/{id}?region={region}"
        ))
    }

    /// Whether a family has an active definition.
    ///
    /// # Errors
    /// If ECS does not answer.
    pub async fn is_defined(&self, family: &str) -> Result<bool, EcsError> {
        let asked = json!({ "taskDefinition": family });
        match self.service.call("DescribeTaskDefinition", asked).await {
            Ok(answer) => {
                let status = answer.pointer("/taskDefinition/status");
                Ok(status.and_then(Value::as_str) == Some("ACTIVE"))
            }
            Err(error) if code(&error) == Some("ClientException") => Ok(false),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Registers a definition as the newest of its family.
    ///
    /// # Errors
    /// [`EcsError::Refused`] if ECS knows no such sizes, roles or images.
    pub async fn register(&self, definition: &TaskDefinition) -> Result<(), EcsError> {
        let request = json!({
            "family": definition.family,
            "requiresCompatibilities": ["FARGATE"],
            "networkMode": "awsvpc",
            "cpu": definition.cpu.to_string(),
            "memory": definition.memory_mb.to_string(),
            "runtimePlatform": {
                "cpuArchitecture": definition.architecture, "operatingSystemFamily": "LINUX",
            },
            "taskRoleArn": definition.task_role,
            "executionRoleArn": definition.execution_role,
            "containerDefinitions": [{
                "name": definition.container,
                "image": definition.image,
                "essential": true,
                "entryPoint": definition.command,
                "command": [],
                // Somebody has to wait for the processes that lose their parents.
                "linuxParameters": { "initProcessEnabled": true },
                "logConfiguration": {
                    "logDriver": "awslogs",
                    "options": {
                        "awslogs-group": definition.log_group,
                        "awslogs-region": self.region,
                        "awslogs-stream-prefix": definition.container,
                    },
                },
            }],
        });
        let registered = self.service.call("RegisterTaskDefinition", request).await;
        registered.map(|_| ()).map_err(|error| failed(&error))
    }

    /// Runs a task, or finds the one that was run with the same token, and returns its ARN.
    ///
    /// # Errors
    /// [`EcsError::NoRoom`] if there is no capacity.
    pub async fn run(&self, task: &RunTask) -> Result<String, EcsError> {
        let answer = match self.service.call("RunTask", run_request(task)).await {
            Ok(answer) => answer,
            Err(error) => {
                // The token is another request's of the same job, from before the deployment was changed.
                let of_before = (code(&error) == Some("ConflictException"))
                    .then(|| error.as_service_error()?.meta().extra(RESOURCES))
                    .flatten()
                    .and_then(|tasks| tasks.split(',').next())
                    .filter(|task| !task.is_empty());
                return of_before.map(str::to_owned).ok_or_else(|| failed(&error));
            }
        };
        let found: Tasks<Started> = read(answer)?;
        match (found.tasks.into_iter().next(), found.failures.first()) {
            (Some(task), _) => Ok(task.task_arn),
            (None, Some(failure)) => Err(not_placed(failure)),
            (None, None) => {
                let nothing = "ECS's answer has no task".to_owned();
                Err(EcsError::Unavailable(nothing))
            }
        }
    }

    /// Looks at a task, by its ARN. `None`: there is none, or none any more: ECS forgets a task an hour after it stopped.
    ///
    /// # Errors
    /// If ECS does not answer.
    pub async fn look(&self, cluster: &str, task: &str) -> Result<Option<Task>, EcsError> {
        let asked = json!({ "cluster": cluster, "tasks": [task] });
        let answer = match self.service.call("DescribeTasks", asked).await {
            Ok(answer) => answer,
            // What is no ARN of a task is no task.
            Err(error) if code(&error) == Some("InvalidParameterException") => return Ok(None),
            Err(error) => return Err(failed(&error)),
        };
        let found: Tasks<Task> = read(answer)?;
        match (found.tasks.into_iter().next(), found.failures.first()) {
            (Some(task), _) => Ok(Some(task)),
            (None, Some(failure)) if failure.reason != "MISSING" => {
                let why = format!("ECS: {} {}", failure.reason, failure.detail);
                Err(EcsError::Unavailable(why.trim_end().to_owned()))
            }
            (None, _) => Ok(None),
        }
    }

    /// Asks a task to stop. One that has stopped, or is gone, stays as it is.
    ///
    /// # Errors
    /// If ECS does not answer.
    pub async fn stop(&self, cluster: &str, task: &str, why: &str) -> Result<(), EcsError> {
        let asked = json!({ "cluster": cluster, "task": task, "reason": why });
        match self.service.call("StopTask", asked).await {
            Ok(_) => Ok(()),
            // There is no such task.
            Err(error) if code(&error) == Some("InvalidParameterException") => Ok(()),
            Err(error) => Err(failed(&error)),
        }
    }
}

fn run_request(task: &RunTask) -> Value {
    let variables: Vec<_> = task
        .variables
        .iter()
        .map(|(name, value)| json!({ "name": name, "value": value }))
        .collect();
    let address = if task.public_ip {
        "ENABLED"
    } else {
        "DISABLED"
    };
    let mut request = json!({
        "cluster": task.cluster,
        "taskDefinition": task.family,
        "clientToken": task.token,
        "startedBy": task.started_by,
        "count": 1,
        "networkConfiguration": { "awsvpcConfiguration": {
            "subnets": task.subnets, "securityGroups": task.security_groups, "assignPublicIp": address,
        } },
        "overrides": { "containerOverrides": [
            { "name": task.container, "environment": variables },
        ] },
    });
    let (name, value) = match task.spot {
        true => (
            "capacityProviderStrategy",
            json!([{ "capacityProvider": "FARGATE_SPOT", "weight": 1 }]),
        ),
        false => ("launchType", json!("FARGATE")),
    };
    if let Some(request) = request.as_object_mut() {
        request.insert(name.to_owned(), value);
    }
    request
}

/// The reason for which no task was placed.
fn not_placed(failure: &Failure) -> EcsError {
    let Failure { reason, detail } = failure;
    let message = format!("ECS: {reason} {detail}").trim_end().to_owned();
    match reason.starts_with("RESOURCE:") || reason == "AGENT" || is_full(reason) {
        true => EcsError::NoRoom(message),
        false => EcsError::Refused(message),
    }
}

/// Whether a text of ECS's says that there is no room.
fn is_full(text: &str) -> bool {
    let text = text.to_lowercase();
    let signs = ["capacity is unavailable", "reached the limit"];
    signs.iter().any(|sign| text.contains(sign))
}

fn read<T: serde::de::DeserializeOwned>(answer: Value) -> Result<T, EcsError> {
    serde_json::from_value(answer)
        .map_err(|error| EcsError::Unavailable(format!("ECS's answer cannot be read: {error}")))
}

fn code(error: &SdkError<Refused, HttpResponse>) -> Option<&str> {
    error.as_service_error()?.code()
}

fn failed(error: &SdkError<Refused, HttpResponse>) -> EcsError {
    let Some(refused) = error.as_service_error() else {
        return EcsError::Unavailable("ECS did not answer".to_owned());
    };
    let message = format!("ECS: {refused}");
    let full = refused.message().is_some_and(is_full);
    match (refused.code(), classify(error)) {
        _ if full => EcsError::NoRoom(message),
        (Some("LimitExceeded"), _) | (_, Trouble::Throttled) => EcsError::NoRoom(message),
        // An earlier attempt of the same request may still be at work.
        (Some("ConflictException"), _) => EcsError::Unavailable(message),
        (_, Trouble::Other | Trouble::AccessDenied { .. }) => EcsError::Refused(message),
        _ => EcsError::Unavailable(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ecs_cannot_place_waits_for_capacity_or_is_refused() {
        for (reason, waits) in [
            ("RESOURCE:MEMORY", true),
            ("RESOURCE:ENI", true),
            (
                "Capacity is unavailable at this time. Please try again later",
                true,
            ),
            ("ATTRIBUTE", false),
            ("MISSING", false),
        ] {
            let failure = Failure {
                reason: reason.to_owned(),
                detail: "why".to_owned(),
            };
            let error = not_placed(&failure);
            assert_eq!(matches!(error, EcsError::NoRoom(_)), waits, "{reason}");
            assert!(error.to_string().contains(reason), "{error}");
        }
    }
}
