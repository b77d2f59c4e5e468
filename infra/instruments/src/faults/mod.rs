//! Faults on purpose: what DynamoDB and Step Functions do to their callers now and then, done to them often, so that
//! tests meet it. The embedded table of the local cloud never misbehaves by itself.
//!
//! The layer sits between the SDK and its HTTP client, so everything above, the SDK's retries included, is the real
//! thing. Which calls it breaks is decided by a seed and the order of the calls: the same calls in the same order meet
//! the same faults. Each service has a sequence of its own.
//!
//! # What a caller has to survive
//!
//! The SDK retries [`Fault::Throttle`], [`Fault::LostReply`] and [`Fault::ServerError`] by itself, up to its number of
//! attempts, but not [`Fault::Conflict`]. After a lost reply the retry meets the work of the first attempt:
//!
//! - a transaction is safe: the SDK gives it a `ClientRequestToken` that all its attempts share, and the service answers
//!   the second as it did the first;
//! - a **conditional write of a single item** is not: the retry finds the condition false, because it was itself what
//!   made it so. A caller that gets [`Trouble::ConditionFailed`](towpath_aws::Trouble) has to look whether what is there is
//!   its own (a nonce or a revision it chose tells) before it believes that somebody else was first;
//! - a write that counts up (`ADD`, `SET n = n + 1`) is done twice;
//! - `SendTaskSuccess` finds the task gone: `TaskTimedOut` or `TaskDoesNotExist` do not mean that it was not delivered.

mod death;
mod layer;
mod reply;
mod stale;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use death::Mortal;
pub use death::{Deaths, Moment};
pub(crate) use layer::Layer;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A write is refused because a transaction is at work on the same item. It does not reach the service. For a
    /// transaction, the reason stands at one of its actions.
    Conflict,
    /// The call is throttled. It does not reach the service.
    Throttle,
    /// The call is carried out, and the connection lost before the answer arrives.
    LostReply,
    /// A query of an index is answered as the same query was before, or lacks one of the rows, as an index does that
    /// has not caught up.
    StaleRead,
    /// The service fails with a 500. The call does not reach it.
    ServerError,
}

impl Fault {
    /// All kinds, in the order in which they share out a call's chance.
    pub const ALL: [Self; 5] = [
        Self::Conflict,
        Self::Throttle,
        Self::LostReply,
        Self::StaleRead,
        Self::ServerError,
    ];

    /// The kind's name in a specification.
    pub fn name(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Throttle => "throttle",
            Self::LostReply => "lost",
            Self::StaleRead => "stale",
            Self::ServerError => "error",
        }
    }
}

/// A plan of faults: the kinds to inject, and how often.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    /// The seed of the random numbers that decide which calls are hit.
    pub seed: u64,
    /// The share of calls that each kind hits, of those that it can happen to. Absent kinds do not happen.
    pub rates: BTreeMap<Fault, f64>,
    /// Only calls of this operation (`PutItem`, `SendTaskSuccess`, …) are hit, and counted by `after`.
    pub only: Option<String>,
    /// So many calls are left alone first.
    pub after: u64,
    /// So many faults, and no more.
    pub limit: Option<u64>,
}

impl Faults {
    /// Reads a specification such as `seed=42,rate=0.05` or `lost=1,only=TransactWriteItems,after=2,limit=1`.
    ///
    /// `rate` sets all kinds; `conflict`, `throttle`, `lost`, `stale` and `error` set one each, and the last word
    /// counts. Rates are shares from 0 to 1; where those of one call add up to more, kinds late in [`Fault::ALL`] are
    /// crowded out.
    ///
    /// # Errors
    /// The error, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut faults = Self::default();
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let (name, value) = part
                .split_once('=')
                .ok_or_else(|| format!("{part:?} is not of the form name=value"))?;
            let number = || {
                value
                    .parse::<u64>()
                    .map_err(|_| format!("{name} must be a whole number, not {value:?}"))
            };
            let rate = || match value.parse::<f64>() {
                Ok(rate) if (0.0..=1.0).contains(&rate) => Ok(rate),
                _ => Err(format!("{name} must be a share from 0 to 1, not {value:?}")),
            };
            match (
                name,
                Fault::ALL.into_iter().find(|fault| fault.name() == name),
            ) {
                (_, Some(fault)) => {
                    faults.rates.insert(fault, rate()?);
                }
                ("rate", _) => {
                    let rate = rate()?;
                    faults.rates = Fault::ALL.into_iter().map(|fault| (fault, rate)).collect();
                }
                ("seed", _) => faults.seed = number()?,
                ("after", _) => faults.after = number()?,
                ("limit", _) => faults.limit = Some(number()?),
                ("only", _) => faults.only = Some(value.to_owned()),
                _ => {
                    return Err(format!(
                        "{name} is not one of seed, rate, conflict, throttle, lost, stale, error, only, after, limit"
                    ));
                }
            }
        }
        Ok(faults)
    }

    fn rate(&self, fault: Fault) -> f64 {
        self.rates.get(&fault).copied().unwrap_or_default()
    }
}

/// How many faults were injected, so that a test can show that it met some.
#[derive(Clone, Debug, Default)]
pub struct Injected(Arc<[AtomicU64; Fault::ALL.len()]>);

impl Injected {
    /// The number of injected faults of one kind.
    pub fn count(&self, fault: Fault) -> u64 {
        self.counter(fault)
            .map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// The number of injected faults of all kinds.
    pub fn total(&self) -> u64 {
        Fault::ALL.into_iter().map(|fault| self.count(fault)).sum()
    }

    fn add(&self, fault: Fault) {
        if let Some(counter) = self.counter(fault) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counter(&self, fault: Fault) -> Option<&AtomicU64> {
        Fault::ALL
            .into_iter()
            .position(|kind| kind == fault)
            .and_then(|at| self.0.get(at))
    }
}

/// Random numbers that depend on nothing but their seed: SplitMix64 (Steele, Lea and Flood, 2014).
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to 1, without 1.
    fn share(&mut self) -> f64 {
        f64::from(u32::try_from(self.next() >> 32).unwrap_or_default()) / 4_294_967_296.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_specification_says_how_often_what_happens() {
        let faults =
            Faults::parse("seed=42, rate=0.05, stale=0, only=Query, after=3, limit=1").unwrap();
        assert_eq!(faults.seed, 42);
        assert_eq!(
            (faults.rate(Fault::LostReply), faults.rate(Fault::StaleRead)),
            (0.05, 0.0)
        );
        assert_eq!(
            (faults.only.as_deref(), faults.after, faults.limit),
            (Some("Query"), 3, Some(1))
        );
        let one = Faults::parse("lost=1").unwrap();
        assert_eq!(
            (one.rate(Fault::LostReply), one.rate(Fault::Throttle)),
            (1.0, 0.0)
        );
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (text, named) in [
            ("rate", "rate"),
            ("rate=2", "share"),
            ("lost=NaN", "NaN"),
            ("seed=-1", "whole"),
            ("los=1", "los"),
        ] {
            let error = Faults::parse(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn dice_fall_evenly() {
        let mut dice = Dice(7);
        let low = (0..10_000).filter(|_| dice.share() < 0.05).count();
        assert!((400..600).contains(&low), "{low}");
    }
}
