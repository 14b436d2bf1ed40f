//! Any policy, any header lines, any payload: deciding does not panic, no managed header of the client survives (R1), what is
//! set is valid and within the limits, and a decision from the cache equals one without it (R16).
//!
//! The first line of an input is the policy as JSON. Header lines, an empty line, and a payload follow. `@` in a header's value
//! is replaced by the token with that payload.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_mutator, fuzz_target, fuzzer_mutate};
use routing_claims::{CarryFault, ClaimFault, Decider, Decision, Outcome, Policy, PolicyConfig};
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
    carry_fault: Option<CarryFault>,
    set: Vec<(String, Vec<u8>)>,
}

fn decide(decider: &mut Decider, lines: &Lines, now: i64) -> Seen {
    let policy = decider.policy().clone();
    let decision = decider.decide(lines.iter().map(|(name, value)| (&**name, &**value)), now);
    check(policy.config(), lines, now, &decision);
    let set = decision.set_headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let (outcome, carry_fault) = (decision.outcome(), decision.carry_fault());
    Seen { outcome, faults: decision.faults().collect(), carry_fault, set }
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
fn check(config: &PolicyConfig, lines: &Lines, now: i64, decision: &Decision) {
    let carrier = carrier(config);
    let mut any = false;
    for (name, _) in lines {
        let is_carrier = carrier.is_some_and(|carrier| carrier.as_bytes().eq_ignore_ascii_case(name));
        let removed = decision.removes(name);
        assert!(removed == is_managed(config, name) || is_carrier && removed, "R1: {}", name.escape_ascii());
        any |= removed;
    }
    assert_eq!(decision.removes_any(), any, "R1");

    let (carried, set): (Vec<_>, Vec<_>) = decision.set_headers().partition(|(name, _)| Some(*name) == carrier);
    assert_eq!(decision.changes_request(), any || !set.is_empty() || !carried.is_empty(), "R15");
    check_carrier(config, lines, now, decision, carried.first().map(|(_, value)| *value));
    let text = |value| std::str::from_utf8(value).expect("R12, R18: ASCII");
    let mut routes: Vec<(&str, &str)> = set.into_iter().map(|(name, value)| (name, text(value))).collect();
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
            let mut faults = ClaimFault::ALL
                .iter()
                .map(|fault| fault.code())
                .chain(CarryFault::ALL.iter().map(|fault| fault.code()));
            assert!(faults.any(|known| known == fault), "{report}");
        } else {
            assert_eq!(word, "...", "{report}");
            cut = true;
        }
    }
    assert!(cut || set.next().is_none(), "{report} does not tell {set:?}");
}

/// Checks R19: what is written is within the limits and readable, and no member of the carrier's key survives where it must not.
fn check_carrier(config: &PolicyConfig, lines: &Lines, now: i64, decision: &Decision, carried: Option<&[u8]>) {
    let Some(carry) = &config.carry else { return assert_eq!(carried, None) };
    let applied = decision.outcome() == Outcome::Applied;
    assert!(decision.carry_fault().is_none() || applied, "R19");
    let Some(value) = carried else { return };
    let Some(key) = &carry.baggage else {
        assert!(applied && value.len() <= 4096, "R19: {}", value.escape_ascii());
        return assert_eq!(next_hop(config, value, now), routes(decision, config), "R19");
    };
    assert!(value.len() <= 8192 && !value.is_empty(), "R19: {} bytes", value.len());
    let sent: Vec<_> = lines.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"baggage")).collect();
    for member in value.split(|byte| *byte == b',') {
        let own = member.strip_prefix(key.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
        match own {
            Some(choice) if applied && decision.carry_fault().is_none() => {
                assert!(member.len() <= 4096, "R19");
                assert_eq!(next_hop(config, choice, now), routes(decision, config), "R19");
            }
            Some(_) => panic!("R19: {} survives", member.escape_ascii()),
            // A member of others, byte for byte.
            None => assert!(
                sent.iter().any(|(_, line)| line.windows(member.len()).any(|part| part == member)),
                "R19: {}",
                member.escape_ascii()
            ),
        }
    }
}

/// The routing headers that a hop sets which finds this choice.
fn next_hop(config: &PolicyConfig, choice: &[u8], now: i64) -> Vec<(String, Vec<u8>)> {
    let next = PolicyConfig {
        from_headers: Vec::new(),
        from_cookies: Vec::new(),
        from_baggage: vec!["next".into()],
        ..config.clone()
    };
    let mut decider = Decider::new(Policy::new(PolicyConfig { carry: None, ..next }).expect("a valid policy"));
    let line = [b"next=", choice].concat();
    routes(&decider.decide([(&b"baggage"[..], &line[..])], now), config)
}

fn routes(decision: &Decision, config: &PolicyConfig) -> Vec<(String, Vec<u8>)> {
    let set = decision.set_headers().filter(|(name, _)| Some(*name) != config.report_header.as_deref());
    let set = set.filter(|(name, _)| Some(*name) != carrier(config));
    set.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The header that contains the carrier.
fn carrier(config: &PolicyConfig) -> Option<&str> {
    config.carry.as_ref().map(|carry| carry.header.as_deref().unwrap_or("baggage"))
}

fn is_managed(config: &PolicyConfig, header: &[u8]) -> bool {
    let services = config.services.iter().flatten().filter_map(|service| service.header.as_deref());
    let carrier = config.carry.as_ref().and_then(|carry| carry.header.as_deref());
    let carrier = carrier.filter(|carrier| config.from_headers.iter().all(|source| source.name != *carrier));
    let mut names = services.chain(config.report_header.as_deref()).chain(carrier);
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
