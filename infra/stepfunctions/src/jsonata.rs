//! JSONata as AWS runs it: version 2.0.6 without `$eval`, checked when the definition loads.
//!
//! AWS evaluates an expression with no input document, only with bindings: `$states` and the machine's variables. So a
//! bare field name, `$` or `$$` can never mean anything and is refused, as is everything that came to the language after
//! 2.0.6, which the library underneath would happily run.

use std::collections::{HashMap, HashSet};

use jsonata_core::ast::{AstNode, BinaryOp, Stage};
use jsonata_core::evaluator::{Context, Evaluator, EvaluatorError, EvaluatorOptions};
use jsonata_core::parser;
use jsonata_core::value::JValue;
use serde_json::Value;

use crate::time;

/// The functions of JSONata 2.0.6, `$eval` excepted.
const FUNCTIONS: &[&str] = &[
    "abs",
    "append",
    "assert",
    "average",
    "base64decode",
    "base64encode",
    "boolean",
    "ceil",
    "clone",
    "contains",
    "count",
    "decodeUrl",
    "decodeUrlComponent",
    "distinct",
    "each",
    "encodeUrl",
    "encodeUrlComponent",
    "error",
    "exists",
    "filter",
    "floor",
    "formatBase",
    "formatInteger",
    "formatNumber",
    "fromMillis",
    "join",
    "keys",
    "length",
    "lookup",
    "lowercase",
    "map",
    "match",
    "max",
    "merge",
    "millis",
    "min",
    "not",
    "now",
    "number",
    "pad",
    "parseInteger",
    "power",
    "random",
    "reduce",
    "replace",
    "reverse",
    "round",
    "shuffle",
    "sift",
    "single",
    "sort",
    "split",
    "spread",
    "sqrt",
    "string",
    "substring",
    "substringAfter",
    "substringBefore",
    "sum",
    "toMillis",
    "trim",
    "type",
    "uppercase",
    "zip",
];

/// Functions that AWS adds and this interpreter does not have.
const AWS_FUNCTIONS: &[&str] = &["hash", "parse", "partition", "range", "uuid"];

/// An expression that runs longer than this is taken for one that never ends.
const EVALUATION_LIMIT_MS: u64 = 2_000;

/// Which fields of `$states` exist where an expression stands, besides `input` and `context`, which always do.
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
    /// Parses what stands between `{%` and `%}`. The error says everything that is wrong with it.
    pub(crate) fn parse(source: &str, reads: Reads) -> Result<Self, Vec<String>> {
        let source = source.trim();
        let ast = parser::parse(source)
            .map_err(|error| vec![format!("is not JSONata: {}", error.display_message())])?;
        let mut bound = HashSet::new();
        collect_bound(&ast, &mut bound);
        let mut check = Check {
            reads,
            bound,
            problems: Vec::new(),
        };
        check.visit(&ast, true);
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

    /// The value of the expression; `None` if it has none (JSONata's undefined, which JSON cannot say).
    pub(crate) fn evaluate(&self, scope: &Scope) -> Result<Option<Value>, String> {
        let told = |error: EvaluatorError| error.message().to_owned();
        let mut context = Context::new();
        for (name, value) in &scope.bindings {
            context.bind(name.clone(), value.clone());
        }
        let options = EvaluatorOptions {
            timeout_ms: Some(EVALUATION_LIMIT_MS),
            ..EvaluatorOptions::default()
        };
        let mut evaluator = Evaluator::with_options(context, options);
        let now = scope.now_ms;
        evaluator
            .register_fn_override("millis", move |_: &[JValue]| Ok(JValue::from(now)))
            .map_err(told)?;
        evaluator
            .register_fn_override("now", move |_: &[JValue]| Ok(JValue::from(time::iso(now))))
            .map_err(told)?;
        let value = evaluator
            .evaluate(&self.ast, &JValue::Undefined)
            .map_err(told)?;
        if value.is_undefined() {
            return Ok(None);
        }
        if value.is_function() || value.is_regex() {
            return Err("the value is a function, which JSON cannot say".to_owned());
        }
        serde_json::to_value(&value)
            .map(Some)
            .map_err(|error| error.to_string())
    }
}

/// What an expression can see.
#[derive(Default)]
pub(crate) struct Scope {
    bindings: HashMap<String, JValue>,
    now_ms: u64,
}

impl Scope {
    /// A scope with no bindings, at a time.
    pub(crate) fn new(now_ms: u64) -> Self {
        Self {
            bindings: HashMap::new(),
            now_ms,
        }
    }

    /// Binds `$name`.
    pub(crate) fn bind(&mut self, name: &str, value: Value) {
        self.bindings.insert(name.to_owned(), JValue::from(value));
    }
}

