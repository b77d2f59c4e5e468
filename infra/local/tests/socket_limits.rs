//! The limits of sockets, and clients that mean no good.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // Clippy does not see that the helpers are tests, too.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::SinkExt;
use http::{Request, StatusCode};
use serde_json::{Value, json};
use support::send;
use support::sockets::{Bench, Ws, closed, connection, dial_with, heard, patiently, say};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use towpath_aws::{ConnectionsError, Posted};

const KB: usize = 1024;

/// Sends frames of these sizes as one message.
async fn in_frames(socket: &mut Ws, sizes: &[usize]) {
    for (index, size) in sizes.iter().enumerate() {
        let kind = if index == 0 {
            Data::Text
        } else {
            Data::Continue
        };
        let frame = Frame::message(
            vec![b'x'; *size],
            OpCode::Data(kind),
            index + 1 == sizes.len(),
        );
        // A server that has closed its end may take no more.
        let _ = socket.send(Message::Frame(frame)).await;
    }
}

async fn went(bench: &mut Bench) -> (u64, String) {
    let event = bench.next("DISCONNECT").await;
    let context = &event["requestContext"];
    let reason = context["disconnectReason"].as_str().unwrap().to_owned();
    (context["disconnectStatusCode"].as_u64().unwrap(), reason)
}

#[tokio::test]
async fn frames_and_messages_are_bounded() {
    let mut bench = Bench::new().await;
    let (mut socket, _) = bench.connected().await;
    for sizes in [vec![32 * KB], vec![32 * KB; 4], vec![0, 0, 1]] {
        in_frames(&mut socket, &sizes).await;
        let event = bench.next("MESSAGE").await;
        let expected: usize = sizes.iter().sum();
        assert_eq!(event["body"].as_str().unwrap().len(), expected);
    }
    drop(socket);
    assert_eq!(went(&mut bench).await.0, 1006);
    for sizes in [
        vec![32 * KB + 1],
        vec![1, 32 * KB + 1],
        vec![32 * KB, 32 * KB, 32 * KB, 32 * KB, 1],
        vec![500 * KB],
    ] {
        let (mut socket, id) = bench.connected().await;
        in_frames(&mut socket, &sizes).await;
        assert_eq!(closed(&mut socket).await.0, 1009, "{sizes:?}");
        assert_eq!(went(&mut bench).await.0, 1009, "{sizes:?}");
        let posted = bench.connections("Socket").post(&id, "x").await;
        assert_eq!(posted.unwrap(), Posted::Gone);
    }
    assert!(
        bench.told.is_empty(),
        "nothing of a message that is too large is handled"
    );
}

