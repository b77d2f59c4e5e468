//! What can go wrong with a call, and what is told of it.

use std::time::Duration;

use serde_json::Value;
use towpath_auth::Secret;
use towpath_engine::Usage;

/// The reason a call brought no answer that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The gateway has no room for the call now. It may have said for how long.
    Busy {
        why: String,
        after: Option<Duration>,
    },
    /// The gateway cannot be reached, is broken, or lost the call. It may have said when to try again.
    Down {
        why: String,
        after: Option<Duration>,
    },
    /// The gateway refused the call. The request or the deployment has to change first.
    Refused(String),
    /// The call was made, and its answer is a failure.
    Failed { why: String, usage: Option<Usage> },
}

impl Trouble {
    pub(crate) fn down(why: impl Into<String>) -> Self {
        Self::Down {
            why: why.into(),
            after: None,
        }
    }

    /// The gateway sent something that is no answer.
    pub(crate) fn unusable(why: &str) -> Self {
        Self::Failed {
            why: format!("the answer of the model gateway cannot be used: {why}"),
            usage: None,
        }
    }

    /// An error that a gateway tells of instead of an answer, or in the midst of one.
    pub(crate) fn in_answer(error: &Value) -> Self {
        let status = error.get("code").or_else(|| error.get("status"));
        let status = status.and_then(|it| match it {
            Value::String(text) => text.parse().ok(),
            other => other.as_u64(),
        });
        Self::of_status(status.unwrap_or(500), message(error), None)
    }

    /// An answer with this status, which is not one of success.
    pub(crate) fn of_status(status: u64, said: Option<String>, after: Option<Duration>) -> Self {
        let said = said.map_or_else(String::new, |said| format!(": {said}"));
        match status {
            429 => Self::Busy {
                why: format!("the model gateway has no room for the call (429){said}"),
                after,
            },
            300..400 => Self::Refused(format!(
                "the model gateway redirects ({status}), and redirects are not followed; name its final address as the base"
            )),
            401 | 403 => Self::Refused(format!(
                "the model gateway does not take this deployment's key ({status}){said}"
            )),
            408 | 425 => Self::Down {
                why: format!("the model gateway did not take the call in time ({status}){said}"),
                after,
            },
            400..500 => Self::Refused(format!(
                "the model gateway refused the call ({status}){said}"
            )),
            _ => Self::Down {
                why: format!("the model gateway failed ({status}){said}"),
                after,
            },
        }
    }

    /// What went wrong, in words for people.
    pub(crate) fn why(&self) -> &str {
        match self {
            Self::Busy { why, .. } | Self::Down { why, .. } => why,
            Self::Refused(why) | Self::Failed { why, .. } => why,
        }
    }

    /// Whether the failed call may have cost something without its usage being known.
    pub(crate) fn may_have_cost(&self) -> bool {
        match self {
            Self::Down { .. } => true,
            Self::Failed { usage, .. } => usage.is_none(),
            Self::Busy { .. } | Self::Refused(_) => false,
        }
    }

    /// The same, with its words fit to be shown: short, without control characters, without the key, and without what was
    /// asked of the model.
    pub(crate) fn shown(self, key: Option<&Secret>, asked: &str) -> Self {
        let fit = |why: String| match quotes(&why, asked) {
            true => fit(why.split(':').next().unwrap_or_default(), key) + QUOTED,
            false => fit(&why, key),
        };
        match self {
            Self::Busy { why, after } => Self::Busy {
                why: fit(why),
                after,
            },
            Self::Down { why, after } => Self::Down {
                why: fit(why),
                after,
            },
            Self::Refused(why) => Self::Refused(fit(why)),
            Self::Failed { why, usage } => Self::Failed {
                why: fit(why),
                usage,
            },
        }
    }
}

/// The most that is told of what a gateway says, in characters.
const SAID_MAX: usize = 500;

/// The length, in characters, from which on words that are also in a prompt are taken for a quotation.
const QUOTATION: usize = 40;
/// What stands in the place of words that quote the prompt.
const QUOTED: &str = " (what it says quotes the prompt, and is not shown)";

/// What stands in the place of the key.
const HIDDEN: &str = "***";

