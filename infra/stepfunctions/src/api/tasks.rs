//! Task tokens: how a wait ends from outside.

use std::sync::Arc;

use serde_json::{Value, json};

use super::executions::{MAX_CAUSE, MAX_ERROR};
use super::refusal::Refusal;
use super::request::Request;
use crate::drive::Driver;
use crate::failure::Failure;
use crate::interpreter::{Answer, MAX_PAYLOAD, TokenUse};
use crate::token::Token;

/// AWS's limit on task tokens.
const MAX_TOKEN: usize = 2_048;

pub(super) fn success(driver: &Arc<Driver>, request: &Request) -> Result<Value, Refusal> {
    let token = request.need("taskToken", MAX_TOKEN)?;
    let output = request
        .text("output", MAX_PAYLOAD)?
        .ok_or_else(|| Refusal::validation("output", "not be null"))?;
    let output = serde_json::from_str(output)
        .map_err(|error| Refusal::new("InvalidOutput", format!("Invalid Output: '{error}'")))?;
    answer(driver, token, Answer::Success(output))
}

pub(super) fn failure(driver: &Arc<Driver>, request: &Request) -> Result<Value, Refusal> {
    let token = request.need("taskToken", MAX_TOKEN)?;
    let failure = Failure {
        error: request.text("error", MAX_ERROR)?.map(str::to_owned),
        cause: request.text("cause", MAX_CAUSE)?.map(str::to_owned),
    };
    answer(driver, token, Answer::Failure(failure))
}

pub(super) fn heartbeat(driver: &Arc<Driver>, request: &Request) -> Result<Value, Refusal> {
    let token = request.need("taskToken", MAX_TOKEN)?;
    answer(driver, token, Answer::Heartbeat)
}

/// Answers a token. Once the response is 200, the answer is on disk.
fn answer(driver: &Arc<Driver>, text: &str, answer: Answer) -> Result<Value, Refusal> {
    let token = Token::decode(text)
        .ok_or_else(|| Refusal::new("InvalidToken", "Invalid Token: 'Invalid token'"))?;
    let unknown = || {
        Refusal::new(
            "TaskDoesNotExist",
            "Task Does Not Exist: 'Provided task does not exist'",
        )
    };
    let here = driver.read(|store| Ok(store.id() == token.store))?;
    if !here {
        return Err(unknown());
    }
    match driver.turn(token.execution, |turn| {
        turn.answer_token(text, &token, answer)
    })? {
        Some(TokenUse::Accepted) => Ok(json!({})),
        Some(TokenUse::Over) => Err(Refusal::new(
            "TaskTimedOut",
            "Task Timed Out: 'Provided task does not exist anymore'",
        )),
        Some(TokenUse::Unknown) | None => Err(unknown()),
    }
}
