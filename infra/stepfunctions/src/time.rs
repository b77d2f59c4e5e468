//! Times as Step Functions writes them.

use jiff::Timestamp;

/// ISO 8601 with milliseconds, in UTC.
pub(crate) fn iso(millis: u64) -> String {
    let millis = i64::try_from(millis).unwrap_or(i64::MAX);
    let timestamp = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX);
    format!("{timestamp:.3}")
}

/// Seconds since the epoch with a fraction, as the JSON 1.0 protocol carries times.
pub(crate) fn epoch_seconds(millis: u64) -> f64 {
    // Exact: milliseconds stay below 2^53 for the next 280,000 years.
    millis as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_have_milliseconds_and_are_utc() {
        assert_eq!(super::iso(1_700_000_000_000), "2023-11-14T22:13:20.000Z");
        assert_eq!(super::iso(1_700_000_000_120), "2023-11-14T22:13:20.120Z");
    }
}
