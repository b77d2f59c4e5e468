//! The example executor in Python, as its page shows it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;
use towpath_engine::FailureKind;
use towpath_tests::executors::enrolment;

use crate::{done, failure, world};

/// A Python that has the one package which the example needs: that of `TOWPATH_PYTHON`, or the system's.
fn python() -> Option<PathBuf> {
    let named = std::env::var_os("TOWPATH_PYTHON").map(PathBuf::from);
    let python = named.unwrap_or_else(|| "python3".into());
    let mut asked = Command::new(&python);
    let asked = asked.args(["-c", "import websockets.sync.client"]);
    let has = asked.stderr(Stdio::null()).status();
    has.is_ok_and(|it| it.success()).then_some(python)
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_carries_out_missions() {
    let Some(python) = python() else {
        eprintln!(
            "SKIPPED: no Python with the package websockets; install it, and name the Python in TOWPATH_PYTHON"
        );
        return;
    };
    let world = world().await;
    let dir = tempfile::tempdir().unwrap();
    let example =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/executors/examples/executor.py");
    let start = |key: &str| {
        let mut command = Command::new(&python);
        command.arg(&example).arg("x-python");
        command.arg("case \"$OBJECTIVE\" in *fail*) exit 3;; *) echo \"did: $OBJECTIVE\";; esac");
        command.arg(dir.path().join("state.json"));
        command.env("TOWPATH_SERVER", world.standing.cloud.url());
        command.env("TOWPATH_ENROLMENT_KEY", key);
        Killed(command.spawn().unwrap())
    };
    let first = start(&enrolment(&world).await);
    let yaml = |id: &str| {
        let on = json!({ "executor": ["x-python"] });
        format!(
            "{{ id: {id}, steps: [{{ agentKind: coder, runtime: {{ kind: command, command: [x], on: {on} }} }}] }}"
        )
    };
    let run = world.run(&yaml("mend")).await;
    done(&world.end_soon(&run).await);
    assert_eq!(world.output(&run, 0).await, "did: mend\n");
    let run = world.run(&yaml("fail")).await;
    assert_eq!(failure(&world.end_soon(&run).await).0, FailureKind::Agent);
    // Started again, it has a token of its own and needs no key.
    drop(first);
    let _second = start("");
    let run = world.run(&yaml("again")).await;
    done(&world.end_soon(&run).await);
    world.standing.stop().await;
}
