//! The sample: a small git repository with failing tests, and the pipeline that mends and publishes it.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use towpath_engine::Pipeline;

use crate::pipeline_file;

/// The sample pipeline, as it stands among the sample pipelines.
pub const PIPELINE: &str = include_str!("../../../tests/pipelines/mend.yaml");

/// A shell script with two mistakes, and a test that finds one after the other.
const FILES: [(&str, &str); 3] = [
    (
        "greet.sh",
        "#!/bin/sh\n# Greets whoever is named, or the world.\nname=$1\nprintf 'Helo, %s\\n' \"$name\"\n",
    ),
    (
        "test.sh",
        concat!(
            "#!/bin/sh\n",
            "expect() {\n",
            "    if [ \"$2\" = \"$3\" ]; then echo \"ok    $1\"; return; fi\n",
            "    echo \"FAIL  $1: expected '$3', got '$2'\" >&2\n",
            "    exit 1\n",
            "}\n",
            "expect 'greets by name' \"$(sh greet.sh Ada)\" 'Hello, Ada!'\n",
            "expect 'greets the world' \"$(sh greet.sh)\" 'Hello, world!'\n",
        ),
    ),
    (
        "README.md",
        "# Greetings\n\n`sh greet.sh NAME` greets. `sh test.sh` tests.\n",
    ),
];

/// The sample pipeline.
///
/// # Errors
/// If it is not valid, which a test would have shown.
pub fn pipeline() -> Result<Pipeline, String> {
    pipeline_file::parse(PIPELINE, "the sample pipeline")
}

/// Makes the sample repository in an empty directory.
///
/// # Errors
/// If git is not there, or does not do as it should.
pub fn repository(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    git(dir, &["init", "--quiet", "--initial-branch", "main"])?;
    for (name, text) in FILES {
        fs::write(dir.join(name), text)?;
    }
    git(dir, &["config", "user.name", "Towpath demo"])?;
    git(dir, &["config", "user.email", "demo@towpath.invalid"])?;
    git(dir, &["config", "commit.gpgsign", "false"])?;
    // The last step pushes to the branch that is checked out here, and the files should follow.
    git(
        dir,
        &["config", "receive.denyCurrentBranch", "updateInstead"],
    )?;
    git(dir, &["add", "."])?;
    git(
        dir,
        &[
            "commit",
            "--quiet",
            "--message",
            "A greeting that does not work yet",
        ],
    )?;
    Ok(())
}

/// Runs git in a directory and returns what it printed.
///
/// # Errors
/// If git is not there or fails; then with its own words.
pub fn git(dir: &Path, arguments: &[&str]) -> io::Result<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(dir)
        .args(arguments)
        .output()
        .map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("git could not be run ({error}); is it installed?"),
            )
        })?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!(
            "git {}: {}",
            arguments.join(" "),
            words.trim()
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_pipeline_is_valid_and_the_sample_repository_fails_its_test() {
        assert_eq!(pipeline().unwrap().steps.len(), 3);
        let dir = tempfile::tempdir().unwrap();
        repository(dir.path()).unwrap();
        let test = Command::new("sh")
            .arg("test.sh")
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert!(!test.status.success());
        assert_eq!(git(dir.path(), &["status", "--porcelain"]).unwrap(), "");
    }
}
