//! The simulator as a command.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

/// Simulates Towpath, seed by seed, and stops at the first that violates an invariant.
#[derive(Parser)]
struct Options {
    /// The number of seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let began = Instant::now();
    let (mut events, mut faults) = (0, 0);
    for seed in options.from..options.from + options.seeds {
        let told = simulation::run(seed);
        events += told.events;
        faults += u64::from(told.faults);
        if let Some(violation) = told.violation {
            eprintln!("{violation}\n\nAgain: cargo run -p simulation -- --seeds 1 --from {seed}");
            return ExitCode::FAILURE;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    eprintln!(
        "{} seeds hold: {events} events, {faults} faults, in {seconds:.1} s",
        options.seeds
    );
    ExitCode::SUCCESS
}
