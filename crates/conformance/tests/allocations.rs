//! Deciding allocates nothing on the heap.

use std::hint::black_box;

use allocation_counter::measure;
use conformance::{Corpus, policies};
use routing_claims::{Decider, Decision, Policy};
use serde_json::Value;

#[test]
fn no_case_of_the_corpus_allocates() {
    const NOW: i64 = 1_800_000_000;
    let mut wrong = Vec::new();
    for case in Corpus::load().unwrap().cases {
        for policy in policies(&case) {
            let mut decider = Decider::new(Policy::from_json(Value::from(policy).to_string().as_bytes()).unwrap());
            let request = case.request(NOW).unwrap();
            let times = [0, 0].into_iter().chain(case.later.iter().map(|later| later.seconds));
            // The second decision can come from the cache.
            for (attempt, seconds) in (1..).zip(times) {
                let allocations = measure(|| {
                    let headers = request.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
                    let decision = decider.decide(headers, NOW + i64::from(seconds));
                    read(&decision, request.iter().map(|(name, _)| name.as_slice()));
                });
                if allocations.count_total > 0 {
                    wrong.push(format!("{}, time {attempt}: {} allocations", case.name, allocations.count_total));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn allocations_are_counted() {
    assert_eq!(measure(|| drop(black_box(Box::new(1)))).count_total, 1);
}

/// Reads everything that a decision contains.
fn read<'h>(decision: &Decision<'_>, names: impl Iterator<Item = &'h [u8]>) {
    black_box((decision.outcome().code(), decision.removes_any(), decision.changes_request()));
    for name in names {
        black_box(decision.removes(name));
    }
    for fault in decision.faults() {
        black_box(fault);
    }
    for header in decision.set_headers() {
        black_box(header);
    }
}
