//! A filter that cannot strip traps: the module that ships, on a host that misbehaves.
//!
//! Envoy does none of this. No filter can detect a host that lies: a host that omits a header from a well-formed map, or that
//! claims to have removed a header and did not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that meets the unexpected should panic")]

mod vm;

use crate::vm::{Fault, Returns, Traps, Vm, serialize};

#[test]
fn a_sound_host_gets_its_request_stripped() {
    let mut vm = configured();
    assert_eq!(request(&mut vm), Returns(CONTINUE));
    assert_handled(&mut vm);
    assert_eq!(vm.host().calls, CALLS);
}

#[test]
fn a_call_that_is_refused_traps() {
    for (number, function) in CALLS.iter().enumerate() {
        for status in STATUSES {
            let mut vm = configured();
            let is_counter = *function == "proxy_increment_metric";
            let end = request_with(&mut vm, number, Fault::Refuses(status));
            if is_counter && [NOT_FOUND, BAD_ARGUMENT].contains(&status) {
                assert_eq!(end, Returns(CONTINUE), "{function}, status {status}");
                assert_handled(&mut vm);
            } else {
                assert_eq!(end, Traps, "call {number} ({function}), status {status}");
            }
        }
    }
}

#[test]
fn headers_that_are_not_handed_over_trap() {
    assert_eq!(request_with(&mut configured(), GET_HEADERS, Fault::GivesNothing), Traps);
}

#[test]
fn a_malformed_header_map_traps() {
    let map = serialize(&forged());
    let count = u32::try_from(forged().len()).unwrap();
    // Of the first line's name and value.
    let (name_length, value_length) = (4, 8);
    let with = |at: usize, number: u32| [&map[..at], &number.to_le_bytes(), &map[at + 4..]].concat();
    let mut malformed = vec![
        ("no bytes", Vec::new()),
        ("a count of none", with(0, 0)),
        ("a count of one too few", with(0, count - 1)),
        ("a count of one too many", with(0, count + 1)),
        ("a count whose table would end where it starts", with(0, 1 << 29)),
        ("the greatest count", with(0, u32::MAX)),
        ("a name beyond the end", with(name_length, u32::try_from(map.len()).unwrap())),
        ("a name that ends before it starts", with(name_length, u32::MAX)),
        ("a value beyond the end", with(value_length, u32::try_from(map.len()).unwrap())),
        ("a value that ends before it starts", with(value_length, u32::MAX)),
        ("a name that is not UTF-8", {
            let mut headers = forged();
            headers.push((b"x-\xff".to_vec(), b"1".to_vec()));
            serialize(&headers)
        }),
    ];
    // The last byte is a NUL that the filter does not read.
    malformed.extend((1..map.len() - 1).step_by(5).map(|end| ("cut short", map[..end].to_vec())));
    for (what, map) in malformed {
        let length = map.len();
        assert_eq!(request_with(&mut configured(), GET_HEADERS, Fault::Gives(map)), Traps, "{what}, {length} bytes");
    }
}

/// R17: no part of the request is logged.
#[test]
fn a_trap_logs_where_it_is_and_nothing_of_the_request() {
    let mut vm = configured();
    let map = serialize(&[(b"secret\xff".to_vec(), b"secret".to_vec())]);
    assert_eq!(request_with(&mut vm, GET_HEADERS, Fault::Gives(map)), Traps);
    let [log] = &vm.host().logs[..] else { panic!("expected one line, found {:?}", vm.host().logs) };
    let location = log.strip_prefix("routing-claims: trap at ").unwrap();
    assert!(location.contains("/src/hostcalls.rs:") && !location.contains(' '), "{location}");
}

#[test]
fn a_context_that_is_not_known_traps() {
    let mut vm = configured();
    assert_eq!(vm.call("proxy_on_request_headers", &[99, 0, 1]), Traps, "never created");

    let mut vm = configured();
    assert_eq!(request(&mut vm), Returns(CONTINUE));
    assert_eq!(vm.call("proxy_on_delete", &[REQUEST]), Returns(0));
    assert_eq!(vm.call("proxy_on_request_headers", &[REQUEST, 4, 1]), Traps, "deleted");

    let mut vm = configured();
    assert_eq!(vm.call("proxy_on_request_headers", &[ROOT, 4, 1]), Traps, "not of a request");

    let mut vm = configured();
    assert_eq!(vm.call("proxy_on_context_create", &[REQUEST, 99]), Traps, "of a configuration that is not known");
}

/// A configuration that fails handles no request.
#[test]
fn a_filter_without_a_policy_traps() {
    let mut vm = started(POLICY);
    assert_eq!(vm.call("proxy_on_context_create", &[REQUEST, ROOT]), Traps, "not configured");

    let mut vm = started("{}");
    assert_eq!(vm.call("proxy_on_configure", &[ROOT, 2]), Returns(REFUSE));
    assert_eq!(vm.host().calls, ["proxy_get_buffer_bytes", "proxy_log"]);
    assert_eq!(vm.call("proxy_on_context_create", &[REQUEST, ROOT]), Traps, "a bad policy");

    let mut vm = started(POLICY);
    vm.fail_at(0, Fault::GivesNothing);
    assert_eq!(configure(&mut vm), Returns(REFUSE));
    assert_eq!(vm.call("proxy_on_context_create", &[REQUEST, ROOT]), Traps, "no policy");

    // The policy, the first and the last counter.
    let calls = [0, 1, configured().host().calls.len() - 1];
    for (number, status) in calls.into_iter().flat_map(|number| STATUSES.map(|status| (number, status))) {
        let mut vm = started(POLICY);
        vm.fail_at(number, Fault::Refuses(status));
        if configure(&mut vm) == Returns(REFUSE) {
            assert_eq!((number, status), (0, NOT_FOUND), "only a policy that is not found is refused without a trap");
        }
        assert_eq!(vm.call("proxy_on_context_create", &[REQUEST, ROOT]), Traps, "call {number}, status {status}");
    }
}

