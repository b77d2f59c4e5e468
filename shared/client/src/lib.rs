//! A client of the public API.

mod upgrade;

use bytes::Bytes;
use http::header::LOCATION;
use http::request::Builder;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Hyper;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};
use towpath_api_types::{ArtifactLink, OutputText, Problem};
use towpath_auth::Key;
use towpath_engine::Artifact;

pub use upgrade::Switched;

/// A client of one deployment, with one key.
#[derive(Clone)]
pub struct Client {
    http: Hyper<Connector, Full<Bytes>>,
    base: String,
    key: Option<Key>,
}

/// An error of a call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API refused the request.
    #[error("{}", .0.message)]
    Refused(Box<Problem>),
    /// The API did not answer, or not in a form that can be read.
    #[error("{0}")]
    Lost(String),
}

/// The connector of HTTP clients: plain, or with TLS where the URL is `https`.
pub type Connector = HttpsConnector<HttpConnector>;

/// Makes connections to the host of this URL, with TLS where it is `https`.
pub fn connector(base: &str) -> Connector {
    let tls = ClientConfig::builder();
    // Reading the system's certificates takes a while, and plain `http` needs none. Where the system has none, as in
    // many containers, those that are built in are trusted.
    let tls = match base
        .starts_with("https:")
        .then(|| tls.clone().with_native_roots())
    {
        Some(Ok(native)) => native,
        Some(Err(_)) => tls.with_webpki_roots(),
        None => tls.with_root_certificates(RootCertStore::empty()),
    };
    let tls = tls.with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls);
    connector.https_or_http().enable_http1().build()
}

impl Client {
    /// A client of the API at `base`, with this key; without one, every call is refused.
    pub fn new(base: &str, key: Option<Key>) -> Self {
        let http = Hyper::builder(TokioExecutor::new()).build(connector(base));
        Self {
            http,
            base: base.trim_end_matches('/').to_owned(),
            key,
        }
    }

    /// A client for files at URLs of the host that this one names. Such a URL is a permission: no error tells it.
    pub fn for_files(url: &str) -> Self {
        let uri = url.parse::<Uri>().unwrap_or_default();
        let (scheme, host) = (uri.scheme_str(), uri.authority());
        let host = scheme
            .zip(host)
            .map(|(scheme, host)| format!("{scheme}://{host}"));
        Self::new(&host.unwrap_or_default(), None)
    }

