//! The native module on a host in this process: one that is sound, whose result is compared with the core's, and one that
//! misbehaves. A filter that cannot strip traps.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that meets the unexpected should panic")]

mod host;

use hostile::{
    attack::unix_seconds,
    generate::{self, Protocol},
    target::Target,
};
use testbed::Headers;

use crate::host::{Configuration, Fault, Request, Status, WORKERS};

#[test]
fn the_module_names_its_abi() {
    assert_eq!(host::load(), "v0.1.0");
}

#[test]
fn a_sound_host_gets_its_request_stripped() {
    let (request, status) = configured().request(&forged(), 0, None);
    assert_handled(&request, status);
    assert_eq!(request.calls, CALLS);
    let counted = ["routing_claims.applied", "routing_claims.invalid_value"].map(|name| (name.to_owned(), 1));
    assert_eq!(request.counted, counted);
}

/// R15: the route cache is cleared only when something changes.
#[test]
fn a_request_that_does_not_change_keeps_its_route() {
    let (request, status) = configured().request(&vec![(b":path".into(), b"/".into())], 0, None);
    assert_eq!(status, Status::Continue);
    assert_eq!(request.calls, ["worker", "size", "headers", "increment"]);
}

/// The host overwrites the header lines when the first header changes, as Envoy may.
#[test]
fn no_header_line_is_used_after_a_change() {
    let mut lines = forged();
    lines.extend((0..50).map(|_| (b"Microservice-B".to_vec(), b"FORGED".to_vec())));
    let (request, status) = configured().request(&lines, 0, None);
    assert_handled(&request, status);
}

#[test]
fn a_call_that_is_refused_traps() {
    for (number, call) in CALLS.iter().enumerate().filter(|(_, call)| **call != "clear") {
        let configured = configured();
        let (request, status) = configured.request(&forged(), 0, Some((number, Fault::Refuses)));
        if *call == "increment" {
            assert_handled(&request, status);
        } else {
            assert_trapped(&request, status, &format!("call {number} ({call})"));
        }
        // The next request is handled.
        let (request, status) = configured.request(&forged(), 0, None);
        assert_handled(&request, status);
    }
}

#[test]
fn a_worker_that_is_not_known_traps() {
    let (request, status) = configured().request(&forged(), WORKERS, None);
    assert_trapped(&request, status, "an index that is too great");
}

#[test]
fn a_host_that_calls_back_during_a_call_gets_a_trap_and_its_request_is_stripped() {
    // The calls while the decider is in use.
    for number in 1..CALLS.len() {
        let (request, status) = configured().request(&forged(), 0, Some((number, Fault::CallsBack)));
        assert_handled(&request, status);
    }
}

#[test]
fn workers_share_a_configuration() {
    let configured = &configured();
    std::thread::scope(|threads| {
        for worker in 0..WORKERS {
            threads.spawn(move || {
                for _ in 0..2000 {
                    let (request, status) = configured.request(&forged(), worker, None);
                    assert_handled(&request, status);
                }
            });
        }
    });
}

#[test]
fn a_bad_policy_is_refused_with_the_reason() {
    assert!(Configuration::new(br#"{"services": [{"name": "a", "header": "host"}]}"#, usize::MAX).is_none());
    let [line] = &host::take_log()[..] else { panic!("expected one line") };
    assert!(line.starts_with("routing-claims: the policy is not valid: "), "{line}");
    assert!(line.contains("services[0].header: expected a header that a policy may manage, found `host`"), "{line}");
}

#[test]
fn a_configuration_without_a_counter_is_refused() {
    for defines in [0, 1, 16] {
        assert!(Configuration::new(POLICY.as_bytes(), defines).is_none(), "{defines}");
    }
    assert!(Configuration::new(POLICY.as_bytes(), 17).is_some());
}

/// The hostile client's requests, under each of its policies.
#[test]
fn the_module_applies_what_the_core_decides() {
    for target in Target::all().unwrap() {
        let configured = Configuration::new(target.config.to_string().as_bytes(), usize::MAX).unwrap();
        let mut decider = target.decider();
        let mut applied = 0;
        for index in 0..REQUESTS {
            let lines = generate::request(SEED, index, &target, Protocol::Http2, unix_seconds()).lines;
            // Without a line, no request reaches a filter.
            if lines.is_empty() {
                continue;
            }
            let (now, request) = loop {
                let now = unix_seconds();
                let (request, status) = configured.request(&lines, 1, None);
                assert_eq!(status, Status::Continue);
                if unix_seconds() == now {
                    break (now, request);
                }
            };
            let decision = decider.decide(lines.iter().map(|(name, value)| (&name[..], &value[..])), now);
            let mut expected: Headers = lines.iter().filter(|(name, _)| !decision.removes(name)).cloned().collect();
            expected.extend(decision.set_headers().map(|(name, value)| (name.into(), value.into())));
            assert_eq!(request.lines, expected, "{}: request {index} of seed {SEED}", target.name);
            let clears = request.calls.iter().filter(|call| **call == "clear").count();
            assert_eq!(clears, usize::from(decision.changes_request()), "{}: request {index}", target.name);
            let code = decision.outcome().code().replace('-', "_");
            assert_eq!(request.counted[0], (format!("routing_claims.{code}"), 1));
            applied += u64::from(code == "applied");
        }
        assert!(applied > REQUESTS / 20, "{}: {applied} requests were routed", target.name);
    }
}

fn configured() -> Configuration {
    Configuration::new(POLICY.as_bytes(), usize::MAX).unwrap()
}

/// Checks that no forged header is left, and that the token's version is set.
fn assert_handled(request: &Request, status: Status) {
    assert_eq!((status, request.answer), (Status::Continue, None));
    assert_eq!(request.values("microservice-a"), [b"PR-1"]);
    assert!(request.values("microservice-b").is_empty());
    assert_eq!(request.values(":path"), [b"/"]);
}

fn assert_trapped(request: &Request, status: Status, what: &str) {
    assert_eq!((status, request.answer), (Status::Stop, Some(500)), "{what}");
    assert_eq!(request.counted, [("routing_claims.traps".to_owned(), 1)], "{what}");
}

/// The token's payload is `{"microservice-A":"PR-1","microservice-C":true}`.
fn forged() -> Headers {
    let token = "Bearer eyJhbGciOiJub25lIn0.eyJtaWNyb3NlcnZpY2UtQSI6IlBSLTEiLCJtaWNyb3NlcnZpY2UtQyI6dHJ1ZX0.c2ln";
    [
        (":path", "/"),
        ("x-empty", ""),
        ("microservice-a", "FORGED"),
        ("Microservice-B", "FORGED"),
        ("authorization", token),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .to_vec()
}

const POLICY: &str =
    r#"{"services": [{"name": "microservice-A"}, {"name": "microservice-B"}, {"name": "microservice-C"}]}"#;

/// The calls that the module makes for the request, in order.
const CALLS: [&str; 9] = ["worker", "size", "headers", "remove", "remove", "set", "clear", "increment", "increment"];

const REQUESTS: u64 = 3000;
const SEED: u64 = 1;
