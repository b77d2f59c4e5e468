//! Bindings and probes as their authors write them: every field that any kind has, each of its own type.
//!
//! An enum with a tag would be read into a buffer first, and whatever is wrong in it would be reported at its first line,
//! without the name of the field. These are read where they stand, and sorted by kind afterwards.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{
    Binding, CheckoutMode, Command, EnvValue, EventFormat, Model, Place, Probe, Question,
    Resources, Simulated,
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
    model: Option<String>,
    system: Option<String>,
    prompt: Option<String>,
    temperature: Option<f64>,
    max_tokens: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum BindingKind {
    Simulated,
    #[serde(alias = "process")]
    Command,
    Model,
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

impl BindingKind {
    fn name(&self) -> &'static str {
        match self {
            Self::Simulated => "simulated",
            Self::Command => "command",
            Self::Model => "model",
        }
    }
}

impl Fields {
    /// The name of a field that is there and belongs to another kind.
    fn foreign(&self) -> Option<&'static str> {
        let command = [
            ("command", self.command.is_some()),
            ("checkout", self.checkout.is_some()),
            ("env", self.env.is_some()),
            ("events", self.events.is_some()),
            ("image", self.image.is_some()),
            ("resources", self.resources.is_some()),
            ("on", self.on.is_some()),
            ("completion", self.completion.is_some()),
            ("longRunning", self.long_running.is_some()),
        ];
        let simulated = [
            ("output", self.output.is_some()),
            ("asks", self.asks.is_some()),
            ("fails", self.fails.is_some()),
        ];
        let model = [
            ("model", self.model.is_some()),
            ("system", self.system.is_some()),
            ("prompt", self.prompt.is_some()),
            ("temperature", self.temperature.is_some()),
            ("maxTokens", self.max_tokens.is_some()),
        ];
        let others: [&[(&'static str, bool)]; 2] = match self.kind {
            BindingKind::Simulated => [&command, &model],
            BindingKind::Command => [&simulated, &model],
            BindingKind::Model => [&command, &simulated],
        };
        let mut others = others.into_iter().flatten();
        others.find(|(_, there)| *there).map(|(name, _)| *name)
    }
}

impl TryFrom<Fields> for Binding {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Self, String> {
        if let Some(name) = fields.foreign() {
            let kind = fields.kind.name();
            return Err(format!("a runtime of kind `{kind}` has no field `{name}`"));
        }
        Ok(match fields.kind {
            BindingKind::Simulated => Self::Simulated(Simulated {
                output: fields.output.unwrap_or_default(),
                asks: fields.asks,
                fails: fields.fails,
            }),
            BindingKind::Command => Self::Command(command!(fields)),
            BindingKind::Model => Self::Model(Model {
                model: fields.model.ok_or("missing field `model`")?,
                system: fields.system,
                prompt: fields.prompt,
                temperature: fields.temperature,
                max_tokens: fields.max_tokens,
            }),
        })
    }
}

impl TryFrom<ProbeFields> for Probe {
    type Error = String;

    fn try_from(fields: ProbeFields) -> Result<Self, String> {
        let ProbeKind::Command = fields.kind;
        Ok(Self::Command(command!(fields)))
    }
}
