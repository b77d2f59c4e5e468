//! What a model is told: the messages of a call, made of the work contract.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use towpath_engine::{Decision, Model};
use towpath_jobs::{Findings, InputFile, Objective, OutputLink, RequestedChanges};

/// The system message of a step that has none.
const SYSTEM: &str = "You do one step of a pipeline. Your whole answer is kept as the result of the step and handed to \
    the steps after it, so answer with the result itself, in plain text or Markdown, without an introduction. You have \
    no tools and cannot ask back: where something is missing, say what you assumed.";

/// A request of the chat completions API.
#[derive(Debug, Serialize)]
pub(crate) struct ChatRequest<'a> {
    model: &'a str,
    messages: [Message<'a>; 2],
    stream: bool,
    stream_options: StreamOptions,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
}

#[derive(Debug, Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

#[derive(Debug, Serialize)]
struct StreamOptions {
    include_usage: bool,
}

impl<'a> ChatRequest<'a> {
    pub(crate) fn new(model: &'a Model, user: &'a str) -> Self {
        let message = |role, content| Message { role, content };
        let system = model.system.as_deref().unwrap_or(SYSTEM);
        Self {
            model: &model.model,
            messages: [message("system", system), message("user", user)],
            stream: true,
            stream_options: StreamOptions {
                include_usage: true,
            },
            temperature: model.temperature,
            max_tokens: model.max_tokens,
        }
    }
}

/// The part of the work contract that a model is told.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Told {
    objective: Option<Objective>,
    decisions: Vec<Decision>,
    revision: Option<RequestedChanges>,
    findings: Option<Findings>,
    outputs: Vec<OutputLink>,
}

impl Told {
    /// The user's message: the task of the step, and all that the contract says, with its texts. Empty if there is nothing to
    /// say.
    pub(crate) fn message(&self, prompt: Option<&str>, inputs: &[InputFile]) -> String {
        let text = |file: &Option<String>| {
            let name = file.as_ref()?;
            let found = inputs.iter().find(|input| input.name == *name);
            found.map(|input| input.text.as_str())
        };
        let mut message = Sections::default();
        message.add(None, prompt.unwrap_or_default());
        if let Some(objective) = &self.objective {
            let title = match objective.title.trim() {
                "" => &objective.block,
                title => title,
            };
            message.heading(&format!("Objective: {title}"));
            message.add(None, &objective.description);
        }
        for decision in &self.decisions {
            if let Some(chosen) = &decision.chosen {
                message.add(
                    Some("A question that was decided"),
                    &format!("Question: {}\nDecision: {chosen}", decision.question),
                );
            }
        }
        for output in &self.outputs {
            let heading = format!("Result of step {}, {}", output.step, output.agent_kind);
            if let Some(text) = text(&output.file) {
                message.add(Some(&heading), text);
            }
        }
        if let Some(findings) = &self.findings {
            let mut words = findings.summary.clone().unwrap_or_default();
            if !findings.failing.is_empty() {
                // Writing to a text cannot fail.
                let _ = write!(words, "\nFailed: {}", findings.failing.join(", "));
            }
            message.add(Some("Findings to be fixed"), &words);
            message.add(None, text(&findings.file).unwrap_or_default());
        }
        if let Some(revision) = &self.revision {
            message.add(
                Some("Your previous result"),
                text(&revision.file).unwrap_or_default(),
            );
            message.add(Some("Changes asked for in it"), &changes(revision));
        }
        message.0
    }
}

fn changes(revision: &RequestedChanges) -> String {
    let mut all: Vec<String> = revision.feedback.clone().into_iter().collect();
    all.extend(
        revision
            .comments
            .iter()
            .map(|comment| match &comment.quoted_source {
                Some(quoted) => format!("On \"{quoted}\": {}", comment.body),
                None => comment.body.clone(),
            }),
    );
    all.join("\n")
}

/// Texts one below the other, with headings.
#[derive(Default)]
struct Sections(String);

