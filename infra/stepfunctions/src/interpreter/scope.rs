//! The value of `$states`, which expressions read.

use serde_json::{Map, Value, json};

use crate::execution::Execution;
use crate::jsonata::Scope;
use crate::time;

/// What exists in a scope besides the state's input and the context.
#[derive(Clone, Debug, Default)]
pub(super) struct Extra<'a> {
    /// `$states.result`.
    pub(super) result: Option<Value>,
    /// `$states.errorOutput`.
    pub(super) error_output: Option<Value>,
    /// `$states.context.Task.Token`, which is there only while a task's own fields are evaluated.
    pub(super) token: Option<&'a str>,
}

/// The scope of the state that the execution is in.
pub(super) fn scope(execution: &Execution, role_arn: &str, extra: Extra<'_>) -> Scope {
    let mut states = Map::new();
    states.insert("input".to_owned(), execution.position.input.clone());
    states.insert(
        "context".to_owned(),
        context(execution, role_arn, extra.token),
    );
    if let Some(result) = extra.result {
        states.insert("result".to_owned(), result);
    }
    if let Some(error_output) = extra.error_output {
        states.insert("errorOutput".to_owned(), error_output);
    }
    Scope::new(Value::Object(states))
}

fn context(execution: &Execution, role_arn: &str, token: Option<&str>) -> Value {
    let position = &execution.position;
    let input: Value = serde_json::from_str(&execution.input).unwrap_or(Value::Null);
    let mut context = json!({
        "Execution": {
            "Id": execution.arn,
            "Input": input,
            "Name": execution.name,
            "RoleArn": role_arn,
            "StartTime": time::iso(execution.started_ms),
            "RedriveCount": 0,
        },
        "State": {
            "EnteredTime": time::iso(position.entered_ms),
            "Name": position.state,
            "RetryCount": position.retries,
        },
        "StateMachine": { "Id": execution.machine_arn, "Name": execution.machine_name },
    });
    if let (Some(token), Some(context)) = (token, context.as_object_mut()) {
        context.insert("Task".to_owned(), json!({ "Token": token }));
    }
    context
}
