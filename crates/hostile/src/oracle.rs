//! Computes the expected result of a request with the core, from what arrived without the filter.
//!
//! The same request also goes through a listener without the filter. That shows what Envoy itself does to it (joining
//! lines, removing some, rejecting others), so that need not be modelled. The core decides on what arrived there, with an
//! empty cache. The managed headers are read from the text of the policy, so that a bug of the core cannot hide itself.

use std::ops::RangeInclusive;

use testbed::echo::Seen;

use crate::generate::path;
use crate::lane::Reply;
use crate::target::{FORGED, Target};

/// The judgement of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It has the expected result, with this outcome.
    Right(&'static str),
    /// Envoy rejects it in the same way with and without the filter.
    RefusedAlike,
    /// It does not have the expected result.
    Wrong(Vec<Violation>),
}

/// What is wrong with a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// It went to an upstream that the decided headers do not lead to.
    Route,
    /// A managed header of the client arrived.
    Forged,
    /// The managed headers that arrived differ from the decided ones, or one of them has several lines.
    Managed,
    /// Other headers differ from those without the filter.
    Others,
    /// Envoy's answer with the filter differs from its answer without.
    Status,
    /// The answer belongs to another request.
    Reply,
}

/// Judges a request by its answers without and with the filter. The filter decided during one of these seconds, under one
/// of these policies.
#[must_use]
pub fn judge(
    targets: &[&Target],
    index: u64,
    plain: &Reply,
    filtered: &Reply,
    seconds: RangeInclusive<i64>,
) -> Verdict {
    let (given, cluster, seen) = match (plain, filtered) {
        (Reply::Upstream { seen: given, .. }, Reply::Upstream { cluster, seen }) => (given, cluster.as_str(), seen),
        (plain, filtered) if plain == filtered => return Verdict::RefusedAlike,
        _ => return Verdict::Wrong(vec![Violation::Status]),
    };
    let mut nearest = Vec::new();
    for target in targets {
        for now in seconds.clone() {
            match judge_at(target, index, given, cluster, seen, now) {
                Ok(outcome) => return Verdict::Right(outcome),
                Err(violations) if nearest.is_empty() || violations.len() < nearest.len() => nearest = violations,
                Err(_) => {}
            }
        }
    }
    Verdict::Wrong(nearest)
}

