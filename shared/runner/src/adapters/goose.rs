//! `goose run --output-format stream-json`.

use serde_json::{Value, json};
use towpath_jobs::EventKind;

use super::{Told, other, parts, word};

/// The events of a line.
pub(super) fn events(line: &Value) -> Vec<Told> {
    match word(line, "type") {
        "message" => parts(line, part),
        "error" => vec![(
            EventKind::StreamError,
            json!({ "message": line.get("error").cloned().unwrap_or_default() }),
        )],
        _ => vec![other(line)],
    }
}

fn part(part: &Value) -> Told {
    let at = |pointer: &str| part.pointer(pointer).cloned().unwrap_or_default();
    match word(part, "type") {
        "text" => (EventKind::AssistantText, json!({ "text": at("/text") })),
        "toolRequest" => (
            EventKind::ToolRequest,
            json!({
                "id": at("/id"),
                "name": at("/toolCall/value/name"),
                "input": at("/toolCall/value/arguments"),
            }),
        ),
        "toolResponse" => (
            EventKind::ToolResponse,
            json!({
                "id": at("/id"),
                "content": at("/toolResult/value"),
                "isError": part.pointer("/toolResult/status") != Some(&Value::from("success")),
            }),
        ),
        _ => other(part),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_a_message_is_an_event() {
        let call = json!({"status": "success", "value": {"name": "shell", "arguments": {"command": "ls"}}});
        let result = json!({"status": "error", "value": "no"});
        let line = json!({"type": "message", "message": {"role": "assistant", "content": [
            {"type": "text", "text": "I look."},
            {"type": "toolRequest", "id": "t1", "toolCall": call},
            {"type": "toolResponse", "id": "t1", "toolResult": result},
        ]}});
        assert_eq!(
            events(&line),
            [
                (EventKind::AssistantText, json!({"text": "I look."})),
                (
                    EventKind::ToolRequest,
                    json!({"id": "t1", "name": "shell", "input": {"command": "ls"}})
                ),
                (
                    EventKind::ToolResponse,
                    json!({"id": "t1", "content": "no", "isError": true})
                ),
            ]
        );
        let error = json!({"type": "error", "error": "it broke"});
        assert_eq!(
            events(&error),
            [(EventKind::StreamError, json!({"message": "it broke"}))]
        );
        let done = json!({"type": "complete", "total_tokens": 7});
        assert_eq!(events(&done), [other(&done)]);
    }
}
