//! `cargo xtask hostile`.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use hostile::attack::{self, Plan, Report};
use hostile::health::Memory;
use hostile::oracle::Fault;
use hostile::target::Engine;

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
    /// Which filter.
    #[arg(long, value_enum, default_value_t = Engines::All)]
    engine: Engines,
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
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<ExitCode> {
    tokio::runtime::Runtime::new().context("cannot start the async runtime")?.block_on(async {
        // Envoy and its folder are owned by the future that is dropped.
        tokio::select! {
            code = attack(args) => code,
            signal = stopped() => {
                signal?;
                eprintln!("stopped");
                Ok(ExitCode::from(130))
            }
        }
    })
}

async fn attack(args: &Args) -> Result<ExitCode> {
    let binary = testbed::locate(|line| println!("{line}")).await?;
    println!("Envoy {}: {}", binary.version, binary.path.display());
    let mut passed = true;
    for engine in args.engine.list() {
        let mut dir = tempfile::Builder::new().prefix("routing-claims-hostile-").tempdir()?;
        let plan = Plan { engine, requests: args.requests, seed: args.seed };
        let mut progress = Progress::new(engine, args.requests);
        let report = attack::run(plan, &binary, dir.path(), |done, memory| progress.show(done, memory)).await?;
        progress.end();
        print(engine, &report);
        if !report.passed() {
            passed = false;
            dir.disable_cleanup(true);
            println!("Envoy's log and configuration are kept in {}", dir.path().display());
            println!(
                "again: cargo xtask hostile --engine {} --requests {} --seed {}",
                engine.name(),
                args.requests,
                args.seed
            );
        }
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The reproducers, what came about, and one line of counts.
fn print(engine: Engine, report: &Report) {
    let Report { tally, health, memory, elapsed } = report;
    for reproducer in &tally.reproducers {
        println!("{reproducer}\n");
    }
    for failure in health.failures.iter().take(10) {
        println!("{failure}");
    }
    let outcomes: Vec<_> = tally.outcomes.iter().map(|(code, count)| format!("{code} {count}")).collect();
    println!("{}: outcomes: {}", engine.name(), outcomes.join(", "));
    if !report.counts_agree() {
        println!("the filter counted {:?} requests", health.counted);
    }
    println!(
        "{}: {} requests in {:.1} s: wrong routes {}, forged headers that survived {}, wrong managed headers {}, other headers \
         changed {}, answers mixed up {}, failed by our doing {}, failures of script or VM {}, refused by Envoy alike {}, sent again {}, memory {} -> {} MiB (bound {}): {}",
        engine.name(),
        tally.requests,
        elapsed.as_secs_f64(),
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

/// A line that is rewritten on a terminal, and one every few seconds elsewhere.
struct Progress {
    engine: Engine,
    requests: u64,
    begin: Instant,
    shown: Instant,
}

impl Progress {
    fn new(engine: Engine, requests: u64) -> Self {
        Self { engine, requests, begin: Instant::now(), shown: Instant::now() }
    }

    fn show(&mut self, done: u64, memory: &Memory) {
        let terminal = std::io::stderr().is_terminal();
        if self.shown.elapsed() < if terminal { Duration::from_millis(500) } else { Duration::from_secs(10) } {
            return;
        }
        self.shown = Instant::now();
        let seconds = self.begin.elapsed().as_secs().max(1);
        let line = format!(
            "{}: {done} of {} requests, {} a second, {} MiB",
            self.engine.name(),
            self.requests,
            done / seconds,
            memory.last() >> 20
        );
        if terminal { eprint!("\r{line}\x1b[K") } else { eprintln!("{line}") }
    }

    fn end(&self) {
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
    }
}

async fn stopped() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
    Ok(())
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask hostile                                    100,000 requests for each engine
  cargo xtask hostile --engine lua --requests 1000000    a long run of one
  cargo xtask hostile --seed 7                           other requests";
