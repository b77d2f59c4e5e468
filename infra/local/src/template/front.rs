//! CloudFront: which paths of the public address lead to which origin, and what the front's function makes of a request.

use serde_json::Value;

use super::Resource;
use crate::error::Error;

/// A CloudFront distribution of the template, as far as the local cloud serves it.
#[derive(Clone, Debug)]
pub(crate) struct FrontSpec {
    /// The ARN of the distribution, as permissions name it.
    pub(crate) arn: String,
    /// The paths that lead elsewhere than to the HTTP API, in the order in which they are tried, and to which function.
    pub(crate) streams: Vec<(String, String)>,
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
        let origin = |behavior: &Value| -> Option<String> {
            let id = behavior.get("TargetOriginId")?.as_str()?;
            let origin = origins.iter().find(|origin| origin["Id"] == id)?;
            Some(origin.get("DomainName")?.as_str()?.to_owned())
        };
        let default = config
            .get("DefaultCacheBehavior")
            .cloned()
            .unwrap_or_default();
        let api = origin(&default).is_some_and(|domain| domain.contains(".execute-api."));
        if !api {
            let message = "the local cloud's default origin is the HTTP API";
            return Err(wrong("DefaultCacheBehavior", message));
        }
        if !has_function(&default) {
            let message =
                "a function on viewer-request is missing, which drops what only the front may say";
            return Err(wrong("DefaultCacheBehavior", message));
        }
        let mut streams = Vec::new();
        for behavior in list("CacheBehaviors").unwrap_or_default() {
            let pattern = behavior.get("PathPattern").and_then(Value::as_str);
            let target = origin(&behavior);
            let target = target
                .as_deref()
                .and_then(|domain| domain.strip_suffix(FUNCTION_URL));
            match (pattern, target) {
                (Some(pattern), Some(target)) if has_function(&behavior) => {
                    streams.push((pattern.to_owned(), target.to_owned()));
                }
                _ => {
                    let message = "the local cloud knows behaviors of a PathPattern, with a function on viewer-request, whose origin is a function URL";
                    return Err(wrong("CacheBehaviors", message));
                }
            }
        }
        Ok(Self {
            arn: at.scope.attribute(at.id, "Arn", &at.place(""))?,
            streams,
        })
    }

    /// The function that a path leads to, if it is not the HTTP API.
    pub(crate) fn stream(&self, path: &str) -> Option<&str> {
        let found = self
            .streams
            .iter()
            .find(|(pattern, _)| matches(pattern, path));
        found.map(|(_, function)| function.as_str())
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
