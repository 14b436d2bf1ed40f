//! The filter as a native Envoy dynamic module: a shared library that Envoy loads into its own process.
//!
//! It decides nothing: it passes a request's headers to `routing-claims` and applies the decision. Its configuration is the
//! policy as JSON. It rejects an invalid policy, and the log says why. Each outcome and fault has a counter,
//! `routing_claims.<code>`, with `_` for `-`.
//!
//! A filter that cannot strip traps: the request is answered with status 500 instead of passing as it came. A trap is a panic,
//! which every hook catches, so Envoy lives on. `routing_claims.traps` counts them.
//!
//! `abi.rs` is the only file that touches Envoy's ABI, and the only one with `unsafe`.

mod abi;

use std::{
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    sync::{
        Mutex, TryLockError,
        atomic::{AtomicI64, Ordering},
    },
    time::SystemTime,
};

use abi::{Config, Counter, LogLevel, Request};
use routing_claims::{CarryFault, ClaimFault, Decider, Outcome, Policy, PolicyError, Step};

/// One configuration of the filter, which all workers share.
struct Filter {
    policy: Policy,
    /// A slot for each worker thread.
    workers: Box<[Worker]>,
    /// By the index of an [`Outcome`], of a [`ClaimFault`] and of a [`CarryFault`].
    outcomes: Vec<Counter>,
    faults: Vec<Counter>,
    carry_faults: Vec<Counter>,
    traps: Counter,
}

/// The decider of one worker thread. The worker creates it when it gets its first request, so that a listener without requests
/// costs no memory.
///
/// Only that worker locks the slot, so it never waits. Each slot has a cache line of its own (two, because processors fetch
/// pairs).
#[derive(Default)]
#[repr(align(128))]
struct Worker(Mutex<Option<Decider>>);

/// What Envoy does with a request next.
enum Action {
    Continue,
    /// The filter has answered the request.
    Stop,
}

/// Runs once, when Envoy loads the module.
fn on_load() {
    panic::set_hook(Box::new(log_trap));
}

/// The filter of a configuration, or nothing if Envoy must reject it.
fn on_configure(config: &Config, policy: &[u8]) -> Option<Filter> {
    let filter = panic::catch_unwind(|| Filter::new(config, policy)).ok()?;
    filter.map_err(|error| abi::log(LogLevel::Error, &format!("routing-claims: the policy is not valid: {error}"))).ok()
}

/// Applies the decision to a request, or answers it.
fn on_request(filter: &Filter, request: &mut Request<'_>) -> Action {
    if cfg!(feature = "empty") || panic::catch_unwind(AssertUnwindSafe(|| filter.handle(request))).is_ok() {
        return Action::Continue;
    }
    request.increment(filter.traps, 1);
    request.respond(500, "routing_claims_trap");
    Action::Stop
}

impl Filter {
    fn new(config: &Config, policy: &[u8]) -> Result<Self, PolicyError> {
        let policy = Policy::from_json(policy)?;
        let counter = |code: &str| {
            let defined = config.define_counter(&format!("routing_claims.{}", code.replace('-', "_")));
            or_trap(defined, "defining a counter")
        };
        Ok(Self {
            policy,
            workers: (0..config.concurrency()).map(|_| Worker::default()).collect(),
            outcomes: Outcome::ALL.iter().map(|outcome| counter(outcome.code())).collect(),
            faults: ClaimFault::ALL.iter().map(|fault| counter(fault.code())).collect(),
            carry_faults: CarryFault::ALL.iter().map(|fault| counter(fault.code())).collect(),
            traps: counter("traps"),
        })
    }

    /// Strips and sets headers.
    fn handle(&self, request: &mut Request<'_>) {
        let worker = or_trap(self.workers.get(request.worker()), "the worker's index");
        let mut slot = match worker.0.try_lock() {
            Ok(slot) => slot,
            Err(TryLockError::Poisoned(poisoned)) => {
                // The decider that panicked may have stopped halfway.
                worker.0.clear_poison();
                let mut slot = poisoned.into_inner();
                *slot = None;
                slot
            }
            // Waiting would be a deadlock: the host calls the filter during the filter's own call.
            Err(TryLockError::WouldBlock) => trap("a second request in the same worker"),
        };
        let decider = slot.get_or_insert_with(|| Decider::new(self.policy.clone()));

        let lines = or_trap(request.header_lines(), "returning the headers");
        let decision = decider.decide(lines.iter(), unix_seconds());
        panic_on_purpose(&lines);
        // Copies, because the lines are valid only until the first header changes.
        let names: Vec<_> = if decision.removes_any() {
            lines.iter().map(|(name, _)| name).filter(|name| decision.removes(name)).map(<[u8]>::to_vec).collect()
        } else {
            Vec::new()
        };
        drop(lines);
        decision.steps(&names).for_each(|step| match step {
            Step::Remove(name) => or_trap(request.remove(name), "removing a header"),
            Step::Set(name, value) => or_trap(request.set(name, value), "setting a header"),
            Step::ClearRouteCache => request.clear_route_cache(),
            Step::CountOutcome(outcome) => request.increment(self.outcomes[outcome.index()], 1),
            Step::CountFault(fault, times) => request.increment(self.faults[fault.index()], times.into()),
            Step::CountCarryFault(fault) => request.increment(self.carry_faults[fault.index()], 1),
        });
    }
}

/// The time in seconds since the Unix epoch.
fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    or_trap(since.ok(), "telling the time").as_secs().cast_signed()
}

/// What the host returned. Traps if the host refused.
#[track_caller]
fn or_trap<T>(result: Option<T>, call: &str) -> T {
    result.unwrap_or_else(|| trap(call))
}

#[track_caller]
#[expect(clippy::panic, reason = "a trap is the one answer that never lets a request pass as it came")]
fn trap(call: &str) -> ! {
    panic!("the host refused: {call}")
}

/// Logs the location of a trap, but not its reason: the message of a panic can contain bytes of the request (R17). Logs one trap
/// in [`LOG_EVERY`] seconds, because a client may be able to repeat it.
fn log_trap(panic: &PanicHookInfo<'_>) {
    static LAST: AtomicI64 = AtomicI64::new(i64::MIN);
    // A panic here would abort.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs().cast_signed();
    let last = LAST.load(Ordering::Relaxed);
    let logs = now.abs_diff(last) >= LOG_EVERY;
    if logs && LAST.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = format!("routing-claims: trap at {location}; for {LOG_EVERY} s, further traps are only counted");
        abi::log(LogLevel::Critical, &text);
    }
}

#[cfg(feature = "panic-on-purpose")]
fn panic_on_purpose(lines: &abi::HeaderLines<'_>) {
    if let Some((_, value)) = lines.iter().find(|(name, _)| *name == b"x-panic") {
        trap(&String::from_utf8_lossy(value));
    }
}

#[cfg(not(feature = "panic-on-purpose"))]
fn panic_on_purpose(_: &abi::HeaderLines<'_>) {}

/// In seconds.
const LOG_EVERY: u64 = 10;
