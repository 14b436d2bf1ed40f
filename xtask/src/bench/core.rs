//! `cargo xtask bench core`: decisions of the core, timed beside other ways to read a token.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use testbed::Group;

pub(crate) async fn run() -> Result<ExitCode> {
    let mut group = Group::spawn(&mut crate::cargo(&["bench", "--package", "benches", "--bench", "core"]))?;
    let status = group.wait().await?;
    ensure!(status.success(), "`cargo bench` failed (see above)");
    Ok(ExitCode::SUCCESS)
}
