//! A job's working copy: made before the command, and published after it if the job may write.
//!
//! What the command leaves in the repository of its working copy is hostile: git runs the filters, hooks and helpers that a
//! repository's configuration names. So the changes are committed without credentials, under the configuration from
//! before the command, and are pushed from a bare repository that only borrows the working copy's objects.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use serde::Serialize;
use towpath_jobs::{Access, Checkout, error_class};

use crate::error::Failure;
use crate::folder::{Durable, make_dir, write_atomic, write_json};
use crate::git::{Git, Repo, failed, is_branch};
use crate::job::Job;
use crate::order::Order;

/// The number of tries of a push that others were faster than.
const PUSHES: usize = 8;
/// The reference, in the bare repository, to what others have pushed to the branch.
const THEIRS: &str = "refs/heads/theirs";
/// The configuration of the working copy's repository.
const CONFIG: &str = ".git/config";
/// The prefix of the references to the branches of the remote repository.
const REMOTE: &str = "refs/remotes/origin/";

/// A clone in the job's work directory. The user's own trees are never touched.
pub(crate) struct WorkingCopy {
    git: Git,
    repo: Repo,
    access: Access,
    record: Record,
    /// The configuration of its repository, as it was before the command.
    config: Vec<u8>,
}

/// The contents of `checkout.json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    /// The address of the repository, without credentials.
    repo: String,
    branch: String,
    /// The branch that `branch` starts at, if it is new. `None` in an empty repository.
    base: Option<String>,
    /// The commit that the command started with. `None` in an empty repository.
    base_commit: Option<String>,
    /// The commit that the command left.
    head_commit: Option<String>,
    pushed: bool,
}

impl WorkingCopy {
    /// Clones the repository and checks the branch out.
    pub(crate) fn make(job: &mut Job, checkout: &Checkout, order: &Order) -> Result<Self, Failure> {
        let repo = vetted(checkout)?;
        let work = job.folder.work();
        let login = Git::with_credentials(&work, &repo, &order.env);
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
        login.run(job, "clone the repository", &clone)?;
        let git = Git::in_working_copy(&work);
        set_author(&git, job, order)?;

        let base = match &checkout.base {
            Some(base) => Some(base.clone()),
            None => default_branch(&git, job)?,
        };
        let mut copy = Self {
            git,
            access: checkout.access,
            record: Record {
                repo: repo.url.clone(),
                branch: checkout.branch.clone(),
                base,
                base_commit: None,
                head_commit: None,
                pushed: false,
            },
            repo,
            config: Vec::new(),
        };
        copy.check_out(job)?;
        copy.record.base_commit = copy.head(job)?;
        copy.note(job)?;
        let config = fs::read(work.join(CONFIG));
        copy.config =
            config.map_err(|error| failed("read its configuration", &error.to_string()))?;
        Ok(copy)
    }

    fn check_out(&self, job: &mut Job) -> Result<(), Failure> {
        let Record { branch, base, .. } = &self.record;
        let existing = format!("{REMOTE}{branch}");
        if self.commit_of(job, &existing)?.is_some() {
            let args = ["checkout", "--quiet", "-B", branch, "--track", &existing];
            self.git.run(job, "check the branch out", &args)?;
            return Ok(());
        }
        if let Some(base) = base {
            let start = format!("{REMOTE}{base}");
            if self.commit_of(job, &start)?.is_none() {
                return Err(failed(
                    "make the branch",
                    &format!("the repository has no branch {base:?} to start it at"),
                ));
            }
            let args = ["checkout", "--quiet", "-B", branch, "--no-track", &start];
            self.git.run(job, "make the branch", &args)?;
            return Ok(());
        }
        if self
            .git
            .run(
                job,
                "list the branches",
                &["for-each-ref", "--count=1", REMOTE],
            )?
            .is_empty()
        {
            // The repository has no commit yet: the first one will make the branch.
            let first = format!("refs/heads/{branch}");
            self.git
                .run(job, "make the branch", &["symbolic-ref", "HEAD", &first])?;
            return Ok(());
        }
        Err(failed(
            "make the branch",
            "the repository has no default branch; set the `base` of the block's repository",
        ))
    }

