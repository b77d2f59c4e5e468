//! CloudFormation's functions and references, resolved for a stack that exists only here.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::SocketSpec;
use crate::error::Error;

/// The account of everything here. No real account has this number.
pub(crate) const ACCOUNT: &str = "000000000000";
/// The region of everything here.
pub(crate) const REGION: &str = "us-east-1";
/// The stack's name.
pub(crate) const STACK: &str = "towpath";

/// The names and values that references in a template are resolved against.
pub(crate) struct Scope<'a> {
    pub(crate) parameters: BTreeMap<String, Value>,
    pub(crate) conditions: &'a Map<String, Value>,
    pub(crate) resources: &'a Map<String, Value>,
    /// The URL of the HTTP API.
    pub(crate) api_url: &'a str,
    /// The URL of AWS's services.
    pub(crate) aws_url: &'a str,
}

impl Scope<'_> {
    /// The value with every function worked out. `None` is `AWS::NoValue`: the property is not there.
    pub(crate) fn resolve(&self, value: &Value, place: &str) -> Result<Option<Value>, Error> {
        match value {
            Value::Object(map) => match single(map) {
                Some((name, argument)) if name == "Ref" || name.starts_with("Fn::") => {
                    self.call(name, argument, place)
                }
                _ => {
                    let mut resolved = Map::new();
                    for (key, value) in map {
                        if let Some(value) = self.resolve(value, &format!("{place}.{key}"))? {
                            resolved.insert(key.clone(), value);
                        }
                    }
                    Ok(Some(resolved.into()))
                }
            },
            Value::Array(items) => {
                let mut resolved = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    resolved.extend(self.resolve(item, &format!("{place}[{index}]"))?);
                }
                Ok(Some(resolved.into()))
            }
            plain => Ok(Some(plain.clone())),
        }
    }

    /// Resolves a value that must not be absent.
    pub(crate) fn value(&self, value: &Value, place: &str) -> Result<Value, Error> {
        self.resolve(value, place)?
            .ok_or_else(|| Error::template(place, "must have a value"))
    }

    /// The same where a text has to be. Numbers and booleans are taken as texts, as CloudFormation does.
    pub(crate) fn text(&self, value: &Value, place: &str) -> Result<String, Error> {
        as_text(&self.value(value, place)?).ok_or_else(|| Error::template(place, "must be a text"))
    }

    /// Whether a named condition holds.
    pub(crate) fn condition(&self, name: &str, place: &str) -> Result<bool, Error> {
        match self.conditions.get(name) {
            Some(condition) => self.truth(condition, &format!("Conditions.{name}")),
            None => Err(Error::template(
                place,
                format!("there is no condition {name}"),
            )),
        }
    }

    fn truth(&self, value: &Value, place: &str) -> Result<bool, Error> {
        let unknown =
            || Error::template(place, "this is not a condition the local cloud understands");
        let (name, argument) = value.as_object().and_then(single).ok_or_else(unknown)?;
        let list = || argument.as_array().ok_or_else(unknown);
        match name {
            "Condition" => self.condition(argument.as_str().ok_or_else(unknown)?, place),
            "Fn::Equals" => match list()?.as_slice() {
                [left, right] => Ok(self.text(left, place)? == self.text(right, place)?),
                _ => Err(unknown()),
            },
            "Fn::Not" => match list()?.as_slice() {
                [one] => Ok(!self.truth(one, place)?),
                _ => Err(unknown()),
            },
            "Fn::And" => {
                let all: Result<Vec<bool>, Error> =
                    list()?.iter().map(|one| self.truth(one, place)).collect();
                Ok(all?.into_iter().all(|holds| holds))
            }
            "Fn::Or" => {
                let all: Result<Vec<bool>, Error> =
                    list()?.iter().map(|one| self.truth(one, place)).collect();
                Ok(all?.into_iter().any(|holds| holds))
            }
            _ => Err(unknown()),
        }
    }

    fn call(&self, name: &str, argument: &Value, place: &str) -> Result<Option<Value>, Error> {
        let malformed = || Error::template(place, format!("{name} is not given what it takes"));
        let list = argument.as_array().map(Vec::as_slice).unwrap_or_default();
        match (name, argument, list) {
            ("Ref", Value::String(target), _) if target == "AWS::NoValue" => Ok(None),
            ("Ref", Value::String(target), _) => self.reference(target, place).map(Some),
            ("Fn::GetAtt", _, [Value::String(resource), Value::String(attribute)]) => self
                .attribute(resource, attribute, place)
                .map(|text| Some(text.into())),
            ("Fn::Sub", Value::String(text), _) => self.substitute(text, &Map::new(), place),
            ("Fn::Sub", _, [Value::String(text), Value::Object(names)]) => {
                self.substitute(text, names, place)
            }
            ("Fn::If", _, [Value::String(condition), yes, no]) => self.resolve(
                if self.condition(condition, place)? {
                    yes
                } else {
                    no
                },
                place,
            ),
            ("Fn::Join", _, [Value::String(separator), items]) => {
                let items = self.value(items, place)?;
                let texts: Option<Vec<String>> = items
                    .as_array()
                    .and_then(|all| all.iter().map(as_text).collect());
                Ok(Some(texts.ok_or_else(malformed)?.join(separator).into()))
            }
            ("Fn::Split", _, [Value::String(separator), text]) => {
                let text = self.text(text, place)?;
                Ok(Some(
                    text.split(separator.as_str())
                        .map(Value::from)
                        .collect::<Vec<_>>()
                        .into(),
                ))
            }
            ("Fn::Select", _, [index, items]) => {
                let index: usize = self.text(index, place)?.parse().map_err(|_| malformed())?;
                let items = self.value(items, place)?;
                items.get(index).cloned().map(Some).ok_or_else(malformed)
            }
            (
                "Ref" | "Fn::GetAtt" | "Fn::Sub" | "Fn::If" | "Fn::Join" | "Fn::Split"
                | "Fn::Select",
                ..,
            ) => Err(malformed()),
            _ => Err(Error::template(
                place,
                format!("the local cloud does not know {name}"),
            )),
        }
    }

    fn substitute(
        &self,
        text: &str,
        names: &Map<String, Value>,
        place: &str,
    ) -> Result<Option<Value>, Error> {
        let mut result = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}').ok_or_else(|| {
                Error::template(place, format!("a ${{ without its }} in {text:?}"))
            })?;
            result.push_str(before);
            if let Some(literal) = name.strip_prefix('!') {
                result.push_str(&format!("${{{literal}}}"));
            } else if let Some(value) = names.get(name) {
                result.push_str(&self.text(value, place)?);
            } else if let Some((resource, attribute)) = name.split_once('.') {
                result.push_str(&self.attribute(resource, attribute, place)?);
            } else {
                let value = self.reference(name, place)?;
                result.push_str(
                    &as_text(&value)
                        .ok_or_else(|| Error::template(place, format!("{name} is no text")))?,
                );
            }
            rest = after;
        }
        result.push_str(rest);
        Ok(Some(self.on_loopback(result).into()))
    }

    /// A text with the addresses that things have here: there is no TLS on loopback, and what AWS serves at a host of its
    /// own has a port here.
    fn on_loopback(&self, mut text: String) -> String {
        let host = |url: &str| url.strip_prefix("http://").unwrap_or(url).to_owned();
        let (api, aws) = (host(self.api_url), host(self.aws_url));
        for (secure, plain) in [("https", "http"), ("wss", "ws")] {
            text = text.replace(&format!("{secure}://{api}"), &format!("{plain}://{api}"));
            for (id, resource) in self.resources {
                if resource.get("Type") == Some(&Value::from("AWS::ApiGatewayV2::Api"))
                    && let Ok(name) = self.name(id, id)
                {
                    let theirs = format!("{secure}://{}", SocketSpec::host(&name));
                    text = text.replace(&theirs, &format!("{plain}://{aws}"));
                }
            }
        }
        text
    }

    fn reference(&self, name: &str, place: &str) -> Result<Value, Error> {
        let pseudo = match name {
            "AWS::AccountId" => Some(ACCOUNT.to_owned()),
            "AWS::Partition" => Some("aws".to_owned()),
            "AWS::Region" => Some(REGION.to_owned()),
            "AWS::StackId" => Some(arn("cloudformation", &format!("stack/{STACK}/local"))),
            "AWS::StackName" => Some(STACK.to_owned()),
            "AWS::URLSuffix" => Some("amazonaws.com".to_owned()),
            _ => None,
        };
        if let Some(text) = pseudo {
            return Ok(text.into());
        }
        if let Some(value) = self.parameters.get(name) {
            return Ok(value.clone());
        }
        let kind = self.kind(name, place)?;
        Ok(match kind {
            "AWS::Serverless::StateMachine"
            | "AWS::SecretsManager::Secret"
            | "AWS::SNS::Topic"
            | "AWS::IAM::ManagedPolicy" => self.attribute(name, "Arn", place)?,
            "AWS::SQS::Queue" => format!(
                "https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{}",
                self.name(name, place)?
            ),
            _ => self.name(name, place)?,
        }
        .into())
    }

    pub(super) fn attribute(
        &self,
        resource: &str,
        attribute: &str,
        place: &str,
    ) -> Result<String, Error> {
        // SAM makes a resource of a function's URL, and calls it after the function.
        if let ("FunctionUrl", Some(function)) = (attribute, resource.strip_suffix("Url"))
            && self.kind(function, place)? == "AWS::Serverless::Function"
        {
            return Ok(format!("https://{function}{}/", super::front::FUNCTION_URL));
        }
        let kind = self.kind(resource, place)?;
        let name = self.name(resource, place)?;
        let made = match (kind, attribute) {
            ("AWS::DynamoDB::Table", "Arn") => arn("dynamodb", &format!("table/{name}")),
            ("AWS::Serverless::Function", "Arn") => arn("lambda", &format!("function:{name}")),
            ("AWS::Serverless::StateMachine", "Arn") => {
                arn("states", &format!("stateMachine:{name}"))
            }
            ("AWS::Serverless::StateMachine", "Name") => name,
            ("AWS::Serverless::HttpApi", "ApiEndpoint") => self.api_url.to_owned(),
            ("AWS::CloudFront::Distribution", "DomainName") => {
                let (_, host) = self.api_url.split_once("://").unwrap_or(("", self.api_url));
                host.to_owned()
            }
            ("AWS::CloudFront::Distribution", "Arn") => {
                format!("arn:aws:cloudfront::{ACCOUNT}:distribution/{name}")
            }
            ("AWS::CloudFront::Function", "FunctionARN") => {
                format!("arn:aws:cloudfront::{ACCOUNT}:function/{name}")
            }
            ("AWS::CloudFront::OriginAccessControl", "Id") => name,
            ("AWS::S3::Bucket", "Arn") => format!("arn:aws:s3:::{name}"),
            ("AWS::SQS::Queue", "Arn") => arn("sqs", &name),
            ("AWS::SQS::Queue", "QueueName") => name,
            ("AWS::SNS::Topic", "Arn" | "TopicArn") => arn("sns", &name),
            ("AWS::SNS::Topic", "TopicName") => name,
            ("AWS::Logs::LogGroup", "Arn") => arn("logs", &format!("log-group:{name}:*")),
            ("AWS::CodeBuild::Project", "Arn") => arn("codebuild", &format!("project/{name}")),
            ("AWS::IAM::Role", "Arn") => format!("arn:aws:iam::{ACCOUNT}:role/{name}"),
            ("AWS::SecretsManager::Secret", "Arn" | "Id") => {
                arn("secretsmanager", &format!("secret:{name}"))
            }
            ("AWS::IAM::ManagedPolicy", "Arn" | "PolicyArn") => {
                format!("arn:aws:iam::{ACCOUNT}:policy/{name}")
            }
            _ => {
                let message = format!(
                    "the local cloud does not know the attribute {attribute} of {resource} ({kind})"
                );
                return Err(Error::template(place, message));
            }
        };
        Ok(made)
    }

    /// The type of a resource.
    fn kind(&self, resource: &str, place: &str) -> Result<&str, Error> {
        self.resources
            .get(resource)
            .and_then(|resource| resource.get("Type")?.as_str())
            .ok_or_else(|| {
                Error::template(
                    place,
                    format!("there is no parameter or resource {resource}"),
                )
            })
    }

    /// The physical name of a resource: the one the template gives it, or one made as CloudFormation makes them,
    /// without the random part.
    pub(crate) fn name(&self, resource: &str, place: &str) -> Result<String, Error> {
        let kind = self.kind(resource, place)?;
        let property = match kind {
            "AWS::DynamoDB::Table" => "TableName",
            "AWS::Serverless::Function" => "FunctionName",
            "AWS::Serverless::StateMachine" => "Name",
            "AWS::Logs::LogGroup" => "LogGroupName",
            "AWS::S3::Bucket" => "BucketName",
            "AWS::SQS::Queue" => "QueueName",
            "AWS::SecretsManager::Secret" | "AWS::CodeBuild::Project" => "Name",
            "AWS::ApiGatewayV2::Stage" => "StageName",
            _ => "",
        };
        match self
            .resources
            .get(resource)
            .and_then(|resource| resource.get("Properties")?.get(property))
        {
            Some(name) => self.text(name, &format!("Resources.{resource}.Properties.{property}")),
            // The names of buckets know no capital letters.
            None if kind == "AWS::S3::Bucket" => {
                Ok(format!("{STACK}-{resource}").to_ascii_lowercase())
            }
            None => Ok(format!("{STACK}-{resource}")),
        }
    }
}

