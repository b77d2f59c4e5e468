//! Create: a run comes to be, and the live run of its block ends if the new one takes its place.

use towpath_api_types::{Code, Problem};
use towpath_engine::{
    Effect, Illegal, JobRef, Run, RunId, StopMark, Wait, WorkspaceId, reason, stop,
};
use towpath_store::{Commit, Creation, Error as StoreError, Idempotency, Input, Loaded, Takeover};

use crate::caller::busy;
use crate::outbox::Outbox;
use crate::stops::Stops;
use crate::{Caller, Error};

/// Creates runs.
#[derive(Clone)]
pub(crate) struct Create {
    outbox: Outbox,
    stops: Stops,
}

/// The number of lost races with a live run after which whoever takes its place stops it first.
const PATIENCE: u32 = 3;

/// The run whose place a new run may take, and the reason given for its end.
#[derive(Clone, Copy)]
pub(crate) enum TakeOver<'a> {
    /// Nobody's.
    None,
    /// That of whichever run is live on the block.
    Any(&'a str),
    /// That of this run, and of no other that may have come since.
    Only(&'a RunId, &'a str),
}

impl<'a> TakeOver<'a> {
    /// The reason by which `live` may be ended; `None` if it may not be.
    fn reason(self, live: &RunId) -> Option<&'a str> {
        match self {
            TakeOver::None => None,
            TakeOver::Any(reason) => Some(reason),
            TakeOver::Only(run, reason) => (run == live).then_some(reason),
        }
    }
}

/// A live run that is to end: as it was loaded, as it will be, and its mailbox then.
struct Ending {
    before: Loaded,
    after: Run,
    wait: Wait,
}

/// What a try to create a run came to: its id, or a problem to tell.
type Tried = Result<Result<RunId, Problem>, Error>;

/// Makes the run at its first step, which replaces these jobs.
type Make<'a> = dyn Fn(Vec<JobRef>) -> Result<Run, Illegal> + Send + Sync + 'a;

impl Create {
    pub(crate) fn new(outbox: Outbox, stops: Stops) -> Self {
        Self { outbox, stops }
    }

    /// The run that a name was first used for, if the same was asked.
    pub(crate) async fn first(
        &self,
        workspace: &WorkspaceId,
        name: Option<&Idempotency>,
    ) -> Result<Option<RunId>, Problem> {
        let Some(name) = name else { return Ok(None) };
        let store = &self.outbox.ports.store;
        let created = store.created(workspace, &name.key, self.outbox.now()).await;
        match created.map_err(Error::from)? {
            None => Ok(None),
            Some(first) if first.hash == name.hash => Ok(Some(first.run)),
            Some(first) => {
                let message = "this Idempotency-Key was used for another request; use a new one";
                Err(Problem::new(Code::IdempotencyMismatch, message).with_run(first.run))
            }
        }
    }

    /// Creates the run that `make` makes, and ends the block's live run if `take_over` says so.
    ///
    /// # Errors
    /// The problem to tell the caller; nothing was written then.
    pub(crate) async fn create(
        &self,
        caller: &Caller,
        make: &Make<'_>,
        input: &Input,
        name: Option<&Idempotency>,
        take_over: TakeOver<'_>,
    ) -> Result<RunId, Problem> {
        let mut races = self.outbox.races();
        loop {
            let stop_first = races.lost() > PATIENCE;
            let tried = self
                .create_once(caller, make, input, name, take_over, stop_first)
                .await;
            if races.again(&tried).await {
                continue;
            }
            return match tried {
                Err(Error::Store(StoreError::Conflict)) => Err(busy()),
                tried => tried?,
            };
        }
    }