    /// The variables that tell the command about its working copy.
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
    pub(crate) fn publish(mut self, job: &mut Job, order: &Order) -> Result<(), Failure> {
        self.try_publish(job, order).map_err(|failure| {
            match failure.class {
                // The working copy was made; it is the changes that are lost.
                error_class::CHECKOUT_FAILED => Failure {
                    class: error_class::PUSH_FAILED,
                    ..failure
                },
                _ => failure,
            }
        })
    }

    fn try_publish(&mut self, job: &mut Job, order: &Order) -> Result<(), Failure> {
        self.restore(job)?;
        if self.access == Access::Write {
            self.commit(job, order)?;
            if self.is_ahead(job)? {
                self.push(job, order)?;
                self.record.pushed = true;
            }
        }
        self.record.head_commit = self.head(job)?;
        self.note(job)
    }

    /// After a command that failed: records the commit it left, if that can be told.
    pub(crate) fn note_head(mut self, job: &mut Job) {
        if let Ok(head) = self.restore(job).and_then(|()| self.head(job)) {
            self.record.head_commit = head;
            let _ = self.note(job);
        }
    }

    /// Undoes what the command has configured in the repository: git would run programs that it names.
    fn restore(&self, job: &Job) -> Result<(), Failure> {
        let work = job.folder.work();
        let what = "use the working copy's repository";
        let own = |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
        if !own(&work) || !own(&work.join(".git")) {
            return Err(failed(what, "the command replaced it"));
        }
        for name in ["commondir", "config.worktree", "info/attributes"] {
            match fs::remove_file(work.join(".git").join(name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(failed(what, &format!("{name}: {error}")));
                }
                _ => {}
            }
        }
        let written = write_atomic(&work.join(CONFIG), &self.config, Durable::No);
        written.map_err(|error| failed(what, &error.to_string()))
    }

