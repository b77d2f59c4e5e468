//! The identity and the quotas of an AWS account, which a deployment asks for and no function does.

use std::fmt;

use aws_sdk_dynamodb::error::{ErrorMetadata, SdkError};
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError};
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::bucket::{Refused, Setup, hex};
use crate::json::{JsonService, Named};

/// An account in one region. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Account {
    identity: Operation<(), Value, Refused>,
    lambda: Operation<(), Value, Refused>,
    quotas: JsonService,
}

/// The reason an account could not be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountError(String);

impl fmt::Display for AccountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AccountError {}

/// A quota of a service, as it holds for the account.
#[derive(Clone, Debug, PartialEq)]
pub struct Quota {
    /// The name of the quota, in the service's words.
    pub name: String,
    /// The code by which more of it is asked for.
    pub code: String,
    /// The value of the quota for this account, in the unit that its name says.
    pub value: f64,
}

/// The identity that calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The number of the account.
    pub account: String,
    /// The ARN of the user or role.
    pub arn: String,
}

impl Account {
    pub(crate) fn new(endpoint: Option<&str>, setup: &Setup) -> Self {
        let identity = http::Request::post("/")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json");
        let asked = "Action=GetCallerIdentity&Version=2011-06-15";
        let lambda = http::Request::get("/2016-08-19/account-settings/");
        let quotas = Named {
            name: "Service Quotas",
            signed: "servicequotas",
            target: "ServiceQuotasV20190624",
        };
        Self {
            identity: operation("sts", endpoint, setup, identity, asked),
            lambda: operation("lambda", endpoint, setup, lambda, ""),
            quotas: JsonService::new(quotas, endpoint, setup),
        }
    }

    /// Whose the credentials are.
    ///
    /// # Errors
    /// If they are not accepted, or nothing answers.
    pub async fn identity(&self) -> Result<Identity, AccountError> {
        let answer = self
            .identity
            .invoke(())
            .await
            .map_err(|e| told("STS", &e))?;
        let result = "/GetCallerIdentityResponse/GetCallerIdentityResult";
        let word = |name: &str| {
            let word = answer.pointer(&format!("{result}/{name}"));
            word.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        Ok(Identity {
            account: word("Account"),
            arn: word("Arn"),
        })
    }

    /// The number of invocations that may run at once.
    ///
    /// # Errors
    /// If it may not be asked, or nothing answers.
    pub async fn concurrent_executions(&self) -> Result<u64, AccountError> {
        let answer = self
            .lambda
            .invoke(())
            .await
            .map_err(|e| told("Lambda", &e))?;
        let value = answer.pointer("/AccountLimit/ConcurrentExecutions");
        let none = || AccountError("Lambda's answer has no ConcurrentExecutions".to_owned());
        value.and_then(Value::as_u64).ok_or_else(none)
    }

    /// The quotas of a service.
    ///
    /// # Errors
    /// If they may not be asked for, or nothing answers.
    pub async fn quotas(&self, service: &str) -> Result<Vec<Quota>, AccountError> {
        let (mut all, mut next) = (Vec::new(), None::<String>);
        loop {
            let mut request = json!({ "ServiceCode": service, "MaxResults": 100 });
            if let (Some(request), Some(next)) = (request.as_object_mut(), next) {
                request.insert("NextToken".to_owned(), next.into());
            }
            let answer = self.quotas.call("ListServiceQuotas", request).await;
            let answer = answer.map_err(|e| told("Service Quotas", &e))?;
            let listed = answer.get("Quotas").and_then(Value::as_array);
            all.extend(listed.into_iter().flatten().filter_map(|quota| {
                Some(Quota {
                    name: quota.get("QuotaName")?.as_str()?.to_owned(),
                    code: quota.get("QuotaCode")?.as_str()?.to_owned(),
                    value: quota.get("Value")?.as_f64()?,
                })
            }));
            next = answer
                .get("NextToken")
                .and_then(Value::as_str)
                .map(str::to_owned);
            if next.is_none() {
                return Ok(all);
            }
        }
    }
}

/// One request of a service, always the same.
fn operation(
    service: &'static str,
    endpoint: Option<&str>,
    setup: &Setup,
    request: http::request::Builder,
    body: &'static str,
) -> Operation<(), Value, Refused> {
    let request = request
        .header(
            "x-amz-content-sha256",
            hex(&Sha256::digest(body.as_bytes())),
        )
        .body(());
    let made = move |()| -> Result<HttpRequest, BoxError> {
        let request = request.as_ref().map_err(ToString::to_string)?;
        let (parts, ()) = request.clone().into_parts();
        Ok(HttpRequest::try_from(http::Request::from_parts(
            parts,
            SdkBody::from(body),
        ))?)
    };
    setup
        .operation(service, service, endpoint)
        .serializer(made)
        .deserializer(|response: &HttpResponse| {
            let body = response.body().bytes().unwrap_or_default();
            let answer = serde_json::from_slice::<Value>(body).unwrap_or_default();
            if response.status().is_success() {
                return Ok(answer);
            }
            // Errors of STS are wrapped once more.
            let inner = answer.get("Error").unwrap_or(&answer);
            let word = |names: [&str; 3]| {
                let found = names.iter().find_map(|name| inner.get(name)?.as_str());
                found.map(str::to_owned)
            };
            let status = format!("Http{}", response.status().as_u16());
            let code = word(["Code", "__type", "Type"]).unwrap_or(status);
            let message = word(["Message", "message", "Reason"]);
            let meta = ErrorMetadata::builder()
                .code(code)
                .message(message.unwrap_or_else(|| "no reason given".to_owned()));
            Err(OrchestratorError::operation(Refused(meta.build())))
        })
        .build()
}

fn told(service: &str, error: &SdkError<Refused, HttpResponse>) -> AccountError {
    AccountError(match error.as_service_error() {
        Some(refused) => format!("{service}: {refused}"),
        None => format!("{service} did not answer"),
    })
}
