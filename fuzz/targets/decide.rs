//! Any policy, any header lines, any payload: deciding does not panic, no managed header of the client survives (R1), what is
//! set is valid and within the limits, and a decision from the cache equals one without it (R16).
//!
//! The first line of an input is the policy as JSON. Header lines, an empty line, and a payload follow. `@` in a header's value
//! is replaced by the token with that payload.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_mutator, fuzz_target, fuzzer_mutate};
use routing_claims::{ClaimFault, Decider, Decision, Outcome, Policy, PolicyConfig};
use routing_claims_fuzz::{Lines, line, request, token, with_token};

fuzz_target!(|input: &[u8]| -> Corpus {
    let (policy, rest) = line(input);
    let Ok(policy) = Policy::from_json(policy) else { return Corpus::Reject };
    let (lines, payload) = request(rest);
    let token = token(policy.config(), payload);
    let mut decider = Decider::new(policy);
    check_in_turn(&mut decider, &with_token(&lines, &token));
    // A token that differs in one byte can share a bucket of the cache.
    let mut other = token.clone();
    if let Some(byte) = other.get_mut(token.len() / 2) {
        *byte ^= 1;
    }
    check_in_turn(&mut decider, &with_token(&lines, &other));
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

/// Decides at several times, the last of which equals the first, and compares with a decider that has an empty cache.
fn check_in_turn(decider: &mut Decider, lines: &Lines) {
    let first = decide(decider, lines, NOW);
    for now in [NOW + 120, NOW - 120] {
        let seen = decide(decider, lines, now);
        if is_timeless(first.outcome) {
            assert_eq!(seen, first, "at another time");
        } else {
            assert_eq!(
                seen,
                decide(&mut Decider::new(decider.policy().clone()), lines, now),
                "from the cache at {now}"
            );
        }
    }
    assert_eq!(decide(decider, lines, NOW), first, "at the first time again");
}

#[derive(Debug, PartialEq)]
struct Seen {
    outcome: Outcome,
    faults: Vec<(ClaimFault, u32)>,
    set: Vec<(String, String)>,
}

fn decide(decider: &mut Decider, lines: &Lines, now: i64) -> Seen {
    let policy = decider.policy().clone();
    let decision = decider.decide(lines.iter().map(|(name, value)| (&**name, &**value)), now);
    check(policy.config(), lines, &decision);
    let set = decision.set_headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Seen { outcome: decision.outcome(), faults: decision.faults().collect(), set }
}

/// Whether the clock cannot change the outcome (R9).
fn is_timeless(outcome: Outcome) -> bool {
    use Outcome::{AmbiguousToken, DuplicateKey, MalformedPayload, MalformedToken, NoToken, TokenTooLarge, TooDeep};
    matches!(
        outcome,
        NoToken | AmbiguousToken | TokenTooLarge | MalformedToken | MalformedPayload | TooDeep | DuplicateKey
    )
}

/// Checks what must be true of any decision, from the configuration alone.
fn check(config: &PolicyConfig, lines: &Lines, decision: &Decision) {
    let mut any = false;
    for (name, _) in lines {
        assert_eq!(decision.removes(name), is_managed(config, name), "R1: {}", name.escape_ascii());
        any |= decision.removes(name);
    }
    assert_eq!(decision.removes_any(), any, "R1");

    let mut routes: Vec<(&str, &str)> = decision.set_headers().collect();
    assert_eq!(decision.changes_request(), any || !routes.is_empty(), "R15");
    assert!(routes.iter().all(|(name, _)| is_managed(config, name.as_bytes())), "R1: {routes:?}");
    let report = config.report_header.as_ref().map(|header| {
        let (name, report) = routes.pop().expect("a report");
        assert_eq!(name, header, "R18");
        report
    });
    assert!(routes.is_sorted_by(|(a, _), (b, _)| a < b), "R18: {routes:?}");
    for (name, version) in &routes {
        assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase()), "{name}");
        assert!(is_version(version), "R12: {version}");
    }
    let count = u32::try_from(routes.len()).expect("a small count");
    assert!(count <= config.limits.max_routes, "R13");
    assert_eq!(decision.outcome() == Outcome::Applied, count > 0, "R14");
    let faults = decision.faults().next().is_some();
    assert!(!faults || matches!(decision.outcome(), Outcome::Applied | Outcome::NoRoutes), "R13");
    if let Some(report) = report {
        check_report(report, decision.outcome(), &routes);
    }
}

/// Checks R18, and that the report contains no other text of the client.
fn check_report(report: &str, outcome: Outcome, routes: &[(&str, &str)]) {
    assert!(report.len() <= 4096, "{} bytes", report.len());
    let mut words = report.split(' ');
    assert_eq!(words.next(), Some(outcome.code()));
    let (mut set, mut cut) = (routes.iter(), false);
    for word in words {
        assert!(!cut, "a word after the end: {report}");
        if let Some((name, version)) = word.split_once('=') {
            assert_eq!(set.next(), Some(&(name, version)), "{report}");
        } else if let Some((_, fault)) = word.split_once('!') {
            assert!(ClaimFault::ALL.iter().any(|known| known.code() == fault), "{report}");
        } else {
            assert_eq!(word, "...", "{report}");
            cut = true;
        }
    }
    assert!(cut || set.next().is_none(), "{report} does not tell {set:?}");
}

fn is_managed(config: &PolicyConfig, header: &[u8]) -> bool {
    let services = config.services.iter().flatten().filter_map(|service| service.header.as_deref());
    let mut names = services.chain(config.report_header.as_deref());
    let prefix = config.header_prefix.as_deref().unwrap_or("\n");
    let start = header.get(..prefix.len());
    names.any(|name| name.as_bytes().eq_ignore_ascii_case(header))
        || start.is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
}

/// R12.
fn is_version(text: &str) -> bool {
    let ends = text.as_bytes().first().zip(text.as_bytes().last());
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && ends.is_some_and(|(first, last)| first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric())
}

/// The time that `exp` and `nbf` of the seeds refer to.
const NOW: i64 = 1_800_000_000;
