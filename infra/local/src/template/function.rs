//! A function: its properties over the template's `Globals`, and what invokes it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use super::{FunctionSpec, Resource, STACK, Stack, Trigger, arn, object};
use crate::error::Error;
use crate::events::pattern;

impl Stack {
    pub(super) fn function(
        &mut self,
        at: &Resource<'_>,
        globals: Option<&Value>,
    ) -> Result<(), Error> {
        let mut properties = at.properties()?;
        if let Some(globals) = globals {
            let globals = at.scope.value(globals, "Globals.Function")?;
            inherit(&mut properties, object(&globals, "Globals.Function")?);
        }
        let understood = [
            "FunctionName",
            "Timeout",
            "MemorySize",
            "Environment",
            "Policies",
            "Events",
            "Runtime",
            "Handler",
            "CodeUri",
        ];
        let harmless = [
            "Architectures",
            "DeadLetterQueue",
            "Description",
            "LoggingConfig",
            "Tags",
            "Tracing",
        ];
        at.only(&properties, &understood, &harmless)?;
        let name = at.scope.name(at.id, &at.place("FunctionName"))?;
        self.role(at, &properties, &name)?;
        let number = |key: &str, default: u64| match properties.get(key) {
            None => Ok(default),
            Some(value) => value
                .as_u64()
                .ok_or_else(|| Error::template(at.place(key), "a whole number has to stand here")),
        };
        let mut triggers = Vec::new();
        for (event, description) in at.map(&properties, "Events")? {
            triggers.push(trigger(at, &event, &description)?);
        }
        let binary = at
            .metadata()
            .and_then(|metadata| metadata.get("BuildProperties")?.get("Binary")?.as_str());
        self.functions.push(FunctionSpec {
            id: at.id.to_owned(),
            arn: arn("lambda", &format!("function:{name}")),
            name,
            binary: binary.map(str::to_owned),
            timeout: Duration::from_secs(number("Timeout", 3)?),
            memory_mb: number("MemorySize", 128)?,
            environment: environment(at, &properties)?,
            triggers,
        });
        Ok(())
    }
}

/// SAM's rule: what the function says goes, maps are merged, lists are put together.
fn inherit(own: &mut Map<String, Value>, globals: &Map<String, Value>) {
    for (key, global) in globals {
        match (own.get_mut(key), global) {
            (None, _) => {
                own.insert(key.clone(), global.clone());
            }
            (Some(Value::Object(own)), Value::Object(global)) => inherit(own, global),
            (Some(Value::Array(own)), Value::Array(global)) => {
                let mut all = global.clone();
                all.append(own);
                *own = all;
            }
            _ => {}
        }
    }
}

fn environment(
    at: &Resource<'_>,
    properties: &Map<String, Value>,
) -> Result<BTreeMap<String, String>, Error> {
    let variables = properties
        .get("Environment")
        .and_then(|environment| environment.get("Variables"));
    let Some(variables) = variables else {
        return Ok(BTreeMap::new());
    };
    let place = at.place("Environment.Variables");
    object(variables, &place)?
        .iter()
        .map(|(name, value)| {
            Ok((
                name.clone(),
                at.scope.text(value, &format!("{place}.{name}"))?,
            ))
        })
        .collect()
}

fn trigger(at: &Resource<'_>, event: &str, description: &Value) -> Result<Trigger, Error> {
    let place = at.place(&format!("Events.{event}"));
    let empty = Map::new();
    let properties = description
        .get("Properties")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    let text = |key: &str| properties.get(key).and_then(Value::as_str);
    let only = |understood: &[&str]| match properties
        .keys()
        .find(|key| !understood.contains(&key.as_str()))
    {
        None => Ok(()),
        Some(key) => Err(Error::template(
            format!("{place}.{key}"),
            "the local cloud does not know this property",
        )),
    };
    // How EventBridge names a rule that SAM makes.
    let name = format!("{STACK}-{}{event}", at.id);
    match description
        .get("Type")
        .and_then(Value::as_str)
        .unwrap_or_default()
    {
        "HttpApi" => {
            only(&["ApiId", "Method", "Path"])?;
            let method = text("Method").unwrap_or("ANY").to_ascii_uppercase();
            let method = if method == "X-AMAZON-APIGATEWAY-ANY-METHOD" {
                "ANY".to_owned()
            } else {
                method
            };
            Ok(Trigger::Http {
                method,
                path: text("Path").map(str::to_owned),
            })
        }
        "EventBridgeRule" | "CloudWatchEvent" => {
            only(&["Pattern", "RetryPolicy"])?;
            let pattern = properties
                .get("Pattern")
                .ok_or_else(|| Error::template(&place, "it has no Pattern"))?;
            pattern::check(pattern)
                .map_err(|message| Error::template(format!("{place}.Pattern"), message))?;
            Ok(Trigger::Event {
                name,
                pattern: pattern.clone(),
            })
        }
        "Schedule" | "ScheduleV2" => {
            only(&[
                "Schedule",
                "ScheduleExpression",
                "Input",
                "Description",
                "Name",
                "RetryPolicy",
            ])?;
            let expression = text("Schedule")
                .or(text("ScheduleExpression"))
                .unwrap_or_default();
            let every = rate(expression).ok_or_else(|| {
                Error::template(
                    &place,
                    format!(
                        "the local cloud knows schedules like rate(1 minute), not {expression:?}"
                    ),
                )
            })?;
            let input = text("Input").map(serde_json::from_str).transpose();
            let input = input.map_err(|error| {
                Error::template(format!("{place}.Input"), format!("no JSON: {error}"))
            })?;
            Ok(Trigger::Schedule { name, every, input })
        }
        kind => Err(Error::template(
            place,
            format!("the local cloud does not know events of type {kind:?}"),
        )),
    }
}

/// `rate(5 minutes)`.
fn rate(expression: &str) -> Option<Duration> {
    let (number, unit) = expression
        .strip_prefix("rate(")?
        .strip_suffix(')')?
        .split_once(' ')?;
    let seconds = match unit {
        "minute" | "minutes" => 60,
        "hour" | "hours" => 3_600,
        "day" | "days" => 86_400,
        _ => return None,
    };
    let number = number.parse::<u64>().ok().filter(|number| *number > 0)?;
    Some(Duration::from_secs(number.checked_mul(seconds)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_and_a_unit() {
        assert_eq!(rate("rate(1 minute)"), Some(Duration::from_secs(60)));
        assert_eq!(rate("rate(2 hours)"), Some(Duration::from_secs(7_200)));
        for wrong in [
            "rate(0 minutes)",
            "cron(0 * * * ? *)",
            "rate(1 fortnight)",
            "rate(minute)",
            "",
        ] {
            assert_eq!(rate(wrong), None, "{wrong}");
        }
    }
}