/// A bad policy for a running filter leaves the old one in place.
#[test]
fn a_filter_keeps_its_policy_when_the_next_is_refused() {
    let mut vm = configured();
    vm.host().policy = "{}".into();
    assert_eq!(configure(&mut vm), Returns(REFUSE));
    assert_eq!(request_with(&mut vm, usize::MAX, Fault::GivesNothing), Returns(CONTINUE));
    assert_handled(&mut vm);
}

#[test]
fn a_host_that_calls_back_during_a_call_gets_a_trap() {
    for (function, arguments) in [
        ("proxy_on_request_headers", vec![REQUEST, 4, 1]),
        ("proxy_on_context_create", vec![REQUEST + 1, ROOT]),
        ("proxy_on_delete", vec![REQUEST]),
    ] {
        let calls_back = |ends_by_trap| Fault::CallsBack { function, arguments: arguments.clone(), ends_by_trap };
        assert_eq!(request_with(&mut configured(), GET_HEADERS, calls_back(true)), Traps, "{function}");

        let mut vm = configured();
        assert_eq!(request_with(&mut vm, GET_HEADERS, calls_back(false)), Returns(CONTINUE), "{function}");
        assert_handled(&mut vm);
    }
}

/// A VM in which the filter has its policy.
fn configured() -> Vm {
    let mut vm = started(POLICY);
    assert_eq!(configure(&mut vm), Returns(ACCEPT));
    vm
}

/// A VM in which the filter has a context, but no policy yet.
fn started(policy: &str) -> Vm {
    let mut vm = Vm::new(policy);
    assert_eq!(vm.call("_initialize", &[]), Returns(0));
    assert_eq!(vm.call("proxy_on_context_create", &[ROOT, 0]), Returns(0));
    assert_eq!(vm.call("proxy_on_vm_start", &[ROOT, 0]), Returns(ACCEPT));
    vm
}

fn configure(vm: &mut Vm) -> vm::End {
    let size = u32::try_from(vm.host().policy.len()).unwrap();
    vm.call("proxy_on_configure", &[ROOT, size])
}

/// Sends a request with forged headers, during which one call goes wrong.
fn request_with(vm: &mut Vm, call: usize, fault: Fault) -> vm::End {
    vm.fail_at(call, fault);
    request(vm)
}

fn request(vm: &mut Vm) -> vm::End {
    vm.host().headers = forged();
    vm.host().calls.clear();
    assert_eq!(vm.call("proxy_on_context_create", &[REQUEST, ROOT]), Returns(0));
    vm.call("proxy_on_request_headers", &[REQUEST, u32::try_from(forged().len()).unwrap(), 1])
}

/// Checks that no forged header is left, and that the token's version is set.
fn assert_handled(vm: &mut Vm) {
    assert_eq!(vm.host().values("microservice-a"), ["PR-1"]);
    assert_eq!(vm.host().values("microservice-b"), [""; 0]);
    assert_eq!(vm.host().values(":path"), ["/"]);
}

/// The token's payload is `{"microservice-A":"PR-1","microservice-C":true}`.
fn forged() -> Vec<(Vec<u8>, Vec<u8>)> {
    let token = "Bearer eyJhbGciOiJub25lIn0.eyJtaWNyb3NlcnZpY2UtQSI6IlBSLTEiLCJtaWNyb3NlcnZpY2UtQyI6dHJ1ZX0.c2ln";
    [(":path", "/"), ("microservice-a", "FORGED"), ("microservice-b", "FORGED"), ("authorization", token)]
        .map(|(name, value)| (name.into(), value.into()))
        .to_vec()
}

const POLICY: &str =
    r#"{"services": [{"name": "microservice-A"}, {"name": "microservice-B"}, {"name": "microservice-C"}]}"#;

/// The calls that the filter makes for the request, in order.
const CALLS: [&str; 7] = [
    "proxy_get_header_map_pairs",
    "proxy_get_current_time_nanoseconds",
    "proxy_remove_header_map_value",
    "proxy_remove_header_map_value",
    "proxy_replace_header_map_value",
    // The outcome, and a claim that is not a version.
    "proxy_increment_metric",
    "proxy_increment_metric",
];
const GET_HEADERS: usize = 0;

/// Every status of the ABI except `OK`, and numbers that are not a status.
const STATUSES: [u32; 15] = [NOT_FOUND, BAD_ARGUMENT, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 255, u32::MAX];
const NOT_FOUND: u32 = 1;
const BAD_ARGUMENT: u32 = 2;

const ROOT: u32 = 1;
const REQUEST: u32 = 2;
const ACCEPT: i32 = 1;
const REFUSE: i32 = 0;
const CONTINUE: i32 = 0;
