//! Waiting for a condition.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Whether a condition holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It holds.
    Ready,
    /// It does not hold, for this reason.
    Pending(String),
}

/// Polls until `ask` returns [`Readiness::Ready`]. The error for a timeout says with `what` what was awaited.
///
/// # Errors
///
/// If the condition does not hold within the time (the error contains the last reason), or if `ask` fails.
pub async fn until(what: &str, within: Duration, mut ask: impl AsyncFnMut() -> Result<Readiness>) -> Result<()> {
    let deadline = Instant::now() + within;
    loop {
        match ask().await? {
            Readiness::Ready => return Ok(()),
            Readiness::Pending(reason) if Instant::now() > deadline => {
                bail!("timed out after {within:?} waiting for {what}: {reason}")
            }
            Readiness::Pending(_) => tokio::time::sleep(POLL).await,
        }
    }
}

impl Readiness {
    /// Ready if the condition holds.
    #[must_use]
    pub fn of(holds: bool, reason: impl FnOnce() -> String) -> Self {
        if holds { Self::Ready } else { Self::Pending(reason()) }
    }
}

const POLL: Duration = Duration::from_millis(10);
