//! Values with expressions in them: `Arguments`, `Output` and `Cause`.

use serde_json::{Map, Value};

use crate::document::Node;
use crate::failure::Failure;
use crate::jsonata::{Expression, Reads, Scope};

/// A JSON value in which every string `{% … %}` is an expression.
#[derive(Debug)]
pub(crate) enum Template {
    Literal(Value),
    Expression(Expression),
    Array(Vec<Template>),
    Object(Vec<(String, Template)>),
}

impl Template {
    /// Reads a template; what is wrong with its expressions becomes complaints at their paths.
    pub(crate) fn read(node: &Node<'_>, reads: Reads) -> Self {
        match node.value {
            Value::String(text) => match expression_source(text) {
                None => Self::Literal(node.value.clone()),
                Some(Err(problem)) => {
                    node.complain(problem);
                    Self::Literal(Value::Null)
                }
                Some(Ok(source)) => match Expression::parse(source, reads) {
                    Ok(expression) => Self::Expression(expression),
                    Err(problems) => {
                        problems
                            .into_iter()
                            .for_each(|problem| node.complain(problem));
                        Self::Literal(Value::Null)
                    }
                },
            },
            Value::Array(items) if !items.is_empty() => Self::Array(
                node.items()
                    .iter()
                    .map(|item| Self::read(item, reads))
                    .collect(),
            ),
            Value::Object(_) => Self::Object(
                node.entries()
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), Self::read(&value, reads)))
                    .collect(),
            ),
            _ => Self::Literal(node.value.clone()),
        }
    }

    /// The value in a scope.
    ///
    /// # Errors
    /// `States.QueryEvaluationError` if an expression fails or has no value. `field` says where, for the message.
    pub(crate) fn evaluate(&self, scope: &Scope, field: &str) -> Result<Value, Failure> {
        match self {
            Self::Literal(value) => Ok(value.clone()),
            Self::Expression(expression) => match expression.evaluate(scope) {
                Ok(Some(value)) => Ok(value),
                Ok(None) => Err(Failure::query(format!(
                    "The JSONata expression '{}' specified for the field '{field}' returned nothing (undefined).",
                    expression.source()
                ))),
                Err(problem) => Err(Failure::query(format!(
                    "The JSONata expression '{}' specified for the field '{field}' threw an error during evaluation. {problem}",
                    expression.source()
                ))),
            },
            Self::Array(items) => {
                let items = items.iter().enumerate();
                items
                    .map(|(i, item)| item.evaluate(scope, &format!("{field}/{i}")))
                    .collect()
            }
            Self::Object(fields) => {
                let mut object = Map::new();
                for (key, value) in fields {
                    object.insert(
                        key.clone(),
                        value.evaluate(scope, &format!("{field}/{key}"))?,
                    );
                }
                Ok(Value::Object(object))
            }
        }
    }
}

/// What stands between the delimiters of `{% … %}`; `None` for a plain string. AWS does not interpolate, so delimiters
/// anywhere else are a mistake.
fn expression_source(text: &str) -> Option<Result<&str, &'static str>> {
    match (text.strip_prefix("{%"), text.ends_with("%}")) {
        (Some(rest), true) => Some(
            rest.strip_suffix("%}")
                .ok_or("is not an expression: `{%` and `%}` overlap"),
        ),
        (Some(_), false) => Some(Err(
            "begins with `{%` but does not end with `%}`: an expression must be the whole string",
        )),
        (None, true) => Some(Err(
            "ends with `%}` but does not begin with `{%`: an expression must be the whole string",
        )),
        (None, false) if text.contains("{%") => Some(Err(
            "has `{% %}` inside it, which AWS does not interpolate: an expression must be the whole string",
        )),
        (None, false) => None,
    }
}
