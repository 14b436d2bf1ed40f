//! Runs the corpus on an engine.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

use crate::{
    corpus::{Case, Corpus},
    engine::{Engine, Lines, Seen},
};

/// The source of the time of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The runner tells the engine the time.
    Told,
    /// The engine reads the machine's clock, and the runner follows that clock.
    Machine,
}

/// The result of a run.
#[derive(Debug)]
pub struct Summary {
    engine: String,
    passed: usize,
    failures: Vec<String>,
}

impl Summary {
    /// Fails if any case failed. Prints each failed case.
    pub fn into_result(self) -> Result<()> {
        println!("{self}");
        ensure!(self.failures.is_empty(), "{} cases of the corpus failed on {}", self.failures.len(), self.engine);
        Ok(())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for failure in &self.failures {
            writeln!(f, "{failure}\n")?;
        }
        write!(f, "{}: {} cases passed, {} failed", self.engine, self.passed, self.failures.len())
    }
}

/// Runs every case of the corpus on an engine, with its policy as it is and with a report header. Each request is sent
/// twice.
pub async fn run(corpus: &Corpus, name: &str, engine: &mut impl Engine, clock: Clock) -> Summary {
    let mut summary = Summary { engine: name.into(), passed: 0, failures: Vec::new() };
    for case in &corpus.cases {
        let mut result = Ok(());
        for policy in policies(case) {
            if result.is_ok() {
                result = run_in_time(case, &policy, engine, clock).await;
            }
        }
        match result {
            Ok(()) => summary.passed += 1,
            Err(error) => summary.failures.push(format!(
                "case {} ({}) on {name}:\n  {}",
                case.name,
                case.rules.join(", "),
                format!("{error:#}").replace('\n', "\n  ")
            )),
        }
    }
    summary
}

/// The policies that a case runs with: its own and, if that has no report header, its own with a report header.
#[must_use]
pub fn policies(case: &Case) -> Vec<Map<String, Value>> {
    let mut policies = vec![case.policy.clone()];
    if !case.policy.contains_key("reportHeader") {
        let mut reported = case.policy.clone();
        reported.insert("reportHeader".into(), REPORT_HEADER.into());
        policies.push(reported);
    }
    policies
}

/// Runs a case. Tries again a few times if the second ends before the answer arrives.
async fn run_in_time(case: &Case, policy: &Map<String, Value>, engine: &mut impl Engine, clock: Clock) -> Result<()> {
    for _ in 0..ATTEMPTS {
        let result = run_case(case, policy, engine, clock).await;
        if !result.as_ref().is_err_and(anyhow::Error::is::<Late>) {
            return result;
        }
    }
    bail!("{Late} ({ATTEMPTS} times)")
}

async fn run_case(case: &Case, policy: &Map<String, Value>, engine: &mut impl Engine, clock: Clock) -> Result<()> {
    let first = Moment::start(case, clock).await?;
    let request = case.request(first.now)?;
    let carrier = |text: &Option<String>| text.as_ref().map(|text| case.expand(text, first.now)).transpose();
    let expected = Expected::new(policy, &request, &case.expect, case.set.as_ref(), carrier(&case.carrier)?)?;
    for attempt in ["first", "second"] {
        let seen = first.send(policy, &request, engine).await?;
        expected.compare(&seen).with_context(|| format!("{attempt} time, policy {}", Value::from(policy.clone())))?;
    }
    for later in &case.later {
        let moment = first.after(later.seconds, clock).await;
        let seen = moment.send(policy, &request, engine).await?;
        let expected = Expected::new(policy, &request, &later.expect, None, carrier(&later.carrier)?)?;
        expected.compare(&seen).with_context(|| format!("{} s later", later.seconds))?;
    }
    Ok(())
}

/// The answer to a case that depends on the time arrived after the second in which the request was sent.
#[derive(Debug, thiserror::Error)]
#[error("the second ended before the answer arrived")]
struct Late;

/// A second in which requests are sent.
struct Moment {
    now: i64,
    /// The answer must arrive before the machine's clock leaves this second.
    exact: bool,
}

impl Moment {
    async fn start(case: &Case, clock: Clock) -> Result<Self> {
        if clock == Clock::Told {
            return Ok(Self { now: TOLD_TIME, exact: false });
        }
        let exact = case.depends_on_time();
        if exact {
            let into_second = since_epoch()?.subsec_nanos();
            if into_second > LATE_IN_SECOND.subsec_nanos() {
                tokio::time::sleep(Duration::from_nanos(1_000_000_000 - u64::from(into_second))).await;
            }
        }
        Ok(Self { now: i64::try_from(since_epoch()?.as_secs())?, exact })
    }

    async fn after(&self, seconds: u32, clock: Clock) -> Self {
        let moment = Self { now: self.now + i64::from(seconds), exact: self.exact };
        if clock == Clock::Machine {
            let at = UNIX_EPOCH + Duration::from_secs(moment.now.unsigned_abs());
            tokio::time::sleep(at.duration_since(SystemTime::now()).unwrap_or_default()).await;
        }
        moment
    }

    async fn send(&self, policy: &Map<String, Value>, request: &Lines, engine: &mut impl Engine) -> Result<Seen> {
        let seen = engine.send(policy, request, self.now).await?;
        if self.exact && i64::try_from(since_epoch()?.as_secs())? != self.now {
            return Err(Late.into());
        }
        Ok(seen)
    }
}

