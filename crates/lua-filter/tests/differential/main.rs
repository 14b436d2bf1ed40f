//! The script and the core agree on random policies, tokens and requests: on what is stripped, set and reported, and on
//! whether the route is chosen anew.
//!
//! `ROUTING_CLAIMS_DIFFERENTIAL_CASES=1000000 cargo test --release -p lua-filter --test differential` runs so many
//! requests instead of a few thousand.

#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should panic")]

mod dice;
mod generate;

use std::{cell::RefCell, collections::BTreeMap, env};

use lua_filter::luajit::Filter;
use proptest::{
    prelude::{ProptestConfig, any},
    prop_assert_eq,
    test_runner::{TestCaseError, TestRunner},
};
use routing_claims::{Decider, Policy};

use self::{
    dice::Dice,
    generate::{Lines, policy, request, token},
};

#[test]
fn script_agrees_with_the_core() {
    let requests = env::var("ROUTING_CLAIMS_DIFFERENTIAL_CASES").map_or(8_000, |count| count.parse().unwrap());
    let config = ProptestConfig {
        cases: u32::div_ceil(requests, u32::try_from(REQUESTS).unwrap()),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let outcomes = RefCell::new(BTreeMap::<String, u64>::new());
    let bytes = |length| proptest::collection::vec(any::<u8>(), 0..length);
    let requests = proptest::collection::vec(bytes(500), REQUESTS);
    let result = TestRunner::new(config)
        .run(&(bytes(60), requests), |(policy, requests)| agree(&policy, &requests, &mut outcomes.borrow_mut()));
    println!("{:#?}", outcomes.borrow());
    println!(
        "{} requests",
        outcomes.borrow().iter().filter(|(code, _)| !code.starts_with('!')).map(|(_, n)| n).sum::<u64>()
    );
    result.unwrap();
}

/// How many requests go to one policy, as loading the script takes longer than running it.
const REQUESTS: usize = 16;

fn agree(policy_bytes: &[u8], requests: &[Vec<u8>], outcomes: &mut BTreeMap<String, u64>) -> Result<(), TestCaseError> {
    let mut dice = Dice::new(policy_bytes);
    let base = [1_700_000_000, 0, 59, -1000, 1 << 40][dice.roll(5)];
    let policy = Policy::new(policy(&mut dice)).unwrap();
    let config = policy.config().clone();
    let source = lua_filter::source(&policy);
    let filter = Filter::new(&source).unwrap();
    let mut decider = Decider::new(policy);
    let mut tokens = Vec::new();
    for bytes in requests {
        let mut dice = Dice::new(bytes);
        // The same tokens come again, at other times.
        let now = base + [0, 1, -1, 60, 400][dice.roll(5)];
        if tokens.is_empty() || !dice.once_in(3) {
            tokens.insert(0, token(&mut dice, &config, base));
        }
        let lines = request(&mut dice, &config, &tokens[..tokens.len().min(3)]);
        let slices = || lines.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));

        let decision = decider.decide(slices(), now);
        let kept = lines.iter().filter(|(name, _)| !decision.strips(name)).cloned();
        let set = decision.headers().map(|(name, value)| (name.into(), value.into()));
        let expected: Lines =
            kept.chain(set).map(|(name, value): (Vec<u8>, _)| (name.to_ascii_lowercase(), value)).collect();
        let changes = expected.len() != lines.len() || decision.headers().next().is_some();
        *outcomes.entry(decision.outcome().to_string()).or_default() += 1;
        for (fault, count) in decision.faults() {
            *outcomes.entry(format!("!{fault}")).or_default() += u64::from(count);
        }

        let answer = filter.decide(slices(), now).unwrap();
        let context = || format!("{config:#?}\nnow {now}\n{}", show(&lines));
        prop_assert_eq!(show(&answer.headers), show(&expected), "{}", context());
        prop_assert_eq!((answer.edited, answer.cleared), (changes, changes), "{}", context());
        prop_assert_eq!(&answer.logs, &Vec::<String>::new(), "{}", context());
    }
    Ok(())
}

fn show(lines: &Lines) -> String {
    let lines = lines.iter().map(|(name, value)| format!("{}: {}", name.escape_ascii(), value.escape_ascii()));
    lines.collect::<Vec<_>>().join("\n")
}
