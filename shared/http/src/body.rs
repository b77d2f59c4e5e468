//! What a request says: its body, its path, its idempotency key.

use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde::de::{DeserializeOwned, IgnoredAny};
use sha2::{Digest, Sha256};
use towpath_api_types::{Code, plain_words};
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
    let bytes = match bytes.trim_ascii() {
        b"" => b"{}",
        text => text,
    };
    let not_json = |error: serde_json::Error| {
        No::new(Code::InvalidJson, format!("the body is not JSON: {error}"))
    };
    serde_json::from_slice::<IgnoredAny>(bytes).map_err(not_json)?;
    if !bytes.starts_with(b"{") {
        return Err(No::new(
            Code::InvalidRequest,
            "the body must be a JSON object",
        ));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let message = plain_words(&error.into_inner().to_string());
        // The path of a missing field is that of what should have it; serde names it in its message.
        let missing = message
            .strip_prefix("missing field `")
            .and_then(|rest| rest.split('`').next());
        let field = match (path.as_str(), missing) {
            (".", None) => None,
            (".", Some(name)) => Some(name.to_owned()),
            (path, Some(name)) if !path.ends_with(name) => Some(format!("{path}.{name}")),
            (path, _) => Some(path.to_owned()),
        };
        let No(problem) = No::new(Code::InvalidRequest, message);
        No(match field {
            Some(field) => problem.at(field),
            None => problem,
        })
    })
}

/// Refuses a text that is longer than the records can hold, or that no command could be given.
pub(crate) fn fits(field: &str, text: &str, limit: usize) -> Result<(), No> {
    let message = if text.len() > limit {
        let length = text.len();
        format!("`{field}` is {length} bytes, and at most {limit} are kept")
    } else if text.contains('\0') {
        format!("`{field}` holds a NUL character, which no text may")
    } else {
        return Ok(());
    };
    let No(problem) = No::new(Code::InvalidRequest, message);
    Err(No(problem.at(field)))
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
    let hash = format!("{:x}", hash.finalize());
    Ok(Some(Idempotency {
        key: key.to_owned(),
        hash,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use towpath_api_types::{RequestChanges, StartRun};

    fn refused<T: DeserializeOwned>(text: &str) -> (Code, Option<String>) {
        let refused = parse::<T>(text.as_bytes());
        let No(problem) = refused.err().unwrap();
        (problem.code, problem.field)
    }

    #[test]
    fn what_is_not_json_is_told_from_what_is_the_wrong_json() {
        for text in ["{", "{} x", r#"{"blockId": 7,"#, "nonsense"] {
            assert_eq!(
                refused::<StartRun>(text),
                (Code::InvalidJson, None),
                "{text}"
            );
        }
        for text in ["[]", r#"["b", "p", true]"#, "7", "null"] {
            assert_eq!(refused::<StartRun>(text).0, Code::InvalidRequest, "{text}");
        }
    }

    #[test]
    fn the_field_that_is_wrong_or_missing_is_named() {
        let field = |text: &str| refused::<StartRun>(text).1.unwrap();
        assert_eq!(field(r#"{"blockId": 7}"#), "blockId");
        assert_eq!(field("{}"), "blockId");
        assert_eq!(field(r#"{"blockId": "b"}"#), "pipelineId");
        assert_eq!(
            field(r#"{"blockId": "b", "pipelineId": "p", "replce": true}"#),
            "replce"
        );
        let (_, nested) = refused::<RequestChanges>(r#"{"comments": [{}]}"#);
        assert_eq!(nested.unwrap(), "comments[0].body");
        let start: StartRun = parse(br#"{"blockId": "b", "pipelineId": "p"}"#)
            .ok()
            .unwrap();
        assert!(!start.replace);
    }

    #[test]
    fn a_text_too_long_for_the_records_is_refused_by_name() {
        assert!(fits("title", "short", 5).is_ok());
        let No(problem) = fits("title", "longer", 5).unwrap_err();
        assert_eq!(
            (problem.code, problem.field.as_deref()),
            (Code::InvalidRequest, Some("title"))
        );
    }
}
