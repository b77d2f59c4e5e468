//! Every engine action run twice, and killed at every call it makes: the story must end the same.

use towpath_instruments::{Deaths, Moment};
use towpath_local::Duplicates;

use crate::Worlds;
use crate::story::{End, Story};

/// A telling's trouble.
#[derive(Clone, Debug, Default)]
pub struct Trouble {
    /// What is wrong with the services: see `towpath_instruments::Faults`.
    pub faults: Option<String>,
    /// Events that reach their function twice.
    pub duplicates: Option<Duplicates>,
    /// The call at which an invocation dies, counted from 0, and at what moment of it.
    pub death: Option<(usize, Moment)>,
}

/// A telling that came to its end.
#[derive(Debug)]
pub struct Told {
    /// The end of the run.
    pub end: End,
    /// The calls that the functions made.
    pub calls: Vec<String>,
}

/// Tells a story in a world of its own, under trouble, and has the world judged.
///
/// # Panics
/// If it does not come to an end, or the judge finds something left behind.
pub async fn tell(program: &str, story: &Story, trouble: &Trouble) -> Told {
    let dir = tempfile::tempdir().unwrap();
    let deaths = Deaths::default();
    let mut worlds = story.world(Worlds::new(program)).mortal(deaths.clone());
    if let Some(faults) = &trouble.faults {
        worlds = worlds.with_faults(faults);
    }
    let world = worlds.start().await;
    let mut telling = story.prepare(&world, dir.path()).await;
    world
        .standing
        .cloud
        .duplicate_invocations(trouble.duplicates);
    deaths.arm(trouble.death);
    let end = story.tell(&world, &mut telling).await;
    let calls = deaths.calls();
    world.judge().await;
    let again = telling.end(&world).await;
    assert_eq!(again, end, "it ended, and then changed");
    world.standing.stop().await;
    Told { end, calls }
}

/// Tells a story undisturbed, then with every invocation doubled, then once for each call that its functions make, with
/// the invocation that makes it killed before the call and, where it writes, after it: so many of these, spread evenly,
/// or `TOWPATH_TEST_DEATHS` of them.
///
/// # Panics
/// If a telling ends otherwise than the undisturbed one, or leaves anything behind.
pub async fn steps_of_death(program: &str, story: &Story, at_most: usize) {
    if crate::watch::wanted() {
        return eprintln!("functions that are processes of their own are not killed here");
    }
    let at_most = std::env::var("TOWPATH_TEST_DEATHS").map_or(at_most, |n| n.parse().unwrap());
    let name = story.name();
    let told = tell(program, story, &Trouble::default()).await;
    for seed in 0..3 {
        let trouble = Trouble {
            duplicates: Some(Duplicates { seed, one_in: 1 }),
            ..Trouble::default()
        };
        same(program, story, &trouble, &told.end).await;
    }
    // On a busy machine the minute tick comes by more often and makes calls of its own: the quieter telling counts.
    let quiet = same(program, story, &Trouble::default(), &told.end).await;
    let calls = [told.calls, quiet.calls].into_iter().min_by_key(Vec::len);
    let calls = calls.unwrap_or_default();
    let deaths = deaths_of(&calls);
    let all = deaths.len();
    let chosen: Vec<_> = (0..all.min(at_most))
        .map(|n| deaths[n * all / all.min(at_most)])
        .collect();
    let mut died = 0;
    for death in &chosen {
        let trouble = Trouble {
            death: Some(*death),
            ..Trouble::default()
        };
        let again = same(program, story, &trouble, &told.end).await;
        died += usize::from(again.calls.len() > death.0);
    }
    eprintln!(
        "{name}: {} calls, {all} ways to die; tried {}, {died} died",
        calls.len(),
        chosen.len()
    );
    // Calls come in no fixed number, so the last ones may not come.
    assert!(died * 2 >= chosen.len(), "{name}: hardly any died");
}

/// What ends an invocation in a way of its own: each call before it is made, and each write after it was. To die after
/// a read is to die before it.
fn deaths_of(calls: &[String]) -> Vec<(usize, Moment)> {
    let reads = ["GetItem", "BatchGetItem", "Query", "DescribeExecution"];
    let moments = calls.iter().enumerate().flat_map(|(call, operation)| {
        let after = !reads.contains(&operation.as_str());
        let after = after.then_some((call, Moment::After));
        [Some((call, Moment::Before)), after]
    });
    moments.flatten().collect()
}

/// Tells the story under trouble: it must end like this.
///
/// # Panics
/// If it does not.
pub async fn same(program: &str, story: &Story, trouble: &Trouble, end: &End) -> Told {
    let told = tell(program, story, trouble).await;
    assert_eq!(told.end, *end, "{} under {trouble:?}", story.name());
    told
}
