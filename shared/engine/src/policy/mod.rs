//! Policies: pure rules of numbers and times.

use std::time::Duration;

use crate::kernel::minutes;
use crate::{Evictions, LossCause, Timestamp, Unreadable};

/// Evictions of either sort that a step bears before it fails.
const CRASHES: u32 = 1;
const RECLAIMS: u32 = 5;

/// Unreadable looks in a row, a minute or more apart, after which a call is given up.
pub const UNREADABLE_LOOKS: u32 = 6;

/// Counts an eviction, if the step may bear another one of its sort.
pub(crate) fn eviction_is_borne(evictions: &mut Evictions, cause: LossCause) -> bool {
    let (count, budget) = match cause {
        LossCause::Crashed => (&mut evictions.crashes, CRASHES),
        LossCause::Reclaimed => (&mut evictions.transient, RECLAIMS),
        LossCause::TimedOut | LossCause::Killed | LossCause::Checkout | LossCause::Unreadable => {
            return false;
        }
    };
    let borne = *count < budget;
    *count += u32::from(borne);
    borne
}

/// Whether a look that could not be read counts: looks in a burst are one.
pub(crate) fn unreadable_is_counted(unreadable: &Unreadable, now: Timestamp) -> bool {
    unreadable.looks == 0 || now.since(unreadable.last) >= minutes(1)
}

/// The pause after a gate's look number `looks` (from 1) that came too early: from 1 to 5 minutes.
pub fn gate_pause(looks: u32) -> Duration {
    minutes(looks.clamp(1, 5))
}

/// The pause after the try number `tries` (from 1) to start a call that was kept back: 15 s doubling to 5 minutes.
pub fn start_pause(tries: u32) -> Duration {
    let seconds = 15u64 << tries.saturating_sub(1).min(5);
    Duration::from_secs(seconds.min(300))
}

/// The pauses before the drivers that replace one, two and three dead ones; after one more death the run fails.
const DEATH_PAUSES: [Duration; 3] = [Duration::ZERO, minutes(1), minutes(5)];

/// The pause before the next driver, after `deaths` deaths (from 1) that count. `None`: there is no next one.
pub(crate) fn death_pause(deaths: u32) -> Option<Duration> {
    let index = usize::try_from(deaths.saturating_sub(1)).ok()?;
    DEATH_PAUSES.get(index).copied()
}

/// The pause before the next driver, after `deaths` deaths (from 1) that are waited out: 1, 5, 15 and then 60 minutes.
pub(crate) fn excused_pause(deaths: u32) -> Duration {
    minutes(match deaths {
        0 | 1 => 1,
        2 => 5,
        3 => 15,
        _ => 60,
    })
}
