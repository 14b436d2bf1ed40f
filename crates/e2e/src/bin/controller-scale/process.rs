//! What a process has used.

use std::fs;

use anyhow::{Context as _, Result};

/// Memory and processor time of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Resident now.
    pub(crate) resident_kib: u64,
    /// Resident at most.
    pub(crate) peak_kib: u64,
    pub(crate) cpu_seconds: f64,
}

impl Usage {
    /// From the process's start until now.
    pub(crate) fn of(process: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such line in status")?;
            Ok::<u64, anyhow::Error>(line.trim().trim_end_matches(" kB").parse()?)
        };
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        // The name of the program may contain spaces. User and system time are the fields 14 and 15.
        let (_, fields) = stat.rsplit_once(") ").context("no name in stat")?;
        let ticks: Vec<u64> = fields.split(' ').skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
        let cpu_seconds = ticks.iter().sum::<u64>() as f64 / TICKS_PER_SECOND;
        Ok(Self { resident_kib: field("VmRSS:")?, peak_kib: field("VmHWM:")?, cpu_seconds })
    }
}

/// `USER_HZ`, which Linux keeps the same everywhere.
const TICKS_PER_SECOND: f64 = 100.0;
