//! The public HTTP API.
//!
//! A router for each function: [`router`] for everything that is asked about definitions and runs, [`answers`] for every
//! answer of a human, [`executors`] for executors and their missions, [`poll`] for those that wait for missions, [`admin`] for what only an
//! administrator does, [`events`] for streams, [`runner`] for the runners of jobs, which have tokens of their own. Each other request needs an API key; the workspace comes from the key, never from
//! the request, and what is another workspace's is not found.

mod access;
mod answers;
mod body;
mod definitions;
mod executors;
mod keys;
mod parts;
mod problem;
mod routes;
mod runner;
mod secrets;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use towpath_api_types::Code;
use towpath_service::App;

use crate::problem::No;

/// The most a request's body may be, in bytes.
pub const BODY_LIMIT: usize = 1024 * 1024;

/// Definitions, to be read, and runs.
pub fn router(app: App) -> Router {
    finish(routes::routes(), app)
}

/// Executors and missions.
pub fn executors(app: App) -> Router {
    finish(executors::routes(), app)
}

/// Everything that only an administrator does: definitions, API keys, secrets for agents.
pub fn admin(app: App) -> Router {
    let credentials = keys::routes().merge(secrets::routes());
    finish(definitions::routes().merge(credentials), app)
}

/// The polls of executors, which wait.
pub fn poll(app: App) -> Router {
    finish(executors::poll_routes(), app)
}

/// Answers of humans.
pub fn answers(app: App) -> Router {
    finish(answers::routes(), app)
}

/// What the runners of jobs ask for and tell.
pub fn runner(app: App) -> Router {
    let routes = runner::routes().layer(DefaultBodyLimit::max(runner::RUNNER_BODY));
    finish(routes, app)
}

/// The events of runs, streamed.
pub fn events(app: App) -> Router {
    stream::routes()
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(middleware::from_fn(stream::moved_back))
        .with_state(Arc::new(app))
}

/// The time that a request may take: less than API Gateway waits, which would answer without a code.
const TIME_LIMIT: Duration = Duration::from_secs(25);

async fn in_time(request: Request, next: Next) -> Response {
    let slow = |_| {
        let message = "the request took too long, and may or may not have been carried out; look, then ask again";
        No::new(Code::Unavailable, message).into_response()
    };
    let answered = tokio::time::timeout(TIME_LIMIT, next.run(request)).await;
    answered.unwrap_or_else(slow)
}

fn finish(router: Router<Arc<App>>, app: App) -> Router {
    router
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn(in_time))
        .with_state(Arc::new(app))
}
