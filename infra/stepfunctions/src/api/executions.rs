//! Executions: start, stop, look.

use std::sync::Arc;

use serde_json::{Value, json};
use ulid::Ulid;

use super::refusal::Refusal;
use super::request::{Request, next_token};
use crate::drive::Driver;
use crate::execution::{Execution, Position, Status};
use crate::failure::Failure;
use crate::interpreter::MAX_PAYLOAD;
use crate::store::{Page, RETENTION_MS};
use crate::time::epoch_seconds;

/// AWS's limits on error names and causes.
pub(super) const MAX_ERROR: usize = 256;
pub(super) const MAX_CAUSE: usize = 32_768;

pub(super) fn start(driver: &Arc<Driver>, request: &Request) -> Result<Value, Refusal> {
    let machine_arn = request.arn("stateMachineArn", "stateMachine")?;
    let name = match request.text("name", 80)? {
        None => Ulid::new().to_string(),
        Some(name) => checked(name)?.to_owned(),
    };
    let text = request.text("input", MAX_PAYLOAD)?.unwrap_or("{}");
    let input: Value = serde_json::from_str(text).map_err(|error| {
        Refusal::new(
            "InvalidExecutionInput",
            format!("Invalid State Machine Execution Input: '{error}'"),
        )
    })?;
    let now_ms = driver.now_ms();
    let started = driver.start(|store| {
        let Some(machine) = store.machine(machine_arn)? else {
            return Ok(Err(Settled::Refused(no_machine(machine_arn))));
        };
        let arn = driver.arns().execution(&machine.name, &name);
        if let Some(existing) = store.execution_by_arn(&arn)?
            && let Some(settled) = settled_by(existing, text, now_ms)
        {
            return Ok(Err(settled));
        }
        Ok(Ok(Execution {
            seq: 0,
            arn,
            machine_arn: machine.arn,
            machine_name: machine.name,
            name,
            definition: machine.definition,
            status: Status::Running,
            started_ms: now_ms,
            stopped_ms: None,
            input: text.to_owned(),
            output: None,
            failure: None,
            transitions: 0,
            invocations: 0,
            last_event: 0,
            position: Position::before_start(input),
        }))
    })?;
    match started {
        Ok(execution) => Ok(began(&execution)),
        Err(Settled::Same(execution)) => Ok(began(&execution)),
        Err(Settled::Refused(refusal)) => Err(refusal),
    }
}

/// The name, if AWS would take it.
fn checked(name: &str) -> Result<&str, Refusal> {
    match name {
        "" => Err(Refusal::validation(
            "name",
            "have length greater than or equal to 1",
        )),
        name if is_name(name) => Ok(name),
        name => Err(Refusal::new(
            "InvalidName",
            format!("Invalid Name: '{name}'"),
        )),
    }
}

/// What an execution of the same name makes of a start; `None` if it is old enough to be forgotten.
fn settled_by(existing: Execution, input: &str, now_ms: u64) -> Option<Settled> {
    if existing.is_running() && existing.input == input {
        return Some(Settled::Same(Box::new(existing)));
    }
    let forgotten = existing
        .stopped_ms
        .is_some_and(|stopped| stopped < now_ms.saturating_sub(RETENTION_MS));
    let message = format!("Execution Already Exists: '{}'", existing.arn);
    (!forgotten).then(|| Settled::Refused(Refusal::new("ExecutionAlreadyExists", message)))
}

fn began(execution: &Execution) -> Value {
    json!({ "executionArn": execution.arn, "startDate": epoch_seconds(execution.started_ms) })
}

/// The reason why no execution is started.
enum Settled {
    /// The very same execution runs already: the caller asked twice.
    Same(Box<Execution>),
    /// The start is refused.
    Refused(Refusal),
}

pub(super) fn stop(driver: &Arc<Driver>, request: &Request) -> Result<Value, Refusal> {
    let found = find(driver, request)?;
    let failure = Failure {
        error: request.text("error", MAX_ERROR)?.map(str::to_owned),
        cause: request.text("cause", MAX_CAUSE)?.map(str::to_owned),
    };
    driver.turn(found.seq, |turn| turn.stop(failure))?;
    let stopped = find(driver, request)?
        .stopped_ms
        .unwrap_or_else(|| driver.now_ms());
    Ok(json!({ "stopDate": epoch_seconds(stopped) }))
}

