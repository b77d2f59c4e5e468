//! Functions as processes of their own: a `cargo lambda watch` beside each world, where `TOWPATH_TEST_LAMBDA` is set.
//!
//! Such functions go by the system's clock, so a test in which time has to pass cannot run that way;
//! `tests/lambda/pass.py` runs those that can. With `TOWPATH_TEST_LAMBDA_LOG` set, the functions' logs are shown.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running `cargo lambda watch`. It ends with this.
pub struct Watch(Child);

/// Whether the functions are to be processes of their own.
pub fn wanted() -> bool {
    std::env::var_os("TOWPATH_TEST_LAMBDA").is_some()
}

/// A port that was free a moment ago.
///
/// # Panics
/// If the machine has none.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

impl Watch {
    /// Starts one on this port, and returns once it takes invocations. It builds and starts a function when that is
    /// first invoked.
    ///
    /// # Panics
    /// If there is no cargo lambda, or it does not come up.
    pub async fn start(port: u16, env_file: &Path) -> Self {
        let mut command = Command::new("cargo");
        command.args(["lambda", "watch", "--ignore-changes", "--concurrency", "4"]);
        // Jobs are local processes here.
        command.args(["--features", "process"]);
        command.args(["--invoke-address", "127.0.0.1"]);
        command.args(["--invoke-port", &port.to_string()]);
        command.arg("--env-file").arg(env_file);
        command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
        // What the cargo that runs the tests sets would have its own build anew.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&name);
            }
        }
        command.stdin(Stdio::null());
        if std::env::var_os("TOWPATH_TEST_LAMBDA_LOG").is_none() {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        // Ctrl-C ends the tests, and they end this.
        let child = command.process_group(0).spawn();
        let mut watch = Self(child.expect("cargo lambda is not installed"));
        while tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .is_err()
        {
            let ended = watch.0.try_wait().unwrap();
            assert!(ended.is_none(), "cargo lambda watch ended: {ended:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        watch
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Asked rather than killed, it ends its functions first.
        let asked = Command::new("kill").arg(self.0.id().to_string()).status();
        if asked.is_ok_and(|asked| asked.success()) {
            let _ = self.0.wait();
        } else {
            let _ = self.0.kill();
        }
    }
}
