//! Problems as HTTP answers.

use axum::Json;
use axum::extract::OriginalUri;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use towpath_api_types::{Code, Problem};
use towpath_service::Error;
use towpath_store::Error as StoreError;

/// The refusal that a handler answers.
#[derive(Debug)]
pub(crate) struct No(pub(crate) Problem);

impl From<Problem> for No {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<Error> for No {
    fn from(error: Error) -> Self {
        Self(error.into())
    }
}

impl From<StoreError> for No {
    fn from(error: StoreError) -> Self {
        Error::from(error).into()
    }
}

impl No {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self(Problem::new(code, message))
    }
}

impl IntoResponse for No {
    fn into_response(self) -> Response {
        let code = self.0.code;
        let status =
            StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.0)).into_response();
        let headers = response.headers_mut();
        match code {
            Code::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
            }
            Code::Throttled | Code::Unavailable | Code::Busy => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"))
            }
            _ => None,
        };
        response
    }
}

pub(crate) async fn no_such_path(OriginalUri(uri): OriginalUri) -> No {
    No::new(
        Code::NotFound,
        format!("there is nothing at {}", uri.path()),
    )
}

pub(crate) async fn no_such_method(method: Method, OriginalUri(uri): OriginalUri) -> No {
    No::new(
        Code::MethodNotAllowed,
        format!("{} does not take {method}", uri.path()),
    )
}
