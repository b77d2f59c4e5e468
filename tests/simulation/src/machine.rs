//! The machine of `statemachines/run.asl.json`, in memory: one state `Act`, retries, a time-out of a day, `Settle`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use towpath_clock::Clock;
use towpath_engine::{Next, PAYLOAD_FORM, RunId, Timestamp};
use towpath_machine::{Error, Machine, Sent, driven_by, execution_name};
use towpath_service::{App, Entry, Settle};

use crate::chance::{Chance, mortal};
use crate::timers::Timers;
use crate::trace::Trace;
use crate::work::Work;

/// The state machine in memory. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct MemoryMachine(Arc<Inner>);

struct Inner {
    chance: Chance,
    trace: Trace,
    clock: Clock,
    work: Work,
    app: OnceLock<App>,
    executions: Mutex<Executions>,
    timers: Timers<Timer>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inner")
    }
}

#[derive(Default)]
struct Executions {
    by_name: BTreeMap<String, Execution>,
    tokens: u64,
}

/// One execution.
struct Execution {
    /// The token of the present entry, as long as it can be answered.
    token: Option<String>,
    /// The time that the present entry is said to have begun.
    entered: u64,
    retry: u32,
    end: Option<&'static str>,
}

/// An action that the machine takes later.
#[derive(Clone, Debug)]
pub(crate) enum Timer {
    /// The task of this token times out.
    TimeOut(String, String),
    /// The task of this execution is tried again.
    Retry(String),
}

/// The errors that the machine retries.
const RETRIED: [&str; 4] = [
    "Towpath.Throttled",
    "Towpath.Unavailable",
    "Towpath.Newer",
    "Runtime.ExitError",
];
const RETRIES: u32 = 8;
const DAY: u64 = 24 * 3600 * 1000;
/// A call fails once in so many.
const FAULTS: u64 = 40;

impl MemoryMachine {
    /// A machine without executions.
    pub(crate) fn new(chance: Chance, trace: Trace, clock: Clock, work: Work) -> Self {
        Self(Arc::new(Inner {
            chance,
            trace,
            clock,
            work,
            app: OnceLock::new(),
            executions: Mutex::default(),
            timers: Timers::default(),
        }))
    }

    /// Says whose functions the machine calls.
    pub(crate) fn drives(&self, app: App) {
        let _ = self.0.app.set(app);
    }

    fn app(&self) -> App {
        self.0.app.get().expect("the machine has its app").clone()
    }

    fn with<T>(&self, f: impl FnOnce(&mut Executions) -> T) -> T {
        f(&mut self
            .0
            .executions
            .lock()
            .unwrap_or_else(PoisonError::into_inner))
    }

    /// The names of the executions that run.
    pub(crate) fn running_now(&self) -> Vec<String> {
        self.with(|executions| {
            let running = executions.by_name.iter().filter(|(_, it)| it.end.is_none());
            running.map(|(name, _)| name.clone()).collect()
        })
    }

    /// Enters the state `Act`, for the first time, for another try (`retry` > 0), or again.
    fn enter(&self, name: &str, retry: u32) {
        let now = self.0.clock.now_ms();
        let back = self.0.chance.fault(200);
        let entry = self.with(|executions| {
            executions.tokens += 1;
            let token = format!("token-{}", executions.tokens);
            let execution = executions.by_name.get_mut(name)?;
            if execution.end.is_some() {
                return None;
            }
            if retry == 0 {
                // The clock that gives the times may go back.
                execution.entered = if back { now - 5000 } else { now };
            }
            execution.retry = retry;
            execution.token = Some(token.clone());
            Some((token, execution.entered))
        });
        let Some((token, entered)) = entry else {
            return;
        };
        let (run, generation) = driven_by(name).expect("a driver's name");
        self.0
            .timers
            .set(now + DAY, Timer::TimeOut(name.to_owned(), token.clone()));
        let entry = Entry {
            run,
            generation,
            form: PAYLOAD_FORM,
            token: token.clone().into(),
            entered: Timestamp(entered),
            retry,
        };
        let copies = if self.0.chance.fault(60) { 2 } else { 1 };
        for _ in 0..copies {
            self.invoke(name, &token, entry.clone());
        }
    }

    fn invoke(&self, name: &str, token: &str, entry: Entry) {
        let (machine, name, token) = (self.clone(), name.to_owned(), token.to_owned());
        self.0.work.spawn(async move {
            machine.0.chance.turn().await;
            let app = machine.app();
            let done = mortal(async { app.driver.drive(&entry).await }).await;
            let error = match done {
                Some(Ok(())) => return,
                Some(Err(error)) => error.name(),
                None => "Runtime.ExitError",
            };
            machine.failed(&name, &token, error).await;
        });
    }

    /// The invocation of an entry failed. If its task is still open, it is tried again, or the execution fails.
    async fn failed(&self, name: &str, token: &str, error: &'static str) {
        self.0.trace.note(format!("{name}: {error}"));
        let retry = self.with(|executions| {
            let execution = executions.by_name.get_mut(name)?;
            if execution.token.as_deref() != Some(token) {
                return None;
            }
            execution.token = None;
            Some(execution.retry)
        });
        let Some(retry) = retry else { return };
        if RETRIED.contains(&error) && retry < RETRIES {
            let pause = self.0.chance.below(1000 << retry.min(6));
            let at = self.0.clock.now_ms() + pause;
            self.0.timers.set(at, Timer::Retry(name.to_owned()));
            return;
        }
        let (run, generation) = driven_by(name).expect("a driver's name");
        let dead = Settle {
            run,
            generation,
            error: error.to_owned(),
        };
        let app = self.app();
        for _ in 0..7 {
            let settled = mortal(async { app.settler.settle(&dead).await }).await;
            if let Some(Ok(())) = settled {
                break;
            }
            self.0.chance.turn().await;
        }
        self.end(name, "Towpath.DriverFailed");
    }

