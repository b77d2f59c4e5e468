//! `towpath deploy` and `towpath destroy`, against the local cloud's account. CloudFormation is not there: the tools that
//! speak to it are scripts that write down what they are asked. Everything else is as it is.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::json;
use tempfile::TempDir;
use towpath_aws::{Clients, Settings};
use towpath_tests::{World, Worlds};

/// A deployment that stands, as the local cloud has it, and a machine with tools.
struct Machine {
    world: World,
    dir: TempDir,
}

const SAM: &str = r#"#!/bin/sh
echo "sam $*" >> "$TOOLS/log"
case "$1" in
  --version) echo "SAM CLI, version ${SAM_VERSION:-1.170.0}" ;;
  list) echo "Something first"; cat "$TOOLS/outputs.json" ;;
  deploy) exit "${SAM_DEPLOY:-0}" ;;
esac
"#;

const CARGO: &str = r#"#!/bin/sh
echo "cargo $*" >> "$TOOLS/log"
case "$*" in
  "lambda --version") echo "cargo-lambda 1.8.6" ;;
  "zigbuild --version") echo "cargo-zigbuild 0.24.1" ;;
  *) for target; do :; done
     mkdir -p "$CARGO_TARGET_DIR/$target/lambda"
     echo "a runner for $target" > "$CARGO_TARGET_DIR/$target/lambda/towpath" ;;
esac
"#;

const RUSTUP: &str =
    "#!/bin/sh\nprintf '%s\\n' x86_64-unknown-linux-musl aarch64-unknown-linux-musl\n";

impl Machine {
    async fn start() -> Self {
        let world = Worlds::new(env!("CARGO_BIN_EXE_towpath-under-test"))
            .start()
            .await;
        let dir = tempfile::tempdir().unwrap();
        let machine = Self { world, dir };
        for (name, script) in [("sam", SAM), ("cargo", CARGO), ("rustup", RUSTUP)] {
            machine.tool(name, script);
        }
        let cloud = &machine.world.standing.cloud;
        let names = [
            "ApiUrl",
            "RunsTable",
            "ExecutorsTable",
            "OutputsBucket",
            "StateMachineArn",
            "JobsProject",
            "ExecutorSockets",
            "FirstKeySecretArn",
        ];
        let outputs = names
            .map(|name| json!({ "OutputKey": name, "OutputValue": cloud.output(name).unwrap() }));
        std::fs::write(machine.path("outputs.json"), json!(outputs).to_string()).unwrap();
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn tool(&self, name: &str, script: &str) {
        let file = self.path("bin").join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, script).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    }

    async fn towpath(&self, args: &[&str], more: &[(&str, &str)]) -> (Output, String) {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_towpath-under-test"));
        let dir = self.dir.path();
        let path = format!("{}:/usr/bin:/bin", self.path("bin").display());
        let environment: BTreeMap<_, _> = self.world.standing.cloud.aws_environment("operator");
        command
            .args(args)
            .env_clear()
            .env("PATH", path)
            .env("TOOLS", dir)
            .envs(environment);
        command
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("CARGO_TARGET_DIR", self.path("target"));
        let output = command.envs(more.iter().copied()).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output, said)
    }

    /// What the tools were asked to do, versions and lists aside.
    fn asked(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
        let _ = std::fs::remove_file(self.path("log"));
        let doing = |line: &&str| !line.contains("--version") && !line.contains("sam list");
        log.lines().filter(doing).map(str::to_owned).collect()
    }

    fn clients(&self) -> Clients {
        let environment = self.world.standing.cloud.aws_environment("operator");
        Clients::connect(
            &Settings::from_lookup(|name| environment.get(name).cloned()).unwrap(),
            None,
        )
    }
}

