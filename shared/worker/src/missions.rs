//! The missions that a worker has.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use towpath_runner::{Orders, write_durably};

use crate::link::{Link, Verdict};
use crate::mission::{Mission, folder_name};
use crate::{Error, Options, note};

/// The time that a command has to tidy up when its mission is ended.
const GRACE: std::time::Duration = std::time::Duration::from_secs(10);

/// The missions that a worker has.
pub(crate) struct Missions {
    options: Options,
    link: Link,
    folder: PathBuf,
    live: BTreeMap<String, Live>,
}

struct Live {
    orders: watch::Sender<Orders>,
    task: JoinHandle<()>,
}

impl Missions {
    /// The missions that are in the worker's folder, which go on.
    pub(crate) fn open(options: &Options, link: Link) -> Result<Self, Error> {
        let folder = options.folder.join("missions");
        fs::create_dir_all(&folder).map_err(Error::folder(&folder))?;
        let mut missions = Self {
            options: options.clone(),
            link,
            live: BTreeMap::new(),
            folder: folder.clone(),
        };
        for entry in fs::read_dir(&folder)
            .map_err(Error::folder(&folder))?
            .flatten()
        {
            let path = entry.path().join("mission.json");
            let message = fs::read(&path).ok();
            let message = message.and_then(|it| serde_json::from_slice::<Value>(&it).ok());
            match message {
                Some(message) => missions.begin(&message),
                // The message was not acknowledged before it was kept, so it comes again.
                None => {
                    let _ = fs::remove_dir_all(entry.path());
                }
            }
        }
        Ok(missions)
    }

    /// Says which missions the worker has, after it may have been missed.
    pub(crate) async fn reconnect(&mut self) {
        self.live.retain(|_, live| !live.task.is_finished());
        let owned: Vec<&String> = self.live.keys().collect();
        let resync = json!({ "owned_mission_ids": owned });
        match self.link.tell("executor.resync", None, resync).await {
            Ok(Verdict::Taken) => {}
            Ok(Verdict::Refused(why)) => note(&format!("the missions could not be told: {why}")),
            // The next poll finds that out as well, and then they are told.
            Err(_) => return,
        }
        for mission in owned {
            // It counts if the mission was suspended, and changes nothing otherwise.
            let data = json!({ "checkpoint_id": mission });
            let told = self.link.tell("mission.reconnected", Some(mission), data);
            let _ = told.await;
        }
    }

    /// Takes a message, and returns its id once it need not be sent again.
    pub(crate) async fn take(&mut self, message: &Value) -> Result<Option<String>, Error> {
        self.live.retain(|_, live| !live.task.is_finished());
        let word = |name: &str| message.get(name).and_then(Value::as_str);
        let id = word("id").map(str::to_owned);
        let (Some(event), Some(mission)) = (word("event"), word("mission_id")) else {
            return Ok(id);
        };
        match event {
            "mission.dispatch" => self.dispatch(mission, message)?,
            "mission.paused" => self.order(mission, Orders::Pause).await,
            "mission.resumed" => self.order(mission, Orders::Run).await,
            "mission.aborted" => self.order(mission, Orders::Stop(GRACE)).await,
            other => note(&format!("{mission}: {other} is passed over")),
        }
        Ok(id)
    }

    fn dispatch(&mut self, mission: &str, message: &Value) -> Result<(), Error> {
        if self.live.contains_key(mission) {
            return Ok(());
        }
        let folder = self.folder.join(folder_name(mission));
        fs::create_dir_all(&folder).map_err(Error::folder(&folder))?;
        let path = folder.join("mission.json");
        let bytes = serde_json::to_vec(message).unwrap_or_default();
        write_durably(&path, &bytes).map_err(Error::folder(&path))?;
        note(&format!("{mission} is taken"));
        self.begin(message);
        Ok(())
    }

    fn begin(&mut self, message: &Value) {
        let id = message.get("mission_id").and_then(Value::as_str);
        let Some(id) = id else { return };
        let (orders, ordered) = watch::channel(Orders::Run);
        let mission = Mission {
            id: id.to_owned(),
            dispatch: message
                .pointer("/data/dispatch")
                .cloned()
                .unwrap_or_default(),
            folder: self.folder.join(folder_name(id)),
            options: self.options.clone(),
            link: self.link.clone(),
        };
        let task = tokio::spawn(mission.carry_out(ordered));
        self.live.insert(id.to_owned(), Live { orders, task });
    }

    async fn order(&self, mission: &str, orders: Orders) {
        let Some(live) = self.live.get(mission) else {
            // It is over, or never came: nothing works on it.
            if let Orders::Stop(_) = orders {
                let data = json!({ "state": "aborted", "reason": "nothing works on it" });
                let events = [("mission.aborted", data)];
                self.link.tell_surely(mission, &events).await;
            }
            return;
        };
        live.orders.send_replace(orders);
        let (event, data) = match orders {
            Orders::Pause => ("mission.paused", json!({ "state": "paused" })),
            Orders::Run => ("mission.resumed", json!({ "state": "running" })),
            Orders::Stop(_) => return,
        };
        let _ = self.link.tell(event, Some(mission), data).await;
    }

    /// Leaves the missions as they are, for the next start to go on with.
    pub(crate) async fn lay_down(mut self) {
        self.live.retain(|_, live| !live.task.is_finished());
        for (mission, live) in &self.live {
            live.task.abort();
            let data = json!({
                "state": "suspended", "checkpoint_id": mission, "reason": "the worker ends",
            });
            let told = self.link.tell("mission.suspended", Some(mission), data);
            let _ = tokio::time::timeout(std::time::Duration::from_secs(3), told).await;
        }
        if !self.live.is_empty() {
            note(&format!(
                "{} missions go on by themselves; start the worker again in time to tell how they end",
                self.live.len()
            ));
        }
    }
}
