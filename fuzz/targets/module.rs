//! Any policy, any header lines, any payload: the native module does to a request what the core decides, on a host that frees its
//! header lines at the first change. It never traps.
#![no_main]

#[allow(dead_code, reason = "the target needs only a part of the tests' host")]
#[path = "../../crates/hostile/tests/module/host.rs"]
mod host;

use std::time::SystemTime;

use host::{Configuration, Status};
use libfuzzer_sys::{Corpus, fuzz_mutator, fuzz_target, fuzzer_mutate};
use routing_claims::{Decider, Policy};
use routing_claims_fuzz::{Lines, line, request, token, with_token};

fuzz_target!(|input: &[u8]| -> Corpus {
    let (text, rest) = line(input);
    let policy = Policy::from_json(text);
    let configuration = Configuration::new(text, usize::MAX);
    host::take_log();
    assert_eq!(policy.is_ok(), configuration.is_some());
    let (Ok(policy), Some(configuration)) = (policy, configuration) else { return Corpus::Reject };
    let (lines, payload) = request(rest);
    let lines = with_token(&lines, &token(policy.config(), payload));
    // Every request has lines.
    if lines.is_empty() {
        return Corpus::Reject;
    }
    let mut decider = Decider::new(policy);
    for worker in [0, 0, 1] {
        check(&configuration, worker, &mut decider, &lines);
    }
    Corpus::Keep
});

// A mutated policy is seldom valid, so most mutations leave it unchanged.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let rest = if seed % 16 == 0 { 0 } else { size - line(&data[..size]).1.len() };
    if rest >= max_size {
        return fuzzer_mutate(data, size, max_size);
    }
    rest + fuzzer_mutate(&mut data[rest..], size - rest, max_size - rest)
});

fn check(configuration: &Configuration, worker: u32, decider: &mut Decider, lines: &Lines) {
    let (now, seen) = loop {
        let now = unix_seconds();
        let (seen, status) = configuration.request(lines, worker, None);
        assert_eq!((status, seen.answer), (Status::Continue, None));
        if unix_seconds() == now {
            break (now, seen);
        }
    };
    let decision = decider.decide(lines.iter().map(|(name, value)| (&**name, &**value)), now);
    let mut expected: Lines = lines.iter().filter(|(name, _)| !decision.removes(name)).cloned().collect();
    expected.extend(decision.set_headers().map(|(name, value)| (name.into(), value.into())));
    assert_eq!(seen.lines, expected);
    assert_eq!(seen.calls.contains(&"clear"), decision.changes_request());
    let counted = 1 + decision.faults().count() + usize::from(decision.carry_fault().is_some());
    assert_eq!(seen.counted.len(), counted);
}

fn unix_seconds() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().cast_signed()
}
