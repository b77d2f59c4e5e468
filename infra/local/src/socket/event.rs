//! The events that API Gateway makes of a connection and its messages.

use std::collections::BTreeMap;

use http::header::{HOST, USER_AGENT};
use http::request::Parts;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::http::query_pairs;
use crate::random;

/// What events tell of one connection.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// The id of the connection.
    pub(super) id: String,
    /// Milliseconds since the epoch.
    pub(super) connected_at: u64,
    /// The name that the client gives itself, which may be empty.
    pub(super) user_agent: String,
    /// The host and port that the API is served at.
    pub(super) domain: String,
    pub(super) api: String,
    pub(super) stage: String,
}

impl Facts {
    /// The event of a client that wants to connect.
    pub(super) fn connect(&self, parts: &Parts, now_ms: u64) -> Value {
        let mut event = json!({
            "requestContext": self.context("$connect", "CONNECT", now_ms),
            "isBase64Encoded": false,
        });
        let (one, all) = headers(parts);
        let mut query: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in query_pairs(parts.uri.query().unwrap_or_default()) {
            query.entry(name).or_default().push(value);
        }
        let last =
            |(name, values): (&String, &Vec<String>)| Some((name.clone(), values.last()?.clone()));
        let last: BTreeMap<String, String> = query.iter().filter_map(last).collect();
        add(&mut event, "headers", json!(one));
        add(&mut event, "multiValueHeaders", json!(all));
        if !query.is_empty() {
            add(&mut event, "queryStringParameters", json!(last));
            add(&mut event, "multiValueQueryStringParameters", json!(query));
        }
        event
    }

    /// The event of a message, and the id of its request.
    pub(super) fn message(&self, text: &str, now_ms: u64) -> (Value, String) {
        let mut context = self.context("$default", "MESSAGE", now_ms);
        let id = random::request_id();
        add(&mut context, "messageId", json!(id));
        add(&mut context, "requestId", json!(id));
        let event = json!({ "requestContext": context, "body": text, "isBase64Encoded": false });
        (event, id)
    }

    /// The event of a connection that is closed.
    pub(super) fn disconnect(&self, code: u16, reason: &str, now_ms: u64) -> Value {
        let mut context = self.context("$disconnect", "DISCONNECT", now_ms);
        add(&mut context, "disconnectStatusCode", json!(code));
        add(&mut context, "disconnectReason", json!(reason));
        let headers =
            json!({ "Host": self.domain, "x-api-key": "", "X-Forwarded-For": "", "x-restapi": "" });
        let all = headers.as_object().into_iter().flatten();
        let all: Map<String, Value> = all
            .map(|(name, value)| (name.clone(), json!([value])))
            .collect();
        json!({
            "headers": headers,
            "multiValueHeaders": all,
            "requestContext": context,
            "isBase64Encoded": false,
        })
    }

    fn context(&self, route: &str, kind: &str, now_ms: u64) -> Value {
        let id = random::request_id();
        let now = Timestamp::from_millisecond(i64::try_from(now_ms).unwrap_or(i64::MAX));
        let now = now.unwrap_or(Timestamp::MAX);
        json!({
            "routeKey": route,
            "eventType": kind,
            "extendedRequestId": id,
            "requestTime": now.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string(),
            "messageDirection": "IN",
            "stage": self.stage,
            "connectedAt": self.connected_at,
            "requestTimeEpoch": now_ms,
            "identity": { "userAgent": self.user_agent, "sourceIp": "127.0.0.1" },
            "requestId": id,
            "domainName": self.domain,
            "connectionId": self.id,
            "apiId": self.api,
        })
    }
}

fn add(event: &mut Value, name: &str, value: Value) {
    if let Some(event) = event.as_object_mut() {
        event.insert(name.to_owned(), value);
    }
}

/// The name that the client gives itself.
pub(super) fn user_agent(parts: &Parts) -> String {
    let name = parts.headers.get(USER_AGENT);
    name.map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned())
        .unwrap_or_default()
}