    /// `GET` a document.
    ///
    /// # Errors
    /// If the API refuses or does not answer.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.call(Method::GET, path, &[], Vec::new()).await
    }

    /// `PUT` a document.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        self.call(Method::PUT, path, &[], json(body)?).await
    }

    /// `POST` a document.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        self.call(Method::POST, path, &[], json(body)?).await
    }

    /// An output, whole, wherever it is. `href` is as a step's view has it.
    ///
    /// # Errors
    /// As for [`Client::get`], and if what was fetched is not what the API speaks of.
    pub async fn output(&self, href: &str) -> Result<String, Error> {
        let (url, size, hash) = match self.get(href).await? {
            OutputText::Here { text } => return Ok(text),
            OutputText::Elsewhere {
                url, bytes, sha256, ..
            } => (url, bytes, sha256),
        };
        let body = self.fetch(&url, size, &hash).await?;
        String::from_utf8(body.to_vec()).map_err(|e| Error::Lost(e.to_string()))
    }

    /// An artifact, whole, as a step's view links it.
    ///
    /// # Errors
    /// As for [`Client::output`].
    pub async fn artifact(&self, link: &ArtifactLink) -> Result<Bytes, Error> {
        let request = self
            .request(Method::GET, &link.href, &[])
            .body(Full::default());
        let answer = self.answer(request).await?;
        let (parts, body) = answer.into_parts();
        let Some(url) = parts.headers.get(LOCATION).and_then(|it| it.to_str().ok()) else {
            return Err(refusal(parts.status, &self.whole(body).await?));
        };
        let Artifact { bytes, sha256, .. } = &link.artifact;
        self.fetch(url, *bytes, sha256).await
    }

    /// Fetches a file of this size and hash by a URL that the API gave for it.
    ///
    /// # Errors
    /// If there is no answer, or what was fetched is another file.
    pub async fn fetch(&self, url: &str, size: u64, sha256: &str) -> Result<Bytes, Error> {
        // The URL is the permission: with an API key besides, S3 would refuse, and learn the key.
        let request = Request::get(url).body(Full::default());
        let body = self.succeed(request).await?;
        let found = format!("{:x}", Sha256::digest(&body));
        if body.len() as u64 != size || found != sha256 {
            let got = body.len();
            return Err(Error::Lost(format!(
                "{got} bytes that are not the {size} bytes which were to be fetched"
            )));
        }
        Ok(body)
    }

    /// Stores a file by a URL that the API gave for it, with the headers that belong to the URL.
    ///
    /// # Errors
    /// If there is no answer, or the file is not taken.
    pub async fn store<'h>(
        &self,
        url: &str,
        headers: impl IntoIterator<Item = (&'h str, &'h str)>,
        body: Bytes,
    ) -> Result<(), Error> {
        let mut request = Request::put(url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        self.succeed(request.body(Full::new(body)))
            .await
            .map(|_| ())
    }

    async fn succeed(&self, request: http::Result<Request<Full<Bytes>>>) -> Result<Bytes, Error> {
        let (status, body) = self.send(request).await?;
        match status.is_success() {
            true => Ok(body),
            false => Err(refusal(status, &body)),
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<T, Error> {
        let (status, bytes) = self.raw(method, path, headers, body).await?;
        if status.is_success() {
            return serde_json::from_slice(&bytes)
                .map_err(|e| Error::Lost(format!("an answer that cannot be read: {e}")));
        }
        Err(refusal(status, &bytes))
    }

    /// Sends any bytes to any path, and returns what came back, whatever it is.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn raw(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), Error> {
        let request = self.request(method, path, headers);
        self.send(request.body(Full::new(Bytes::from(body)))).await
    }

    fn request(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Builder {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {}", key.reveal()));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request
    }

    async fn send(
        &self,
        request: http::Result<Request<Full<Bytes>>>,
    ) -> Result<(StatusCode, Bytes), Error> {
        let answer = self.answer(request).await?;
        let status = answer.status();
        Ok((status, self.whole(answer.into_body()).await?))
    }

    async fn answer(
        &self,
        request: http::Result<Request<Full<Bytes>>>,
    ) -> Result<Response<Incoming>, Error> {
        let request = request.map_err(|error| self.lost(&error))?;
        let answer = self.http.request(request).await;
        answer.map_err(|error| self.lost(&error))
    }

    async fn whole(&self, body: Incoming) -> Result<Bytes, Error> {
        let body = body.collect().await.map_err(|error| self.lost(&error))?;
        Ok(body.to_bytes())
    }

    fn lost(&self, why: &dyn std::fmt::Display) -> Error {
        Error::Lost(format!("{} did not answer: {why}", self.base))
    }
}

/// The error that an answer tells of.
fn refusal(status: StatusCode, body: &[u8]) -> Error {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => Error::Refused(Box::new(problem)),
        Err(_) => Error::Lost(format!("{status}: {}", String::from_utf8_lossy(body))),
    }
}

fn json(body: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(body)
        .map_err(|e| Error::Lost(format!("a request that cannot be written: {e}")))
}

/// An empty body.
pub fn nothing() -> Value {
    Value::Object(serde_json::Map::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_error_never_tells_the_url_of_a_file() {
        // A port that nobody listens at.
        let url = "http://127.0.0.1:9/bucket/key?X-Amz-Signature=hush";
        let client = Client::for_files(url);
        let fetched = client.fetch(url, 1, "").await.map(|_| ());
        let stored = client.store(url, [], Bytes::new()).await;
        for failed in [fetched, stored] {
            let error = failed.unwrap_err().to_string();
            assert!(
                error.starts_with("http://127.0.0.1:9 did not answer"),
                "{error}"
            );
            assert!(!error.contains("hush") && !error.contains("key"), "{error}");
        }
    }
}
