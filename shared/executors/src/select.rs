//! Which executor gets a mission.

use std::collections::BTreeSet;

use crate::{Capability, ExecutorFilter, ExecutorId, RejectedExecutor, Selection};

/// An executor that may be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The identity of the executor.
    pub id: ExecutorId,
    /// The capabilities of the executor.
    pub capabilities: BTreeSet<Capability>,
    /// Whether the executor can be reached now.
    pub reachable: bool,
    /// The missions that the executor has.
    pub missions: u32,
    /// The most missions that the executor takes, if it says so.
    pub most: Option<u32>,
}

/// How well an executor keeps a mission apart from everything else, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isolation {
    /// A virtual machine or container.
    Sandboxed,
    /// The executor's own machine, and it says so.
    Host,
    /// None that is known.
    Unknown,
}

/// The executor that gets the mission.
#[derive(Clone, Debug, PartialEq)]
pub struct Selected {
    /// The identity of the executor.
    pub id: ExecutorId,
    /// The reasons for this executor and against the others.
    pub selection: Selection,
}

/// No executor fits.
#[derive(Clone, Debug, PartialEq)]
pub struct NobodyFits {
    /// Whether an executor would fit if the mission were not `long_running`.
    pub only_resumable_missing: bool,
    /// The executors, each with the reason against it.
    pub rejected: Vec<RejectedExecutor>,
}

impl Candidate {
    /// How well the executor keeps a mission apart: the best that it says of itself.
    pub fn isolation(&self) -> Isolation {
        let said = self.capabilities.iter();
        let said = said.filter_map(|it| it.as_str().strip_prefix("isolation:"));
        said.map(|word| match word {
            "vm" | "container" | "microvm" => Isolation::Sandboxed,
            "none" | "host" => Isolation::Host,
            _ => Isolation::Unknown,
        })
        .min()
        .unwrap_or(Isolation::Unknown)
    }

    fn has(&self, word: &str) -> bool {
        self.capabilities.iter().any(|it| it.as_str() == word)
    }

    fn rejected(&self, reason: String) -> RejectedExecutor {
        RejectedExecutor {
            executor_id: self.id.clone(),
            reason,
        }
    }

    /// Why the executor cannot have the mission. `None`: it can.
    fn misfit(&self, wanted: &ExecutorFilter) -> Option<String> {
        if wanted
            .executor_id
            .as_ref()
            .is_some_and(|only| *only != self.id)
        {
            return Some("the mission is for another executor".to_owned());
        }
        let missing: Vec<_> = wanted.capabilities.difference(&self.capabilities).collect();
        if !missing.is_empty() {
            let missing: Vec<_> = missing.iter().map(|it| it.as_str()).collect();
            return Some(format!("it lacks {}", missing.join(", ")));
        }
        if !self.reachable {
            return Some("it is not connected".to_owned());
        }
        match self.most {
            Some(most) if self.missions >= most => Some(format!(
                "it has {} missions, the most it takes",
                self.missions
            )),
            _ => None,
        }
    }
}

/// Chooses the executor of a mission: sandboxed ones first, among equals the one with the fewest missions, then by id, so
/// that everybody chooses the same.
///
/// # Errors
/// [`NobodyFits`], with the reason against each candidate.
pub fn select(
    candidates: &[Candidate],
    wanted: &ExecutorFilter,
    long_running: bool,
) -> Result<Selected, NobodyFits> {
    let (mut fitting, mut rejected, mut only_resumable_missing) = (Vec::new(), Vec::new(), false);
    for candidate in candidates {
        let misfit = candidate.misfit(wanted);
        let misfit = misfit.or_else(|| {
            let lacks = long_running && !candidate.has("resumable");
            only_resumable_missing |= lacks;
            lacks.then(|| "it is not resumable, and the mission is long_running".to_owned())
        });
        match misfit {
            None => fitting.push(candidate),
            Some(reason) => rejected.push(candidate.rejected(reason)),
        }
    }
    let rank = |it: &&&Candidate| (it.isolation(), it.missions, it.id.clone());
    let Some(best) = fitting.iter().min_by_key(rank).copied() else {
        return Err(NobodyFits {
            only_resumable_missing,
            rejected,
        });
    };
    for other in fitting.iter().filter(|it| it.id != best.id) {
        let reason = match other.isolation() == best.isolation() {
            true if other.missions == best.missions => "an equal was chosen".to_owned(),
            true => format!("it has more missions: {}", other.missions),
            false => "another is better isolated".to_owned(),
        };
        rejected.push(other.rejected(reason));
    }
    let isolation = match best.isolation() {
        Isolation::Sandboxed => "it is sandboxed",
        Isolation::Host => "it runs on its own machine, and no sandboxed one fits",
        Isolation::Unknown => "nothing is known of its isolation, and none better fits",
    };
    let reason = match wanted.executor_id {
        Some(_) => "the mission is for this executor".to_owned(),
        None => format!("{isolation}; it has {} missions", best.missions),
    };
    Ok(Selected {
        id: best.id.clone(),
        selection: Selection { reason, rejected },
    })
}