    async fn create_once(
        &self,
        caller: &Caller,
        make: &Make<'_>,
        input: &Input,
        name: Option<&Idempotency>,
        take_over: TakeOver<'_>,
        stop_first: bool,
    ) -> Tried {
        let store = &self.outbox.ports.store;
        let (workspace, block) = (&input.block.workspace, &input.block.id);
        let live = store.live_run(workspace, block).await?;
        let ending = match live.map(|live| (take_over.reason(&live), live)) {
            None => None,
            Some((None, live)) => {
                // The live run may be what an earlier attempt at this very start has made.
                return Ok(match self.first(workspace, name).await {
                    Ok(None) => Err(is_live(block, live)),
                    Ok(Some(first)) => Ok(first),
                    Err(problem) => Err(problem),
                });
            }
            Some((Some(reason), live)) => {
                // It ends in the transaction that begins the new run. One that is too busy for that is stopped first:
                // then it goes no further.
                if stop_first {
                    let why = "another start takes its place";
                    let mark = StopMark::new(&caller.name, Some(why), self.outbox.now());
                    self.stops.mark(&live, &mark).await?;
                }
                self.ending(caller, &live, reason).await?
            }
        };
        // Whatever run the block had last may still have jobs that are told to end: the new run's first job waits for
        // them. The creation fails if another run has come and gone since.
        let previous = store.block(workspace, block).await?;
        let previous = previous.and_then(|block| block.run_id);
        let leaving = match (&ending, &previous) {
            (Some(ending), _) => ending.before.run.step.live_jobs().collect(),
            (None, Some(previous)) => self.leaving(previous).await?,
            (None, None) => Vec::new(),
        };
        let run = make(leaving)?;
        self.write(&run, input, name, previous.as_ref(), ending)
            .await
    }

    /// The jobs of a run that is over which may not be gone yet.
    async fn leaving(&self, run: &RunId) -> Result<Vec<JobRef>, Error> {
        let store = &self.outbox.ports.store;
        match store.load(run).await {
            Ok(loaded) => Ok(loaded
                .iter()
                .flat_map(|loaded| loaded.run.step.live_jobs())
                .collect()),
            // It was ended by force: what could be read of its jobs stands in rows of their own.
            Err(StoreError::Newer(_) | StoreError::Broken(_)) => Ok(store.reaps(run).await?),
            Err(other) => Err(other.into()),
        }
    }

    /// The end of a live run for `reason`, or by the stop that it is marked with. `None`: it is over by now.
    async fn ending(
        &self,
        caller: &Caller,
        live: &RunId,
        reason: &str,
    ) -> Result<Option<Ending>, Error> {
        let Some(before) = self.outbox.ports.store.load(live).await? else {
            return Ok(None);
        };
        if before.run.head.status.is_terminal() {
            return Ok(None);
        }
        let now = self.outbox.now();
        let marked = before.run.head.stop.clone();
        let mark = marked.unwrap_or_else(|| StopMark::new(&caller.name, Some(reason), now));
        let mut after = before.run.clone();
        stop(&mut after, &mark, now);
        let wait = before.wait.over(now);
        Ok(Some(Ending {
            before,
            after,
            wait,
        }))
    }

    async fn write(
        &self,
        run: &Run,
        input: &Input,
        name: Option<&Idempotency>,
        previous: Option<&RunId>,
        ending: Option<Ending>,
    ) -> Tried {
        let (store, now) = (&self.outbox.ports.store, self.outbox.now());
        let wait = Wait::fresh(reason(run), now);
        let takeover = ending.as_ref().map(|ending| Takeover {
            commit: Commit {
                before: &ending.before,
                after: &ending.after,
                wait: &ending.wait,
                now,
            },
        });
        let creation = Creation {
            run,
            wait: &wait,
            input,
            idempotency: name,
            previous,
            takeover,
            now,
        };
        match store.create(creation).await {
            Ok(()) => {}
            // A lost answer may have been a success: then the run is there, under its own id.
            Err(StoreError::Conflict | StoreError::Unavailable | StoreError::Refused(_))
                if store.head(&run.head.id).await?.is_some() => {}
            Err(StoreError::Refused(_)) => {
                return Ok(match self.first(&run.head.workspace, name).await {
                    Ok(first) => first.ok_or_else(busy),
                    Err(problem) => Err(problem),
                });
            }
            Err(other) => return Err(other.into()),
        }
        if let Some(ending) = ending {
            for effect in &ending.after.effects {
                if let Effect::Reap(job) = effect {
                    self.outbox.reap(job).await;
                }
            }
            let old = &ending.after.head.id;
            self.outbox.try_deliver(old, ending.wait).await;
        }
        self.outbox.try_deliver(&run.head.id, wait).await;
        Ok(Ok(run.head.id.clone()))
    }
}

fn is_live(block: &towpath_engine::BlockId, live: RunId) -> Problem {
    let message = format!("the block {block} has a live run; stop it, or start with `replace`");
    Problem::new(Code::RunIsLive, message).with_run(live)
}
