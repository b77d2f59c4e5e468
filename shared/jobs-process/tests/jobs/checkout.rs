//! Working copies: what a job finds in them and what becomes of its changes.

use std::path::Path;
use std::process::Command;

use towpath_jobs::{Access, Answer, Checkout, JobRequest, JobSnapshot, JobStatus, error_class};

use crate::bench::{Bench, class, message, script, trials, work};

trials![
    a_reader_finds_the_branch_and_changes_nothing,
    a_writers_changes_are_committed_and_pushed_on_a_new_branch,
    an_existing_branch_is_continued_and_nothing_is_pushed_without_changes,
    a_failed_command_pushes_nothing,
    what_others_pushed_meanwhile_is_kept,
    a_conflict_with_what_others_pushed_fails_with_gits_words,
    the_first_commit_of_an_empty_repository_makes_the_branch,
    names_that_could_run_a_command_are_refused,
    a_repository_that_is_not_there_fails_with_gits_words,
    credentials_in_an_address_are_used_and_never_told,
    what_a_command_leaves_in_the_repository_gets_no_credentials,
    git_in_a_job_without_checkout_finds_no_repository_around_it,
];

/// A bare repository with one commit on `main`.
struct Origin(String);

impl Origin {
    fn new(bench: &Bench) -> Self {
        let origin = Self::empty(bench);
        git(&["clone", "--quiet", &origin.0, &bench.path("seed")]);
        let seed = bench.path("seed");
        let seed = Path::new(&seed);
        git_in(seed, &["symbolic-ref", "HEAD", "refs/heads/main"]);
        std::fs::write(seed.join("readme"), "one\n").unwrap();
        git_in(seed, &["add", "."]);
        git_in(seed, &["commit", "--quiet", "-m", "first"]);
        git_in(seed, &["push", "--quiet", "origin", "main"]);
        origin
    }

    fn empty(bench: &Bench) -> Self {
        let path = bench.path("origin.git");
        git(&["init", "--quiet", "--bare", "--initial-branch=main", &path]);
        Self(path)
    }

    fn git(&self, args: &[&str]) -> String {
        git_in(Path::new(&self.0), args)
    }

    fn branches(&self) -> String {
        self.git(&["for-each-ref", "--format=%(refname:short)", "refs/heads"])
    }

    fn job(&self, branch: &str, access: Access, text: &str) -> JobRequest {
        let checkout = Checkout {
            repo: self.0.clone(),
            branch: branch.to_owned(),
            base: None,
            access,
        };
        let mut request = script(text);
        work(&mut request).checkout = Some(checkout);
        request
    }

    /// A script that commits to `file` on a branch from a clone of its own, as somebody else would.
    fn somebody_else(&self, branch: &str, file: &str) -> String {
        let identity = "-c user.name=Other -c user.email=other@localhost";
        format!(
            "(cd .. && git clone -q {} other && cd other && git checkout -q -B {branch} && echo theirs > {file} && \
             git add . && git {identity} commit -qm theirs && git push -q origin {branch})",
            self.0
        )
    }
}

fn git(args: &[&str]) -> String {
    git_in(&std::env::temp_dir(), args)
}

