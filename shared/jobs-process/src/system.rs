//! What the operating system knows of process groups: their members, whether a group is still the one on record, and
//! what it uses.
//!
//! On Linux a group is identified beyond doubt by the machine's boot, its leader's start time and its session, all from
//! `/proc`. Elsewhere the check is weaker: a group that a dead supervisor left is killed only while its leader lives and
//! is in the session on record. If the leader has ended, its children are left alone there: they might be another's
//! processes.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getsid, kill_process, kill_process_group};
use serde::{Deserialize, Serialize};
use towpath_jobs::ResourceStats;

use crate::error::Error;

/// The identity of a process group, by which another one with the same number is told from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Identity {
    /// The number of the group and of the process that leads it.
    pub(crate) pgid: i32,
    /// The session, which is the supervisor's.
    session: i32,
    /// The start of the leader, in ticks since the machine was booted. Linux only.
    started: Option<u64>,
    /// The identity of that boot. Linux only.
    boot: Option<String>,
}

impl Identity {
    /// The identity of a group whose leader is a child of this process that has not been waited for.
    pub(crate) fn of(leader: Pid) -> Self {
        let pgid = leader.as_raw_pid();
        let session = getsid(Some(leader)).map_or(0, Pid::as_raw_pid);
        Self {
            pgid,
            session,
            started: platform::start_of(pgid),
            boot: platform::boot(),
        }
    }

    fn pid(&self) -> Option<Pid> {
        (self.pgid > 1).then(|| Pid::from_raw(self.pgid)).flatten()
    }
}

/// How long processes may take to be gone after SIGKILL. Those that take longer are stuck in the kernel.
pub(crate) const DYING: Duration = Duration::from_secs(10);
/// The interval at which a group that is ending is looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(20);

/// Makes this process one that keeps what it is told: processes that its children leave behind become its own, and no
/// other process of the same user can read its memory or its environment. Linux only; elsewhere nothing of the kind is
/// possible.
pub(crate) fn shelter() {
    platform::shelter();
}

/// Closes every descriptor but the three standard ones. To be called before anything is opened: what is open then was
/// left open by whoever started the cloud, and is none of a job's business.
pub(crate) fn close_inherited() {
    let names = std::fs::read_dir("/dev/fd").into_iter().flatten();
    let open: Vec<i32> = names
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // The one by which the names were read is closed already.
        let _ = nix::unistd::close(descriptor);
    }
}

/// Sends a signal to a group. Does nothing if the group is gone.
fn signal_group(group: &Identity, signal: Signal) {
    if let Some(pid) = group.pid() {
        let _ = kill_process_group(pid, signal);
    }
}

/// Makes the processes of a group stand still, or go on. Does nothing if the group is gone.
pub(crate) fn freeze(group: &Identity, still: bool) {
    if platform::is_left(group) {
        let signal = if still { Signal::STOP } else { Signal::CONT };
        signal_group(group, signal);
    }
}

/// Sends a signal to a group that this process, its supervisor, has started, and to what has left the group.
pub(crate) fn signal(group: &Identity, signal: Signal) {
    signal_group(group, signal);
    for stray in platform::strays(group.pgid) {
        let _ = Pid::from_raw(stray).map(|pid| kill_process(pid, signal));
    }
}

/// Whether a process of the group is alive, or one that has left the group. The leader is a child of this process and not
/// waited for, so the number is still the group's.
pub(crate) fn has_living(group: &Identity) -> bool {
    platform::has_living(group.pgid) || !platform::strays(group.pgid).is_empty()
}

/// Kills the processes that a dead supervisor left of this job and that its group does not have: they are known by their
/// environment.
pub(crate) fn kill_strays_of(job: &str) -> Result<(), Error> {
    let since = Instant::now();
    loop {
        let strays = platform::marked(&format!("TOWPATH_JOB_ID={job}"));
        let Some(first) = strays.first() else {
            return Ok(());
        };
        if since.elapsed() > DYING {
            return Err(Error::Leftover { pgid: *first });
        }
        for stray in strays {
            let _ = Pid::from_raw(stray).map(|pid| kill_process(pid, Signal::KILL));
        }
        std::thread::sleep(LOOK);
    }
}

