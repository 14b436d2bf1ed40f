//! The project's commands: `cargo xtask --help`.
mod build;

fn main() -> anyhow::Result<()> {
    println!("{}", build::run()?.display());
    Ok(())
}
