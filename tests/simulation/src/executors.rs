//! Executors that dial in by polls: they work, ask, vanish, come back, lie, and repeat themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use towpath_executors::{Instant, RegisterPayload};
use towpath_jobs_executor::{Proof, Refused};

use crate::chance::mortal;
use crate::world::World;

/// The capability of all of them.
pub(crate) const CAPABILITY: &str = "x-sim";

/// The executors of a world. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Fleet(Arc<Mutex<Vec<Member>>>);

/// One executor, as it knows itself.
#[derive(Clone)]
struct Member {
    id: String,
    token: String,
    resumable: bool,
    /// The time until which it is away.
    away: Option<u64>,
    /// The missions that it has, and how far each is.
    missions: BTreeMap<String, Stage>,
    /// The missions that it has told the end of.
    ended: BTreeSet<String>,
    /// The messages that it has kept, and not acknowledged.
    kept: Vec<String>,
    /// What it has to tell, in order.
    to_tell: Vec<Value>,
    /// What it has told.
    told: Vec<Value>,
    said: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Assigned,
    Running,
    Asking,
}

impl Member {
    /// Has something to tell.
    fn tells(&mut self, now: u64, event: &str, mission: Option<&str>, data: Value) {
        self.said += 1;
        let mut message = json!({
            "event": event, "executor_id": self.id, "ts": Instant::of_ms(now),
            "id": format!("{}-{}", self.id, self.said), "data": data,
        });
        if let Some(mission) = mission {
            message["mission_id"] = json!(mission);
        }
        self.to_tell.push(message);
    }

    fn ends(&mut self, now: u64, mission: &str, event: &str, data: Value) {
        self.missions.remove(mission);
        self.ended.insert(mission.to_owned());
        self.tells(now, event, Some(mission), data);
    }

    /// Hears a message of the deployment.
    fn hears(&mut self, now: u64, message: &Value) {
        let word = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        let mission = word("mission_id");
        match word("event").as_str() {
            "mission.dispatch" if !self.ended.contains(&mission) => {
                self.missions.entry(mission).or_insert(Stage::Assigned);
            }
            "mission.aborted" if self.missions.contains_key(&mission) => {
                let data = json!({ "state": "aborted", "aborted_by": "system" });
                self.ends(now, &mission, "mission.aborted", data);
            }
            "mission.hitl_responded" => {
                if let Some(stage) = self.missions.get_mut(&mission) {
                    *stage = Stage::Running;
                }
            }
            _ => {}
        }
        self.kept.push(word("id"));
    }

    /// Is back, after it was away.
    fn returns(&mut self, now: u64) {
        self.away = None;
        if !self.resumable {
            self.missions.clear();
            self.to_tell.clear();
        }
        let owned: Vec<String> = self.missions.keys().cloned().collect();
        let resync = json!({ "owned_mission_ids": owned });
        self.tells(now, "executor.resync", None, resync);
        for mission in owned {
            let data = json!({ "checkpoint_id": "here" });
            self.tells(now, "mission.reconnected", Some(&mission), data);
        }
    }
}