/// The nodes below a node, each with whether it is evaluated against the same context as the node itself.
fn children(node: &AstNode) -> Vec<(&AstNode, bool)> {
    fn pairs(pairs: &[(AstNode, AstNode)], same: bool) -> Vec<(&AstNode, bool)> {
        pairs
            .iter()
            .flat_map(|(key, value)| [(key, same), (value, same)])
            .collect()
    }
    match node {
        AstNode::Path { steps } => {
            let mut below = Vec::new();
            for (position, step) in steps.iter().enumerate() {
                below.push((&step.node, position == 0));
                for stage in &step.stages {
                    if let Stage::Filter(filter) = stage {
                        below.push((filter, false));
                    }
                }
            }
            below
        }
        AstNode::Binary { lhs, rhs, .. } => vec![(lhs, true), (rhs, true)],
        AstNode::Unary { operand, .. } => vec![(operand, true)],
        AstNode::Function { args: nodes, .. }
        | AstNode::Array(nodes)
        | AstNode::ArrayGroup(nodes)
        | AstNode::Block(nodes) => nodes.iter().map(|node| (node, true)).collect(),
        AstNode::Call { procedure, args } => {
            let args = args.iter().map(|node| (node, true));
            std::iter::once((&**procedure, true)).chain(args).collect()
        }
        AstNode::Lambda { body, .. } => vec![(body, true)],
        AstNode::Object(fields) => pairs(fields, true),
        AstNode::ObjectTransform { input, pattern } => {
            let mut below = pairs(pattern, false);
            below.push((input, true));
            below
        }
        AstNode::Conditional {
            condition,
            then_branch,
            else_branch,
        } => {
            let branches = [Some(condition), Some(then_branch), else_branch.as_ref()];
            branches
                .into_iter()
                .flatten()
                .map(|node| (&**node, true))
                .collect()
        }
        AstNode::FunctionApplication(inner) => vec![(inner, false)],
        AstNode::Sort { input, terms } => {
            let terms = terms.iter().map(|(term, _)| (term, false));
            std::iter::once((&**input, true)).chain(terms).collect()
        }
        AstNode::Transform {
            location,
            update,
            delete,
        } => {
            let parts = [Some(location), Some(update), delete.as_ref()];
            parts
                .into_iter()
                .flatten()
                .map(|node| (&**node, false))
                .collect()
        }
        AstNode::String(_)
        | AstNode::Name(_)
        | AstNode::Number(_)
        | AstNode::Boolean(_)
        | AstNode::Null
        | AstNode::Undefined
        | AstNode::Placeholder
        | AstNode::Regex { .. }
        | AstNode::Variable(_)
        | AstNode::ParentVariable(_)
        | AstNode::Wildcard
        | AstNode::Descendant
        | AstNode::Parent(_) => Vec::new(),
    }
}

/// The names an expression binds itself, by `:=` or as parameters: these may be called.
fn collect_bound(node: &AstNode, bound: &mut HashSet<String>) {
    match node {
        AstNode::Binary {
            op: BinaryOp::ColonEqual,
            lhs,
            ..
        } => {
            if let AstNode::Variable(name) = &**lhs {
                bound.insert(name.clone());
            }
        }
        AstNode::Lambda { params, .. } => bound.extend(params.iter().cloned()),
        _ => {}
    }
    for (child, _) in children(node) {
        collect_bound(child, bound);
    }
}

struct Check {
    reads: Reads,
    bound: HashSet<String>,
    problems: Vec<String>,
}

impl Check {
    fn complain(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }

    /// `top`: the node is evaluated against the machine's own context, which is nothing.
    fn visit(&mut self, node: &AstNode, top: bool) {
        match node {
            AstNode::Binary { op: BinaryOp::Coalesce, .. } => {
                self.complain("uses `??`, which came after JSONata 2.0.6, the version AWS runs");
            }
            AstNode::Binary { op: BinaryOp::Default, .. } => {
                self.complain("uses `?:`, which came after JSONata 2.0.6, the version AWS runs");
            }
            AstNode::Undefined => self.complain("says `undefined` or `()`, which JSONata 2.0.6 does not know"),
            AstNode::Name(name) if top => self.complain(format!(
                "reads the field `{name}` of nothing: AWS gives expressions no input document, use `$states.input.{name}`"
            )),
            AstNode::Wildcard | AstNode::Descendant if top => {
                self.complain("reads the fields of nothing: AWS gives expressions no input document, use `$states.input`");
            }
            AstNode::Variable(name) if top && name.is_empty() => {
                self.complain("reads `$` at the top level, where AWS has no document: use `$states.input`");
            }
            AstNode::ParentVariable(_) => {
                self.complain("reads `$$`, but AWS gives expressions no input document: use `$states.input`");
            }
            AstNode::Variable(name) if name == "eval" => self.complain("uses `$eval`, which AWS refuses"),
            AstNode::Function { name, args, is_builtin } => self.call(name, args.len(), *is_builtin),
            AstNode::Path { steps } => {
                let mut nodes = steps.iter().map(|step| &step.node);
                if let (Some(AstNode::Variable(root)), Some(AstNode::Name(field))) = (nodes.next(), nodes.next())
                    && root == "states"
                {
                    self.states(field);
                }
            }
            _ => {}
        }
        for (child, same) in children(node) {
            self.visit(child, top && same);
        }
    }

    fn call(&mut self, name: &str, args: usize, by_dollar: bool) {
        if !by_dollar {
            self.complain(format!(
                "calls `{name}`, a field, as a function: write `${name}`"
            ));
        } else if self.bound.contains(name) {
            // Its own function; nothing to say.
        } else if name == "eval" {
            self.complain("uses `$eval`, which AWS refuses");
        } else if AWS_FUNCTIONS.contains(&name) || (name == "random" && args > 0) {
            self.complain(format!(
                "uses AWS's own `${name}`, which is not supported here"
            ));
        } else if name == "now" && args > 0 {
            self.complain("gives `$now` arguments, which is not supported here: use `$fromMillis($millis(), …)`");
        } else if !FUNCTIONS.contains(&name) {
            self.complain(format!(
                "calls `${name}`, which JSONata 2.0.6 does not have"
            ));
        }
    }

    fn states(&mut self, field: &str) {
        match field {
            "input" | "context" => {}
            "result" if self.reads.result => {}
            "errorOutput" if self.reads.error_output => {}
            "result" => {
                self.complain("reads `$states.result`, which exists only once a task has succeeded")
            }
            "errorOutput" => {
                self.complain("reads `$states.errorOutput`, which exists only in a catcher")
            }
            other => self.complain(format!("reads `$states.{other}`, which does not exist")),
        }
    }
}
