//! Whether a request is signed with the secret that belongs to the key it names.
//!
//! Key ids are no secrets: each presigned URL shows one.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use http::request::Parts;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use subtle::ConstantTimeEq;

/// The farthest that the date of a signature may be from the present, on AWS too: a request that was overheard cannot be
/// sent again for ever.
const MAX_SKEW: Duration = Duration::from_secs(15 * 60);

/// The reason why a signature is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The signature was made too long ago.
    Expired,
    /// The signature was made in the future.
    NotYetCurrent,
    /// The secret did not make the signature of this request.
    Mismatch,
}

/// The `Authorization` header of a signed request, parsed.
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

    /// Checks that `secret` made the signature of this request, not far from `now`. Not for S3, which signs otherwise.
    ///
    /// `now` is the system's time even when the cloud has a clock of a test's: SDKs sign with the system's.
    pub(crate) fn verify(
        &self,
        secret: &str,
        parts: &Parts,
        body: &[u8],
        now: SystemTime,
    ) -> Result<(), Refused> {
        let time = date(parts).ok_or(Refused::Mismatch)?;
        let is_over = |later: SystemTime, earlier: SystemTime| {
            later
                .duration_since(earlier)
                .is_ok_and(|age| age > MAX_SKEW)
        };
        if is_over(now, time) {
            return Err(Refused::Expired);
        }
        if is_over(time, now) {
            return Err(Refused::NotYetCurrent);
        }
        let made = self.made(secret, parts, body, time);
        let made = made.ok_or(Refused::Mismatch)?;
        // How long this takes must not tell how much of a guess is right.
        match bool::from(made.as_bytes().ct_eq(self.signature.as_bytes())) {
            true => Ok(()),
            false => Err(Refused::Mismatch),
        }
    }

    fn made(&self, secret: &str, parts: &Parts, body: &[u8], time: SystemTime) -> Option<String> {
        let text = |name: &str| text(parts, name);
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
            .time(time)
            .settings(SigningSettings::default())
            .build()
            .ok()?
            .into();
        Some(sign(request.ok()?, &params).ok()?.into_parts().1)
    }
}

/// The date that a request was signed at, by its `x-amz-date`.
fn date(parts: &Parts) -> Option<SystemTime> {
    let time = strtime::parse("%Y%m%dT%H%M%SZ", text(parts, "x-amz-date")?).ok()?;
    let time = time.to_datetime().ok()?.to_zoned(TimeZone::UTC).ok()?;
    Some(SystemTime::from(time.timestamp()))
}

fn text<'p>(parts: &'p Parts, name: &str) -> Option<&'p str> {
    parts.headers.get(name)?.to_str().ok()
}