    fn commit(&self, job: &mut Job, order: &Order) -> Result<(), Failure> {
        let what = "commit the changes";
        if self
            .git
            .run(job, what, &["status", "--porcelain"])?
            .is_empty()
        {
            return Ok(());
        }
        if !self
            .git
            .run(job, what, &["ls-files", "--unmerged"])?
            .is_empty()
        {
            return Err(failed(
                what,
                "the command left merge conflicts that are not resolved",
            ));
        }
        let message = order
            .env
            .get("TOWPATH_COMMIT_MESSAGE")
            .filter(|message| !message.trim().is_empty());
        let message = message
            .cloned()
            .unwrap_or_else(|| format!("Work of job {}", order.job));
        self.git.run(job, what, &["add", "--all"])?;
        // A change of nothing but modes or line ends may have come to nothing.
        if self.git.try_run(job, &["diff", "--cached", "--quiet"])?.ok {
            return Ok(());
        }
        self.git.run(
            job,
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

    /// Whether there is a commit that was not there when the command started.
    fn is_ahead(&self, job: &mut Job) -> Result<bool, Failure> {
        let Some(base) = &self.record.base_commit else {
            return Ok(self.head(job)?.is_some());
        };
        let range = format!("{base}..HEAD");
        let count = self
            .git
            .run(job, "count the commits", &["rev-list", "--count", &range])?;
        Ok(count != "0")
    }

    /// Pushes the branch. If others pushed first, puts the job's commits on top of theirs and tries again.
    fn push(&self, job: &mut Job, order: &Order) -> Result<(), Failure> {
        let Record { repo, branch, .. } = &self.record;
        let (bare, login) = self.transfer(job, order)?;
        let known = format!("{REMOTE}{branch}");
        let theirs = format!("+refs/heads/{branch}:{THEIRS}");
        let mirror = format!("+{THEIRS}:{known}");
        let mut words = String::new();
        for _ in 0..PUSHES {
            let commit = self.head(job)?.unwrap_or_default();
            let target = format!("{commit}:refs/heads/{branch}");
            let pushed = login.try_run(job, &["push", "--no-verify", "--", repo, &target])?;
            if pushed.ok {
                // What it borrowed is only needed while it lives.
                let _ = fs::remove_dir_all(job.folder.transfer());
                return Ok(());
            }
            words = pushed.words;
            let fetched =
                login.try_run(job, &["fetch", "--quiet", "--no-tags", "--", repo, &theirs])?;
            let fetch = ["fetch", "--quiet", "--no-tags", "--", &bare, &mirror];
            let fetched = fetched.ok && self.git.try_run(job, &fetch)?.ok;
            let contained = ["merge-base", "--is-ancestor", &known, "HEAD"];
            let others = fetched && !self.git.try_run(job, &contained)?.ok;
            // Another push holds the very same reference at this moment.
            let busy = ["cannot lock ref", "failed to update ref"]
                .iter()
                .any(|sign| words.contains(sign));
            if others {
                let rebased = self.git.try_run(job, &["rebase", "--quiet", &known])?;
                if !rebased.ok {
                    self.git.try_run(job, &["rebase", "--abort"])?;
                    let what = "put the job's commits on top of those that others pushed";
                    return Err(failed(what, &rebased.words));
                }
            } else if !busy {
                break;
            }
        }
        Err(failed("push the branch", &words))
    }

    /// Makes the bare repository through which changes are pushed: its path, and git with credentials in it.
    fn transfer(&self, job: &mut Job, order: &Order) -> Result<(String, Git), Failure> {
        let (bare, work) = (job.folder.transfer(), job.folder.work());
        let what = "prepare the push";
        let broken = |error: io::Error| failed(what, &error.to_string());
        // The command may have left something there.
        match fs::remove_dir_all(&bare) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(broken(error)),
            _ => {}
        }
        make_dir(&bare.join("objects/info")).map_err(|error| failed(what, &error.to_string()))?;
        let login = Git::with_credentials(&bare, &self.repo, &order.env).bare();
        let init = ["init", "--quiet", "--bare", "--template=", "."];
        login.run(job, what, &init)?;
        let objects = format!("{}\n", work.join(".git/objects").display());
        fs::write(bare.join("objects/info/alternates"), objects).map_err(broken)?;
        Ok((bare.to_string_lossy().into_owned(), login))
    }

    fn head(&self, job: &mut Job) -> Result<Option<String>, Failure> {
        self.commit_of(job, "HEAD")
    }

    fn commit_of(&self, job: &mut Job, name: &str) -> Result<Option<String>, Failure> {
        let name = format!("{name}^{{commit}}");
        let said = self.git.try_run(
            job,
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

    fn note(&self, job: &Job) -> Result<(), Failure> {
        let written = write_json(&job.folder.checkout(), &self.record, Durable::No);
        written.map_err(|error| failed("record the commits", &error.to_string()))
    }
}

/// The repository to clone, once no name in the checkout can be taken for an option or run something.
fn vetted(checkout: &Checkout) -> Result<Repo, Failure> {
    let refuse = |what: String| Failure::new(error_class::CHECKOUT_FAILED, what);
    let repo = Repo::parse(&checkout.repo)
        .map_err(|why| refuse(format!("the repository's address {why}")))?;
    let names = [Some(&checkout.branch), checkout.base.as_ref()];
    match names.into_iter().flatten().find(|name| !is_branch(name)) {
        Some(name) => Err(refuse(format!("{name:?} cannot be the name of a branch"))),
        None => Ok(repo),
    }
}

/// Names the author of the commits that the job makes.
fn set_author(git: &Git, job: &mut Job, order: &Order) -> Result<(), Failure> {
    let agent = order.env.get("TOWPATH_AGENT_KIND");
    let name = agent.map_or("Towpath".to_owned(), |agent| format!("Towpath ({agent})"));
    for (setting, value) in [
        ("user.name", name.as_str()),
        ("user.email", "towpath@localhost"),
    ] {
        git.run(
            job,
            "configure the working copy",
            &["config", setting, value],
        )?;
    }
    Ok(())
}

/// The default branch of the repository, if it has one.
fn default_branch(git: &Git, job: &mut Job) -> Result<Option<String>, Failure> {
    let head = format!("{REMOTE}HEAD");
    let said = git.try_run(job, &["symbolic-ref", "--quiet", &head])?;
    Ok(said.stdout.strip_prefix(REMOTE).map(str::to_owned))
}
