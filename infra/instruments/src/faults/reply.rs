//! What a request is for, and the answers that the services give when they refuse it.

use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};

use super::Fault;

type Reply = Result<HttpResponse, ConnectorError>;

const DYNAMODB: &str = "DynamoDB";
const STEP_FUNCTIONS: &str = "Step Functions";
const S3: &str = "S3";
const CODEBUILD: &str = "CodeBuild";
const EVENT_BRIDGE: &str = "EventBridge";
const ONGOING: &str = "Transaction is ongoing for the item";

/// The service and the operation that a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) service: &'static str,
    pub(super) operation: String,
    /// Whether it is a query of an index.
    pub(super) index_query: bool,
}

impl Target {
    /// Reads it from the request. `None`: a call that is never broken, such as one that makes a table.
    pub(super) fn of(request: &HttpRequest) -> Option<Self> {
        let Some(target) = request.headers().get("x-amz-target") else {
            return Self::of_object(request);
        };
        let (api, operation) = target.split_once('.')?;
        let service = match api {
            "DynamoDB_20120810" => DYNAMODB,
            "AWSStepFunctions" => STEP_FUNCTIONS,
            "CodeBuild_20161006" => CODEBUILD,
            "AWSEvents" => EVENT_BRIDGE,
            _ => return None,
        };
        let on_rows = is_write(operation)
            || matches!(
                operation,
                "GetItem"
                    | "Query"
                    | "Scan"
                    | "BatchGetItem"
                    | "BatchWriteItem"
                    | "TransactGetItems"
            );
        (service != DYNAMODB || on_rows).then(|| Self {
            service,
            operation: operation.to_owned(),
            index_query: operation == "Query" && body(request).get("IndexName").is_some(),
        })
    }

    /// The service and the operation of a request to S3, which has no header for them.
    fn of_object(request: &HttpRequest) -> Option<Self> {
        request.headers().get("x-amz-content-sha256")?;
        let operation = match request.method() {
            "PUT" => "PutObject",
            "GET" => "GetObject",
            _ => return None,
        };
        Some(Self {
            service: S3,
            operation: operation.to_owned(),
            index_query: false,
        })
    }

    /// The faults that can happen to it.
    pub(super) fn possible(&self) -> Vec<Fault> {
        let can = |fault: &Fault| match fault {
            Fault::Conflict => self.service == DYNAMODB && is_write(&self.operation),
            Fault::StaleRead => self.index_query,
            Fault::Throttle | Fault::LostReply | Fault::ServerError => true,
        };
        Fault::ALL.into_iter().filter(can).collect()
    }
}

fn is_write(operation: &str) -> bool {
    matches!(
        operation,
        "PutItem" | "UpdateItem" | "DeleteItem" | "TransactWriteItems"
    )
}

/// The request as JSON.
pub(super) fn body(request: &HttpRequest) -> Value {
    request
        .body()
        .bytes()
        .and_then(|bytes| serde_json::from_slice(bytes).ok())
        .unwrap_or_default()
}

/// Another transaction is at work, for a transaction on the action that `pick` hits.
pub(super) fn conflict(target: &Target, request: &HttpRequest, pick: u64) -> Reply {
    if target.operation != "TransactWriteItems" {
        return error(
            400,
            "TransactionConflictException",
            json!({ "message": ONGOING }),
        );
    }
    let actions = body(request)
        .get("TransactItems")
        .and_then(Value::as_array)
        .map_or(1, Vec::len)
        .max(1);
    let hit = usize::try_from(pick % u64::try_from(actions).unwrap_or(1)).unwrap_or_default();
    let code = |action: usize| {
        if action == hit {
            "TransactionConflict"
        } else {
            "None"
        }
    };
    let codes: Vec<_> = (0..actions).map(code).collect();
    let reasons: Vec<_> = codes
        .iter()
        .map(|code| match *code {
            "None" => json!({ "Code": code }),
            code => json!({ "Code": code, "Message": ONGOING }),
        })
        .collect();
    let message = format!(
        "Transaction cancelled, please refer cancellation reasons for specific reasons [{}]",
        codes.join(", ")
    );
    error(
        400,
        "TransactionCanceledException",
        json!({ "Message": message, "CancellationReasons": reasons }),
    )
}

