//! Waiting for a condition.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Polls until `ask` returns a value. The error for a timeout names the awaited value with `what`.
///
/// # Errors
///
/// If there is no value within the time (the error says what was found instead), or if `ask` fails.
pub async fn until<T>(what: &str, within: Duration, mut ask: impl AsyncFnMut() -> Result<Found<T>>) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        match ask().await? {
            Ok(value) => return Ok(value),
            Err(instead) if Instant::now() > deadline => {
                bail!("timed out after {within:?} waiting for {what}: {instead}")
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// The awaited value, or what was found instead.
pub(crate) type Found<T> = std::result::Result<T, String>;

const POLL: Duration = Duration::from_millis(10);
