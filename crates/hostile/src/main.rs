//! `cargo xtask hostile`.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;
use hostile::attack::{self, BATCH, Length, Plan, Report};
use hostile::health::Memory;
use hostile::oracle::Fault;
use hostile::target::Engine;
use testbed::EnvoyBinary;
use tokio::task::JoinSet;

/// Attacks the filters on a real Envoy: hostile tokens and headers over HTTP/1.1 and HTTP/2, pipelined and raced, with
/// forged routing headers on every request. An oracle, the core, says what must come out of each.
#[derive(Parser)]
#[command(name = "cargo xtask hostile", bin_name = "cargo xtask hostile", after_help = EXAMPLES)]
struct Args {
    /// How many requests for each engine.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    requests: u64,
    /// All choices follow from it; tokens about to expire follow the clock, too.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of the first request, to send a part of a run again; rounded down to the batch it is in.
    #[arg(long, default_value_t = 0, conflicts_with = "soak")]
    first: u64,
    /// Which filter.
    #[arg(long, value_enum, default_value_t = Engines::All)]
    engine: Engines,
    /// Instead: a steady load for so long on all engines side by side, under which policies are swapped, as in `30m`.
    #[arg(long, value_parser = duration, conflicts_with = "requests")]
    soak: Option<Duration>,
    /// Requests a second for each engine of a soak.
    #[arg(long, default_value_t = 200, requires = "soak", value_parser = clap::value_parser!(u32).range(1..=5000))]
    rate: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Engines {
    Wasm,
    Lua,
    All,
}

impl Engines {
    fn list(self) -> Vec<Engine> {
        match self {
            Self::Wasm => vec![Engine::Wasm],
            Self::Lua => vec![Engine::Lua],
            Self::All => vec![Engine::Wasm, Engine::Lua],
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
            let plan = Plan { engine, length, seed: args.seed, first: 0 };
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
            passed &= one(Plan { engine, length, seed: args.seed, first }, &binary).await?;
        }
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Attacks one engine and prints what became of it; false when not all was well.
async fn one(plan: Plan, binary: &EnvoyBinary) -> Result<bool> {
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

/// The reproducers, what came about, and one line of counts.
fn print(plan: Plan, report: &Report) {
    let Report { tally, health, memory, elapsed, swaps } = report;
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
         other headers changed {}, answers mixed up {}, failed by our doing {}, failures of script or VM {}, refused by \
         Envoy alike {}, sent again {}, memory {} -> {} MiB (bound {}): {}",
        tally.requests,
        elapsed.as_secs_f64(),
        plan.seed,
        tally.count(Fault::Route),
        tally.count(Fault::Forged),
        tally.count(Fault::Managed),
        tally.count(Fault::Others),
        tally.count(Fault::Answer),
        tally.count(Fault::Status),
        health.failures.len(),
        tally.refused,
        tally.resent,
        memory.warm() >> 20,
        memory.peak() >> 20,
        memory.bound() >> 20,
        if report.passed() { "ok" } else { "FAILED" },
    );
}

/// A line that is rewritten on a terminal, and one now and then elsewhere.
struct Progress {
    plan: Plan,
    begin: Instant,
    shown: Instant,
}

impl Progress {
    fn new(plan: Plan) -> Self {
        Self { plan, begin: Instant::now(), shown: Instant::now() }
    }

    fn show(&mut self, done: u64, memory: &Memory) {
        // Engines that run side by side would overwrite each other.
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
        let line = format!("{engine}: {done}{of}, {} a second, {memory} MiB", done / elapsed);
        if rewrites { eprint!("\r{line}\x1b[K") } else { eprintln!("{line}") }
    }

    fn end(&self) {
        if matches!(self.plan.length, Length::Requests(_)) && std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
    }
}

/// `90s`, `30m` or `2h`.
fn duration(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600)];
    let parsed = units.iter().find_map(|(unit, seconds)| {
        let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
        Some(Duration::from_secs(count.checked_mul(*seconds)?)).filter(|time| !time.is_zero())
    });
    parsed.ok_or_else(|| "a number and s, m or h is wanted, as in 90s or 30m".to_owned())
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask hostile                                    100,000 requests for each engine
  cargo xtask hostile --engine lua --requests 1000000    a long run of one
  cargo xtask hostile --seed 7                           other requests
  cargo xtask hostile --seed 7 --first 4711 --requests 1 request 4711 again, after those of its batch before it
  cargo xtask hostile --soak 30m --rate 200              a steady load with swaps of policies, all engines at once";
