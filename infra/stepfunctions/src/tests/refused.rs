//! Definitions that are refused, each with the path of what is wrong.

use serde_json::{Value, json};

use super::{states, work};
use crate::Definition;

/// Every problem as `path: message`.
fn problems(definition: &Value) -> Vec<String> {
    match Definition::parse(definition) {
        Ok(_) => Vec::new(),
        Err(error) => error.problems.iter().map(ToString::to_string).collect(),
    }
}

fn pass(fields: Value) -> Value {
    let mut state = json!({ "Type": "Pass", "End": true });
    state
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    states(json!({ "A": state }))
}

fn output(expression: &str) -> Value {
    pass(json!({ "Output": { "x": [expression] } }))
}

fn choice(rule: Value) -> Value {
    states(json!({ "A": { "Type": "Choice", "Choices": [rule] }, "B": { "Type": "Succeed" } }))
}

fn retry(entries: Value) -> Value {
    work("invoke", json!({ "Retry": entries }))
}

#[test]
fn what_is_wrong_is_named_by_its_path() {
    let named = |name: &str| json!({ "QueryLanguage": "JSONata", "StartAt": name, "States": { name: { "Type": "Succeed" } } });
    let table: &[(Value, &str, &str)] = &[
        (json!([]), "/", "must be an object"),
        (
            json!({ "StartAt": "A", "States": { "A": { "Type": "Succeed" } } }),
            "/QueryLanguage",
            "JSONPath",
        ),
        (
            json!({ "QueryLanguage": "JSONata", "States": { "A": { "Type": "Succeed" } } }),
            "/",
            "StartAt is missing",
        ),
        (
            json!({ "QueryLanguage": "JSONata", "StartAt": "A" }),
            "/",
            "States is missing",
        ),
        (
            json!({ "QueryLanguage": "JSONata", "StartAt": "B", "States": { "A": { "Type": "Succeed" } } }),
            "/StartAt",
            "no state \"B\"",
        ),
        (
            json!({ "QueryLanguage": "JSONata", "StartAt": "A", "States": { "A": { "Type": "Succeed" } }, "Version": "1.0" }),
            "/Version",
            "not a supported field",
        ),
        (
            json!({ "QueryLanguage": "JSONata", "StartAt": "A", "States": { "A": { "Type": "Succeed" } }, "TimeoutSeconds": 0 }),
            "/TimeoutSeconds",
            "whole number",
        ),
        (
            json!({ "QueryLanguage": "JSONata", "StartAt": "A", "States": { "A": { "Type": "Succeed" } }, "Comment": 1 }),
            "/Comment",
            "string",
        ),
        (
            named(&"x".repeat(81)),
            &format!("/States/{}", "x".repeat(81)),
            "1 to 80 characters",
        ),
        (
            json!({ "QueryLanguage": "JSONata", "StartAt": "A", "Comment": "x".repeat(1_100_000), "States": { "A": { "Type": "Succeed" } } }),
            "/",
            "1 MB",
        ),
        // States.
        (
            states(json!({ "A": { "Type": "Map", "End": true } })),
            "/States/A/Type",
            "not supported here",
        ),
        (
            states(json!({ "A": { "Type": "Parallel", "End": true } })),
            "/States/A/Type",
            "not supported here",
        ),
        (
            states(json!({ "A": { "Type": "Goto" } })),
            "/States/A/Type",
            "no type of state",
        ),
        (states(json!({ "A": {} })), "/States/A", "Type is missing"),
        (
            states(json!({ "A": { "Type": "Pass" } })),
            "/States/A",
            "needs Next or End",
        ),
        (
            states(json!({ "A": { "Type": "Pass", "Next": "A", "End": true } })),
            "/States/A/End",
            "exclude",
        ),
        (
            states(json!({ "A": { "Type": "Pass", "End": false } })),
            "/States/A/End",
            "must be true",
        ),
        (
            states(json!({ "A": { "Type": "Pass", "Next": "B" } })),
            "/States/A/Next",
            "no state \"B\"",
        ),
        (
            states(json!({ "A": { "Type": "Pass", "Next": "A" } })),
            "/States",
            "no state ends the machine",
        ),
        (
            states(json!({ "A": { "Type": "Succeed" }, "B/C": { "Type": "Succeed" } })),
            "/States/B~1C",
            "no way leads here",
        ),
        (
            states(json!({ "A": { "Type": "Succeed", "Assign": { "x": 1 } } })),
            "/States/A/Assign",
            "not a supported field",
        ),
        (
            states(json!({ "A": { "Type": "Fail", "Output": 1 } })),
            "/States/A/Output",
            "not a supported field",
        ),
        (
            states(json!({ "A": { "Type": "Fail", "Error": 1 } })),
            "/States/A/Error",
            "string",
        ),
        (
            states(json!({ "A": { "Type": "Wait", "End": true } })),
            "/States/A",
            "Seconds or Timestamp",
        ),
        (
            states(json!({ "A": { "Type": "Wait", "Seconds": -1, "End": true } })),
            "/States/A/Seconds",
            "whole number",
        ),
        (
            states(json!({ "A": { "Type": "Wait", "Seconds": "60", "End": true } })),
            "/States/A/Seconds",
            "expression",
        ),
        (
            states(json!({ "A": { "Type": "Wait", "Timestamp": "soon", "End": true } })),
            "/States/A/Timestamp",
            "RFC 3339",
        ),
        (
            states(
                json!({ "A": { "Type": "Wait", "Seconds": 1, "Timestamp": "2030-01-01T00:00:00Z", "End": true } }),
            ),
            "/States/A/Timestamp",
            "exclude",
        ),
        // JSONPath.
        (
            pass(json!({ "Parameters": {} })),
            "/States/A/Parameters",
            "JSONPath",
        ),
        (
            pass(json!({ "ResultPath": "$.x" })),
            "/States/A/ResultPath",
            "JSONPath",
        ),
        (
            pass(json!({ "InputPath": "$" })),
            "/States/A/InputPath",
            "JSONPath",
        ),
        (
            pass(json!({ "QueryLanguage": "JSONPath" })),
            "/States/A/QueryLanguage",
            "top level",
        ),
        (
            pass(json!({ "Outptu": 1 })),
            "/States/A/Outptu",
            "not a supported field",
        ),
        // Choices.
        (
            states(json!({ "A": { "Type": "Choice", "Choices": [] } })),
            "/States/A/Choices",
            "at least one",
        ),
        (
            states(json!({ "A": { "Type": "Choice" } })),
            "/States/A",
            "Choices is missing",
        ),
        (
            states(
                json!({ "A": { "Type": "Choice", "Choices": [{ "Condition": true, "Next": "A" }], "Next": "A" } }),
            ),
            "/States/A/Next",
            "not a supported field",
        ),
        (
            choice(json!({ "Next": "B" })),
            "/States/A/Choices/0",
            "Condition is missing",
        ),
        (
            choice(json!({ "Condition": "{% true %}" })),
            "/States/A/Choices/0",
            "Next is missing",
        ),
        (
            choice(json!({ "Condition": "yes", "Next": "B" })),
            "/States/A/Choices/0/Condition",
            "boolean or an expression",
        ),
        (
            choice(json!({ "Condition": "{% true %}", "Next": "C" })),
            "/States/A/Choices/0/Next",
            "no state \"C\"",
        ),
        (
            choice(json!({ "Variable": "$.x", "Condition": "{% true %}", "Next": "B" })),
            "/States/A/Choices/0/Variable",
            "JSONPath",
        ),
        // Tasks.
        (
            work(
                "invoke",
                json!({ "Resource": "arn:aws:lambda:eu-central-1:123456789012:function:f" }),
            ),
            "/States/Work/Resource",
            "lambda:invoke",
        ),
        (
            work("invoke", json!({ "Arguments": {} })),
            "/States/Work/Arguments",
            "FunctionName is missing",
        ),
        (
            work(
                "invoke",
                json!({ "Arguments": { "FunctionName": "f", "Qualifier": "1" } }),
            ),
            "/States/Work/Arguments/Qualifier",
            "not a supported field",
        ),
        (
            work("invoke", json!({ "Arguments": "{% $states.input %}" })),
            "/States/Work/Arguments",
            "object",
        ),
        (
            work(
                "invoke",
                json!({ "TimeoutSeconds": 10, "HeartbeatSeconds": 10 }),
            ),
            "/States/Work/HeartbeatSeconds",
            "less than TimeoutSeconds",
        ),
        (
            work(
                "invoke",
                json!({ "Catch": [{ "ErrorEquals": ["States.ALL"] }] }),
            ),
            "/States/Work/Catch/0",
            "Next is missing",
        ),
        (
            work(
                "invoke",
                json!({ "Catch": [{ "ErrorEquals": ["E"], "Next": "X" }] }),
            ),
            "/States/Work/Catch/0/Next",
            "no state \"X\"",
        ),
        (
            work(
                "invoke",
                json!({ "Catch": [{ "ErrorEquals": ["E"], "Next": "Work", "ResultPath": "$" }] }),
            ),
            "/States/Work/Catch/0/ResultPath",
            "JSONPath",
        ),
        (
            retry(json!([{ "MaxAttempts": 1 }])),
            "/States/Work/Retry/0",
            "ErrorEquals is missing",
        ),
        (
            retry(json!([{ "ErrorEquals": [] }])),
            "/States/Work/Retry/0/ErrorEquals",
            "at least one",
        ),
        (
            retry(json!([{ "ErrorEquals": ["States.ALL"] }, { "ErrorEquals": ["E"] }])),
            "/States/Work/Retry/0/ErrorEquals/0",
            "last entry",
        ),
        (
            retry(json!([{ "ErrorEquals": ["E", "States.ALL"] }])),
            "/States/Work/Retry/0/ErrorEquals/1",
            "alone",
        ),
        (
            retry(json!([{ "ErrorEquals": ["States.Runtime"] }])),
            "/States/Work/Retry/0/ErrorEquals/0",
            "terminal",
        ),
        (
            retry(json!([{ "ErrorEquals": ["E"], "IntervalSeconds": 0 }])),
            "/States/Work/Retry/0/IntervalSeconds",
            "whole number",
        ),
        (
            retry(json!([{ "ErrorEquals": ["E"], "BackoffRate": 0.5 }])),
            "/States/Work/Retry/0/BackoffRate",
            "1.0",
        ),
        (
            retry(json!([{ "ErrorEquals": ["E"], "IntervalSeconds": 5, "MaxDelaySeconds": 5 }])),
            "/States/Work/Retry/0/MaxDelaySeconds",
            "more than IntervalSeconds",
        ),
        (
            retry(json!([{ "ErrorEquals": ["E"], "JitterStrategy": "SOME" }])),
            "/States/Work/Retry/0/JitterStrategy",
            "FULL",
        ),
        // Variables.
        (
            pass(json!({ "Assign": { "states": 1 } })),
            "/States/A/Assign/states",
            "reserved",
        ),
        (
            pass(json!({ "Assign": { "1st": 1 } })),
            "/States/A/Assign/1st",
            "letter",
        ),
        (
            pass(json!({ "Assign": "{% {} %}" })),
            "/States/A/Assign",
            "object",
        ),
        // Expressions.
        (
            output("{% 1 + %}"),
            "/States/A/Output/x/0",
            "is not JSONata",
        ),
        (
            output("{% $states.input"),
            "/States/A/Output/x/0",
            "whole string",
        ),
        (
            output("$states.input %}"),
            "/States/A/Output/x/0",
            "whole string",
        ),
        (
            output("run {% $states.input %}"),
            "/States/A/Output/x/0",
            "whole string",
        ),
        (
            output("a {% $x %} b"),
            "/States/A/Output/x/0",
            "does not interpolate",
        ),
        (output("{%}"), "/States/A/Output/x/0", "overlap"),
        (output("{% $eval('1') %}"), "/States/A/Output/x/0", "$eval"),
        (
            output("{% '1' ~> $eval %}"),
            "/States/A/Output/x/0",
            "$eval",
        ),
        (
            output("{% $states.input.[$eval(x)] %}"),
            "/States/A/Output/x/0",
            "$eval",
        ),
        (output("{% $x ?: 1 %}"), "/States/A/Output/x/0", "`?:`"),
        (output("{% $x ?? 1 %}"), "/States/A/Output/x/0", "`??`"),
        (
            output("{% $states.input.(a ?? b) %}"),
            "/States/A/Output/x/0",
            "`??`",
        ),
        (
            output("{% run %}"),
            "/States/A/Output/x/0",
            "$states.input.run",
        ),
        (output("{% $ %}"), "/States/A/Output/x/0", "reads `$`"),
        (output("{% $$.run %}"), "/States/A/Output/x/0", "reads `$$`"),
        (
            output("{% $nosuch(1) %}"),
            "/States/A/Output/x/0",
            "JSONata 2.0.6 does not have",
        ),
        (
            output("{% string(1) %}"),
            "/States/A/Output/x/0",
            "write `$string`",
        ),
        (
            output("{% $uuid() %}"),
            "/States/A/Output/x/0",
            "not supported here",
        ),
        (
            output("{% $states.result %}"),
            "/States/A/Output/x/0",
            "only once a task has succeeded",
        ),
        (
            output("{% $states.errorOutput.Error %}"),
            "/States/A/Output/x/0",
            "only in a catcher",
        ),
        (
            output("{% $states.inputs %}"),
            "/States/A/Output/x/0",
            "does not exist",
        ),
        (
            work(
                "invoke",
                json!({ "Arguments": { "FunctionName": "f", "Payload": "{% $states.result %}" } }),
            ),
            "/States/Work/Arguments/Payload",
            "only once",
        ),
    ];
    for (definition, path, message) in table {
        let found = problems(definition);
        let expected = |problem: &String| {
            problem
                .strip_prefix(path)
                .and_then(|rest| rest.strip_prefix(": "))
                .is_some_and(|rest| rest.contains(message))
        };
        assert!(
            found.iter().any(expected),
            "wanted {path}: …{message}…\ngot {found:#?}"
        );
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let definition = states(json!({
        "A": { "Type": "Pass", "Next": "Nowhere", "Output": "{% $eval('1') ?? $$ %}" },
        "B": { "Type": "Map" },
    }));
    let found = problems(&definition);
    assert_eq!(found.len(), 5, "{found:#?}");
}

#[test]
fn what_aws_takes_is_taken() {
    let definition = states(json!({
        "A": { "Type": "Pass", "Next": "B", "Assign": { "größe": "{% $map([1, 2], function($v) { $v * 2 }) %}" },
               "Output": "{% ($double := function($n) { $n * 2 }; $states.input.items.{ 'n': $double(price) }) %}" },
        "B": { "Type": "Choice", "Default": "C", "Choices": [
            { "Condition": true, "Next": "C" },
            { "Condition": "{% $exists($states.input.x) and $count($states.input.items[price > 1]) = 1 %}", "Next": "C", "Comment": "some" },
        ] },
        "C": { "Type": "Wait", "Seconds": "{% $states.input.seconds %}", "Next": "D" },
        "D": { "Type": "Fail", "Error": "{% $states.input.error %}", "Cause": "100 % sure" },
    }));
    assert_eq!(problems(&definition), Vec::<String>::new());
}
