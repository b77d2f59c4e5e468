//! What expressions see: `$states` and the machine's variables.

use serde_json::{Map, Value, json};

use super::Turn;
use crate::jsonata::Scope;
use crate::time;

impl Turn<'_> {
    /// The scope of the state the execution is in.
    pub(super) fn scope(
        &self,
        result: Option<Value>,
        error_output: Option<Value>,
        token: Option<&str>,
    ) -> Scope {
        let position = &self.execution.position;
        let mut states = Map::new();
        states.insert("input".to_owned(), position.input.clone());
        states.insert("context".to_owned(), self.context(token));
        if let Some(result) = result {
            states.insert("result".to_owned(), result);
        }
        if let Some(error_output) = error_output {
            states.insert("errorOutput".to_owned(), error_output);
        }
        let mut scope = Scope::new(self.now_ms);
        scope.bind("states", Value::Object(states));
        for (name, value) in &position.variables {
            scope.bind(name, value.clone());
        }
        scope
    }

    /// The context object. The token is there only while a task's own fields are evaluated.
    fn context(&self, token: Option<&str>) -> Value {
        let (execution, position) = (&*self.execution, &self.execution.position);
        let input: Value = serde_json::from_str(&execution.input).unwrap_or(Value::Null);
        let mut context = json!({
            "Execution": {
                "Id": execution.arn,
                "Input": input,
                "Name": execution.name,
                "RoleArn": self.surroundings.role_arn,
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
}
