//! Steps that are one call of a language model: what is asked of it, and what it used.

use serde::{Deserialize, Serialize};

use crate::ValidationErrors;

/// A step that is answered by one call of a language model, which has no tools.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Model {
    /// The name of the model, as the deployment's gateway knows it.
    pub model: String,
    /// The system message. A fixed one that says how to answer when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The task of the step, which stands before everything that the model is told of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The randomness of the answer, from 0 to 2. The gateway's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// The most tokens that the answer may have. The gateway's own limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
}

/// The longest name of a model, in bytes: what the record of a step holds of it.
const NAME: usize = 256;
/// The longest system message and the longest prompt, in bytes.
const TEXT: usize = 32 * 1024;
/// The most tokens that an answer can be given.
const TOKENS: u32 = 1_000_000;

impl Model {
    pub(crate) fn check(&self, path: &str, errors: &mut ValidationErrors) {
        let named = (1..=NAME).contains(&self.model.len())
            && !self.model.contains(|it: char| it.is_control());
        if !named {
            errors.add(
                format!("{path}.model"),
                format!("the name of a model has from 1 to {NAME} bytes and no control characters"),
            );
        }
        for (name, text) in [("system", &self.system), ("prompt", &self.prompt)] {
            let Some(bytes) = text.as_ref().map(String::len).filter(|it| *it > TEXT) else {
                continue;
            };
            errors.add(
                format!("{path}.{name}"),
                format!("at most {TEXT} bytes are allowed, this has {bytes}"),
            );
        }
        if self
            .temperature
            .is_some_and(|it| !(0.0..=2.0).contains(&it))
        {
            errors.add(
                format!("{path}.temperature"),
                "a temperature is from 0 to 2",
            );
        }
        if self
            .max_tokens
            .is_some_and(|it| !(1..=TOKENS).contains(&it))
        {
            errors.add(
                format!("{path}.maxTokens"),
                format!("an answer may have from 1 to {TOKENS} tokens"),
            );
        }
    }
}

/// What calls of a model used, in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    /// The tokens that the model was given, the cached ones included.
    pub prompt_tokens: u64,
    /// The tokens that the model made.
    pub completion_tokens: u64,
    /// The tokens among those given that the provider had cached.
    #[serde(skip_serializing_if = "is_zero")]
    pub cached_tokens: u64,
    /// The calls of which it is not known what they used: their gateway did not say, or they were lost before it could.
    /// What these used is in none of the numbers.
    #[serde(skip_serializing_if = "is_zero")]
    pub unmetered_calls: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Usage {
    /// The sum of two usages. What a record cannot hold is cut off at the most that it can.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            prompt_tokens: self.prompt_tokens.saturating_add(other.prompt_tokens),
            completion_tokens: self
                .completion_tokens
                .saturating_add(other.completion_tokens),
            cached_tokens: self.cached_tokens.saturating_add(other.cached_tokens),
            unmetered_calls: self.unmetered_calls.saturating_add(other.unmetered_calls),
        }
    }
}
