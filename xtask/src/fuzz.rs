//! `cargo xtask fuzz`: runs libFuzzer on every target of `fuzz/`, one after the other.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::builder::PossibleValuesParser;
use jiff::SignedDuration;
use testbed::{Group, cargo, target_dir, workspace_dir};
use tokio::{process::Command, task::JoinSet};

/// What to fuzz, and for how long.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask fuzz                                  every target, 20 seconds each
  cargo xtask fuzz decide json --time 2h --jobs 2   two of them at once, for two hours
  cargo xtask fuzz decide --input target/fuzz/artifacts/decide/crash-0a1b    one input, again

What was found before is kept in target/fuzz/corpus, and the next run begins with it.")]
pub(crate) struct Args {
    /// The targets to run. The default is all of them.
    #[arg(value_name = "TARGET", value_parser = PossibleValuesParser::new(TARGETS.map(|target| target.name)))]
    targets: Vec<String>,
    /// Time for each target, such as `20s` or `2h`.
    #[arg(long, default_value = "20s", value_parser = parse_time, conflicts_with = "input")]
    time: Duration,
    /// Number of targets that run at the same time.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Run one target on this file only, and print all of its output.
    #[arg(long, value_name = "FILE", requires = "targets")]
    input: Option<PathBuf>,
}

