//! Driving executions: whatever happens becomes a turn, a turn becomes one transaction, and only then are its effects
//! performed.
//!
//! Nothing about an execution lives in memory but its calls under way, so a parked execution is a row and no more. One
//! task sleeps until the next row is due; one tells the listener; each call under way is one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use towpath_clock::Clock;

use serde_json::Value;

use crate::arn::Arns;
use crate::definition::Definition;
use crate::error::Error;
use crate::execution::{Execution, Status};
use crate::failure::Failure;
use crate::interpreter::{Effect, Surroundings, Turn};
use crate::listener::{Invoke, StatusChange, StatusListener};
use crate::mend::mend;
use crate::options::Options;
use crate::store::Store;

/// Drives executions.
pub(crate) struct Driver {
    clock: Clock,
    invoker: Arc<dyn Invoke>,
    listener: Arc<dyn StatusListener>,
    arns: Arns,
    surroundings: Surroundings,
    runtime: Handle,
    store: Mutex<Store>,
    definitions: Mutex<HashMap<i64, Arc<Definition>>>,
    /// Executions are driven: nothing is left over from before, or it was resumed.
    ready: AtomicBool,
    /// Shut down.
    closed: AtomicBool,
    /// The store failed, and is not used before it was opened again.
    failed: AtomicBool,
    failures: Arc<Notify>,
    /// The last failure of the store.
    failure: Mutex<String>,
    /// The store has been unusable for too long.
    gave_up: watch::Sender<bool>,
    timer: Arc<Notify>,
    /// The time until which the timer sleeps. Changed only with the store locked.
    sleeping_until: AtomicU64,
    notices: Arc<Notify>,
    tasks: Mutex<JoinSet<()>>,
    /// The task that opens the store again. It ends the tasks above, and so is none of them.
    mender: Mutex<JoinSet<()>>,
}

