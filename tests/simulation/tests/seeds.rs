//! Seeds that every change is tried with.

/// The number of seeds.
const SEEDS: u64 = 2000;

#[test]
fn two_thousand_seeds_hold() {
    // Two at a time: the machines that this runs on have two cores.
    let half = |first: u64| {
        std::thread::spawn(move || {
            let (mut events, mut faults, mut missions) = (0, 0, 0);
            for seed in (first..SEEDS).step_by(2) {
                let told = simulation::run(seed);
                assert_eq!(
                    told.violation.map(|what| println!("{what}")),
                    None,
                    "seed {seed}"
                );
                events += told.events;
                faults += told.faults;
                missions += told.missions;
            }
            (events, faults, missions)
        })
    };
    let told = [half(0), half(1)].map(|half| half.join().unwrap());
    let (events, faults) = (told[0].0 + told[1].0, told[0].1 + told[1].1);
    let missions = told[0].2 + told[1].2;
    println!("{SEEDS} seeds: {events} events, {faults} faults, {missions} missions");
    assert!(missions > SEEDS / 2, "executors have hardly anything to do");
    assert!(
        u64::from(faults) > 10 * SEEDS,
        "it is too kind a world: {faults} faults"
    );
}

#[test]
fn a_seed_always_tells_the_same_story() {
    for seed in [3, 77, 1234] {
        assert_eq!(simulation::run(seed), simulation::run(seed));
    }
}