#[tokio::test]
async fn what_is_no_text_is_refused() {
    let mut bench = Bench::new().await;
    let text = |bytes: &'static [u8]| {
        Frame::message(Bytes::from_static(bytes), OpCode::Data(Data::Text), true)
    };
    for (message, code) in [
        (Message::binary(vec![1, 2, 3]), 1003),
        (Message::Frame(text(b"\xff\xfe")), 1007),
    ] {
        let (mut socket, _) = bench.connected().await;
        socket.send(message).await.unwrap();
        assert_eq!(closed(&mut socket).await.0, code);
        assert_eq!(went(&mut bench).await.0, u64::from(code));
    }
    // A frame that is not masked, with bits that nobody has agreed on.
    for frame in [&b"\x81\x01x"[..], b"\xf1\x81\0\0\0\0x"] {
        let (mut socket, _) = bench.connected().await;
        socket.get_mut().write_all(frame).await.unwrap();
        assert_eq!(closed(&mut socket).await.0, 1002, "{frame:?}");
        assert_eq!(went(&mut bench).await.0, 1002);
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_ten_minutes() {
    let mut bench = Bench::new().await;
    let (mut socket, id) = bench.connected().await;
    bench.minutes(9);
    say(&mut socket, "from the client").await;
    bench.next("MESSAGE").await;
    bench.minutes(9);
    let connections = bench.connections("Socket");
    assert_eq!(
        connections.post(&id, "to the client").await.unwrap(),
        Posted::Sent
    );
    assert_eq!(heard(&mut socket).await, "to the client");
    bench.minutes(9);
    // A ping is answered, but it is no message.
    socket
        .send(Message::Ping(Bytes::from_static(b"p")))
        .await
        .unwrap();
    let pong = patiently(futures::StreamExt::next(&mut socket)).await;
    assert_eq!(
        pong.unwrap().unwrap(),
        Message::Pong(Bytes::from_static(b"p"))
    );
    bench.minutes(1);
    let away = (1001, "Going away".to_owned());
    assert_eq!(closed(&mut socket).await, away);
    assert_eq!(went(&mut bench).await, (1001, away.1));
    assert_eq!(connections.post(&id, "x").await.unwrap(), Posted::Gone);
}

#[tokio::test]
async fn no_connection_outlives_two_hours() {
    let mut bench = Bench::new().await;
    let (mut socket, _) = bench.connected().await;
    for minute in 0..14 {
        bench.minutes(8);
        say(&mut socket, &minute.to_string()).await;
        assert_eq!(bench.next("MESSAGE").await["body"], minute.to_string());
    }
    // 112 minutes so far; the next eight are two hours.
    bench.minutes(7);
    say(&mut socket, "nearly").await;
    assert_eq!(bench.next("MESSAGE").await["body"], "nearly");
    bench.minutes(1);
    assert_eq!(closed(&mut socket).await.0, 1001);
    assert_eq!(went(&mut bench).await, (1001, "Going away".to_owned()));
}

#[tokio::test]
async fn a_connection_goes_once_whoever_closes_it() {
    const ROUNDS: usize = 40;

    let mut bench = Bench::new().await;
    let connections = bench.connections("Socket");
    let mut gone = BTreeMap::<String, u32>::new();
    let mut take = |event: &Value| {
        if event["requestContext"]["eventType"] == "DISCONNECT" {
            *gone.entry(connection(event)).or_default() += 1;
        }
        gone.len()
    };
    for round in 0..ROUNDS {
        let mut socket = bench.dial("e-1").await.unwrap();
        let id = loop {
            let event = patiently(bench.told.recv()).await.unwrap();
            take(&event);
            if event["requestContext"]["eventType"] == "CONNECT" {
                break connection(&event);
            }
        };
        // The client, a function, the idle time, and a client without a word, in every pair.
        let by_client = async {
            if round % 4 == 0 {
                drop(socket);
            } else {
                let _ = socket.close(None).await;
                let _ = patiently(futures::StreamExt::next(&mut socket)).await;
            }
        };
        let by_function = async {
            if round % 2 == 0 {
                connections.close(&id).await.unwrap();
            }
            if round % 3 == 0 {
                bench.clock.advance(Duration::from_secs(600));
            }
        };
        tokio::join!(by_client, by_function);
    }
    while take(&Value::Null) < ROUNDS {
        let event = patiently(bench.told.recv()).await.unwrap();
        take(&event);
    }
    // Whatever else was told until another connection came and went.
    let (mut socket, last) = {
        let socket = bench.dial("e-1").await.unwrap();
        let event = patiently(bench.told.recv()).await.unwrap();
        assert_eq!(event["requestContext"]["eventType"], "CONNECT");
        (socket, connection(&event))
    };
    socket.close(None).await.unwrap();
    let event = patiently(bench.told.recv()).await.unwrap();
    assert_eq!(connection(&event), last);
    assert!(gone.values().all(|times| *times == 1), "{gone:?}");
}

#[tokio::test]
async fn garbage_is_no_handshake() {
    let bench = Bench::new().await;
    let front = bench
        .cloud
        .output("Front")
        .unwrap()
        .replace("ws://", "http://")
        + "e-1";
    let direct = bench
        .cloud
        .output("Direct")
        .unwrap()
        .replace("ws://", "http://")
        + "e-1";
    const RIGHT: [(&str, &str); 4] = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    for url in [&front, &direct] {
        for (name, value) in [
            ("connection", "close"),
            ("upgrade", "h2c"),
            ("sec-websocket-version", "8"),
            ("sec-websocket-key", "short"),
            ("sec-websocket-key", ""),
        ] {
            let mut request = Request::get(url);
            for (right, of_right) in RIGHT {
                request = request.header(right, if right == name { value } else { of_right });
            }
            let answer = send(request.body(Vec::new()).unwrap()).await;
            assert_eq!(
                answer.status(),
                StatusCode::BAD_REQUEST,
                "{url} {name}: {value}"
            );
        }
    }
    let plain = send(Request::get(&front).body(Vec::new()).unwrap()).await;
    assert_eq!(plain.status(), StatusCode::UPGRADE_REQUIRED);
    let posted = send(Request::post(&front).body(Vec::new()).unwrap()).await;
    assert_eq!(posted.status(), StatusCode::FORBIDDEN);
    for id in ["", "a/b", "a%26executor=b", "%00"] {
        let refused = bench.dial(id).await.err();
        assert_eq!(refused, Some(StatusCode::NOT_FOUND), "{id}");
    }
    // A page of another site, whose script would have the user's loopback.
    for url in [bench.cloud.output("Front"), bench.cloud.output("Direct")] {
        let url = url.unwrap() + "e-1";
        let refused = dial_with(&url, &[("origin", "http://evil.example")])
            .await
            .err();
        assert_eq!(refused, Some(StatusCode::FORBIDDEN), "{url}");
    }
    assert_eq!(bench.cloud.counts().invocations, 0);
}

#[tokio::test]
async fn a_client_that_goes_while_it_is_admitted_is_told_of_as_gone() {
    let (asked, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&asked), Arc::clone(&go_on));
    let answer = move |event: Value| {
        let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
        async move {
            if event["requestContext"]["eventType"] == "CONNECT" {
                tell.notify_one();
                wait.notified().await;
            }
            Ok(json!({ "statusCode": 200 }))
        }
    };
    let mut bench = Bench::answering(answer).await;
    let front = bench.cloud.url().replace("http://", "");
    let mut stream = TcpStream::connect(&front).await.unwrap();
    let head = format!(
        "GET /ws/executors/e-1 HTTP/1.1\r\nHost: {front}\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    patiently(asked.notified()).await;
    drop(stream);
    go_on.notify_one();
    let id = connection(&bench.next("CONNECT").await);
    let event = bench.next("DISCONNECT").await;
    assert_eq!(connection(&event), id);
    assert_eq!(event["requestContext"]["disconnectStatusCode"], 1006);
    let posted = bench.connections("Socket").post(&id, "x").await;
    assert_eq!(posted.unwrap(), Posted::Gone);
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_a_burden_to_nobody() {
    let mut bench = Bench::new().await;
    let (mut deaf, id) = bench.connected().await;
    let (mut other, other_id) = bench.connected().await;
    let connections = bench.connections("Socket");
    let large = "x".repeat(128 * KB);
    let full = loop {
        match connections.post(&id, &large).await {
            Ok(Posted::Sent) => {}
            other => break other,
        }
    };
    let Err(ConnectionsError::Unavailable(message)) = full else {
        panic!("{full:?}");
    };
    assert!(message.contains("LimitExceededException"), "{message}");
    assert_eq!(
        connections.post(&other_id, "y").await.unwrap(),
        Posted::Sent
    );
    assert_eq!(heard(&mut other).await, "y");
    // It is heard all the same, and when it is closed it cannot hold on to its connection.
    say(&mut deaf, "x").await;
    bench.next("MESSAGE").await;
    connections.close(&id).await.unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    let event = bench.told.recv().await.unwrap();
    tokio::time::resume();
    assert_eq!(connection(&event), id);
    assert_eq!(event["requestContext"]["disconnectStatusCode"], 1000);
}

#[tokio::test]
async fn a_thousand_clients_come_and_go() {
    let mut bench = Bench::new().await;
    let mut came = BTreeMap::new();
    for _ in 0..10 {
        let dials = (0..100).map(|_| bench.dial("e-1"));
        let sockets = futures::future::join_all(dials).await;
        // Half of them say goodbye.
        for (index, socket) in sockets.into_iter().enumerate() {
            let mut socket = socket.unwrap();
            if index % 2 == 0 {
                socket.close(None).await.unwrap();
            }
        }
    }
    while came.len() < 1000 || came.values().any(|events: &Vec<String>| events.len() < 2) {
        let event = patiently(bench.told.recv()).await.unwrap();
        let kind = event["requestContext"]["eventType"]
            .as_str()
            .unwrap()
            .to_owned();
        came.entry(connection(&event))
            .or_insert_with(Vec::new)
            .push(kind);
    }
    assert!(
        came.values()
            .all(|events| *events == ["CONNECT", "DISCONNECT"])
    );
    assert_eq!(bench.cloud.counts().invocations, 2000);
    // Handshakes that are never finished hold nothing either.
    let front = bench.cloud.url().replace("http://", "");
    let mut halves = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(&front).await.unwrap();
        stream
            .write_all(b"GET /ws/executors/e-1 HTTP/1.1\r\nUpgrade: ")
            .await
            .unwrap();
        halves.push(stream);
    }
    let (mut socket, _) = bench.connected().await;
    say(&mut socket, "served").await;
    assert_eq!(bench.next("MESSAGE").await["body"], "served");
    let mut answer = [0];
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    assert_eq!(halves[0].read(&mut answer).await.unwrap_or(0), 0);
}
