//! A CodeBuild project: the commands of its builds, and what they are given.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Resource, arn, yaml};
use crate::error::Error;

/// A CodeBuild project without a source or artifacts.
#[derive(Clone, Debug)]
pub(crate) struct ProjectSpec {
    pub(crate) name: String,
    pub(crate) arn: String,
    /// The commands of the build phase, run one after the other by `sh`.
    pub(crate) commands: Vec<String>,
    pub(crate) image: String,
    pub(crate) compute_type: String,
    pub(crate) environment: BTreeMap<String, String>,
    /// The time-outs in minutes: of a build, and of its wait.
    pub(crate) timeout: u64,
    pub(crate) queued_timeout: u64,
}

impl ProjectSpec {
    pub(super) fn read(at: &Resource<'_>) -> Result<Self, Error> {
        let properties = at.properties()?;
        let understood = [
            "Name",
            "Artifacts",
            "Source",
            "Environment",
            "TimeoutInMinutes",
            "QueuedTimeoutInMinutes",
        ];
        let harmless = [
            "Description",
            "EncryptionKey",
            "LogsConfig",
            "ServiceRole",
            "Tags",
        ];
        at.only(&properties, &understood, &harmless)?;
        let artifacts = at.map(&properties, "Artifacts")?;
        if artifacts.get("Type") != Some(&Value::from("NO_ARTIFACTS")) {
            let message = "the local cloud has builds without artifacts: Type: NO_ARTIFACTS";
            return Err(Error::template(at.place("Artifacts"), message));
        }
        let source = at.map(&properties, "Source")?;
        if source.get("Type") != Some(&Value::from("NO_SOURCE")) {
            let message = "the local cloud has builds without a source: Type: NO_SOURCE";
            return Err(Error::template(at.place("Source"), message));
        }
        let environment = at.map(&properties, "Environment")?;
        let minutes = |name: &str, otherwise: u64| match properties.get(name) {
            None => Ok(otherwise),
            Some(value) => value
                .as_u64()
                .ok_or_else(|| Error::template(at.place(name), "must be a whole number")),
        };
        let name = at.scope.name(at.id, &at.place("Name"))?;
        Ok(Self {
            arn: arn("codebuild", &format!("project/{name}")),
            name,
            commands: commands(at, source.get("BuildSpec"))?,
            image: at.text(&environment, "Image")?.to_owned(),
            compute_type: at.text(&environment, "ComputeType")?.to_owned(),
            environment: variables(at, environment.get("EnvironmentVariables"))?,
            timeout: minutes("TimeoutInMinutes", 60)?,
            queued_timeout: minutes("QueuedTimeoutInMinutes", 480)?,
        })
    }
}

/// The commands of a build specification that has nothing but a build phase.
fn commands(at: &Resource<'_>, spec: Option<&Value>) -> Result<Vec<String>, Error> {
    let place = at.place("Source.BuildSpec");
    let wrong = |message: &str| Error::template(&place, message);
    let text = spec.and_then(Value::as_str);
    let text = text.ok_or_else(|| wrong("must be a text"))?;
    let spec = yaml::parse(text).map_err(|message| wrong(&message))?;
    let only = |value: &Value, key: &str| match value.as_object() {
        Some(map) => map.keys().all(|name| name == key),
        None => false,
    };
    let (phases, build) = (spec.get("phases"), spec.pointer("/phases/build"));
    let known =
        phases.is_some_and(|it| only(it, "build")) && build.is_some_and(|it| only(it, "commands"));
    let listed = build.and_then(|build| build.get("commands")?.as_array());
    let commands: Option<Vec<String>> = listed.filter(|_| known).and_then(|listed| {
        listed
            .iter()
            .map(|it| Some(it.as_str()?.to_owned()))
            .collect()
    });
    commands.ok_or_else(|| {
        wrong("the local cloud knows build specifications with `commands` of the phase `build`, and no other")
    })
}

fn variables(at: &Resource<'_>, listed: Option<&Value>) -> Result<BTreeMap<String, String>, Error> {
    let place = at.place("Environment.EnvironmentVariables");
    let listed = listed
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let read = |variable: &Value| {
        let text = |name: &str| variable.get(name).and_then(Value::as_str);
        match (text("Name"), text("Value"), text("Type")) {
            (Some(name), Some(value), None | Some("PLAINTEXT")) => {
                Ok((name.to_owned(), value.to_owned()))
            }
            _ => {
                let message = "the local cloud knows variables with a Name and a plain Value";
                Err(Error::template(&place, message))
            }
        }
    };
    listed.iter().map(read).collect()
}
