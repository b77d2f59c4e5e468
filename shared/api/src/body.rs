//! What a request says: its body, its path, its idempotency key.

use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use towpath_contracts::Code;
use towpath_store::Idempotency;

use crate::BODY_LIMIT;
use crate::problem::No;

/// A JSON body. An empty one is an empty object, for requests that need not say anything.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = No;

    async fn from_request(request: Request, state: &S) -> Result<Self, No> {
        let bytes = Bytes::from_request(request, state).await.map_err(unread)?;
        parse(&bytes).map(Self)
    }
}

fn unread(rejection: BytesRejection) -> No {
    if rejection.into_response().status() == StatusCode::PAYLOAD_TOO_LARGE {
        return No::new(
            Code::TooLarge,
            format!("the body is larger than {BODY_LIMIT} bytes"),
        );
    }
    No::new(Code::InvalidJson, "the body could not be read")
}

/// Parses a body: 400 for what is not JSON, 422 with the field for what is not the right JSON.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, No> {
    let bytes = if bytes.trim_ascii().is_empty() {
        b"{}"
    } else {
        bytes
    };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let field = error.path().to_string();
        let inner = error.into_inner();
        if inner.is_data() {
            let No(problem) = No::new(Code::InvalidRequest, inner.to_string());
            return No(if field == "." {
                problem
            } else {
                problem.at(field)
            });
        }
        No::new(Code::InvalidJson, format!("the body is not JSON: {inner}"))
    })?;
    deserializer
        .end()
        .map_err(|error| No::new(Code::InvalidJson, format!("the body is not JSON: {error}")))?;
    Ok(value)
}

/// An id from a path. What cannot be an id names nothing, so it is not found.
pub(crate) fn id<T: FromStr>(text: &str) -> Result<T, No>
where
    T::Err: std::fmt::Display,
{
    text.parse()
        .map_err(|error: T::Err| No::new(Code::NotFound, error.to_string()))
}

/// The `Idempotency-Key` of a request, with a hash of what is asked.
pub(crate) fn idempotency(
    headers: &HeaderMap,
    path: &str,
    body: &[u8],
) -> Result<Option<Idempotency>, No> {
    let Some(key) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let refused = || {
        let No(problem) = No::new(
            Code::InvalidRequest,
            "an Idempotency-Key is 1 to 128 visible ASCII characters",
        );
        No(problem.at("Idempotency-Key"))
    };
    let key = key.to_str().map_err(|_| refused())?;
    if !(1..=128).contains(&key.len()) || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(refused());
    }
    let mut hash = Sha256::new();
    hash.update(path.as_bytes());
    hash.update([0]);
    hash.update(body);
    let hash = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(Some(Idempotency {
        key: key.to_owned(),
        hash,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use towpath_contracts::StartRun;

    fn code(text: &str) -> (Code, Option<String>) {
        let No(problem) = parse::<StartRun>(text.as_bytes()).unwrap_err();
        (problem.code, problem.field)
    }

    #[test]
    fn bad_bodies_are_told_apart_and_name_the_field() {
        assert_eq!(code("{"), (Code::InvalidJson, None));
        assert_eq!(code("{} x").0, Code::InvalidRequest);
        assert_eq!(
            code(r#"{"blockId": 7}"#),
            (Code::InvalidRequest, Some("blockId".to_owned()))
        );
        assert_eq!(
            code(r#"{"blockId": "b", "pipelineId": "p", "replce": true}"#).0,
            Code::InvalidRequest
        );
        let start: StartRun = parse(br#"{"blockId": "b", "pipelineId": "p"}"#)
            .ok()
            .unwrap();
        assert!(!start.replace);
    }

    #[test]
    fn trailing_nonsense_is_not_json() {
        let No(problem) =
            parse::<StartRun>(br#"{"blockId": "b", "pipelineId": "p"} x"#).unwrap_err();
        assert_eq!(problem.code, Code::InvalidJson);
    }
}