fn fit(why: &str, key: Option<&Secret>) -> String {
    let plain: String = why
        .chars()
        .map(|it| if it.is_control() { ' ' } else { it })
        .collect();
    // The key is hidden before the text is cut, so that no part of it is left at the end.
    let hidden = hide(&plain, key);
    match hidden.char_indices().nth(SAID_MAX) {
        None => hidden,
        Some((at, _)) => format!("{}…", hidden.get(..at).unwrap_or_default()),
    }
}

/// Whether words quote a text. Of long words only as much is looked at as can be shown.
fn quotes(words: &str, text: &str) -> bool {
    let starts: Vec<usize> = words.char_indices().map(|(at, _)| at).collect();
    let ends = starts.iter().skip(QUOTATION).copied();
    let ends = ends.chain([words.len()]);
    let windows = starts.iter().zip(ends).take(2 * SAID_MAX);
    windows
        .filter_map(|(from, to)| words.get(*from..to))
        .any(|window| window.chars().count() == QUOTATION && text.contains(window))
}

/// The text without the key.
pub(crate) fn hide(text: &str, key: Option<&Secret>) -> String {
    match key.map(Secret::expose).filter(|key| !key.is_empty()) {
        Some(key) => text.replace(key, HIDDEN),
        None => text.to_owned(),
    }
}

/// What a gateway says of an error, in the forms that are common.
pub(crate) fn said(body: &[u8]) -> Option<String> {
    let said = match serde_json::from_slice::<Value>(body) {
        Ok(json) => json.get("error").and_then(message).or(message(&json)),
        Err(_) => Some(String::from_utf8_lossy(body).trim().to_owned()),
    };
    said.filter(|said| !said.is_empty())
}

fn message(error: &Value) -> Option<String> {
    let message = error.get("message").or_else(|| error.get("detail"));
    message.unwrap_or(error).as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_gateway_are_found_in_the_common_forms() {
        for (body, expected) in [
            (
                r#"{"error": {"message": "no such model", "code": 1}}"#,
                Some("no such model"),
            ),
            (r#"{"error": "no such model"}"#, Some("no such model")),
            (r#"{"message": "Forbidden"}"#, Some("Forbidden")),
            (r#"{"detail": "Not Found"}"#, Some("Not Found")),
            (" bad gateway\n", Some("bad gateway")),
            (r#"{"error": {}}"#, None),
            ("", None),
        ] {
            assert_eq!(said(body.as_bytes()).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn what_is_shown_is_short_and_has_no_control_characters_and_no_key() {
        let key = Secret::new("sk-swordfish");
        let why = format!("\x1b[31mno\nsk-swordfish {} sk-swordfish", "é".repeat(485));
        let shown = Trouble::Refused(why).shown(Some(&key), "");
        let Trouble::Refused(why) = shown else {
            panic!()
        };
        assert!(why.starts_with(" [31mno *** é"), "{why}");
        assert!(
            !why.contains("sk-") && why.chars().count() == SAID_MAX + 1,
            "{why}"
        );
    }

    #[test]
    fn words_that_quote_the_prompt_are_not_shown() {
        let asked = "Summarise the letter of the patient, who lives in Ghent.";
        let shown = |said: &str| {
            let trouble = Trouble::of_status(400, Some(said.to_owned()), None);
            match trouble.shown(None, asked) {
                Trouble::Refused(why) => why,
                other => panic!("{other:?}"),
            }
        };
        for said in [
            format!("cannot parse: {asked}"),
            format!("{} in line 1", &asked[..45]),
        ] {
            let why = shown(&said);
            assert!(why.contains("(400)") && why.contains("quotes"), "{why}");
            assert!(!why.contains("Summarise"), "{why}");
        }
        // A few words that both have are none.
        let why = shown("the letter of the model is unknown");
        assert!(why.ends_with("the letter of the model is unknown"), "{why}");
    }

    #[test]
    fn an_error_amid_an_answer_is_what_its_code_says() {
        let error = |json: &str| Trouble::in_answer(&serde_json::from_str(json).unwrap());
        let busy = error(r#"{"code": "429", "message": "slow down"}"#);
        assert!(matches!(busy, Trouble::Busy { why, .. } if why.contains("slow down")));
        let refused = error(r#"{"code": 400, "message": "too long"}"#);
        assert!(matches!(refused, Trouble::Refused(why) if why.contains("too long")));
        for down in [r#"{"code": "overloaded", "message": "x"}"#, r#""broken""#] {
            assert!(matches!(error(down), Trouble::Down { .. }), "{down}");
        }
    }
}
