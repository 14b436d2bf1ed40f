//! `cargo xtask bench core`: times decisions of the core and other ways to read a token, with criterion.

use std::{fs, io, path::Path, process::ExitCode, time::SystemTime};

use anyhow::{Context as _, Result, ensure};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};
use testbed::{Group, cargo, target_dir};

pub(crate) async fn run() -> Result<ExitCode> {
    let results = target_dir().join("criterion/core");
    match fs::remove_dir_all(&results) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).context("cannot clear old results"),
        _ => {}
    }
    let mut bench = Group::spawn(&mut cargo(&["bench", "--package", "bench-inputs", "--bench", "core"]))?;
    ensure!(bench.wait().await?.success(), "`cargo bench` failed (see above)");

    let times = read(&results)?;
    let report = format!("{}\n\n{}\n", times_table(&times), budgets_table(&times));
    println!("\n{report}");
    let json = times.iter().map(|time| json!({ "name": time.name, "medianNs": time.median, "spreadNs": time.spread }));
    let dir = target_dir().join("bench");
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("core.md"), report)?;
    fs::write(dir.join("core.json"), format!("{:#}\n", json.collect::<Value>()))?;
    println!("written to {0}/core.md and {0}/core.json", dir.display());
    Ok(ExitCode::SUCCESS)
}

/// A measurement by criterion, in nanoseconds.
struct Time {
    name: String,
    median: f64,
    /// The median of the distances from the median.
    spread: f64,
}

/// All results, in the order in which they were measured.
fn read(dir: &Path) -> Result<Vec<Time>> {
    let mut times = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("criterion left nothing in {}", dir.display()))? {
        let dir = entry?.path().join("new");
        // The folder of the group's own report has no estimates.
        let Ok(estimates) = fs::read(dir.join("estimates.json")) else { continue };
        times.push((fs::metadata(dir.join("estimates.json"))?.modified()?, time(&dir, &estimates)?));
    }
    times.sort_by_key(|(at, _): &(SystemTime, _)| *at);
    Ok(times.into_iter().map(|(_, time)| time).collect())
}

fn time(dir: &Path, estimates: &[u8]) -> Result<Time> {
    let (estimates, benchmark): (Value, Value) =
        (serde_json::from_slice(estimates)?, serde_json::from_slice(&fs::read(dir.join("benchmark.json"))?)?);
    let estimate = |name: &str| {
        estimates[name]["point_estimate"].as_f64().with_context(|| format!("no `{name}` in {}", dir.display()))
    };
    let name = benchmark["function_id"].as_str().with_context(|| format!("no name in {}", dir.display()))?;
    Ok(Time { name: name.to_owned(), median: estimate("median")?, spread: estimate("median_abs_dev")? })
}

fn times_table(times: &[Time]) -> Table {
    let reference = median(times, "reference");
    let mut table = table(["Decision", "Median (ns)", "Spread (ns)", "Times the reference"]);
    for Time { name, median, spread } in times {
        let ratio = reference.map(|reference| median / reference);
        table.add_row([name.clone(), format!("{median:.0}"), format!("± {spread:.0}"), cell(ratio)]);
    }
    table
}

/// The targets. They are reported, not enforced, because times depend on the machine and its load.
fn budgets_table(times: &[Time]) -> Table {
    let median = |name| median(times, name);
    let ratio = |name, to| Some(median(name)? / median(to)?);
    let budgets = [
        ("a new token (ns)", median("reference"), Bound::AtMost(250.0)),
        ("a cached token (ns)", median("reference, cached"), Bound::AtMost(50.0)),
        ("times as fast as base64 + Value", ratio("base64 + serde_json::Value", "reference"), Bound::AtLeast(5.0)),
        ("times as fast as jsonwebtoken", ratio("jsonwebtoken insecure_decode", "reference"), Bound::AtLeast(8.0)),
        ("100 services, times 2 services", ratio("100 services", "reference"), Bound::AtMost(1.5)),
        ("8 KB of payload, times 2 KB", ratio("8 KB payload", "2 KB payload"), Bound::AtMost(4.0)),
    ];
    let mut table = table(["Budget", "Found", "Target", ""]);
    for (name, found, bound) in budgets {
        let (aim, met) = match bound {
            Bound::AtMost(limit) => (format!("<= {limit}"), found.is_some_and(|found| found <= limit)),
            Bound::AtLeast(limit) => (format!(">= {limit}"), found.is_some_and(|found| found >= limit)),
        };
        table.add_row([name.to_owned(), cell(found), aim, if met { "met" } else { "not met" }.to_owned()]);
    }
    table
}

enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

fn median(times: &[Time], name: &str) -> Option<f64> {
    times.iter().find(|time| time.name == name).map(|time| time.median)
}

fn cell(number: Option<f64>) -> String {
    number.map_or_else(|| "not measured".to_owned(), |number| format!("{number:.2}"))
}

/// A table in Markdown. The first column contains words, the others numbers.
pub(crate) fn table<const COLUMNS: usize>(head: [&str; COLUMNS]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(head);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
