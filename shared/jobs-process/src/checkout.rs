//! A job's working copy: made before the command, and published after it if the job may write.

use serde::Serialize;
use towpath_runtime::{Access, Checkout, error_class};

use crate::error::Failure;
use crate::folder::{Durable, write_json};
use crate::git::{Git, Repo, failed, is_branch};
use crate::job::Order;
use crate::supervise::Supervisor;

/// How often a push that lost a race is tried.
const PUSHES: usize = 8;
/// Where the remote's branches are kept.
const REMOTE: &str = "refs/remotes/origin/";

/// A clone in the job's work directory. The user's own trees are never touched.
pub(crate) struct WorkingCopy {
    git: Git,
    access: Access,
    record: Record,
}

/// What `checkout.json` says.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    /// The repository, without credentials.
    repo: String,
    branch: String,
    /// The branch that `branch` began at, or would have. None in an empty repository.
    base: Option<String>,
    /// The commit the command began with. None in an empty repository.
    base_commit: Option<String>,
    /// The commit at its end.
    head_commit: Option<String>,
    pushed: bool,
}

impl WorkingCopy {
    /// Clones the repository and checks the branch out.
    pub(crate) fn make(
        supervisor: &mut Supervisor,
        checkout: &Checkout,
        order: &Order,
    ) -> Result<Self, Failure> {
        let refuse = |what: String| Failure::new(error_class::CHECKOUT_FAILED, what);
        let repo = Repo::parse(&checkout.repo)
            .map_err(|why| refuse(format!("the repository's address {why}")))?;
        for name in [Some(&checkout.branch), checkout.base.as_ref()]
            .into_iter()
            .flatten()
        {
            if !is_branch(name) {
                return Err(refuse(format!("{name:?} is not a name for a branch")));
            }
        }
        let mut git = Git::new(&supervisor.folder.work(), &repo, &order.env);
        let clone = [
            "clone",
            "--quiet",
            "--no-checkout",
            "--origin=origin",
            "--template=",
            "--",
            &repo.url,
            ".",
        ];
        git.run(supervisor, "clone the repository", &clone)?;
        git.settle();

        let author = order
            .env
            .get("TOWPATH_AGENT")
            .map_or("Towpath".to_owned(), |agent| format!("Towpath ({agent})"));
        git.run(
            supervisor,
            "configure the working copy",
            &["config", "user.name", &author],
        )?;
        git.run(
            supervisor,
            "configure the working copy",
            &["config", "user.email", "towpath@localhost"],
        )?;

        let base = match &checkout.base {
            Some(base) => Some(base.clone()),
            None => default_branch(&git, supervisor)?,
        };
        let mut copy = Self {
            git,
            access: checkout.access,
            record: Record {
                repo: repo.url,
                branch: checkout.branch.clone(),
                base,
                base_commit: None,
                head_commit: None,
                pushed: false,
            },
        };
        copy.check_out(supervisor)?;
        copy.record.base_commit = copy.head(supervisor)?;
        copy.note(supervisor)?;
        Ok(copy)
    }

    fn check_out(&self, supervisor: &mut Supervisor) -> Result<(), Failure> {
        let Record { branch, base, .. } = &self.record;
        let existing = format!("{REMOTE}{branch}");
        if self.commit_of(supervisor, &existing)?.is_some() {
            let args = ["checkout", "--quiet", "-B", branch, "--track", &existing];
            self.git.run(supervisor, "check the branch out", &args)?;
            return Ok(());
        }
        if let Some(base) = base {
            let start = format!("{REMOTE}{base}");
            if self.commit_of(supervisor, &start)?.is_none() {
                return Err(failed(
                    "make the branch",
                    &format!("the repository has no branch {base:?} to begin it at"),
                ));
            }
            let args = ["checkout", "--quiet", "-B", branch, "--no-track", &start];
            self.git.run(supervisor, "make the branch", &args)?;
            return Ok(());
        }
        if self
            .git
            .run(
                supervisor,
                "list the branches",
                &["for-each-ref", "--count=1", REMOTE],
            )?
            .is_empty()
        {
            // Nothing was ever committed there: the first commit will make the branch.
            let first = format!("refs/heads/{branch}");
            self.git.run(
                supervisor,
                "make the branch",
                &["symbolic-ref", "HEAD", &first],
            )?;
            return Ok(());
        }
        Err(failed(
            "make the branch",
            "the repository has no default branch; name the base",
        ))
    }

