//! CodeBuild, as far as a job needs it: a build is started, looked at, and stopped.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::bucket::{Refused, Setup};
use crate::json::{JsonService, Named};
use crate::trouble::{Trouble, classify};

/// CodeBuild. Cheap to clone; all clones share connections.
#[derive(Clone, Debug)]
pub struct CodeBuild {
    service: JsonService,
    region: String,
}

/// A build to start. The same request again within five minutes is the same build; CodeBuild refuses the same token with
/// other parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartBuild {
    /// The name of the project.
    pub project: String,
    /// The token by which a repeated request is known.
    pub token: String,
    /// Environment variables, besides those of the project. Everybody who may describe builds can read them.
    pub variables: BTreeMap<String, String>,
    /// The image, in place of the project's.
    pub image: Option<String>,
    /// The size of the machine, in place of the project's: `BUILD_GENERAL1_SMALL` and the like.
    pub compute_type: Option<String>,
    /// The longest the build may run, in minutes: from 5 to 2160.
    pub timeout_minutes: u32,
    /// The longest the build may wait for its turn, in minutes: from 5 to 480.
    pub queued_timeout_minutes: u32,
}

/// A build, as one look at it found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// The id of the build: `PROJECT:UUID`.
    pub id: String,
    /// The status of the build.
    pub status: BuildStatus,
    /// The phase that the build is in: `QUEUED`, `PROVISIONING`, `BUILD`, ….
    pub phase: String,
    /// The phase that did not succeed, and the reason that CodeBuild gives, if one did not.
    pub failed: Option<FailedPhase>,
    /// The environment variables that the build was started with.
    pub variables: BTreeMap<String, String>,
    /// The address of its log in the console.
    pub log: Option<String>,
}

/// A phase of a build that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedPhase {
    /// The name of the phase.
    pub phase: String,
    /// The status of the phase: `FAILED`, `FAULT`, `CLIENT_ERROR`, `TIMED_OUT`, `STOPPED`.
    pub status: String,
    /// The reason, in CodeBuild's words.
    pub message: String,
}

/// The status of a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BuildStatus {
    /// The build waits, is prepared, or runs.
    InProgress,
    /// Its commands ended well.
    Succeeded,
    /// Its commands failed, or could not be run.
    Failed,
    /// CodeBuild itself failed.
    Fault,
    /// It was stopped on request.
    Stopped,
    /// It took longer than it may.
    TimedOut,
}

