//! What a function answers, as the HTTP response that API Gateway makes of it.

use axum::body::Body;
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::Value;

/// Headers that belong to the connection: a function cannot set them.
const HOP_BY_HOP: [HeaderName; 4] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The response of an answer. `None`: it is not one that API Gateway understands.
pub(crate) fn response(answer: &Value) -> Option<Response> {
    let Some(status) = answer.get("statusCode") else {
        // Format 2.0: anything without a status is a JSON body.
        let body = answer
            .as_str()
            .map_or_else(|| answer.to_string(), str::to_owned);
        let mut response = Response::new(Body::from(body));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        return Some(response);
    };
    let status = StatusCode::from_u16(u16::try_from(status.as_u64()?).ok()?).ok()?;
    let body = match answer.get("body") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) if answer.get("isBase64Encoded") == Some(&Value::Bool(true)) => {
            BASE64_STANDARD.decode(text).ok()?
        }
        Some(Value::String(text)) => text.clone().into_bytes(),
        Some(_) => return None,
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in answer
        .get("headers")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        if !HOP_BY_HOP.contains(&name) {
            headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).ok()?);
        }
    }
    for cookie in answer
        .get("cookies")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        headers.append(
            header::SET_COOKIE,
            HeaderValue::from_str(cookie.as_str()?).ok()?,
        );
    }
    // API Gateway's own choice where the function makes none.
    headers
        .entry(header::CONTENT_TYPE)
        .or_insert(HeaderValue::from_static("text/plain; charset=utf-8"));
    Some(response)
}

/// An answer of API Gateway itself.
pub(crate) fn message(status: StatusCode, message: &str) -> Response {
    json(status, &serde_json::json!({ "message": message }))
}

/// A refusal of the local cloud, in the form of the API's own.
pub(crate) fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    json(
        status,
        &serde_json::json!({ "code": code, "message": message }),
    )
}

/// An answer with a JSON body.
pub(crate) fn json(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::json;

    use super::*;

    async fn body(response: Response) -> Vec<u8> {
        response
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .to_vec()
    }

    #[tokio::test]
    async fn status_headers_cookies_and_body_arrive() {
        let answer = json!({
            "statusCode": 201, "headers": {"x-a": "1", "x-b": 2, "content-length": "7"},
            "cookies": ["a=1", "b=2; HttpOnly"], "body": "AAH/", "isBase64Encoded": true,
        });
        let response = response(&answer).unwrap();
        assert_eq!(response.status(), 201);
        assert_eq!(response.headers()["x-b"], "2");
        assert!(!response.headers().contains_key("content-length"));
        assert_eq!(response.headers().get_all("set-cookie").iter().count(), 2);
        assert_eq!(body(response).await, [0, 1, 255]);
    }

    #[tokio::test]
    async fn an_answer_without_a_status_is_a_body() {
        let response = response(&json!({"hello": "you"})).unwrap();
        assert_eq!(
            (response.status(), &response.headers()["content-type"]),
            (StatusCode::OK, &"application/json".parse().unwrap())
        );
        assert_eq!(body(response).await, b"{\"hello\":\"you\"}");
    }

    #[test]
    fn nonsense_is_no_response() {
        for answer in [
            json!({"statusCode": "200"}),
            json!({"statusCode": 1_000_000}),
            json!({"statusCode": 200, "body": {"a": 1}}),
            json!({"statusCode": 200, "body": "not base64!", "isBase64Encoded": true}),
            json!({"statusCode": 200, "headers": {"a b": "c"}}),
        ] {
            assert!(response(&answer).is_none(), "{answer}");
        }
    }
}
