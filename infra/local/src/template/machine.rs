//! A state machine, with the substitutions made in its definition.

use std::path::Path;

use serde_json::Value;

use super::{Resource, Stack, arn, read};
use crate::error::Error;

/// A state machine.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arn: String,
    /// The definition of the state machine, with the substitutions made.
    pub(crate) definition: Value,
}

impl Stack {
    pub(super) fn machine(&mut self, at: &Resource<'_>, folder: &Path) -> Result<(), Error> {
        let properties = at.properties()?;
        let understood = [
            "Name",
            "Type",
            "DefinitionUri",
            "DefinitionSubstitutions",
            "Policies",
        ];
        at.only(
            &properties,
            &understood,
            &["Tracing", "Logging", "Tags", "AutoPublishAlias"],
        )?;
        if properties
            .get("Type")
            .is_some_and(|kind| kind != "STANDARD")
        {
            return Err(Error::template(
                at.place("Type"),
                "the local cloud has STANDARD state machines only",
            ));
        }
        let uri = at.text(&properties, "DefinitionUri")?;
        let path = folder.join(uri);
        let mut text = read(&path)?;
        for (name, value) in at.map(&properties, "DefinitionSubstitutions")? {
            // The value stands inside a JSON string; ARNs need no escapes.
            let place = at.place(&format!("DefinitionSubstitutions.{name}"));
            let value = value
                .as_str()
                .ok_or_else(|| Error::template(place, "must be a text"))?;
            text = text.replace(&format!("${{{name}}}"), value);
        }
        let definition = serde_json::from_str(&text).map_err(|error| Error::Syntax {
            path: path.clone(),
            message: error.to_string(),
        })?;
        if let Some((_, rest)) = text.split_once("${") {
            let name = rest.split('}').next().unwrap_or_default();
            let message = format!("{} uses ${{{name}}}, which is not given", path.display());
            return Err(Error::template(
                at.place("DefinitionSubstitutions"),
                message,
            ));
        }
        let name = at.scope.name(at.id, &at.place("Name"))?;
        self.role(at, &properties, &name)?;
        let arn = arn("states", &format!("stateMachine:{name}"));
        self.machines.push(Machine {
            id: at.id.to_owned(),
            name,
            arn,
            definition,
        });
        Ok(())
    }
}
