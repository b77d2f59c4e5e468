//! The operations of CodeBuild that are known here.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::CodeBuild;
use super::build::Build;
use crate::iam::Access;
use crate::random;

/// The time for which a start is known by its token, in milliseconds.
const TOKEN_VALID_MS: u64 = 5 * 60 * 1000;
/// The most ids that one request may name.
const IDS: usize = 100;

/// A refusal: its name and its message.
pub(crate) type Refused = (&'static str, String);

impl CodeBuild {
    /// The access that a call needs. Builds are their project's.
    pub(crate) fn access(&self, operation: &str) -> Access {
        let project = self.project.as_ref().map_or("*", |project| &project.arn);
        Access::new(format!("codebuild:{operation}"), project)
    }

    /// Performs an operation.
    pub(crate) async fn call(
        self: &Arc<Self>,
        operation: &str,
        request: &Value,
    ) -> Result<Value, Refused> {
        match operation {
            "StartBuild" => self.start(request),
            "BatchGetBuilds" => self.get(request),
            "StopBuild" => {
                let id = text(request, "id").unwrap_or_default();
                let shown = self.shown(id)?;
                self.stop(id).await;
                Ok(json!({ "build": shown }))
            }
            "ListBuildsForProject" => {
                let builds = self.builds();
                let mut listed: Vec<&Build> = builds.values().collect();
                listed.sort_by_key(|build| std::cmp::Reverse(build.started_ms));
                let ids: Vec<_> = listed.iter().take(IDS).map(|build| &build.id).collect();
                Ok(json!({ "ids": ids }))
            }
            _ => Err((
                "UnknownOperationException",
                format!("the local cloud does not know the CodeBuild operation {operation}"),
            )),
        }
    }

    fn shown(&self, id: &str) -> Result<Value, Refused> {
        let missing = || {
            let message = format!("Build {id} cannot be found");
            ("ResourceNotFoundException", message)
        };
        let project = self.project.as_ref().ok_or_else(missing)?;
        let builds = self.builds();
        let build = builds.get(id).ok_or_else(missing)?;
        Ok(build.shown(project))
    }

    fn get(&self, request: &Value) -> Result<Value, Refused> {
        let ids = request.get("ids").and_then(Value::as_array);
        let ids: Vec<&str> = ids
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if ids.is_empty() || ids.len() > IDS {
            let message = format!("Invalid number of ids: from 1 to {IDS} are taken");
            return Err(("InvalidInputException", message));
        }
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for id in ids {
            match self.shown(id) {
                Ok(shown) => found.push(shown),
                Err(_) => missing.push(id),
            }
        }
        Ok(json!({ "builds": found, "buildsNotFound": missing }))
    }

    fn start(self: &Arc<Self>, request: &Value) -> Result<Value, Refused> {
        let name = text(request, "projectName").unwrap_or_default();
        let project = self.project.as_ref().filter(|project| project.name == name);
        let project = project.ok_or_else(|| {
            let message = format!("Project cannot be found: {name}");
            ("ResourceNotFoundException", message)
        })?;
        let (weather, now) = (self.weather(), self.clock.now_ms());
        if let Some(error) = weather.refuse {
            return Err((error, "Rate exceeded".to_owned()));
        }
        check(request)?;
        let token = text(request, "idempotencyToken");
        let mut builds = self.builds();
        let known = builds.values().find(|build| {
            let fresh = now.saturating_sub(build.started_ms) < TOKEN_VALID_MS;
            token.is_some() && build.token.as_deref() == token && fresh
        });
        if let Some(known) = known {
            if known.asked != *request {
                let message = "Mismatched parameters for the same idempotency token".to_owned();
                return Err(("InvalidInputException", message));
            }
            return Ok(json!({ "build": known.shown(project) }));
        }
        let live = builds.values().filter(|build| build.is_live()).count();
        if live >= weather.concurrent.saturating_add(weather.queue) {
            let message = format!(
                "Cannot have more than {} builds in queue for the account",
                weather.queue
            );
            return Err(("AccountLimitExceededException", message));
        }
        let build = self.new_build(request, now).ok_or((
            "InvalidInputException",
            "environmentVariablesOverride is wrong".to_owned(),
        ))?;
        builds.insert(build.id.clone(), build.clone());
        drop(builds);
        self.keep(&build);
        self.tell(&build, project);
        self.go_on(build.id.clone());
        Ok(json!({ "build": build.shown(project) }))
    }

    fn new_build(&self, request: &Value, now: u64) -> Option<Build> {
        let project = self.project.as_ref()?;
        let mut environment = project.environment.clone();
        environment.extend(variables(request)?);
        let minutes = |name: &str, otherwise: u64| {
            let value = request.get(name).and_then(Value::as_u64);
            value.unwrap_or(otherwise)
        };
        let or = |name: &str, otherwise: &str| text(request, name).unwrap_or(otherwise).to_owned();
        Some(Build {
            id: format!("{}:{}", project.name, random::request_id()),
            token: text(request, "idempotencyToken").map(str::to_owned),
            asked: request.clone(),
            started_ms: now,
            ended_ms: None,
            image: or("imageOverride", &project.image),
            compute_type: or("computeTypeOverride", &project.compute_type),
            environment,
            timeout_minutes: minutes("timeoutInMinutesOverride", project.timeout),
            queued_timeout_minutes: minutes(
                "queuedTimeoutInMinutesOverride",
                project.queued_timeout,
            ),
            status: "IN_PROGRESS".to_owned(),
            phase: "QUEUED".to_owned(),
            failed: None,
            stopping: false,
        })
    }
}

/// Refuses what CodeBuild would.
fn check(request: &Value) -> Result<(), Refused> {
    let known = [
        "projectName",
        "idempotencyToken",
        "environmentVariablesOverride",
        "timeoutInMinutesOverride",
        "queuedTimeoutInMinutesOverride",
        "imageOverride",
        "computeTypeOverride",
        "imagePullCredentialsTypeOverride",
    ];
    let members = request.as_object().into_iter().flatten();
    for (name, value) in members {
        let range = match name.as_str() {
            "timeoutInMinutesOverride" => Some(5..=2160),
            "queuedTimeoutInMinutesOverride" => Some(5..=480),
            _ => None,
        };
        let in_range = range.is_none_or(|range| {
            let number = value.as_u64();
            number.is_some_and(|number| range.contains(&number))
        });
        if !known.contains(&name.as_str()) || !in_range {
            let message = format!("{name} is not taken: {value}");
            return Err(("InvalidInputException", message));
        }
    }
    Ok(())
}

fn variables(request: &Value) -> Option<BTreeMap<String, String>> {
    let listed = request.get("environmentVariablesOverride");
    let listed = listed.and_then(Value::as_array).into_iter().flatten();
    let read = |it: &Value| Some((text(it, "name")?.to_owned(), text(it, "value")?.to_owned()));
    listed.map(read).collect()
}

fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name).and_then(Value::as_str)
}
