//! The WebSocket API: connections and messages become API Gateway's events, and functions push.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // Clippy does not see that the helpers are tests, too.

mod support;

use std::sync::Arc;

use futures::StreamExt;
use http::{Request, StatusCode};
use serde_json::{Value, json};
use support::sockets::{
    Bench, SOCKETS, closed, connection, connections, dial, dial_with, heard, patiently, say,
};
use support::{failing, functions, options, send, toy};
use tokio::sync::Barrier;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use towpath_aws::{ConnectionsError, Posted};
use towpath_local::Cloud;

#[tokio::test]
async fn a_client_connects_speaks_and_goes() {
    let mut bench = Bench::new().await;
    let url = bench.cloud.output("Front").unwrap() + "e-1?token=twx_1&executor=e-2&extensions=a";
    let mut socket = dial_with(&url, &[("authorization", "Bearer twx_2")])
        .await
        .unwrap();
    let event = bench.next("CONNECT").await;
    let context = &event["requestContext"];
    let query = json!({"token": "twx_1", "extensions": "a", "executor": "e-1"});
    assert_eq!(event["queryStringParameters"], query);
    assert_eq!(
        event["multiValueQueryStringParameters"]["executor"],
        json!(["e-1"])
    );
    assert_eq!(event["headers"]["Authorization"], "Bearer twx_2");
    assert_eq!(
        event["multiValueHeaders"]["Sec-Websocket-Version"],
        json!(["13"])
    );
    assert_eq!(context["routeKey"], "$connect");
    assert_eq!(context["stage"], "live");
    assert_eq!(context["connectedAt"], 1_700_000_000_000_u64);
    let management = bench.cloud.output("Management").unwrap();
    let of_context = format!("http://{}/live", context["domainName"].as_str().unwrap());
    assert_eq!(management, of_context);
    let id = connection(&event);
    assert_eq!(id.len(), 16);

    say(&mut socket, "{\"event\":\"x\"}").await;
    let event = bench.next("MESSAGE").await;
    assert_eq!(event["body"], "{\"event\":\"x\"}");
    assert_eq!(event["isBase64Encoded"], false);
    assert_eq!(event["requestContext"]["routeKey"], "$default");
    assert_eq!(connection(&event), id);
    assert!(event.get("headers").is_none());

    let frame = CloseFrame {
        code: 4000.into(),
        reason: "enough".into(),
    };
    socket.close(Some(frame)).await.unwrap();
    let event = bench.next("DISCONNECT").await;
    assert_eq!(connection(&event), id);
    assert_eq!(event["requestContext"]["disconnectStatusCode"], 4000);
    assert_eq!(event["requestContext"]["disconnectReason"], "enough");
    // The close is answered, and what the function answered to the message went nowhere.
    assert_eq!(closed(&mut socket).await, (4000, "enough".to_owned()));
    assert!(patiently(socket.next()).await.is_none());
}

#[tokio::test]
async fn a_client_connects_without_the_front() {
    let mut bench = Bench::new().await;
    let url = bench.cloud.output("Direct").unwrap() + "e-1&token=twx_1";
    let mut socket = dial(&url).await.unwrap();
    let event = bench.next("CONNECT").await;
    let query = json!({"token": "twx_1", "executor": "e-1"});
    assert_eq!(event["queryStringParameters"], query);
    socket.close(None).await.unwrap();
    let event = bench.next("DISCONNECT").await;
    assert_eq!(event["requestContext"]["disconnectStatusCode"], 1005);
}

#[tokio::test]
async fn a_client_is_refused_with_the_status_of_the_function() {
    let answer = |event: Value| async move {
        match event["queryStringParameters"]["executor"].as_str() {
            Some("error") => Err(failing("Towpath.Unavailable")),
            Some("panic") => panic!("at the disco"),
            Some("nonsense") => Ok(json!("yes")),
            Some(status) => Ok(json!({ "statusCode": status.parse::<u16>().unwrap() })),
            None => Ok(json!({ "statusCode": 200 })),
        }
    };
    let mut bench = Bench::answering(answer).await;
    for (executor, expected) in [
        ("401", 401),
        ("403", 403),
        ("410", 410),
        ("500", 500),
        ("302", 302),
        ("error", 502),
        ("panic", 502),
        ("nonsense", 502),
    ] {
        let refused = bench
            .dial(executor)
            .await
            .err()
            .map(|status| status.as_u16());
        assert_eq!(refused, Some(expected), "{executor}");
        let refused = connection(&bench.next("CONNECT").await);
        let pushed = bench.connections("Socket").post(&refused, "x").await;
        assert_eq!(pushed.unwrap(), Posted::Gone);
    }
    // Nobody has connected, so nobody goes: the next to go is the first who was admitted.
    let mut socket = bench.dial("204").await.unwrap();
    let admitted = connection(&bench.next("CONNECT").await);
    socket.close(None).await.unwrap();
    assert_eq!(connection(&bench.next("DISCONNECT").await), admitted);
}