fn is_private(file: &Path) -> bool {
    file.metadata().unwrap().permissions().mode() & 0o777 == 0o600
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_built_deployed_given_its_runners_and_says_how_to_get_in() {
    let machine = Machine::start().await;
    let (output, said) = machine
        .towpath(
            &["deploy", "--yes", "--set", "AlarmEmail=you@example.com"],
            &[],
        )
        .await;
    assert!(output.status.success(), "{said}");
    let builds = ["x86_64", "aarch64"].map(|arch| {
        format!("cargo zigbuild --profile lambda --locked -p towpath --no-default-features --target {arch}-unknown-linux-musl")
    });
    let deploy = "sam deploy --stack-name towpath --region us-east-1 --no-confirm-changeset --no-fail-on-empty-changeset \
                  --parameter-overrides AlarmEmail=you@example.com";
    assert_eq!(
        machine.asked(),
        ["sam build", &builds[0], &builds[1], deploy]
    );
    let bucket = machine
        .world
        .standing
        .cloud
        .output("OutputsBucket")
        .unwrap();
    let bucket = machine.clients().bucket(&bucket);
    for arch in ["x86_64", "aarch64"] {
        let key = towpath_jobs::runner_object(arch).unwrap();
        let runner = bucket.get(&key).await.unwrap();
        assert_eq!(runner, format!("a runner for {arch}-unknown-linux-musl\n"));
    }
    let file = machine.path("config/towpath/towpath-us-east-1.key");
    let first = machine.world.standing.cloud.secret("FirstKey").unwrap();
    assert_eq!(
        std::fs::read_to_string(&file).unwrap().trim(),
        format!("twk_{first}")
    );
    assert!(
        is_private(&file) && !said.contains(&first),
        "the key is told to nobody"
    );
    assert!(
        said.contains(machine.world.standing.cloud.url()) && said.contains("towpath put"),
        "{said}"
    );
    // The doctor finds the deployment by its name.
    let (output, said) = machine
        .towpath(&["doctor", "--stack", "towpath"], &[])
        .await;
    assert!(
        output.status.success() && said.contains("All is well"),
        "{said}"
    );
    machine.world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_changes_nothing_and_names_the_account_and_what_is_missing() {
    let machine = Machine::start().await;
    let (output, said) = machine.towpath(&["deploy", "--plan"], &[]).await;
    assert!(output.status.success(), "{said}");
    for told in [
        "000000000000 in us-east-1",
        "1000 invocations at once",
        "20 jobs at once",
        "the stack towpath",
    ] {
        assert!(said.contains(told), "{told}: {said}");
    }
    let (output, said) = machine
        .towpath(&["deploy", "--plan"], &[("SAM_VERSION", "1.99.0")])
        .await;
    assert!(
        !output.status.success() && said.contains("older than 1.170"),
        "{said}"
    );
    std::fs::remove_file(machine.path("bin/rustup")).unwrap();
    machine.tool("rustup", "#!/bin/sh\necho x86_64-unknown-linux-gnu\n");
    let (output, said) = machine.towpath(&["deploy", "--yes"], &[]).await;
    assert!(
        !output.status.success() && said.contains("rustup target add x86_64-unknown-linux-musl"),
        "{said}"
    );
    let (output, said) = machine
        .towpath(&["deploy"], &[("AWS_SECRET_ACCESS_KEY", "wrong")])
        .await;
    assert!(
        !output.status.success() && said.contains("does not take the credentials"),
        "{said}"
    );
    assert_eq!(machine.asked(), Vec::<String>::new(), "nothing was changed");
    machine.world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_fails_says_so_and_uploads_nothing() {
    let machine = Machine::start().await;
    let (output, said) = machine
        .towpath(&["deploy", "--yes"], &[("SAM_DEPLOY", "1")])
        .await;
    assert!(
        !output.status.success() && said.contains("`sam deploy --stack-name towpath"),
        "{said}"
    );
    assert!(!said.contains("Uploading") && !machine.path("config").exists());
    // Nobody sits there to be asked.
    let (output, said) = machine.towpath(&["deploy"], &[]).await;
    assert!(
        !output.status.success() && said.contains("nobody can be asked here"),
        "{said}"
    );
    machine.world.standing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_data_goes_only_when_asked_for_twice() {
    let machine = Machine::start().await;
    let (output, said) = machine
        .towpath(&["destroy", "--confirm", "towpat"], &[])
        .await;
    assert!(
        !output.status.success() && said.contains("not the stack's name"),
        "{said}"
    );
    assert_eq!(machine.asked(), Vec::<String>::new());
    let (output, said) = machine
        .towpath(&["destroy", "--confirm", "towpath"], &[])
        .await;
    assert!(
        output.status.success() && said.contains("Its data stays"),
        "{said}"
    );
    let delete = "sam delete --stack-name towpath --region us-east-1 --no-prompts";
    assert_eq!(machine.asked(), [delete]);
    let cloud = &machine.world.standing.cloud;
    let (clients, runs) = (machine.clients(), cloud.output("RunsTable").unwrap());
    let there = async || {
        clients
            .dynamodb
            .describe_table()
            .table_name(&runs)
            .send()
            .await
            .is_ok()
    };
    assert!(there().await);
    let (output, said) = machine
        .towpath(&["destroy", "--data", "--confirm", "towpath"], &[])
        .await;
    assert!(
        output.status.success() && said.contains("objects are gone"),
        "{said}"
    );
    assert!(!there().await);
    let bucket = clients.bucket(&cloud.output("OutputsBucket").unwrap());
    let runner = towpath_jobs::runner_object(std::env::consts::ARCH).unwrap();
    assert!(bucket.get(&runner).await.is_err());
    machine.world.standing.stop().await;
}