/// Kills what a dead supervisor left of this group.
pub(crate) fn kill_leftover(group: &Identity) -> Result<(), Error> {
    let since = Instant::now();
    while platform::is_left(group) {
        if since.elapsed() > DYING {
            return Err(Error::Leftover { pgid: group.pgid });
        }
        signal_group(group, Signal::KILL);
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// Measurements of the group, where the system offers them.
pub(crate) fn usage(group: &Identity) -> Option<ResourceStats> {
    platform::usage(group)
}

#[cfg(target_os = "linux")]
mod platform {
    use std::fs;

    use towpath_jobs::ResourceStats;

    use super::Identity;

    /// The fields of `/proc/PID/stat` that matter here.
    #[derive(Debug, PartialEq)]
    pub(super) struct Stat {
        pid: i32,
        parent: i32,
        dead: bool,
        group: i32,
        session: i32,
        /// Processor time of the process and the children it waited for, in ticks.
        ticks: u64,
        start: u64,
        pages: u64,
    }

    impl Stat {
        /// The second field is the program's name in parentheses, which may contain anything, these included.
        pub(super) fn parse(text: &str) -> Option<Self> {
            let (pid, rest) = text.split_once(' ')?;
            let (_, rest) = rest.rsplit_once(") ")?;
            let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
            // Numbered as in proc(5), where the state is field 3.
            let field = |number: usize| fields.get(number - 3).copied();
            let number = |at: usize| field(at)?.parse::<u64>().ok();
            Some(Self {
                pid: pid.parse().ok()?,
                parent: field(4)?.parse().ok()?,
                dead: matches!(field(3)?, "Z" | "X"),
                group: field(5)?.parse().ok()?,
                session: field(6)?.parse().ok()?,
                ticks: (14..=17).filter_map(number).sum(),
                start: number(22)?,
                pages: number(24)?,
            })
        }
    }

    fn stat(pid: i32) -> Option<Stat> {
        Stat::parse(&String::from_utf8_lossy(
            &fs::read(format!("/proc/{pid}/stat")).ok()?,
        ))
    }

    fn pids() -> Vec<i32> {
        let entries = fs::read_dir("/proc").into_iter().flatten();
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.collect()
    }

    fn members(pgid: i32) -> Vec<Stat> {
        let all = pids().into_iter().filter_map(stat);
        all.filter(|stat| stat.group == pgid).collect()
    }

    pub(super) fn shelter() {
        use rustix::process::{
            DumpableBehavior, getpid, set_child_subreaper, set_dumpable_behavior,
        };
        // Both can only fail on kernels that do not know them.
        let _ = set_child_subreaper(Some(getpid()));
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }

    /// The living descendants of this process that are not in the group.
    pub(super) fn strays(pgid: i32) -> Vec<i32> {
        let all: Vec<Stat> = pids().into_iter().filter_map(stat).collect();
        let ours = rustix::process::getpid().as_raw_pid();
        descendants(ours, &all)
            .into_iter()
            .filter(|stat| !stat.dead && stat.group != pgid)
            .map(|stat| stat.pid)
            .collect()
    }

    fn descendants(of: i32, all: &[Stat]) -> Vec<&Stat> {
        let mut found: Vec<&Stat> = Vec::new();
        let mut parents = vec![of];
        while let Some(parent) = parents.pop() {
            for stat in all.iter().filter(|stat| stat.parent == parent) {
                parents.push(stat.pid);
                found.push(stat);
            }
        }
        found
    }

    /// The living processes whose environment holds this, as `NAME=value`.
    pub(super) fn marked(variable: &str) -> Vec<i32> {
        let is_marked = |pid: &i32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let mut all = environment.split(|byte| *byte == 0);
            all.any(|it| it == variable.as_bytes()) && stat(*pid).is_some_and(|stat| !stat.dead)
        };
        pids().into_iter().filter(is_marked).collect()
    }

    pub(super) fn boot() -> Option<String> {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(text.trim().to_owned())
    }

    pub(super) fn start_of(pid: i32) -> Option<u64> {
        Some(stat(pid)?.start)
    }

    pub(super) fn has_living(pgid: i32) -> bool {
        members(pgid).iter().any(|stat| !stat.dead)
    }

    pub(super) fn is_left(group: &Identity) -> bool {
        group.boot.is_some() && group.boot == boot() && belongs(group, &members(group.pgid))
    }

    /// Whether these members of a group of that number make it the group on record, and one of them is alive. While the
    /// group has a member the system gives its number to no new process, so a leader who started at another time means
    /// that the group died out and the number was used again.
    pub(super) fn belongs(group: &Identity, members: &[Stat]) -> bool {
        let Some(started) = group.started else {
            return false;
        };
        let ours = match members.iter().find(|stat| stat.pid == group.pgid) {
            Some(leader) => leader.start == started,
            None => members
                .iter()
                .all(|stat| stat.session == group.session && stat.start >= started),
        };
        ours && members.iter().any(|stat| !stat.dead)
    }

    pub(super) fn usage(group: &Identity) -> Option<ResourceStats> {
        let members = members(group.pgid);
        let ticks: u64 = members.iter().map(|stat| stat.ticks).sum();
        let bytes =
            members.iter().map(|stat| stat.pages).sum::<u64>() * rustix::param::page_size() as u64;
        let uptime = fs::read_to_string("/proc/uptime").ok()?;
        let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
        let per_second = rustix::param::clock_ticks_per_second();
        // The average since the leader started: a current figure would need two looks and the time between them.
        let age = ((uptime * per_second as f64) as u64).saturating_sub(group.started?);
        Some(ResourceStats {
            cpu_percent: (ticks * 100)
                .checked_div(age)
                .and_then(|percent| percent.try_into().ok()),
            memory_mb: Some(bytes / (1024 * 1024)),
            network_rx_bytes: None,
            network_tx_bytes: None,
        })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn member(pid: i32, session: i32, start: u64, dead: bool) -> Stat {
            Stat {
                pid,
                parent: 60,
                dead,
                group: 70,
                session,
                ticks: 0,
                start,
                pages: 0,
            }
        }

        fn group() -> Identity {
            Identity {
                pgid: 70,
                session: 60,
                started: Some(1000),
                boot: Some("b".to_owned()),
            }
        }

        #[test]
        fn a_program_name_cannot_pose_as_other_fields() {
            let text =
                "70 (a) R 1 (b) S 60 70 60 0 -1 0 1 2 3 4 10 20 30 40 20 0 1 0 1000 5000 7 9\n";
            let expected = Stat {
                pid: 70,
                parent: 60,
                dead: false,
                group: 70,
                session: 60,
                ticks: 100,
                start: 1000,
                pages: 7,
            };
            assert_eq!(Stat::parse(text), Some(expected));
        }

        #[test]
        fn descendants_are_found_through_their_parents() {
            let (mut child, mut grandchild) = (member(70, 60, 0, false), member(71, 71, 0, false));
            (child.parent, grandchild.parent) = (60, 70);
            let mut other = member(72, 72, 0, false);
            other.parent = 1;
            let all = [grandchild, other, child];
            let mut found: Vec<i32> = descendants(60, &all).iter().map(|it| it.pid).collect();
            found.sort_unstable();
            assert_eq!(found, [70, 71]);
        }

        #[test]
        fn a_group_whose_number_was_used_again_is_left_alone() {
            assert!(belongs(&group(), &[member(70, 60, 1000, false)]));
            assert!(
                !belongs(&group(), &[member(70, 60, 2000, false)]),
                "another leader"
            );
            assert!(
                !belongs(&group(), &[member(75, 99, 2000, false)]),
                "another session"
            );
            assert!(
                !belongs(&group(), &[member(75, 60, 500, false)]),
                "older than the group"
            );
        }

        #[test]
        fn children_that_outlived_their_leader_are_found() {
            assert!(belongs(&group(), &[member(75, 60, 1500, false)]));
            assert!(belongs(
                &group(),
                &[member(70, 60, 1000, true), member(75, 60, 1500, false)]
            ));
            assert!(
                !belongs(&group(), &[member(70, 60, 1000, true)]),
                "only a zombie is left"
            );
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use rustix::process::{Pid, getsid, test_kill_process_group};
    use towpath_jobs::ResourceStats;

    use super::Identity;

    pub(super) fn boot() -> Option<String> {
        None
    }

    pub(super) fn shelter() {}

    pub(super) fn strays(_pgid: i32) -> Vec<i32> {
        Vec::new()
    }

    pub(super) fn marked(_variable: &str) -> Vec<i32> {
        Vec::new()
    }

    pub(super) fn start_of(_pid: i32) -> Option<u64> {
        None
    }

    /// Signals reach only living processes here: a group of zombies answers with "not permitted".
    pub(super) fn has_living(pgid: i32) -> bool {
        Pid::from_raw(pgid).is_some_and(|pid| test_kill_process_group(pid).is_ok())
    }

    pub(super) fn is_left(group: &Identity) -> bool {
        let session = Pid::from_raw(group.pgid).and_then(|leader| getsid(Some(leader)).ok());
        session.is_some_and(|session| session.as_raw_pid() == group.session)
            && has_living(group.pgid)
    }

    pub(super) fn usage(_group: &Identity) -> Option<ResourceStats> {
        None
    }
}
