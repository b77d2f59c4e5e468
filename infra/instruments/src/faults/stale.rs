//! Answers of an index that has not caught up.
//!
//! The call is always made, and its answer remembered. The stale answer is what the identical query was answered the
//! time before, which was true then. If there was none, the present answer lacks one row, whose write has not arrived.
//! Both are answers that a real index may give.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use http_body_util::BodyExt;
use serde_json::Value;

use super::reply::json_reply;

/// The number of queries whose earlier answers are kept.
const REMEMBERED: usize = 64;

/// The latest answers by the query, oldest first. Queries are compared as JSON: the SDK writes the members of an object
/// in any order.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<VecDeque<(Value, Vec<u8>)>>);

impl Memory {
    /// Keeps this answer and returns the one before.
    fn replace(&self, question: Value, answer: Vec<u8>) -> Option<Vec<u8>> {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = answers.iter().position(|(asked, _)| *asked == question);
        let before = known
            .and_then(|at| answers.remove(at))
            .map(|(_, answer)| answer);
        answers.push_back((question, answer));
        if answers.len() > REMEMBERED {
            answers.pop_front();
        }
        before
    }
}

/// The answer to give, and whether it is a stale one. `stale`: it shall be, and this number picks the row to leave out.
pub(super) async fn answer_stale(
    memory: &Memory,
    question: Value,
    mut answer: HttpResponse,
    stale: Option<u64>,
) -> Result<(HttpResponse, bool), ConnectorError> {
    if !answer.status().is_success() {
        return Ok((answer, false));
    }
    let body = answer
        .take_body()
        .collect()
        .await
        .map_err(ConnectorError::io)?
        .to_bytes()
        .to_vec();
    let before = memory.replace(question, body.clone());
    let old = stale.and_then(|pick| match before {
        Some(before) => Some(before).filter(|before| rows(before) != rows(&body)),
        None => without_a_row(&body, pick),
    });
    match old {
        Some(old) => Ok((json_reply(200, old)?, true)),
        None => {
            *answer.body_mut() = SdkBody::from(body);
            Ok((answer, false))
        }
    }
}

fn rows(body: &[u8]) -> Option<Value> {
    serde_json::from_slice::<Value>(body)
        .ok()?
        .get_mut("Items")
        .map(Value::take)
}

fn without_a_row(body: &[u8], pick: u64) -> Option<Vec<u8>> {
    let mut body: Value = serde_json::from_slice(body).ok()?;
    let rows = body
        .get_mut("Items")?
        .as_array_mut()
        .filter(|rows| !rows.is_empty())?;
    let missing = usize::try_from(pick % u64::try_from(rows.len()).ok()?).ok()?;
    rows.remove(missing);
    for count in ["Count", "ScannedCount"] {
        if let Some(count) = body.get_mut(count) {
            *count = Value::from(count.as_u64().unwrap_or_default().saturating_sub(1));
        }
    }
    Some(body.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    async fn ask(memory: &Memory, rows: &[&str], stale: Option<u64>) -> (Value, bool) {
        let body = json!({ "Items": rows, "Count": rows.len(), "ScannedCount": rows.len() });
        let answer = json_reply(200, body.to_string().into_bytes()).unwrap();
        let (answer, is_stale) = answer_stale(memory, json!("query"), answer, stale)
            .await
            .unwrap();
        (
            serde_json::from_slice(answer.body().bytes().unwrap()).unwrap(),
            is_stale,
        )
    }

    #[tokio::test]
    async fn a_stale_answer_is_the_one_before() {
        let memory = Memory::default();
        ask(&memory, &["a"], None).await;
        let (answer, is_stale) = ask(&memory, &["a", "b"], Some(0)).await;
        assert!(
            is_stale && answer == json!({ "Items": ["a"], "Count": 1, "ScannedCount": 1 }),
            "{answer}"
        );
        // It was remembered what is there now, so the index catches up.
        let (answer, is_stale) = ask(&memory, &["a", "b"], Some(0)).await;
        assert!(!is_stale && answer["Count"] == 2, "{answer}");
    }

    #[tokio::test]
    async fn an_answer_with_none_before_lacks_a_row() {
        let (answer, is_stale) = ask(&Memory::default(), &["a", "b", "c"], Some(4)).await;
        assert!(
            is_stale && answer == json!({ "Items": ["a", "c"], "Count": 2, "ScannedCount": 2 }),
            "{answer}"
        );
        let (_, is_stale) = ask(&Memory::default(), &[], Some(4)).await;
        assert!(!is_stale, "there is no row to leave out");
    }
}
