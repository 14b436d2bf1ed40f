//! Tables, budgets, JSON and plots.

use std::{fmt::Write as _, fs, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use testbed::EnvoyBinary;

use super::variants::{self, Case, FilterKind, HEADERS, REFERENCE, SERVICES, TOKEN_BYTES, Tokens};

mod plots;

/// The results of a run.
pub(super) struct Results<'r> {
    pub(super) binary: &'r EnvoyBinary,
    pub(super) rounds: usize,
    pub(super) measured: Vec<Measured>,
    pub(super) latencies: Vec<Latency>,
    pub(super) memory: Vec<Memory>,
    pub(super) module_bytes: u64,
}

/// The CPU time per request of a case, one value for each round.
pub(super) struct Measured {
    pub(super) case: Case,
    pub(super) nanoseconds: Vec<f64>,
}

pub(super) struct Latency {
    pub(super) case: Case,
    pub(super) durations: Vec<Duration>,
}

/// The memory that one filter adds to Envoy.
pub(super) struct Memory {
    pub(super) filter: FilterKind,
    pub(super) services: usize,
    pub(super) kib: u64,
}

/// Median and quartiles, in microseconds.
#[derive(Clone, Copy)]
pub(super) struct Spread {
    low: f64,
    pub(super) median: f64,
    high: f64,
}

/// A value that should not exceed its limit.
struct Budget {
    name: String,
    found: f64,
    limit: f64,
}

impl Results<'_> {
    /// Writes `envoy.md`, `envoy.json` and the plots. Returns the Markdown.
    pub(super) fn write(&self, folder: &Path) -> Result<String> {
        fs::create_dir_all(folder)?;
        let markdown = self.markdown()?;
        fs::write(folder.join("envoy.md"), &markdown)?;
        fs::write(folder.join("envoy.json"), format!("{:#}\n", self.json()?))?;
        plots::write(self, folder)?;
        Ok(markdown)
    }

    fn markdown(&self) -> Result<String> {
        let mut out = format!(
            "{}, Envoy {}, one worker, {} rounds.\n\n\
             CPU time of the worker per request in µs: median (quartiles); *added* is over the same request without a filter in the \
             same round.\np50 and p99: latency at 2,000 requests a second, in µs, all of Envoy and the client included.\n\
             Two services, ten header lines, a token of {} bytes (RS256).\n\n\
             | filter | CPU time | added | added, of jwt_authn with its cache | p50 | p99 |\n|---|---|---|---|---|---|\n",
            machine(),
            self.binary.version,
            self.rounds,
            REFERENCE.token_bytes,
        );
        let cached = self.added(reference(FilterKind::JwtAuthnCached, Tokens::Same))?.median;
        for case in variants::table() {
            let added = self.added(case)?;
            let latency = self.latencies.iter().find(|latency| latency.case == case).context("no latency")?;
            let (added, ratio) = if case.filter == FilterKind::None {
                (String::new(), String::new())
            } else {
                (added.to_string(), format!("{:.2}", added.median / cached))
            };
            writeln!(
                out,
                "| {} | {} | {added} | {ratio} | {:.0} | {:.0} |",
                case.label(),
                self.absolute(case)?,
                latency.quantile(0.5),
                latency.quantile(0.99)
            )?;
        }
        out.push_str("\nAdded CPU time, other requests and policies:\n\n");
        let axes: [(&str, Vec<String>, Vec<Case>); 3] = [
            (
                "services",
                SERVICES.map(|n| n.to_string()).to_vec(),
                SERVICES.map(|services| Case { services, ..REFERENCE }).to_vec(),
            ),
            (
                "header lines",
                HEADERS.map(|n| n.to_string()).to_vec(),
                HEADERS.map(|headers| Case { headers, ..REFERENCE }).to_vec(),
            ),
            (
                "token bytes",
                TOKEN_BYTES.map(|n| n.to_string()).to_vec(),
                TOKEN_BYTES.map(|token_bytes| Case { token_bytes, ..REFERENCE }).to_vec(),
            ),
        ];
        for (axis, labels, points) in &axes {
            writeln!(out, "| {axis} | {} |\n|---|{}", labels.join(" | "), "---|".repeat(labels.len()))?;
            for row in variants::table() {
                let cases: Vec<Case> =
                    points.iter().map(|point| Case { filter: row.filter, tokens: row.tokens, ..*point }).collect();
                if row.filter != FilterKind::None
                    && let Ok(cells) = cases.iter().map(|case| self.added(*case)).collect::<Result<Vec<_>>>()
                {
                    let cells: Vec<String> = cells.iter().map(Spread::to_string).collect();
                    writeln!(out, "| {} | {} |", row.label(), cells.join(" | "))?;
                }
            }
            out.push('\n');
        }
        out.push_str("| filter | services | memory of one with one worker, KiB |\n|---|---|---|\n");
        for Memory { filter, services, kib } in &self.memory {
            writeln!(out, "| {} | {services} | {kib} |", filter.label())?;
        }
        out.push_str("\n| budget | found | at most | |\n|---|---|---|---|\n");
        for Budget { name, found, limit } in self.budgets()? {
            let result = if found <= limit { "met" } else { "**not met**" };
            writeln!(out, "| {name} | {found:.2} | {limit} | {result} |")?;
        }
        Ok(out)
    }

    fn budgets(&self) -> Result<Vec<Budget>> {
        use FilterKind::{CallsLua, CallsWasm, JwtAuthnCached, Lua, Module, NaiveLua, Wasm};
        use Tokens::{Distinct, Same};
        let mut budgets = Vec::new();
        let mut budget = |case: Case, of: Case, limit| -> Result<()> {
            let found = self.added(case)?.median / self.added(of)?.median;
            let services =
                if case.services == of.services { String::new() } else { format!(", {} services", case.services) };
            let than = if case.services == of.services { of.label() } else { format!("{} services", of.services) };
            budgets.push(Budget { name: format!("{}{services} : {than}", case.label()), found, limit });
            Ok(())
        };
        budget(reference(Wasm, Same), reference(CallsWasm, Same), 1.2)?;
        budget(reference(Lua, Same), reference(CallsLua, Same), 1.35)?;
        budget(reference(Lua, Distinct), reference(NaiveLua, Distinct), 0.5)?;
        for (tokens, wasm, jwt_authn) in [(Same, 0.4, 0.8), (Distinct, 0.5, 1.0)] {
            budget(reference(Module, tokens), reference(Wasm, tokens), wasm)?;
            budget(reference(Module, tokens), reference(JwtAuthnCached, Same), jwt_authn)?;
        }
        for (filter, limit) in [(Wasm, 1.5), (Lua, 1.5), (Module, 1.2)] {
            for tokens in [Same, Distinct] {
                let case = reference(filter, tokens);
                budget(Case { services: 100, ..case }, case, limit)?;
            }
        }
        let memory = self.memory.iter().find(|memory| memory.filter == Module).context("no memory of the module")?;
        budgets.push(Budget {
            name: "memory of the native module, MiB".into(),
            found: memory.kib as f64 / 1024.0,
            limit: 1.0,
        });
        budgets.push(Budget {
            name: "the WASM module, KB".into(),
            found: self.module_bytes as f64 / 1000.0,
            limit: 190.0,
        });
        Ok(budgets)
    }

    fn json(&self) -> Result<Value> {
        let spread = |spread: Spread| json!({"low": spread.low, "median": spread.median, "high": spread.high});
        let cases = self.measured.iter().map(|measured| {
            let Case { filter, tokens, services, headers, token_bytes } = measured.case;
            Ok(json!({
                "filter": filter.label(), "distinctTokens": tokens == Tokens::Distinct, "services": services,
                "headers": headers, "tokenBytes": token_bytes,
                "cpuMicroseconds": spread(self.absolute(measured.case)?),
                "addedMicroseconds": spread(self.added(measured.case)?),
            }))
        });
        let latencies = self.latencies.iter().map(|latency| {
            json!({
                "filter": latency.case.filter.label(), "distinctTokens": latency.case.tokens == Tokens::Distinct,
                "p50Microseconds": latency.quantile(0.5), "p99Microseconds": latency.quantile(0.99),
            })
        });
        let memory = self.memory.iter().map(|memory| {
            json!({
                "filter": memory.filter.label(), "services": memory.services, "kib": memory.kib,
            })
        });
        let budgets = self.budgets()?;
        let budgets = budgets.iter().map(|Budget { name, found, limit }| {
            json!({"name": name, "found": found, "limit": limit, "reached": found <= limit})
        });
        Ok(json!({
            "machine": machine(),
            "envoy": self.binary.version.to_string(),
            "rounds": self.rounds,
            "cases": cases.collect::<Result<Vec<_>>>()?,
            "latencies": latencies.collect::<Vec<_>>(),
            "memory": memory.collect::<Vec<_>>(),
            "budgets": budgets.collect::<Vec<_>>(),
        }))
    }

    fn absolute(&self, case: Case) -> Result<Spread> {
        Ok(Spread::of(rounds_of(&self.measured, case)?.to_vec()))
    }

    fn added(&self, case: Case) -> Result<Spread> {
        Ok(Spread::of(added(&self.measured, case)?))
    }
}

