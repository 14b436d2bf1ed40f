//! Commands that run one after the other until one fails.

use std::time::Instant;

use anyhow::{Result, ensure};
use testbed::{Group, cargo};

/// A cargo command.
pub(crate) struct Step {
    /// What it does, for people.
    pub(crate) name: &'static str,
    /// Its arguments.
    pub(crate) cargo: &'static [&'static str],
}

/// Runs all steps with these environment variables.
///
/// # Errors
///
/// If a step fails. The steps after it do not run.
pub(crate) async fn run_all(steps: &[Step], env: &[(&str, &str)]) -> Result<()> {
    let begin = Instant::now();
    for Step { name, cargo: arguments } in steps {
        println!("\n== {name}: cargo {}", arguments.join(" "));
        let begin = Instant::now();
        let status = Group::spawn(cargo(arguments).envs(env.iter().copied()))?.wait().await?;
        let seconds = begin.elapsed().as_secs_f32();
        ensure!(status.success(), "{name}: `cargo {}` failed after {seconds:.1} s", arguments.join(" "));
        println!("== {name}: passed in {seconds:.1} s");
    }
    println!("\n{} steps passed in {:.1} s", steps.len(), begin.elapsed().as_secs_f32());
    Ok(())
}
