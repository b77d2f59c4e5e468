//! Answers, and what is no answer.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpListener;
use towpath_clock::Clock;
use towpath_engine::{FailureKind, Usage};
use towpath_jobs::{Runtime, StartError, Started, Work};
use towpath_jobs_model::{Base, ModelRuntime};

use crate::server::{
    Play, Script, Server, event, finish, head, json_whole, piece, stream_head, streamed, whole,
};
use crate::{KEY, WHOLE, answer, failure, model, records, request, start};

fn used() -> Usage {
    Usage {
        prompt_tokens: 11,
        completion_tokens: 5,
        cached_tokens: 4,
        ..Usage::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_streamed_answer_is_the_output_with_what_it_used() {
    let server = Server::playing([streamed(&["Hel", "lo ", "wörld"])]);
    let answer = answer(&server).await;
    assert_eq!(answer.output, "Hello wörld");
    assert_eq!(answer.model.as_deref(), Some("large-1"));
    assert_eq!(answer.usage(), Some(used()));
    server.look(0, |seen| {
        assert!(
            seen.head
                .starts_with("POST /v1/chat/completions HTTP/1.1\r\n"),
            "{}",
            seen.head
        );
        assert!(seen.head.contains("host: gateway.example.com\r\n"));
        assert!(
            seen.head
                .contains(&format!("authorization: Bearer {KEY}\r\n"))
        );
        assert_eq!(seen.body["model"], "large");
        assert_eq!(seen.body["stream"], true);
        assert_eq!(seen.body["messages"][1]["content"], "Say hello.");
    });
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_stream_is_understood_too() {
    let body = json!({"model": "large-1", "choices": [{"index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content": "Hello"}}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}});
    let answer = answer(&Server::playing([json_whole("200 OK", &body)])).await;
    assert_eq!(
        (answer.output.as_str(), answer.usage()),
        ("Hello", Some(used()))
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_taken_to_the_letter_even_where_it_looks_like_an_agents() {
    let text = r#"{"decision": {"question": "Which?", "options": ["a"]}}"#;
    let answer = answer(&Server::playing([streamed(&[text])])).await;
    assert_eq!((answer.output.as_str(), &answer.decision), (text, &None));
}

#[tokio::test(start_paused = true)]
async fn where_the_usage_is_missing_that_is_said() {
    let script = vec![
        stream_head(),
        piece("Hello"),
        event(
            &json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": null}),
        ),
        Play::Raw(b"0\r\n\r\n".to_vec()),
    ];
    let answer = answer(&Server::playing([script])).await;
    let unknown = Usage {
        unmetered_calls: 1,
        ..Usage::default()
    };
    assert_eq!(
        (answer.output.as_str(), answer.usage()),
        ("Hello", Some(unknown))
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_cut_or_held_back_is_a_failure_and_never_a_shorter_text() {
    for (reason, says) in [
        ("length", "maxTokens"),
        ("content_filter", "content filter"),
    ] {
        let script: Script = [vec![stream_head(), piece("Hel")], finish(reason)].concat();
        let server = Server::playing([script]);
        let failure = failure(&server).await;
        assert_eq!((failure.kind, server.calls()), (FailureKind::Agent, 1));
        assert!(failure.message.contains(says), "{}", failure.message);
        // A gateway tells what was used after the reason; it was used all the same.
        assert_eq!(failure.usage, Some(used()));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_answer_is_a_failure_at_once() {
    let json = "content-type: application/json\r\n";
    let html = "content-type: text/html; charset=utf-8\r\n";
    let chunk = |bytes: &[u8]| vec![stream_head(), Play::Chunk(bytes.to_vec()), Play::Hang];
    for (script, says) in [
        (whole("200 OK", html, "<p>Log in</p>"), "text/html"),
        (whole("200 OK", "", "hello"), "no type"),
        (whole("200 OK", json, "{\"choices\""), "chat completions"),
        (whole("200 OK", json, "{}"), "choices"),
        (chunk(b"data: {\"choices\"\n\n"), "chat completions"),
        (chunk(b"data: \xff\xfe\n\n"), "UTF-8"),
        (streamed(&[]), "empty"),
    ] {
        let server = Server::playing([script]);
        let failure = failure(&server).await;
        assert_eq!((failure.kind, server.calls()), (FailureKind::Agent, 1));
        assert!(failure.message.contains(says), "{}", failure.message);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_is_not_read_to_its_end() {
    let kilobytes = |text: &str| text.repeat(64 * 1024).into_bytes();
    let json = "content-type: application/json\r\n";
    let words = json!({"choices": [{"index": 0, "delta": {"content": "x".repeat(60_000)}}]});
    for (begin, endless, says) in [
        (head("200 OK", json), kilobytes(" "), "too long"),
        (stream_head(), kilobytes("x"), "longer than"),
        (stream_head(), kilobytes(": \n"), "too long"),
        (
            stream_head(),
            format!("data: {words}\n\n").into_bytes(),
            "longer than",
        ),
    ] {
        let server = Server::playing([vec![begin, Play::Endless(endless)]]);
        let failure = failure(&server).await;
        assert_eq!((failure.kind, server.calls()), (FailureKind::Agent, 1));
        assert!(failure.message.contains(says), "{}", failure.message);
    }
}

#[tokio::test(start_paused = true)]
async fn a_redirect_is_refused_and_not_followed() {
    let moved = "location: https://elsewhere.example.com/v1/chat/completions\r\n";
    let server = Server::playing([whole("308 Permanent Redirect", moved, "")]);
    let refused = start(&server).await;
    assert!(
        matches!(&refused, Err(StartError::Refused(why)) if why.contains("308") && why.contains("not followed")),
        "{refused:?}"
    );
    assert_eq!(server.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_tells_the_gateways_words_without_the_key_and_is_not_repeated() {
    for status in ["401 Unauthorized", "404 Not Found", "400 Bad Request"] {
        let said = format!("no \u{1b}[31mmodel\nfor {KEY}. {}", "x".repeat(10_000));
        let body = json!({"error": {"message": said}});
        let server = Server::playing([json_whole(status, &body)]);
        let Err(StartError::Refused(why)) = start(&server).await else {
            panic!("{status}")
        };
        assert!(
            why.contains(&status[..3]) && why.contains("for ***."),
            "{why}"
        );
        assert!(
            !why.contains(KEY) && !why.contains(char::is_control),
            "{why}"
        );
        assert!(why.len() < 600, "{why}");
        assert_eq!(server.calls(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_sends_the_key_back_does_not_get_it_into_the_output() {
    let server = Server::playing([streamed(&["It is ", KEY, "."])]);
    assert_eq!(answer(&server).await.output, "It is ***.");
}

#[tokio::test]
async fn a_gateway_on_this_machine_is_called_over_the_network() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::playing([streamed(&["Hello"])]);
    let serving = tokio::spawn({
        let server = Arc::clone(&server);
        async move {
            let (stream, _) = listener.accept().await.unwrap();
            server.serve(stream).await;
        }
    });
    let base = Base::parse(&format!("http://{address}/v1")).unwrap();
    let (keys, clock) = (Arc::new(None), Clock::system());
    let runtime = ModelRuntime::new(base, keys, records(), WHOLE, clock);
    let started = runtime.start(&request(Work::Model(model()))).await.unwrap();
    assert!(matches!(&started, Started::Answered(end) if end.usage == Some(used())));
    serving.await.unwrap();
    server.look(0, |seen| {
        assert!(seen.head.contains(&format!("host: {address}\r\n")));
        assert!(!seen.head.contains("authorization"), "{}", seen.head);
    });
}

#[tokio::test(start_paused = true)]
async fn a_step_with_nothing_to_ask_is_refused_before_any_call() {
    let server = Server::playing([streamed(&["Hello"])]);
    let mut model = model();
    model.prompt = None;
    let mut request = request(Work::Model(model));
    request.max_run = Duration::from_secs(60);
    let refused = crate::runtime(&server).start(&request).await;
    assert!(
        matches!(&refused, Err(StartError::Refused(why)) if why.contains("`prompt`")),
        "{refused:?}"
    );
    assert_eq!(server.calls(), 0);
}
