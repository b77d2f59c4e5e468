//! Git, as a supervisor uses it: fully configured, without prompts, and never outside the directory it is given.
//!
//! There are two sorts. One has credentials, and works only in repositories that no command of a job has touched: what a
//! command leaves in a repository (filters, hooks, helpers) is run by git. The other works in the working copy, and has
//! none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use towpath_jobs::{error_class, last_lines};

use crate::error::Failure;
use crate::group::Launch;
use crate::job::Job;
use crate::order::{OF_GIT, inherited};
use crate::output::WORDS_MAX;

/// The variables of a job's environment that git gets to see when it logs in: how to log in, and whom to trust.
const OF_THE_JOB: [&str; 4] = [
    "GIT_ASKPASS",
    "GIT_SSH_COMMAND",
    "GIT_SSL_CAINFO",
    "SSH_AUTH_SOCK",
];

/// Settings of each git command, whatever the configuration of the user or of the working copy says. Hooks in
/// particular would run with credentials that the job's command was not given.
const SETTINGS: [(&str, &str); 6] = [
    ("protocol.ext.allow", "never"),
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("commit.gpgSign", "false"),
    ("push.followTags", "false"),
    // A garbage collection would go on in the background after the job has ended.
    ("gc.auto", "0"),
];

/// Git in one directory.
pub(crate) struct Git {
    dir: PathBuf,
    env: BTreeMap<String, String>,
    /// Texts that must not appear in a message.
    secrets: Vec<String>,
}

/// The output of a git command.
pub(crate) struct Said {
    pub(crate) ok: bool,
    pub(crate) stdout: String,
    /// The end of it for people, without secrets.
    pub(crate) words: String,
}

impl Git {
    /// Git that can log in to `repo`, in a directory that no command of the job has touched.
    pub(crate) fn with_credentials(
        dir: &Path,
        repo: &Repo,
        job_env: &BTreeMap<String, String>,
    ) -> Self {
        let mut env = inherited(&OF_GIT);
        for name in OF_THE_JOB {
            if let Some(value) = job_env.get(name) {
                env.insert(name.to_owned(), value.clone());
            }
        }
        // Here the credentials are neither among the arguments, which all users can see, nor in a configuration.
        let full = repo.with_credentials.as_ref();
        let login = full.map(|full| (format!("url.{full}.insteadOf"), repo.url.clone()));
        Self::new(dir, env, login, repo.secrets.clone())
    }

    /// From now on only the bare repository in this directory is used.
    pub(crate) fn bare(mut self) -> Self {
        let dir = self.dir.to_string_lossy().into_owned();
        self.env.insert("GIT_DIR".to_owned(), dir);
        self
    }

    /// Git in the working copy `dir`, without credentials. Only the repository in it is used, even if it disappears.
    pub(crate) fn in_working_copy(dir: &Path) -> Self {
        let mut env = inherited(&["XDG_CONFIG_HOME"]);
        let shown = dir.to_string_lossy().into_owned();
        env.insert("GIT_DIR".to_owned(), format!("{shown}/.git"));
        env.insert("GIT_WORK_TREE".to_owned(), shown);
        Self::new(dir, env, None, Vec::new())
    }

    fn new(
        dir: &Path,
        mut env: BTreeMap<String, String>,
        login: Option<(String, String)>,
        secrets: Vec<String>,
    ) -> Self {
        // The working copy recognises some of its messages.
        env.insert("LC_ALL".to_owned(), "C".to_owned());
        env.insert("GIT_TERMINAL_PROMPT".to_owned(), "0".to_owned());
        env.insert("GIT_ALLOW_PROTOCOL".to_owned(), SCHEMES.join(":"));
        env.insert("GIT_EDITOR".to_owned(), "true".to_owned());
        let settings = SETTINGS
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings: Vec<(String, String)> = settings.chain(login).collect();
        env.insert("GIT_CONFIG_COUNT".to_owned(), settings.len().to_string());
        for (index, (name, value)) in settings.into_iter().enumerate() {
            env.insert(format!("GIT_CONFIG_KEY_{index}"), name);
            env.insert(format!("GIT_CONFIG_VALUE_{index}"), value);
        }
        Self {
            dir: dir.to_owned(),
            env,
            secrets,
        }
    }

    /// Runs a git command to its end. Fails only if the job ends, or git cannot be run.
    pub(crate) fn try_run(&self, job: &mut Job, args: &[&str]) -> Result<Said, Failure> {
        let launch = Launch {
            program: "git".to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: self.env.clone(),
            dir: self.dir.clone(),
        };
        let ended = job
            .run(&launch, None)
            .map_err(|failure| match failure.class {
                // There is no git here, or no process for it.
                error_class::START_FAILED => Failure {
                    class: error_class::CHECKOUT_FAILED,
                    ..failure
                },
                _ => failure,
            })?;
        let stdout = String::from_utf8_lossy(&ended.stdout).trim().to_owned();
        let words = if ended.stderr.is_empty() {
            &ended.stdout
        } else {
            &ended.stderr
        };
        let words = redact(&last_lines(words, WORDS_MAX), &self.secrets);
        Ok(Said {
            ok: ended.status.is_some_and(|status| status.success()),
            stdout,
            words,
        })
    }

    /// Runs a git command that must succeed, and returns its standard output. `what` completes "cannot …".
    pub(crate) fn run(&self, job: &mut Job, what: &str, args: &[&str]) -> Result<String, Failure> {
        let said = self.try_run(job, args)?;
        if said.ok {
            Ok(said.stdout)
        } else {
            Err(failed(what, &said.words))
        }
    }
}