/// What is expected to arrive upstream.
struct Expected {
    managed: Managed,
    /// The managed headers, each in one line.
    set: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The other lines of the client.
    kept: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
    rerouted: bool,
}

impl Expected {
    fn new(
        policy: &Map<String, Value>,
        request: &Lines,
        report: &str,
        set: Option<&BTreeMap<String, String>>,
        carrier: Option<Vec<u8>>,
    ) -> Result<Self> {
        let mut set: BTreeMap<Vec<u8>, Vec<u8>> = match set {
            Some(set) => set.iter().map(|(name, value)| (name.clone().into(), value.clone().into())).collect(),
            None => report
                .split(' ')
                .filter_map(|word| word.split_once('='))
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        };
        if let Some(Value::String(header)) = policy.get("reportHeader") {
            set.insert(header.clone().into(), report.into());
        }
        let managed = Managed::of(policy);
        let (stripped, kept): (Lines, Lines) = request.iter().cloned().partition(|(name, _)| managed.contains(name));
        let rerouted = !stripped.is_empty() || !set.is_empty() || carrier.is_some();
        let mut kept = by_name(&kept);
        if let Some(value) = carrier {
            let header = carrier_header(policy).context("the policy does not carry")?;
            kept.remove(header.as_bytes());
            if !value.is_empty() {
                kept.insert(header.into(), vec![value]);
            }
        }
        Ok(Self { managed, set, kept, rerouted })
    }

    fn compare(&self, seen: &Seen) -> Result<()> {
        let (managed, kept): (Lines, Lines) =
            seen.lines.iter().cloned().partition(|(name, _)| self.managed.contains(name));
        let set: BTreeMap<_, _> = self.set.iter().map(|(name, value)| (name.clone(), vec![value.clone()])).collect();
        ensure!(
            by_name(&managed) == set,
            "managed headers\n  expected {}\n  found    {}",
            show(&set),
            show(&by_name(&managed))
        );
        ensure!(
            by_name(&kept) == self.kept,
            "other headers\n  expected {}\n  found    {}",
            show(&self.kept),
            show(&by_name(&kept))
        );
        ensure!(
            seen.rerouted == self.rerouted,
            "route recomputed\n  expected {}\n  found    {}",
            self.rerouted,
            seen.rerouted
        );
        Ok(())
    }
}

/// The header that contains the carrier of a policy.
fn carrier_header(policy: &Map<String, Value>) -> Option<String> {
    match policy.get("carry")?.get("header") {
        Some(header) => header.as_str().map(str::to_owned),
        None => Some("baggage".to_owned()),
    }
}

/// The headers that a policy manages, computed from its text alone, apart from the carrier. The runner must not ask an engine.
struct Managed {
    names: BTreeSet<String>,
    prefix: Option<String>,
}

impl Managed {
    fn of(policy: &Map<String, Value>) -> Self {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let header = |service: &Value| {
            text(service.get("header")).or_else(|| Some(text(service.get("name"))?.to_ascii_lowercase()))
        };
        let services = policy.get("services").and_then(Value::as_array).into_iter().flatten();
        let names = services.filter_map(header).chain(text(policy.get("reportHeader"))).collect();
        Self { names, prefix: text(policy.get("headerPrefix")) }
    }

    fn contains(&self, header: &[u8]) -> bool {
        let header = String::from_utf8_lossy(header).to_ascii_lowercase();
        self.names.contains(&header) || self.prefix.as_ref().is_some_and(|prefix| header.starts_with(prefix))
    }
}

/// The trimmed values by name, in order. Lines that a proxy may join are joined: those of `cookie` (RFC 9113 section 8.2.3),
/// and those of `authorization`, which Envoy joins.
fn by_name(lines: &Lines) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut map: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (name, value) in lines {
        map.entry(name.to_ascii_lowercase()).or_default().push(value.trim_ascii().to_vec());
    }
    for (name, separator) in [(&b"cookie"[..], &b"; "[..]), (b"authorization", b",")] {
        if let Some(values) = map.get_mut(name) {
            *values = vec![values.join(separator)];
        }
    }
    map
}

fn show(lines: &BTreeMap<Vec<u8>, Vec<Vec<u8>>>) -> String {
    let line = |(name, values): (&Vec<u8>, &Vec<Vec<u8>>)| {
        let values: Vec<_> = values.iter().map(|value| value.escape_ascii().to_string()).collect();
        format!("{}: {}", name.escape_ascii(), values.join(" | "))
    };
    if lines.is_empty() { "none".into() } else { lines.iter().map(line).collect::<Vec<_>>().join(", ") }
}

fn since_epoch() -> Result<Duration> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?)
}

/// The report header of policies that have none of their own.
const REPORT_HEADER: &str = "x-conformance-report";

/// The Unix time for engines without a clock of their own.
const TOLD_TIME: i64 = 1_800_000_000;

/// The number of attempts for a case that depends on the time.
const ATTEMPTS: usize = 5;

/// A case that depends on the time starts before this part of a second.
const LATE_IN_SECOND: Duration = Duration::from_millis(300);