    /// Ends an execution, and tells of it if it did not end well.
    fn end(&self, name: &str, how: &'static str) {
        let ended = self.with(|executions| {
            let execution = executions.by_name.get_mut(name)?;
            if execution.end.is_some() {
                return None;
            }
            execution.token = None;
            execution.end = Some(how);
            Some(())
        });
        if ended.is_none() || how == "execution SUCCEEDED" {
            return;
        }
        self.0.trace.note(format!("{name} ended: {how}"));
        // The news of an execution's status is best effort.
        if self.0.chance.fault(4) {
            return;
        }
        let (run, generation) = driven_by(name).expect("a driver's name");
        let dead = Settle {
            run,
            generation,
            error: how.to_owned(),
        };
        for _ in 0..=u8::from(self.0.chance.fault(10)) {
            let (app, dead) = (self.app(), dead.clone());
            let chance = self.0.chance.clone();
            self.0.work.spawn(async move {
                chance.turn().await;
                let _ = mortal(async { app.settler.settle(&dead).await }).await;
            });
        }
    }

    /// Does what is due by the clock.
    pub(crate) fn tick(&self) {
        for timer in self.0.timers.due(self.0.clock.now_ms()) {
            match timer {
                Timer::Retry(name) => {
                    let retry = self.with(|executions| executions.by_name[&name].retry + 1);
                    self.enter(&name, retry);
                }
                Timer::TimeOut(name, token) => {
                    let open = self.with(|executions| {
                        executions.by_name[&name].token.as_deref() == Some(&token)
                    });
                    if open {
                        self.enter(&name, 0);
                    }
                }
            }
        }
    }

    /// The time of the next retry or time-out of an execution that runs.
    pub(crate) fn next(&self) -> Option<u64> {
        let open: BTreeMap<String, Option<String>> = self.with(|executions| {
            let running = executions.by_name.iter().filter(|(_, it)| it.end.is_none());
            running
                .map(|(name, it)| (name.clone(), it.token.clone()))
                .collect()
        });
        self.0.timers.next(|timer| match timer {
            Timer::Retry(name) => open.contains_key(name),
            Timer::TimeOut(name, token) => {
                open.get(name).is_some_and(|it| it.as_ref() == Some(token))
            }
        })
    }

    /// An operator ends one of the executions.
    pub(crate) fn abort_one(&self) {
        let running = self.running_now();
        if !running.is_empty() {
            self.end(&self.0.chance.pick(&running), "execution ABORTED");
        }
    }

    async fn before(&self) -> Result<(), Error> {
        self.0.chance.turn().await;
        match self.0.chance.fault(FAULTS) {
            true => Err(self.0.chance.pick(&[Error::Throttled, Error::Unavailable])),
            false => Ok(()),
        }
    }

    async fn after<T>(&self, done: T) -> Result<T, Error> {
        self.0.chance.turn().await;
        match self.0.chance.fault(FAULTS) {
            true => Err(Error::Unavailable),
            false => Ok(done),
        }
    }
}

#[async_trait]
impl Machine for MemoryMachine {
    async fn answer(&self, token: &str, _form: u8, next: Next) -> Result<Sent, Error> {
        self.before().await?;
        let name = self.with(|executions| {
            let mut all = executions.by_name.iter_mut();
            let (name, execution) = all.find(|(_, it)| it.token.as_deref() == Some(token))?;
            execution.token = None;
            Some(name.clone())
        });
        let Some(name) = name else {
            return self.after(Sent::Gone).await;
        };
        match next {
            Next::Over | Next::Handover => self.end(&name, "execution SUCCEEDED"),
            Next::Advance | Next::PollJob | Next::PollGate => self.enter(&name, 0),
        }
        self.after(Sent::Taken).await
    }

    async fn is_live(&self, token: &str) -> Result<bool, Error> {
        self.before().await?;
        Ok(self.with(|executions| {
            let mut all = executions.by_name.values();
            all.any(|it| it.token.as_deref() == Some(token))
        }))
    }

    async fn start(&self, run: &RunId, generation: u32) -> Result<(), Error> {
        self.before().await?;
        let name = execution_name(run, generation);
        let new = self.with(|executions| {
            let new = !executions.by_name.contains_key(&name);
            executions.by_name.entry(name.clone()).or_insert(Execution {
                token: None,
                entered: 0,
                retry: 0,
                end: None,
            });
            new
        });
        if new {
            self.enter(&name, 0);
        }
        self.after(()).await
    }

    async fn end_of(&self, run: &RunId, generation: u32) -> Result<Option<String>, Error> {
        self.before().await?;
        let name = execution_name(run, generation);
        Ok(self.with(|executions| match executions.by_name.get(&name) {
            None => Some("no execution".to_owned()),
            Some(execution) => execution.end.map(str::to_owned),
        }))
    }
}

/// The time that one step of the machine takes in the simulation's own time.
pub(crate) const MOMENT: Duration = Duration::from_millis(20);