/// A lock that a panic elsewhere does not take away: the store's own transactions keep it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Driver {
    pub(crate) fn open(options: Options) -> Result<Arc<Self>, Error> {
        let store = Store::open(options.file.as_deref())?;
        Self::with_store(options, store)
    }

    pub(crate) fn with_store(options: Options, mut store: Store) -> Result<Arc<Self>, Error> {
        let runtime = Handle::try_current().map_err(|_| Error::NoRuntime)?;
        store.forget_expired(options.clock.now_ms())?;
        let ready = store.running()?.is_empty();
        let arns = Arns {
            region: options.region,
            account: options.account,
        };
        let surroundings = Surroundings {
            region: arns.region.clone(),
            role_arn: arns.role(),
            store_id: store.id().to_owned(),
        };
        let driver = Arc::new(Self {
            clock: options.clock,
            invoker: options.invoker,
            listener: options.listener,
            arns,
            surroundings,
            runtime,
            store: Mutex::new(store),
            definitions: Mutex::default(),
            ready: AtomicBool::new(ready),
            closed: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            failures: Arc::default(),
            failure: Mutex::default(),
            gave_up: watch::Sender::default(),
            timer: Arc::default(),
            sleeping_until: AtomicU64::new(0),
            notices: Arc::default(),
            tasks: Mutex::default(),
            mender: Mutex::default(),
        });
        let failures = Arc::clone(&driver.failures);
        let mender = mend(Arc::downgrade(&driver), driver.clock.clone(), failures);
        lock(&driver.mender).spawn_on(mender, &driver.runtime);
        if ready {
            driver.begin();
        }
        Ok(driver)
    }

    pub(crate) fn arns(&self) -> &Arns {
        &self.arns
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Whether requests that drive executions can be served.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst) && !self.is_stopped()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn is_stopped(&self) -> bool {
        self.is_closed() || self.failed.load(Ordering::SeqCst)
    }

    /// Reads from the store.
    pub(crate) fn read<T>(
        &self,
        look: impl FnOnce(&Store) -> Result<T, Error>,
    ) -> Result<T, Error> {
        look(&lock(&self.store))
    }

    /// For tests that set a fuse.
    #[cfg(test)]
    pub(crate) fn with_store_mut(&self, work: impl FnOnce(&mut Store)) {
        work(&mut lock(&self.store));
    }

    pub(crate) fn put_machine(&self, arn: &str, name: &str, text: &str) -> Result<(), Error> {
        self.write(|store| store.put_machine(arn, name, text, self.now_ms()))?;
        lock(&self.definitions).clear();
        Ok(())
    }

    /// Writes to the store, or reads what executions are driven by; every write goes through here. After a failure
    /// nothing goes on before the file was opened again: only then is known what a transaction has done.
    fn write<T>(&self, work: impl FnOnce(&mut Store) -> Result<T, Error>) -> Result<T, Error> {
        let mut store = lock(&self.store);
        if self.is_stopped() {
            return Err(Error::Closed);
        }
        let outcome = work(&mut store);
        if let Err(error) = &outcome
            && !matches!(error, Error::Closed)
        {
            tracing::error!(%error, "the state machine store failed; nothing is driven until it is open again");
            *lock(&self.failure) = error.to_string();
            self.failed.store(true, Ordering::SeqCst);
            self.failures.notify_one();
        }
        outcome
    }

    /// Opens a store that failed again, and goes on as after the death of the process.
    pub(crate) async fn reopen(self: &Arc<Self>) -> Result<(), Error> {
        self.end_tasks().await;
        {
            let mut store = lock(&self.store);
            if self.is_closed() {
                return Err(Error::Closed);
            }
            store.reopen().inspect_err(|error| {
                tracing::error!(%error, "the state machine store cannot be opened again");
                *lock(&self.failure) = error.to_string();
            })?;
            self.failed.store(false, Ordering::SeqCst);
        }
        if self.ready.load(Ordering::SeqCst) {
            self.go_on()?;
        }
        tracing::warn!("the state machine store is open again");
        Ok(())
    }

    /// Tells whoever waits for it that the store stays unusable.
    pub(crate) fn give_up(&self) {
        self.gave_up.send_replace(true);
    }

    /// Returns the last failure once the store has been unusable for too long.
    pub(crate) async fn failed(&self) -> String {
        // The sender lives as long as the driver, so the wait does not end early.
        let _ = self.gave_up.subscribe().wait_for(|gave_up| *gave_up).await;
        lock(&self.failure).clone()
    }

    pub(crate) fn resume(self: &Arc<Self>) {
        if self.ready.swap(true, Ordering::SeqCst) {
            return;
        }
        // A failure was logged, and is mended in the background.
        let _ = self.go_on();
    }

    /// Goes on with every execution that runs, and begins what goes on by itself.
    fn go_on(self: &Arc<Self>) -> Result<(), Error> {
        for execution in self.write(|store| store.running())? {
            self.turn_of(execution, true, |_| ())?;
        }
        self.begin();
        Ok(())
    }

    pub(crate) async fn shutdown(&self) {
        // With the store locked, so that whoever is writing now is done when this goes on.
        {
            let _store = lock(&self.store);
            self.closed.store(true, Ordering::SeqCst);
        }
        let mut mender = std::mem::take(&mut *lock(&self.mender));
        mender.shutdown().await;
        self.end_tasks().await;
        lock(&self.store).release();
    }

    async fn end_tasks(&self) {
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        tasks.shutdown().await;
    }

    /// Writes a new execution and its first turn, unless `check` says otherwise.
    pub(crate) fn start<T>(
        self: &Arc<Self>,
        check: impl FnOnce(&Store) -> Result<Result<Execution, T>, Error>,
    ) -> Result<Result<Execution, T>, Error> {
        let now_ms = self.now_ms();
        let mut effects = Vec::new();
        let started = self.write(|store| {
            let mut execution = match check(store)? {
                Ok(execution) => execution,
                Err(other) => return Ok(Err(other)),
            };
            let definition = self
                .definition(store, execution.definition)?
                .ok_or_else(|| Error::Corrupt("a definition is missing".to_owned()))?;
            let taken = |execution: &mut Execution| {
                let mut turn = Turn::new(&definition, &self.surroundings, execution, now_ms);
                turn.start();
                turn.run();
                let (events, wanted) = (turn.events, turn.effects);
                effects = wanted;
                (
                    events,
                    (!execution.is_running()).then(|| StatusChange::of(execution)),
                )
            };
            store.insert(&mut execution, taken, now_ms)?;
            self.mind(&execution);
            Ok(Ok(execution))
        })?;
        if let Ok(execution) = &started {
            self.notices.notify_one();
            self.perform(execution.seq, effects);
        }
        Ok(started)
    }

    /// Takes a turn of an execution: time passes first, then `act`. `None` if there is no such execution.
    pub(crate) fn turn<T>(
        self: &Arc<Self>,
        execution: i64,
        act: impl FnOnce(&mut Turn<'_>) -> T,
    ) -> Result<Option<T>, Error> {
        self.turn_of(execution, false, act)
    }

    fn turn_of<T>(
        self: &Arc<Self>,
        seq: i64,
        resume: bool,
        act: impl FnOnce(&mut Turn<'_>) -> T,
    ) -> Result<Option<T>, Error> {
        let now_ms = self.now_ms();
        let taken = self.write(|store| {
            let Some(mut execution) = store.execution(seq)? else {
                return Ok(None);
            };
            let before = execution.status;
            let known = self.definition(store, execution.definition)?;
            let replaced = known.is_none();
            let definition = known.unwrap_or_default();
            let mut turn = Turn::new(&definition, &self.surroundings, &mut execution, now_ms);
            if replaced {
                turn.stop(machine_replaced());
            } else if resume {
                turn.resume();
            }
            turn.pass_time();
            turn.run();
            let value = act(&mut turn);
            turn.run();
            let (events, effects) = (turn.events, turn.effects);
            let changed = execution.status != before;
            if before == Status::Running {
                let notice = changed.then(|| StatusChange::of(&execution));
                store.commit(&execution, &events, notice.as_ref())?;
                self.mind(&execution);
            }
            Ok(Some((value, effects, changed)))
        })?;
        let Some((value, effects, changed)) = taken else {
            return Ok(None);
        };
        if changed {
            self.notices.notify_one();
        }
        self.perform(seq, effects);
        Ok(Some(value))
    }

    /// The definition of this number; `None` if this release cannot run it.
    fn definition(&self, store: &Store, id: i64) -> Result<Option<Arc<Definition>>, Error> {
        if let Some(definition) = lock(&self.definitions).get(&id) {
            return Ok(Some(Arc::clone(definition)));
        }
        let text = store.definition(id)?.unwrap_or_default();
        let json: Value = serde_json::from_str(&text).unwrap_or_default();
        match Definition::parse(&json) {
            Ok(definition) => {
                let definition = Arc::new(definition);
                lock(&self.definitions).insert(id, Arc::clone(&definition));
                Ok(Some(definition))
            }
            Err(error) => {
                tracing::warn!(%error, "an execution ends: its definition is of another release");
                Ok(None)
            }
        }
    }

    /// Wakes the timer if this is due before what it sleeps for. Called with the store locked.
    fn mind(&self, execution: &Execution) {
        if execution
            .due_ms()
            .is_some_and(|due| due < self.sleeping_until.load(Ordering::SeqCst))
        {
            self.timer.notify_one();
        }
    }

    fn perform(self: &Arc<Self>, execution: i64, effects: Vec<Effect>) {
        for effect in effects {
            let driver = Arc::downgrade(self);
            match effect {
                Effect::Invoke {
                    number,
                    function,
                    payload,
                } => {
                    let invoker = Arc::clone(&self.invoker);
                    self.spawn(async move {
                        let answer = call(invoker, function, payload).await;
                        if let Some(driver) = driver.upgrade() {
                            driver.carry_on(execution, |turn| turn.answered(number, answer));
                        }
                    });
                }
                Effect::Continue => self.spawn(async move {
                    if let Some(driver) = driver.upgrade() {
                        driver.carry_on(execution, |_| ());
                    }
                }),
            }
        }
    }

    /// A turn that nobody waits for. Its errors were logged where they arose.
    fn carry_on(self: &Arc<Self>, execution: i64, act: impl FnOnce(&mut Turn<'_>)) {
        let _ = self.turn(execution, act);
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        if !self.is_stopped() {
            tasks.spawn_on(work, &self.runtime);
        }
    }

    /// Begins what goes on by itself: the timer and the notices.
    fn begin(self: &Arc<Self>) {
        self.spawn(mind_the_time(
            Arc::downgrade(self),
            self.clock.clone(),
            Arc::clone(&self.timer),
        ));
        self.spawn(give_notice(Arc::downgrade(self), Arc::clone(&self.notices)));
    }

    /// Finds what is due next and notes that the timer sleeps until then, in one step.
    fn next_due(&self) -> Result<Option<(u64, i64)>, Error> {
        self.write(|store| {
            let next = store.next_due()?;
            self.sleeping_until
                .store(next.map_or(u64::MAX, |(due, _)| due), Ordering::SeqCst);
            Ok(next)
        })
    }

    /// Tells the listener of the oldest change it was not told of. `false` if there is none.
    fn tell_one(&self) -> Result<bool, Error> {
        let Some((id, change)) = self.write(|store| store.next_notice())? else {
            return Ok(false);
        };
        self.listener.status_changed(change);
        self.write(|store| store.drop_notice(id))?;
        Ok(true)
    }
}

/// The failure of an execution that an older release started with a definition that this one cannot run. Its run gets
/// its next execution, on the machine as it is now, as after any death of a driver.
fn machine_replaced() -> Failure {
    Failure::new(
        "Towpath.MachineReplaced",
        "An older release started this execution, with a state machine that this release does not run. The run goes on \
         under its next execution.",
    )
}

/// Calls a function. One that panics has failed like one that crashed.
async fn call(
    invoker: Arc<dyn Invoke>,
    function: String,
    payload: Value,
) -> Result<Value, Failure> {
    let mut call = JoinSet::new();
    call.spawn(async move { invoker.invoke(&function, payload).await });
    match call.join_next().await {
        Some(Ok(answer)) => answer.map_err(|error| Failure::new(&error.error, error.cause)),
        Some(Err(_)) | None => Err(Failure::new(
            "Lambda.Unknown",
            "The call of the function ended without an answer.",
        )),
    }
}

async fn mind_the_time(driver: Weak<Driver>, clock: Clock, wake: Arc<Notify>) {
    loop {
        let Some(driver) = driver.upgrade() else {
            return;
        };
        let Ok(next) = driver.next_due() else { return };
        match next {
            Some((due, execution)) if due <= clock.now_ms() => {
                if driver.turn(execution, |_| ()).is_err() {
                    return;
                }
                drop(driver);
                tokio::task::yield_now().await;
            }
            next => {
                drop(driver);
                tokio::select! {
                    () = clock.sleep_until(next.map_or(u64::MAX, |(due, _)| due)) => {}
                    () = wake.notified() => {}
                }
            }
        }
    }
}

async fn give_notice(driver: Weak<Driver>, wake: Arc<Notify>) {
    loop {
        let Some(strong) = driver.upgrade() else {
            return;
        };
        let told = strong.tell_one();
        drop(strong);
        match told {
            Ok(true) => tokio::task::yield_now().await,
            Ok(false) => wake.notified().await,
            Err(_) => return,
        }
    }
}
