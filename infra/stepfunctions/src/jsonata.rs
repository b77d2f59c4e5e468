//! The JSONata that Towpath's machine uses, checked when the definition loads.
//!
//! AWS evaluates an expression with no input document, only with `$states`. Here an expression is made of `$states` and
//! its fields, literals, objects, `&`, `? :`, `$exists` and `$lookup`. Everything else, which AWS or the library
//! underneath may well know, is refused by name, so that what runs here has been tried here.

use jsonata_core::ast::{AstNode, BinaryOp, PathStep};
use jsonata_core::evaluator::{Context, Evaluator, EvaluatorError, EvaluatorOptions};
use jsonata_core::parser;
use jsonata_core::value::JValue;
use serde_json::Value;

/// The functions that may be called.
const FUNCTIONS: &[&str] = &["exists", "lookup"];

/// The fields of `$states` that exist where an expression stands, besides `input` and `context`, which always do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reads {
    /// `$states.result`: after a task has succeeded.
    pub(crate) result: bool,
    /// `$states.errorOutput`: in a catcher.
    pub(crate) error_output: bool,
}

/// A parsed and checked expression.
#[derive(Debug)]
pub(crate) struct Expression {
    source: String,
    ast: AstNode,
}

impl Expression {
    /// Parses what stands between `{%` and `%}`. The error lists everything that is wrong with it.
    pub(crate) fn parse(source: &str, reads: Reads) -> Result<Self, Vec<String>> {
        let source = source.trim();
        let ast = parser::parse(source)
            .map_err(|error| vec![format!("is not JSONata: {}", error.display_message())])?;
        let mut check = Check {
            reads,
            problems: Vec::new(),
        };
        check.visit(&ast);
        if check.problems.is_empty() {
            Ok(Self {
                source: source.to_owned(),
                ast,
            })
        } else {
            Err(check.problems)
        }
    }

    /// The expression as written, for messages.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// The value of the expression; `None` if it has none (JSONata's undefined, which JSON cannot express).
    pub(crate) fn evaluate(&self, scope: &Scope) -> Result<Option<Value>, String> {
        let mut context = Context::new();
        context.bind("states".to_owned(), scope.states.clone());
        let mut evaluator = Evaluator::with_options(context, EvaluatorOptions::default());
        let value = evaluator
            .evaluate(&self.ast, &JValue::Undefined)
            .map_err(|error: EvaluatorError| error.message().to_owned())?;
        if value.is_undefined() {
            return Ok(None);
        }
        serde_json::to_value(&value)
            .map(Some)
            .map_err(|error| error.to_string())
    }
}

/// The value of `$states`, which is all that an expression can read.
pub(crate) struct Scope {
    states: JValue,
}

impl Scope {
    /// A scope with this `$states`.
    pub(crate) fn new(states: Value) -> Self {
        Self {
            states: JValue::from(states),
        }
    }
}

struct Check {
    reads: Reads,
    problems: Vec<String>,
}

impl Check {
    fn complain(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }

    fn visit(&mut self, node: &AstNode) {
        match node {
            AstNode::String(_) | AstNode::Number(_) | AstNode::Boolean(_) | AstNode::Null => {}
            AstNode::Path { steps } => self.path(steps),
            AstNode::Object(fields) => {
                for (key, value) in fields {
                    self.visit(key);
                    self.visit(value);
                }
            }
            AstNode::Conditional {
                condition,
                then_branch,
                else_branch: Some(else_branch),
            } => [condition, then_branch, else_branch]
                .into_iter()
                .for_each(|part| self.visit(part)),
            AstNode::Binary {
                op: BinaryOp::Concatenate,
                lhs,
                rhs,
            } => {
                self.visit(lhs);
                self.visit(rhs);
            }
            AstNode::Function {
                name,
                args,
                is_builtin: true,
            } => self.call(name, args),
            AstNode::Name(name) => self.complain(format!(
                "reads the field `{name}` of nothing: AWS gives expressions no input document, use `$states.input.{name}`"
            )),
            AstNode::Variable(name) if name.is_empty() => {
                self.complain("reads `$`, but AWS gives expressions no input document: use `$states.input`");
            }
            AstNode::Variable(name) if name != "states" => {
                self.complain(format!("reads the variable `${name}`; variables are not supported here"));
            }
            other => self.complain(format!("uses {}, which is not supported here", described(other))),
        }
    }

    fn call(&mut self, name: &str, args: &[AstNode]) {
        if !FUNCTIONS.contains(&name) {
            let known = FUNCTIONS.join("` and `$");
            self.complain(format!(
                "calls `${name}`, which is not supported here: only `${known}` are"
            ));
        }
        args.iter().for_each(|arg| self.visit(arg));
    }

    /// A path is `$states` and names: `$states.input.next`.
    fn path(&mut self, steps: &[PathStep]) {
        let mut nodes = steps.iter().map(|step| &step.node);
        match (nodes.next(), nodes.next()) {
            (Some(AstNode::Variable(root)), Some(AstNode::Name(field))) if root == "states" => {
                self.states(field);
            }
            (Some(first), _) => self.visit(first),
            (None, _) => {}
        }
        for step in steps {
            let plain = step.stages.is_empty() && step.focus.is_none() && step.index_var.is_none();
            if !plain {
                self.complain("filters or binds in a path, which is not supported here");
            }
        }
        for step in steps.iter().skip(1) {
            if !matches!(step.node, AstNode::Name(_)) {
                self.complain(format!(
                    "has {} in a path, where only names are supported here",
                    described(&step.node)
                ));
            }
        }
    }

    fn states(&mut self, field: &str) {
        match field {
            "input" | "context" => {}
            "result" if self.reads.result => {}
            "errorOutput" if self.reads.error_output => {}
            "result" => self
                .complain("reads `$states.result`, which exists only after a task has succeeded"),
            "errorOutput" => {
                self.complain("reads `$states.errorOutput`, which exists only in a catcher")
            }
            other => self.complain(format!("reads `$states.{other}`, which does not exist")),
        }
    }
}

/// A construct of the language, in words.
fn described(node: &AstNode) -> String {
    match node {
        AstNode::Binary { op, .. } => format!("the operator {op:?}"),
        AstNode::Unary { op, .. } => format!("the operator {op:?}"),
        AstNode::Variable(name) => format!("the variable `${name}`"),
        AstNode::ParentVariable(_) => "`$$`".to_owned(),
        AstNode::Function { name, .. } => format!("a call of `{name}`"),
        AstNode::Conditional { .. } => "`? :` without an alternative".to_owned(),
        AstNode::Lambda { .. } => "a function of its own".to_owned(),
        AstNode::Block(_) => "parentheses".to_owned(),
        AstNode::Array(_) | AstNode::ArrayGroup(_) => "an array".to_owned(),
        AstNode::Regex { .. } => "a regular expression".to_owned(),
        AstNode::Wildcard | AstNode::Descendant => "a wildcard".to_owned(),
        AstNode::Sort { .. } => "a sort".to_owned(),
        AstNode::Transform { .. } | AstNode::ObjectTransform { .. } => "a transform".to_owned(),
        _ => "a construct of JSONata".to_owned(),
    }
}
