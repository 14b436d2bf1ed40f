//! `cargo xtask gen`.

use anyhow::Result;

/// Nothing is generated yet.
#[expect(clippy::unnecessary_wraps, reason = "it will write files")]
pub(crate) fn run(_check: bool) -> Result<()> {
    Ok(())
}