pub(super) fn describe(driver: &Driver, request: &Request) -> Result<Value, Refusal> {
    let execution = find(driver, request)?;
    let mut described = listed(&execution);
    if let Some(members) = described.as_object_mut() {
        members.insert("input".to_owned(), Value::String(execution.input));
        members.insert("inputDetails".to_owned(), json!({ "included": true }));
        if let Some(output) = execution.output {
            members.insert("output".to_owned(), Value::String(output));
            members.insert("outputDetails".to_owned(), json!({ "included": true }));
        }
        let failure = execution.failure.unwrap_or(Failure {
            error: None,
            cause: None,
        });
        for (member, text) in [("error", failure.error), ("cause", failure.cause)] {
            if let Some(text) = text {
                members.insert(member.to_owned(), Value::String(text));
            }
        }
        members.insert("redriveStatus".to_owned(), json!("NOT_REDRIVABLE"));
        members.insert(
            "redriveStatusReason".to_owned(),
            json!("Redriving is not supported here"),
        );
    }
    Ok(described)
}

pub(super) fn list(driver: &Driver, request: &Request) -> Result<Value, Refusal> {
    let machine = request.arn("stateMachineArn", "stateMachine")?;
    let status = match request.text("statusFilter", 32)? {
        None => None,
        Some(word) => Some(Status::parse(word).ok_or_else(|| {
            let words = "[RUNNING, SUCCEEDED, FAILED, TIMED_OUT, ABORTED, PENDING_REDRIVE]";
            Refusal::validation("statusFilter", format!("satisfy enum value set: {words}"))
        })?),
    };
    let page = request.page()?;
    if driver.read(|store| store.machine(machine))?.is_none() {
        return Err(no_machine(machine));
    }
    // One more than asked for tells whether there is a next page.
    let more = Page {
        limit: page.limit + 1,
        ..page
    };
    let mut executions = driver.read(|store| store.list(machine, status, more))?;
    let rest = executions.len() as u64 > page.limit;
    executions.truncate(page.limit as usize);
    let mut answer = json!({ "executions": executions.iter().map(listed).collect::<Vec<_>>() });
    if let (true, Some(last), Some(members)) = (rest, executions.last(), answer.as_object_mut()) {
        members.insert(
            "nextToken".to_owned(),
            Value::String(next_token(last.seq.unsigned_abs())),
        );
    }
    Ok(answer)
}

/// The execution that `executionArn` names.
pub(super) fn find(driver: &Driver, request: &Request) -> Result<Execution, Refusal> {
    let arn = request.arn("executionArn", "execution")?;
    let found = driver.read(|store| store.execution_by_arn(arn))?;
    found.ok_or_else(|| {
        Refusal::new(
            "ExecutionDoesNotExist",
            format!("Execution Does Not Exist: '{arn}'"),
        )
    })
}

pub(super) fn no_machine(arn: &str) -> Refusal {
    Refusal::new(
        "StateMachineDoesNotExist",
        format!("State Machine Does Not Exist: '{arn}'"),
    )
}

fn listed(execution: &Execution) -> Value {
    let mut item = json!({
        "executionArn": execution.arn,
        "stateMachineArn": execution.machine_arn,
        "name": execution.name,
        "status": execution.status.as_str(),
        "startDate": epoch_seconds(execution.started_ms),
        "redriveCount": 0,
    });
    if let (Some(stopped), Some(members)) = (execution.stopped_ms, item.as_object_mut()) {
        members.insert("stopDate".to_owned(), json!(epoch_seconds(stopped)));
    }
    item
}

/// AWS's rule for the names of executions, their length aside.
fn is_name(name: &str) -> bool {
    const REFUSED: &str = "<>{}[]?*\"#%\\^|~`$&,;:/";
    !name
        .chars()
        .any(|c| c.is_whitespace() || c.is_control() || REFUSED.contains(c))
}
