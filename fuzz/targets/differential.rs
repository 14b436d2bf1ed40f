//! The Lua script does what the core does, on requests made of the input: a policy of the first bytes, each request of some more.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lua_filter::differential::{Tally, compare};

fuzz_target!(|input: &[u8]| {
    let (policy, requests) = input.split_at(input.len().min(POLICY_BYTES));
    if let Err(difference) = compare(policy, requests.chunks(REQUEST_BYTES), &mut Tally::new()) {
        panic!("{difference}");
    }
});

const POLICY_BYTES: usize = 60;
const REQUEST_BYTES: usize = 200;
