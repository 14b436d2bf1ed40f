//! `cargo xtask bench envoy`: measures what a request costs one worker of a real Envoy, with each filter.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "counts and nanoseconds of a run are far from the limits of their types"
)]

mod comparison;
mod load;
mod report;
mod tokens;
mod variants;

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use testbed::{Envoy, EnvoyBinary, Group, cargo, config, module_path, target_dir};
use tokio::process::Command;

use self::{
    load::{CONNECTIONS, Connections, Cores, Requests, WorkerClock},
    report::{Latency, Measured, Memory},
    tokens::Key,
    variants::{Case, FilterKind, REFERENCE, Sources, Tokens},
};

/// How long to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Fewer rounds: under 5 minutes with all that must be built.
    #[arg(long)]
    quick: bool,
    /// Compares the filter with another build of it, such as that of the commit before a change. Measures nothing else. A file that
    /// ends in `.wasm` is compared with the WASM filter, any other one with the native module.
    #[arg(long, value_name = "MODULE")]
    compare: Option<PathBuf>,
}

pub(crate) async fn run(args: &Args) -> Result<ExitCode> {
    let begin = Instant::now();
    let effort = if args.quick { QUICK } else { FULL };
    let binary = testbed::locate(|line| println!("  {line}")).await?;
    println!("Envoy {}: {}", binary.version, binary.path.display());
    let wasm = target_dir().join("dist/routing-claims.wasm");
    let naive_wasm = build_naive().await?;
    let (module, empty_module) = (module_path()?, build_empty_module().await?);
    println!("signing tokens");
    let dir = tempfile::Builder::new().prefix("routing-claims-bench-").tempdir()?;
    let sources = Sources {
        wasm,
        other: args.compare.clone(),
        naive_wasm,
        module,
        empty_module,
        key: Key::generate()?,
        dir: dir.path().to_owned(),
    };
    let cores = Cores::take()?;
    if let Some(other) = &sources.other {
        let ours = FilterKind::like(other);
        let mut bench = Bench::start(&binary, &sources, &cores, comparison::cases(ours)).await?;
        let measured = bench.measure(effort.comparison_rounds).await?;
        println!("\n{}", comparison::report(&binary, ours, &measured)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut bench = Bench::start(&binary, &sources, &cores, variants::cases()).await?;
    println!("{} cases are ready after {:.0} s", bench.listeners.len(), begin.elapsed().as_secs_f32());

    let measured = bench.measure(effort.rounds).await?;
    let latencies = bench.latencies(effort.latency_rounds).await?;
    drop(bench);
    let memory = memory(&binary, &sources, &cores).await?;

    let module_bytes = fs::metadata(&sources.wasm)?.len();
    let report = report::Results { binary: &binary, rounds: effort.rounds, measured, latencies, memory, module_bytes };
    let folder = target_dir().join("bench");
    println!("\n{}", report.write(&folder)?);
    println!("written to {} after {:.0} s", folder.display(), begin.elapsed().as_secs_f32());
    Ok(ExitCode::SUCCESS)
}

/// One Envoy with a listener for each case, so that cases share no filter state, and the requests to send.
struct Bench {
    listeners: Vec<(Case, Connections)>,
    requests: BTreeMap<(Tokens, usize, usize), Requests>,
    clock: WorkerClock,
    _envoy: Envoy,
}

impl Bench {
    async fn start(binary: &EnvoyBinary, sources: &Sources, cores: &Cores, cases: Vec<Case>) -> Result<Self> {
        let mut tokens = BTreeMap::new();
        let mut requests = BTreeMap::new();
        for case in &cases {
            if let std::collections::btree_map::Entry::Vacant(entry) = tokens.entry(case.token_bytes) {
                entry.insert(sources.key.tokens(DISTINCT_TOKENS, case.token_bytes)?);
            }
            let tokens = &tokens[&case.token_bytes];
            let tokens = if case.tokens == Tokens::Same { &tokens[..1] } else { &tokens[..] };
            requests.insert((case.tokens, case.headers, case.token_bytes), Requests::new(tokens, case.headers));
        }
        let filters: Vec<_> = cases.iter().map(|case| (case.filter, case.services)).collect();
        let (envoy, addresses) = start_envoy(binary, "bench", &filters, sources).await?;
        let mut listeners = Vec::new();
        for (case, address) in cases.into_iter().zip(addresses) {
            listeners.push((case, Connections::open(address)?));
        }
        let clock = WorkerClock::pin(envoy.pid(), cores)?;
        Ok(Self { listeners, requests, clock, _envoy: envoy })
    }

    /// CPU time per request of each case, measured in rounds, so that a temporary disturbance affects all cases.
    async fn measure(&mut self, rounds: usize) -> Result<Vec<Measured>> {
        let cases: Vec<Case> = self.listeners.iter().map(|(case, _)| *case).collect();
        let mut measured: Vec<Measured> =
            cases.iter().map(|case| Measured { case: *case, nanoseconds: Vec::new() }).collect();
        let mut sizes = Vec::new();
        for case in cases {
            let nanoseconds = self.cpu_of(case, WARM_UP)?;
            sizes.push(((BATCH_NANOSECONDS / nanoseconds) as usize).clamp(CONNECTIONS, WARM_UP));
            tokio::task::yield_now().await;
        }
        for round in 0..rounds {
            for index in 0..measured.len() {
                // Each round starts with another case, so that no case always runs at the same time of a round.
                let index = (index + round * 7) % measured.len();
                let nanoseconds = self.cpu_of(measured[index].case, sizes[index])?;
                measured[index].nanoseconds.push(nanoseconds);
                // Lets Ctrl-C take effect.
                tokio::task::yield_now().await;
            }
            progress("CPU time", round + 1, rounds);
        }
        Ok(measured)
    }

    /// Nanoseconds per request, on average over a batch.
    fn cpu_of(&mut self, case: Case, count: usize) -> Result<f64> {
        let (connections, requests) = self.of(case)?;
        let context = || format!("{} ({case:?})", case.label());
        connections.send(requests, REST.min(count), case.body()).with_context(context)?;
        let begin = self.clock.nanoseconds()?;
        let (connections, requests) = self.of(case)?;
        connections.send(requests, count, case.body()).with_context(context)?;
        let spent = self.clock.nanoseconds()? - begin;
        Ok(spent as f64 / (count / CONNECTIONS * CONNECTIONS) as f64)
    }

    async fn latencies(&mut self, rounds: usize) -> Result<Vec<Latency>> {
        let cases = variants::table();
        let mut latencies: Vec<_> = cases.iter().map(|case| Latency { case: *case, durations: Vec::new() }).collect();
        for round in 0..rounds {
            for latency in &mut latencies {
                let case = latency.case;
                let (connections, requests) = self.of(case)?;
                connections.send(requests, REST, case.body())?;
                latency.durations.extend(connections.send_at_rate(requests, EVERY, LATENCY_SLICE, case.body())?);
                tokio::task::yield_now().await;
            }
            progress("latency", round + 1, rounds);
        }
        Ok(latencies)
    }

    fn of(&mut self, case: Case) -> Result<(&mut Connections, &mut Requests)> {
        let listener = self.listeners.iter_mut().find(|(of, _)| *of == case);
        let connections = listener.map(|(_, connections)| connections);
        let requests = self.requests.get_mut(&(case.tokens, case.headers, case.token_bytes));
        connections.zip(requests).context("a case without listener or requests")
    }
}

/// The memory that one filter adds to Envoy, measured with several listeners.
async fn memory(binary: &EnvoyBinary, sources: &Sources, cores: &Cores) -> Result<Vec<Memory>> {
    println!("memory");
    let requests = sources.key.tokens(DISTINCT_TOKENS, REFERENCE.token_bytes)?;
    let mut requests = Requests::new(&requests, REFERENCE.headers);
    let mut memory: Vec<Memory> = Vec::new();
    let mut empty = 0;
    for (filter, services) in [
        (FilterKind::None, 2),
        (FilterKind::EmptyWasm, 2),
        (FilterKind::Wasm, 2),
        (FilterKind::Wasm, 100),
        (FilterKind::NaiveWasm, 2),
        (FilterKind::EmptyLua, 2),
        (FilterKind::Lua, 2),
        (FilterKind::Lua, 100),
        (FilterKind::NaiveLua, 2),
        (FilterKind::EmptyModule, 2),
        (FilterKind::Module, 2),
        (FilterKind::Module, 100),
        (FilterKind::JwtAuthnCached, 2),
    ] {
        let filters = [(filter, services); MEMORY_LISTENERS];
        let (envoy, addresses) = start_envoy(binary, "memory", &filters, sources).await?;
        WorkerClock::pin(envoy.pid(), cores)?;
        let body = Case { filter, ..REFERENCE }.body();
        for address in addresses {
            Connections::open(address)?.send(&mut requests, DISTINCT_TOKENS, body)?;
            tokio::task::yield_now().await;
        }
        let resident = resident_kib(envoy.pid())?;
        if filter == FilterKind::None {
            empty = resident;
        } else {
            memory.push(Memory { filter, services, kib: resident.saturating_sub(empty) / MEMORY_LISTENERS as u64 });
        }
    }
    Ok(memory)
}

/// Starts an Envoy with a listener for each entry. Returns their addresses.
async fn start_envoy(
    binary: &EnvoyBinary,
    name: &str,
    filters: &[(FilterKind, usize)],
    sources: &Sources,
) -> Result<(Envoy, Vec<SocketAddr>)> {
    let listener_name = |index| format!("listener-{index}");
    let listeners = filters.iter().enumerate().map(|(index, (filter, services))| {
        let name = listener_name(index);
        let filters = filter.config(*services, &name, sources)?;
        Ok(config::listener(&name, &filters, &variants::routes()))
    });
    let bootstrap = config::bootstrap(&listeners.collect::<Result<Vec<_>>>()?, &[]);
    let envoy = Envoy::start(binary, name, bootstrap, &sources.dir).await?;
    let mut addresses = Vec::new();
    for index in 0..filters.len() {
        addresses.push((Ipv4Addr::LOCALHOST, envoy.listener_port(&listener_name(index)).await?).into());
    }
    Ok((envoy, addresses))
}

fn resident_kib(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS in /proc/PID/status")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

async fn build_naive() -> Result<PathBuf> {
    println!("building the naive filter");
    let arguments = ["build", "--quiet", "--locked", "--release", "--package", "naive-wasm", "--target", WASM_TARGET];
    run_cargo(&mut cargo(&arguments), &arguments).await?;
    Ok(target_dir().join(WASM_TARGET).join("release/naive_wasm.wasm"))
}

/// The native module without its filter.
async fn build_empty_module() -> Result<PathBuf> {
    println!("building the empty module");
    let target = target_dir().join("empty-module");
    let arguments =
        ["build", "--quiet", "--locked", "--profile", "module", "--package", "module-filter", "--features", "empty"];
    run_cargo(cargo(&arguments).arg("--target-dir").arg(&target), &arguments).await?;
    Ok(target.join("module/libmodule_filter.so"))
}

async fn run_cargo(command: &mut Command, arguments: &[&str]) -> Result<()> {
    ensure!(Group::spawn(command)?.wait().await?.success(), "`cargo {}` failed", arguments.join(" "));
    Ok(())
}

fn progress(what: &str, done: usize, of: usize) {
    if done.is_multiple_of(of.div_ceil(10)) || done == of {
        println!("{what}: round {done} of {of}");
    }
}

struct Effort {
    rounds: usize,
    latency_rounds: usize,
    comparison_rounds: usize,
}

const WASM_TARGET: &str = "wasm32-unknown-unknown";

const QUICK: Effort = Effort { rounds: 20, latency_rounds: 4, comparison_rounds: 100 };
const FULL: Effort = Effort { rounds: 100, latency_rounds: 20, comparison_rounds: 1000 };

/// Several times as many as any cache holds (`jwt_authn` 100, ours 256).
const DISTINCT_TOKENS: usize = 1024;
/// Requests before a case is timed at all, for JIT compilation and caches.
const WARM_UP: usize = 1024;
/// Requests before each timed batch, which fill the processor's caches again.
const REST: usize = 64;
/// The approximate CPU time of one batch.
const BATCH_NANOSECONDS: f64 = 10e6;
/// 2,000 requests a second.
const EVERY: Duration = Duration::from_micros(500);
const LATENCY_SLICE: Duration = Duration::from_millis(250);
const MEMORY_LISTENERS: usize = 8;
