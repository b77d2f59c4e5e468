//! What a model answers: put together from the pieces of a stream, or read from one document.

use serde::Deserialize;
use towpath_engine::Usage;

use crate::trouble::Trouble;

/// The most bytes of an answer's text, which is the most that an output may have.
pub(crate) const TEXT_MAX: usize = 4 * 1024 * 1024;

/// The answer of a model, as far as it has come.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reply {
    /// The text of the answer, as far as it has come.
    pub(crate) text: String,
    /// The model that answered, if the gateway says so.
    pub(crate) model: Option<String>,
    /// What the call used, if the gateway says so.
    pub(crate) usage: Option<Usage>,
    refusal: String,
    finish: Option<String>,
    over: bool,
}

/// A piece of a stream, or a whole answer: what both have, and what either has.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Document {
    error: Option<serde_json::Value>,
    model: Option<String>,
    choices: Vec<Choice>,
    usage: Option<serde_json::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Choice {
    index: u64,
    #[serde(alias = "delta")]
    message: Option<Message>,
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    content: Option<String>,
    refusal: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Used {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<Details>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    cached_tokens: Option<u64>,
}

/// What a gateway says was used. An answer is good whose usage cannot be read: then none is told.
fn used(usage: serde_json::Value) -> Option<Usage> {
    let used: Used = serde_json::from_value(usage).ok()?;
    let details = used.prompt_tokens_details.unwrap_or_default();
    let told = used.prompt_tokens.is_some() || used.completion_tokens.is_some();
    told.then(|| Usage {
        prompt_tokens: used.prompt_tokens.unwrap_or_default(),
        completion_tokens: used.completion_tokens.unwrap_or_default(),
        cached_tokens: details.cached_tokens.unwrap_or_default(),
        ..Usage::default()
    })
}

impl Reply {
    /// Takes the data of one event of a stream. True: the stream is over.
    pub(crate) fn take(&mut self, data: &str) -> Result<bool, Trouble> {
        if data.trim() == "[DONE]" {
            self.over = true;
            return Ok(true);
        }
        self.add(read(data.as_bytes())?)?;
        Ok(false)
    }

    /// Reads an answer that is one document.
    pub(crate) fn whole(body: &[u8]) -> Result<Self, Trouble> {
        let document = read(body)?;
        if document.choices.is_empty() && document.error.is_none() {
            return Err(Trouble::unusable("its answer has no `choices`"));
        }
        let mut reply = Self {
            over: true,
            ..Self::default()
        };
        reply.add(document)?;
        Ok(reply)
    }

    fn add(&mut self, document: Document) -> Result<(), Trouble> {
        if let Some(error) = document.error.filter(|error| !error.is_null()) {
            return Err(Trouble::in_answer(&error));
        }
        self.model = document.model.or(self.model.take());
        // Some gateways tell with each piece what was used so far: the last word counts.
        self.usage = document.usage.and_then(used).or(self.usage);
        for choice in document.choices.into_iter().filter(|it| it.index == 0) {
            self.finish = choice.finish_reason.or(self.finish.take());
            let Message { content, refusal } = choice.message.unwrap_or_default();
            self.text.push_str(&content.unwrap_or_default());
            self.refusal.push_str(&refusal.unwrap_or_default());
        }
        if self.text.len() + self.refusal.len() > TEXT_MAX {
            let why = format!("the model's answer is longer than {TEXT_MAX} bytes");
            return Err(Trouble::Failed {
                why,
                usage: self.usage,
            });
        }
        Ok(())
    }

    /// Whether nothing of the text is missing, if nothing more comes.
    pub(crate) fn is_complete(&self) -> bool {
        self.over || self.finish.is_some()
    }

    /// The answer, if the model has given one and ended it of its own accord.
    pub(crate) fn checked(self) -> Result<Self, Trouble> {
        let why = match self.finish.as_deref() {
            Some("length") => {
                "the model's answer was cut off at the most tokens that it may have; raise `maxTokens`, or ask for less"
            }
            Some("content_filter") => "the gateway's content filter held the model's answer back",
            Some("tool_calls" | "function_call") => {
                "the model asked for a tool, and a step of kind `model` has none"
            }
            _ if !self.refusal.is_empty() => {
                let why = format!("the model refused to answer: {}", self.refusal);
                return Err(Trouble::Failed {
                    why,
                    usage: self.usage,
                });
            }
            _ if self.text.trim().is_empty() => "the model's answer is empty",
            _ => return Ok(self),
        };
        Err(Trouble::Failed {
            why: why.to_owned(),
            usage: self.usage,
        })
    }
}

fn read(json: &[u8]) -> Result<Document, Trouble> {
    // The reason is not told: it may quote what was sent.
    serde_json::from_slice(json)
        .map_err(|_| Trouble::unusable("its answer is not of the chat completions API"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stream(pieces: &[serde_json::Value]) -> Result<Reply, Trouble> {
        let mut reply = Reply::default();
        for piece in pieces {
            reply.take(&piece.to_string())?;
        }
        reply.take("[DONE]")?;
        reply.checked()
    }

    fn piece(text: &str) -> serde_json::Value {
        json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]})
    }

    fn finish(reason: &str) -> serde_json::Value {
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 4}})
    }

    #[test]
    fn pieces_make_an_answer_and_the_last_word_on_usage_counts() {
        let other = json!({"choices": [{"index": 1, "delta": {"content": "other"}}]});
        let used = json!({"model": "m-1", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 8,
            "prompt_tokens_details": {"cached_tokens": 7}}});
        let reply = stream(&[piece("Hel"), other, piece("lo"), finish("stop"), used]).unwrap();
        let usage = Usage {
            prompt_tokens: 9,
            completion_tokens: 8,
            cached_tokens: 7,
            ..Usage::default()
        };
        assert_eq!((reply.text.as_str(), reply.usage), ("Hello", Some(usage)));
        assert_eq!(reply.model.as_deref(), Some("m-1"));
    }

    #[test]
    fn an_answer_that_did_not_end_of_its_own_accord_fails_with_what_it_used() {
        for (reason, says) in [
            ("length", "cut off"),
            ("content_filter", "content filter"),
            ("tool_calls", "a tool"),
        ] {
            match stream(&[piece("Hel"), finish(reason)]) {
                Err(Trouble::Failed { why, usage }) => {
                    assert!(why.contains(says), "{why}");
                    assert_eq!(usage.unwrap().completion_tokens, 4);
                }
                other => panic!("{reason}: {other:?}"),
            }
        }
        let refused = json!({"choices": [{"index": 0, "delta": {"refusal": "I won't."}}]});
        for (pieces, says) in [
            (vec![refused, finish("stop")], "I won't."),
            (vec![piece(" \n"), finish("stop")], "empty"),
        ] {
            let failed = stream(&pieces);
            assert!(
                matches!(&failed, Err(Trouble::Failed { why, .. }) if why.contains(says)),
                "{failed:?}"
            );
        }
    }

    #[test]
    fn an_answer_is_complete_with_its_reason_or_the_end_of_the_stream() {
        let mut reply = Reply::default();
        reply.take(&piece("Hel").to_string()).unwrap();
        assert!(!reply.is_complete());
        reply.take(&finish("stop").to_string()).unwrap();
        assert!(reply.is_complete());
        assert!(Reply::default().take("[DONE]").unwrap());
    }

    #[test]
    fn usage_that_cannot_be_read_is_none_and_costs_no_answer() {
        for usage in [
            json!({}),
            json!("many"),
            json!({"prompt_tokens": -1}),
            json!(null),
        ] {
            let last = json!({"choices": [], "usage": usage});
            let read = |pieces: &[_]| stream(pieces).unwrap().usage;
            let end = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
            assert_eq!(read(&[piece("x"), end, last.clone()]), None, "{last}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for nonsense in ["", "{", "7", r#"{"choices": 1}"#] {
            assert!(Reply::default().take(nonsense).is_err(), "{nonsense}");
            assert!(Reply::whole(nonsense.as_bytes()).is_err(), "{nonsense}");
        }
        assert!(Reply::whole(br#"{"object": "list"}"#).is_err());
        let long = "x".repeat(TEXT_MAX + 1);
        assert!(stream(&[piece(&long)]).is_err());
        assert!(stream(&[piece(&long[1..]), finish("stop")]).is_ok());
    }
}
