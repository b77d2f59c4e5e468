//! `GetExecutionHistory`.

use serde_json::{Map, Value, json};

use super::executions::find;
use super::refusal::Refusal;
use super::request::{Request, next_token};
use crate::drive::Driver;
use crate::interpreter::HistoryEvent;
use crate::store::Page;
use crate::time::epoch_seconds;

pub(super) fn get(driver: &Driver, request: &Request) -> Result<Value, Refusal> {
    let execution = find(driver, request)?;
    let page = request.page()?;
    let with_data = request.flag("includeExecutionData") != Some(false);
    let more = Page {
        limit: page.limit + 1,
        ..page
    };
    let mut events = driver.read(|store| store.events(execution.seq, more))?;
    let rest = events.len() as u64 > page.limit;
    events.truncate(page.limit as usize);
    let last = events.last().map(|event| event.id);
    let shown: Vec<Value> = events
        .into_iter()
        .map(|event| show(event, with_data))
        .collect();
    let mut answer = json!({ "events": shown });
    if let (true, Some(last), Some(members)) = (rest, last, answer.as_object_mut()) {
        members.insert("nextToken".to_owned(), Value::String(next_token(last)));
    }
    Ok(answer)
}

fn show(event: HistoryEvent, with_data: bool) -> Value {
    let mut members = Map::new();
    members.insert("id".to_owned(), json!(event.id));
    members.insert("previousEventId".to_owned(), json!(event.previous));
    members.insert("timestamp".to_owned(), json!(epoch_seconds(event.at_ms)));
    members.insert("type".to_owned(), json!(event.kind));
    if let Some((member, mut details)) = event.details {
        if let (false, Some(details)) = (with_data, details.as_object_mut()) {
            details.retain(|key, _| !matches!(key.as_str(), "input" | "output"));
        }
        members.insert(member, details);
    }
    Value::Object(members)
}
