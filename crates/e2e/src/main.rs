//! `cargo xtask e2e`: runs what `manifest-gen` renders on a real Istio control plane with real Envoys.

mod chart;
mod column;
mod controller;
mod definitions;
mod distribution;
mod lints;
mod record;
mod scenarios;
mod scene;
mod truth;
mod world;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Result, ensure};
use clap::Parser;
use comfy_table::{ContentArrangement, Table, presets};
use e2e::tools::{self, Istio, Tools};
use testbed::EnvoyBinary;

use column::Column;
use lints::Which;
use scenarios::{Running, SCENARIOS, Scenario};
use scene::Scene;
use world::{Proxies, World};

/// Runs the scenarios on etcd, kube-apiserver, istiod and Envoys on loopback, and prints a table of the results.
///
/// The programs come from variables (`ETCD_BIN`, `KUBE_APISERVER_BIN`, `KUBECTL_BIN`, `HELM_3_BIN`, `HELM_4_BIN`,
/// `PILOT_DISCOVERY_BIN`, `ISTIOCTL_BIN`, `PILOT_AGENT_BIN`, `PROMETHEUS_BIN`, `CRANE_BIN`, `ENVOY_BIN`) or from `PATH`. Missing ones
/// are built once with Go into the user's
/// cache folder (or into `ROUTING_CLAIMS_TOOLS`), where pip and npm install OpenTelemetry's SDKs too.
#[derive(Parser)]
#[command(name = "cargo xtask e2e", bin_name = "cargo xtask e2e", after_help = EXAMPLES)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
struct Args {
    /// Version of Istio to run.
    #[arg(long, value_enum, default_value_t)]
    istio: Istio,
    /// Run only columns whose name contains this text, such as `WasmPlugin` or `HTTPRoute`.
    #[arg(long, value_name = "TEXT", default_value = "")]
    column: String,
    /// Run only scenarios whose name contains this text.
    #[arg(long, value_name = "TEXT", default_value = "")]
    scenario: String,
    /// Number of the first generated set of resources. The names in a disagreement contain the number of its set.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of generated sets of resources.
    #[arg(long, default_value_t = 200)]
    sets: u64,
    /// Prove only the lints whose code contains this text, with all of their fixtures instead of `bad.yaml` and one good one. An
    /// empty text is every lint.
    #[arg(long, value_name = "TEXT")]
    lint: Option<String>,
    /// Write deploy/kustomize from the chart instead of comparing them, in the scenario `chart`.
    #[arg(long)]
    update: bool,
    /// Also what takes minutes of the controller's scenarios: outages of a minute, a killed leader, a clock that jumps.
    #[arg(long)]
    long: bool,
    /// Only find or build the programs, and print their paths.
    #[arg(long)]
    tools: bool,
    /// Record the versions and the number of passed scenarios for docs/compatibility.md, if all scenarios passed.
    #[arg(long, conflicts_with_all = ["column", "scenario"])]
    record: bool,
    /// Keep logs and manifests even if all scenarios pass.
    #[arg(long)]
    keep: bool,
    /// Folder with the artifacts of `cargo xtask build`.
    #[arg(long, value_name = "DIR", hide = true)]
    dist: Option<PathBuf>,
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
    println!("Istio {}", args.istio);
    let tools = tools::locate(args.istio).await?;
    if args.tools {
        let Tools { etcd, kube_apiserver, kubectl, pilot_discovery, istioctl, pilot_agent, prometheus, crane, .. } =
            &tools;
        let programs = [etcd, kube_apiserver, kubectl, pilot_discovery, istioctl, pilot_agent, prometheus, crane];
        let programs = programs.into_iter().chain([&tools.helm_3, &tools.helm_4]);
        for path in programs.chain([&tools.opentelemetry]) {
            println!("{}", path.display());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let envoy = testbed::locate(|line| println!("  {line}")).await?;
    println!("Envoy {}", envoy.version);
    let mut dir = tempfile::Builder::new().prefix("routing-claims-e2e-").tempdir()?;
    let failed = on_mesh(args, &tools, &envoy, dir.path()).await;
    if args.keep || !matches!(failed, Ok(0)) {
        dir.disable_cleanup(true);
        println!("logs and manifests are kept in {}", dir.path().display());
    }
    Ok(if failed? == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs everything, with logs and manifests in a folder. Returns the number of failed scenarios.
async fn on_mesh(args: &Args, tools: &Tools, envoy: &EnvoyBinary, dir: &Path) -> Result<usize> {
    let columns: Vec<_> =
        Column::all(args.istio).into_iter().filter(|one| one.to_string().contains(&args.column)).collect();
    let rows: Vec<_> = SCENARIOS.iter().filter(|one| one.name.contains(&args.scenario)).collect();
    let alone = |name: &str| args.column.is_empty() && name.contains(&args.scenario);
    let controllers = if args.column.is_empty() { controller::parts(&args.scenario, args.long) } else { Vec::new() };
    ensure!(
        !controllers.is_empty()
            || !columns.is_empty()
                && (!rows.is_empty()
                    || [TRUTH, LINTS, README, CHART, DEFINITIONS, DISTRIBUTION].into_iter().any(alone)),
        "no column or scenario has a name that contains the given text"
    );
    let begin = Instant::now();
    let dist = args.dist.clone().unwrap_or_else(|| testbed::target_dir().join("dist"));
    let (mut results, mut others, mut explained, mut under_load) = (Vec::new(), Vec::new(), 0, 0);
    for (proxies, folder, scenarios_alone) in [
        (Proxies::Bare, "bare", &[TRUTH, LINTS, README, CHART, DEFINITIONS][..]),
        (Proxies::Agents, "agents", &[DISTRIBUTION]),
    ] {
        let of_mesh = |column: &&Column| column.proxies == proxies && !rows.is_empty();
        let columns: Vec<_> = columns.iter().filter(of_mesh).copied().collect();
        let scenarios_alone: Vec<_> = scenarios_alone.iter().copied().filter(|name| alone(name)).collect();
        if columns.is_empty() && scenarios_alone.is_empty() {
            continue;
        }
        let begin = Instant::now();
        let dir = dir.join(folder);
        fs::create_dir_all(&dir)?;
        let which = args.lint.as_deref().map_or(Which::First, Which::All);
        let mut world = World::start(tools, envoy, dist.clone(), proxies, &dir).await?;
        println!("the mesh is up after {:.1} s\n", begin.elapsed().as_secs_f32());
        for name in scenarios_alone {
            others.push(match name {
                TRUTH => {
                    println!("generated sets {} to {}", args.seed, args.seed + args.sets - 1);
                    shown(name, truth::run(&world, args.seed, args.sets, dir.join("truth"))).await
                }
                LINTS => {
                    println!("fixtures of the lints");
                    shown(name, lints::run(&world, which, dir.join("lints"))).await
                }
                DEFINITIONS => {
                    println!("the definitions of plans and variants");
                    shown(name, definitions::run(&world, tools)).await
                }
                README => {
                    println!("README.md");
                    shown(name, scenarios::readme::readme(&world, tools, &dir.join("readme"))).await
                }
                CHART => {
                    println!("deploy/chart and deploy/kustomize");
                    shown(name, Box::pin(chart::run(&world, tools, args.update, &dir.join("chart")))).await
                }
                _ => {
                    println!("a module from a registry");
                    shown(name, Box::pin(distribution::run(&world, tools, which, dir.join("distribution")))).await
                }
            });
        }
        if proxies == Proxies::Bare && !columns.is_empty() {
            println!("deploy/");
            others.push(shown("lint, validate, analyze", scenarios::examples(&world)).await);
        }
        results.extend(run_all(&mut world, &columns, &rows, &dir).await?);
        explained += world.explained;
        under_load += world.under_load;
    }
    if !controllers.is_empty() {
        let dir = dir.join("controller");
        fs::create_dir_all(&dir)?;
        let world = World::start(tools, envoy, dist, Proxies::Bare, &dir).await?;
        println!("the controller");
        let report = async |name: &str, part: Running<'_>| others.push(shown(name, part).await);
        let stage = dir.join("stage");
        under_load += Box::pin(controller::run(world, &controllers, args.long, &stage, report)).await?;
    }
    if !results.is_empty() {
        println!("\n{}\n", table(&columns, &rows, &results));
    }
    for row in &rows {
        if let Some((only, why)) = row.only {
            println!("- {}: {only}, {why}", row.name);
        }
    }
    println!(
        "{explained} requests were compared with `explain` on the applied manifests; {under_load} more were sent under load"
    );
    println!("Istio {}, Envoy {}, {:.0} s", args.istio, envoy.version, begin.elapsed().as_secs_f32());
    let cells: Vec<_> = results.iter().flatten().copied().chain(others).collect();
    let count = |wanted| cells.iter().filter(|cell| **cell == wanted).count();
    println!("{} passed, {} failed", count(Cell::Passed), count(Cell::Failed));
    if args.record && count(Cell::Failed) == 0 {
        record::write(args.istio, &envoy.version.to_string(), &columns, count(Cell::Passed))?;
    }
    Ok(count(Cell::Failed))
}

/// The result of a scenario in a column.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cell {
    Passed,
    Failed,
    NotApplicable,
}

/// The cells of each column of the table, from top to bottom.
async fn run_all(world: &mut World, columns: &[Column], rows: &[&Scenario], dir: &Path) -> Result<Vec<Vec<Cell>>> {
    let mut results = Vec::new();
    for column in columns {
        println!("{column}");
        let mut scene = Scene::set(world, *column, &dir.join(column.to_string().replace(['/', ' '], "-"))).await?;
        let mut cells = Vec::new();
        for row in rows {
            if !row.is_for(*column) {
                cells.push(Cell::NotApplicable);
                continue;
            }
            cells.push(shown(row.name, (row.run)(&mut scene)).await);
            // The next scenario starts with the original plan.
            scene.reset().await?;
        }
        scene.clear().await?;
        results.push(cells);
    }
    Ok(results)
}

/// Prints the result of a scenario.
async fn shown(name: &str, scenario: impl Future<Output = Result<String>>) -> Cell {
    let begin = Instant::now();
    let result = scenario.await;
    let seconds = begin.elapsed().as_secs_f32();
    let (cell, word, text) = match result {
        Ok(counted) => (Cell::Passed, "ok", counted),
        Err(error) => (Cell::Failed, "FAILED", format!("{error:#}")),
    };
    println!("  {word:<6}  {name:<24} {seconds:>5.1} s  {text}");
    cell
}

fn table(columns: &[Column], rows: &[&Scenario], results: &[Vec<Cell>]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    let heads = columns.iter().map(|column| column.to_string().replace(" + ", "\n").replace('/', "\n"));
    table.set_header(std::iter::once("Scenario".to_owned()).chain(heads));
    for (index, row) in rows.iter().enumerate() {
        let cells = results.iter().map(|cells| match cells[index] {
            Cell::Passed => "ok",
            Cell::Failed => "FAILED",
            Cell::NotApplicable => "-",
        });
        table.add_row(std::iter::once(row.name).chain(cells));
    }
    table
}

/// The scenario of generated sets, which needs no column.
const TRUTH: &str = "explain is true";
/// The scenario of the lints' fixtures, which needs none either.
const LINTS: &str = "every lint is proven";
/// The scenario of the commands in README.md.
const README: &str = "README";
/// The scenario of the chart and the kustomize base.
const CHART: &str = "chart";
/// The scenario of the definitions of plans and variants, which needs only the API server.
const DEFINITIONS: &str = "CRDs";
/// The scenario of modules from a registry, which has sidecars of its own.
const DISTRIBUTION: &str = "distribution";

const EXAMPLES: &str = "\
Examples:
  cargo xtask e2e                                  every scenario, with every filter and route resource
  cargo xtask e2e --istio 1.30                     the same on an older Istio
  cargo xtask e2e --column WasmPlugin --scenario talk
  cargo xtask e2e --column agents                  the scenarios with Istio's own agents, a registry and mutual TLS
  cargo xtask e2e --scenario distribution          what each failStrategy does when a module is pulled
  cargo xtask e2e --scenario controller            the controller, with faults around it
  cargo xtask e2e --scenario CRDs                  what the API server refuses of plans and variants
  cargo xtask e2e --scenario README                what README.md says to type, with a real kubectl
  cargo xtask e2e --scenario chart                 the chart with Helm 3 and 4, and the kustomize base
  cargo xtask e2e --scenario 'explain is true' --seed 1 --sets 2000
  cargo xtask e2e --scenario 'every lint is proven' --lint ''
  cargo xtask e2e --record                         also records the versions for docs/compatibility.md
  cargo xtask e2e --tools                          only find or build the programs";
