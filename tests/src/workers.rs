//! Workers: the real command `towpath worker`, in processes of their own, and a network between them and the deployment
//! that can be cut.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
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

    /// The key that enrols the worker.
    pub fn key(&self) -> &str {
        &self.key
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

    /// The process of the worker.
    pub fn pid(&self) -> u32 {
        self.child.id()
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
        let server = server
            .trim_start_matches("http://")
            .trim_end_matches('/')
            .to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let is_cut = Arc::new(watch::Sender::new(false));
        let state = Arc::clone(&is_cut);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (server, mut cut) = (server.clone(), state.subscribe());
                tokio::spawn(async move {
                    // A cut resets what flows, and what is opened meanwhile.
                    tokio::select! {
                        _ = flow(near, address, &server) => {}
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

/// Moves bytes to the server and back. The server is told its own name in place of the network's: it answers to no other.
async fn flow(near: TcpStream, address: SocketAddr, server: &str) -> std::io::Result<()> {
    let far = TcpStream::connect(server).await?;
    let (mut near_in, mut near_out) = near.into_split();
    let (mut far_in, mut far_out) = far.into_split();
    let back = async {
        tokio::io::copy(&mut far_in, &mut near_out)
            .await
            .map(|_| ())
    };
    let there = async {
        let (name, mut held) = (address.to_string().into_bytes(), Vec::new());
        loop {
            if near_in.read_buf(&mut held).await? == 0 {
                return far_out.shutdown().await;
            }
            while let Some(at) = held.windows(name.len()).position(|it| it == name) {
                held.splice(at..at + name.len(), server.bytes());
            }
            // The beginning of the name may be at the end of what was read.
            let begins = (1..name.len()).rev().find(|n| held.ends_with(&name[..*n]));
            let whole = held.len() - begins.unwrap_or(0);
            far_out.write_all(&held[..whole]).await?;
            held.drain(..whole);
        }
    };
    tokio::try_join!(back, there).map(|_| ())
}
