//! Machines of a service that only seems to be one: each is a process of this computer.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

/// The machines of a service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Machines {
    all: Arc<Mutex<Vec<Machine>>>,
    /// Where their temporary files go.
    temporary: PathBuf,
}

/// One machine, or what is known of it.
#[derive(Clone)]
pub(crate) struct Machine {
    /// What it was asked for with.
    pub(crate) key: String,
    pub(crate) script: String,
    pub(crate) environment: BTreeMap<String, String>,
    pid: i32,
    /// The exit code, once it has ended.
    pub(crate) ended: Option<i32>,
    /// Whether it was asked to stop.
    pub(crate) stopped: bool,
    /// Whether the service has forgotten it.
    pub(crate) forgotten: bool,
}

impl Machines {
    pub(crate) fn new(temporary: PathBuf) -> Self {
        Self {
            all: Arc::default(),
            temporary,
        }
    }

    /// Starts a machine that runs a script of `sh`, and returns its number.
    pub(crate) fn start(
        &self,
        key: &str,
        script: &str,
        environment: BTreeMap<String, String>,
    ) -> usize {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", script])
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .env("TMPDIR", &self.temporary)
            .envs(&environment)
            .process_group(0);
        let mut child = command.spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let number = {
            let mut all = self.all.lock().unwrap();
            all.push(Machine {
                key: key.to_owned(),
                script: script.to_owned(),
                environment,
                pid,
                ended: None,
                stopped: false,
                forgotten: false,
            });
            all.len() - 1
        };
        let this = self.clone();
        std::thread::spawn(move || {
            let status = child.wait().unwrap();
            let code = status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
            this.change(number, |machine| machine.ended = Some(code));
        });
        number
    }

    fn change(&self, number: usize, change: impl FnOnce(&mut Machine)) {
        if let Some(machine) = self.all.lock().unwrap().get_mut(number) {
            change(machine);
        }
    }

    pub(crate) fn get(&self, number: usize) -> Option<Machine> {
        let found = self.all.lock().unwrap().get(number).cloned();
        found.filter(|machine| !machine.forgotten)
    }

    /// The machines that were asked for with this key, with their numbers.
    pub(crate) fn of(&self, key: &str) -> Vec<(usize, Machine)> {
        let all = self.all.lock().unwrap();
        let all = all.iter().cloned().enumerate();
        all.filter(|(_, machine)| machine.key == key && !machine.forgotten)
            .collect()
    }

    /// The jobs that machines were started for, once for each machine, in order.
    pub(crate) fn jobs(&self) -> Vec<String> {
        let all = self.all.lock().unwrap();
        let jobs = all
            .iter()
            .map(|it| it.environment["TOWPATH_RUN_ID"].clone());
        let mut jobs: Vec<String> = jobs.collect();
        jobs.sort();
        jobs
    }

    /// Asks a machine to stop.
    pub(crate) fn stop(&self, number: usize) {
        self.change(number, |machine| machine.stopped = true);
        self.signal(number, "-TERM");
    }

    /// Kills a machine, as if its host were gone.
    pub(crate) fn kill(&self, number: usize) {
        self.signal(number, "-KILL");
    }

    /// Kills a machine, of which the service then knows nothing any more.
    pub(crate) fn lose(&self, number: usize) {
        self.kill(number);
        self.change(number, |machine| machine.forgotten = true);
    }

    fn signal(&self, number: usize, signal: &str) {
        let Some(machine) = self.get(number).filter(|it| it.ended.is_none()) else {
            return;
        };
        let group = format!("-{}", machine.pid);
        let _ = Command::new("kill").args([signal, "--", &group]).status();
    }
}
