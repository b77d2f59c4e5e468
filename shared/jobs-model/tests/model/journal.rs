//! What is written down of calls: their texts as they come, their ends, and how often they were begun.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use towpath_engine::{CallResult, LossCause, Usage};
use towpath_jobs::{
    EventKind, JobRequest, JobSnapshot, LogPosition, RunnerEvent, Runtime, StartError, Started,
    Work, call_result,
};
use towpath_jobs_model::CALLS_MAX;
use towpath_store::EventCursor;

use crate::server::{
    Play, Script, Server, finish, piece, stream_head, streamed, unreachable, whole,
};
use crate::{KEY, model, request, runtime};

const SECOND: Duration = Duration::from_secs(1);

fn asks() -> JobRequest {
    request(Work::Model(model()))
}

async fn end(server: &Arc<Server>, request: &JobRequest) -> JobSnapshot {
    match runtime(server).start(request).await {
        Ok(Started::Answered(end)) => *end,
        other => panic!("{other:?}"),
    }
}

async fn told(server: &Arc<Server>, request: &JobRequest) -> Vec<RunnerEvent> {
    let (mut all, mut at) = (Vec::new(), EventCursor::default());
    loop {
        let page = server
            .records
            .events_of_job(&request.job, at)
            .await
            .unwrap();
        if page.events.is_empty() {
            return all;
        }
        all.extend(page.events.into_iter().map(|told| told.event));
        at = page.next;
    }
}

fn texts(events: &[RunnerEvent], kind: EventKind) -> Vec<&str> {
    let of_kind = events.iter().filter(|event| event.kind == kind);
    of_kind
        .map(|event| event.data["text"].as_str().unwrap())
        .collect()
}

