//! A request as the event that API Gateway makes of it (HTTP API, payload format 2.0).

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::request::Parts;
use http::{HeaderMap, header};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::routes::{Found, decoded};
use crate::random;
use crate::template::ACCOUNT;

/// The event of a request that took a route.
pub(crate) fn event(parts: &Parts, body: &[u8], found: &Found, now_ms: u64) -> Value {
    let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
    let host = text(&parts.headers, header::HOST);
    let mut headers = joined(&parts.headers);
    let port = host
        .rsplit_once(':')
        .map_or("80", |(_, port)| port)
        .to_owned();
    for (name, value) in [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-port", &port),
        ("x-forwarded-proto", "http"),
    ] {
        headers.insert(name.to_owned(), value.to_owned());
    }
    let now = Timestamp::from_millisecond(i64::try_from(now_ms).unwrap_or(i64::MAX))
        .unwrap_or(Timestamp::MAX);
    let mut event = json!({
        "version": "2.0",
        "routeKey": found.key,
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": "local",
            "domainName": host,
            "domainPrefix": host.split(['.', ':']).next().unwrap_or_default(),
            "http": {
                "method": parts.method.as_str(),
                "path": path,
                "protocol": format!("{:?}", parts.version),
                "sourceIp": "127.0.0.1",
                "userAgent": text(&parts.headers, header::USER_AGENT),
            },
            "requestId": random::request_id(),
            "routeKey": found.key,
            "stage": "$default",
            "time": now.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string(),
            "timeEpoch": now_ms,
        },
        "isBase64Encoded": false,
    });
    if let Some(event) = event.as_object_mut() {
        complete(event, parts, body, found, query);
    }
    event
}

/// The members that are only there when there is something in them.
fn complete(
    event: &mut Map<String, Value>,
    parts: &Parts,
    body: &[u8],
    found: &Found,
    query: &str,
) {
    let cookies: Vec<Value> = parts
        .headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|line| {
            String::from_utf8_lossy(line.as_bytes())
                .split("; ")
                .map(Value::from)
                .collect::<Vec<_>>()
        })
        .collect();
    if !cookies.is_empty() {
        event.insert("cookies".to_owned(), cookies.into());
    }
    let mut parameters: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in query_pairs(query) {
        parameters
            .entry(name)
            .and_modify(|all| *all = format!("{all},{value}"))
            .or_insert(value);
    }
    if !parameters.is_empty() {
        event.insert("queryStringParameters".to_owned(), json!(parameters));
    }
    if !found.parameters.is_empty() {
        event.insert("pathParameters".to_owned(), json!(found.parameters));
    }
    if body.is_empty() {
        return;
    }
    match std::str::from_utf8(body)
        .ok()
        .filter(|_| is_text(&text(&parts.headers, header::CONTENT_TYPE)))
    {
        Some(text) => {
            event.insert("body".to_owned(), text.into());
        }
        None => {
            event.insert("body".to_owned(), BASE64_STANDARD.encode(body).into());
            event.insert("isBase64Encoded".to_owned(), true.into());
        }
    }
}

/// The parameters of a query, decoded, in their order.
pub(crate) fn query_pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let plain = |text: &str| decoded(&text.replace('+', " "));
        (plain(name), plain(value))
    })
}

/// Header names in lower case; several of one name joined by commas. Cookies have a place of their own.
fn joined(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| *name != header::COOKIE) {
        let value = String::from_utf8_lossy(value.as_bytes());
        all.entry(name.as_str().to_owned())
            .and_modify(|before| *before = format!("{before},{value}"))
            .or_insert_with(|| value.into_owned());
    }
    all
}

/// What API Gateway passes on as text; everything else, forms included, becomes base64.
fn is_text(content_type: &str) -> bool {
    let kind = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    kind.is_empty()
        || kind.starts_with("text/")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || [
            "application/json",
            "application/javascript",
            "application/xml",
        ]
        .contains(&kind.as_str())
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> String {
    headers
        .get(name)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn an_event_is_what_api_gateway_would_make_of_the_request() {
        let request = Request::post("/runs/r/decisions/d?a=1&a=2%2C3&b=x+y&c")
            .header("Host", "127.0.0.1:3000")
            .header("X-Many", "one")
            .header("X-Many", "two")
            .header("Cookie", "a=1; b=2")
            .header("User-Agent", "test")
            .header("Content-Type", "application/json; charset=utf-8")
            .body(())
            .unwrap();
        let found = Found {
            key: "POST /runs/{run}/decisions/{id}".to_owned(),
            target: "F".to_owned(),
            parameters: BTreeMap::from([
                ("run".to_owned(), "r".to_owned()),
                ("id".to_owned(), "d".to_owned()),
            ]),
        };
        let (parts, ()) = request.into_parts();
        let mut event = event(&parts, b"{\"ok\":1}", &found, 1_583_348_638_390);
        let id = event["requestContext"]["requestId"].take();
        assert_eq!(id.as_str().unwrap().len(), 36);
        assert_eq!(
            event,
            json!({
                "version": "2.0",
                "routeKey": "POST /runs/{run}/decisions/{id}",
                "rawPath": "/runs/r/decisions/d",
                "rawQueryString": "a=1&a=2%2C3&b=x+y&c",
                "cookies": ["a=1", "b=2"],
                "headers": {
                    "content-type": "application/json; charset=utf-8", "host": "127.0.0.1:3000", "user-agent": "test",
                    "x-forwarded-for": "127.0.0.1", "x-forwarded-port": "3000", "x-forwarded-proto": "http",
                    "x-many": "one,two",
                },
                "queryStringParameters": {"a": "1,2,3", "b": "x y", "c": ""},
                "pathParameters": {"run": "r", "id": "d"},
                "requestContext": {
                    "accountId": "000000000000", "apiId": "local", "domainName": "127.0.0.1:3000", "domainPrefix": "127",
                    "http": {
                        "method": "POST", "path": "/runs/r/decisions/d", "protocol": "HTTP/1.1",
                        "sourceIp": "127.0.0.1", "userAgent": "test",
                    },
                    "requestId": null, "routeKey": "POST /runs/{run}/decisions/{id}", "stage": "$default",
                    "time": "04/Mar/2020:19:03:58 +0000", "timeEpoch": 1_583_348_638_390_u64,
                },
                "body": "{\"ok\":1}",
                "isBase64Encoded": false,
            })
        );
        // And lambda_http reads it.
        assert!(serde_json::from_value::<lambda_http::request::LambdaRequest>(event).is_ok());
    }
}
