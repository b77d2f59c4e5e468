//! A WebSocket API: which function each of its routes leads to, and under which stage it is served.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Resource, arn};
use crate::error::Error;

/// The routes that every WebSocket API knows, and the only ones here.
const ROUTES: [&str; 3] = ["$connect", "$disconnect", "$default"];

/// What stands around the ARN of a function in the URI of an integration.
const INTEGRATION: (&str, &str) = (":lambda:path/2015-03-31/functions/", "/invocations");

/// The WebSocket API of a template.
#[derive(Clone, Debug)]
pub(crate) struct SocketSpec {
    /// The id of the API.
    pub(crate) api: String,
    /// The name of its stage, which is the first segment of its paths.
    pub(crate) stage: String,
    /// The ARNs of the functions by the keys of their routes.
    pub(crate) routes: BTreeMap<String, String>,
}

impl SocketSpec {
    /// The host at which AWS serves the API.
    pub(crate) fn host(api: &str) -> String {
        format!("{api}.execute-api.{}.amazonaws.com", super::REGION)
    }

    /// The ARN of something of the stage, such as a route or a connection.
    pub(crate) fn arn(&self, rest: &str) -> String {
        arn(
            "execute-api",
            &format!("{}/{}/{rest}", self.api, self.stage),
        )
    }
}

/// The resources of a WebSocket API, as they are found in a template.
#[derive(Debug, Default)]
pub(super) struct SocketParts {
    apis: Vec<String>,
    /// The APIs of the stages, and the names of these.
    stages: Vec<(String, String)>,
    /// The ARNs of functions by the ids of their integrations.
    integrations: BTreeMap<String, String>,
    /// The keys of the routes, with the ids of their integrations.
    routes: Vec<(String, String)>,
}

impl SocketParts {
    /// Whether a resource is a part of a WebSocket API.
    pub(super) fn has(kind: &str) -> bool {
        kind.starts_with("AWS::ApiGatewayV2::")
    }

    /// Adds a resource.
    pub(super) fn read(&mut self, at: &Resource<'_>) -> Result<(), Error> {
        match at.kind {
            "AWS::ApiGatewayV2::Api" => self.api(at),
            "AWS::ApiGatewayV2::Stage" => self.stage(at),
            "AWS::ApiGatewayV2::Integration" => self.integration(at),
            "AWS::ApiGatewayV2::Route" => self.route(at),
            kind => {
                let message = format!("the local cloud does not know resources of type {kind}");
                Err(Error::template(at.place(""), message))
            }
        }
    }

    fn api(&mut self, at: &Resource<'_>) -> Result<(), Error> {
        let properties = at.properties()?;
        let understood = ["ProtocolType", "RouteSelectionExpression"];
        at.only(&properties, &understood, &["Name", "Description", "Tags"])?;
        if at.text(&properties, "ProtocolType")? != "WEBSOCKET" {
            let message =
                "the local cloud knows APIs of this kind with the protocol WEBSOCKET only";
            return Err(Error::template(at.place("ProtocolType"), message));
        }
        at.text(&properties, "RouteSelectionExpression")?;
        if !self.apis.is_empty() {
            let message = "the local cloud has one WebSocket API only";
            return Err(Error::template(at.place(""), message));
        }
        self.apis.push(at.scope.name(at.id, &at.place("Name"))?);
        Ok(())
    }

    fn stage(&mut self, at: &Resource<'_>) -> Result<(), Error> {
        let properties = at.properties()?;
        let harmless = [
            "AccessLogSettings",
            "DefaultRouteSettings",
            "Description",
            "Tags",
        ];
        at.only(
            &properties,
            &["ApiId", "StageName", "AutoDeploy"],
            &harmless,
        )?;
        // Without it, the stage serves what a deployment of its own says, or nothing.
        if properties.get("AutoDeploy") != Some(&Value::Bool(true)) {
            let message = "must be true: the local cloud knows no deployments";
            return Err(Error::template(at.place("AutoDeploy"), message));
        }
        let api = at.text(&properties, "ApiId")?.to_owned();
        let name = at.text(&properties, "StageName")?.to_owned();
        self.stages.push((api, name));
        Ok(())
    }

    fn integration(&mut self, at: &Resource<'_>) -> Result<(), Error> {
        let properties = at.properties()?;
        let understood = ["ApiId", "IntegrationType", "IntegrationUri"];
        at.only(&properties, &understood, &["Description"])?;
        if at.text(&properties, "IntegrationType")? != "AWS_PROXY" {
            let message = "the local cloud knows AWS_PROXY only";
            return Err(Error::template(at.place("IntegrationType"), message));
        }
        let uri = at.text(&properties, "IntegrationUri")?;
        let function = uri.split_once(INTEGRATION.0);
        let function = function.and_then(|(_, rest)| rest.strip_suffix(INTEGRATION.1));
        let function = function.ok_or_else(|| {
            let message = "must be the URI by which API Gateway invokes a function";
            Error::template(at.place("IntegrationUri"), message)
        })?;
        let id = at.scope.name(at.id, &at.place(""))?;
        self.integrations.insert(id, function.to_owned());
        Ok(())
    }

    fn route(&mut self, at: &Resource<'_>) -> Result<(), Error> {
        let properties = at.properties()?;
        let understood = ["ApiId", "RouteKey", "Target", "AuthorizationType"];
        at.only(&properties, &understood, &["OperationName"])?;
        let authorization = properties.get("AuthorizationType");
        if authorization.is_some_and(|kind| kind != "NONE") {
            let message = "the local cloud knows NONE only";
            return Err(Error::template(at.place("AuthorizationType"), message));
        }
        let key = at.text(&properties, "RouteKey")?;
        if !ROUTES.contains(&key) {
            let message = "the local cloud knows $connect, $disconnect and $default only";
            return Err(Error::template(at.place("RouteKey"), message));
        }
        let target = at.text(&properties, "Target")?;
        let integration = target.strip_prefix("integrations/").ok_or_else(|| {
            Error::template(
                at.place("Target"),
                "must be integrations/ and an integration",
            )
        })?;
        self.routes.push((key.to_owned(), integration.to_owned()));
        Ok(())
    }

    /// The API that the resources make, if there is one.
    pub(super) fn finish(mut self) -> Result<Option<SocketSpec>, Error> {
        let wrong = |message: String| Error::template("Resources", message);
        let Some(api) = self.apis.pop() else {
            return Ok(None);
        };
        let mut stages = self.stages.into_iter().filter(|(of, _)| *of == api);
        let (Some((_, stage)), None) = (stages.next(), stages.next()) else {
            return Err(wrong(format!("the API {api} needs exactly one stage")));
        };
        let mut routes = BTreeMap::new();
        for (key, integration) in self.routes {
            let function = self.integrations.get(&integration);
            let missing = || wrong(format!("the route {key} has no integration {integration}"));
            routes.insert(key.clone(), function.ok_or_else(missing)?.clone());
        }
        Ok(Some(SocketSpec { api, stage, routes }))
    }
}
