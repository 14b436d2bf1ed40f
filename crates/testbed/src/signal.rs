//! Commands that Ctrl-C stops together with everything that they started.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};

/// Runs the work until it ends or a signal arrives. The future owns everything that the work starts, so dropping the
/// future stops it.
///
/// # Errors
///
/// If the work fails, or signals cannot be awaited.
pub fn until_signal(work: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    Runtime::new().context("cannot start the async runtime")?.block_on(async {
        tokio::select! {
            // Work that itself waits for the signal can end in its own way.
            biased;
            result = work => result,
            signal = signalled() => {
                eprintln!("stopped");
                // The exit code that a shell reports for a process that a signal ended.
                Ok(ExitCode::from(128 + signal?))
            }
        }
    })
}

/// Waits for a signal to stop: Ctrl-C, `kill`, or the end of the terminal. Returns the number of the signal.
///
/// # Errors
///
/// If signals cannot be awaited.
pub async fn signalled() -> Result<u8> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(tokio::select! {
        _ = hangup.recv() => 1,
        _ = interrupt.recv() => 2,
        _ = terminate.recv() => 15,
    })
}
