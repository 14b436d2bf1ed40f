//! The filter for proxies that run WebAssembly (Envoy, Istio's `WasmPlugin` and `TrafficExtension`).
//!
//! It decides nothing: it hands a request's headers to `routing-claims` and applies the decision. Its configuration is
//! the policy as JSON; a policy that is not valid is refused, and the log says why. For each outcome and claim fault it
//! counts in `routing_claims.<code>`, with `_` for `-`.
//!
//! A filter that cannot strip traps: the request fails, and does not go on as it came. The SDK panics, which is the trap,
//! on each status of the host that it does not expect; [`or_trap`] does on the rest. Only a counter may fail.
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
use routing_claims::{ClaimFault, Decider, InvalidPolicy, Outcome, Policy};

proxy_wasm::main! {{
    panic::set_hook(Box::new(log_trap));
    proxy_wasm::set_root_context(|_| Box::new(Root { plugin: None }));
}}

/// What outlives requests: one configuration of the filter, none until the proxy has given it.
struct Root {
    plugin: Option<Rc<RefCell<Plugin>>>,
}

/// A policy at work.
struct Plugin {
    decider: Decider,
    /// By [`Outcome`] and by [`ClaimFault`], as the proxy numbers its metrics.
    outcomes: Vec<u32>,
    faults: Vec<u32>,
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

    /// Without a policy there is no context, which the SDK takes for a reason to trap.
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
    fn on_http_request_headers(&mut self, lines: usize, _end_of_stream: bool) -> Action {
        self.plugin.borrow_mut().handle_request(lines);
        Action::Continue
    }
}

impl Plugin {
    fn new(policy: &[u8]) -> Result<Self, InvalidPolicy> {
        let policy = Policy::from_json(policy)?;
        Ok(Self {
            decider: Decider::new(policy),
            outcomes: Outcome::ALL.iter().map(|outcome| define_counter(outcome.code())).collect(),
            faults: ClaimFault::ALL.iter().map(|fault| define_counter(fault.code())).collect(),
        })
    }

    /// Strips and sets headers of the request at hand, which has so many header lines.
    fn handle_request(&mut self, lines: usize) {
        // One call for all lines, as bytes: the SDK's functions that give text panic on a value that is not UTF-8.
        let headers = or_trap(hostcalls::get_map_bytes(MapType::HttpRequestHeaders));
        assert!(headers.len() == lines, "the proxy hands over other headers than it announced");

        let lines = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_slice()));
        let decision = self.decider.decide(lines, unix_seconds());
        if decision.removes_any() {
            for (name, _) in headers.iter().filter(|(name, _)| decision.removes(name.as_bytes())) {
                or_trap(hostcalls::remove_map_value(MapType::HttpRequestHeaders, name));
            }
        }
        for (name, value) in decision.set_headers() {
            or_trap(hostcalls::set_map_value(MapType::HttpRequestHeaders, name, Some(value)));
        }
        count(&self.outcomes, decision.outcome().index(), 1);
        for (fault, times) in decision.faults() {
            count(&self.faults, fault.index(), times);
        }
    }
}

fn define_counter(code: &str) -> u32 {
    or_trap(hostcalls::define_metric(MetricType::Counter, &format!("routing_claims.{}", code.replace('-', "_"))))
}

/// A counter that the proxy does not find is no reason to fail a request that is stripped.
#[expect(clippy::indexing_slicing, reason = "there is a counter for each outcome and each fault")]
fn count(counters: &[u32], index: usize, times: u32) {
    hostcalls::increment_metric(counters[index], times.into()).ok();
}

/// The time in seconds since the Unix epoch.
fn unix_seconds() -> i64 {
    let now = or_trap(hostcalls::get_current_time());
    let since = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(since).unwrap_or(i64::MAX)
}

/// What the host gave, or a trap.
#[track_caller]
#[expect(clippy::panic, reason = "a trap is the one answer that never lets a request pass as it came")]
fn or_trap<T>(result: Result<T, Status>) -> T {
    result.unwrap_or_else(|status| panic!("the proxy refuses a call: {status:?}"))
}

/// Logs where the filter traps. A panic's message may repeat bytes of the request, so it is left out (R17).
fn log_trap(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    // The trap comes with or without its line in the log.
    hostcalls::log(LogLevel::Critical, &format!("routing-claims: trap at {place}")).ok();
}
