//! Workers: the real command `towpath worker`, in processes of their own, and a network between them and the deployment
//! that can be cut.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::executors::enrolment;
use crate::{World, Worlds};

/// A recipe of a worker.
pub struct Recipe {
    program: PathBuf,
    folder: PathBuf,
    arguments: Vec<String>,
    key: String,
    server: String,
}

impl Recipe {
    /// A worker of this world, which keeps everything in `folder` and is started with these arguments besides.
    pub async fn new(worlds: &Worlds, world: &World, folder: &Path, arguments: &[&str]) -> Self {
        Self {
            program: worlds.program().to_owned(),
            folder: folder.to_owned(),
            arguments: arguments.iter().map(|it| (*it).to_owned()).collect(),
            key: enrolment(world).await,
            server: world.standing.cloud.url().to_owned(),
        }
    }

    /// The same with the deployment at another address.
    #[must_use]
    pub fn at(self, server: String) -> Self {
        Self { server, ..self }
    }

    /// Starts the worker.
    pub fn start(&self) -> Worker {
        std::fs::create_dir_all(&self.folder).unwrap();
        let said = self.folder.with_extension("log");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&said);
        let mut command = Command::new(&self.program);
        command
            .arg("worker")
            .args(["--server", &self.server, "--dir"]);
        command.arg(&self.folder).args(&self.arguments);
        command.env("TOWPATH_ENROLMENT_KEY", &self.key);
        let child = command.stdin(Stdio::null()).stderr(log.unwrap()).spawn();
        Worker {
            child: child.unwrap(),
            said,
        }
    }
}

/// A worker that runs. Dropping it kills it.
pub struct Worker {
    child: Child,
    said: PathBuf,
}

impl Worker {
    /// All that the worker, and those before it in the same folder, have said.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap()
    }

    /// Kills the worker without a warning.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the worker to end, and returns its exit code.
    pub fn end(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(asked.unwrap().success());
        self.child.wait().unwrap().code()
    }

    /// The exit code of a worker that has ended by itself.
    pub fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().unwrap().and_then(|it| it.code())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A network between a worker and its deployment.
pub struct Network {
    address: SocketAddr,
    is_cut: Arc<watch::Sender<bool>>,
}

impl Network {
    /// The network to this address, `http://HOST:PORT`.
    pub async fn to(server: &str) -> Self {
        let server = server.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let is_cut = Arc::new(watch::Sender::new(false));
        let state = Arc::clone(&is_cut);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (server, mut cut) = (server.clone(), state.subscribe());
                tokio::spawn(async move {
                    let flow = async {
                        if let Ok(mut far) = TcpStream::connect(&server).await {
                            let _ = copy_bidirectional(&mut near, &mut far).await;
                        }
                    };
                    // A cut resets what flows, and what is opened meanwhile.
                    tokio::select! {
                        () = flow => {}
                        _ = cut.wait_for(|cut| *cut) => {}
                    }
                });
            }
        });
        Self { address, is_cut }
    }

    /// The address by which the deployment is reached through this network.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Cuts the network.
    pub fn cut(&self) {
        self.is_cut.send_replace(true);
    }

    /// Mends the network.
    pub fn mend(&self) {
        self.is_cut.send_replace(false);
    }
}
