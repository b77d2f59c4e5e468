//! What is tried again, after which pause, and what becomes of a call whose time is up.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use towpath_engine::{CallResult, FailureKind, LossCause};
use towpath_jobs::StartError;

use crate::server::{
    Play, Script, Server, event, json_whole, piece, stream_head, streamed, unreachable, whole,
};
use crate::{answer, failure, start, within};

const SECOND: Duration = Duration::from_secs(1);

fn busy(retry_after: &str) -> Script {
    let headers = match retry_after {
        "" => String::new(),
        it => format!("retry-after: {it}\r\n"),
    };
    whole("429 Too Many Requests", &headers, "slow down")
}

fn broken() -> Script {
    whole("503 Service Unavailable", "", "<html>overloaded</html>")
}

/// The number of calls that end without an answer, and how they end.
async fn given_up(script: Script) -> (usize, StartError) {
    let server = Server::playing([script]);
    let error = start(&server).await.unwrap_err();
    (server.calls(), error)
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_says_when_is_asked_again_then() {
    for (when, after) in [
        ("7", 7),
        (" 0 ", 0),
        // The clock shows the first second of 2026.
        ("Thu, 01 Jan 2026 00:00:12 GMT", 12),
        ("Wed, 31 Dec 2025 23:00:00 GMT", 0),
        ("nonsense", 0),
    ] {
        let server = Server::playing([busy(when), streamed(&["Hello"])]);
        assert_eq!(answer(&server).await.output, "Hello");
        let pause = server.pauses()[0];
        // Without a word of the gateway the first pause is a second at most.
        let least = SECOND * after;
        assert!(
            pause >= least && pause <= least + SECOND,
            "{when}: {pause:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_failed_for_no_reason_of_ours_is_tried_again() {
    let cut = vec![
        stream_head(),
        piece("Hel"),
        Play::Raw(b"0\r\n\r\n".to_vec()),
    ];
    let torn = vec![stream_head(), piece("Hel")];
    let silent = vec![Play::Hang];
    let stalled = vec![stream_head(), piece("Hel"), Play::Hang];
    let amid = vec![
        stream_head(),
        piece("Hel"),
        event(&json!({"error": {"code": 502}})),
    ];
    for script in [broken(), cut, torn, silent, stalled, amid, unreachable()] {
        let server = Server::playing([script, streamed(&["Hello"])]);
        let answer = answer(&server).await;
        assert_eq!(answer.output, "Hello", "nothing is left of the first try");
    }
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_within_bounds_and_tries_have_an_end() {
    let server = Server::playing([broken()]);
    let begun = Instant::now();
    let error = start(&server).await.unwrap_err();
    assert!(
        matches!(&error, StartError::Unavailable(why) if why.contains("503") && why.contains("overloaded")),
        "{error:?}"
    );
    assert_eq!(server.calls(), 6);
    for (pause, most) in server.pauses().into_iter().zip([1, 2, 4, 8, 16]) {
        assert!(pause <= SECOND * most, "{pause:?} of {most} s");
    }
    assert!(begun.elapsed() <= SECOND * 31);
}

#[tokio::test(start_paused = true)]
async fn a_full_gateway_is_no_failure_but_no_room() {
    let (calls, error) = given_up(busy("")).await;
    assert!(
        matches!(&error, StartError::NoRoom(why) if why.contains("429") && why.contains("slow down")),
        "{error:?}"
    );
    assert_eq!(calls, 6);
    let (_, error) = given_up(unreachable()).await;
    assert!(matches!(error, StartError::Unavailable(_)), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_long_pause_is_left_to_the_run() {
    for retry_after in [
        "61",
        "18446744073709551615",
        "Fri, 02 Jan 2026 00:00:00 GMT",
    ] {
        let begun = Instant::now();
        let (calls, error) = given_up(busy(retry_after)).await;
        let StartError::Later { after, .. } = error else {
            panic!("{error:?}")
        };
        // The run tries again no sooner than the gateway wants.
        assert!(after >= SECOND * 61, "{after:?}");
        assert_eq!((calls, begun.elapsed()), (1, Duration::ZERO));
    }
    // Several that are long together.
    let (calls, error) = given_up(busy("25")).await;
    assert!(
        matches!(&error, StartError::Later { after, .. } if *after == SECOND * 25),
        "{error:?}"
    );
    assert_eq!(calls, 3);
    let down = whole("503 Service Unavailable", "retry-after: 120\r\n", "");
    let (calls, error) = given_up(down).await;
    assert!(
        matches!(&error, StartError::Later { after, .. } if *after == SECOND * 120),
        "{error:?}"
    );
    assert_eq!(calls, 1);
}

#[tokio::test(start_paused = true)]
async fn no_pause_outlasts_the_time_of_the_call() {
    let server = Server::playing([busy("30")]);
    let begun = Instant::now();
    let error = within(&server, SECOND * 20).await.unwrap_err();
    assert!(matches!(error, StartError::Later { .. }), "{error:?}");
    assert_eq!((server.calls(), begun.elapsed()), (1, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_takes_longer_than_it_may_is_ended() {
    let drip = || vec![piece("x"), Play::Pause(SECOND * 40)].into_iter();
    let script: Script = [stream_head()]
        .into_iter()
        .chain((0..100).flat_map(|_| drip()))
        .collect();
    let begun = Instant::now();
    let server = Server::playing([script.clone()]);
    let failure = failure(&server).await;
    assert_eq!((failure.kind, server.calls()), (FailureKind::Agent, 1));
    assert!(failure.message.contains("250 s"), "{}", failure.message);
    assert_eq!(begun.elapsed(), SECOND * 250);

    // What the step allows is less.
    let lost = within(&Server::playing([script]), SECOND * 90).await;
    let Ok(CallResult::Lost(loss)) = lost else {
        panic!("{lost:?}")
    };
    assert_eq!(loss.cause, LossCause::TimedOut);
    assert_eq!(begun.elapsed(), SECOND * 340);
}

#[tokio::test(start_paused = true)]
async fn a_silent_gateway_is_waited_for_no_longer_than_it_may_be_silent() {
    let begun = Instant::now();
    // Two tries of two minutes do not fit into the time of a call: the second is cut off by it.
    let server = Server::playing([vec![Play::Hang]]);
    let failure = failure(&server).await;
    assert_eq!(server.calls(), 3);
    assert!(failure.message.contains("250 s"), "{}", failure.message);
    assert_eq!(begun.elapsed(), SECOND * 250);
    let first = server.pauses()[0];
    assert!(first >= SECOND * 120 && first <= SECOND * 121, "{first:?}");

    let stalled = vec![stream_head(), piece("x"), Play::Hang];
    let server = Server::playing([stalled, streamed(&["Hello"])]);
    assert_eq!(answer(&server).await.output, "Hello");
    let pause = server.pauses()[0];
    assert!(pause >= SECOND * 60 && pause <= SECOND * 61, "{pause:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_amid_a_stream_is_a_refusal() {
    let error = json!({"error": {"code": 400, "message": "the prompt is too long"}});
    let server = Server::playing([vec![stream_head(), event(&error), Play::Hang]]);
    let refused = start(&server).await.unwrap_err();
    assert!(
        matches!(&refused, StartError::Refused(why) if why.contains("too long")),
        "{refused:?}"
    );
    let full = json_whole(
        "200 OK",
        &json!({"error": {"code": 429, "message": "full"}}),
    );
    let (_, error) = given_up(full).await;
    assert!(matches!(error, StartError::NoRoom(_)), "{error:?}");
}
