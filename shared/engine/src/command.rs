//! Commands that jobs run: what is run, with what, and where.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{EnvValue, SecretName, ValidationErrors};

/// A command that a job runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Command {
    /// The program and its arguments; no shell is implied.
    pub command: Vec<String>,
    /// The job's working copy of the block's repository.
    #[serde(default)]
    pub checkout: CheckoutMode,
    /// Environment variables. Names beginning with `TOWPATH_` are the engine's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, EnvValue>,
    /// The form of what the command prints, if events can be made of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<EventFormat>,
    /// The container image that the command runs in, by digest, where jobs run in containers. The deployment's own when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The processors and memory that the command needs, where a job gets a machine of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// The place where the command runs. Where the deployment runs commands when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<Place>,
    /// The condition under which the work is completed, as an executor is told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion: Option<String>,
    /// Whether only an executor that keeps its work over a restart (`resumable`) may have it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub long_running: bool,
}

/// The working copy of the block's repository that a job gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckoutMode {
    /// An empty work directory.
    #[default]
    None,
    /// A working copy of the branch; what the command changes in it is thrown away.
    Read,
    /// A working copy; when the command succeeds its changes are committed and the branch is pushed.
    Write,
}

/// A form in which an agent's command line prints what it does, line by line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventFormat {
    /// `claude --print --verbose --output-format stream-json`.
    ClaudeStreamJson,
    /// `goose run --output-format stream-json`.
    Goose,
}

/// The processors and memory of a job's machine. The smallest machine that has both is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resources {
    /// The number of virtual processors.
    pub cpus: u32,
    /// The memory, in MiB.
    pub memory_mb: u32,
}

impl Resources {
    fn check(&self, path: &str, errors: &mut ValidationErrors) {
        if !(1..=72).contains(&self.cpus) {
            errors.add(format!("{path}.cpus"), "a job gets from 1 to 72 processors");
        }
        if !(256..=145 * 1024).contains(&self.memory_mb) {
            errors.add(
                format!("{path}.memoryMb"),
                "a job gets from 256 to 148480 MiB of memory",
            );
        }
    }
}

/// The kind of the runtime whose jobs are missions of machines that dialled in.
pub const EXECUTOR: &str = "executor";

/// The place where a command runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The runtime of this kind: `on: codebuild`.
    Runtime(String),
    /// A machine that dialled in and has these capabilities: `on: { executor: [x-gpu] }`.
    Executor(Vec<String>),
}

impl Place {
    /// The kind of the runtime that the place names.
    pub(crate) fn runtime(&self) -> &str {
        match self {
            Self::Runtime(kind) => kind,
            Self::Executor(_) => EXECUTOR,
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Runtime(kind) => serializer.serialize_str(kind),
            Self::Executor(capabilities) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("executor", capabilities)?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlaceReader)
    }
}

struct PlaceReader;

impl<'de> Visitor<'de> for PlaceReader {
    type Value = Place;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a runtime, or { executor: [CAPABILITY, …] }")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Place, E> {
        Ok(Place::Runtime(text.to_owned()))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Place, M::Error> {
        let place = match map.next_key::<String>()?.as_deref() {
            Some("executor") => Place::Executor(map.next_value()?),
            _ => {
                return Err(M::Error::custom(
                    "`on` names a runtime, or { executor: [CAPABILITY, …] }",
                ));
            }
        };
        match map.next_key::<String>()? {
            None => Ok(place),
            Some(key) => Err(M::Error::custom(format!(
                "unknown field `{key}`, expected `executor`"
            ))),
        }
    }
}

/// The reason a text is no image that a job can be pinned to. A tag would mean another image tomorrow.
fn image_problem(image: &str) -> Option<&'static str> {
    let (name, digest) = image.split_once("@sha256:").unwrap_or((image, ""));
    let named =
        !name.is_empty() && name.len() <= 255 && name.bytes().all(|byte| byte.is_ascii_graphic());
    let pinned = digest.len() == 64
        && digest
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let problem = "an image is named by its digest, NAME@sha256:DIGEST, since a tag may be another image tomorrow; `docker buildx imagetools inspect NAME:TAG` shows it";
    (!named || !pinned).then_some(problem)
}