    /// What the command is told of its working copy.
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        let Record {
            repo, branch, base, ..
        } = &self.record;
        let all = [
            ("TOWPATH_REPO", Some(repo)),
            ("TOWPATH_BRANCH", Some(branch)),
            ("TOWPATH_BASE", base.as_ref()),
        ];
        all.into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.clone())))
            .collect()
    }

    /// After a command that succeeded: commits what it left and pushes the branch, if the job may write. Never forced.
    pub(crate) fn publish(
        mut self,
        supervisor: &mut Supervisor,
        order: &Order,
    ) -> Result<(), Failure> {
        if self.access == Access::Write {
            self.commit(supervisor, order)?;
            if self.is_ahead(supervisor)? {
                self.push(supervisor)?;
                self.record.pushed = true;
            }
        }
        self.record.head_commit = self.head(supervisor)?;
        self.note(supervisor)
    }

    /// After a command that failed: notes where it left off, if that can be told.
    pub(crate) fn note_head(mut self, supervisor: &mut Supervisor) {
        if let Ok(head) = self.head(supervisor) {
            self.record.head_commit = head;
            let _ = self.note(supervisor);
        }
    }

    fn commit(&self, supervisor: &mut Supervisor, order: &Order) -> Result<(), Failure> {
        let what = "commit the changes";
        if self
            .git
            .run(supervisor, what, &["status", "--porcelain"])?
            .is_empty()
        {
            return Ok(());
        }
        if !self
            .git
            .run(supervisor, what, &["ls-files", "--unmerged"])?
            .is_empty()
        {
            return Err(failed(
                what,
                "the command left conflicts that are not resolved",
            ));
        }
        let message = order
            .env
            .get("TOWPATH_COMMIT_MESSAGE")
            .filter(|message| !message.trim().is_empty());
        let message = message
            .cloned()
            .unwrap_or_else(|| format!("Work of job {}", order.job));
        self.git.run(supervisor, what, &["add", "--all"])?;
        // What was only a change of mode or line ends may have come to nothing.
        if self
            .git
            .try_run(supervisor, &["diff", "--cached", "--quiet"])?
            .ok
        {
            return Ok(());
        }
        self.git.run(
            supervisor,
            what,
            &[
                "commit",
                "--quiet",
                "--no-verify",
                &format!("--message={message}"),
            ],
        )?;
        Ok(())
    }

    /// Whether there is a commit that was not there when the command began.
    fn is_ahead(&self, supervisor: &mut Supervisor) -> Result<bool, Failure> {
        let Some(base) = &self.record.base_commit else {
            return Ok(self.head(supervisor)?.is_some());
        };
        let range = format!("{base}..HEAD");
        let count = self.git.run(
            supervisor,
            "count the commits",
            &["rev-list", "--count", &range],
        )?;
        Ok(count != "0")
    }

    /// Pushes. When others pushed first, takes their commits in and tries again.
    fn push(&self, supervisor: &mut Supervisor) -> Result<(), Failure> {
        let Record { repo, branch, .. } = &self.record;
        let (target, known) = (
            format!("HEAD:refs/heads/{branch}"),
            format!("{REMOTE}{branch}"),
        );
        let mirror = format!("+refs/heads/{branch}:{known}");
        let mut words = String::new();
        for _ in 0..PUSHES {
            let pushed = self
                .git
                .try_run(supervisor, &["push", "--no-verify", "--", repo, &target])?;
            if pushed.ok {
                return Ok(());
            }
            words = pushed.words;
            let fetched = self.git.try_run(
                supervisor,
                &["fetch", "--quiet", "--no-tags", "--", repo, &mirror],
            )?;
            let contained = ["merge-base", "--is-ancestor", &known, "HEAD"];
            let others = fetched.ok && !self.git.try_run(supervisor, &contained)?.ok;
            // Somebody else is at the very same reference at this moment; that is over at once.
            let busy = ["cannot lock ref", "failed to update ref"]
                .iter()
                .any(|sign| words.contains(sign));
            if others {
                let rebased = self
                    .git
                    .try_run(supervisor, &["rebase", "--quiet", &known])?;
                if !rebased.ok {
                    self.git.try_run(supervisor, &["rebase", "--abort"])?;
                    let what = "put the job's commits on top of those that others pushed";
                    return Err(failed(what, &rebased.words));
                }
            } else if !busy {
                break;
            }
        }
        Err(failed("push the branch", &words))
    }

    fn head(&self, supervisor: &mut Supervisor) -> Result<Option<String>, Failure> {
        self.commit_of(supervisor, "HEAD")
    }

    fn commit_of(
        &self,
        supervisor: &mut Supervisor,
        name: &str,
    ) -> Result<Option<String>, Failure> {
        let name = format!("{name}^{{commit}}");
        let said = self.git.try_run(
            supervisor,
            &[
                "rev-parse",
                "--verify",
                "--quiet",
                "--end-of-options",
                &name,
            ],
        )?;
        Ok(said.ok.then_some(said.stdout))
    }

    fn note(&self, supervisor: &Supervisor) -> Result<(), Failure> {
        let written = write_json(&supervisor.folder.checkout(), &self.record, Durable::No);
        written.map_err(|error| failed("note the commits", &error.to_string()))
    }
}

fn default_branch(git: &Git, supervisor: &mut Supervisor) -> Result<Option<String>, Failure> {
    let head = format!("{REMOTE}HEAD");
    let said = git.try_run(supervisor, &["symbolic-ref", "--quiet", &head])?;
    Ok(said.stdout.strip_prefix(REMOTE).map(str::to_owned))
}
