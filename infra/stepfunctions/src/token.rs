//! Task tokens. A token leads to its task without an index: it names the store, the execution and the task's number.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ulid::Ulid;

/// How many bytes a token says, with what fills it up: 640 characters of text.
const LENGTH: usize = 480;

/// A task token, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) store: String,
    pub(crate) execution: i64,
    pub(crate) task: u64,
}

impl Token {
    /// The token as text. `secret` keeps it from being guessed. It is as long as the tokens of AWS are, so that what it
    /// costs to keep one is known before.
    pub(crate) fn encode(&self, secret: Ulid) -> String {
        let said = format!("{}:{}:{}:{secret}:", self.store, self.execution, self.task);
        URL_SAFE_NO_PAD.encode(format!("{said:-<LENGTH$}"))
    }

    /// Reads a token; `None` for a text that is none.
    pub(crate) fn decode(text: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let mut parts = text.split(':');
        let token = Self {
            store: parts.next()?.to_owned(),
            execution: parts.next()?.parse().ok()?,
            task: parts.next()?.parse().ok()?,
        };
        let secret: Result<Ulid, _> = parts.next()?.parse();
        let filled = parts.next()?.bytes().all(|byte| byte == b'-');
        (secret.is_ok() && filled && parts.next().is_none()).then_some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_back_to_its_task() {
        let token = Token {
            store: "01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
            execution: 7,
            task: 3,
        };
        assert_eq!(Token::decode(&token.encode(Ulid::new())), Some(token));
        assert_eq!(Token::decode("nonsense"), None);
        assert_eq!(Token::decode(""), None);
    }
}
