//! Definitions that are refused, each with the path of what is wrong.

use serde_json::{Value, json};

use super::{states, work};
use crate::Definition;

/// A definition, the path of a problem and a part of its message.
type Case<'a> = (Value, &'a str, &'a str);

/// Every problem as `path: message`.
fn problems(definition: &Value) -> Vec<String> {
    match Definition::parse(definition) {
        Ok(_) => Vec::new(),
        Err(error) => error.problems.iter().map(ToString::to_string).collect(),
    }
}

fn check(cases: &[Case<'_>]) {
    for (definition, path, message) in cases {
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

/// A whole machine with these fields besides one state, `A`.
fn machine(fields: Value) -> Value {
    let mut machine = json!({ "States": { "A": { "Type": "Succeed" } } });
    let fields = fields.as_object().unwrap().clone();
    machine.as_object_mut().unwrap().extend(fields);
    machine
}

fn one(state: Value) -> Value {
    states(json!({ "A": state }))
}

fn task(fields: Value) -> Value {
    work("invoke", fields)
}

fn retry(entry: Value) -> Value {
    task(json!({ "Retry": [entry] }))
}

fn catch(entry: Value) -> Value {
    task(json!({ "Catch": [entry] }))
}

fn output(expression: &str) -> Value {
    one(json!({ "Type": "Succeed", "Output": { "x": [expression] } }))
}

#[test]
fn a_machine_without_what_it_needs_is_refused() {
    let long = "x".repeat(81);
    let long_named = json!({ "QueryLanguage": "JSONata", "StartAt": long, "States": { &long: { "Type": "Succeed" } } });
    let jsonata = |fields: Value| {
        let mut machine = machine(fields);
        machine["QueryLanguage"] = json!("JSONata");
        machine
    };
    let nothing = json!({ "QueryLanguage": "JSONata", "StartAt": "A" });
    check(&[
        (json!([]), "/", "must be an object"),
        (
            machine(json!({ "StartAt": "A" })),
            "/QueryLanguage",
            "JSONPath",
        ),
        (jsonata(json!({})), "/", "StartAt is missing"),
        (nothing, "/", "States is missing"),
        (
            jsonata(json!({ "StartAt": "B" })),
            "/StartAt",
            "no state \"B\"",
        ),
        (
            jsonata(json!({ "Version": "1.0" })),
            "/Version",
            "not a supported field",
        ),
        (
            jsonata(json!({ "TimeoutSeconds": 9 })),
            "/TimeoutSeconds",
            "not a supported field",
        ),
        (jsonata(json!({ "Comment": 1 })), "/Comment", "string"),
        (
            jsonata(json!({ "Comment": "x".repeat(1_100_000) })),
            "/",
            "1 MB",
        ),
        (long_named, &format!("/States/{long}"), "1 to 80 characters"),
    ]);
}

#[test]
fn a_state_of_another_type_or_with_another_field_is_refused() {
    for kind in ["Choice", "Map", "Parallel", "Pass", "Wait"] {
        let message = format!("{kind} states are not supported here");
        check(&[(
            one(json!({ "Type": kind, "End": true })),
            "/States/A/Type",
            &message,
        )]);
    }
    for field in ["Assign", "HeartbeatSeconds", "Credentials", "Outptu"] {
        let message = format!("{field} is not a supported field of a Task state");
        check(&[(
            task(json!({ field: 1 })),
            &format!("/States/Work/{field}"),
            &message,
        )]);
    }
    for field in [
        "Parameters",
        "ResultPath",
        "InputPath",
        "ResultSelector",
        "TimeoutSecondsPath",
    ] {
        check(&[(
            task(json!({ field: "$" })),
            &format!("/States/Work/{field}"),
            "JSONPath",
        )]);
    }
    check(&[
        (
            one(json!({ "Type": "Goto" })),
            "/States/A/Type",
            "not a type of state",
        ),
        (one(json!({})), "/States/A", "Type is missing"),
        (
            one(json!({ "Type": "Succeed", "Assign": {} })),
            "/States/A/Assign",
            "not a supported field",
        ),
        (
            one(json!({ "Type": "Fail", "Output": 1 })),
            "/States/A/Output",
            "not a supported field",
        ),
        (
            task(json!({ "QueryLanguage": "JSONPath" })),
            "/States/Work/QueryLanguage",
            "top level",
        ),
    ]);
}

#[test]
fn a_state_that_leads_nowhere_is_refused() {
    let lost = states(json!({ "A": { "Type": "Succeed" }, "B/C": { "Type": "Succeed" } }));
    let mut endless = task(json!({ "Next": "Work" }));
    endless["Comment"] = json!("round and round");
    let mut no_end = task(json!({}));
    no_end["States"]["Work"]
        .as_object_mut()
        .unwrap()
        .remove("End");
    let mut both = task(json!({}));
    both["States"]["Work"]["Next"] = json!("Work");
    check(&[
        (no_end, "/States/Work", "needs Next or End"),
        (both, "/States/Work/End", "exclude"),
        (
            task(json!({ "End": false })),
            "/States/Work/End",
            "must be true",
        ),
        (
            task(json!({ "Next": "B" })),
            "/States/Work/Next",
            "no state \"B\"",
        ),
        (endless, "/States", "no state ends the machine"),
        (lost, "/States/B~1C", "no way leads here"),
    ]);
}

#[test]
fn an_error_name_of_a_fail_state_is_fixed_and_none_of_aws() {
    let fail = |error: Value| one(json!({ "Type": "Fail", "Error": error }));
    let path = "/States/A/Error";
    check(&[
        (
            fail(json!("{% $states.input.error %}")),
            path,
            "could begin with `States.`",
        ),
        (
            fail(json!("{% 'Towpath.' & $states.input.error %}")),
            path,
            "must be a fixed text",
        ),
        (
            fail(json!("{% 'States.Timeout' %}")),
            path,
            "must be a fixed text",
        ),
        (fail(json!("{% broken")), path, "must be a fixed text"),
        (
            fail(json!("States.Timeout")),
            path,
            "must not begin with `States.`",
        ),
        (fail(json!(1)), path, "string"),
        (fail(json!(["{% 'x' %}"])), path, "string"),
        (
            one(json!({ "Type": "Fail", "Cause": 1 })),
            "/States/A/Cause",
            "string",
        ),
    ]);
}

#[test]
fn a_task_that_cannot_be_called_is_refused() {
    let resource = "arn:aws:lambda:eu-central-1:123456789012:function:f";
    let arguments = |arguments: Value| task(json!({ "Arguments": arguments }));
    let path = "/States/Work/Arguments";
    check(&[
        (
            task(json!({ "Resource": resource })),
            "/States/Work/Resource",
            "lambda:invoke",
        ),
        (arguments(json!({})), path, "FunctionName is missing"),
        (
            arguments(json!({ "FunctionName": "" })),
            &format!("{path}/FunctionName"),
            "empty",
        ),
        (
            arguments(json!({ "FunctionName": "f", "Qualifier": "1" })),
            &format!("{path}/Qualifier"),
            "not a supported field",
        ),
        (arguments(json!("{% $states.input %}")), path, "object"),
        (
            task(json!({ "TimeoutSeconds": 0 })),
            "/States/Work/TimeoutSeconds",
            "whole number",
        ),
        (
            task(json!({ "TimeoutSeconds": "{% 5 %}" })),
            "/States/Work/TimeoutSeconds",
            "whole number",
        ),
    ]);
}

#[test]
fn a_catcher_that_aws_would_refuse_is_refused() {
    let with = |field: &str| catch(json!({ "ErrorEquals": ["E"], "Next": "Work", field: {} }));
    let path = "/States/Work/Catch/0";
    check(&[
        (
            catch(json!({ "ErrorEquals": ["States.ALL"] })),
            path,
            "Next is missing",
        ),
        (
            catch(json!({ "ErrorEquals": ["E"], "Next": "X" })),
            &format!("{path}/Next"),
            "no state \"X\"",
        ),
        (
            with("Assign"),
            &format!("{path}/Assign"),
            "Assign is not a supported field",
        ),
        (
            with("ResultPath"),
            &format!("{path}/ResultPath"),
            "JSONPath",
        ),
    ]);
}

#[test]
fn a_retrier_that_aws_would_refuse_is_refused() {
    let names = "/States/Work/Retry/0/ErrorEquals";
    let of = |names: Value| retry(json!({ "ErrorEquals": names }));
    let all_first = json!([{ "ErrorEquals": ["States.ALL"] }, { "ErrorEquals": ["E"] }]);
    check(&[
        (
            retry(json!({ "MaxAttempts": 1 })),
            "/States/Work/Retry/0",
            "ErrorEquals is missing",
        ),
        (of(json!([])), names, "at least one"),
        (
            of(json!(["E", "States.ALL"])),
            &format!("{names}/1"),
            "alone",
        ),
        (
            of(json!(["States.Runtime"])),
            &format!("{names}/0"),
            "terminal",
        ),
        (
            task(json!({ "Retry": all_first })),
            &format!("{names}/0"),
            "last entry",
        ),
    ]);
    for (field, value, message) in [
        ("IntervalSeconds", json!(0), "whole number"),
        ("BackoffRate", json!(0.5), "1.0"),
        ("MaxDelaySeconds", json!(1), "more than IntervalSeconds"),
        ("JitterStrategy", json!("SOME"), "FULL"),
    ] {
        let definition = retry(json!({ "ErrorEquals": ["E"], field: value }));
        let path = format!("/States/Work/Retry/0/{field}");
        check(&[(definition, &path, message)]);
    }
}

#[test]
fn an_expression_must_be_the_whole_string_and_read_what_there_is() {
    let path = "/States/A/Output/x/0";
    for (expression, message) in [
        ("{% 1 + %}", "is not JSONata"),
        ("{% $states.input", "whole string"),
        ("$states.input %}", "whole string"),
        ("run {% $states.input %}", "whole string"),
        ("a {% $x %} b", "does not interpolate"),
        ("{%}", "overlap"),
        ("{% run %}", "$states.input.run"),
        ("{% run.id %}", "$states.input.run"),
        ("{% $ %}", "reads `$`"),
        ("{% $$.run %}", "`$$`"),
        ("{% $x %}", "variables are not supported"),
        ("{% $next.a %}", "variables are not supported"),
        ("{% $states.result %}", "only after a task has succeeded"),
        ("{% $states.errorOutput.Error %}", "only in a catcher"),
        ("{% $states.inputs %}", "does not exist"),
    ] {
        check(&[(output(expression), path, message)]);
    }
    let arguments = json!({ "FunctionName": "f", "Payload": "{% $states.result %}" });
    check(&[(
        task(json!({ "Arguments": arguments })),
        "/States/Work/Arguments/Payload",
        "only after",
    )]);
}

#[test]
fn what_the_machine_does_not_use_of_jsonata_is_refused() {
    let path = "/States/A/Output/x/0";
    for (expression, message) in [
        ("{% $eval('1') %}", "$eval"),
        ("{% $uuid() %}", "$uuid"),
        ("{% $now() %}", "$now"),
        ("{% $exists($string(1)) %}", "$string"),
        ("{% string(1) %}", "a call of `string`"),
        ("{% $states.input.a + 1 %}", "the operator Add"),
        ("{% $states.input.a = 1 %}", "the operator Equal"),
        ("{% $x := 1 %}", "the operator ColonEqual"),
        ("{% '1' ~> $eval %}", "the operator ChainPipe"),
        ("{% $states.input.a ?: 1 %}", "the operator Default"),
        ("{% $states.input.a ?? 1 %}", "the operator Coalesce"),
        ("{% $states.input.a ? 1 %}", "without an alternative"),
        ("{% [1, 2] %}", "an array"),
        ("{% function($v) { $v } %}", "a function of its own"),
        ("{% ($states.input) %}", "parentheses"),
        ("{% $states.input.a[0] %}", "filters or binds"),
        ("{% $states.input.* %}", "a wildcard"),
        ("{% $states.** %}", "a wildcard"),
        ("{% $states.input.$exists(a) %}", "only names"),
    ] {
        check(&[(output(expression), path, message)]);
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let definition = states(json!({
        "A": { "Type": "Succeed", "Assign": {}, "Output": "{% $eval('1') & $$ %}" },
        "B": { "Type": "Map" },
    }));
    let found = problems(&definition);
    assert_eq!(found.len(), 4, "{found:#?}");
}

#[test]
fn what_is_supported_is_taken() {
    let mut definition = task(json!({
        "Comment": "a task",
        "TimeoutSeconds": 5,
        "Retry": [
            { "ErrorEquals": ["E"], "IntervalSeconds": 1, "BackoffRate": 1.5, "MaxAttempts": 0, "MaxDelaySeconds": 2,
              "JitterStrategy": "NONE", "Comment": "some" },
            { "ErrorEquals": ["States.ALL"] },
        ],
        "Catch": [{ "ErrorEquals": ["States.ALL"], "Next": "Fail", "Output": "{% $states.errorOutput %}", "Comment": "all" }],
        "Output": { "größe": ["{% $states.result.Payload.size %}", "100 % sure", null, 5] },
        "Next": "Done",
    }));
    definition["States"]["Fail"] =
        json!({ "Type": "Fail", "Error": "Towpath.Broken", "Cause": "{% $states.input.Cause %}" });
    definition["States"]["Done"] = json!({ "Type": "Succeed" });
    assert_eq!(problems(&definition), Vec::<String>::new());
}