/// Too many calls. DynamoDB has two words for it, and `pick` says which.
pub(super) fn throttle(target: &Target, pick: u64) -> Reply {
    if target.service == S3 {
        return xml_error(503, "SlowDown");
    }
    let code = if target.service == DYNAMODB && pick.is_multiple_of(2) {
        "ProvisionedThroughputExceededException"
    } else {
        "ThrottlingException"
    };
    error(
        400,
        code,
        json!({ "message": "injected: the rate of requests is too high" }),
    )
}

/// The service itself failed.
pub(super) fn server_error(target: &Target) -> Reply {
    if target.service == S3 {
        return xml_error(500, "InternalError");
    }
    error(
        500,
        "InternalServerError",
        json!({ "message": "injected: the service failed" }),
    )
}

fn error(status: u16, code: &str, mut fields: Value) -> Reply {
    if let Some(fields) = fields.as_object_mut() {
        fields.insert("__type".to_owned(), Value::from(code));
    }
    json_reply(status, fields.to_string().into_bytes())
}

fn xml_error(status: u16, code: &str) -> Reply {
    let body = format!("<Error><Code>{code}</Code><Message>injected</Message></Error>");
    reply(status, "application/xml", body.into_bytes())
}

/// An answer with this body.
pub(super) fn json_reply(status: u16, body: Vec<u8>) -> Reply {
    reply(status, "application/x-amz-json-1.0", body)
}

fn reply(status: u16, content_type: &str, body: Vec<u8>) -> Reply {
    let reply = http::Response::builder()
        .status(status)
        .header("content-type", content_type)
        .header("content-length", body.len())
        .body(SdkBody::from(body));
    let reply = reply.map_err(|error| ConnectorError::other(error.into(), None))?;
    HttpResponse::try_from(reply).map_err(|error| ConnectorError::other(error.into(), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &'static str, body: &Value) -> HttpRequest {
        let mut request = HttpRequest::new(SdkBody::from(body.to_string()));
        request.headers_mut().insert("x-amz-target", target);
        request
    }

    fn possible(target: &'static str, body: &Value) -> Vec<Fault> {
        Target::of(&request(target, body)).unwrap().possible()
    }

    #[test]
    fn each_call_meets_only_what_can_happen_to_it() {
        let always = vec![Fault::Throttle, Fault::LostReply, Fault::ServerError];
        assert_eq!(possible("DynamoDB_20120810.GetItem", &json!({})), always);
        assert_eq!(possible("DynamoDB_20120810.Query", &json!({})), always);
        assert_eq!(
            possible("AWSStepFunctions.SendTaskSuccess", &json!({})),
            always
        );
        assert!(possible("DynamoDB_20120810.PutItem", &json!({})).contains(&Fault::Conflict));
        assert!(
            possible("DynamoDB_20120810.Query", &json!({ "IndexName": "due" }))
                .contains(&Fault::StaleRead)
        );
    }

    #[test]
    fn putting_an_object_meets_what_s3_does() {
        let mut request = HttpRequest::new(SdkBody::from("text"));
        request.set_method("PUT").unwrap();
        assert_eq!(Target::of(&request), None);
        request
            .headers_mut()
            .insert("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
        let target = Target::of(&request).unwrap();
        assert_eq!(target.operation, "PutObject");
        let always = vec![Fault::Throttle, Fault::LostReply, Fault::ServerError];
        assert_eq!(target.possible(), always);
        assert_eq!(throttle(&target, 0).unwrap().status().as_u16(), 503);
        assert_eq!(server_error(&target).unwrap().status().as_u16(), 500);
    }

    #[test]
    fn the_making_of_tables_is_left_alone() {
        assert_eq!(
            Target::of(&request("DynamoDB_20120810.CreateTable", &json!({}))),
            None
        );
        assert_eq!(
            Target::of(&request("AmazonSQS.SendMessage", &json!({}))),
            None
        );
    }

    #[test]
    fn a_conflict_stands_at_one_action_of_the_transaction() {
        let request = request(
            "DynamoDB_20120810.TransactWriteItems",
            &json!({ "TransactItems": [{}, {}, {}] }),
        );
        let reply = conflict(&Target::of(&request).unwrap(), &request, 7).unwrap();
        assert_eq!(reply.status().as_u16(), 400);
        let body: Value = serde_json::from_slice(reply.body().bytes().unwrap()).unwrap();
        let codes: Vec<_> = body["CancellationReasons"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| &r["Code"])
            .collect();
        assert_eq!(codes, ["None", "TransactionConflict", "None"]);
    }
}
