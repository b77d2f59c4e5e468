//! `claude --print --verbose --output-format stream-json`.

use serde_json::{Value, json};
use towpath_jobs::EventKind;

use super::{Told, other, parts, word};

/// The events of a line.
pub(super) fn events(line: &Value) -> Vec<Told> {
    match word(line, "type") {
        "assistant" | "user" => parts(line, part),
        // The beginning of the session, its end with what it cost, and whatever comes new.
        _ => vec![other(line)],
    }
}

fn part(part: &Value) -> Told {
    let member = |name: &str| part.get(name).cloned().unwrap_or_default();
    match word(part, "type") {
        "text" => (EventKind::AssistantText, json!({ "text": member("text") })),
        "tool_use" => (
            EventKind::ToolRequest,
            json!({ "id": member("id"), "name": member("name"), "input": member("input") }),
        ),
        "tool_result" => (
            EventKind::ToolResponse,
            json!({
                "id": member("tool_use_id"),
                "content": member("content"),
                "isError": part.get("is_error") == Some(&Value::Bool(true)),
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
        let line = json!({"type": "assistant", "message": {"content": [
            {"type": "thinking", "thinking": "hm"},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}},
        ]}});
        assert_eq!(
            events(&line),
            [
                (
                    EventKind::Notification,
                    json!({"event": {"type": "thinking", "thinking": "hm"}})
                ),
                (EventKind::AssistantText, json!({"text": "I look."})),
                (
                    EventKind::ToolRequest,
                    json!({"id": "t1", "name": "Bash", "input": {"command": "ls"}})
                ),
            ]
        );
        let answer = json!({"type": "user", "message": {"content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": "a\nb", "is_error": true},
        ]}});
        let told = json!({"id": "t1", "content": "a\nb", "isError": true});
        assert_eq!(events(&answer), [(EventKind::ToolResponse, told)]);
        for line in [
            json!({"type": "system", "subtype": "init", "model": "m"}),
            json!({"type": "result", "total_cost_usd": 0.1}),
            json!({"type": "assistant", "message": "odd"}),
            json!({"type": "assistant", "message": {"content": []}}),
            json!({}),
        ] {
            assert_eq!(events(&line), [other(&line)]);
        }
    }
}
