//! The public HTTP API.
//!
//! Two routers, as they are two functions: [`router`] for everything that is asked about definitions and runs, and
//! [`answers`] for every answer of a human. Each request needs an API key; the workspace comes from the key, never from
//! the request, and what is another workspace's is not found.

mod access;
mod answers;
mod body;
mod parts;
mod problem;
mod routes;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use towpath_service::App;

/// The most a request's body may be, in bytes.
pub const BODY_LIMIT: usize = 1024 * 1024;

/// Definitions and runs.
pub fn router(app: App) -> Router {
    finish(routes::routes(), app)
}

/// Answers of humans.
pub fn answers(app: App) -> Router {
    finish(answers::routes(), app)
}

fn finish(router: Router<Arc<App>>, app: App) -> Router {
    router
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(Arc::new(app))
}
