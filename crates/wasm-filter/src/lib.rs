//! The filter for proxies that run WebAssembly (Envoy, Istio's `WasmPlugin` and `TrafficExtension`).
//!
//! It decides nothing: it passes a request's headers to `routing-claims` and applies the decision. Its configuration is the
//! policy as JSON. It rejects an invalid policy, and the log says why. Each outcome and fault has a counter,
//! `routing_claims.<code>`, with `_` for `-`.
//!
//! A filter that cannot strip traps: the request fails instead of passing as it came. A panic traps. The SDK panics on every
//! status that it does not expect from the host, and `or_trap` panics on all others. Only incrementing a counter may fail.
#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "the SDK's macro makes a public function")]

use std::{
    cell::RefCell,
    panic::{self, PanicHookInfo},
    rc::Rc,
    time::SystemTime,
};

use proxy_wasm::{
    hostcalls,
    traits::{Context, HttpContext, RootContext},
    types::{Action, BufferType, ContextType, LogLevel, MapType, MetricType, Status},
};
use routing_claims::{CarryFault, ClaimFault, Decider, Outcome, Policy, PolicyError, Step};

proxy_wasm::main! {{
    panic::set_hook(Box::new(log_trap));
    proxy_wasm::set_root_context(|_| Box::new(Root { plugin: None }));
}}

/// One configuration of the filter. It has no plugin until the host passes a valid policy.
struct Root {
    plugin: Option<Rc<RefCell<Plugin>>>,
}

/// A policy and its counters.
struct Plugin {
    decider: Decider,
    /// Metric IDs, by the index of an [`Outcome`], of a [`ClaimFault`] and of a [`CarryFault`].
    outcomes: Vec<u32>,
    faults: Vec<u32>,
    carry_faults: Vec<u32>,
}

/// One request.
struct RequestContext {
    plugin: Rc<RefCell<Plugin>>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        let policy = or_trap(hostcalls::get_buffer(BufferType::PluginConfiguration, 0, size));
        match Plugin::new(&policy.unwrap_or_default()) {
            Ok(plugin) => {
                self.plugin = Some(Rc::new(RefCell::new(plugin)));
                true
            }
            Err(error) => {
                or_trap(hostcalls::log(LogLevel::Error, &format!("routing-claims: the policy is not valid: {error}")));
                false
            }
        }
    }

    /// The SDK traps on `None`, so that no request runs without a policy.
    fn create_http_context(&self, _context: u32) -> Option<Box<dyn HttpContext>> {
        let plugin = Rc::clone(self.plugin.as_ref()?);
        Some(Box::new(RequestContext { plugin }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Context for RequestContext {}

impl HttpContext for RequestContext {
    fn on_http_request_headers(&mut self, line_count: usize, _end_of_stream: bool) -> Action {
        self.plugin.borrow_mut().handle_request(line_count);
        Action::Continue
    }
}

impl Plugin {
    fn new(policy: &[u8]) -> Result<Self, PolicyError> {
        let policy = Policy::from_json(policy)?;
        Ok(Self {
            decider: Decider::new(policy),
            outcomes: Outcome::ALL.iter().map(|outcome| define_counter(outcome.code())).collect(),
            faults: ClaimFault::ALL.iter().map(|fault| define_counter(fault.code())).collect(),
            carry_faults: CarryFault::ALL.iter().map(|fault| define_counter(fault.code())).collect(),
        })
    }

    /// Strips and sets headers of the current request, which has `line_count` header lines.
    fn handle_request(&mut self, line_count: usize) {
        // One call for all lines. As bytes: the SDK's functions that return text panic on a value that is not UTF-8.
        let headers = or_trap(hostcalls::get_map_bytes(MapType::HttpRequestHeaders));
        assert!(headers.len() == line_count, "the host announced another number of header lines");

        let lines = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_slice()));
        let decision = self.decider.decide(lines, unix_seconds());
        let names = headers.iter().map(|(name, _)| name.as_str());
        decision.steps(names).for_each(|step| match step {
            Step::Remove(name) => or_trap(hostcalls::remove_map_value(MapType::HttpRequestHeaders, name)),
            Step::Set(name, value) => {
                or_trap(hostcalls::set_map_value_bytes(MapType::HttpRequestHeaders, name, Some(value)));
            }
            // Under ABI 0.2.1, Envoy does so itself when a request header changes.
            Step::ClearRouteCache => (),
            Step::CountOutcome(outcome) => count(&self.outcomes, outcome.index(), 1),
            Step::CountFault(fault, times) => count(&self.faults, fault.index(), times),
            Step::CountCarryFault(fault) => count(&self.carry_faults, fault.index(), 1),
        });
    }
}

fn define_counter(code: &str) -> u32 {
    or_trap(hostcalls::define_metric(MetricType::Counter, &format!("routing_claims.{}", code.replace('-', "_"))))
}

/// The request is already stripped, so a counter that the host does not find is not a reason to fail it.
fn count(counters: &[u32], index: usize, times: u32) {
    hostcalls::increment_metric(counters[index], times.into()).ok();
}

/// The time in seconds since the Unix epoch.
#[expect(clippy::expect_used, reason = "the host tells the time as unsigned nanoseconds since the epoch")]
fn unix_seconds() -> i64 {
    let now = or_trap(hostcalls::get_current_time());
    let since = now.duration_since(SystemTime::UNIX_EPOCH).expect("not before the epoch");
    since.as_secs().cast_signed()
}

/// The value that the host returned. Traps if the host refused the call.
#[track_caller]
#[expect(clippy::panic, reason = "a trap is the one answer that never lets a request pass as it came")]
fn or_trap<T>(result: Result<T, Status>) -> T {
    result.unwrap_or_else(|status| panic!("the host refused a call: {status:?}"))
}

/// Logs the location of a trap, but not its reason: the message of a panic can contain bytes of the request (R17).
fn log_trap(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    // The trap follows even if the host does not log it.
    hostcalls::log(LogLevel::Critical, &format!("routing-claims: trap at {location}")).ok();
}
