//! `cargo xtask hostile`.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use hostile::attack::{self, AttackPlan, AttackResult, BATCH, Length};
use hostile::health::Memory;
use hostile::oracle::Violation;
use hostile::target::Engine;
use testbed::EnvoyBinary;
use tokio::task::JoinSet;

/// Attacks the filters on a real Envoy, with hostile tokens and headers over HTTP/1.1 and HTTP/2, pipelined and in parallel.
/// Every request carries forged routing headers. The core computes the expected result of each request.
#[derive(Parser)]
#[command(name = "cargo xtask hostile", bin_name = "cargo xtask hostile", after_help = EXAMPLES)]
struct Args {
    /// Number of requests for each engine.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    requests: u64,
    /// Seed of all choices. Tokens about to expire also depend on the clock.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of the first request, to repeat a part of a run. It is rounded down to the start of its batch.
    #[arg(long, default_value_t = 0, conflicts_with = "soak")]
    first: u64,
    /// The filter to attack.
    #[arg(long, value_enum, default_value_t = Engines::All)]
    engine: Engines,
    /// Run a soak test of this length, such as `30m`: a steady load on all engines side by side, while policies are swapped.
    #[arg(long, value_parser = duration, conflicts_with = "requests")]
    soak: Option<Duration>,
    /// Requests per second for each engine, in a soak test.
    #[arg(long, default_value_t = 200, requires = "soak", value_parser = clap::value_parser!(u32).range(1..=5000))]
    rate: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Engines {
    Wasm,
    Lua,
    Module,
    All,
}

impl Engines {
    fn list(self) -> Vec<Engine> {
        match self {
            Self::Wasm => vec![Engine::Wasm],
            Self::Lua => vec![Engine::Lua],
            Self::Module => vec![Engine::Module],
            Self::All => vec![Engine::Wasm, Engine::Lua, Engine::Module],
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    match testbed::until_signal(attack(&args)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn attack(args: &Args) -> Result<ExitCode> {
    let binary = testbed::locate(|line| println!("{line}")).await?;
    println!("Envoy {}: {}", binary.version, binary.path.display());
    let mut passed = true;
    if let Some(time) = args.soak {
        let length = Length::Soak { time, rate: args.rate };
        let mut engines = JoinSet::new();
        for engine in args.engine.list() {
            let plan = AttackPlan { engine, length, seed: args.seed, first: 0 };
            let binary = binary.clone();
            engines.spawn(async move { one(plan, &binary).await });
        }
        while let Some(one) = engines.join_next().await {
            passed &= one??;
        }
    } else {
        for engine in args.engine.list() {
            let before = args.first % BATCH;
            let (length, first) = (Length::Requests(args.requests + before), args.first - before);
            passed &= one(AttackPlan { engine, length, seed: args.seed, first }, &binary).await?;
        }
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Attacks one engine and prints the result. Returns false if a check failed.
async fn one(plan: AttackPlan, binary: &EnvoyBinary) -> Result<bool> {
    let mut dir = tempfile::Builder::new().prefix("routing-claims-hostile-").tempdir()?;
    let mut progress = Progress::new(plan);
    let report = attack::run(plan, binary, dir.path(), |done, memory| progress.show(done, memory)).await?;
    progress.end();
    print(plan, &report);
    if !report.passed() {
        dir.disable_cleanup(true);
        println!("Envoy's log and configuration are kept in {}", dir.path().display());
    }
    Ok(report.passed())
}

/// Prints the requests that reproduce violations, the outcomes, and one line of counts.
fn print(plan: AttackPlan, report: &AttackResult) {
    let AttackResult { tally, health, memory, elapsed, swaps } = report;
    let engine = plan.engine.name();
    for reproducer in &tally.reproducers {
        println!("{reproducer}\n");
    }
    for failure in health.failures.iter().take(10) {
        println!("{failure}");
    }
    let outcomes: Vec<_> = tally.outcomes.iter().map(|(code, count)| format!("{code} {count}")).collect();
    println!("{engine}: outcomes: {}", outcomes.join(", "));
    if !report.counts_agree() {
        println!("{engine}: the filter counted {:?} requests", health.counted);
    }
    if let Length::Soak { .. } = plan.length {
        let course: Vec<_> = memory.course(10).iter().map(|bytes| (bytes >> 20).to_string()).collect();
        println!("{engine}: {swaps} swaps of policies; memory in MiB at each tenth: {}", course.join(" "));
    }
    println!(
        "{engine}: {} requests in {:.1} s, seed {}: wrong routes {}, surviving forged headers {}, wrong managed headers {}, \
         other headers changed {}, answers mixed up {}, failed only with the filter {}, failures of script, VM or module {}, rejected by \
         Envoy itself {}, sent again {}, memory {} -> {} MiB (bound {}): {}",
        tally.requests,
        elapsed.as_secs_f64(),
        plan.seed,
        tally.count(Violation::Route),
        tally.count(Violation::Forged),
        tally.count(Violation::Managed),
        tally.count(Violation::Others),
        tally.count(Violation::Reply),
        tally.count(Violation::Status),
        health.failures.len(),
        tally.refused,
        tally.resent,
        memory.warm() >> 20,
        memory.peak() >> 20,
        memory.bound() >> 20,
        if report.passed() { "ok" } else { "FAILED" },
    );
}

/// One line that is rewritten on a terminal; elsewhere, a new line every few seconds.
struct Progress {
    plan: AttackPlan,
    begin: Instant,
    shown: Instant,
}

impl Progress {
    fn new(plan: AttackPlan) -> Self {
        Self { plan, begin: Instant::now(), shown: Instant::now() }
    }

    fn show(&mut self, done: u64, memory: &Memory) {
        // Engines that run side by side would overwrite each other's line.
        let (rewrites, every) = match self.plan.length {
            Length::Requests(_) if std::io::stderr().is_terminal() => (true, 1),
            Length::Requests(_) => (false, 10),
            Length::Soak { .. } => (false, 60),
        };
        if self.shown.elapsed() < Duration::from_secs(every) {
            return;
        }
        self.shown = Instant::now();
        let engine = self.plan.engine.name();
        let (elapsed, memory) = (self.begin.elapsed().as_secs().max(1), memory.last() >> 20);
        let of = match self.plan.length {
            Length::Requests(requests) => format!(" of {requests}"),
            Length::Soak { time, .. } => format!(" in {elapsed} of {} s", time.as_secs()),
        };
        let line = format!("{engine}: {done}{of}, {} per second, {memory} MiB", done / elapsed);
        if rewrites { eprint!("\r{line}\x1b[K") } else { eprintln!("{line}") }
    }

    fn end(&self) {
        if matches!(self.plan.length, Length::Requests(_)) && std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
    }
}

/// `90s`, `30m` or `2h`.
fn duration(text: &str) -> Result<Duration> {
    let units = [("s", 1), ("m", 60), ("h", 3600)];
    let parsed = units.iter().find_map(|(unit, seconds)| {
        let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
        Some(Duration::from_secs(count.checked_mul(*seconds)?)).filter(|time| !time.is_zero())
    });
    parsed.context("expected a number and `s`, `m` or `h`, such as `90s` or `30m`")
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask hostile                                    100,000 requests for each engine
  cargo xtask hostile --engine lua --requests 1000000    a long run of one engine
  cargo xtask hostile --seed 7                           other requests
  cargo xtask hostile --seed 7 --first 4711 --requests 1 request 4711 again, after the earlier ones of its batch
  cargo xtask hostile --soak 30m --rate 200              a soak test: a steady load while policies are swapped";
