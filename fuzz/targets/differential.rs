//! The Lua script decides like the core, on requests that are made from the input: the first bytes make a policy, and each
//! request takes some more.
#![no_main]

use std::{cell::RefCell, collections::HashMap};

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use lua_harness::differential::{Pair, Tally};

thread_local! {
    /// The loaded scripts, because loading one takes longer than running it many times.
    static PAIRS: RefCell<HashMap<Vec<u8>, Pair>> = RefCell::default();
}

fuzz_target!(|input: &[u8]| {
    let (policy, requests) = input.split_at(input.len().min(POLICY_BYTES));
    let new = || Pair::new(policy).unwrap_or_else(|error| panic!("{error}"));
    let compare = |pair: &mut Pair| pair.compare(requests.chunks(REQUEST_BYTES), &mut Tally::new());
    PAIRS.with_borrow_mut(|pairs| {
        if pairs.len() == MAX_PAIRS {
            pairs.clear();
        }
        if let Err(difference) = compare(pairs.entry(policy.to_vec()).or_insert_with(new)) {
            // A difference that appears only after earlier inputs is a fault of the cache.
            panic!("{difference}\nwithout earlier inputs: {:?}", compare(&mut new()));
        }
    });
});

// A mutated policy is a new script to load, so most mutations leave it unchanged.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let rest = if seed % 16 == 0 || size <= POLICY_BYTES { 0 } else { POLICY_BYTES };
    rest + fuzzer_mutate(&mut data[rest..], size - rest, max_size - rest)
});

const POLICY_BYTES: usize = 80;
const REQUEST_BYTES: usize = 240;
/// Each takes some 200 KB.
const MAX_PAIRS: usize = 2000;
