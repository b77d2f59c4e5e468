//! CloudFront: which paths of the public address lead to which origin, and what the front's function makes of a request.

use serde_json::Value;

use super::{Resource, SocketSpec};
use crate::error::Error;

/// A CloudFront distribution of the template, as far as the local cloud serves it.
#[derive(Clone, Debug)]
pub(crate) struct FrontSpec {
    /// The ARN of the distribution, as permissions name it.
    pub(crate) arn: String,
    /// The paths that lead elsewhere than to the HTTP API, in the order in which they are tried, and where they lead.
    pub(crate) origins: Vec<(String, Origin)>,
}

/// An origin besides the HTTP API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The URL of a function, by its logical id.
    Stream(String),
    /// The stage of the WebSocket API of this id, if it is the origin's path.
    Sockets {
        /// The id of the API.
        api: String,
        /// The path before every path: a `/` and the name of the stage.
        path: String,
    },
}

impl Origin {
    /// The origin that a description in the template is.
    fn read(described: &Value, at: &Resource<'_>) -> Option<Self> {
        let domain = described.get("DomainName")?.as_str()?;
        let path = described.get("OriginPath").and_then(Value::as_str);
        if let (Some(function), None) = (domain.strip_suffix(FUNCTION_URL), path) {
            return Some(Self::Stream(function.to_owned()));
        }
        let socket_api = |(id, resource): (&String, &Value)| {
            let is_one = resource.get("Type")? == "AWS::ApiGatewayV2::Api";
            let name = at.scope.name(id, id).ok().filter(|_| is_one)?;
            (domain == SocketSpec::host(&name)).then_some(name)
        };
        Some(Self::Sockets {
            api: at.scope.resources.iter().find_map(socket_api)?,
            path: path?.to_owned(),
        })
    }
}

/// A permission of a service to invoke a function.
#[derive(Clone, Debug)]
pub(crate) struct PermissionSpec {
    pub(crate) function: String,
    pub(crate) action: String,
    pub(crate) principal: String,
    pub(crate) source: Option<String>,
}

impl FrontSpec {
    pub(super) fn read(at: &Resource<'_>) -> Result<Self, Error> {
        let properties = at.properties()?;
        at.only(&properties, &["DistributionConfig"], &["Tags"])?;
        let config = at.map(&properties, "DistributionConfig")?;
        let wrong = |what: &str, message: &str| {
            Error::template(at.place(&format!("DistributionConfig.{what}")), message)
        };
        let understood = [
            "Origins",
            "DefaultCacheBehavior",
            "CacheBehaviors",
            "Enabled",
        ];
        let harmless = [
            "Comment",
            "HttpVersion",
            "IPV6Enabled",
            "PriceClass",
            "ViewerCertificate",
            "Aliases",
            "Logging",
        ];
        let known = |key: &&String| !understood.iter().chain(&harmless).any(|it| it == key);
        if let Some(key) = config.keys().find(known) {
            return Err(wrong(key, "the local cloud does not know this property"));
        }
        let list = |name: &str| config.get(name).and_then(Value::as_array).cloned();
        let origins = list("Origins").unwrap_or_default();
        let origin = |behavior: &Value| -> Option<Value> {
            let id = behavior.get("TargetOriginId")?;
            let origin = origins.iter().find(|origin| origin.get("Id") == Some(id));
            origin.cloned()
        };
        let default = config
            .get("DefaultCacheBehavior")
            .cloned()
            .unwrap_or_default();
        let is_api = |origin: Value| {
            let domain = origin.get("DomainName").and_then(Value::as_str);
            domain.is_some_and(|domain| domain.contains(".execute-api."))
                && Origin::read(&origin, at).is_none()
        };
        if !origin(&default).is_some_and(is_api) {
            let message = "the local cloud's default origin is the HTTP API";
            return Err(wrong("DefaultCacheBehavior", message));
        }
        if !has_function(&default) {
            let message =
                "a function on viewer-request is missing, which drops what only the front may say";
            return Err(wrong("DefaultCacheBehavior", message));
        }
        let mut lead = Vec::new();
        for behavior in list("CacheBehaviors").unwrap_or_default() {
            let pattern = behavior.get("PathPattern").and_then(Value::as_str);
            let target = origin(&behavior).and_then(|origin| Origin::read(&origin, at));
            match (pattern, target) {
                (Some(pattern), Some(target)) if has_function(&behavior) => {
                    lead.push((pattern.to_owned(), target));
                }
                _ => {
                    let message = "the local cloud knows behaviors of a PathPattern, with a function on viewer-request, whose origin is a function URL, or a WebSocket API with its stage as OriginPath";
                    return Err(wrong("CacheBehaviors", message));
                }
            }
        }
        Ok(Self {
            arn: at.scope.attribute(at.id, "Arn", &at.place(""))?,
            origins: lead,
        })
    }

    /// The origin that a path leads to, if it is not the HTTP API.
    pub(crate) fn origin(&self, path: &str) -> Option<&Origin> {
        let found = self
            .origins
            .iter()
            .find(|(pattern, _)| matches(pattern, path));
        found.map(|(_, origin)| origin)
    }
}

/// What the domain names of function URLs end with here, behind the logical id of their function.
pub(super) const FUNCTION_URL: &str = ".lambda-url.local";

/// Whether a function sees each request of a behavior first.
fn has_function(behavior: &Value) -> bool {
    let associations = behavior
        .get("FunctionAssociations")
        .and_then(Value::as_array);
    let mut associations = associations.into_iter().flatten();
    associations.any(|it| it.get("EventType") == Some(&Value::from("viewer-request")))
}

/// Whether a path fits a pattern, whose `*` stands for anything.
fn matches(pattern: &str, path: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = path.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in between {
        match rest.split_once(part) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    rest.ends_with(last)
}

impl PermissionSpec {
    pub(super) fn read(at: &Resource<'_>) -> Result<Self, Error> {
        let properties = at.properties()?;
        let understood = ["FunctionName", "Action", "Principal", "SourceArn"];
        let harmless = ["FunctionUrlAuthType", "InvokedViaFunctionUrl"];
        at.only(&properties, &understood, &harmless)?;
        let text = |name: &str| at.text(&properties, name).map(str::to_owned);
        Ok(Self {
            function: text("FunctionName")?,
            action: text("Action")?,
            principal: text("Principal")?,
            source: properties
                .get("SourceArn")
                .and_then(Value::as_str)
                .map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, path, fits) in [
            ("/runs/*/events/stream", "/runs/run_1/events/stream", true),
            ("/runs/*/events/stream", "/runs/a/b/events/stream", true),
            ("/runs/*/events/stream", "/runs/run_1/events", false),
            ("/runs/*/events/stream", "/x/runs/1/events/stream", false),
            ("/a", "/a", true),
            ("/a", "/ab", false),
            ("/a*", "/ab", true),
            ("*", "/", true),
        ] {
            assert_eq!(matches(pattern, path), fits, "{pattern} {path}");
        }
    }
}
