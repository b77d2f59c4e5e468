//! The template as the local cloud needs it, with every reference resolved.
//!
//! A template is read strictly. A resource, property or event that matters for running and is not understood is an
//! error that names it; what only matters in the cloud is passed over by an explicit list. So a template that loads
//! here behaves here as it will there.

mod front;
mod function;
mod intrinsics;
mod machine;
mod policy;
mod project;
mod secret;
mod socket;
mod table;
mod yaml;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

pub(crate) use front::{FrontSpec, Origin, PermissionSpec};
use intrinsics::Scope;
pub(crate) use intrinsics::{ACCOUNT, REGION, STACK, arn};
pub(crate) use machine::Machine;
pub(crate) use policy::{Effect, Policy, Quantifier, Statement, Test};
pub(crate) use project::ProjectSpec;
pub(crate) use secret::SecretSpec;
use socket::SocketParts;
pub(crate) use socket::SocketSpec;
pub(crate) use table::Table;

use crate::error::Error;

/// The types of resources that have no part in serving a request here.
const CLOUD_ONLY: [&str; 13] = [
    // What the function does is done by the front here: see `http::front`.
    "AWS::CloudFront::Function",
    "AWS::CloudFront::OriginAccessControl",
    "AWS::CloudWatch::Alarm",
    "AWS::CloudWatch::Dashboard",
    // Roles of functions are made of their policies; a role by itself is that of builds, which call nothing here.
    "AWS::IAM::Role",
    "AWS::Logs::LogGroup",
    "AWS::Logs::MetricFilter",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::Subscription",
    "AWS::SNS::Topic",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::Queue",
    "AWS::SQS::QueuePolicy",
];

/// The properties of buckets that say who may do what, and how objects are kept in the cloud: none changes what an object
/// is.
const HARMLESS_OF_BUCKETS: [&str; 5] = [
    "BucketEncryption",
    "OwnershipControls",
    "PublicAccessBlockConfiguration",
    "LifecycleConfiguration",
    "Tags",
];

/// The properties of HTTP APIs that do not change an answer here: throttling, access logs and the like.
const HARMLESS_OF_HTTP_APIS: [&str; 6] = [
    "FailOnWarnings",
    "DefaultRouteSettings",
    "AccessLogSettings",
    "Description",
    "Name",
    "Tags",
];

/// A stack: everything that a template describes.
#[derive(Debug)]
pub(crate) struct Stack {
    pub(crate) tables: Vec<Table>,
    pub(crate) functions: Vec<FunctionSpec>,
    pub(crate) machines: Vec<Machine>,
    pub(crate) secrets: Vec<SecretSpec>,
    pub(crate) projects: Vec<ProjectSpec>,
    pub(crate) front: Option<FrontSpec>,
    pub(crate) sockets: Option<SocketSpec>,
    pub(crate) permissions: Vec<PermissionSpec>,
    /// The names of the buckets.
    pub(crate) buckets: Vec<String>,
    /// Managed policies, and the inline policies of functions and machines, by the logical id of their resource.
    pub(crate) policies: BTreeMap<String, Policy>,
    /// The roles of functions and machines, by logical id.
    pub(crate) roles: BTreeMap<String, Role>,
    pub(crate) outputs: BTreeMap<String, String>,
}

/// The role of a function or machine.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    /// The ARN that AWS's messages name the caller by.
    pub(crate) user_arn: String,
    /// The keys of its policies in [`Stack::policies`].
    pub(crate) policies: Vec<String>,
}

/// A Lambda function.
#[derive(Clone, Debug)]
pub(crate) struct FunctionSpec {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arn: String,
    /// The name of its binary, by which `cargo lambda` calls it.
    pub(crate) binary: Option<String>,
    pub(crate) timeout: Duration,
    pub(crate) memory_mb: u64,
    /// How often a failed asynchronous invocation is tried again.
    pub(crate) retries: usize,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) triggers: Vec<Trigger>,
}

/// A trigger of a function.
#[derive(Clone, Debug)]
pub(crate) enum Trigger {
    /// A route of the HTTP API: a method or `ANY`, and a path. The path `None` is `$default`.
    Http {
        method: String,
        path: Option<String>,
    },
    /// An event on the bus that matches.
    Event { name: String, pattern: Value },
    /// A schedule at an interval, with this input or the event that EventBridge makes.
    Schedule {
        name: String,
        every: Duration,
        input: Option<Value>,
    },
}

