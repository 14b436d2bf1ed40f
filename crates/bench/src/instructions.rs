//! `cargo xtask bench instructions`: the instructions of each decision, counted by valgrind and compared with the recorded ones.
//!
//! A count is the same on every run, so it shows a change that a clock can't. A program that makes each decision once
//! (`crates/bench-inputs/src/main.rs`) runs under callgrind, which writes one file for each call of its function `counted`. No benchmark
//! framework is used: their baselines are kept in `target`, not in the repository.

use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    process::{ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use comfy_table::Table;
use serde_json::{Value, json};
use testbed::{Group, cargo, target_dir, workspace_dir};
use tokio::process::Command;

/// Whether to compare or to record.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Record the counts in `crates/bench/instructions.json` instead of comparing them.
    #[arg(long)]
    update: bool,
}

pub(crate) async fn run(args: &Args) -> Result<ExitCode> {
    let compiler = Compiler::of_workspace().await?;
    let counts = count().await?;
    if args.update {
        Baseline::record(&compiler, &counts)?;
    }
    let baseline = Baseline::read()?;
    let comparable = baseline.compiler.host == compiler.host;
    ensure!(
        !comparable || baseline.compiler == compiler,
        "{BASELINE} is of rustc {}, this is {}: another compiler makes other instructions. Record them in the commit that \
         changes the compiler, by `{UPDATE}`",
        baseline.compiler.release,
        compiler.release
    );
    println!("{}\n", table(&counts, &baseline, comparable));

    let mut problems = unbounded(&counts);
    if comparable {
        problems.extend(changes(&counts, &baseline));
    } else {
        println!("not compared with {BASELINE}: it is of {}, this is {}", baseline.compiler.host, compiler.host);
    }
    if problems.is_empty() {
        println!(
            "no decision grew by more than {GROWTH_PERCENT} %; no hostile one costs more than its bound, or \
             more than {DOUBLED} times as much for twice the bytes"
        );
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}", problems.join("\n"));
    println!(
        "where they go: `callgrind_annotate target/bench/callgrind/out.N`, N being the row; when it is worth it: `{UPDATE}`"
    );
    Ok(ExitCode::FAILURE)
}

/// One decision.
struct Count {
    /// `typical`, `cached`, `fault`, a group of [`HOSTILE`], or that behind [`TWICE`].
    group: String,
    name: String,
    bytes: u64,
    instructions: u64,
}

impl Count {
    fn key(&self) -> String {
        format!("{}: {}", self.group, self.name)
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    fn per_byte(&self) -> f64 {
        self.instructions as f64 / self.bytes as f64
    }

    /// How many times another it is.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    fn of(&self, other: &Self) -> f64 {
        self.instructions as f64 / other.instructions as f64
    }
}

#[derive(PartialEq)]
struct Compiler {
    release: String,
    host: String,
}

impl Compiler {
    async fn of_workspace() -> Result<Self> {
        let rustc = Command::new("rustc").arg("-vV").current_dir(workspace_dir()).output().await;
        let text = String::from_utf8(rustc.context("cannot run rustc")?.stdout)?;
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name));
            value.map(str::to_owned).with_context(|| format!("`rustc -vV` prints no {name}"))
        };
        Ok(Self { release: field("release: ")?, host: field("host: ")? })
    }
}

/// Builds and runs the program that is counted.
async fn count() -> Result<Vec<Count>> {
    let mut build = Group::spawn(&mut cargo(&["build", "--profile", "bench", "--package", "bench-inputs"]))?;
    ensure!(build.wait().await?.success(), "the program to count does not build (see above)");

    let dir = target_dir().join("bench/callgrind");
    match fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).context("cannot clear target/bench/callgrind");
        }
        _ => fs::create_dir_all(&dir)?,
    }
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args([
            "--tool=callgrind",
            "--compress-strings=no",
            "--toggle-collect=bench_inputs::counted",
            "--dump-after=bench_inputs::counted",
        ])
        .arg(format!("--callgrind-out-file={}", dir.join("out").display()))
        .arg(target_dir().join("release/bench-inputs"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = match Group::spawn(&mut valgrind) {
        Ok(mut valgrind) => valgrind.output().await?,
        Err(error) if is_missing(&error) => bail!(
            "instructions are counted by valgrind, which is not on PATH: `apt install valgrind` (Debian, Ubuntu), `dnf install \
             valgrind` (Fedora); on other systems see https://valgrind.org"
        ),
        Err(error) => return Err(error),
    };
    ensure!(output.status.success(), "valgrind failed: {}", String::from_utf8_lossy(&output.stderr));
    let rows = String::from_utf8(output.stdout)?;
    rows.lines().zip(1..).map(|(row, number)| read(row, &dir.join(format!("out.{number}")))).collect()
}

fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// A line that the program printed, with the file that callgrind wrote of that call.
fn read(row: &str, profile: &Path) -> Result<Count> {
    let [group, name, bytes] = row.split('\t').collect::<Vec<_>>()[..] else { bail!("cannot read the line `{row}`") };
    let text = fs::read_to_string(profile).with_context(|| format!("callgrind wrote no {}", profile.display()))?;
    let instructions = text.lines().find_map(|line| line.strip_prefix("totals: ")?.parse().ok());
    let instructions =
        instructions.filter(|count| *count > 0).context("callgrind counted nothing in `bench_inputs::counted`")?;
    Ok(Count { group: group.to_owned(), name: name.to_owned(), bytes: bytes.parse()?, instructions })
}

/// What was recorded.
struct Baseline {
    compiler: Compiler,
    counts: BTreeMap<String, u64>,
}

impl Baseline {
    fn record(compiler: &Compiler, counts: &[Count]) -> Result<()> {
        let counts: BTreeMap<_, _> = recorded(counts).map(|count| (count.key(), count.instructions)).collect();
        let baseline = json!({ "rustc": compiler.release, "host": compiler.host, "instructions": counts });
        fs::write(workspace_dir().join(BASELINE), format!("{baseline:#}\n"))
            .with_context(|| format!("cannot write {BASELINE}"))
    }

    fn read() -> Result<Self> {
        let text = fs::read(workspace_dir().join(BASELINE))
            .with_context(|| format!("cannot read {BASELINE}; `{UPDATE}` writes it"))?;
        let baseline: Value = serde_json::from_slice(&text).with_context(|| format!("{BASELINE} is not JSON"))?;
        let field = |name: &str| {
            baseline[name].as_str().map(str::to_owned).with_context(|| format!("{BASELINE} has no `{name}`"))
        };
        let counts = baseline["instructions"].as_object().into_iter().flatten();
        Ok(Self {
            compiler: Compiler { release: field("rustc")?, host: field("host")? },
            counts: counts.filter_map(|(key, count)| Some((key.clone(), count.as_u64()?))).collect(),
        })
    }

    /// How much more it costs now, in percent.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    fn growth(&self, count: &Count) -> Option<f64> {
        let recorded = *self.counts.get(&count.key())? as f64;
        Some((count.instructions as f64 / recorded - 1.0) * 100.0)
    }
}

