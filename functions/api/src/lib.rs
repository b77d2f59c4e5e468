//! `api`: definitions and runs, over HTTP.

use axum::Router;
use towpath_shell::App;

/// What answers the function's requests.
pub fn router(app: App) -> Router {
    towpath_api::router(app)
}
