//! Functions that `cargo lambda watch` runs.

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use towpath_stepfunctions::InvokeError;

use super::failure;
use crate::error::Error;

/// The invoke endpoint of `cargo lambda watch`.
pub(crate) struct Remote {
    url: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Remote {
    pub(crate) fn new(url: &str) -> Result<Self, Error> {
        if !url.starts_with("http://") {
            let message = format!(
                "{url:?} is not the URL of a cargo lambda watch, like http://127.0.0.1:9000"
            );
            return Err(Error::Function {
                name: "all".to_owned(),
                message,
            });
        }
        let client = Client::builder(TokioExecutor::new()).build_http();
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            client,
        })
    }

    /// Invokes the function of this binary. It answers a function error with status 500 and Lambda's error document.
    pub(crate) async fn invoke(
        &self,
        binary: &str,
        payload: Vec<u8>,
    ) -> Result<Value, InvokeError> {
        let unreachable = |error: String| {
            failure(
                "Lambda.SdkClientException",
                &format!(
                    "cargo lambda watch at {} does not answer: {error}",
                    self.url
                ),
            )
        };
        let request = Request::post(format!(
            "{}/2015-03-31/functions/{binary}/invocations",
            self.url
        ))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(payload)))
        .map_err(|error| unreachable(error.to_string()))?;
        let answer = self
            .client
            .request(request)
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        let status = answer.status();
        let body = answer
            .into_body()
            .collect()
            .await
            .map_err(|error| unreachable(error.to_string()))?
            .to_bytes();
        let read: Option<Value> = serde_json::from_slice(&body).ok();
        match read {
            Some(answer) if status == StatusCode::OK => Ok(answer),
            Some(error) if error.get("errorType").is_some() => {
                let text = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
                Err(failure(text("errorType"), text("errorMessage")))
            }
            _ => {
                let text = String::from_utf8_lossy(&body);
                Err(failure(
                    "Lambda.ServiceException",
                    &format!("cargo lambda watch answered {status}: {text}"),
                ))
            }
        }
    }
}
