//! What a call of the Step Functions API wants to do.

use serde_json::Value;

use super::Access;
use crate::template::{Machine, arn};

/// The access a call needs.
///
/// Task tokens are opaque. AWS authorises what is sent with them against the machine they belong to; with one machine
/// in the template that is the one.
pub(crate) fn access(operation: &str, request: &Value, machines: &[Machine]) -> Access {
    let text = |key: &str| request.get(key).and_then(Value::as_str);
    let resource = match operation {
        "SendTaskSuccess" | "SendTaskFailure" | "SendTaskHeartbeat" => match machines {
            [machine] => machine.arn.clone(),
            _ => arn("states", "stateMachine:*"),
        },
        "ListStateMachines" => "*".to_owned(),
        _ => text("executionArn")
            .or(text("stateMachineArn"))
            .unwrap_or("*")
            .to_owned(),
    };
    Access::new(format!("states:{operation}"), resource)
}
