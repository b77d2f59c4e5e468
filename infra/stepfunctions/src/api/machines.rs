//! State machines: look. They are defined by the owner of the process, not through the API.

use serde_json::{Value, json};

use super::executions::no_machine;
use super::refusal::Refusal;
use super::request::{Request, next_token};
use crate::drive::Driver;
use crate::time::epoch_seconds;

pub(super) fn describe(driver: &Driver, request: &Request) -> Result<Value, Refusal> {
    let arn = request.arn("stateMachineArn", "stateMachine")?;
    let machine = driver
        .read(|store| store.machine(arn))?
        .ok_or_else(|| no_machine(arn))?;
    Ok(json!({
        "stateMachineArn": machine.arn,
        "name": machine.name,
        "status": "ACTIVE",
        "definition": machine.text,
        "roleArn": driver.arns().role(),
        "type": "STANDARD",
        "creationDate": epoch_seconds(machine.created_ms),
        "loggingConfiguration": { "level": "OFF", "includeExecutionData": false },
    }))
}

pub(super) fn list(driver: &Driver, request: &Request) -> Result<Value, Refusal> {
    let page = request.page()?;
    let machines = driver.read(|store| store.machines())?;
    let first = page.after.unwrap_or(0);
    let shown = machines
        .iter()
        .skip(first as usize)
        .take(page.limit as usize);
    let shown: Vec<Value> = shown
        .map(|machine| {
            json!({
                "stateMachineArn": machine.arn,
                "name": machine.name,
                "type": "STANDARD",
                "creationDate": epoch_seconds(machine.created_ms),
            })
        })
        .collect();
    let mut answer = json!({ "stateMachines": shown });
    let next = first.saturating_add(page.limit);
    if let (true, Some(members)) = (next < machines.len() as u64, answer.as_object_mut()) {
        members.insert("nextToken".to_owned(), Value::String(next_token(next)));
    }
    Ok(answer)
}
