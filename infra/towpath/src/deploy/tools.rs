//! The tools that a deployment takes, and running them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A tool, and what is there of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tool {
    pub(super) name: &'static str,
    /// The version that was found.
    pub(super) version: Option<String>,
    /// What is wrong with it, and how it is installed.
    pub(super) problem: Option<String>,
}

/// The oldest SAM CLI that builds functions in Rust without asking for its beta features.
const SAM: (u32, u32) = (1, 170);
/// The targets of the runners.
pub(super) const TARGETS: [(&str, &str); 2] = [
    ("x86_64", "x86_64-unknown-linux-musl"),
    ("aarch64", "aarch64-unknown-linux-musl"),
];

/// Looks for every tool.
pub(super) fn check() -> Vec<Tool> {
    let mut tools = vec![
        found("sam", &["--version"], "pip install aws-sam-cli"),
        found(
            "cargo-lambda",
            &["lambda", "--version"],
            "pip install cargo-lambda",
        ),
        found(
            "cargo-zigbuild",
            &["zigbuild", "--version"],
            "pip install cargo-zigbuild",
        ),
    ];
    for tool in &mut tools {
        let version = tool.version.as_deref().and_then(numbers);
        if tool.name == "sam" && version.is_some_and(|version| version < SAM) {
            let (major, minor) = SAM;
            tool.problem = Some(format!(
                "it is older than {major}.{minor}; pip install --upgrade aws-sam-cli"
            ));
        }
    }
    tools.push(targets());
    tools
}

fn found(name: &'static str, args: &[&str], install: &str) -> Tool {
    // Tools of cargo are called through it, which finds them in its own folder too.
    let program = if name.starts_with("cargo-") {
        "cargo"
    } else {
        name
    };
    let said = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output();
    let said = said.ok().filter(|it| it.status.success());
    let version = said.map(|it| {
        let text = String::from_utf8_lossy(&it.stdout).into_owned();
        let number = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit());
        let version = text.split_whitespace().find(number);
        version.unwrap_or("unknown").to_owned()
    });
    Tool {
        problem: version
            .is_none()
            .then(|| format!("it is not installed; {install}")),
        name,
        version,
    }
}

/// The targets that the runners are built for, as rustup has them. Where there is no rustup the build tells.
fn targets() -> Tool {
    let listed = Command::new("rustup")
        .args(["target", "list", "--installed"])
        .output();
    let listed = listed.ok().filter(|it| it.status.success());
    let missing = listed.map(|it| {
        let text = String::from_utf8_lossy(&it.stdout).into_owned();
        let missing = TARGETS.iter().map(|(_, target)| *target);
        missing
            .filter(|target| !text.lines().any(|line| line == *target))
            .collect::<Vec<_>>()
    });
    let missing = missing.unwrap_or_default();
    Tool {
        name: "rust targets",
        version: missing.is_empty().then(|| "musl".to_owned()),
        problem: (!missing.is_empty())
            .then(|| format!("not installed; rustup target add {}", missing.join(" "))),
    }
}

/// The first two numbers of a version.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

/// A command to run, shown before it is.
pub(super) struct Run<'a> {
    program: &'a str,
    args: Vec<&'a str>,
    dir: Option<PathBuf>,
    environment: BTreeMap<String, String>,
}

impl<'a> Run<'a> {
    pub(super) fn new(program: &'a str, args: &[&'a str]) -> Self {
        Self {
            program,
            args: args.to_vec(),
            dir: None,
            environment: BTreeMap::new(),
        }
    }

    pub(super) fn within(self, dir: &Path) -> Self {
        let dir = Some(dir.to_owned());
        Self { dir, ..self }
    }

    pub(super) fn with(self, environment: &BTreeMap<String, String>) -> Self {
        let environment = environment.clone();
        Self {
            environment,
            ..self
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        command.args(&self.args).envs(&self.environment);
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command
    }

    fn shown(&self) -> String {
        format!("{} {}", self.program, self.args.join(" "))
    }

    /// Runs the command, with its output on the terminal.
    pub(super) fn run(&self) -> Result<(), String> {
        eprintln!("\n$ {}", self.shown());
        let status = self.command().status();
        let status = status.map_err(|error| format!("`{}`: {error}", self.shown()))?;
        match status.success() {
            true => Ok(()),
            false => Err(format!(
                "`{}` failed; correct what it says above, and run this again: what was done is found and not done twice",
                self.shown()
            )),
        }
    }

    /// Runs the command, and returns what it prints.
    pub(super) fn output(&self) -> Result<String, String> {
        let output = self
            .command()
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output();
        let output = output.map_err(|error| format!("`{}`: {error}", self.shown()))?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(format!("`{}` failed", self.shown())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(numbers("1.170.1"), Some((1, 170)));
        assert!(numbers("1.99.0") < Some(SAM) && numbers("2.0") > Some(SAM));
        assert_eq!(numbers("nonsense"), None);
    }
}
