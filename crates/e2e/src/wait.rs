//! Waiting for a condition.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks again and again until there is a value; `what` names it when it does not come in time.
///
/// # Errors
///
/// When it does not come within the time, with what was found instead, or when asking fails.
pub async fn until<T>(what: &str, within: Duration, mut ask: impl AsyncFnMut() -> Result<Found<T>>) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        match ask().await? {
            Ok(value) => return Ok(value),
            Err(instead) if Instant::now() > deadline => bail!("{what} did not come within {within:?}: {instead}"),
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// What was waited for, or what there is instead.
pub(crate) type Found<T> = std::result::Result<T, String>;

const POLL: Duration = Duration::from_millis(10);
