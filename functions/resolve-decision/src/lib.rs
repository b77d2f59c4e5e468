//! `resolve-decision`: every answer of a human, over HTTP.

use axum::Router;
use towpath_shell::App;

/// What answers the function's requests.
pub fn router(app: App) -> Router {
    towpath_api::answers(app)
}