/// All but those of twice the bytes, which are only compared with their single ones.
fn recorded(counts: &[Count]) -> impl Iterator<Item = &Count> {
    counts.iter().filter(|count| !count.group.starts_with(TWICE))
}

/// What has changed since the baseline was recorded, but for what has become cheaper.
fn changes(counts: &[Count], baseline: &Baseline) -> Vec<String> {
    let mut problems: Vec<_> = recorded(counts)
        .filter_map(|count| match baseline.growth(count) {
            Some(growth) if growth > GROWTH_PERCENT => Some(format!("{}: {growth:+.1} % over {BASELINE}", count.key())),
            Some(_) => None,
            None => Some(format!("{}: not in {BASELINE}", count.key())),
        })
        .collect();
    let counted = |key: &String| counts.iter().any(|count| count.key() == *key);
    problems.extend(
        baseline.counts.keys().filter(|key| !counted(key)).map(|key| format!("{key}: in {BASELINE}, but not counted")),
    );
    problems
}

/// Hostile requests that cost too much, or whose cost grows faster than their size.
fn unbounded(counts: &[Count]) -> Vec<String> {
    let mut problems = Vec::new();
    let bound = |count: &Count| HOSTILE.iter().find(|(group, _)| count.group == *group).map(|(_, most)| *most);
    for (count, most) in counts.iter().filter_map(|count| Some((count, bound(count)?))) {
        if count.instructions > most {
            problems.push(format!("{}: more than {most} instructions", count.key()));
        }
        match twice(count, counts) {
            Some(times) if times > DOUBLED => {
                problems.push(format!("{}: {times:.2} times as much for twice the bytes", count.key()));
            }
            Some(_) => {}
            None => problems.push(format!("{}: not counted with twice the bytes", count.key())),
        }
    }
    problems
}

/// How many times as much a hostile request of twice the bytes costs.
fn twice(count: &Count, counts: &[Count]) -> Option<f64> {
    let group = format!("{TWICE}{}", count.group);
    let twice = counts.iter().find(|other| other.group == group && other.name == count.name);
    twice.map(|twice| twice.of(count))
}

fn table(counts: &[Count], baseline: &Baseline, comparable: bool) -> Table {
    let mut table =
        super::core::table(["Decision", "Row", "Bytes", "Instructions", "For a byte", "Twice the bytes", "Change"]);
    for (number, count) in (1..).zip(counts).filter(|(_, count)| !count.group.starts_with(TWICE)) {
        let growth = baseline.growth(count).filter(|_| comparable);
        table.add_row([
            count.key(),
            number.to_string(),
            count.bytes.to_string(),
            count.instructions.to_string(),
            format!("{:.1}", count.per_byte()),
            twice(count, counts).map_or_else(String::new, |times| format!("{times:.2} times")),
            growth.map_or_else(|| "-".to_owned(), |growth| format!("{growth:+.1} %")),
        ]);
    }
    table
}

const BASELINE: &str = "crates/bench/instructions.json";
const UPDATE: &str = "cargo xtask bench instructions --update";

/// The growth of a decision, in percent, above which it must be recorded again.
const GROWTH_PERCENT: f64 = 5.0;

/// The groups of hostile requests, and the most instructions that one may cost: a token at the default limits, and 8 KB of header
/// lines, for which the core has no limit.
const HOSTILE: [(&str, u64); 2] = [("worst token", 300_000), ("worst header line", 560_000)];

/// How many times as much twice the bytes may cost: a quadratic cost would be four times as much. It is more than twice since
/// valgrind counts a `memcpy` of more than some kilobytes byte by byte.
const DOUBLED: f64 = 2.5;

/// What precedes a group for the same requests of twice the bytes, under limits twice as wide.
const TWICE: &str = "twice the ";