impl Stack {
    /// Reads a template. `given` are values of its parameters, instead of their defaults. `api_url` is the URL that its HTTP API will have, `aws_url` that of AWS's services.
    pub(crate) fn load(
        path: &Path,
        given: &BTreeMap<String, String>,
        api_url: &str,
        aws_url: &str,
    ) -> Result<Self, Error> {
        let text = read(path)?;
        let syntax = |message| Error::Syntax {
            path: path.to_owned(),
            message,
        };
        let document = yaml::parse(&text).map_err(syntax)?;
        let section = |name: &str| -> Result<Map<String, Value>, Error> {
            match document.get(name) {
                None => Ok(Map::new()),
                Some(section) => object(section, name).cloned(),
            }
        };
        for key in object(&document, "the document")?.keys() {
            let known = [
                "AWSTemplateFormatVersion",
                "Transform",
                "Description",
                "Metadata",
                "Parameters",
                "Rules",
            ]
            .iter()
            .chain(&["Conditions", "Globals", "Resources", "Outputs"])
            .any(|name| name == key);
            if !known {
                return Err(Error::template(
                    key,
                    "the local cloud does not know this section",
                ));
            }
        }
        let mut parameters = BTreeMap::new();
        for (name, parameter) in section("Parameters")? {
            let default = parameter.get("Default").cloned().ok_or_else(|| {
                Error::template(
                    format!("Parameters.{name}"),
                    "it needs a Default: the local cloud asks nobody for parameters",
                )
            })?;
            parameters.insert(name, default);
        }
        for (name, value) in given {
            if parameters
                .insert(name.clone(), value.clone().into())
                .is_none()
            {
                return Err(Error::template(
                    format!("Parameters.{name}"),
                    "there is no such parameter",
                ));
            }
        }
        let (conditions, resources) = (section("Conditions")?, section("Resources")?);
        let scope = Scope {
            parameters,
            conditions: &conditions,
            resources: &resources,
            api_url,
            aws_url,
        };
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut stack = Self::of_resources(&scope, &section("Globals")?, folder)?;
        for (name, output) in section("Outputs")? {
            let place = format!("Outputs.{name}.Value");
            let value = output
                .get("Value")
                .ok_or_else(|| Error::template(&place, "the value is missing"))?;
            stack.outputs.insert(name, scope.text(value, &place)?);
        }
        Ok(stack)
    }

    fn of_resources(
        scope: &Scope<'_>,
        globals: &Map<String, Value>,
        folder: &Path,
    ) -> Result<Self, Error> {
        if let Some(other) = globals.keys().find(|kind| *kind != "Function") {
            return Err(Error::template(
                format!("Globals.{other}"),
                "the local cloud only knows Function here",
            ));
        }
        let mut stack = Self {
            tables: Vec::new(),
            functions: Vec::new(),
            machines: Vec::new(),
            secrets: Vec::new(),
            projects: Vec::new(),
            front: None,
            sockets: None,
            permissions: Vec::new(),
            buckets: Vec::new(),
            policies: BTreeMap::new(),
            roles: BTreeMap::new(),
            outputs: BTreeMap::new(),
        };
        let mut sockets = SocketParts::default();
        for (id, resource) in scope.resources {
            let at = Resource::new(scope, id, resource)?;
            if !at.exists()? {
                continue;
            }
            match SocketParts::has(at.kind) {
                true => sockets.read(&at)?,
                false => stack.resource(&at, globals.get("Function"), folder)?,
            }
        }
        stack.sockets = sockets.finish()?;
        Ok(stack)
    }

    fn resource(
        &mut self,
        at: &Resource<'_>,
        function_globals: Option<&Value>,
        folder: &Path,
    ) -> Result<(), Error> {
        match at.kind {
            "AWS::DynamoDB::Table" => self.tables.push(Table::read(at)?),
            "AWS::Serverless::Function" => self.function(at, function_globals)?,
            "AWS::CloudFront::Distribution" => self.front = Some(FrontSpec::read(at)?),
            "AWS::Lambda::Permission" => self.permissions.push(PermissionSpec::read(at)?),
            "AWS::CodeBuild::Project" => self.projects.push(ProjectSpec::read(at)?),
            "AWS::SecretsManager::Secret" => self.secrets.push(SecretSpec::read(at)?),
            "AWS::S3::Bucket" => {
                at.only(&at.properties()?, &["BucketName"], &HARMLESS_OF_BUCKETS)?;
                self.buckets
                    .push(at.scope.name(at.id, &at.place("BucketName"))?);
            }
            "AWS::Serverless::StateMachine" => self.machine(at, folder)?,
            "AWS::IAM::ManagedPolicy" => {
                let properties = at.properties()?;
                let harmless = ["Description", "ManagedPolicyName", "Path"];
                at.only(&properties, &["PolicyDocument"], &harmless)?;
                let document = properties.get("PolicyDocument").unwrap_or(&Value::Null);
                let policy = Policy::read(document, &at.place("PolicyDocument"))?;
                self.policies.insert(at.id.to_owned(), policy);
            }
            "AWS::Serverless::HttpApi" => {
                at.only(&at.properties()?, &[], &HARMLESS_OF_HTTP_APIS)?;
            }
            kind if CLOUD_ONLY.contains(&kind) => {}
            kind => {
                let message = format!("the local cloud does not know resources of type {kind}");
                return Err(Error::template(at.place(""), message));
            }
        }
        Ok(())
    }

