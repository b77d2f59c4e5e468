//! Reading the members of a request.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::refusal::Refusal;
use crate::arn::is_arn;
use crate::store::Page;

/// The largest page AWS gives.
const MAX_PAGE: u64 = 1_000;
/// The page AWS gives when none is asked for.
const DEFAULT_PAGE: u64 = 100;

/// The body of a request.
pub(super) struct Request(Map<String, Value>);

impl Request {
    pub(super) fn read(body: &[u8]) -> Result<Self, Refusal> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(members)) => Ok(Self(members)),
            _ => Err(Refusal::new(
                "SerializationException",
                "The body of the request is not a JSON object",
            )),
        }
    }

    pub(super) fn text(&self, member: &str, most: usize) -> Result<Option<&str>, Refusal> {
        match self.0.get(member) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.len() <= most => Ok(Some(text)),
            Some(Value::String(_)) => Err(Refusal::validation(
                member,
                format!("have length less than or equal to {most}"),
            )),
            Some(_) => Err(Refusal::new(
                "SerializationException",
                format!("{member} is not a string"),
            )),
        }
    }

    pub(super) fn need(&self, member: &str, most: usize) -> Result<&str, Refusal> {
        match self.text(member, most)? {
            None => Err(Refusal::validation(member, "not be null")),
            Some("") => Err(Refusal::validation(
                member,
                "have length greater than or equal to 1",
            )),
            Some(text) => Ok(text),
        }
    }

    /// An ARN of this kind (`stateMachine`, `execution`).
    pub(super) fn arn(&self, member: &str, kind: &str) -> Result<&str, Refusal> {
        let arn = self.need(member, 256)?;
        if is_arn(arn, kind) {
            Ok(arn)
        } else {
            Err(Refusal::new("InvalidArn", format!("Invalid Arn: '{arn}'")))
        }
    }

    pub(super) fn flag(&self, member: &str) -> Option<bool> {
        self.0.get(member)?.as_bool()
    }

    pub(super) fn page(&self) -> Result<Page, Refusal> {
        let limit = match self.0.get("maxResults") {
            None | Some(Value::Null) => DEFAULT_PAGE,
            Some(value) => match value.as_u64().filter(|limit| *limit <= MAX_PAGE) {
                Some(0) => DEFAULT_PAGE,
                Some(limit) => limit,
                None => {
                    return Err(Refusal::validation(
                        "maxResults",
                        format!("have value between 0 and {MAX_PAGE}"),
                    ));
                }
            },
        };
        let after = self.text("nextToken", 1024)?.map(decode).transpose()?;
        Ok(Page {
            after,
            limit,
            reverse: self.flag("reverseOrder") == Some(true),
        })
    }
}

/// The token of the page after the one that ends with this item.
pub(super) fn next_token(last: u64) -> String {
    URL_SAFE_NO_PAD.encode(format!("after:{last}"))
}

fn decode(token: &str) -> Result<u64, Refusal> {
    let invalid = || Refusal::new("InvalidToken", "Invalid Token: 'Invalid token'");
    let text = URL_SAFE_NO_PAD
        .decode(token)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    text.and_then(|text| text.strip_prefix("after:")?.parse().ok())
        .ok_or_else(invalid)
}