fn git_in(dir: &Path, args: &[&str]) -> String {
    let identity = ["-c", "user.name=Seed", "-c", "user.email=seed@localhost"];
    let out = Command::new("git")
        .args(identity)
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "git {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

fn done(end: &JobSnapshot) {
    assert_eq!(
        (end.status, class(end)),
        (JobStatus::Terminated, None),
        "{end:?}"
    );
}

fn refused(end: &JobSnapshot) {
    assert_eq!(
        (end.status, class(end)),
        (JobStatus::Failed, Some(error_class::CHECKOUT_FAILED)),
        "{end:?}"
    );
}

async fn a_reader_finds_the_branch_and_changes_nothing() {
    let bench = Bench::new();
    let origin = Origin::new(&bench);
    let text = "cat readme; git branch --show-current; echo $TOWPATH_BRANCH $TOWPATH_BASE; echo x > new; git add .; \
                git commit -qm mine; git config user.name";
    let mut request = origin.job("look", Access::Read, text);
    work(&mut request)
        .env
        .insert("TOWPATH_AGENT_KIND".to_owned(), "reviewer".to_owned());
    let end = bench.run(&request).await;
    done(&end);
    assert_eq!(
        end.answer,
        Some(Answer::Stdout(
            "one\nlook\nlook main\nTowpath (reviewer)\n".to_owned()
        ))
    );
    assert_eq!(origin.branches(), "main");
    let record = bench.record(&request.job, "checkout.json");
    assert_eq!(record["baseCommit"], origin.git(&["rev-parse", "main"]));
    assert_ne!(record["headCommit"], record["baseCommit"]);
    assert_eq!(record["pushed"], false);
}

async fn a_writers_changes_are_committed_and_pushed_on_a_new_branch() {
    let bench = Bench::new();
    let origin = Origin::new(&bench);
    let text = "mkdir dir; echo two > dir/new; git rm -q readme; git config core.hooksPath hooks; mkdir hooks; \
                printf '#!/bin/sh\\nexit 1\\n' > hooks/prepare-commit-msg; chmod +x hooks/prepare-commit-msg";
    let mut request = origin.job("work/one", Access::Write, text);
    work(&mut request).env.insert(
        "TOWPATH_COMMIT_MESSAGE".to_owned(),
        "--amend: mend it\n\n# not a comment".to_owned(),
    );
    done(&bench.run(&request).await);
    assert_eq!(origin.git(&["show", "work/one:dir/new"]), "two");
    assert_eq!(
        origin.git(&["log", "-1", "--format=%an|%ae|%s|%P", "work/one"]),
        {
            let parent = origin.git(&["rev-parse", "main"]);
            format!("Towpath|towpath@localhost|--amend: mend it|{parent}")
        }
    );
    let record = bench.record(&request.job, "checkout.json");
    assert_eq!(record["headCommit"], origin.git(&["rev-parse", "work/one"]));
    assert_eq!(record["pushed"], true);
}

async fn an_existing_branch_is_continued_and_nothing_is_pushed_without_changes() {
    let bench = Bench::new();
    let origin = Origin::new(&bench);
    done(
        &bench
            .run(&origin.job(
                "work",
                Access::Write,
                "echo a > a; git add .; git commit -qm by-hand; echo b > b",
            ))
            .await,
    );
    assert_eq!(origin.git(&["rev-list", "--count", "work"]), "3");
    let mut next = origin.job(
        "work",
        Access::Write,
        "cat a b; echo $TOWPATH_BASE; git rev-parse --abbrev-ref @{u}",
    );
    work(&mut next).checkout.as_mut().unwrap().base = Some("main".to_owned());
    let end = bench.run(&next).await;
    done(&end);
    assert_eq!(
        end.answer,
        Some(Answer::Stdout("a\nb\nmain\norigin/work\n".to_owned()))
    );
    assert_eq!(origin.git(&["rev-list", "--count", "work"]), "3");

    // A new branch can begin at another than the default, and only where there is one.
    let mut on_top = origin.job("more", Access::Write, "cat b");
    work(&mut on_top).checkout.as_mut().unwrap().base = Some("work".to_owned());
    done(&bench.run(&on_top).await);
    assert_eq!(origin.branches(), "main\nwork");
    let mut nowhere = origin.job("more", Access::Write, "true");
    work(&mut nowhere).checkout.as_mut().unwrap().base = Some("gone".to_owned());
    let end = bench.run(&nowhere).await;
    refused(&end);
    assert!(message(&end).contains("no branch \"gone\""), "{end:?}");
}

async fn a_failed_command_pushes_nothing() {
    let bench = Bench::new();
    let origin = Origin::new(&bench);
    let end = bench
        .run(&origin.job("work", Access::Write, "echo a > a; exit 1"))
        .await;
    assert_eq!(class(&end), Some(error_class::EXIT_CODE));
    assert_eq!(origin.branches(), "main");
}

async fn what_others_pushed_meanwhile_is_kept() {
    let bench = Bench::new();
    let origin = Origin::new(&bench);
    let text = format!(
        "echo mine > mine; {}",
        origin.somebody_else("work", "theirs")
    );
    done(&bench.run(&origin.job("work", Access::Write, &text)).await);
    assert_eq!(origin.git(&["show", "work:mine"]), "mine");
    assert_eq!(origin.git(&["show", "work:theirs"]), "theirs");
}

async fn a_conflict_with_what_others_pushed_fails_with_gits_words() {
    let bench = Bench::new();
    let origin = Origin::new(&bench);
    let text = format!("echo mine > file; {}", origin.somebody_else("work", "file"));
    let end = bench.run(&origin.job("work", Access::Write, &text)).await;
    assert_eq!(
        (end.status, class(&end), end.exit_code),
        (JobStatus::Failed, Some(error_class::PUSH_FAILED), Some(0))
    );
    assert!(message(&end).contains("could not apply"), "{end:?}");
    assert_eq!(origin.git(&["show", "work:file"]), "theirs");
}

async fn the_first_commit_of_an_empty_repository_makes_the_branch() {
    let bench = Bench::new();
    let origin = Origin::empty(&bench);
    done(&bench.run(&origin.job("main", Access::Write, "true")).await);
    assert_eq!(origin.branches(), "");
    done(
        &bench
            .run(&origin.job("main", Access::Write, "echo a > a"))
            .await,
    );
    assert_eq!(origin.git(&["show", "main:a"]), "a");
}

async fn names_that_could_run_a_command_are_refused() {
    let bench = Bench::new();
    let origin = Origin::new(&bench);
    let ran = bench.path("ran");
    let helper = format!("ext::sh -c touch% {ran}");
    let option = format!("--upload-pack=touch {ran}");
    for (repo, branch, base) in [
        (helper.as_str(), "work", None),
        (option.as_str(), "work", None),
        (origin.0.as_str(), "--orphan", None),
        (origin.0.as_str(), "a b", None),
        (origin.0.as_str(), "work", Some("-f")),
    ] {
        let mut request = script(&format!("touch {ran}"));
        let (repo, branch, base) = (repo.to_owned(), branch.to_owned(), base.map(str::to_owned));
        work(&mut request).checkout = Some(Checkout {
            repo,
            branch,
            base,
            access: Access::Write,
        });
        refused(&bench.run(&request).await);
        assert!(!Path::new(&ran).exists());
    }
}

async fn a_repository_that_is_not_there_fails_with_gits_words() {
    let bench = Bench::new();
    let end = bench
        .run(&Origin(bench.path("gone")).job("work", Access::Read, "true"))
        .await;
    refused(&end);
    assert!(
        message(&end).starts_with("cannot clone the repository: ")
            && message(&end).contains("does not exist")
    );
}

async fn credentials_in_an_address_are_used_and_never_told() {
    let bench = Bench::new();
    // What git would run to log in: it tells whom it was asked to log in as, and fails.
    let login = bench.path("login");
    std::fs::write(
        &login,
        "#!/bin/sh\necho \"$@\" | tee -a $0.seen >&2\nexit 1\n",
    )
    .unwrap();
    let mut request =
        Origin("ssh://bot:hunter2@localhost/a.git".to_owned()).job("w", Access::Read, "true");
    work(&mut request)
        .env
        .insert("GIT_SSH_COMMAND".to_owned(), format!("sh {login}"));
    let end = bench.run(&request).await;
    refused(&end);
    assert!(
        std::fs::read_to_string(format!("{login}.seen"))
            .unwrap()
            .contains("bot:hunter2@localhost")
    );
    assert!(
        message(&end).contains("***@localhost") && !message(&end).contains("hunter2"),
        "{end:?}"
    );
}

/// Git over ssh to this very machine: whoever it was told to log in as stands in its arguments.
fn ssh(bench: &Bench, request: &mut JobRequest) -> String {
    let login = bench.path("login");
    let script = "#!/bin/sh\necho \"$@\" >> $0.seen\nfor last; do :; done\neval \"$last\"\n";
    std::fs::write(&login, script).unwrap();
    let command = format!("sh {login}");
    let env = &mut work(request).env;
    env.insert("GIT_SSH_COMMAND".to_owned(), command);
    format!("{login}.seen")
}

async fn what_a_command_leaves_in_the_repository_gets_no_credentials() {
    let bench = Bench::new();
    let origin = Origin::new(&bench);
    let leak = bench.path("leak");
    let spy = bench.path("spy");
    std::fs::write(&spy, format!("#!/bin/sh\nenv >> {leak}\ncat\n")).unwrap();
    let text = format!(
        "echo '* filter=spy diff=spy merge=spy' > .gitattributes; cp .gitattributes .git/info-attributes; \
         mkdir -p .git/info .git/hooks; cp .gitattributes .git/info/attributes; \
         for it in filter.spy.clean filter.spy.smudge filter.spy.process diff.external core.sshCommand \
         core.fsmonitor credential.helper remote.origin.receivepack remote.origin.uploadpack gpg.program; \
         do git config $it 'sh {spy}'; done; \
         git config core.hooksPath .git/hooks; git config commit.gpgSign true; \
         for it in pre-commit pre-push post-commit reference-transaction; do cp {spy} .git/hooks/$it; chmod +x .git/hooks/$it; done; \
         git config core.worktree /tmp; git config url.ssh://evil@localhost/.insteadOf ssh://localhost/; \
         echo more > file"
    );
    let mut request = origin.job("work", Access::Write, &text);
    work(&mut request).checkout.as_mut().unwrap().repo =
        format!("ssh://bot:hunter2@localhost{}", origin.0);
    let seen = ssh(&bench, &mut request);
    let end = bench.run(&request).await;
    done(&end);
    assert_eq!(origin.git(&["show", "work:file"]), "more");
    let seen = std::fs::read_to_string(seen).unwrap();
    assert!(
        seen.lines().count() >= 2 && !seen.contains("evil"),
        "{seen}"
    );
    assert!(
        seen.lines()
            .all(|line| line.contains("bot:hunter2@localhost")),
        "{seen}"
    );
    let leaked = std::fs::read_to_string(leak).unwrap_or_default();
    assert!(!leaked.contains("hunter2"), "{leaked}");
}

async fn git_in_a_job_without_checkout_finds_no_repository_around_it() {
    let bench = Bench::new();
    git(&[
        "init",
        "--quiet",
        bench.root().parent().unwrap().to_str().unwrap(),
    ]);
    let end = bench.run(&script("git rev-parse --git-dir")).await;
    assert_eq!(end.exit_code, Some(128), "{end:?}");
}
