//! `cargo xtask bench controller`: what the controller needs for thousands of variants, and what the mesh pays for their routes.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "counts, bytes and seconds of a run are far from the limits of their types"
)]

mod calls;
mod changes;
mod inventory;
mod mesh;
mod process;
mod report;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use controller::definitions;
use e2e::{
    Audit, ControlPlane, Net, Program, Readiness, RunningController, installation,
    tools::{self, Istio},
    until,
};

use calls::Calls;
use inventory::Inventory;
use process::Usage;
use report::{Results, Start};

/// Measures the controller on a real API server, and what its routes cost istiod and a sidecar.
///
/// Runs etcd, kube-apiserver, istiod and an Envoy on loopback, as `cargo xtask e2e` does. The controller is built with
/// `--release`. While it is measured, istiod does not run, because it would compete for the processors.
#[derive(Parser)]
#[command(name = "cargo xtask bench controller", bin_name = "cargo xtask bench controller", after_help = EXAMPLES)]
struct Args {
    /// Services of the plan.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1000))]
    services: u32,
    /// Variants of each service: labelled Services with an endpoint.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    variants: u32,
    /// Changes to measure, a quarter of each kind.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(4..))]
    changes: u32,
    /// Leave out istiod and the sidecar.
    #[arg(long)]
    no_mesh: bool,
    /// Measure this controller instead of building one, such as that of the commit before a change.
    #[arg(long, value_name = "PROGRAM")]
    controller: Option<PathBuf>,
    /// Version of Istio to run.
    #[arg(long, value_enum, default_value_t)]
    istio: Istio,
}

fn main() -> ExitCode {
    match testbed::until_signal(run(&Args::parse())) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<ExitCode> {
    let begin = Instant::now();
    let inventory = Inventory { services: args.services, variants: args.variants };
    ensure!(args.changes / 4 <= inventory.total(), "expected at most 4 changes for each variant");
    let program = if let Some(program) = &args.controller {
        program.clone()
    } else {
        println!("building the controller with --release");
        tools::optimized_controller().await?
    };
    let tools = tools::locate(args.istio).await?;
    let envoy = testbed::locate(|line| println!("  {line}")).await?;
    let mut dir = tempfile::Builder::new().prefix("routing-claims-scale-").tempdir()?;
    let results = measure(args, inventory, program, &tools, &envoy, dir.path()).await;
    if results.is_err() {
        dir.disable_cleanup(true);
        println!("logs are kept in {}", dir.path().display());
    }
    let results = results?;
    let folder = testbed::target_dir().join("bench");
    fs::create_dir_all(&folder)?;
    let report = results.markdown();
    println!("\n{report}");
    let file = folder.join("controller.md");
    fs::write(&file, report)?;
    println!("written to {} after {:.0} s", file.display(), begin.elapsed().as_secs_f32());
    Ok(ExitCode::SUCCESS)
}

async fn measure(
    args: &Args,
    inventory: Inventory,
    program: PathBuf,
    tools: &tools::Tools,
    envoy: &testbed::EnvoyBinary,
    dir: &Path,
) -> Result<Results> {
    let net = Net::of_this_process();
    let mut plane = ControlPlane::start(tools, net, false, dir).await?;
    plane.stop_istiod();
    for definition in definitions::all() {
        plane.cluster.define_one(&definition).await?;
    }
    for resource in installation() {
        plane.cluster.apply(&resource).await?;
    }
    inventory.create(&plane.cluster).await?;

    let audit = Audit::of(&plane.audit_log);
    let settle = format!("--settle-seconds={SETTLE_SECONDS}");
    let program = Program { path: program, api: plane.api(), arguments: vec![settle], environment: Vec::new() };
    let bench = Bench { plane: &plane, audit: &audit, program: &program, inventory, dir };
    println!("the controller starts: no routes exist");
    let (controller, start) = bench.start().await?;
    controller.stop().await?;
    println!("  settled after {:.1} s\nit starts again: all routes exist", start.seconds);
    let (controller, restart) = bench.start().await?;
    println!("  settled after {:.1} s", restart.seconds);

    let pid = controller.pid().context("the controller has exited")?;
    let before = Usage::of(pid)?;
    tokio::time::sleep(IDLE).await;
    let idle = Usage::of(pid)?.cpu_seconds - before.cpu_seconds;

    println!("{} changes, {} a second", args.changes, changes::PER_SECOND);
    let (from, before) = (audit.now()?, Usage::of(pid)?);
    let phases = changes::measure(&plane.cluster, inventory, args.changes / 4).await?;
    // The status and the Events of the last change.
    tokio::time::sleep(AFTERWARDS).await;
    let after = Usage::of(pid)?;
    let changes = phases.iter().map(|phase| phase.latencies.len()).sum::<usize>();
    let calls = Calls::since(&audit, from)?;

    let mesh = if args.no_mesh { Vec::new() } else { mesh::measure(&mut plane, envoy, net, inventory, dir).await? };
    controller.stop().await?;
    Ok(Results {
        inventory,
        envoy: envoy.version.to_string(),
        istio: args.istio.to_string(),
        start,
        restart,
        idle_cpu_percent: idle / IDLE.as_secs_f64() * 100.0,
        phases,
        changes,
        calls,
        cpu_per_change: (after.cpu_seconds - before.cpu_seconds) / changes as f64,
        peak_kib: after.peak_kib,
        mesh,
    })
}

/// What the starts of the controller need.
struct Bench<'b> {
    plane: &'b ControlPlane,
    audit: &'b Audit,
    program: &'b Program,
    inventory: Inventory,
    dir: &'b Path,
}

