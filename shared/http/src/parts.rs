//! The parts of a request's address. What cannot be read there is told as everything else is.

use std::error::Error as _;

use axum::extract::{FromRequestParts, Path as AxumPath, Query as AxumQuery};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use towpath_api_types::Code;

use crate::problem::No;

/// The parts of the path. A path that cannot be read leads nowhere.
pub(crate) struct Path<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = No;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, No> {
        match AxumPath::from_request_parts(parts, state).await {
            Ok(AxumPath(value)) => Ok(Self(value)),
            Err(error) => Err(No::new(Code::NotFound, error.body_text())),
        }
    }
}

/// The query string of a request.
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Query<T> {
    type Rejection = No;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, No> {
        match AxumQuery::from_request_parts(parts, state).await {
            Ok(AxumQuery(value)) => Ok(Self(value)),
            Err(error) => {
                let why = error.source().map(ToString::to_string);
                let why = why.unwrap_or_else(|| error.body_text());
                let message = format!("the address's query cannot be read: {why}");
                Err(No::new(Code::InvalidRequest, message))
            }
        }
    }
}
