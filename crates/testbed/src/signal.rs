//! Commands that Ctrl-C stops with all that they started.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};

/// Runs to the end or to a signal; whatever the work started is owned by its future, and is stopped with it.
///
/// # Errors
///
/// When the work fails, or signals can't be waited for.
pub fn until_signal(work: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    Runtime::new().context("cannot start the async runtime")?.block_on(async {
        tokio::select! {
            // Work that itself waits for the signal may end in its own way.
            biased;
            result = work => result,
            signal = signalled() => {
                eprintln!("stopped");
                // What a shell reports for a process that a signal ended.
                Ok(ExitCode::from(128 + signal?))
            }
        }
    })
}

/// Waits for a request to stop: Ctrl-C, `kill`, or the terminal's end. Gives the signal's number.
///
/// # Errors
///
/// When signals can't be waited for.
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
