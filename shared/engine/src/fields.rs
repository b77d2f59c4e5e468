//! Bindings and probes as their authors write them: every field that any kind has, each of its own type.
//!
//! An enum with a tag would be read into a buffer first, and whatever is wrong in it would be reported at its first line,
//! without the name of the field. These are read where they stand, and sorted by kind afterwards.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{
    Binding, CheckoutMode, Command, EnvValue, EventFormat, Place, Probe, Question, Resources,
    Simulated,
};

/// The fields of a binding.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Fields {
    kind: BindingKind,
    command: Option<Vec<String>>,
    checkout: Option<CheckoutMode>,
    env: Option<BTreeMap<String, EnvValue>>,
    events: Option<EventFormat>,
    image: Option<String>,
    resources: Option<Resources>,
    on: Option<Place>,
    completion: Option<String>,
    long_running: Option<bool>,
    output: Option<String>,
    asks: Option<Question>,
    fails: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum BindingKind {
    Simulated,
    #[serde(alias = "process")]
    Command,
}

/// The fields of a probe.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ProbeFields {
    kind: ProbeKind,
    command: Option<Vec<String>>,
    checkout: Option<CheckoutMode>,
    env: Option<BTreeMap<String, EnvValue>>,
    events: Option<EventFormat>,
    image: Option<String>,
    resources: Option<Resources>,
    on: Option<Place>,
    completion: Option<String>,
    long_running: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ProbeKind {
    Command,
}

/// The command of a kind that has one: of these fields, which both have.
macro_rules! command {
    ($fields:expr) => {
        Command {
            command: $fields.command.ok_or("missing field `command`")?,
            checkout: $fields.checkout.unwrap_or_default(),
            env: $fields.env.unwrap_or_default(),
            events: $fields.events,
            image: $fields.image,
            resources: $fields.resources,
            on: $fields.on,
            completion: $fields.completion,
            long_running: $fields.long_running.unwrap_or_default(),
        }
    };
}

/// Refuses fields of another kind.
fn none_of(kind: &str, fields: &[(&str, bool)]) -> Result<(), String> {
    match fields.iter().find(|(_, there)| *there) {
        Some((name, _)) => Err(format!("a runtime of kind `{kind}` has no field `{name}`")),
        None => Ok(()),
    }
}

impl TryFrom<Fields> for Binding {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Self, String> {
        match fields.kind {
            BindingKind::Simulated => {
                let others = [
                    ("command", fields.command.is_some()),
                    ("checkout", fields.checkout.is_some()),
                    ("env", fields.env.is_some()),
                    ("events", fields.events.is_some()),
                    ("image", fields.image.is_some()),
                    ("resources", fields.resources.is_some()),
                    ("on", fields.on.is_some()),
                    ("completion", fields.completion.is_some()),
                    ("longRunning", fields.long_running.is_some()),
                ];
                none_of("simulated", &others)?;
                Ok(Self::Simulated(Simulated {
                    output: fields.output.unwrap_or_default(),
                    asks: fields.asks,
                    fails: fields.fails,
                }))
            }
            BindingKind::Command => {
                let others = [
                    ("output", fields.output.is_some()),
                    ("asks", fields.asks.is_some()),
                    ("fails", fields.fails.is_some()),
                ];
                none_of("command", &others)?;
                Ok(Self::Command(command!(fields)))
            }
        }
    }
}

impl TryFrom<ProbeFields> for Probe {
    type Error = String;

    fn try_from(fields: ProbeFields) -> Result<Self, String> {
        let ProbeKind::Command = fields.kind;
        Ok(Self::Command(command!(fields)))
    }
}