impl Bench<'_> {
    /// Starts the controller, and waits until every variant has its route and the controller is idle.
    async fn start(&self) -> Result<(RunningController, Start)> {
        let (from, begin) = (self.audit.now()?, Instant::now());
        let addr = self.plane.istiod_metrics();
        let addr = (addr.ip(), CONTROLLER_PORT).into();
        let controller = RunningController::spawn(self.program, &self.plane.cluster, addr, self.dir).await?;
        let pid = controller.pid().context("the controller has exited")?;
        until("the controller to settle", PATIENCE, async || {
            let metrics = controller.get("/metrics").await.map(|(_, text)| text).unwrap_or_default();
            let applied = metrics.lines().any(|line| line.contains("_plan_applied{") && line.ends_with(" 1"));
            let routed = format!("state=\"Routed\"}} {}", self.inventory.total());
            Ok(Readiness::of(applied && metrics.contains(&routed), || controller.log_tail()))
        })
        .await?;
        let seconds = begin.elapsed().as_secs_f64();
        let cpu_seconds = Usage::of(pid)?.cpu_seconds;
        self.inventory.until_told(&self.plane.cluster).await?;
        tokio::time::sleep(AFTERWARDS).await;
        let calls = Calls::since(self.audit, from)?;
        let Usage { resident_kib: rss_kib, peak_kib, .. } = Usage::of(pid)?;
        Ok((controller, Start { seconds, calls, cpu_seconds, rss_kib, peak_kib }))
    }
}

/// Shorter than the default: what is measured is the controller's own time.
const SETTLE_SECONDS: u64 = 1;
const CONTROLLER_PORT: u16 = 18080;
const PATIENCE: Duration = Duration::from_secs(900);
const IDLE: Duration = Duration::from_secs(5);
const AFTERWARDS: Duration = Duration::from_secs(2);

const EXAMPLES: &str = "\
Examples:
  cargo xtask bench controller                                              20,000 variants: half an hour on two processors
  cargo xtask bench controller --services 50 --variants 4 --changes 20      a quick look
  cargo xtask bench controller --no-mesh --services 200                     only the controller";
