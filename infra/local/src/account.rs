//! The account that everything here is in: who calls, and how much there may be of what. What deploys asks for it.

use http::StatusCode;
use serde_json::{Value, json};

use crate::template::ACCOUNT;

/// The services that are known here, as requests are signed for them.
pub(crate) const SERVICES: [&str; 3] = ["sts", "lambda", "servicequotas"];

/// Answers a request that was signed for one of the services: the status and the body.
pub(crate) fn answer(service: &str, caller: &str, body: &str) -> (StatusCode, Value) {
    match service {
        "sts" if body.contains("Action=GetCallerIdentity") => {
            let arn = format!("arn:aws:sts::{ACCOUNT}:assumed-role/{caller}/local");
            let result = json!({ "Account": ACCOUNT, "Arn": arn, "UserId": caller });
            let response = json!({ "GetCallerIdentityResult": result });
            (
                StatusCode::OK,
                json!({ "GetCallerIdentityResponse": response }),
            )
        }
        "lambda" => {
            let limit =
                json!({ "ConcurrentExecutions": 1000, "UnreservedConcurrentExecutions": 1000 });
            (
                StatusCode::OK,
                json!({ "AccountLimit": limit, "AccountUsage": {} }),
            )
        }
        "servicequotas" => {
            let quota = |name: &str, code: &str, value: f64| json!({ "QuotaName": name, "QuotaCode": code, "Value": value });
            let asked = serde_json::from_str::<Value>(body).unwrap_or_default();
            let of = asked.get("ServiceCode").and_then(Value::as_str);
            let builds = "Concurrently running builds for Linux/Small environment";
            let quotas = match of {
                Some("codebuild") => vec![quota(builds, "L-9D07B6EF", 20.0)],
                _ => Vec::new(),
            };
            (StatusCode::OK, json!({ "Quotas": quotas }))
        }
        _ => {
            let message = format!("the local cloud does not know this operation of {service}");
            (
                StatusCode::BAD_REQUEST,
                json!({ "__type": "UnknownOperationException", "message": message }),
            )
        }
    }
}