/// The most bytes of a completion condition.
const COMPLETION: usize = 4096;
/// The most capabilities that a step may ask for.
const CAPABILITIES: usize = 16;

fn check_capabilities(capabilities: &[String], path: &str, errors: &mut ValidationErrors) {
    if capabilities.is_empty() || capabilities.len() > CAPABILITIES {
        let message = format!(
            "an executor is chosen by 1 to {CAPABILITIES} capabilities, for example [runtime:claude-code, x-gpu]"
        );
        errors.add(path, message);
    }
    for (index, capability) in capabilities.iter().enumerate() {
        if !is_capability(capability) {
            errors.add(
                format!("{path}[{index}]"),
                "a capability is isolation:NAME, runtime:NAME, platform:OS/ARCH, resumable, hitl, multi-tenant, or \
                 one of your own that begins with x-, such as x-gpu",
            );
        }
    }
}

/// Whether a text is a capability of an executor, as contract v1 has them.
pub fn is_capability(text: &str) -> bool {
    if text.len() > 128 {
        return false;
    }
    if let Some(name) = text.strip_prefix("x-") {
        return is_word(name, "_:-");
    }
    match text.split_once(':') {
        None => matches!(text, "resumable" | "hitl" | "multi-tenant"),
        Some(("isolation", name)) => is_word(name, "_-"),
        Some(("runtime", "claude-code" | "codex" | "cursor" | "aider")) => true,
        Some(("runtime", name)) => name
            .strip_prefix("custom:")
            .is_some_and(|name| is_word(name, "_-")),
        Some(("platform", name)) => name.split_once('/').is_some_and(|(system, machine)| {
            is_word(system, "_-") && machine.len() > 1 && is_word(machine, "_-")
        }),
        Some(_) => false,
    }
}

/// Whether a text begins with a small letter and goes on with those, digits and `more`.
fn is_word(text: &str, more: &str) -> bool {
    let goes_on = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || more.contains(c);
    text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(goes_on)
}

impl Command {
    /// The secrets that its environment names, each once.
    pub fn secrets(&self) -> BTreeSet<&SecretName> {
        self.env.values().filter_map(EnvValue::secret).collect()
    }

    pub(crate) fn check(&self, path: &str, errors: &mut ValidationErrors) {
        if self
            .command
            .first()
            .is_none_or(|program| program.is_empty())
        {
            errors.add(
                format!("{path}.command"),
                "a command needs a program, for example [make, test]",
            );
        }
        if let Some(problem) = self.image.as_deref().and_then(image_problem) {
            errors.add(format!("{path}.image"), problem);
        }
        if let Some(resources) = &self.resources {
            resources.check(&format!("{path}.resources"), errors);
        }
        if let Some(Place::Executor(capabilities)) = &self.on {
            check_capabilities(capabilities, &format!("{path}.on.executor"), errors);
        } else if self.completion.is_some() || self.long_running {
            errors.add(
                format!("{path}.on"),
                "`completion` and `longRunning` are for executors: say `on: { executor: [CAPABILITY] }`",
            );
        }
        let completion = self.completion.as_deref();
        if completion.is_some_and(|it| it.trim().is_empty() || it.len() > COMPLETION) {
            let message = format!("a completion condition has from 1 to {COMPLETION} bytes");
            errors.add(format!("{path}.completion"), message);
        }
        for name in self.env.keys() {
            if name.starts_with("TOWPATH_") {
                errors.add(
                    format!("{path}.env.{name}"),
                    "names beginning with TOWPATH_ are the engine's own",
                );
            } else if name.is_empty() || name.contains('=') {
                errors.add(
                    format!("{path}.env"),
                    "a variable's name is not empty and holds no `=`",
                );
            }
        }
    }
}
