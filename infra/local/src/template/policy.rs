//! A policy document, read strictly: an element that would be ignored might be the one that forbids.

use serde_json::Value;

use super::object;
use crate::error::Error;

/// The statements of a policy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policy {
    pub(crate) statements: Vec<Statement>,
}

/// One statement.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) sid: Option<String>,
    pub(crate) effect: Effect,
    pub(crate) actions: Vec<String>,
    pub(crate) resources: Vec<String>,
    pub(crate) conditions: Vec<Test>,
}

/// The effect of a statement: it allows or denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Allow,
    Deny,
}

/// One test of a statement's conditions.
#[derive(Clone, Debug)]
pub(crate) struct Test {
    pub(crate) quantifier: Quantifier,
    pub(crate) negated: bool,
    pub(crate) wildcards: bool,
    /// `...IfExists`: a request without the key passes.
    pub(crate) if_exists: bool,
    pub(crate) key: String,
    pub(crate) values: Vec<String>,
}

/// The way in which a test treats a key that has several values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quantifier {
    One,
    ForAll,
    ForAny,
}

impl Policy {
    pub(crate) fn read(document: &Value, place: &str) -> Result<Self, Error> {
        let document = object(document, place)?;
        known(document.keys(), &["Version", "Statement", "Id"], place)?;
        let statements = document
            .get("Statement")
            .ok_or_else(|| Error::template(place, "Statement is missing"))?;
        let statements = one_or_more(statements);
        let read = |(index, statement): (usize, &Value)| {
            read_statement(statement, &format!("{place}.Statement[{index}]"))
        };
        Ok(Self {
            statements: statements
                .iter()
                .enumerate()
                .map(read)
                .collect::<Result<_, _>>()?,
        })
    }
}

fn read_statement(statement: &Value, place: &str) -> Result<Statement, Error> {
    let statement = object(statement, place)?;
    known(
        statement.keys(),
        &["Sid", "Effect", "Action", "Resource", "Condition"],
        place,
    )?;
    let texts = |key: &str| {
        let values = statement.get(key).map(one_or_more).unwrap_or_default();
        let texts: Option<Vec<String>> = values
            .iter()
            .map(|value| value.as_str().map(str::to_owned))
            .collect();
        texts.filter(|texts| !texts.is_empty()).ok_or_else(|| {
            Error::template(
                format!("{place}.{key}"),
                "must be a text or a list of texts",
            )
        })
    };
    let effect = match statement.get("Effect").and_then(Value::as_str) {
        Some("Allow") => Effect::Allow,
        Some("Deny") => Effect::Deny,
        _ => {
            return Err(Error::template(
                format!("{place}.Effect"),
                "must be Allow or Deny",
            ));
        }
    };
    let mut conditions = Vec::new();
    if let Some(condition) = statement.get("Condition") {
        let place = format!("{place}.Condition");
        for (operator, keys) in object(condition, &place)? {
            for (key, values) in object(keys, &place)? {
                conditions.push(read_test(operator, key, values, &place)?);
            }
        }
    }
    let sid = statement
        .get("Sid")
        .and_then(Value::as_str)
        .map(str::to_owned);
    Ok(Statement {
        sid,
        effect,
        actions: texts("Action")?,
        resources: texts("Resource")?,
        conditions,
    })
}

fn read_test(operator: &str, key: &str, values: &Value, place: &str) -> Result<Test, Error> {
    let (quantifier, name) = match operator.split_once(':') {
        Some(("ForAllValues", name)) => (Quantifier::ForAll, name),
        Some(("ForAnyValue", name)) => (Quantifier::ForAny, name),
        _ => (Quantifier::One, operator),
    };
    let (name, if_exists) = name
        .strip_suffix("IfExists")
        .map_or((name, false), |name| (name, true));
    let (negated, wildcards) = match name {
        "StringEquals" => (false, false),
        "StringNotEquals" => (true, false),
        "StringLike" => (false, true),
        "StringNotLike" => (true, true),
        _ => {
            return Err(Error::template(
                place,
                format!("the local cloud does not know the operator {operator}"),
            ));
        }
    };
    // The ones the DynamoDB front can tell; a test of any other key would never hold.
    let known = [
        "LeadingKeys",
        "Attributes",
        "Select",
        "ReturnValues",
        "EnclosingOperation",
    ];
    if !key
        .strip_prefix("dynamodb:")
        .is_some_and(|key| known.contains(&key))
    {
        return Err(Error::template(
            place,
            format!("the local cloud does not know the condition key {key}"),
        ));
    }
    let texts: Option<Vec<String>> = one_or_more(values)
        .iter()
        .map(|value| value.as_str().map(str::to_owned))
        .collect();
    let values =
        texts.ok_or_else(|| Error::template(place, format!("texts have to stand at {key}")))?;
    Ok(Test {
        quantifier,
        negated,
        wildcards,
        if_exists,
        key: key.to_owned(),
        values,
    })
}

fn known<'k>(
    mut keys: impl Iterator<Item = &'k String>,
    known: &[&str],
    place: &str,
) -> Result<(), Error> {
    match keys.find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(Error::template(
            format!("{place}.{key}"),
            "the local cloud does not know this element",
        )),
    }
}

fn one_or_more(value: &Value) -> Vec<Value> {
    value
        .as_array()
        .cloned()
        .unwrap_or_else(|| vec![value.clone()])
}