    /// Reads the `Policies` of a function or machine: managed ones by reference, inline ones.
    fn role(
        &mut self,
        at: &Resource<'_>,
        properties: &Map<String, Value>,
        session: &str,
    ) -> Result<(), Error> {
        let mut role = Role {
            user_arn: format!(
                "arn:aws:sts::{ACCOUNT}:assumed-role/{}-{}Role/{session}",
                STACK, at.id
            ),
            policies: Vec::new(),
        };
        let mut inline = Policy::default();
        let listed = properties
            .get("Policies")
            .cloned()
            .unwrap_or(Value::Array(Vec::new()));
        let listed = if listed.is_array() {
            listed
        } else {
            Value::Array(vec![listed])
        };
        for (index, policy) in listed.as_array().into_iter().flatten().enumerate() {
            let place = at.place(&format!("Policies[{index}]"));
            match policy {
                // AWS's own: logs and traces, which nobody calls here.
                Value::String(managed) if managed.starts_with("arn:aws:iam::aws:policy/") => {}
                Value::String(managed) => {
                    let ours = format!("arn:aws:iam::{ACCOUNT}:policy/{}-", STACK);
                    let key = managed.strip_prefix(&ours).ok_or_else(|| {
                        Error::template(
                            &place,
                            format!("the local cloud does not know the policy {managed}"),
                        )
                    })?;
                    role.policies.push(key.to_owned());
                }
                document => inline
                    .statements
                    .extend(Policy::read(document, &place)?.statements),
            }
        }
        if !inline.statements.is_empty() {
            role.policies.push(at.id.to_owned());
            self.policies.insert(at.id.to_owned(), inline);
        }
        self.roles.insert(at.id.to_owned(), role);
        Ok(())
    }
}

/// One resource of the template.
pub(crate) struct Resource<'a> {
    pub(crate) scope: &'a Scope<'a>,
    pub(crate) id: &'a str,
    pub(crate) kind: &'a str,
    resource: &'a Map<String, Value>,
}

impl<'a> Resource<'a> {
    fn new(scope: &'a Scope<'a>, id: &'a str, resource: &'a Value) -> Result<Self, Error> {
        let place = format!("Resources.{id}");
        let resource = object(resource, &place)?;
        let kind = resource.get("Type").and_then(Value::as_str);
        let kind = kind.ok_or_else(|| Error::template(place, "Type is missing"))?;
        Ok(Self {
            scope,
            id,
            kind,
            resource,
        })
    }

    /// The place of a property, for messages.
    pub(crate) fn place(&self, property: &str) -> String {
        match property {
            "" => format!("Resources.{}", self.id),
            property => format!("Resources.{}.Properties.{property}", self.id),
        }
    }

    fn exists(&self) -> Result<bool, Error> {
        match self.resource.get("Condition").and_then(Value::as_str) {
            Some(condition) => self.scope.condition(condition, &self.place("")),
            None => Ok(true),
        }
    }

    pub(crate) fn properties(&self) -> Result<Map<String, Value>, Error> {
        let given = self
            .resource
            .get("Properties")
            .cloned()
            .unwrap_or_else(|| Map::new().into());
        object(
            &self
                .scope
                .value(&given, &self.place("").replace("Properties.", ""))?,
            &self.place(""),
        )
        .cloned()
    }

    pub(crate) fn metadata(&self) -> Option<&Value> {
        self.resource.get("Metadata")
    }

    /// Refuses properties that are neither understood nor known to be harmless.
    pub(crate) fn only(
        &self,
        properties: &Map<String, Value>,
        understood: &[&str],
        harmless: &[&str],
    ) -> Result<(), Error> {
        match properties
            .keys()
            .find(|key| !understood.iter().chain(harmless).any(|known| known == key))
        {
            None => Ok(()),
            Some(key) => {
                let message = format!(
                    "the local cloud does not know this property of {}",
                    self.kind
                );
                Err(Error::template(self.place(key), message))
            }
        }
    }

    pub(crate) fn text<'p>(
        &self,
        properties: &'p Map<String, Value>,
        name: &str,
    ) -> Result<&'p str, Error> {
        let text = properties.get(name).and_then(Value::as_str);
        text.ok_or_else(|| Error::template(self.place(name), "must be a text"))
    }

    fn map(
        &self,
        properties: &Map<String, Value>,
        name: &str,
    ) -> Result<Map<String, Value>, Error> {
        properties.get(name).map_or_else(
            || Ok(Map::new()),
            |map| object(map, &self.place(name)).cloned(),
        )
    }
}

fn object<'v>(value: &'v Value, place: &str) -> Result<&'v Map<String, Value>, Error> {
    value
        .as_object()
        .ok_or_else(|| Error::template(place, "must be a map of names to values"))
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path)
        .map_err(|error| Error::io(format!("cannot read {}", path.display()), error))
}
