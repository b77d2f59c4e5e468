//! Reading a definition: each state's fields, strictly.

use std::collections::BTreeMap;

use serde_json::Value;

use super::machine::{Definition, DefinitionError, Kind, Next, State, Task};
use super::policy::{Catcher, Retrier};
use super::transitions;
use crate::document::{Node, Problems};
use crate::jsonata::Reads;
use crate::template::Template;

/// AWS's limit on the size of a definition: 1 MB.
const MAX_DEFINITION: usize = 1024 * 1024;
/// AWS's limit on the names of states, in characters.
const MAX_NAME: usize = 80;
/// AWS's bound on `TimeoutSeconds`.
const MAX_SECONDS: u64 = 99_999_999;

const NOTHING: Reads = Reads {
    result: false,
    error_output: false,
};
const RESULT: Reads = Reads {
    result: true,
    error_output: false,
};

impl Definition {
    /// Reads a definition.
    ///
    /// # Errors
    /// Everything that AWS would refuse, and everything that is not supported here, each with its JSON pointer.
    pub fn parse(definition: &Value) -> Result<Self, DefinitionError> {
        let problems = Problems::default();
        let root = Node::root(definition, &problems);
        let loaded = machine(&root);
        let problems = problems.into_vec();
        if problems.is_empty() {
            Ok(loaded)
        } else {
            Err(DefinitionError { problems })
        }
    }
}

fn machine(root: &Node<'_>) -> Definition {
    if root.value.to_string().len() > MAX_DEFINITION {
        root.complain("is larger than 1 MB, AWS's limit");
    }
    root.object();
    root.only(
        "a state machine",
        &["Comment", "QueryLanguage", "StartAt", "States"],
    );
    comment(root);
    match root.value.get("QueryLanguage").map(Value::as_str) {
        Some(Some("JSONata")) => {}
        _ => root.complain_at(
            "QueryLanguage",
            "must be \"JSONata\": JSONPath, which AWS assumes without it, is not supported here",
        ),
    }
    let mut states = BTreeMap::new();
    if let Some(list) = root.need("States") {
        for (name, node) in list.entries() {
            if name.is_empty() || name.chars().count() > MAX_NAME {
                node.complain("the name of a state has 1 to 80 characters");
            }
            if let Some(state) = state(&node) {
                states.insert(name.to_owned(), state);
            }
        }
    }
    let start_at = root
        .need("StartAt")
        .and_then(|start| start.string())
        .unwrap_or_default()
        .to_owned();
    let definition = Definition { start_at, states };
    transitions::check(root, &definition);
    definition
}

fn comment(node: &Node<'_>) {
    if let Some(comment) = node.get("Comment") {
        comment.string();
    }
}

fn state(node: &Node<'_>) -> Option<State> {
    node.object()?;
    comment(node);
    let kind_node = node.need("Type")?;
    let (kind, reads) = match kind_node.string()? {
        "Task" => {
            only(
                node,
                "a Task state",
                &[
                    "Resource",
                    "Arguments",
                    "TimeoutSeconds",
                    "Retry",
                    "Catch",
                    "Next",
                    "End",
                    "Output",
                ],
            );
            (Kind::Task(task(node)), RESULT)
        }
        "Succeed" => {
            only(node, "a Succeed state", &["Output"]);
            (Kind::Succeed, NOTHING)
        }
        "Fail" => {
            only(node, "a Fail state", &["Error", "Cause"]);
            (fail(node), NOTHING)
        }
        kind @ ("Choice" | "Map" | "Parallel" | "Pass" | "Wait") => {
            kind_node.complain(format!("{kind} states are not supported here"));
            return None;
        }
        other => {
            kind_node.complain(format!("{other:?} is not a type of state"));
            return None;
        }
    };
    let output = node
        .get("Output")
        .filter(|_| !matches!(kind, Kind::Fail { .. }))
        .map(|output| Template::read(&output, reads));
    Some(State { kind, output })
}

fn only(node: &Node<'_>, of: &str, fields: &[&str]) {
    let known: Vec<&str> = fields.iter().copied().chain(["Type", "Comment"]).collect();
    node.only(of, &known);
}

fn task(node: &Node<'_>) -> Task {
    let by_token = match node.need("Resource").and_then(|resource| resource.string()) {
        Some("arn:aws:states:::lambda:invoke.waitForTaskToken") => true,
        Some("arn:aws:states:::lambda:invoke") | None => false,
        Some(_) => {
            node.complain_at(
                "Resource",
                "only arn:aws:states:::lambda:invoke and arn:aws:states:::lambda:invoke.waitForTaskToken are supported here",
            );
            false
        }
    };
    Task {
        by_token,
        arguments: arguments(node),
        timeout_seconds: node
            .get("TimeoutSeconds")
            .and_then(|limit| limit.integer(1, MAX_SECONDS)),
        retry: Retrier::read_all(node),
        catch: Catcher::read_all(node),
        next: next(node),
    }
}

/// `Arguments` of `lambda:invoke`: `FunctionName` and `Payload`.
fn arguments(node: &Node<'_>) -> Template {
    let Some(arguments) = node.need("Arguments") else {
        return Template::Literal(Value::Null);
    };
    if arguments.value.is_object() {
        arguments.only(
            "the Arguments of lambda:invoke",
            &["FunctionName", "Payload"],
        );
        if let Some(function) = arguments.need("FunctionName")
            && function.string().is_some_and(str::is_empty)
        {
            function.complain("must not be empty");
        }
    } else {
        arguments.complain("must be an object with FunctionName and Payload");
    }
    Template::read(&arguments, NOTHING)
}

/// A Fail state. Its error is a fixed text: AWS reserves names that begin with `States.`, and what a computed one
/// begins with is known only when it is too late.
fn fail(node: &Node<'_>) -> Kind {
    let error = node.get("Error").and_then(|error| {
        let name = error.string()?;
        if name.contains("{%") || name.contains("%}") {
            error.complain(
                "must be a fixed text: a computed error name could begin with `States.`, which AWS reserves; \
                 put what is computed into Cause",
            );
        } else if name.starts_with("States.") {
            error.complain("must not begin with `States.`, which AWS reserves");
        }
        Some(name.to_owned())
    });
    let cause = node.get("Cause").and_then(|cause| {
        cause.string()?;
        Some(Template::read(&cause, NOTHING))
    });
    Kind::Fail { error, cause }
}

fn next(node: &Node<'_>) -> Next {
    let next = node.get("Next").and_then(|next| next.string());
    match (next, node.get("End").map(|end| (end.value.as_bool(), end))) {
        (Some(_), Some((_, end))) => {
            end.complain("Next and End exclude each other");
            Next::End
        }
        (Some(name), None) => Next::State(name.to_owned()),
        (None, Some((Some(true), _))) => Next::End,
        (None, Some((_, end))) => {
            end.complain("must be true, or not there at all");
            Next::End
        }
        (None, None) => {
            if node.get("Next").is_none() {
                node.complain("needs Next or End");
            }
            Next::End
        }
    }
}
