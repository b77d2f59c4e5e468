//! A function: its properties over the template's `Globals`, and its triggers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use super::{FunctionSpec, Resource, STACK, Stack, Trigger, arn, object};
use crate::error::Error;
use crate::pattern;

/// The variables that name a place where jobs run and that the local cloud has nothing for.
const ELSEWHERE: [(&str, &str); 2] = [("ECS_CLUSTER", "ECS"), ("FLY_APP", "Fly.io")];

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
            "EventInvokeConfig",
            "Events",
            "Runtime",
            "Handler",
            "CodeUri",
            "FunctionUrlConfig",
        ];
        let harmless = [
            "Architectures",
            "DeadLetterQueue",
            "Description",
            "LoggingConfig",
            // A limit that one laptop does not reach.
            "ReservedConcurrentExecutions",
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
                .ok_or_else(|| Error::template(at.place(key), "must be a whole number")),
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
            retries: retries(at, &properties)?,
            environment: environment(at, &properties)?,
            triggers,
        });
        Ok(())
    }
}

/// Merges the globals into a function's own properties by SAM's rule: the function's value wins, maps are merged, lists
/// are joined.
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

/// How often a failed asynchronous invocation is tried again: twice, unless the function says less.
fn retries(at: &Resource<'_>, properties: &Map<String, Value>) -> Result<usize, Error> {
    let mut retries = 2;
    for (key, value) in at.map(properties, "EventInvokeConfig")? {
        let place = at.place(&format!("EventInvokeConfig.{key}"));
        let count = value.as_u64().filter(|count| *count <= 2);
        retries = match (key.as_str(), count) {
            ("MaximumRetryAttempts", Some(count)) => count as usize,
            ("MaximumRetryAttempts", None) => {
                return Err(Error::template(place, "must be 0, 1 or 2"));
            }
            _ => {
                let message = "the local cloud does not know this property";
                return Err(Error::template(place, message));
            }
        };
    }
    Ok(retries)
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
            let place = format!("{place}.{name}");
            let value = at.scope.text(value, &place)?;
            let elsewhere = ELSEWHERE.iter().find(|(of, _)| of == name);
            match elsewhere.filter(|_| !value.is_empty()) {
                None => Ok((name.clone(), value)),
                Some((_, what)) => {
                    let message = format!(
                        "the local cloud has no {what}, whose machines could not call it either: leave this empty, and let jobs run in `process` or `codebuild`"
                    );
                    Err(Error::template(place, message))
                }
            }
        })
        .collect()
}

fn trigger(at: &Resource<'_>, event: &str, description: &Value) -> Result<Trigger, Error> {
    let given = EventSource {
        place: at.place(&format!("Events.{event}")),
        // How EventBridge names a rule that SAM makes.
        name: format!("{STACK}-{}{event}", at.id),
        properties: description
            .get("Properties")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default(),
    };
    match description.get("Type").and_then(Value::as_str) {
        Some("HttpApi") => given.http(),
        Some("EventBridgeRule" | "CloudWatchEvent") => given.rule(),
        Some("Schedule" | "ScheduleV2") => given.schedule(),
        kind => Err(Error::template(
            given.place,
            format!(
                "the local cloud does not know events of type {:?}",
                kind.unwrap_or_default()
            ),
        )),
    }
}

/// One of a function's `Events`.
struct EventSource {
    place: String,
    name: String,
    properties: Map<String, Value>,
}

impl EventSource {
    fn text(&self, key: &str) -> Option<&str> {
        self.properties.get(key).and_then(Value::as_str)
    }

    /// Refuses every property that is not understood.
    fn only(&self, understood: &[&str]) -> Result<(), Error> {
        let mut keys = self.properties.keys();
        match keys.find(|key| !understood.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => Err(Error::template(
                format!("{}.{key}", self.place),
                "the local cloud does not know this property",
            )),
        }
    }

    fn http(self) -> Result<Trigger, Error> {
        self.only(&["ApiId", "Method", "Path"])?;
        let method = self.text("Method").unwrap_or("ANY").to_ascii_uppercase();
        let method = match method.as_str() {
            "X-AMAZON-APIGATEWAY-ANY-METHOD" => "ANY".to_owned(),
            _ => method,
        };
        let path = self.text("Path").map(str::to_owned);
        Ok(Trigger::Http { method, path })
    }

    fn rule(mut self) -> Result<Trigger, Error> {
        self.only(&["Pattern", "RetryPolicy"])?;
        let pattern = self.properties.remove("Pattern");
        let pattern = pattern.ok_or_else(|| Error::template(&self.place, "Pattern is missing"))?;
        pattern::check(&pattern)
            .map_err(|message| Error::template(format!("{}.Pattern", self.place), message))?;
        let name = self.name;
        Ok(Trigger::Event { name, pattern })
    }

    fn schedule(self) -> Result<Trigger, Error> {
        self.only(&[
            "Schedule",
            "ScheduleExpression",
            "Input",
            "Description",
            "Name",
            "RetryPolicy",
        ])?;
        let expression = self.text("Schedule").or(self.text("ScheduleExpression"));
        let expression = expression.unwrap_or_default();
        let every = rate(expression).ok_or_else(|| {
            let message =
                format!("the local cloud knows schedules like rate(1 minute), not {expression:?}");
            Error::template(&self.place, message)
        })?;
        let input = self.text("Input").map(serde_json::from_str).transpose();
        let input = input.map_err(|error| {
            Error::template(
                format!("{}.Input", self.place),
                format!("not JSON: {error}"),
            )
        })?;
        let name = self.name;
        Ok(Trigger::Schedule { name, every, input })
    }
}

/// The duration of an expression such as `rate(5 minutes)`.
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
