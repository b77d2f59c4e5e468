//! Which executor gets a mission.

use std::collections::BTreeSet;

use crate::{Capability, ExecutorId};

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

/// The demands of a mission.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The executor that alone may have the mission.
    pub executor: Option<ExecutorId>,
    /// The capabilities that the executor must have, all of them.
    pub capabilities: BTreeSet<Capability>,
    /// Whether the executor must keep missions over its restarts.
    pub resumable: bool,
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

/// An executor that was not chosen, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The identity of the executor.
    pub id: ExecutorId,
    /// The reason, for people.
    pub reason: String,
}

/// The executor that gets the mission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// The identity of the executor.
    pub id: ExecutorId,
    /// The reason, for people.
    pub reason: String,
    /// The others.
    pub rejected: Vec<Rejected>,
}

/// No executor fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NobodyFits {
    /// Whether one would, were the mission not `long_running`.
    pub only_resumable_missing: bool,
    /// Why each of them does not.
    pub rejected: Vec<Rejected>,
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

    /// Why the executor cannot have the mission. `None`: it can.
    fn misfit(&self, wanted: &Wanted) -> Option<String> {
        if wanted
            .executor
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
/// If nobody fits.
pub fn select(candidates: &[Candidate], wanted: &Wanted) -> Result<Selected, NobodyFits> {
    let (mut fitting, mut rejected, mut only_resumable_missing) = (Vec::new(), Vec::new(), false);
    for candidate in candidates {
        let misfit = candidate.misfit(wanted);
        let misfit = misfit.or_else(|| {
            let lacks = wanted.resumable && !candidate.has("resumable");
            only_resumable_missing |= lacks;
            lacks.then(|| "it is not resumable, and the mission is long_running".to_owned())
        });
        match misfit {
            None => fitting.push(candidate),
            Some(reason) => rejected.push(Rejected {
                id: candidate.id.clone(),
                reason,
            }),
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
        rejected.push(Rejected {
            id: other.id.clone(),
            reason,
        });
    }
    let isolation = match best.isolation() {
        Isolation::Sandboxed => "it is sandboxed",
        Isolation::Host => "it runs on its own machine, and no sandboxed one fits",
        Isolation::Unknown => "nothing is known of its isolation, and none better fits",
    };
    Ok(Selected {
        id: best.id.clone(),
        reason: match wanted.executor {
            Some(_) => "the mission is for this executor".to_owned(),
            None => format!("{isolation}; it has {} missions", best.missions),
        },
        rejected,
    })
}
