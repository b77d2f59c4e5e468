//! Event patterns: which events a rule is for.

use serde_json::{Map, Value};

/// Refuses a pattern that [`matches`] would not understand.
pub(crate) fn check(pattern: &Value) -> Result<(), String> {
    let fields = pattern.as_object().ok_or("a pattern is a map of fields")?;
    for (field, wanted) in fields {
        match wanted {
            _ if field.starts_with('$') => {
                return Err(format!("the local cloud does not know {field}"));
            }
            Value::Object(_) => check(wanted)?,
            Value::Array(matchers) if !matchers.is_empty() => {
                matchers.iter().try_for_each(check_matcher)?
            }
            _ => return Err(format!("{field} has to list what it may be")),
        }
    }
    Ok(())
}

fn check_matcher(matcher: &Value) -> Result<(), String> {
    let Value::Object(map) = matcher else {
        return Ok(());
    };
    let understood = match single(map) {
        Some(("prefix" | "suffix", Value::String(_)) | ("exists", Value::Bool(_))) => true,
        Some(("anything-but", Value::Object(inner))) => {
            matches!(single(inner), Some(("prefix" | "suffix", Value::String(_))))
        }
        Some(("anything-but", _)) => true,
        Some(("numeric", Value::Array(tests))) => {
            !tests.is_empty()
                && tests.chunks(2).all(|test| match test {
                    [Value::String(operator), Value::Number(_)] => {
                        ["<", "<=", "=", ">", ">="].contains(&operator.as_str())
                    }
                    _ => false,
                })
        }
        _ => false,
    };
    if understood {
        Ok(())
    } else {
        Err(format!(
            "the local cloud does not know the matcher {matcher}"
        ))
    }
}

/// Whether an event is one of those a pattern describes.
pub(crate) fn matches(pattern: &Value, event: &Value) -> bool {
    let Some(fields) = pattern.as_object() else {
        return false;
    };
    fields.iter().all(|(field, wanted)| {
        let found = event.get(field);
        match wanted {
            Value::Array(matchers) => matchers.iter().any(|matcher| field_matches(matcher, found)),
            nested => matches(nested, found.unwrap_or(&Value::Null)),
        }
    })
}

fn field_matches(matcher: &Value, found: Option<&Value>) -> bool {
    if let Some(("exists", Value::Bool(wanted))) = matcher.as_object().and_then(single) {
        // `exists` speaks of leaves only.
        return found.is_some_and(|found| !found.is_object()) == *wanted;
    }
    match found {
        None | Some(Value::Object(_)) => false,
        // Of a list, one member has to match.
        Some(Value::Array(members)) => members.iter().any(|member| value_matches(matcher, member)),
        Some(value) => value_matches(matcher, value),
    }
}

fn value_matches(matcher: &Value, value: &Value) -> bool {
    let Some(map) = matcher.as_object() else {
        return same(matcher, value);
    };
    match single(map) {
        Some(("prefix", Value::String(prefix))) => value
            .as_str()
            .is_some_and(|text| text.starts_with(prefix.as_str())),
        Some(("suffix", Value::String(suffix))) => value
            .as_str()
            .is_some_and(|text| text.ends_with(suffix.as_str())),
        Some(("anything-but", Value::Array(others))) => {
            !others.iter().any(|other| same(other, value))
        }
        Some(("anything-but", other)) => !value_matches(other, value),
        Some(("numeric", Value::Array(tests))) => value.as_f64().is_some_and(|number| {
            tests.chunks(2).all(|test| match test {
                [Value::String(operator), limit] => {
                    limit.as_f64().is_some_and(|limit| match operator.as_str() {
                        "<" => number < limit,
                        "<=" => number <= limit,
                        "=" => (number - limit).abs() < f64::EPSILON,
                        ">=" => number >= limit,
                        _ => number > limit,
                    })
                }
                _ => false,
            })
        }),
        _ => false,
    }
}

fn same(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => (left - right).abs() < f64::EPSILON,
        _ => left == right,
    }
}

fn single(map: &Map<String, Value>) -> Option<(&str, &Value)> {
    let (key, value) = map.iter().next()?;
    (map.len() == 1).then_some((key.as_str(), value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_is_for_the_events_its_pattern_describes() {
        let event = json!({
            "source": "aws.states", "tags": ["a", "b"],
            "detail": {"status": "FAILED", "stateMachineArn": "arn:x:towpath-run", "count": 3, "output": null},
        });
        for (pattern, is_for) in [
            (
                json!({"source": ["aws.states"], "detail": {"status": ["FAILED", "ABORTED"]}}),
                true,
            ),
            (
                json!({"source": ["aws.states"], "detail": {"status": ["ABORTED"]}}),
                false,
            ),
            (
                json!({"detail": {"stateMachineArn": [{"prefix": "arn:x:"}]}}),
                true,
            ),
            (
                json!({"detail": {"stateMachineArn": [{"suffix": "-walk"}]}}),
                false,
            ),
            (
                json!({"detail": {"status": [{"anything-but": "FAILED"}]}}),
                false,
            ),
            (
                json!({"detail": {"status": [{"anything-but": ["ABORTED"]}]}}),
                true,
            ),
            (
                json!({"detail": {"status": [{"anything-but": {"prefix": "FAI"}}]}}),
                false,
            ),
            (
                json!({"detail": {"nothing": [{"anything-but": "x"}]}}),
                false,
            ),
            (json!({"detail": {"nothing": [{"exists": false}]}}), true),
            (json!({"detail": {"status": [{"exists": false}]}}), false),
            (
                json!({"detail": {"count": [{"numeric": [">", 2, "<=", 3]}]}}),
                true,
            ),
            (json!({"detail": {"count": [{"numeric": [">", 3]}]}}), false),
            (json!({"detail": {"count": [3.0], "output": [null]}}), true),
            (json!({"tags": ["b"]}), true),
            (json!({"nowhere": {"deeper": ["x"]}}), false),
        ] {
            check(&pattern).unwrap();
            assert_eq!(matches(&pattern, &event), is_for, "{pattern}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for pattern in [
            json!({"$or": [{"a": ["b"]}]}),
            json!({"a": [{"cidr": "10.0.0.0/8"}]}),
            json!({"a": "b"}),
            json!({"a": []}),
            json!({"a": [{"numeric": ["~", 1]}]}),
        ] {
            assert!(check(&pattern).is_err(), "{pattern}");
        }
    }
}