/// An ARN of this stack's account and region.
pub(crate) fn arn(service: &str, rest: &str) -> String {
    format!("arn:aws:{service}:{REGION}:{ACCOUNT}:{rest}")
}

fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        _ => None,
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

    fn resolved(value: &Value) -> Result<Option<Value>, Error> {
        let resources = json!({
            "Runs": {"Type": "AWS::DynamoDB::Table", "Properties": {}},
            "Sockets": {"Type": "AWS::ApiGatewayV2::Api", "Properties": {"Name": "any"}},
            "Machine": {"Type": "AWS::Serverless::StateMachine", "Properties": {"Name": {"Fn::Sub": "${AWS::StackName}-run"}}},
        });
        let conditions = json!({"HasEmail": {"Fn::Not": [{"Fn::Equals": [{"Ref": "Email"}, ""]}]}});
        let scope = Scope {
            parameters: BTreeMap::from([("Email".to_owned(), json!(""))]),
            conditions: conditions.as_object().unwrap(),
            resources: resources.as_object().unwrap(),
            api_url: "http://127.0.0.1:1",
            aws_url: "http://127.0.0.1:2",
        };
        scope.resolve(value, "here")
    }

    #[test]
    fn references_name_the_same_things_everywhere() {
        let table = "arn:aws:dynamodb:us-east-1:000000000000:table/towpath-Runs";
        let machine = "arn:aws:states:us-east-1:000000000000:stateMachine:towpath-run";
        for (value, expected) in [
            (json!({"Ref": "Runs"}), json!("towpath-Runs")),
            (json!({"Fn::GetAtt": ["Runs", "Arn"]}), json!(table)),
            (
                json!({"Fn::Sub": "${Runs.Arn}/index/due"}),
                json!(format!("{table}/index/due")),
            ),
            (
                json!({"Fn::Sub": ["${x}-${!y}", {"x": {"Ref": "Runs"}}]}),
                json!("towpath-Runs-${y}"),
            ),
            (json!({"Ref": "Machine"}), json!(machine)),
            (
                json!({"Fn::Sub": "arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}:stateMachine:${AWS::StackName}-run"}),
                json!(machine),
            ),
            (
                json!({"Fn::Sub": "wss://${Sockets}.execute-api.${AWS::Region}.${AWS::URLSuffix}/live"}),
                json!("ws://127.0.0.1:2/live"),
            ),
            (
                json!({"Fn::Select": [1, {"Fn::Split": [":", "a:b"]}]}),
                json!("b"),
            ),
            (
                json!({"a": {"Fn::If": ["HasEmail", 1, {"Ref": "AWS::NoValue"}]}, "b": 2}),
                json!({"b": 2}),
            ),
        ] {
            assert_eq!(resolved(&value).unwrap(), Some(expected), "{value}");
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        for (value, named) in [
            (json!({"Ref": "Rnus"}), "Rnus"),
            (json!({"Fn::GetAtt": ["Runs", "Speed"]}), "Speed"),
            (json!({"Fn::If": ["HasFax", 1, 2]}), "HasFax"),
            (json!({"Fn::ImportValue": "x"}), "Fn::ImportValue"),
        ] {
            let message = resolved(&value).unwrap_err().to_string();
            assert!(
                message.contains(named) && message.contains("here"),
                "{message}"
            );
        }
    }
}