/// Nanoseconds of CPU time that a filter adds to the same request without a filter, round by round.
pub(super) fn added(measured: &[Measured], case: Case) -> Result<Vec<f64>> {
    let without = rounds_of(measured, case.baseline())?;
    Ok(rounds_of(measured, case)?.iter().zip(without).map(|(with, without)| with - without).collect())
}

fn rounds_of(measured: &[Measured], case: Case) -> Result<&[f64]> {
    let measured = measured.iter().find(|measured| measured.case == case);
    Ok(&measured.with_context(|| format!("{case:?} was not measured"))?.nanoseconds)
}

impl Latency {
    /// In microseconds.
    fn quantile(&self, part: f64) -> f64 {
        let microseconds = self.durations.iter().map(|duration| duration.as_secs_f64() * 1e6).collect();
        quantile(&sorted(microseconds), part)
    }
}

impl Spread {
    pub(super) fn of(nanoseconds: Vec<f64>) -> Self {
        let sorted = sorted(nanoseconds);
        let [low, median, high] = [0.25, 0.5, 0.75].map(|part| quantile(&sorted, part) / 1000.0);
        Self { low, median, high }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} ({:.1} to {:.1})", self.median, self.low, self.high)
    }
}

fn reference(filter: FilterKind, tokens: Tokens) -> Case {
    Case { filter, tokens, ..REFERENCE }
}

fn sorted(mut numbers: Vec<f64>) -> Vec<f64> {
    numbers.sort_by(f64::total_cmp);
    numbers
}

fn quantile(sorted: &[f64], part: f64) -> f64 {
    sorted.get(((sorted.len() as f64 - 1.0) * part).round() as usize).copied().unwrap_or(f64::NAN)
}

pub(super) fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    format!("{model}, {cores} cores")
}
