//! `executor-socket`: the sockets of executors. Invoked by the WebSocket API when one is opened, carries a message, or is
//! closed. Messages of one socket arrive side by side, in any order.

use std::collections::BTreeMap;

use lambda_runtime::LambdaEvent;
use serde::Deserialize;
use serde_json::{Value, json};
use towpath_service::{App, Error, ExecutorRefused, Reply};

/// What happened to a socket.
enum SocketEvent {
    /// An executor asks to be let in.
    Connect {
        executor: String,
        token: String,
        extensions: Option<String>,
    },
    /// The executor says something.
    Message(String),
    /// The socket is closed.
    Disconnect,
}

/// The part of the event that every route has, and what only some have.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Gateway {
    request_context: Context,
    #[serde(default)]
    headers: Option<BTreeMap<String, String>>,
    #[serde(default)]
    query_string_parameters: Option<BTreeMap<String, String>>,
    #[serde(default)]
    body: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Context {
    connection_id: String,
    event_type: EventType,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum EventType {
    Connect,
    Message,
    Disconnect,
}

/// Handles one event of a WebSocket connection: `$connect`, `$disconnect` or a message. Returns the answer for API Gateway,
/// which uses the status code of a `$connect` event only.
///
/// # Errors
/// If the records cannot be reached. A client whose message fails so is told by the gateway, and sends it again.
pub async fn handle(app: &App, event: LambdaEvent<Value>) -> Result<Value, Error> {
    let gateway: Gateway =
        serde_json::from_value(event.payload).map_err(|e| Error::BadEvent(e.to_string()))?;
    let connection = gateway.request_context.connection_id.clone();
    let status = match read(gateway) {
        SocketEvent::Connect {
            executor,
            token,
            extensions,
        } => {
            let registrar = &app.executors.registrar;
            let opened = registrar
                .connect(&connection, &executor, &token, extensions.as_deref())
                .await;
            match opened {
                Ok(()) => 200,
                Err(refused) => refusal(refused)?,
            }
        }
        SocketEvent::Message(text) => message(app, &connection, &text).await?,
        SocketEvent::Disconnect => {
            app.executors.registrar.disconnect(&connection).await?;
            200
        }
    };
    Ok(json!({ "statusCode": status }))
}

fn read(gateway: Gateway) -> SocketEvent {
    match gateway.request_context.event_type {
        EventType::Message => SocketEvent::Message(gateway.body.unwrap_or_default()),
        EventType::Disconnect => SocketEvent::Disconnect,
        EventType::Connect => {
            let mut query = gateway.query_string_parameters.unwrap_or_default();
            let header = gateway.headers.unwrap_or_default();
            let header = header
                .into_iter()
                .find(|(name, _)| name.eq_ignore_ascii_case("authorization"))
                .and_then(|(_, value)| towpath_auth::bearer(&value).map(str::to_owned));
            SocketEvent::Connect {
                executor: query.remove("executor").unwrap_or_default(),
                token: header.or(query.remove("token")).unwrap_or_default(),
                extensions: query.remove("extensions"),
            }
        }
    }
}

/// Takes a message, and answers it over the socket: the gateway hands no answer back.
async fn message(app: &App, connection: &str, text: &str) -> Result<u16, Error> {
    let executors = &app.executors;
    let executor = match executors.registrar.at(connection).await {
        Ok(executor) => executor,
        Err(refused) => {
            let status = refusal(refused)?;
            executors.registrar.hang_up(connection).await;
            return Ok(status);
        }
    };
    match executors.events.message(&executor, text).await? {
        Reply::Nothing => {}
        Reply::Ack(said) | Reply::Error(said) => executors.delivery.say(connection, &said).await,
    }
    Ok(200)
}

/// The status code of a refusal. What is no refusal is an error.
fn refusal(refused: ExecutorRefused) -> Result<u16, Error> {
    match refused {
        ExecutorRefused::Failed(error) => Err(error.into()),
        ExecutorRefused::Busy => Ok(503),
        ExecutorRefused::AnotherExecutor => Ok(403),
        _ => Ok(401),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn connect(more: Value) -> (String, String, Option<String>) {
        let mut event =
            json!({ "requestContext": { "connectionId": "c", "eventType": "CONNECT" } });
        for (name, value) in more.as_object().unwrap() {
            event
                .as_object_mut()
                .unwrap()
                .insert(name.clone(), value.clone());
        }
        match read(serde_json::from_value(event).unwrap()) {
            SocketEvent::Connect {
                executor,
                token,
                extensions,
            } => (executor, token, extensions),
            _ => panic!("it is the event of a client that connects"),
        }
    }

    #[test]
    fn a_token_comes_in_a_header_or_in_the_query_and_the_header_counts() {
        let query = json!({ "executor": "e", "token": "twx_q", "extensions": "towpath.1" });
        let (executor, token, extensions) = connect(json!({ "queryStringParameters": query }));
        assert_eq!((&*executor, &*token), ("e", "twx_q"));
        assert_eq!(extensions.as_deref(), Some("towpath.1"));
        for header in ["Authorization", "authorization"] {
            for scheme in ["Bearer", "bearer"] {
                let headers = json!({ header: format!("{scheme} twx_h") });
                let event = json!({ "headers": headers, "queryStringParameters": query });
                assert_eq!(connect(event).1, "twx_h");
            }
        }
    }

    #[test]
    fn whoever_says_nothing_has_no_token() {
        for event in [
            json!({}),
            json!({ "headers": null, "queryStringParameters": null }),
            json!({ "headers": { "Authorization": "Bearer" } }),
            json!({ "headers": { "Authorization": "é" } }),
            json!({ "headers": { "Authorization": "Basic abcdef" } }),
        ] {
            assert_eq!(connect(event), (String::new(), String::new(), None));
        }
    }
}
