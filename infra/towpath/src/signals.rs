//! The signals by which people and systems end a command.

/// Returns when the process is asked to end, with the exit code that says so: 130 for Ctrl-C, 143 for SIGTERM, 129 for a
/// terminal that was closed.
pub(crate) async fn ended() -> u8 {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let signals = (
            signal(SignalKind::terminate()),
            signal(SignalKind::hangup()),
        );
        if let (Ok(mut terminate), Ok(mut hangup)) = signals {
            return tokio::select! {
                _ = tokio::signal::ctrl_c() => INTERRUPTED,
                _ = terminate.recv() => 143,
                _ = hangup.recv() => 129,
            };
        }
    }
    // Without signals there is only being killed, which is fine too.
    let _ = tokio::signal::ctrl_c().await;
    INTERRUPTED
}

/// The exit code of a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;
