//! A seeded simulator of Towpath.
//!
//! The real services run over tables, a machine and jobs in memory, single-threaded, in a runtime whose time stands still:
//! every choice (who goes first, what fails, who dies between two effects, how far the clock jumps) comes from one
//! seed, so that a seed always tells the same story. After every write and every event the invariants are checked; then
//! everything goes well, and all must come to its end: a wake that was lost or a run without a driver shows there.
//!
//! ```text
//! cargo run --release -p simulation -- --seeds 10000
//! cargo run -p simulation -- --seeds 1 --from 4711      # one story again, with its last events if it goes wrong
//! ```
//!
//! To add an actor, add an event to `World::event`; to add something that must hold, add it to `invariants`.

mod chance;
mod executors;
mod invariants;
mod jobs;
mod machine;
mod table;
mod timers;
mod trace;
mod work;
mod world;

pub use world::World;

/// The report of the simulation of one seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The number of events.
    pub events: u64,
    /// The number of faults among them.
    pub faults: u32,
    /// The number of missions that executors were given and have ended.
    pub missions: u64,
    /// The violation of an invariant, with the events that led there.
    pub violation: Option<String>,
}

/// Tells the story of a seed.
///
/// # Panics
/// If the simulator itself is wrong.
pub fn run(seed: u64) -> Told {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        // Short stories and long ones, in kind worlds and in hostile ones.
        let mut length = fastrand::Rng::with_seed(seed);
        let world = World::new(seed, length.u32(5..100)).await;
        world.live(length.u32(10..110)).await;
        if world.violation().is_none() {
            world.come_to_rest().await;
        }
        let (events, faults) = world.counts();
        Told {
            events,
            faults,
            missions: world.missions(),
            violation: world.violation(),
        }
    })
}