#[tokio::test]
async fn the_function_must_let_the_api_invoke_it() {
    for (right, wrong) in [
        (
            "Principal: apigateway.amazonaws.com",
            "Principal: events.amazonaws.com",
        ),
        ("${Sockets}/live/*\n  Push", "${Sockets}/test/*\n  Push"),
    ] {
        assert!(SOCKETS.contains(right));
        let template = SOCKETS.replace(right, wrong);
        let bench = Bench::of(&template, |_| async { Ok(json!({"statusCode": 200})) }).await;
        let refused = bench.dial("e-1").await.err();
        assert_eq!(refused, Some(StatusCode::INTERNAL_SERVER_ERROR), "{wrong}");
        assert_eq!(bench.cloud.counts().invocations, 0);
    }
}

#[tokio::test]
async fn a_function_chooses_a_subprotocol_and_no_other_header() {
    let answer = |_| async {
        let headers = json!({"Sec-WebSocket-Protocol": "towpath", "x-inside": "1"});
        Ok(json!({ "statusCode": 200, "headers": headers }))
    };
    let bench = Bench::answering(answer).await;
    let url = bench
        .cloud
        .output("Front")
        .unwrap()
        .replace("ws://", "http://")
        + "e-1";
    let request = Request::get(url)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", "other, towpath");
    let response = send(request.body(Vec::new()).unwrap()).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers();
    assert_eq!(headers["sec-websocket-protocol"], "towpath");
    // The example of RFC 6455.
    assert_eq!(
        headers["sec-websocket-accept"],
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
    assert!(!headers.contains_key("x-inside"));
}

#[tokio::test]
async fn messages_of_one_socket_are_handled_side_by_side() {
    // Each waits until all of them are being handled.
    let all = Arc::new(Barrier::new(5));
    let (tell, mut handled) = tokio::sync::mpsc::unbounded_channel();
    let answer = move |event: Value| {
        let (all, tell) = (Arc::clone(&all), tell.clone());
        async move {
            if event["requestContext"]["eventType"] == "MESSAGE" {
                all.wait().await;
                tell.send(event["body"].as_str().unwrap().to_owned())
                    .unwrap();
            }
            Ok(json!({ "statusCode": 200 }))
        }
    };
    let mut bench = Bench::answering(answer).await;
    let (mut socket, _) = bench.connected().await;
    for index in 0..5 {
        say(&mut socket, &index.to_string()).await;
    }
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push(patiently(handled.recv()).await.unwrap());
    }
    seen.sort();
    assert_eq!(seen, ["0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn a_client_is_told_that_its_message_failed() {
    let answer = |event: Value| async move {
        match event["requestContext"]["eventType"] == "MESSAGE" {
            true => Err(failing("Towpath.Secret")),
            false => Ok(json!({ "statusCode": 200 })),
        }
    };
    let mut bench = Bench::answering(answer).await;
    let (mut socket, id) = bench.connected().await;
    say(&mut socket, "x").await;
    let event = bench.next("MESSAGE").await;
    let told: Value = serde_json::from_str(&heard(&mut socket).await).unwrap();
    let request = &event["requestContext"]["requestId"];
    let expected =
        json!({"message": "Internal server error", "connectionId": id, "requestId": request});
    assert_eq!(told, expected);
}

#[tokio::test]
async fn functions_push_and_close() {
    let mut bench = Bench::new().await;
    let (mut socket, id) = bench.connected().await;
    let (mut other, _) = bench.connected().await;
    let connections = bench.connections("Socket");
    assert!(connections.is_open(&id).await.unwrap());
    let large = "x".repeat(128 * 1024);
    for text in ["{\"a\":1}", "", "ä", large.as_str()] {
        assert_eq!(connections.post(&id, text).await.unwrap(), Posted::Sent);
        assert_eq!(heard(&mut socket).await, text);
    }
    let too_large = connections.post(&id, &(large + "x")).await;
    assert!(
        matches!(too_large, Err(ConnectionsError::TooLarge)),
        "{too_large:?}"
    );

    // What was sent before arrives before the end.
    connections.post(&id, "the last").await.unwrap();
    connections.close(&id).await.unwrap();
    assert_eq!(connections.post(&id, "late").await.unwrap(), Posted::Gone);
    assert!(!connections.is_open(&id).await.unwrap());
    assert_eq!(heard(&mut socket).await, "the last");
    let normally = (1000, "Connection Closed Normally".to_owned());
    assert_eq!(closed(&mut socket).await, normally);
    let event = bench.next("DISCONNECT").await;
    assert_eq!(connection(&event), id);
    assert_eq!(event["requestContext"]["disconnectStatusCode"], 1000);
    connections.close(&id).await.unwrap();
    // Nobody else was meant.
    say(&mut other, "still here").await;
    assert_eq!(bench.next("MESSAGE").await["body"], "still here");
    assert_eq!(connections.post("never=", "x").await.unwrap(), Posted::Gone);
}

#[tokio::test]
async fn only_who_may_manage_connections_pushes() {
    let mut bench = Bench::new().await;
    let (mut socket, id) = bench.connected().await;
    let stranger = bench.connections("Stranger");
    let refused = stranger.post(&id, "x").await.unwrap_err();
    let ConnectionsError::Refused(message) = refused else {
        panic!("{refused:?}");
    };
    assert!(
        message.contains("is not authorized to perform: execute-api:ManageConnections"),
        "{message}"
    );
    assert!(
        message.contains(&format!("/live/POST/@connections/{id}")),
        "{message}"
    );
    assert!(stranger.close(&id).await.is_err());
    assert!(stranger.is_open(&id).await.is_err());
    assert_eq!(bench.cloud.refused().len(), 3);

    // Without a signature nothing is told, not even who is connected.
    let url = bench.cloud.output("Management").unwrap();
    let path = format!("{url}/@connections/{}", id.replace('=', "%3D"));
    for method in ["POST", "GET", "DELETE"] {
        let request = Request::builder().method(method).uri(&path);
        let answer = send(request.body(b"x".to_vec()).unwrap()).await;
        assert!(answer.status().is_client_error(), "{method}");
    }
    // Nothing of all that has reached the client.
    let connections = bench.connections("Socket");
    assert_eq!(
        connections.post(&id, "allowed").await.unwrap(),
        Posted::Sent
    );
    assert_eq!(heard(&mut socket).await, "allowed");
    let used = bench.cloud.statements_used();
    assert!(
        used.iter()
            .any(|it| it.policy == "Push" && it.identity == "Socket")
    );
    assert!(bench.cloud.remove_statement("Push", 0, None));
    assert!(connections.post(&id, "x").await.is_err());
}

#[tokio::test]
async fn a_restart_closes_all_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("template.yaml");
    std::fs::write(&template, SOCKETS).unwrap();
    let start = || {
        let admits = toy(|_| |_| async { Ok(json!({ "statusCode": 200 })) });
        let mut options = options(&template, functions([("Socket", admits)]));
        options.data = Some(folder.path().join("data"));
        Cloud::start(options)
    };
    let cloud = start().await.unwrap();
    let url = cloud.output("Direct").unwrap() + "e-1";
    let front = cloud.output("Front").unwrap();
    let mut ids = Vec::new();
    let mut sockets = vec![
        dial(&url).await.unwrap(),
        dial(&(front + "e-1")).await.unwrap(),
    ];
    for socket in &mut sockets {
        say(socket, "x").await;
    }
    ids.push("e0123456789abcd=");
    cloud.shutdown().await;
    for socket in &mut sockets {
        let end = patiently(socket.next()).await;
        assert!(
            matches!(end, None | Some(Err(_) | Ok(Message::Close(_)))),
            "{end:?}"
        );
    }
    let cloud = start().await.unwrap();
    let posted = connections(&cloud, "Socket").post(ids[0], "x").await;
    assert_eq!(posted.unwrap(), Posted::Gone);
}

#[tokio::test]
async fn what_a_socket_template_says_wrongly_is_named() {
    for (right, wrong, named) in [
        (
            "AutoDeploy: true",
            "AutoDeploy: false",
            "Resources.Stage.Properties.AutoDeploy",
        ),
        (
            "ProtocolType: WEBSOCKET",
            "ProtocolType: HTTP",
            "Resources.Sockets.Properties.ProtocolType",
        ),
        (
            "RouteKey: $default",
            "RouteKey: jump",
            "Resources.MessageRoute.Properties.RouteKey",
        ),
        (
            "AWS_PROXY",
            "HTTP_PROXY",
            "Resources.Integration.Properties.IntegrationType",
        ),
        (
            "/invocations",
            "/answers",
            "Resources.Integration.Properties.IntegrationUri",
        ),
        (
            "$connect, Target: !Sub 'integrations/${Integration}'",
            "$connect, Target: integrations/x",
            "$connect",
        ),
        (
            "StageName: live",
            "StageName: live, DeploymentId: x",
            "DeploymentId",
        ),
        (
            "ApiId: !Ref Sockets, StageName",
            "ApiId: other, StageName",
            "exactly one stage",
        ),
        (", OriginPath: /live", "", "CacheBehaviors"),
        (
            "Type: AWS::ApiGatewayV2::Stage",
            "Type: AWS::ApiGatewayV2::Model",
            "AWS::ApiGatewayV2::Model",
        ),
    ] {
        assert!(SOCKETS.contains(right), "{right}");
        let template = SOCKETS.replacen(right, wrong, 1);
        let error = support::cloud_of(&template, functions([])).await.err();
        let message = error.map_or("no error".to_owned(), |error| error.to_string());
        assert!(message.contains(named), "{wrong}: {message}");
    }
}
