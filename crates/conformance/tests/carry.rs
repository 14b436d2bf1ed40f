//! What one hop carries, the next hop reads (R19): on the core, from one decision to the next.

#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should panic")]

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use proptest::{collection::vec, option, prelude::*, sample::select};
use routing_claims::{Decider, Outcome, Policy};
use serde_json::{Value, json};

/// Header lines, names in lower case.
type Lines = Vec<(String, Vec<u8>)>;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever the token, the policy and the other members of `baggage`: the routing headers of the next hop are those of the first,
    /// at any time, and the carrier arrives there unchanged. If nothing was carried, the next hop goes to the baseline.
    #[test]
    fn the_next_hop_reads_what_was_carried(
        policy in policy(),
        claims in vec(("[a-cA-C\u{e9}\"\\\\]{1,2}", version()), 0..5),
        exp in option::of(-3_i64..400),
        fraction in select(vec!["", ".5", "e0"]),
        others in vec(select(vec!["a=1", " b = 2;p", "", "c", "caf\u{e9}=1"]), 0..4),
    ) {
        let mut members: Vec<String> = claims.into_iter().map(|(key, version)| format!("{}:{version}", json!(key))).collect();
        let path: Vec<&str> = policy["claimPath"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for segment in path.iter().rev() {
            members = vec![format!("{}:{{{}}}", json!(segment), members.join(","))];
        }
        members.extend(exp.map(|exp| format!("\"exp\":{}{fraction}", NOW + exp)));
        let token = format!("Bearer e30.{}.", BASE64_URL_SAFE_NO_PAD.encode(format!("{{{}}}", members.join(","))));
        let request = vec![("authorization".into(), token.into_bytes()), ("baggage".into(), others.join(",").into_bytes())];

        let carrier = policy["carry"]["header"].as_str().unwrap_or("baggage");
        let hop = || Decider::new(Policy::from_json(policy.to_string().as_bytes()).unwrap());
        let (first, outcome, fault) = pass(&mut hop(), &request, NOW);
        // The service behind the first hop forwards the carrier alone.
        let forwarded: Lines = first.iter().filter(|(name, _)| name == carrier).cloned().collect();
        for (later, in_time) in [(0, true), (300, exp.is_none_or(|exp| exp > 240)), (1000, exp.is_none())] {
            let (second, next, _) = pass(&mut hop(), &forwarded, NOW + later);
            prop_assert_eq!(value(&second, carrier), value(&forwarded, carrier));
            if outcome == Outcome::Applied && fault.is_none() {
                prop_assert_eq!(next, if in_time { Outcome::Applied } else { Outcome::Expired });
                let expected = if in_time { routes(&first, carrier) } else { Vec::new() };
                prop_assert_eq!(routes(&second, carrier), expected);
            } else {
                prop_assert_eq!((next, routes(&second, carrier)), (Outcome::NoToken, Vec::new()));
            }
        }
    }
}

/// A policy for all hops.
fn policy() -> impl Strategy<Value = Value> {
    let carrier = prop_oneof![
        Just(json!({"fromBaggage": ["qa"], "carry": {"baggage": "qa"}})),
        Just(json!({
            "fromHeaders": [{"name": "authorization", "prefix": "Bearer "}, {"name": "x-qa-routes"}],
            "carry": {"header": "x-qa-routes"},
        })),
    ];
    let names = json!([{"name": "A"}, {"name": "b", "header": "z"}, {"name": "c\u{e9}", "header": "x"}, {"name": "\"\\", "header": "y"}]);
    let mode = prop_oneof![
        Just(json!({"services": names})),
        Just(json!({"services": names, "claimPath": ["\u{1}r\"", "s"], "format": "jwt"})),
        Just(json!({"headerPrefix": "x-route-", "claimPath": ["https://example.com/r"]})),
    ];
    let limits = prop_oneof![Just(6144), Just(64), Just(80)];
    (carrier, mode, limits).prop_map(|(mut policy, mode, max_payload_bytes)| {
        let members = policy.as_object_mut().unwrap();
        members.extend(mode.as_object().unwrap().clone());
        members.insert("limits".into(), json!({"maxPayloadBytes": max_payload_bytes}));
        policy
    })
}

/// The JSON of a version, mostly valid.
fn version() -> impl Strategy<Value = String> {
    prop_oneof!["\"[a-z0-9]{1,8}\"", "[1-9][0-9]{0,30}", Just("null".into()), Just("\"a b\"".into())]
}

/// What arrives behind a hop.
fn pass(decider: &mut Decider, request: &Lines, now: i64) -> (Lines, Outcome, Option<routing_claims::CarryFault>) {
    let decision = decider.decide(request.iter().map(|(name, value)| (name.as_bytes(), value.as_slice())), now);
    let kept = request.iter().filter(|(name, _)| !decision.removes(name.as_bytes())).cloned();
    let set = decision.set_headers().map(|(name, value)| (name.to_owned(), value.to_owned()));
    (kept.chain(set).collect(), decision.outcome(), decision.carry_fault())
}

/// The routing headers: all but the request's own and the carrier.
fn routes(lines: &Lines, carrier: &str) -> Lines {
    lines.iter().filter(|(name, _)| ![carrier, "authorization", "baggage"].contains(&name.as_str())).cloned().collect()
}

fn value<'l>(lines: &'l Lines, name: &str) -> Vec<&'l [u8]> {
    lines.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_slice()).collect()
}

const NOW: i64 = 1_800_000_000;