impl Sections {
    fn heading(&mut self, heading: &str) {
        self.apart();
        self.0.push_str("# ");
        self.0.push_str(heading);
    }

    /// Adds a text, unless it is empty, with its heading.
    fn add(&mut self, heading: Option<&str>, text: &str) {
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        if let Some(heading) = heading {
            self.heading(heading);
        }
        self.apart();
        self.0.push_str(text);
    }

    fn apart(&mut self) {
        if !self.0.is_empty() {
            self.0.push_str("\n\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(contract: serde_json::Value) -> Told {
        serde_json::from_value(contract).unwrap()
    }

    #[test]
    fn everything_the_contract_says_is_in_the_message_in_plain_text() {
        let contract = json!({
            "job": "job_1", "branch": "towpath/login",
            "objective": {"block": "login", "title": "Fix the log-in", "description": "It fails."},
            "decisions": [
                {"id": "d1", "question": "Which?", "options": ["a", "b"], "chosen": "a"},
                {"id": "d2", "question": "Open?", "options": []},
            ],
            "outputs": [
                {"step": 0, "agentKind": "planner", "href": "/0", "file": "output-0.txt"},
                {"step": 1, "agentKind": "coder", "href": "/1"},
            ],
            "findings": {"summary": "2 tests failed", "failing": ["a", "b"], "file": "findings.txt"},
            "revision": {"previous": "/p", "file": "previous.txt", "feedback": "Shorter.", "comments": [
                {"quotedSource": "the cat", "body": "a dog"}, {"body": "no rhymes"},
            ]},
        });
        let file = |name: &str, text: &str| InputFile {
            name: name.to_owned(),
            text: text.to_owned(),
        };
        let inputs = [
            file("output-0.txt", "The plan.\n"),
            file("findings.txt", "red\n"),
            file("previous.txt", "A long draft."),
        ];
        let message = told(contract).message(Some("Write a summary."), &inputs);
        let expected = "Write a summary.\n\n# Objective: Fix the log-in\n\nIt fails.\n\n\
            # A question that was decided\n\nQuestion: Which?\nDecision: a\n\n\
            # Result of step 0, planner\n\nThe plan.\n\n\
            # Findings to be fixed\n\n2 tests failed\nFailed: a, b\n\nred\n\n\
            # Your previous result\n\nA long draft.\n\n\
            # Changes asked for in it\n\nShorter.\nOn \"the cat\": a dog\nno rhymes";
        assert_eq!(message, expected);
    }

    #[test]
    fn what_is_not_there_leaves_no_heading() {
        assert_eq!(Told::default().message(None, &[]), "");
        assert_eq!(
            Told::default().message(Some(" Say hello. "), &[]),
            "Say hello."
        );
        let untitled = json!({"objective": {"block": "login", "title": "", "description": ""},
            "revision": {"previous": "/p", "feedback": null, "comments": []},
            "findings": {"summary": null, "failing": []}});
        assert_eq!(told(untitled).message(None, &[]), "# Objective: login");
    }

    #[test]
    fn a_request_asks_for_a_stream_with_its_usage_and_says_only_what_the_step_says() {
        let model = Model {
            model: "large".to_owned(),
            ..Model::default()
        };
        let request = serde_json::to_value(ChatRequest::new(&model, "Hello")).unwrap();
        assert_eq!(
            request,
            json!({"model": "large", "stream": true, "stream_options": {"include_usage": true},
                "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "Hello"}]})
        );
        let model = Model {
            system: Some("Be brief.".to_owned()),
            temperature: Some(0.5),
            max_tokens: Some(100),
            ..model
        };
        let request = serde_json::to_value(ChatRequest::new(&model, "Hello")).unwrap();
        assert_eq!(request["messages"][0]["content"], "Be brief.");
        assert_eq!(
            (&request["temperature"], &request["max_tokens"]),
            (&json!(0.5), &json!(100))
        );
    }
}
