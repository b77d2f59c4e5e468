//! Adapters: events of what an agent's command line prints, one file for each form. What fits no kind is a notification, so
//! that nothing is lost.

mod claude;
mod goose;

use serde_json::{Value, json};
use towpath_engine::EventFormat;
use towpath_jobs::EventKind;

/// An event, without its number and time.
pub(crate) type Told = (EventKind, Value);

/// The longest line that an event is made of, in bytes. A longer one is told in pieces, as it was printed.
const LINE: usize = 128 * 1024;

/// Reads what is printed, line by line.
pub(crate) struct Lines {
    events: fn(&Value) -> Vec<Told>,
    /// The beginning of a line whose end has not been printed.
    begun: String,
}

impl Lines {
    pub(crate) fn new(format: EventFormat) -> Self {
        Self {
            events: match format {
                EventFormat::ClaudeStreamJson => claude::events,
                EventFormat::Goose => goose::events,
            },
            begun: String::new(),
        }
    }

    /// The beginning of a line whose end has not been printed.
    pub(crate) fn begun(&self) -> &str {
        &self.begun
    }

    /// The same, in the middle of a line.
    pub(crate) fn after(self, begun: String) -> Self {
        Self { begun, ..self }
    }

    /// The events of a text that was printed.
    pub(crate) fn read(&mut self, text: &str) -> Vec<Told> {
        let mut told = Vec::new();
        for piece in text.split_inclusive('\n') {
            self.begun.push_str(piece);
            if piece.ends_with('\n') || self.begun.len() > LINE {
                told.extend(self.rest());
            }
        }
        told
    }

    /// The events of what is left at the end.
    pub(crate) fn rest(&mut self) -> Vec<Told> {
        let line = std::mem::take(&mut self.begun);
        if line.trim().is_empty() {
            return Vec::new();
        }
        let object = serde_json::from_str::<Value>(&line).ok();
        match object.filter(|value| value.is_object() && line.len() <= LINE) {
            Some(object) => (self.events)(&object),
            // A warning among the events, or half of a line.
            None => vec![(
                EventKind::Notification,
                json!({ "stream": "stdout", "text": line }),
            )],
        }
    }
}

/// The word at a name of an object.
fn word<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// An event of each part of a line's message; the line as it is, if it has none.
fn parts(line: &Value, part: fn(&Value) -> Told) -> Vec<Told> {
    match line.pointer("/message/content").and_then(Value::as_array) {
        Some(content) if !content.is_empty() => content.iter().map(part).collect(),
        _ => vec![other(line)],
    }
}

/// Anything else, as it is.
fn other(value: &Value) -> Told {
    (EventKind::Notification, json!({ "event": value }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_when_it_is_whole_and_what_is_none_of_the_form_is_kept() {
        let mut lines = Lines::new(EventFormat::Goose);
        let message = r#"{"type":"message","message":{"role":"assistant","content":[{"type":"text","text":"hi"}]}}"#;
        let (head, tail) = message.split_at(40);
        assert_eq!(lines.read(&format!("warning\n{head}")).len(), 1);
        let told = lines.read(&format!("{tail}\n\n[1]\n"));
        assert_eq!(told[0], (EventKind::AssistantText, json!({ "text": "hi" })));
        assert_eq!(told[1].1["text"], "[1]\n");
        assert!(lines.read("half").is_empty());
        assert_eq!(lines.rest()[0].1["text"], "half");
        assert!(lines.rest().is_empty());
        let long = "x".repeat(LINE + 1);
        let told = lines.read(&long);
        assert_eq!(told[0].1["text"].as_str().map(str::len), Some(LINE + 1));
    }
}
