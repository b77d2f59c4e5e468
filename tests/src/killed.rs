//! The real program, `towpath dev --data DIR`, killed without warning and started again.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use towpath_auth::Key;
use towpath_client::Client;

/// A `towpath dev` that may be up or not.
pub struct Dev {
    program: PathBuf,
    data: PathBuf,
    up: watch::Sender<Option<Client>>,
    child: Option<Child>,
}

/// The address of the present `towpath dev`, if it is up.
#[derive(Clone)]
pub struct Reach(watch::Receiver<Option<Client>>);

impl Dev {
    /// One that keeps everything in `data`, not started yet.
    pub fn new(program: &str, data: &Path) -> Self {
        Self {
            program: program.into(),
            data: data.to_owned(),
            up: watch::Sender::new(None),
            child: None,
        }
    }

    /// The address at which it is reached.
    pub fn reach(&self) -> Reach {
        Reach(self.up.subscribe())
    }

    /// Starts it; [`Dev::is_up`] tells when it is.
    pub fn start(&mut self) {
        let mut command = Command::new(&self.program);
        command
            .args(["dev", "--port", "0", "--data"])
            .arg(&self.data);
        command.env("RUST_LOG", "off").kill_on_drop(true);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (up, key) = (self.up.clone(), self.data.join("key"));
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(url) = line.strip_prefix("Towpath is up at ") {
                    let key = Key::parse(std::fs::read_to_string(&key).unwrap().trim()).unwrap();
                    up.send_replace(Some(Client::new(url, Some(key))));
                } else if line.starts_with("towpath: ") {
                    panic!("{line}");
                }
            }
        });
        self.child = Some(child);
    }

    /// Returns once it is up.
    pub async fn is_up(&self) {
        self.reach().client().await;
    }

    /// Kills it with SIGKILL.
    pub async fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().await.unwrap();
        self.up.send_replace(None);
    }
}

impl Reach {
    /// A client of the one that is up, once one is.
    pub async fn client(&mut self) -> Client {
        let up = self.0.wait_for(Option::is_some);
        let up = tokio::time::timeout(Duration::from_secs(60), up).await;
        up.unwrap().unwrap().clone().unwrap()
    }
}

/// Chance that depends on nothing but its seed: SplitMix64 (Steele, Lea and Flood, 2014).
pub struct Chance(pub u64);

impl Chance {
    /// A number from `from` up to but not including `to`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        from + (mixed ^ (mixed >> 31)) % (to - from)
    }
}
