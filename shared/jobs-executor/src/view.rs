//! Executors and missions as the contract shows them.

use std::time::Duration;

use towpath_engine::Timestamp;
use towpath_executors::{
    Candidate, Count, ExecutorId, ExecutorStatus, Instant, Integer, MissionState,
    MissionStatusResponse,
};
use towpath_store::{ExecutorRecord, MissionRecord};

/// The time after which an executor of which nothing is heard is silent.
pub(crate) const SILENT: Duration = Duration::from_secs(90);
/// The most missions of an executor that does not say how many it takes.
pub(crate) const MOST: u64 = 1000;

pub(crate) fn instant(at: Timestamp) -> Instant {
    Instant::of_ms(at.0)
}

/// The most missions that an executor takes, as its capability `x-slots:N` says.
pub(crate) fn most(executor: &ExecutorRecord) -> u64 {
    let capabilities = executor.registration.capabilities.iter();
    let mut slots = capabilities.filter_map(|it| it.as_str().strip_prefix("x-slots:"));
    let said = slots.next().and_then(|it| it.parse::<u64>().ok());
    said.map_or(MOST, |it| it.clamp(1, MOST))
}

/// Whether something was heard of an executor lately.
pub(crate) fn is_heard(executor: &ExecutorRecord, now: Timestamp) -> bool {
    now.since(executor.heard_at) <= SILENT
}

pub(crate) fn is_resumable(executor: &ExecutorRecord) -> bool {
    let capabilities = &executor.registration.capabilities;
    capabilities.iter().any(|it| it.as_str() == "resumable")
}

pub(crate) fn candidate(executor: &ExecutorRecord, now: Timestamp) -> Candidate {
    Candidate {
        id: executor.executor.clone(),
        capabilities: executor.registration.capabilities.clone(),
        reachable: executor.takes_dispatches && is_heard(executor, now),
        missions: u32::try_from(executor.missions.len()).unwrap_or(u32::MAX),
        most: u32::try_from(most(executor)).ok(),
    }
}

pub(crate) fn executor_status(executor: &ExecutorRecord, now: Timestamp) -> ExecutorStatus {
    let said = &executor.registration;
    let polls = executor.takes_dispatches && executor.disconnected_at.is_none();
    ExecutorStatus {
        executor_id: executor.executor.clone(),
        name: said.name.clone(),
        version: said.version.clone(),
        spec_version: said.spec_version.clone(),
        transport_endpoints: said.transport_endpoints.clone(),
        capabilities: said.capabilities.clone(),
        connected: executor.connection.is_some() || (polls && is_heard(executor, now)),
        last_event_ts: Some(instant(executor.heard_at)),
        active_mission_count: Some(Count::of(executor.missions.len() as u64)),
        registered_at: instant(executor.registered_at),
        disconnected_at: executor.disconnected_at.map(instant),
    }
}

/// The executor of a mission, as the contract names it.
pub(crate) fn holder(mission: &MissionRecord) -> ExecutorId {
    let holder = mission.executor.clone();
    holder.unwrap_or_else(ExecutorId::nobody)
}

pub(crate) fn mission_status(
    mission: &MissionRecord,
    recent_events: Vec<towpath_executors::EventEnvelope>,
) -> MissionStatusResponse {
    MissionStatusResponse {
        mission_id: mission.mission.clone(),
        executor_id: holder(mission),
        state: mission.state,
        created_at: instant(mission.created_at),
        updated_at: instant(mission.updated_at),
        completed_at: mission.completed_at.map(instant),
        recent_events,
        pty_session_ref: mission.pty.clone(),
        exit_code: mission.exit_code.map(Integer::of),
        error: mission
            .error
            .clone()
            .filter(|_| mission.state == MissionState::Failed),
        selection: mission.selection.clone(),
    }
}