/// The failure of a job whose working copy could not be made, or used.
pub(crate) fn failed(what: &str, words: &str) -> Failure {
    Failure::new(
        error_class::CHECKOUT_FAILED,
        format!("cannot {what}: {words}"),
    )
}

fn redact(text: &str, secrets: &[String]) -> String {
    secrets
        .iter()
        .fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
}

/// The protocols that git may use. `ext` would run any command.
const SCHEMES: [&str; 5] = ["https", "http", "ssh", "git", "file"];

/// The checked address of a repository, with the credentials it may carry kept apart.
#[derive(Debug, PartialEq)]
pub(crate) struct Repo {
    /// The address without credentials, which may be shown.
    pub(crate) url: String,
    /// The address with credentials, if there are any.
    with_credentials: Option<String>,
    secrets: Vec<String>,
}

impl Repo {
    /// # Errors
    /// Why the address is refused, in words that follow "the repository's address".
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let plain = Self {
            url: text.to_owned(),
            with_credentials: None,
            secrets: Vec::new(),
        };
        let first = text.split('/').next().unwrap_or_default();
        if text.is_empty() || text.starts_with('-') || text.chars().any(char::is_control) {
            return Err("is empty, begins with a hyphen or has control characters".to_owned());
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            if !SCHEMES.contains(&scheme) {
                return Err(format!("must begin with one of {}", SCHEMES.join(", ")));
            }
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
            if host.starts_with('-') || user.starts_with('-') {
                return Err("has a host that begins with a hyphen".to_owned());
            }
            // Over ssh a user name alone is not a secret.
            let harmless = user.is_empty() || (!scheme.starts_with("http") && !user.contains(':'));
            if harmless {
                return Ok(plain);
            }
            let password = user.split_once(':').map_or(user, |(_, password)| password);
            let secrets = [user, password]
                .into_iter()
                .filter(|secret| !secret.is_empty())
                .map(str::to_owned)
                .collect();
            let url = format!("{scheme}://{host}/{path}");
            return Ok(Self {
                url,
                with_credentials: Some(text.to_owned()),
                secrets,
            });
        }
        if first.contains("::") && !first.starts_with('[') {
            return Err("names a remote helper, which could run any command".to_owned());
        }
        if let Some((host, _)) = first.split_once(':') {
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            return if host.starts_with('-') {
                Err("has a host that begins with a hyphen".to_owned())
            } else {
                Ok(plain)
            };
        }
        if text.starts_with('/') {
            Ok(plain)
        } else {
            Err("is a relative path; use an absolute one".to_owned())
        }
    }
}

/// Whether a text can be the name of a branch: git's own rules, and no leading hyphen.
pub(crate) fn is_branch(name: &str) -> bool {
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    let char = |char: char| char.is_control() || " ~^:?*[\\".contains(char);
    !name.starts_with('-')
        && !name.ends_with('.')
        && !["@", "HEAD"].contains(&name)
        && !name.contains("..")
        && !name.contains("@{")
        && name.len() <= 200
        && name.split('/').all(part)
        && !name.chars().any(char)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_could_run_a_command_are_refused() {
        for text in [
            "",
            "-u",
            "--upload-pack=touch x",
            "ext::sh -c 'touch x'",
            "fd::7",
            "ext://x/y",
            "ftp://x/y",
            "a\nb",
            "ssh://-oProxyCommand=x/y",
            "-oProxyCommand=x:y",
            "git@-oProxyCommand=x:y",
            "../mine",
            "mine",
        ] {
            assert!(Repo::parse(text).is_err(), "{text:?}");
        }
        for text in [
            "/srv/git/a.git",
            "file:///srv/a.git",
            "https://example.com/a::b.git",
            "git@example.com:a/b.git",
            "ssh://git@example.com/a.git",
            "[::1]:a.git",
            "/srv/ext::a",
        ] {
            let repo = Repo::parse(text).unwrap();
            assert_eq!(
                (repo.url.as_str(), repo.with_credentials, repo.secrets.len()),
                (text, None, 0)
            );
        }
    }

    #[test]
    fn credentials_in_an_address_are_set_apart_and_never_said() {
        let repo = Repo::parse("https://bot:hunter2@example.com/a/b.git").unwrap();
        assert_eq!(repo.url, "https://example.com/a/b.git");
        let said = redact(
            "no access to 'https://bot:hunter2@example.com' with hunter2",
            &repo.secrets,
        );
        assert_eq!(said, "no access to 'https://***@example.com' with ***");
        let git = Git::with_credentials(Path::new("/w"), &repo, &BTreeMap::new());
        let keys: Vec<_> = git
            .env
            .iter()
            .filter(|(_, value)| value.contains("hunter2"))
            .collect();
        assert_eq!(keys.len(), 1);
        assert_eq!(
            Repo::parse("https://tok@example.com/a").unwrap().secrets,
            ["tok", "tok"]
        );
        assert_eq!(
            Repo::parse("ssh://git:pw@example.com/a").unwrap().url,
            "ssh://example.com/a"
        );
    }

    #[test]
    fn branch_names_follow_gits_rules() {
        for name in ["main", "feature/x-1", "über", "a.b", "x@y"] {
            assert!(is_branch(name), "{name}");
        }
        for name in [
            "", "-f", "--force", "a..b", ".a", "a/.b", "a.lock", "a/", "/a", "a//b", "a b", "a~1",
            "a^", "a:b", "a?", "*", "a[", "a\\b", "@", "@{-1}", "a.", "HEAD", "a\n",
        ] {
            assert!(!is_branch(name), "{name:?}");
        }
    }
}
