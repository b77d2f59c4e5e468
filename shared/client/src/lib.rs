//! A client of the public API.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Hyper;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};
use towpath_api_types::{OutputText, Problem};
use towpath_auth::Key;

/// A client of one deployment, with one key.
#[derive(Clone)]
pub struct Client {
    http: Hyper<HttpsConnector<HttpConnector>, Full<Bytes>>,
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

impl Client {
    /// A client of the API at `base`, with this key; without one, every call is refused.
    pub fn new(base: &str, key: Option<Key>) -> Self {
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
        let connector = connector.https_or_http().enable_http1().build();
        let http = Hyper::builder(TokioExecutor::new()).build(connector);
        Self {
            http,
            base: base.trim_end_matches('/').to_owned(),
            key,
        }
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
        // The URL is the permission: with an API key besides, S3 would refuse, and learn the key.
        let request = Request::get(url).body(Full::default());
        let (status, body) = self.send(request).await?;
        if !status.is_success() {
            return Err(Error::Lost(format!(
                "{status}: {}",
                String::from_utf8_lossy(&body)
            )));
        }
        let found = format!("{:x}", Sha256::digest(&body));
        if body.len() as u64 != size || found != hash {
            let got = body.len();
            return Err(Error::Lost(format!(
                "{got} bytes that are not the {size} bytes of the output"
            )));
        }
        String::from_utf8(body.to_vec()).map_err(|e| Error::Lost(e.to_string()))
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
        match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) => Err(Error::Refused(Box::new(problem))),
            Err(_) => Err(Error::Lost(format!(
                "{status}: {}",
                String::from_utf8_lossy(&bytes)
            ))),
        }
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
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {}", key.reveal()));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Full::new(Bytes::from(body)))).await
    }

    async fn send(
        &self,
        request: http::Result<Request<Full<Bytes>>>,
    ) -> Result<(StatusCode, Bytes), Error> {
        let lost = |why: String| Error::Lost(format!("{} did not answer: {why}", self.base));
        let request = request.map_err(|e| lost(e.to_string()))?;
        let answer = self
            .http
            .request(request)
            .await
            .map_err(|e| lost(e.to_string()))?;
        let status = answer.status();
        let body = answer
            .into_body()
            .collect()
            .await
            .map_err(|e| lost(e.to_string()))?;
        Ok((status, body.to_bytes()))
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
