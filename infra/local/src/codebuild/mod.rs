//! CodeBuild: the template's project, and its builds, which really run: as processes of this machine, under a supervisor
//! that outlives the cloud, as builds outlive the process that started them.

mod api;
mod build;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tempfile::TempDir;
use towpath_clock::Clock;
use towpath_jobs_process::{Ownership, ProcessRuntime};

use crate::data;
use crate::error::Error;
use crate::events::Events;
use crate::tasks::Tasks;
use crate::template::ProjectSpec;
use build::Build;

/// How builds go: what CodeBuild leaves open, and a test decides.
#[derive(Clone, Debug)]
pub struct BuildWeather {
    /// The number of builds that run at once; others are queued.
    pub concurrent: usize,
    /// The number of builds that may be queued; a start beyond them is refused.
    pub queue: usize,
    /// The time that the preparation of a build takes.
    pub provisioning: Duration,
    /// The error that every start is refused with, by its name.
    pub refuse: Option<&'static str>,
    /// Whether the machine of each build that is prepared from now on is lost before its commands run.
    pub lose_machines: bool,
}

impl Default for BuildWeather {
    fn default() -> Self {
        Self {
            concurrent: 20,
            queue: 100,
            provisioning: Duration::ZERO,
            refuse: None,
            lose_machines: false,
        }
    }
}

/// The builds of one project.
pub(crate) struct CodeBuild {
    project: Option<ProjectSpec>,
    /// The folder that holds a record of each build.
    folder: PathBuf,
    builds: Mutex<BTreeMap<String, Build>>,
    weather: Mutex<BuildWeather>,
    /// What runs the commands. `None`: there is no program to supervise them.
    processes: Option<ProcessRuntime>,
    events: Arc<Events>,
    clock: Clock,
    tasks: Arc<Tasks>,
    /// The lock of the builds of a cloud in memory; dropped, it ends them.
    _owner: Option<Ownership>,
    /// The folder of the builds of a cloud in memory.
    _temporary: Option<TempDir>,
}

impl CodeBuild {
    /// Opens the builds of the first of these projects. `supervisor` is the program that supervises their commands.
    pub(crate) fn open(
        directory: Option<&Path>,
        projects: &[ProjectSpec],
        supervisor: Option<PathBuf>,
        events: Arc<Events>,
        clock: Clock,
        tasks: Arc<Tasks>,
    ) -> Result<Self, Error> {
        let failed = |error| Error::io("cannot make a folder for builds", error);
        let temporary = match directory {
            None => Some(tempfile::tempdir().map_err(failed)?),
            Some(_) => None,
        };
        let home = directory.or(temporary.as_ref().map(TempDir::path));
        let folder = home.unwrap_or(Path::new(".")).join("builds");
        data::make_folder(&folder).map_err(failed)?;
        let root = folder.join("run");
        let owner = temporary.as_ref().map(|_| Ownership::take(&root));
        let owner = owner.transpose();
        let owner = owner.map_err(|error| failed(std::io::Error::other(error.to_string())))?;
        Ok(Self {
            project: projects.first().cloned(),
            builds: Mutex::new(build::read_all(&folder)?),
            folder,
            weather: Mutex::default(),
            processes: supervisor.map(|program| ProcessRuntime::new(root, program)),
            events,
            clock,
            tasks,
            _owner: owner,
            _temporary: temporary,
        })
    }

    /// Goes on with the builds that were not over when the cloud was.
    pub(crate) fn resume(self: &Arc<Self>) {
        let unfinished: Vec<String> = self
            .builds()
            .values()
            .filter(|build| build.is_live())
            .map(|build| build.id.clone())
            .collect();
        for id in unfinished {
            self.go_on(id);
        }
    }

    pub(crate) fn set_weather(&self, weather: BuildWeather) {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }

    fn weather(&self) -> BuildWeather {
        let weather = self.weather.lock();
        weather.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn builds(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Build>> {
        self.builds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
