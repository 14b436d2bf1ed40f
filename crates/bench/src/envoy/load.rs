//! Sends requests, reads the worker's CPU time, and pins threads to cores.
//!
//! There is no HTTP library or load generator: each request has its own token, each answer is checked, and requests are sent
//! in batches between two readings of the worker's clock.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

/// Requests that are sent in turn.
pub(super) struct Requests {
    heads: Vec<Vec<u8>>,
    next: usize,
}

impl Requests {
    /// One request for each token, with this many header lines.
    pub(super) fn new(tokens: &[String], headers: usize) -> Self {
        // `host`, `authorization`, and headers such as those of browsers and meshes.
        let others: Vec<_> =
            (2..headers).map(|index| format!("x-header-{index:02}: some-value-of-usual-length\r\n")).collect();
        let others = others.concat();
        let head = |token| format!("GET / HTTP/1.1\r\nhost: a\r\n{others}authorization: Bearer {token}\r\n\r\n");
        Self { heads: tokens.iter().map(|token| head(token).into_bytes()).collect(), next: 0 }
    }

    fn next(&mut self) -> &[u8] {
        self.next = (self.next + 1) % self.heads.len();
        &self.heads[self.next]
    }
}

/// Keep-alive connections to one listener, each with at most one request in flight.
pub(super) struct Connections(Vec<TcpStream>);

impl Connections {
    pub(super) fn open(addr: SocketAddr) -> Result<Self> {
        let connect = || {
            let stream = TcpStream::connect(addr)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(stream)
        };
        let connections: std::io::Result<_> = std::iter::repeat_with(connect).take(CONNECTIONS).collect();
        Ok(Self(connections.context("cannot connect to Envoy")?))
    }

    /// Sends `count` requests, rounded down to a multiple of [`CONNECTIONS`]. Fails if the body of an answer is not `body`.
    pub(super) fn send(&mut self, requests: &mut Requests, count: usize, body: &[u8]) -> Result<()> {
        for _ in 0..count / CONNECTIONS {
            for stream in &mut self.0 {
                stream.write_all(requests.next())?;
            }
            for stream in &mut self.0 {
                read_answer(stream, body)?;
            }
        }
        Ok(())
    }

    /// Sends requests at fixed times over one connection. Returns how long after its time each request was answered, which
    /// includes the time that it waited for the answer to an earlier request.
    pub(super) fn send_at_rate(
        &mut self,
        requests: &mut Requests,
        every: Duration,
        long: Duration,
        body: &[u8],
    ) -> Result<Vec<Duration>> {
        let stream = &mut self.0[0];
        let begin = Instant::now();
        let mut latencies = Vec::new();
        let mut due = Duration::ZERO;
        while due < long {
            while begin.elapsed() < due {
                std::hint::spin_loop();
            }
            stream.write_all(requests.next())?;
            read_answer(stream, body)?;
            latencies.push(begin.elapsed().saturating_sub(due));
            due += every;
        }
        Ok(latencies)
    }
}

/// The CPU time of Envoy's only worker in nanoseconds, from the kernel's scheduler. It is exact when the thread does not run.
/// (The times in `/proc/PID/stat` have steps of 10 ms.)
pub(super) struct WorkerClock {
    schedstat: PathBuf,
}

impl WorkerClock {
    /// Finds the worker, pins it to `cores.worker` and all other threads to `cores.others`.
    pub(super) fn pin(process: u32, cores: &Cores) -> Result<Self> {
        let mut worker = None;
        for task in fs::read_dir(format!("/proc/{process}/task"))? {
            let task = task?.path();
            let id = task.file_name().and_then(|id| id.to_str()?.parse().ok()).and_then(Pid::from_raw);
            if fs::read_to_string(task.join("comm"))?.starts_with("wrk:worker") {
                pin(id, cores.worker)?;
                worker = Some(task.join("schedstat"));
            } else {
                pin(id, cores.others)?;
            }
        }
        Ok(Self { schedstat: worker.context("Envoy has no thread `wrk:worker_0`")? })
    }

    /// The worker's CPU time, read when the worker is idle.
    pub(super) fn nanoseconds(&self) -> Result<u64> {
        let mut before = None;
        loop {
            let text = fs::read_to_string(&self.schedstat)
                .with_context(|| format!("cannot read {}, which Linux has", self.schedstat.display()))?;
            let now = text.split(' ').next().and_then(|number| number.parse().ok()).context("no schedstat")?;
            if before == Some(now) {
                return Ok(now);
            }
            before = Some(now);
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

/// A core for Envoy's worker, and one for everything else.
pub(super) struct Cores {
    worker: usize,
    others: usize,
}

impl Cores {
    /// Takes the first two cores that this process may use, and pins the calling thread to the second.
    pub(super) fn take() -> Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let (Some(worker), Some(others)) = (cores.next(), cores.next()) else {
            bail!("two cores are needed: one for Envoy's worker, one for the load");
        };
        pin(None, others)?;
        Ok(Self { worker, others })
    }
}

fn pin(thread: Option<Pid>, core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(thread, &set).with_context(|| format!("cannot pin a thread to core {core}"))
}

fn read_answer(stream: &mut TcpStream, body: &[u8]) -> Result<()> {
    let mut answer = [0; 4096];
    let mut length = 0;
    loop {
        let read = stream.read(&mut answer[length..]).context("Envoy does not answer")?;
        ensure!(read > 0, "Envoy closed a connection after {:?}", String::from_utf8_lossy(&answer[..length]));
        length += read;
        // All bodies have this length.
        let Some(head) = length.checked_sub(body.len()).filter(|head| answer[..*head].ends_with(b"\r\n\r\n")) else {
            continue;
        };
        let ok = answer.starts_with(b"HTTP/1.1 200 ") && &answer[head..length] == body;
        ensure!(ok, "unexpected answer: {}", String::from_utf8_lossy(&answer[..length]));
        return Ok(());
    }
}

/// Connections to each listener.
pub(super) const CONNECTIONS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(10);