fn judge_at(
    target: &Target,
    index: u64,
    given: &Seen,
    cluster: &str,
    seen: &Seen,
    now: i64,
) -> Result<&'static str, Vec<Violation>> {
    let mut oracle = target.decider();
    let lines = given.headers.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
    let decision = oracle.decide(lines, now);

    let decided: Vec<_> = decision.set_headers().collect();
    let mut set: Vec<_> = decided.iter().map(|(name, value)| (name.as_bytes(), *value)).collect();
    set.sort_by_key(|(name, _)| *name);
    // `baggage` is the client's too, unless the filter sets it.
    let ours = |line: &&(Vec<u8>, Vec<u8>)| target.manages(&line.0) || set.iter().any(|(name, _)| *name == line.0);
    // The order of headers with different names means nothing (RFC 9110 section 5.3).
    let mut got: Vec<_> =
        seen.headers.iter().filter(ours).map(|(name, value)| (name.as_slice(), value.as_slice())).collect();
    got.sort_by_key(|(name, _)| *name);
    let others = |seen: &Seen| seen.headers.iter().filter(|line| !ours(line)).cloned().collect::<Vec<_>>();
    let mut expected_others = others(given);
    expected_others.retain(|(name, _)| !decision.removes(name));

    let mut violations = Vec::new();
    let mut check = |holds: bool, violation: Violation| {
        if !holds {
            violations.push(violation);
        }
    };
    let of_client = |value: &[u8]| value.windows(FORGED.len()).any(|window| window == FORGED.as_bytes());
    check(!got.iter().any(|(name, value)| target.manages(name) && of_client(value)), Violation::Forged);
    let forbidden = target.forbidden_member();
    let forged = |(name, value): &(Vec<u8>, Vec<u8>)| {
        let member =
            |part: &[u8]| forbidden.as_ref().is_some_and(|start| part.trim_ascii().starts_with(start.as_bytes()));
        name == b"baggage" && value.split(|byte| *byte == b',').any(member)
    };
    check(!seen.headers.iter().any(forged), Violation::Forged);
    check(got == set, Violation::Managed);
    check(cluster == target.route(&decided), Violation::Route);
    check(others(seen) == expected_others, Violation::Others);
    check(seen.path == path(index) && given.path == path(index), Violation::Reply);
    if violations.is_empty() { Ok(decision.outcome().code()) } else { Err(violations) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn what_must_come_out_is_right() {
        assert_eq!(
            verdict("pr-1", &[("microservice-a", "PR-1"), ("x-routing-report", REPORT)]),
            Verdict::Right("applied")
        );
    }

    #[test]
    fn each_fault_is_seen() {
        let right = [("microservice-a", "PR-1"), ("x-routing-report", REPORT)];
        for (cluster, lines, violations) in [
            ("main", right.to_vec(), vec![Violation::Route]),
            (
                "pr-1",
                [&right[..], &[("microservice-b", "FORGED-1")]].concat(),
                vec![Violation::Forged, Violation::Managed],
            ),
            ("pr-1", [&right[..], &[("microservice-a", "PR-1")]].concat(), vec![Violation::Managed]),
            ("main", right[1..].to_vec(), vec![Violation::Managed, Violation::Route]),
            ("pr-1", [&right[..], &[("x-more", "1")]].concat(), vec![Violation::Others]),
        ] {
            // The expected route follows from the decision, not from what arrived.
            let violations: Vec<_> = violations
                .into_iter()
                .filter(|violation| *violation != Violation::Route || cluster != "pr-1")
                .collect();
            assert_eq!(verdict(cluster, &lines), Verdict::Wrong(violations), "{lines:?}");
        }
    }

    #[test]
    fn what_is_carried_is_judged() {
        const CHOICE: &str = "tenant=a,qa=eyJtaWNyb3NlcnZpY2UtQSI6IlBSLTEifQ";
        const FORGED_CHOICE: &str = "tenant=a,qa=FORGED-1";
        let targets = Target::all().unwrap();
        let target = targets.iter().find(|target| target.name == "carry").unwrap();
        let authorization =
            format!("Bearer {}", String::from_utf8(target.token(br#"{"microservice-A":"PR-1"}"#)).unwrap());
        let client = ("authorization", authorization.as_str());
        let given = Reply::Upstream { cluster: "main".into(), seen: seen(1, &[client, ("baggage", FORGED_CHOICE)]) };
        let (route, report) = (("microservice-a", "PR-1"), ("x-routing-report", REPORT));
        for (lines, verdict) in [
            ([client, route, report, ("baggage", CHOICE)].to_vec(), Verdict::Right("applied")),
            ([client, ("baggage", CHOICE), route, report].to_vec(), Verdict::Right("applied")),
            ([client, route, report].to_vec(), Verdict::Wrong(vec![Violation::Managed])),
            (
                [client, route, report, ("baggage", FORGED_CHOICE)].to_vec(),
                Verdict::Wrong(vec![Violation::Forged, Violation::Managed]),
            ),
        ] {
            let filtered = Reply::Upstream { cluster: "pr-1".into(), seen: seen(1, &lines) };
            assert_eq!(judge(&[target], 1, &given, &filtered, NOW..=NOW), verdict, "{lines:?}");
        }
    }

    #[test]
    fn an_answer_to_another_request_is_seen() {
        let target = &Target::all().unwrap()[0];
        let answer =
            |index| Reply::Upstream { cluster: "main".into(), seen: seen(index, &[("x-routing-report", "no-token")]) };
        let judged = |index| judge(&[target], 1, &answer(1), &answer(index), NOW..=NOW);
        assert_eq!(judged(1), Verdict::Right("no-token"));
        assert_eq!(judged(2), Verdict::Wrong(vec![Violation::Reply]));
    }

    #[test]
    fn refusals_count_only_when_they_are_of_our_doing() {
        let target = &Target::all().unwrap()[0];
        let passed = Reply::Upstream { cluster: "main".into(), seen: seen(1, &[("x-routing-report", "no-token")]) };
        let judged = |plain: &Reply, filtered: &Reply| judge(&[target], 1, plain, filtered, NOW..=NOW);
        assert_eq!(judged(&Reply::Refused(431), &Reply::Refused(431)), Verdict::RefusedAlike);
        assert_eq!(judged(&Reply::Broken, &Reply::Broken), Verdict::RefusedAlike);
        for (plain, filtered) in [
            (&passed, &Reply::Refused(503)),
            (&passed, &Reply::Broken),
            (&Reply::Refused(400), &passed),
            (&Reply::Refused(400), &Reply::Refused(503)),
        ] {
            assert_eq!(judged(plain, filtered), Verdict::Wrong(vec![Violation::Status]));
        }
    }

    #[test]
    fn a_token_about_to_expire_may_fare_either_way_but_only_then() {
        let target = &Target::all().unwrap()[0];
        let token = target.token(format!(r#"{{"exp":{NOW},"microservice-A":"PR-1"}}"#).as_bytes());
        let token = format!("Bearer {}", String::from_utf8(token).unwrap());
        let given = Reply::Upstream { cluster: "main".into(), seen: seen(1, &[("authorization", &token)]) };
        let arrived = [("authorization", token.as_str()), ("x-routing-report", "expired")];
        let expired = Reply::Upstream { cluster: "main".into(), seen: seen(1, &arrived) };
        for (seconds, right) in [(NOW - 2..=NOW - 1, false), (NOW - 1..=NOW, true), (NOW..=NOW, true)] {
            assert_eq!(judge(&[target], 1, &given, &expired, seconds) == Verdict::Right("expired"), right);
        }
    }

    fn verdict(cluster: &str, lines: &[(&str, &str)]) -> Verdict {
        let target = &Target::all().unwrap()[0];
        let token = String::from_utf8(target.token(br#"{"microservice-A":"PR-1"}"#)).unwrap();
        let authorization = format!("Bearer {token}");
        let client = [("authorization", authorization.as_str())];
        let given = Reply::Upstream {
            cluster: "main".into(),
            seen: seen(1, &[&client[..], &[("microservice-b", "FORGED-1")]].concat()),
        };
        let filtered = Reply::Upstream { cluster: cluster.into(), seen: seen(1, &[&client[..], lines].concat()) };
        judge(&[target], 1, &given, &filtered, NOW..=NOW)
    }

    fn seen(index: u64, lines: &[(&str, &str)]) -> Seen {
        let headers = lines.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect();
        Seen { method: "GET".into(), path: path(index), headers }
    }

    const REPORT: &str = "applied microservice-a=PR-1";
}
