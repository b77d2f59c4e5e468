//! The events of a run as server-sent events, for readers: what was told so far, and then what is told from now on.
//!
//! A stream ends with its run, or before a function has to: then the reader asks again, with the id of the last event that
//! it has got, as every `EventSource` does by itself.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::stream::{self, Stream};
use serde::Deserialize;
use towpath_api_types::Code;
use towpath_engine::RunId;
use towpath_service::{App, Caller};
use towpath_store::{EventCursor, JobEvent};

use crate::access::{Holder, READ};
use crate::body::id;
use crate::parts::{Path, Query};
use crate::problem::No;

/// The longest a stream goes on: less than the 15 minutes that a function has.
const LONGEST: Duration = Duration::from_secs(14 * 60);
/// The pause before a run is looked at again, while it tells something, and while it does not.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A comment goes out when nothing else has for so long: what is between gives up after 30 s.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The header that the front moves an API key to: it signs its own requests in `Authorization`.
const MOVED: HeaderName = HeaderName::from_static("x-towpath-authorization");

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/runs/{run}/events/stream", get(events))
}

/// Puts the key of a request where it is looked for.
pub(crate) async fn moved_back(mut request: Request, next: Next) -> Response {
    if let Some(key) = request.headers_mut().remove(MOVED) {
        request.headers_mut().insert(AUTHORIZATION, key);
    }
    next.run(request).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct After {
    /// The place behind which the stream begins; the header `Last-Event-ID` comes first.
    after: Option<String>,
}

async fn events(
    State(app): State<Arc<App>>,
    Holder { caller, .. }: Holder<READ>,
    Path(name): Path<String>,
    Query(After { after }): Query<After>,
    headers: HeaderMap,
) -> Result<Response, No> {
    let run: RunId = id(&name)?;
    let last = headers.get("last-event-id").and_then(|it| it.to_str().ok());
    let after = last.map(str::to_owned).or(after);
    let after = after.filter(|text| !text.is_empty());
    let after = after.map_or(Ok(EventCursor::default()), |text| text.parse());
    let after = after.map_err(|_| {
        let message = "`Last-Event-ID`, or `after`, is the id of an event of this stream";
        No::new(Code::InvalidRequest, message)
    })?;
    let mut reading = Reading {
        app,
        caller,
        run,
        after,
        told: VecDeque::new(),
        over: false,
        pause: PAUSE,
        until: Instant::now() + LONGEST,
    };
    // What keeps the reader from reading is told before the stream begins.
    reading.read().await?;
    let stream = Sse::new(stream_of(reading)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    let mut response = stream.into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// A reader of a run.
struct Reading {
    app: Arc<App>,
    caller: Caller,
    run: RunId,
    after: EventCursor,
    /// Events that were read and not sent.
    told: VecDeque<JobEvent>,
    over: bool,
    pause: Duration,
    until: Instant,
}

impl Reading {
    async fn read(&mut self) -> Result<(), No> {
        let page = self.app.views.events(&self.caller, &self.run, self.after);
        let page = page.await?;
        self.pause = match page.events.is_empty() {
            true => (self.pause * 2).min(LONGEST_PAUSE),
            false => PAUSE,
        };
        self.after = page.next;
        self.over = page.over;
        self.told.extend(page.events);
        Ok(())
    }

    /// The next event to send. `None`: the stream ends.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(told) = self.told.pop_front() {
                let id = told.cursor.to_string();
                return Event::default().id(id).json_data(told).ok();
            }
            if self.over {
                return None;
            }
            if Instant::now() + self.pause >= self.until {
                return None;
            }
            tokio::time::sleep(self.pause).await;
            if let Err(No(problem)) = self.read().await {
                // The reader asks again, and is told why if it goes on.
                tracing::warn!(run = %self.run, "a stream ends early: {}", problem.message);
                return None;
            }
        }
    }
}

fn stream_of(reading: Reading) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(Some(reading), |reading| async move {
        let mut reading = reading?;
        match reading.next().await {
            Some(event) => Some((Ok(event), Some(reading))),
            // The end of the run is an event, so that no reader asks again.
            None if reading.over => {
                let end = Event::default().event("end").data("{}");
                Some((Ok(end), None))
            }
            None => None,
        }
    })
}