/// The last value of each header, and all of them. Their names are written as HTTP/1.1 writes them.
fn headers(parts: &Parts) -> (BTreeMap<String, String>, BTreeMap<String, Vec<String>>) {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in &parts.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        all.entry(capitalised(name.as_str()))
            .or_default()
            .push(value);
    }
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let port = host
        .and_then(|host| Some(host.rsplit_once(':')?.1))
        .unwrap_or("80");
    for (name, value) in [("For", "127.0.0.1"), ("Port", port), ("Proto", "http")] {
        all.insert(format!("X-Forwarded-{name}"), vec![value.to_owned()]);
    }
    let last =
        |(name, values): (&String, &Vec<String>)| Some((name.clone(), values.last()?.clone()));
    (all.iter().filter_map(last).collect(), all)
}

/// `sec-websocket-key` as `Sec-Websocket-Key`.
fn capitalised(name: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    name.split('-').map(word).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn facts() -> Facts {
        Facts {
            id: "abc=".to_owned(),
            connected_at: 1_583_348_638_000,
            user_agent: "test".to_owned(),
            domain: "127.0.0.1:3001".to_owned(),
            api: "api".to_owned(),
            stage: "live".to_owned(),
        }
    }

    fn without_ids(mut event: Value) -> Value {
        for name in ["requestId", "extendedRequestId"] {
            let id = event["requestContext"][name].take();
            assert_eq!(id.as_str().unwrap().len(), 36, "{name}");
        }
        event
    }

    fn context(route: &str, kind: &str) -> Value {
        json!({
            "routeKey": route, "eventType": kind, "extendedRequestId": null, "requestId": null,
            "requestTime": "04/Mar/2020:19:03:58 +0000", "requestTimeEpoch": 1_583_348_638_390_u64,
            "messageDirection": "IN", "stage": "live", "connectedAt": 1_583_348_638_000_u64,
            "identity": {"userAgent": "test", "sourceIp": "127.0.0.1"}, "domainName": "127.0.0.1:3001",
            "connectionId": "abc=", "apiId": "api",
        })
    }

    #[test]
    fn a_connect_is_what_api_gateway_would_make_of_the_request() {
        let request = Request::get("/?a=1&a=2%2C3&b=x+y")
            .header("Host", "127.0.0.1:3000")
            .header("sec-websocket-version", "13")
            .header("X-Two", "1")
            .header("X-Two", "2")
            .body(())
            .unwrap();
        let (parts, ()) = request.into_parts();
        let event = facts().connect(&parts, 1_583_348_638_390);
        assert_eq!(
            without_ids(event),
            json!({
                "headers": {
                    "Host": "127.0.0.1:3000", "Sec-Websocket-Version": "13", "X-Forwarded-For": "127.0.0.1",
                    "X-Forwarded-Port": "3000", "X-Forwarded-Proto": "http", "X-Two": "2",
                },
                "multiValueHeaders": {
                    "Host": ["127.0.0.1:3000"], "Sec-Websocket-Version": ["13"], "X-Forwarded-For": ["127.0.0.1"],
                    "X-Forwarded-Port": ["3000"], "X-Forwarded-Proto": ["http"], "X-Two": ["1", "2"],
                },
                "queryStringParameters": {"a": "2,3", "b": "x y"},
                "multiValueQueryStringParameters": {"a": ["1", "2,3"], "b": ["x y"]},
                "requestContext": context("$connect", "CONNECT"),
                "isBase64Encoded": false,
            })
        );
    }

    #[test]
    fn messages_and_closes_tell_what_they_are_of() {
        let (mut event, id) = facts().message("{}", 1_583_348_638_390);
        assert_eq!(event["requestContext"]["requestId"], id);
        assert_eq!(event["requestContext"]["messageId"].take(), id);
        let mut expected = context("$default", "MESSAGE");
        expected["messageId"] = Value::Null;
        let expected = json!({"requestContext": expected, "body": "{}", "isBase64Encoded": false});
        assert_eq!(without_ids(event), expected);

        let event = without_ids(facts().disconnect(1001, "Going away", 1_583_348_638_390));
        let mut expected = context("$disconnect", "DISCONNECT");
        expected["disconnectStatusCode"] = json!(1001);
        expected["disconnectReason"] = json!("Going away");
        assert_eq!(event["requestContext"], expected);
        assert_eq!(
            event["multiValueHeaders"]["Host"],
            json!(["127.0.0.1:3001"])
        );
    }
}