/// What the server says piece by piece, so many seconds apart.
fn slowly(pieces: &[&str], seconds: u32) -> Script {
    let said = pieces
        .iter()
        .flat_map(|text| [piece(text), Play::Pause(SECOND * seconds)]);
    [stream_head()]
        .into_iter()
        .chain(said)
        .chain(finish("stop"))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_told_line_by_line_while_it_comes() {
    let server = Server::playing([slowly(&["one\ntw", "o\nthr", "ee"], 6)]);
    let request = asks();
    let well = end(&server, &request).await;
    let events = told(&server, &request).await;
    let kinds: Vec<_> = events.iter().map(|event| event.kind).collect();
    use EventKind::{AssistantText, RuntimeStarted, RuntimeTerminal};
    assert_eq!(
        kinds,
        [
            RuntimeStarted,
            AssistantText,
            AssistantText,
            AssistantText,
            RuntimeTerminal
        ]
    );
    assert_eq!(texts(&events, AssistantText), ["one", "two", "three"]);
    let last = events.last().unwrap();
    assert_eq!(last.data["usage"]["promptTokens"], 11);
    assert_eq!(last.data["answer"], serde_json::Value::Null);
    assert!(well.answer.is_some());
    let log = runtime(&server);
    let log = log.read_log(&request.job, LogPosition::default()).await;
    let page = log.unwrap().unwrap();
    assert_eq!(page.parts[0].text, "one\ntwo\nthree\n");
    assert_eq!(page.next, None, "the log of a job that is over has an end");
}

#[tokio::test(start_paused = true)]
async fn what_is_told_of_a_long_answer_has_bounds() {
    let long = "x".repeat(100_000);
    let server = Server::playing([slowly(&[long.as_str(); 12], 6)]);
    let request = asks();
    assert!(end(&server, &request).await.answer.is_some());
    let events = told(&server, &request).await;
    let pieces = texts(&events, EventKind::AssistantText);
    assert_eq!(pieces.len(), 64);
    assert!(pieces.iter().all(|piece| piece.len() <= 4096));
    let notes = texts(&events, EventKind::Notification);
    assert!(
        notes.len() == 1 && notes[0].contains("in the output"),
        "{notes:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn neither_the_key_nor_the_prompt_is_told() {
    let padding = "y".repeat(5000);
    let (first, second) = KEY.split_at(7);
    let said = [format!("{padding}{first}"), format!("{second} and on\n")];
    let said: Vec<&str> = said.iter().map(String::as_str).collect();
    let server = Server::playing([slowly(&said, 6)]);
    let request = asks();
    end(&server, &request).await;
    let events = told(&server, &request).await;
    let all = texts(&events, EventKind::AssistantText).concat();
    assert_eq!(all, format!("{padding}*** and on"));
    let written = serde_json::to_string(&events).unwrap();
    assert!(!written.contains("Say hello"), "{written}");
    let record = server.records.get(&request.job).await.unwrap();
    let record = format!("{record:?}");
    assert!(
        !record.contains(KEY) && !record.contains("Say hello"),
        "{record}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_torn_try_said_is_taken_back() {
    let torn = vec![stream_head(), piece("wrong\n"), Play::Pause(SECOND * 6)];
    let server = Server::playing([torn, streamed(&["right"])]);
    let request = asks();
    let end = end(&server, &request).await;
    // The torn one may have cost something.
    assert_eq!(end.usage.unwrap().unmetered_calls, 1);
    let events = told(&server, &request).await;
    assert_eq!(texts(&events, EventKind::AssistantText), ["wrong", "right"]);
    assert_eq!(events[2].kind, EventKind::StreamError);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_answer_was_kept_is_not_made_again() {
    let server = Server::playing([streamed(&["Hello"])]);
    let request = asks();
    let first = end(&server, &request).await;
    // Whoever takes over finds nothing of it but the record.
    assert_eq!(end(&server, &request).await, first);
    assert_eq!(server.calls(), 1);
    let failing = Server::playing([[vec![stream_head()], finish("length")].concat()]);
    let first = end(&failing, &request).await;
    assert_eq!(end(&failing, &request).await, first);
    assert_eq!(failing.calls(), 1, "a failure has cost as much");
}

#[tokio::test(start_paused = true)]
async fn calls_that_die_with_their_callers_are_made_again_so_often_and_no_more() {
    let server = Server::playing([vec![stream_head(), piece("Hel"), Play::Hang]]);
    let request = asks();
    for _ in 0..CALLS_MAX {
        let runtime = runtime(&server);
        let died = tokio::time::timeout(SECOND * 20, runtime.start(&request));
        died.await.unwrap_err();
    }
    let end = end(&server, &request).await;
    assert_eq!(server.calls(), CALLS_MAX as usize);
    assert_eq!(
        end.usage,
        Some(Usage {
            unmetered_calls: CALLS_MAX.into(),
            ..Usage::default()
        })
    );
    let failed = call_result(end).unwrap();
    assert!(
        matches!(&failed, CallResult::Failed(failure) if failure.message.contains("retry the run")),
        "{failed:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn calls_that_the_gateway_loses_are_made_again_so_often_and_no_more() {
    let torn = vec![stream_head(), piece("Hel")];
    let server = Server::playing([torn.clone()]);
    let request = asks();
    let lost = end(&server, &request).await;
    assert_eq!(server.calls(), CALLS_MAX as usize);
    assert_eq!(lost.usage.unwrap().unmetered_calls, u64::from(CALLS_MAX));
    let why = lost.terminal_error_message.clone().unwrap();
    assert!(why.contains("midway") && why.contains("retry"), "{why}");
    assert_eq!(end(&server, &request).await, lost);

    // However the run rests in between.
    let full = || whole("429 Too Many Requests", "retry-after: 100\r\n", "");
    let turns = [torn.clone(), full(), torn.clone(), full(), full(), torn];
    let server = Server::playing(turns);
    let request = asks();
    for _ in 0..3 {
        let later = runtime(&server).start(&request).await;
        assert!(matches!(later, Err(StartError::Later { .. })), "{later:?}");
    }
    let lost = end(&server, &request).await;
    assert_eq!(server.calls(), 6);
    assert_eq!(lost.usage.unwrap().unmetered_calls, u64::from(CALLS_MAX));
}

#[tokio::test(start_paused = true)]
async fn a_call_after_one_that_died_says_that_it_is_not_the_first() {
    let hangs = vec![stream_head(), piece("Hel"), Play::Hang];
    let server = Server::playing([hangs, streamed(&["Hello"])]);
    let request = asks();
    let runtime = runtime(&server);
    let died = tokio::time::timeout(SECOND * 20, runtime.start(&request));
    died.await.unwrap_err();
    let usage = end(&server, &request).await.usage.unwrap();
    assert_eq!((usage.prompt_tokens, usage.unmetered_calls), (11, 1));
    let events = told(&server, &request).await;
    let begun = events
        .iter()
        .filter(|it| it.kind == EventKind::RuntimeStarted);
    let begun: Vec<_> = begun.map(|event| event.data["call"].clone()).collect();
    assert_eq!(begun, [json!(1), json!(2)]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_found_no_room_does_not_count() {
    let full = whole("429 Too Many Requests", "retry-after: 100\r\n", "");
    for script in [full, unreachable()] {
        let scripts = std::iter::repeat_n(script, 40).chain([streamed(&["Hello"])]);
        let server = Server::playing(scripts);
        let request = asks();
        let mut tries = 0;
        let end = loop {
            match runtime(&server).start(&request).await {
                Ok(Started::Answered(end)) => break end,
                Err(StartError::Refused(why)) => panic!("{why}"),
                Ok(other) => panic!("{other:?}"),
                Err(_) => tries += 1,
            }
        };
        assert!(tries > CALLS_MAX, "{tries}");
        assert_eq!(end.usage.unwrap().unmetered_calls, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_a_call_that_is_under_way_and_none_is_begun_after_it() {
    let server = Server::playing([vec![stream_head(), piece("Hel"), Play::Hang]]);
    let request = asks();
    let begun = Instant::now();
    let (calling, stopping) = (runtime(&server), runtime(&server));
    let stop = async {
        tokio::time::sleep(SECOND * 7).await;
        stopping.stop(&request.job, SECOND).await.unwrap();
    };
    let (started, ()) = tokio::join!(calling.start(&request), stop);
    // The look after the stop finds it.
    assert_eq!(begun.elapsed(), SECOND * 10);
    let Ok(Started::Answered(stopped)) = started else {
        panic!("{started:?}")
    };
    assert_eq!(stopped.usage.unwrap().unmetered_calls, 1);
    let lost = call_result(*stopped).unwrap();
    assert!(
        matches!(&lost, CallResult::Lost(loss) if loss.cause == LossCause::Killed),
        "{lost:?}"
    );
    end(&server, &request).await;
    assert_eq!(server.calls(), 1);
    // Nor is one that was stopped before it began.
    let other = asks();
    stopping.stop(&other.job, SECOND).await.unwrap();
    let never = call_result(end(&server, &other).await).unwrap();
    assert!(matches!(never, CallResult::Lost(_)), "{never:?}");
    assert_eq!((server.calls(), never.usage()), (1, None));
}
