//! `Retry` and `Catch`.

use crate::document::Node;
use crate::failure::{ALL, RUNTIME};
use crate::jsonata::Reads;
use crate::template::Template;

/// AWS's bound on counts and seconds.
const MOST: u64 = 99_999_999;
/// AWS's bound on `MaxDelaySeconds`: below 366 days.
const MOST_DELAY: u64 = 31_622_399;

/// One entry of `Retry`.
#[derive(Debug)]
pub(crate) struct Retrier {
    pub(crate) errors: Vec<String>,
    interval_seconds: u64,
    backoff_rate: f64,
    pub(crate) max_attempts: u64,
    max_delay_seconds: Option<u64>,
    full_jitter: bool,
}

impl Retrier {
    /// How long to wait before the attempt of this number (from 1). `chance`, from 0 to 1, is what `FULL` jitter draws.
    pub(crate) fn delay_ms(&self, attempt: u64, chance: f64) -> u64 {
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let grown = self.interval_seconds as f64 * self.backoff_rate.powi(exponent);
        let capped = grown.min(self.max_delay_seconds.unwrap_or(MOST_DELAY) as f64);
        let drawn = if self.full_jitter {
            capped * chance
        } else {
            capped
        };
        (drawn * 1_000.0) as u64
    }

    pub(super) fn read_all(state: &Node<'_>) -> Vec<Self> {
        let Some(list) = state.get("Retry") else {
            return Vec::new();
        };
        let items = list.items();
        let last = items.len().saturating_sub(1);
        items
            .iter()
            .enumerate()
            .map(|(i, item)| Self::read(item, i == last))
            .collect()
    }

    fn read(node: &Node<'_>, last: bool) -> Self {
        const FIELDS: &[&str] = &[
            "ErrorEquals",
            "IntervalSeconds",
            "BackoffRate",
            "MaxAttempts",
            "MaxDelaySeconds",
            "JitterStrategy",
            "Comment",
        ];
        node.object();
        node.only("a retrier", FIELDS);
        let number =
            |field: &str, least, most| node.get(field).and_then(|value| value.integer(least, most));
        let interval_seconds = number("IntervalSeconds", 1, MOST).unwrap_or(1);
        let max_delay_seconds = number("MaxDelaySeconds", 1, MOST_DELAY);
        if max_delay_seconds.is_some_and(|most| most <= interval_seconds) {
            node.complain_at("MaxDelaySeconds", "must be more than IntervalSeconds");
        }
        let backoff_rate = node
            .get("BackoffRate")
            .map_or(2.0, |rate| match rate.value.as_f64() {
                Some(factor) if factor >= 1.0 => factor,
                _ => {
                    rate.complain("must be a number of at least 1.0");
                    1.0
                }
            });
        let full_jitter =
            node.get("JitterStrategy")
                .is_some_and(|strategy| match strategy.value.as_str() {
                    Some("FULL") => true,
                    Some("NONE") => false,
                    _ => {
                        strategy.complain("must be \"FULL\" or \"NONE\"");
                        false
                    }
                });
        Self {
            errors: errors(node, last),
            interval_seconds,
            backoff_rate,
            max_attempts: number("MaxAttempts", 0, MOST).unwrap_or(3),
            max_delay_seconds,
            full_jitter,
        }
    }
}

/// One entry of `Catch`.
#[derive(Debug)]
pub(crate) struct Catcher {
    pub(crate) errors: Vec<String>,
    pub(crate) next: String,
    pub(crate) output: Option<Template>,
}

impl Catcher {
    pub(super) fn read_all(state: &Node<'_>) -> Vec<Self> {
        let Some(list) = state.get("Catch") else {
            return Vec::new();
        };
        let items = list.items();
        let last = items.len().saturating_sub(1);
        items
            .iter()
            .enumerate()
            .map(|(i, item)| Self::read(item, i == last))
            .collect()
    }

    fn read(node: &Node<'_>, last: bool) -> Self {
        node.object();
        node.only("a catcher", &["ErrorEquals", "Next", "Output", "Comment"]);
        let reads = Reads {
            error_output: true,
            ..Reads::default()
        };
        Self {
            errors: errors(node, last),
            next: node
                .need("Next")
                .and_then(|next| next.string())
                .unwrap_or_default()
                .to_owned(),
            output: node
                .get("Output")
                .map(|output| Template::read(&output, reads)),
        }
    }
}

/// `ErrorEquals`. `States.ALL` stands alone, and in the last entry only.
fn errors(node: &Node<'_>, last: bool) -> Vec<String> {
    let Some(list) = node.need("ErrorEquals") else {
        return Vec::new();
    };
    let names = list.items();
    let mut errors = Vec::with_capacity(names.len());
    for name in &names {
        let Some(text) = name.string() else { continue };
        if text == ALL && names.len() > 1 {
            name.complain("States.ALL must stand alone in its ErrorEquals");
        } else if text == ALL && !last {
            name.complain(
                "States.ALL must be in the last entry: entries after it could never match",
            );
        } else if text == RUNTIME {
            name.complain("States.Runtime is terminal and cannot be retried or caught");
        }
        errors.push(text.to_owned());
    }
    errors
}