/// The reason a call did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeBuildError {
    /// The account has no room for another build now.
    #[error("{0}")]
    NoRoom(String),
    /// CodeBuild does not take the request as it is.
    #[error("{0}")]
    Refused(String),
    /// There was no usable answer, or there were too many calls. It may or may not have been done.
    #[error("{0}")]
    Unavailable(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BuildRecord {
    id: String,
    build_status: BuildStatus,
    #[serde(default)]
    current_phase: String,
    #[serde(default)]
    phases: Vec<PhaseRecord>,
    environment: Option<Environment>,
    logs: Option<Logs>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PhaseRecord {
    phase_type: String,
    phase_status: Option<String>,
    #[serde(default)]
    contexts: Vec<PhaseContext>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PhaseContext {
    #[serde(default)]
    status_code: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Environment {
    #[serde(default)]
    environment_variables: Vec<Variable>,
}

#[derive(Deserialize)]
struct Variable {
    name: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Logs {
    deep_link: Option<String>,
}

#[derive(Deserialize)]
struct Builds {
    #[serde(default)]
    builds: Vec<BuildRecord>,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    ids: Vec<String>,
}

impl CodeBuild {
    pub(crate) fn new(endpoint: Option<&str>, setup: &Setup) -> Self {
        let named = Named {
            name: "CodeBuild",
            signed: "codebuild",
            target: "CodeBuild_20161006",
        };
        Self {
            service: JsonService::new(named, endpoint, setup),
            region: setup.signer.region.clone(),
        }
    }

    /// The address at which AWS's console shows a build.
    pub fn console(&self, id: &str) -> String {
        let region = &self.region;
        let project = id.split(':').next().unwrap_or_default();
        // A colon stands for itself in a path, but not in this console's.
        let id = id.replace(':', "%3A");
        let place = format!("codesuite/codebuild/projects/{project}/build/{id}/log");
        match region.starts_with("cn-") {
            true => format!("https://{region}.console.amazonaws.cn/{place}?region={region}"),
            false => format!("https://{region}.console.aws.amazon.com/{place}?region={region}"),
        }
    }

    /// Starts a build, or finds the one that was started with the same token, and returns its id.
    ///
    /// # Errors
    /// [`CodeBuildError::NoRoom`] if the account is at its limit.
    pub async fn start(&self, build: &StartBuild) -> Result<String, CodeBuildError> {
        let variables = build.variables.iter();
        let variables: Vec<_> = variables
            .map(|(name, value)| json!({ "name": name, "value": value, "type": "PLAINTEXT" }))
            .collect();
        let mut request = json!({
            "projectName": build.project,
            "idempotencyToken": build.token,
            "environmentVariablesOverride": variables,
            "timeoutInMinutesOverride": build.timeout_minutes,
            "queuedTimeoutInMinutesOverride": build.queued_timeout_minutes,
        });
        let overrides = [
            ("imageOverride", &build.image),
            ("computeTypeOverride", &build.compute_type),
        ];
        for (name, value) in overrides {
            if let (Some(request), Some(value)) = (request.as_object_mut(), value) {
                request.insert(name.to_owned(), json!(value));
            }
        }
        if let (Some(request), Some(_)) = (request.as_object_mut(), &build.image) {
            // An image of the pipeline's is pulled with the project's role, not with CodeBuild's.
            let own = json!("SERVICE_ROLE");
            request.insert("imagePullCredentialsTypeOverride".to_owned(), own);
        }
        let answer = self
            .service
            .call("StartBuild", request)
            .await
            .map_err(failed)?;
        let id = answer.pointer("/build/id").and_then(Value::as_str);
        let nameless = || CodeBuildError::Unavailable("CodeBuild's answer has no build".to_owned());
        id.map(str::to_owned).ok_or_else(nameless)
    }

    /// Looks at a build. `None`: there is none of this id, or none any more.
    ///
    /// # Errors
    /// If CodeBuild does not answer.
    pub async fn look(&self, id: &str) -> Result<Option<Build>, CodeBuildError> {
        let found = self.look_at(&[id.to_owned()]).await?;
        Ok(found.into_iter().next())
    }

    /// Looks at builds, at most 100. One that is not there, or not any more, is left out.
    ///
    /// # Errors
    /// If CodeBuild does not answer.
    pub async fn look_at(&self, ids: &[String]) -> Result<Vec<Build>, CodeBuildError> {
        let answer = self
            .service
            .call("BatchGetBuilds", json!({ "ids": ids }))
            .await;
        let builds: Builds = read(answer.map_err(failed)?)?;
        Ok(builds.builds.into_iter().map(Build::of).collect())
    }

    /// Asks a build to end. One that has ended stays as it is.
    ///
    /// # Errors
    /// If CodeBuild does not answer.
    pub async fn stop(&self, id: &str) -> Result<(), CodeBuildError> {
        let stopped = self.service.call("StopBuild", json!({ "id": id })).await;
        stopped.map(|_| ()).map_err(failed)
    }

    /// The ids of the project's newest builds, at most 100, the newest first.
    ///
    /// # Errors
    /// If CodeBuild does not answer.
    pub async fn newest(&self, project: &str) -> Result<Vec<String>, CodeBuildError> {
        let request = json!({ "projectName": project, "sortOrder": "DESCENDING" });
        let answer = self.service.call("ListBuildsForProject", request).await;
        let listed: Listed = read(answer.map_err(failed)?)?;
        Ok(listed.ids)
    }
}

impl Build {
    fn of(record: BuildRecord) -> Self {
        let bad = |phase: &&PhaseRecord| {
            let status = phase.phase_status.as_deref();
            !matches!(status, None | Some("SUCCEEDED" | "IN_PROGRESS"))
        };
        let failed = record.phases.iter().find(bad).map(|phase| FailedPhase {
            phase: phase.phase_type.clone(),
            status: phase.phase_status.clone().unwrap_or_default(),
            message: phase
                .contexts
                .iter()
                .map(|it| {
                    format!("{} {}", it.status_code, it.message)
                        .trim()
                        .to_owned()
                })
                .filter(|text| !text.is_empty())
                .collect::<Vec<_>>()
                .join("; "),
        });
        let variables = record.environment.map(|it| it.environment_variables);
        let variables = variables.unwrap_or_default().into_iter();
        Self {
            id: record.id,
            status: record.build_status,
            phase: record.current_phase,
            failed,
            variables: variables.map(|it| (it.name, it.value)).collect(),
            log: record.logs.and_then(|logs| logs.deep_link),
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(answer: Value) -> Result<T, CodeBuildError> {
    serde_json::from_value(answer).map_err(|error| {
        CodeBuildError::Unavailable(format!("CodeBuild's answer cannot be read: {error}"))
    })
}

fn failed(error: SdkError<Refused, HttpResponse>) -> CodeBuildError {
    let refused = error.as_service_error();
    let code = refused.and_then(|refused| refused.code());
    let message = refused.map_or_else(
        || "CodeBuild did not answer".to_owned(),
        |it| format!("CodeBuild: {it}"),
    );
    match (code, classify(&error)) {
        (Some("AccountLimitExceededException"), _) => CodeBuildError::NoRoom(message),
        (_, Trouble::Other | Trouble::AccessDenied { .. }) if refused.is_some() => {
            CodeBuildError::Refused(message)
        }
        _ => CodeBuildError::Unavailable(message),
    }
}
