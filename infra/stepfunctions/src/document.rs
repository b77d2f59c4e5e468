//! Reading a JSON document strictly: every value knows its path, and every complaint is kept.

use std::cell::RefCell;
use std::fmt;

use serde_json::{Map, Value};

/// One problem of a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The JSON pointer to the problem, such as `/States/Act/Arguments`; empty for the document itself.
    pub path: String,
    /// The rule that is broken: one of AWS, or one of this interpreter, which says "not supported here".
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() {
            "/"
        } else {
            &self.path
        };
        write!(f, "{path}: {}", self.message)
    }
}

/// The problems found so far. Reading goes on after each, so that the author hears of all of them at once.
#[derive(Debug, Default)]
pub(crate) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    pub(crate) fn add(&self, path: &str, message: impl Into<String>) {
        self.0.borrow_mut().push(Problem {
            path: path.to_owned(),
            message: message.into(),
        });
    }

    pub(crate) fn into_vec(self) -> Vec<Problem> {
        self.0.into_inner()
    }
}

/// A value of the document with its path.
#[derive(Clone, Debug)]
pub(crate) struct Node<'a> {
    pub(crate) path: String,
    pub(crate) value: &'a Value,
    problems: &'a Problems,
}

impl<'a> Node<'a> {
    pub(crate) fn root(value: &'a Value, problems: &'a Problems) -> Self {
        Self {
            path: String::new(),
            value,
            problems,
        }
    }

    pub(crate) fn complain(&self, message: impl Into<String>) {
        self.problems.add(&self.path, message);
    }

    /// Complains about what stands at a path below this value.
    pub(crate) fn complain_at(&self, below: &str, message: impl Into<String>) {
        self.problems
            .add(&format!("{}/{below}", self.path), message);
    }

    fn below(&self, key: &str, value: &'a Value) -> Self {
        Self {
            path: join(&self.path, key),
            value,
            problems: self.problems,
        }
    }

    /// The fields, if this is an object; a complaint if not.
    pub(crate) fn object(&self) -> Option<&'a Map<String, Value>> {
        let object = self.value.as_object();
        if object.is_none() {
            self.complain("must be an object");
        }
        object
    }

    /// The items, if this is an array with any; a complaint if not.
    pub(crate) fn items(&self) -> Vec<Self> {
        match self.value.as_array() {
            Some(items) if !items.is_empty() => items
                .iter()
                .enumerate()
                .map(|(i, item)| self.below(&i.to_string(), item))
                .collect(),
            _ => {
                self.complain("must be an array with at least one item");
                Vec::new()
            }
        }
    }

    /// The fields of an object as nodes.
    pub(crate) fn entries(&self) -> Vec<(&'a str, Self)> {
        let Some(object) = self.object() else {
            return Vec::new();
        };
        object
            .iter()
            .map(|(key, value)| (key.as_str(), self.below(key, value)))
            .collect()
    }

    pub(crate) fn get(&self, field: &str) -> Option<Self> {
        self.value
            .as_object()?
            .get(field)
            .map(|value| self.below(field, value))
    }

    /// The field, or a complaint that it is missing.
    pub(crate) fn need(&self, field: &str) -> Option<Self> {
        let found = self.get(field);
        if found.is_none() {
            self.complain(format!("{field} is missing"));
        }
        found
    }

    pub(crate) fn string(&self) -> Option<&'a str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.complain("must be a string");
        }
        text
    }

    /// A whole number within the bounds.
    pub(crate) fn integer(&self, least: u64, most: u64) -> Option<u64> {
        let number = self
            .value
            .as_u64()
            .filter(|number| (least..=most).contains(number));
        if number.is_none() {
            self.complain(format!("must be a whole number from {least} to {most}"));
        }
        number
    }

    /// Complains about every field that is not in the list.
    pub(crate) fn only(&self, of: &str, known: &[&str]) {
        let Some(object) = self.value.as_object() else {
            return;
        };
        for field in object
            .keys()
            .filter(|field| !known.contains(&field.as_str()))
        {
            let message = match field.as_str() {
                "InputPath"
                | "OutputPath"
                | "ResultPath"
                | "Parameters"
                | "ResultSelector"
                | "SecondsPath"
                | "TimestampPath"
                | "TimeoutSecondsPath"
                | "HeartbeatSecondsPath"
                | "ErrorPath"
                | "CausePath"
                | "ItemsPath"
                | "Result"
                | "Variable" => {
                    format!("{field} is a field of JSONPath states; a JSONata state cannot have it")
                }
                "QueryLanguage" => "is said once, at the top level".to_owned(),
                _ => format!("{field} is not a supported field of {of}"),
            };
            self.complain_at(field, message);
        }
    }
}

fn join(path: &str, key: &str) -> String {
    // JSON Pointer escapes, so that a state named `a/b` has one path.
    format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"))
}
