//! Ids and secrets nobody can guess.

use crate::error::Error;

/// 32 hexadecimal digits from the system's source of randomness.
pub(crate) fn hex() -> Result<String, Error> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::io(
            "no randomness from the system",
            std::io::Error::other(error.to_string()),
        )
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A request id, as AWS writes them.
pub(crate) fn request_id() -> String {
    // Without randomness the cloud did not start, so the default is never seen.
    let digits = hex().unwrap_or_default();
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    format!(
        "{}-{}-{}-{}-{}",
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32)
    )
}
