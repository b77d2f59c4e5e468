//! Reading a definition: each state's fields, strictly.

use std::collections::BTreeMap;

use serde_json::Value;

use super::node::{Node, Problems};
use super::{
    Catcher, Condition, Definition, DefinitionError, Kind, Next, Retrier, Rule, State, Task, Until,
    transitions,
};
use crate::jsonata::Reads;
use crate::template::Template;
use crate::time;

/// AWS's limit on the size of a definition: 1 MB.
const MAX_DEFINITION: usize = 1024 * 1024;
/// AWS's limit on the names of states and variables, in characters.
const MAX_NAME: usize = 80;
/// AWS's bound on `TimeoutSeconds` and its like.
const MAX_SECONDS: u64 = 99_999_999;

const NOTHING: Reads = Reads {
    result: false,
    error_output: false,
};
const RESULT: Reads = Reads {
    result: true,
    error_output: false,
};

pub(super) fn load(definition: &Value) -> Result<Definition, DefinitionError> {
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

fn machine(root: &Node<'_>) -> Definition {
    if definition_size(root.value) > MAX_DEFINITION {
        root.complain("is larger than 1 MB, AWS's limit");
    }
    root.object();
    root.only(
        "a state machine",
        &[
            "Comment",
            "QueryLanguage",
            "StartAt",
            "States",
            "TimeoutSeconds",
        ],
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
    let timeout_seconds = root
        .get("TimeoutSeconds")
        .and_then(|limit| limit.integer(1, MAX_SECONDS));
    let definition = Definition {
        start_at,
        timeout_seconds,
        states,
    };
    transitions::check(root, &definition);
    definition
}

fn definition_size(definition: &Value) -> usize {
    definition.to_string().len()
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
    let kind = kind_node.string()?;
    let (fields, reads): (&[&str], Reads) = match kind {
        "Task" => (
            &[
                "Resource",
                "Arguments",
                "TimeoutSeconds",
                "HeartbeatSeconds",
                "Retry",
                "Catch",
                "Next",
                "End",
                "Assign",
                "Output",
            ],
            RESULT,
        ),
        "Choice" => (&["Choices", "Default", "Assign", "Output"], NOTHING),
        "Succeed" => (&["Output"], NOTHING),
        "Fail" => (&["Error", "Cause"], NOTHING),
        "Pass" => (&["Next", "End", "Assign", "Output"], NOTHING),
        "Wait" => (
            &["Seconds", "Timestamp", "Next", "End", "Assign", "Output"],
            NOTHING,
        ),
        "Map" | "Parallel" => {
            kind_node.complain(format!("{kind} states are not supported here"));
            return None;
        }
        other => {
            kind_node.complain(format!("{other:?} is no type of state"));
            return None;
        }
    };
    let known: Vec<&str> = fields.iter().copied().chain(["Type", "Comment"]).collect();
    node.only(&format!("a {kind} state"), &known);
    let assign = if fields.contains(&"Assign") {
        assign(node, reads)
    } else {
        None
    };
    let output = node
        .get("Output")
        .filter(|_| fields.contains(&"Output"))
        .map(|output| Template::read(&output, reads));
    let kind = match kind {
        "Task" => Kind::Task(task(node)),
        "Choice" => Kind::Choice {
            rules: node
                .need("Choices")
                .map(|list| list.items().iter().map(rule).collect())
                .unwrap_or_default(),
            default: node
                .get("Default")
                .and_then(|default| default.string())
                .map(str::to_owned),
        },
        "Succeed" => Kind::Succeed,
        "Fail" => Kind::Fail {
            error: text(node, "Error"),
            cause: text(node, "Cause"),
        },
        "Pass" => Kind::Pass { next: next(node) },
        _ => Kind::Wait {
            until: until(node),
            next: next(node),
        },
    };
    Some(State {
        kind,
        assign,
        output,
    })
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
    let timeout_seconds = seconds(node, "TimeoutSeconds", 1);
    let heartbeat_seconds = seconds(node, "HeartbeatSeconds", 1);
    let literal = |template: &Option<Template>| template.as_ref()?.literal()?.as_u64();
    if let (Some(timeout), Some(heartbeat)) =
        (literal(&timeout_seconds), literal(&heartbeat_seconds))
        && heartbeat >= timeout
    {
        node.complain_at("HeartbeatSeconds", "must be less than TimeoutSeconds");
    }
    Task {
        by_token,
        arguments: arguments(node),
        timeout_seconds,
        heartbeat_seconds,
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

fn rule(node: &Node<'_>) -> Rule {
    node.object();
    node.only(
        "a choice rule",
        &["Condition", "Next", "Assign", "Output", "Comment"],
    );
    let condition = node
        .need("Condition")
        .map_or(Condition::Literal(false), |condition| {
            match condition.value {
                Value::Bool(value) => Condition::Literal(*value),
                _ => match Template::read(&condition, NOTHING) {
                    Template::Expression(expression) => Condition::Expression(expression),
                    // What was wrong with an expression has been said.
                    Template::Literal(Value::Null) if condition.value.is_string() => {
                        Condition::Literal(false)
                    }
                    _ => {
                        condition.complain("must be a boolean or an expression: {% … %}");
                        Condition::Literal(false)
                    }
                },
            }
        });
    Rule {
        condition,
        next: node
            .need("Next")
            .and_then(|next| next.string())
            .unwrap_or_default()
            .to_owned(),
        assign: assign(node, NOTHING),
        output: node
            .get("Output")
            .map(|output| Template::read(&output, NOTHING)),
    }
}

/// `Assign`: an object of variables.
pub(super) fn assign(node: &Node<'_>, reads: Reads) -> Option<Template> {
    let assign = node.get("Assign")?;
    for (name, variable) in assign.entries() {
        let mut letters = name.chars();
        let starts = letters.next().is_some_and(char::is_alphabetic);
        if name == "states" {
            variable.complain("`states` is reserved by AWS");
        } else if !starts
            || !letters.all(|c| c.is_alphanumeric() || c == '_')
            || name.chars().count() > MAX_NAME
        {
            variable.complain("a variable's name begins with a letter, goes on with letters, digits and _, and has at most 80");
        }
    }
    Some(Template::read(&assign, reads))
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

/// Seconds, as a number or as an expression.
fn seconds(node: &Node<'_>, field: &str, least: u64) -> Option<Template> {
    let value = node.get(field)?;
    let template = Template::read(&value, NOTHING);
    if !value.value.is_string() {
        value.integer(least, MAX_SECONDS);
    } else if template.literal().is_some_and(|literal| !literal.is_null()) {
        value.complain("must be a whole number or an expression: {% … %}");
    }
    Some(template)
}

/// A text, as it stands or as an expression.
fn text(node: &Node<'_>, field: &str) -> Option<Template> {
    let value = node.get(field)?;
    value.string()?;
    Some(Template::read(&value, NOTHING))
}

fn until(node: &Node<'_>) -> Until {
    let nothing = || Until::Seconds(Template::Literal(Value::from(0)));
    match (seconds(node, "Seconds", 0), node.get("Timestamp")) {
        (Some(_), Some(timestamp)) => {
            timestamp.complain("Seconds and Timestamp exclude each other");
            nothing()
        }
        (Some(seconds), None) => Until::Seconds(seconds),
        (None, Some(timestamp)) => {
            let template = text(node, "Timestamp");
            let literal = template
                .as_ref()
                .and_then(Template::literal)
                .and_then(Value::as_str);
            if literal.is_some_and(|literal| time::parse(literal).is_none()) {
                timestamp.complain("must be an RFC 3339 time such as 2030-01-31T12:00:00Z");
            }
            template.map_or_else(nothing, Until::Timestamp)
        }
        (None, None) => {
            node.complain("needs Seconds or Timestamp");
            nothing()
        }
    }
}
