//! Whether a request is signed with the secret that belongs to the key it names.
//!
//! Key ids are no secrets: each presigned URL shows one.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use http::request::Parts;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;

/// What the `Authorization` header of a signed request says.
pub(crate) struct Authorization<'a> {
    /// The id of the access key.
    pub(crate) key: &'a str,
    /// The service the request is for.
    pub(crate) service: &'a str,
    region: &'a str,
    signed: &'a str,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    /// Reads the header. `None`: there is none, or it is of another kind.
    pub(crate) fn read(parts: &'a Parts) -> Option<Self> {
        let header = parts.headers.get(http::header::AUTHORIZATION)?;
        let words = header.to_str().ok()?.strip_prefix("AWS4-HMAC-SHA256 ")?;
        let word = |name: &str| {
            let mut words = words.split(',');
            words.find_map(|word| word.trim().strip_prefix(name)?.strip_prefix('='))
        };
        let mut scope = word("Credential")?.split('/');
        let (key, _day, region, service) =
            (scope.next()?, scope.next()?, scope.next()?, scope.next()?);
        Some(Self {
            key,
            service,
            region,
            signed: word("SignedHeaders")?,
            signature: word("Signature")?,
        })
    }

    /// Whether `secret` made the signature. Not for S3, which signs otherwise.
    pub(crate) fn is_by(&self, secret: &str, parts: &Parts, body: &[u8]) -> bool {
        let made = self.made(secret, parts, body);
        made.is_some_and(|made| made == self.signature)
    }

    fn made(&self, secret: &str, parts: &Parts, body: &[u8]) -> Option<String> {
        let text = |name: &str| parts.headers.get(name)?.to_str().ok();
        let time = strtime::parse("%Y%m%dT%H%M%SZ", text("x-amz-date")?).ok()?;
        let time = time.to_datetime().ok()?.to_zoned(TimeZone::UTC).ok()?;
        let names = self.signed.split(';');
        let headers: Option<Vec<_>> = names.map(|name| Some((name, text(name)?))).collect();
        let url = format!("http://{}{}", text("host")?, parts.uri);
        let request = SignableRequest::new(
            parts.method.as_str(),
            url,
            headers?.into_iter(),
            SignableBody::Bytes(body),
        );
        let identity = Identity::from(Credentials::new(self.key, secret, None, None, "local"));
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name(self.service)
            .time(SystemTime::from(time.timestamp()))
            .settings(SigningSettings::default())
            .build()
            .ok()?
            .into();
        Some(sign(request.ok()?, &params).ok()?.into_parts().1)
    }
}
