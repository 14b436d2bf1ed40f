//! The results as Markdown.

use std::{fmt::Write as _, fs};

use crate::{
    calls::{Calls, is_write},
    changes::{PER_SECOND, Phase, quantile},
    inventory::Inventory,
    mesh::{Mesh, Pushed},
};

/// The results of a run.
pub(crate) struct Results {
    pub(crate) inventory: Inventory,
    pub(crate) envoy: String,
    pub(crate) istio: String,
    pub(crate) start: Start,
    pub(crate) restart: Start,
    pub(crate) idle_cpu_percent: f64,
    pub(crate) phases: Vec<Phase>,
    pub(crate) changes: usize,
    /// Those of all changes.
    pub(crate) calls: Calls,
    pub(crate) cpu_per_change: f64,
    pub(crate) peak_kib: u64,
    pub(crate) mesh: Vec<Mesh>,
}

/// A start of the controller.
pub(crate) struct Start {
    /// From the start of the process until everything is written.
    pub(crate) seconds: f64,
    pub(crate) calls: Calls,
    pub(crate) cpu_seconds: f64,
    pub(crate) rss_kib: u64,
    pub(crate) peak_kib: u64,
}

impl Results {
    pub(crate) fn markdown(&self) -> String {
        let mut out = String::new();
        // Writing to a string can't fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let Inventory { services, variants } = self.inventory;
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').take(3).collect::<Vec<_>>().join(", ");
        writeln!(
            out,
            "{services} services x {variants} variants. {}; load at the end {load}. Istio {}, Envoy {}.\n",
            machine(),
            self.istio,
            self.envoy
        )?;
        writeln!(
            out,
            "| controller | seconds | CPU seconds | writes | memory, MiB | peak, MiB |\n|---|---|---|---|---|---|"
        )?;
        for (name, start) in [("first start", &self.start), ("restart", &self.restart)] {
            let Start { seconds, calls, cpu_seconds, rss_kib, peak_kib } = start;
            let (writes, rss, peak) = (calls.writes(), mib(*rss_kib), mib(*peak_kib));
            writeln!(out, "| {name} | {seconds:.1} | {cpu_seconds:.1} | {writes} | {rss:.0} | {peak:.0} |")?;
        }
        writeln!(
            out,
            "\nIdle it takes {:.1} % of a processor, and {:.0} ms of CPU time for a change. Its memory after the changes was at most \
             {:.0} MiB.\n",
            self.idle_cpu_percent,
            self.cpu_per_change * 1e3,
            mib(self.peak_kib)
        )?;
        writeln!(
            out,
            "| change, {PER_SECOND} a second | count | p50, ms | p99, ms | max, ms |\n|---|---|---|---|---|"
        )?;
        let mut all: Vec<_> = self.phases.iter().flat_map(|phase| phase.latencies.clone()).collect();
        all.sort();
        let rows = self.phases.iter().map(|phase| (phase.name, &phase.latencies)).chain([("all", &all)]);
        for (name, latencies) in rows {
            let [p50, p99, max] = [0.5, 0.99, 1.0].map(|part| quantile(latencies, part).as_millis());
            writeln!(out, "| {name} | {} | {p50} | {p99} | {max} |", latencies.len())?;
        }
        writeln!(
            out,
            "\n| API call | first start | restart | {} changes | a change |\n|---|---|---|---|---|",
            self.changes
        )?;
        let all = [&self.start.calls, &self.restart.calls, &self.calls];
        let mut names: Vec<_> = all.iter().flat_map(|calls| calls.0.keys()).filter(|call| is_write(call)).collect();
        names.sort();
        names.dedup();
        let mut row = |name: &str, count: &dyn Fn(&Calls) -> usize| {
            let [first, again, changes] = all.map(count);
            let of_change = changes as f64 / self.changes.max(1) as f64;
            writeln!(out, "| {name} | {first} | {again} | {changes} | {of_change:.2} |")
        };
        for call in names {
            row(&call.to_string(), &|calls| calls.0.get(call).copied().unwrap_or_default())?;
        }
        row("get, list and watch", &Calls::reads)?;
        if !self.mesh.is_empty() {
            self.write_mesh(out)?;
        }
        Ok(())
    }

    fn write_mesh(&self, out: &mut String) -> std::fmt::Result {
        let row = |out: &mut String, name: &str, cell: &dyn Fn(&Mesh) -> String| {
            let cells: Vec<_> = self.mesh.iter().map(cell).collect();
            writeln!(out, "| {name} | {} |", cells.join(" | "))
        };
        writeln!(out)?;
        row(out, "a sidecar that sees", &|mesh| mesh.scope.to_owned())?;
        writeln!(out, "|---|{}", "---|".repeat(self.mesh.len()))?;
        for kind in ["CDS", "EDS", "LDS", "RDS"] {
            row(out, &format!("first {kind}, KB"), &|mesh| kb(of(&mesh.first, kind).bytes))?;
        }
        row(out, "time to generate and send its first RDS, ms", &|mesh| {
            format!("{:.1}", of(&mesh.first, "RDS").milliseconds)
        })?;
        row(out, "memory of its Envoy, MiB", &|mesh| format!("{:.0}", mesh.envoy_bytes as f64 / 1024.0 / 1024.0))?;
        for kind in ["CDS", "EDS", "LDS", "RDS"] {
            row(out, &format!("{kind} of a change, KB"), &|mesh| kb(of(&mesh.change, kind).bytes))?;
        }
        row(out, "time of all pushes of a change, ms", &|mesh| {
            format!("{:.1}", mesh.change.values().map(|pushed| pushed.milliseconds).sum::<f64>())
        })?;
        row(out, "bytes on the wire of a change, KB", &|mesh| kb(mesh.wire_bytes))?;
        row(out, "the same, of a change in another namespace, KB", &|mesh| kb(mesh.wire_bytes_elsewhere))?;
        row(out, "convergence of a change, ms", &|mesh| format!("{:.0}", mesh.convergence_seconds * 1e3))?;
        row(out, "CPU time of istiod for a change, ms", &|mesh| format!("{:.0}", mesh.istiod_cpu_seconds * 1e3))?;
        row(out, "memory of istiod, MiB", &|mesh| format!("{:.0}", mib(mesh.istiod_kib)))?;
        row(out, "10,000 such sidecars, one change: sent, GB", &|mesh| {
            format!("{:.1}", mesh.wire_bytes * SIDECARS / 1e9)
        })?;
        row(out, "10,000 such sidecars, one change: time of all pushes, s", &|mesh| {
            let milliseconds = mesh.change.values().map(|pushed| pushed.milliseconds).sum::<f64>();
            format!("{:.0}", milliseconds * SIDECARS / 1e3)
        })
    }
}

fn of(pushed: &std::collections::BTreeMap<String, Pushed>, kind: &str) -> Pushed {
    pushed.get(kind).copied().unwrap_or_default()
}

fn kb(bytes: f64) -> String {
    format!("{:.1}", bytes / 1e3)
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    format!("{cores} cores of {}", name.map_or("an unknown processor", |(_, name)| name))
}

/// For the guidance.
const SIDECARS: f64 = 10_000.0;