pub(crate) async fn run(args: &Args) -> Result<ExitCode> {
    let wanted = |target: &&Target| args.targets.is_empty() || args.targets.iter().any(|name| name == target.name);
    let targets: Vec<_> = TARGETS.iter().filter(wanted).collect();
    let binaries = build().await?;
    if let Some(input) = &args.input {
        let [target] = targets[..] else { bail!("`--input` is for one target") };
        let mut group = Group::spawn(Command::new(binaries.join(target.name)).arg(input))?;
        return Ok(if group.wait().await?.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    write_seeds().await?;
    println!(
        "fuzzing {} for {:?} each",
        targets.iter().map(|target| target.name).collect::<Vec<_>>().join(", "),
        args.time
    );
    let (mut executions, mut crashes) = (0, 0);
    for at_once in targets.chunks(args.jobs.max(1)) {
        let mut running = JoinSet::new();
        for target in at_once {
            running.spawn(target.run(binaries.join(target.name), args.time));
        }
        while let Some(result) = running.join_next().await {
            let result = result??;
            executions += result.executions;
            crashes += u32::from(result.crashed);
        }
    }
    println!("{executions} executions of {} targets, {crashes} of which crashed", targets.len());
    Ok(if crashes == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A target of `fuzz/targets`.
struct Target {
    name: &'static str,
    /// The maximum length of an input, so that each run is short.
    max_bytes: u32,
    /// Folders of the workspace with the initial inputs.
    seeds: &'static [&'static str],
}

const TARGETS: [Target; 7] = [
    Target { name: "decide", max_bytes: 1024, seeds: &[] },
    Target { name: "json", max_bytes: 256, seeds: &[] },
    Target { name: "policy", max_bytes: 1024, seeds: &[] },
    Target { name: "differential", max_bytes: 1060, seeds: &[] },
    Target { name: "module", max_bytes: 1024, seeds: &[] },
    Target {
        name: "plan",
        max_bytes: 4096,
        seeds: &["fuzz/seeds/plan", "deploy", "crates/manifest-gen/tests/transcripts"],
    },
    Target { name: "explain", max_bytes: 4096, seeds: &["fuzz/seeds/explain"] },
];

/// The result of a target.
struct Ended {
    executions: u64,
    crashed: bool,
}

impl Target {
    /// Runs the target until the time is over or it crashes, and prints the result.
    async fn run(&'static self, binary: PathBuf, time: Duration) -> Result<Ended> {
        let folder = target_dir().join("fuzz");
        let [corpus, seeds, artifacts] = ["corpus", "seeds", "artifacts"].map(|name| folder.join(name).join(self.name));
        for folder in [&corpus, &seeds, &artifacts] {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let log = folder.join(format!("{}.log", self.name));
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(binary);
        command.arg(format!("-max_total_time={}", time.as_secs()));
        command.args([format!("-max_len={}", self.max_bytes), format!("-artifact_prefix={}/", artifacts.display())]);
        // A busy machine can delay a target for long. A target that hangs is still found.
        command.args(["-print_final_stats=1", "-timeout=60"]);
        let dictionary = workspace_dir().join(format!("fuzz/dictionaries/{}.dict", self.name));
        if dictionary.exists() {
            command.arg(format!("-dict={}", dictionary.display()));
        }
        command.args([&corpus, &seeds]).args(self.seeds.iter().map(|folder| workspace_dir().join(folder)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let status = Group::spawn(&mut command)?.wait().await?;

        let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        let executions = executions(&said);
        if status.success() {
            let count = executions.with_context(|| format!("no count of executions in {}", log.display()))?;
            println!("{:<13} {count:>11} executions, no crash", self.name);
        } else {
            println!("{:<13} CRASHED; all it said is in {}", self.name, log.display());
            for line in said.lines().skip_while(|line| !is_cause(line)).take(CAUSE_LINES) {
                println!("  {line}");
            }
            match said.lines().rev().find_map(|line| line.split_once("Test unit written to ")) {
                Some((_, input)) => println!("  to see it again: cargo xtask fuzz {} --input {input}", self.name),
                None => println!("  it ended with {status}, without an input that shows why"),
            }
        }
        Ok(Ended { executions: executions.unwrap_or_default(), crashed: !status.success() })
    }
}

/// The number of executions: from libFuzzer's final statistics or, before a crash, from the last line of its progress.
fn executions(log: &str) -> Option<u64> {
    let total = log.lines().rev().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let progress = || log.lines().rev().find_map(|line| line.strip_prefix('#')?.split(['\t', ' ', ':']).next());
    total.map(str::trim).or_else(progress)?.parse().ok()
}

fn is_cause(line: &str) -> bool {
    line.contains("panicked at") || line.contains("ERROR: libFuzzer")
}

/// Builds all targets, and returns the folder of their programs.
async fn build() -> Result<PathBuf> {
    let cargo_fuzz = cargo_fuzz().await?;
    let folder = target_dir().join("fuzz");
    println!("building the targets");
    // Without an address sanitizer, which needs a nightly toolchain. Only the target `module` has `unsafe` code of ours.
    let mut command = Command::new(cargo_fuzz);
    command.args(["fuzz", "build", "--sanitizer", "none", "--target-dir"]).arg(&folder).current_dir(workspace_dir());
    let status = Group::spawn(&mut command)?.wait().await?;
    ensure!(status.success(), "the fuzz targets do not build (see above)");
    Ok(folder.join(host().await?).join("release"))
}

/// The `cargo-fuzz` that the project uses, installed under the target directory.
async fn cargo_fuzz() -> Result<PathBuf> {
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let found = Command::new(&compiler).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().await;
    ensure!(
        found.is_ok_and(|status| status.success()),
        "`{}` does not run, and libFuzzer is C++: install a compiler (on Debian `apt install g++`) or set CXX to one",
        compiler.display()
    );
    let root = target_dir().join(format!("tools/cargo-fuzz-{CARGO_FUZZ}"));
    let program = root.join("bin/cargo-fuzz");
    if !program.exists() {
        println!("installing cargo-fuzz {CARGO_FUZZ} into {}", root.display());
        let mut command = cargo(&["install", "--quiet", "--locked", "--version", CARGO_FUZZ, "cargo-fuzz", "--root"]);
        let status = Group::spawn(command.arg(&root))?.wait().await?;
        ensure!(status.success(), "cargo-fuzz can't be installed (see above)");
    }
    Ok(program)
}

/// The target triple of this machine.
async fn host() -> Result<String> {
    let output =
        Command::new("rustc").arg("-vV").current_dir(workspace_dir()).output().await.context("cannot run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}

/// Writes the corpus of cases in the format of the targets' inputs.
async fn write_seeds() -> Result<()> {
    let arguments = ["run", "--quiet", "--package", "conformance", "--example", "fuzz-seeds", "--"];
    let mut command = cargo(&arguments);
    let status = Group::spawn(command.arg(target_dir().join("fuzz/seeds")))?.wait().await?;
    ensure!(status.success(), "the corpus can't be written as seeds (see above)");
    Ok(())
}

fn parse_time(text: &str) -> Result<Duration> {
    let time: SignedDuration = text.parse().ok().context("expected a duration such as `20s`, `10m` or `2h`")?;
    let time = Duration::try_from(time).ok().filter(|time| *time >= Duration::from_secs(1));
    time.context("expected at least a second")
}

const CARGO_FUZZ: &str = "0.13.2";

/// The lines of a panic that say what happened.
const CAUSE_LINES: usize = 3;
