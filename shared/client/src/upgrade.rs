//! Connections that leave HTTP, such as WebSockets.

use http::HeaderMap;
use http::{Method, StatusCode};
use http_body_util::Full;
use hyper::upgrade::{self, Upgraded};

use crate::{Client, Error};

/// The answer to a request for another protocol.
pub enum Switched {
    /// The connection speaks the other protocol from now on. The headers are those of the answer.
    Upgraded(HeaderMap, Upgraded),
    /// The server does not do it.
    Refused(StatusCode),
}

impl Client {
    /// Asks for another protocol on the connection of this request. The headers say which.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn upgrade(&self, path: &str, headers: &[(&str, &str)]) -> Result<Switched, Error> {
        let request = self.request(Method::GET, path, headers);
        let answer = self.answer(request.body(Full::default())).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Switched::Refused(answer.status()));
        }
        let headers = answer.headers().clone();
        let upgraded = upgrade::on(answer).await;
        let upgraded = upgraded.map_err(|error| self.lost(&error))?;
        Ok(Switched::Upgraded(headers, upgraded))
    }
}
