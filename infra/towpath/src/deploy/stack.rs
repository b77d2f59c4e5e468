//! A stack that is deployed.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::account::Session;
use super::tools::Run;

/// The outputs of a stack, by name.
pub(crate) struct Outputs(BTreeMap<String, String>);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Output {
    output_key: String,
    output_value: String,
}

impl Outputs {
    /// Reads the outputs of a stack.
    ///
    /// # Errors
    /// If there is no such stack.
    pub(crate) fn of(stack: &str, session: &Session) -> Result<Self, String> {
        let args = [
            "list",
            "stack-outputs",
            "--stack-name",
            stack,
            "--region",
            session.region(),
            "--output",
            "json",
        ];
        let text = Run::new("sam", &args).with(session.environment()).output();
        let text = text.map_err(|error| {
            format!("there is no stack {stack} in {}: {error}", session.region())
        })?;
        // The command may say something before it answers.
        let from = text.find('[').unwrap_or(0);
        let outputs: Vec<Output> = serde_json::from_str(text.get(from..).unwrap_or_default())
            .map_err(|error| format!("the outputs of the stack {stack} cannot be read: {error}"))?;
        let outputs = outputs
            .into_iter()
            .map(|it| (it.output_key, it.output_value));
        Ok(Self(outputs.collect()))
    }

    /// An output that every deployment of this release has.
    pub(crate) fn need(&self, name: &str) -> Result<String, String> {
        let missing = || format!("the stack has no output {name}; deploy this release first");
        self.0.get(name).cloned().ok_or_else(missing)
    }
}
