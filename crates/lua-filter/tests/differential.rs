//! The script and the core agree on random policies, tokens and requests: on what is stripped, set and reported, and on
//! whether the route is chosen anew.
//!
//! `ROUTING_CLAIMS_DIFFERENTIAL_CASES=1000000 cargo test --release -p lua-filter --test differential` runs so many
//! requests instead of a few thousand; `cargo xtask fuzz differential` searches for a difference.

use std::{cell::RefCell, env};

use lua_filter::differential::{Tally, compare};
use proptest::{
    prelude::{ProptestConfig, any},
    test_runner::{TestCaseError, TestRunner},
};

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
    let result = TestRunner::new(config).run(&(bytes(60), requests), |(policy, requests)| {
        compare(&policy, requests.iter().map(Vec::as_slice), &mut tally.borrow_mut()).map_err(TestCaseError::fail)
    });
    println!("{:#?}", tally.borrow());
    println!(
        "{} requests",
        tally.borrow().iter().filter(|(code, _)| !code.starts_with('!')).map(|(_, n)| n).sum::<u64>()
    );
    result.unwrap();
}

/// How many requests go to one policy, as loading the script takes longer than running it.
const REQUESTS: usize = 16;
