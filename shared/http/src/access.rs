//! Authorisation: the API key of a request.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use towpath_api_types::Code;
use towpath_auth::Key;
use towpath_service::{App, Caller};
use towpath_store::Scope;

use crate::problem::No;

/// The holder of a key that may do what `SCOPE` says: one of the constants below.
pub(crate) struct Holder<const SCOPE: u8> {
    /// The caller whose key it is.
    pub(crate) caller: Caller,
    /// The scope of the key.
    pub(crate) scope: Scope,
    /// The hash of the key.
    pub(crate) hash: String,
}

pub(crate) const READ: u8 = 0;
pub(crate) const START: u8 = 1;
pub(crate) const DECIDE: u8 = 2;
pub(crate) const ADMIN: u8 = 3;

fn scope(number: u8) -> Scope {
    match number {
        READ => Scope::Read,
        START => Scope::Start,
        DECIDE => Scope::Decide,
        _ => Scope::Admin,
    }
}

/// The token of a request's `Authorization: Bearer`.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    towpath_auth::bearer(headers.get(AUTHORIZATION)?.to_str().ok()?)
}

impl<const SCOPE: u8> FromRequestParts<Arc<App>> for Holder<SCOPE> {
    type Rejection = No;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, No> {
        let no_key = || {
            No::new(
                Code::Unauthorized,
                "send an API key: Authorization: Bearer twk_…",
            )
        };
        let token = bearer(&parts.headers).ok_or_else(no_key)?;
        let unknown = || No::new(Code::Unauthorized, "this API key is not known");
        let key = Key::parse(token).map_err(|_| unknown())?;
        let found = app.access.api_key(&key).await?;
        let found = found.ok_or_else(unknown)?;
        let needed = scope(SCOPE);
        if found.scope < needed {
            let message = format!(
                "this needs a key of scope {needed:?}, and {} has {:?}",
                found.name, found.scope
            );
            return Err(No::new(Code::Forbidden, message.to_lowercase()));
        }
        let caller = Caller {
            workspace: found.workspace,
            name: found.name,
        };
        Ok(Self {
            caller,
            scope: found.scope,
            hash: key.hash(),
        })
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_token_is_taken_from_the_scheme_bearer_alone_however_it_is_spelled() {
        let token = |header: &'static str| {
            let header = HeaderValue::from_static(header);
            bearer(&HeaderMap::from_iter([(AUTHORIZATION, header)])).map(str::to_owned)
        };
        for header in ["Bearer twk_1", "bearer twk_1", "BEARER  twk_1 "] {
            assert_eq!(token(header).as_deref(), Some("twk_1"), "{header}");
        }
        for header in ["Basic twk_1", "Bearertwk_1", "twk_1", ""] {
            assert_eq!(token(header), None, "{header}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
