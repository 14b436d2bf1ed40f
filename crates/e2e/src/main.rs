//! `cargo xtask e2e`: what `manifest-gen` renders, on a real Istio control plane with real Envoys.

mod column;
mod scenarios;
mod scene;
mod world;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context as _, Result};
use clap::Parser;
use comfy_table::{ContentArrangement, Table, presets};
use e2e::tools::{self, Istio};

use column::Column;
use scenarios::{SCENARIOS, Scenario};
use scene::Scene;
use world::World;

/// Runs the scenarios on etcd, kube-apiserver, istiod and Envoys on loopback, and shows a table of those that passed.
///
/// The programs are taken from `PATH`, from variables (`ETCD_BIN`, `KUBE_APISERVER_BIN`, `PILOT_DISCOVERY_BIN`,
/// `ISTIOCTL_BIN`, `ENVOY_BIN`), or built once with Go into the user's cache folder (`ROUTING_CLAIMS_TOOLS` puts it elsewhere).
#[derive(Parser)]
#[command(name = "cargo xtask e2e", bin_name = "cargo xtask e2e", after_help = EXAMPLES)]
struct Args {
    /// Which line of Istio to run.
    #[arg(long, value_enum, default_value_t)]
    istio: Istio,
    /// Only columns whose name contains this, such as `WasmPlugin` or `HTTPRoute`.
    #[arg(long, value_name = "TEXT", default_value = "")]
    column: String,
    /// Only scenarios whose name contains this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    scenario: String,
    /// Only get the programs, and print where they are.
    #[arg(long)]
    tools: bool,
    /// Keep logs and manifests also when all passed.
    #[arg(long)]
    keep: bool,
    /// Where `cargo xtask build` put what is shipped.
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
    let dist = args.dist.clone().unwrap_or_else(|| testbed::target_dir().join("dist"));

    let begin = Instant::now();
    // Declared before the world, so that it goes after the programs that write there.
    let mut dir = tempfile::Builder::new().prefix("routing-claims-e2e-").tempdir()?;
    dir.disable_cleanup(true);
    let kept = format!("logs and manifests are kept in {}", dir.path().display());
    let mut world = World::start(&tools, &envoy, dist, dir.path()).await.with_context(|| kept.clone())?;
    println!("the mesh is up after {:.1} s\n", begin.elapsed().as_secs_f32());

    let columns: Vec<_> = Column::all().into_iter().filter(|one| one.to_string().contains(&args.column)).collect();
    let scenarios: Vec<_> = SCENARIOS.iter().filter(|one| one.name.contains(&args.scenario)).collect();
    let results = run_all(&mut world, &columns, &scenarios, dir.path()).await.with_context(|| kept.clone())?;
    println!("\n{}\n", table(&columns, &scenarios, &results));

    let count = |wanted: fn(&Cell) -> bool| results.iter().flatten().filter(|cell| wanted(cell)).count();
    let (passed, failed) = (count(|cell| matches!(cell, Cell::Passed)), count(|cell| matches!(cell, Cell::Failed)));
    let not_applicable: Vec<_> =
        scenarios.iter().filter_map(|one| one.only_virtual_service.map(|why| (one.name, why))).collect();
    for (name, why) in not_applicable {
        println!("-  {name}: not with HTTPRoute, {why}");
    }
    println!(
        "{} requests were compared with what `explain` says of the applied manifests; {} more under load",
        world.explained, world.under_load
    );
    println!("Istio {}, Envoy {}, {:.0} s", args.istio, envoy.version, begin.elapsed().as_secs_f32());
    dir.disable_cleanup(failed > 0 || args.keep);
    if failed > 0 || args.keep {
        println!("{kept}");
    }
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How a scenario went in a column.
#[derive(Clone, Copy)]
enum Cell {
    Passed,
    Failed,
    NotApplicable,
}

/// A row for each column of the table.
async fn run_all(world: &mut World, columns: &[Column], scenarios: &[&Scenario], dir: &Path) -> Result<Vec<Vec<Cell>>> {
    let mut results = Vec::new();
    for column in columns {
        println!("{column}");
        let mut scene = Scene::set(world, *column, &dir.join(column.to_string().replace(['/', ' '], "-"))).await?;
        let mut cells = Vec::new();
        for scenario in scenarios {
            if scenario.only_virtual_service.is_some() && !column.has_gateway() {
                cells.push(Cell::NotApplicable);
                continue;
            }
            let begin = Instant::now();
            let result = (scenario.run)(&mut scene).await;
            let seconds = begin.elapsed().as_secs_f32();
            cells.push(match &result {
                Ok(what) => {
                    println!("  ok      {:<24} {seconds:>5.1} s  {what}", scenario.name);
                    Cell::Passed
                }
                Err(error) => {
                    println!("  FAILED  {:<24} {seconds:>5.1} s  {error:#}", scenario.name);
                    Cell::Failed
                }
            });
            // The next scenario begins with the plan as it was.
            scene.reset().await?;
        }
        scene.clear().await?;
        results.push(cells);
    }
    Ok(results)
}

fn table(columns: &[Column], scenarios: &[&Scenario], results: &[Vec<Cell>]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL).set_content_arrangement(ContentArrangement::Disabled);
    let heads = columns.iter().map(|column| column.to_string().replace(" + ", "\n").replace('/', "\n"));
    table.set_header(std::iter::once("Scenario".to_owned()).chain(heads));
    for (row, scenario) in scenarios.iter().enumerate() {
        let cells = results.iter().map(|cells| match cells[row] {
            Cell::Passed => "ok",
            Cell::Failed => "FAILED",
            Cell::NotApplicable => "-",
        });
        table.add_row(std::iter::once(scenario.name).chain(cells));
    }
    table
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask e2e                                  every scenario, with every filter and route resource
  cargo xtask e2e --istio 1.30                     the same on an older Istio
  cargo xtask e2e --column WasmPlugin --scenario talk
  cargo xtask e2e --tools                          only build what is needed";