impl Fleet {
    fn with<T>(&self, f: impl FnOnce(&mut Vec<Member>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Two executors dial in: one that keeps its missions when it is away, and one that does not.
    pub(crate) async fn dial_in(&self, world: &World) {
        for (number, resumable) in [(1, true), (2, false)] {
            let id = format!("6f1e2a52-6d0a-4f0e-9a53-{number:012}");
            let mut capabilities = vec![CAPABILITY, "x-slots:2"];
            capabilities.extend(resumable.then_some("resumable"));
            let said: RegisterPayload = serde_json::from_value(json!({
                "executor_id": id, "name": id, "version": "1.0.0", "spec_version": "1.0.0",
                "transport_endpoints": { "rest": "about:blank", "ws": "about:blank" },
                "capabilities": capabilities,
            }))
            .unwrap();
            let registrar = &world.app.executors.registrar;
            let proof = || Proof::Enrolment(&world.caller.workspace);
            let registered = registrar.register(proof(), &said).await;
            let token = registered.expect("no fault happens yet").response.token;
            self.with(|members| {
                members.push(Member {
                    id,
                    token,
                    resumable,
                    away: None,
                    missions: BTreeMap::new(),
                    ended: BTreeSet::new(),
                    kept: Vec::new(),
                    to_tell: Vec::new(),
                    told: Vec::new(),
                    said: 0,
                });
            });
        }
    }

    /// One of them does something.
    pub(crate) fn act(&self, world: &World) {
        let (chance, now) = (&world.chance, world.clock.now_ms());
        let number = usize::try_from(chance.below(2)).unwrap();
        if let Some(until) = self.with(|members| members[number].away) {
            if now >= until {
                world.trace.note(format!("executor {number} is back"));
                self.with(|members| members[number].returns(now));
            }
            return;
        }
        match chance.below(8) {
            0..=2 => self.poll(world, number),
            3 | 4 => self.work(world, number),
            5 => self.repeat(world, number),
            6 => self.lie(world, number),
            _ if chance.fault(2) => {
                let until = now + 60_000 * chance.below(200);
                world.trace.note(format!("executor {number} is away"));
                self.with(|members| members[number].away = Some(until));
            }
            _ => {}
        }
        self.tell(world, number);
    }

    /// Everybody is there, and does all that there is to do.
    pub(crate) fn hurry(&self, world: &World) {
        let now = world.clock.now_ms();
        for number in 0..2 {
            self.with(|members| {
                let member = &mut members[number];
                if member.away.is_some() {
                    member.returns(now);
                }
                let begun = member.missions.clone();
                for (mission, stage) in begun
                    .into_iter()
                    .filter(|(_, stage)| *stage != Stage::Asking)
                {
                    if stage == Stage::Assigned {
                        let running = json!({ "state": "running" });
                        member.tells(now, "mission.started", Some(&mission), running);
                    }
                    let done = json!({ "state": "done", "summary": "done in the end" });
                    member.ends(now, &mission, "mission.completed", done);
                }
            });
            self.tell(world, number);
            self.poll(world, number);
        }
    }

    /// Asks for messages, and acknowledges those before, unless it forgets to.
    fn poll(&self, world: &World, number: usize) {
        let forgets = world.chance.fault(6);
        let (fleet, member) = (self.clone(), self.with(|members| members[number].clone()));
        world.spawn(move |world| async move {
            let registrar = &world.app.executors.registrar;
            let polled = mortal(async {
                let identity = registrar.authenticate_as(&member.id, &member.token).await?;
                registrar.polled(&identity, &member.kept).await?;
                registrar.messages(&identity).await
            });
            let Some(Ok(messages)) = polled.await else {
                return;
            };
            let now = world.clock.now_ms();
            fleet.with(|members| {
                let known = &mut members[number];
                if known.away.is_some() {
                    return;
                }
                known.kept.retain(|id| !member.kept.contains(id));
                for message in &messages {
                    known.hears(now, message);
                }
                if forgets {
                    known.kept.clear();
                }
            });
        });
    }

    /// Goes on with one of its missions.
    fn work(&self, world: &World, number: usize) {
        let (chance, now) = (&world.chance, world.clock.now_ms());
        let of: Vec<_> =
            self.with(|members| members[number].missions.clone().into_iter().collect());
        if of.is_empty() {
            return;
        }
        let (mission, stage) = chance.pick(&of);
        let next = chance.below(6);
        self.with(|members| {
            let member = &mut members[number];
            let to = Some(mission.as_str());
            match (stage, next) {
                (Stage::Assigned, _) => {
                    member.missions.insert(mission.clone(), Stage::Running);
                    member.tells(now, "mission.started", to, json!({ "state": "running" }));
                }
                (Stage::Asking, _) => {}
                (Stage::Running, 0) => {
                    member.missions.insert(mission.clone(), Stage::Asking);
                    let asked =
                        json!({ "hitl_id": format!("q-{}", member.said), "prompt": "Which?" });
                    member.tells(now, "mission.hitl_required", to, asked);
                }
                (Stage::Running, 1) => {
                    member.tells(now, "mission.progress", to, json!({ "pct_complete": 50 }));
                }
                (Stage::Running, 2) => {
                    let failed = json!({ "state": "failed", "reason": "crash" });
                    member.ends(now, &mission, "mission.failed", failed);
                }
                (Stage::Running, _) => {
                    let done = json!({ "state": "done", "summary": format!("made by {mission}") });
                    member.ends(now, &mission, "mission.completed", done);
                }
            }
        });
    }

    /// Says again what it has said before.
    fn repeat(&self, world: &World, number: usize) {
        let told = self.with(|members| members[number].told.clone());
        if !told.is_empty() {
            let again = world.chance.pick(&told);
            self.with(|members| members[number].to_tell.push(again));
        }
    }

    /// Tells of what the other has, in its own name or the other's.
    fn lie(&self, world: &World, number: usize) {
        let (chance, now) = (&world.chance, world.clock.now_ms());
        let (other, of) = self.with(|members| {
            let other = &members[1 - number];
            let of: Vec<String> = other.missions.keys().chain(&other.ended).cloned().collect();
            (other.id.clone(), of)
        });
        if of.is_empty() {
            return;
        }
        let (mission, poses) = (chance.pick(&of), chance.one_in(2));
        let event = chance.pick(&["mission.completed", "mission.started", "mission.aborted"]);
        let state = match event {
            "mission.completed" => "done",
            "mission.started" => "running",
            _ => "aborted",
        };
        self.with(|members| {
            let member = &mut members[number];
            member.tells(
                now,
                event,
                Some(&mission),
                json!({ "state": state, "summary": "a lie" }),
            );
            if let Some(message) = member.to_tell.last_mut()
                && event == "mission.completed"
            {
                message["executor_id"] = match poses {
                    true => json!(other),
                    false => json!(member.id),
                };
            }
        });
    }

    /// Tells what it has to tell, in order, until something is not taken.
    fn tell(&self, world: &World, number: usize) {
        let (fleet, token) = (
            self.clone(),
            self.with(|members| members[number].token.clone()),
        );
        world.spawn(move |world| async move {
            loop {
                let next = fleet.with(|members| members[number].to_tell.first().cloned());
                let Some(message) = next else { return };
                let executors = &world.app.executors;
                let taken = mortal(async {
                    let identity = executors.registrar.authenticate(&token).await?;
                    executors.events.take(&identity.record, &message).await
                });
                match taken.await {
                    // Nobody knows whether it was taken: it is told again.
                    None | Some(Err(Refused::Failed(_) | Refused::Busy)) => return,
                    Some(_) => fleet.with(|members| {
                        let member = &mut members[number];
                        member.to_tell.retain(|it| *it != message);
                        member.told.push(message);
                    }),
                }
            }
        });
    }
}
