//! `cargo xtask e2e`: runs what `manifest-gen` renders on a real Istio control plane with real Envoys.

mod column;
mod lints;
mod scenarios;
mod scene;
mod truth;
mod world;

use std::{
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
use scenarios::{SCENARIOS, Scenario};
use scene::Scene;
use world::World;

/// Runs the scenarios on etcd, kube-apiserver, istiod and Envoys on loopback, and prints a table of the results.
///
/// The programs come from variables (`ETCD_BIN`, `KUBE_APISERVER_BIN`, `PILOT_DISCOVERY_BIN`, `ISTIOCTL_BIN`, `ENVOY_BIN`) or
/// from `PATH`. Missing ones are built once with Go into the user's cache folder (or into `ROUTING_CLAIMS_TOOLS`).
#[derive(Parser)]
#[command(name = "cargo xtask e2e", bin_name = "cargo xtask e2e", after_help = EXAMPLES)]
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
    /// Prove only lints whose code contains this text.
    #[arg(long, value_name = "TEXT", default_value = "")]
    lint: String,
    /// Only find or build the programs, and print their paths.
    #[arg(long)]
    tools: bool,
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
        for path in [&tools.etcd, &tools.kube_apiserver, &tools.pilot_discovery, &tools.istioctl] {
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
    let [with_truth, with_lints] = [TRUTH, LINTS].map(|name| name.contains(&args.scenario));
    ensure!(
        !columns.is_empty() && (!rows.is_empty() || with_truth || with_lints),
        "no column or scenario has a name that contains the given text"
    );
    let begin = Instant::now();
    let dist = args.dist.clone().unwrap_or_else(|| testbed::target_dir().join("dist"));
    let mut world = World::start(tools, envoy, dist, dir).await?;
    println!("the mesh is up after {:.1} s\n", begin.elapsed().as_secs_f32());

    let mut others = Vec::new();
    if with_truth {
        println!("generated sets {} to {}", args.seed, args.seed + args.sets - 1);
        let truth = truth::run(&world, args.seed, args.sets, dir.join("truth"));
        others.push(shown(TRUTH, truth).await);
    }
    if with_lints {
        println!("fixtures of the lints");
        others.push(shown(LINTS, lints::run(&world, &args.lint, dir.join("lints"))).await);
    }
    let mut results = Vec::new();
    if !rows.is_empty() {
        println!("deploy/");
        others.push(shown("lint, validate, analyze", scenarios::examples(&world)).await);
        results = run_all(&mut world, &columns, &rows, dir).await?;
        println!("\n{}\n", table(&columns, &rows, &results));
    }
    for row in &rows {
        if let Some(why) = row.only_virtual_service {
            println!("- {}: not with HTTPRoute, {why}", row.name);
        }
    }
    println!(
        "{} requests were compared with `explain` on the applied manifests; {} more were sent under load",
        world.explained, world.under_load
    );
    println!("Istio {}, Envoy {}, {:.0} s", args.istio, envoy.version, begin.elapsed().as_secs_f32());
    let cells: Vec<_> = results.iter().flatten().copied().chain(others).collect();
    let count = |wanted| cells.iter().filter(|cell| **cell == wanted).count();
    println!("{} passed, {} failed", count(Cell::Passed), count(Cell::Failed));
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
            if row.only_virtual_service.is_some() && !column.has_gateway() {
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

const EXAMPLES: &str = "\
Examples:
  cargo xtask e2e                                  every scenario, with every filter and route resource
  cargo xtask e2e --istio 1.30                     the same on an older Istio
  cargo xtask e2e --column WasmPlugin --scenario talk
  cargo xtask e2e --scenario 'explain is true' --seed 1 --sets 2000
  cargo xtask e2e --scenario 'every lint is proven' --lint missing-service
  cargo xtask e2e --tools                          only find or build the programs";
