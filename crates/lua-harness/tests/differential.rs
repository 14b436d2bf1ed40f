//! The script and the core agree on random policies, tokens and requests: on the headers that they remove, set and report,
//! and on whether the route cache is cleared.
//!
//! `ROUTING_CLAIMS_DIFFERENTIAL_CASES=1000000 cargo test --release -p lua-harness --test differential` runs that many
//! requests instead of a few thousand; `cargo xtask fuzz differential` searches for a difference.

use std::{cell::RefCell, env};

use lua_harness::differential::{Pair, Tally};
use proptest::{
    prelude::{ProptestConfig, any},
    test_runner::{TestCaseError, TestRunner},
};
use routing_claims::Outcome;

#[test]
fn script_agrees_with_the_core() {
    let requests = env::var("ROUTING_CLAIMS_DIFFERENTIAL_CASES").map_or(8_000, |count| count.parse().unwrap());
    let config = ProptestConfig {
        cases: u32::div_ceil(requests, u32::try_from(REQUESTS).unwrap()),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let tally = RefCell::new(Tally::new());
    let bytes = |length| proptest::collection::vec(any::<u8>(), 0..length);
    let requests = proptest::collection::vec(bytes(500), REQUESTS);
    let result = TestRunner::new(config).run(&(bytes(80), requests), |(policy, requests)| {
        let requests = requests.iter().map(Vec::as_slice);
        let result = Pair::new(&policy).and_then(|mut pair| pair.compare(requests, &mut tally.borrow_mut()));
        result.map_err(|error| TestCaseError::fail(error.to_string()))
    });
    println!("{:#?}", tally.borrow());
    let outcomes = Outcome::ALL.iter().filter_map(|outcome| tally.borrow().get(outcome.code()).copied());
    println!("{} requests", outcomes.sum::<u64>());
    result.unwrap();
}

/// How many requests go to one policy, as loading the script takes longer than running it.
const REQUESTS: usize = 16;
