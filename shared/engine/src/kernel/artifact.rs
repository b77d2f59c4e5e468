//! Artifacts: files that an agent leaves besides its output.

use serde::{Deserialize, Serialize};

use crate::JobId;

/// A file that an agent left besides its output. Its bytes are kept apart, under its job and hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// The path of the file in the work directory of the job that left it, which is the name of the artifact.
    pub name: String,
    /// The size of the file in bytes.
    pub bytes: u64,
    /// The SHA-256 of the file, in hexadecimal digits.
    pub sha256: String,
    /// The job that left the file.
    pub job: JobId,
}

impl Artifact {
    /// The most artifacts that an answer may name.
    pub const COUNT_MAX: usize = 16;
    /// The most bytes that one artifact may have.
    pub const BYTES_MAX: u64 = 32 * 1024 * 1024;
    /// The longest name, in bytes.
    const NAME_MAX: usize = 200;

    /// Checks that a name is the path of a file below a directory, of characters that stand for themselves in a URL.
    ///
    /// # Errors
    /// The rule that the name breaks.
    pub fn check_name(name: &str) -> Result<(), String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-+@=~".contains(c);
        let is_part =
            |part: &str| !part.is_empty() && part != "." && part != ".." && part.chars().all(plain);
        if name.len() <= Self::NAME_MAX && name.split('/').all(is_part) {
            return Ok(());
        }
        let shown: String = name.chars().take(80).collect();
        Err(format!(
            "the artifact {shown:?} is not named by a path below the work directory, like `dist/report.html`, of at most {} \
             letters, digits, /, ., _, -, +, @, = and ~",
            Self::NAME_MAX
        ))
    }

    /// Checks that the records can hold these artifacts of one answer.
    ///
    /// # Errors
    /// The rule that one of them breaks, or all together.
    pub fn check_all(artifacts: &[Self]) -> Result<(), String> {
        Self::check_count(artifacts.len())?;
        artifacts.iter().try_for_each(Self::check)
    }

    /// Checks that an answer may name so many artifacts.
    ///
    /// # Errors
    /// If it may not.
    pub fn check_count(count: usize) -> Result<(), String> {
        let most = Self::COUNT_MAX;
        match count <= most {
            true => Ok(()),
            false => Err(format!(
                "the answer names {count} artifacts; at most {most} are allowed"
            )),
        }
    }

    /// Checks that the records can hold the artifact.
    ///
    /// # Errors
    /// The rule that the artifact breaks.
    fn check(&self) -> Result<(), String> {
        Self::check_name(&self.name)?;
        if self.bytes > Self::BYTES_MAX {
            return Err(format!(
                "the artifact {} has {} bytes; at most {} are allowed",
                self.name,
                self.bytes,
                Self::BYTES_MAX
            ));
        }
        let is_hash = self.sha256.len() == 64 && self.sha256.bytes().all(is_lower_hex);
        match is_hash {
            true => Ok(()),
            false => Err(format!("the artifact {} has no SHA-256", self.name)),
        }
    }
}

fn is_lower_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_below_the_work_directory() {
        for good in ["a", "dist/report.html", "a.b/c-d_e+f@g=h~", ".hidden"] {
            assert_eq!(Artifact::check_name(good), Ok(()), "{good}");
        }
        let long = "a".repeat(Artifact::NAME_MAX + 1);
        for bad in [
            "", "/a", "a/", "a//b", ".", "..", "a/../b", "a b", "a%2e", "a\\b", "é", "a\n", &long,
        ] {
            assert!(Artifact::check_name(bad).is_err(), "{bad:?}");
        }
    }
}
