//! A clock that jumps back and forth across `exp` and `nbf`. Earlier decisions do not matter (R9, R16).
//!
//! A real Envoy uses the machine's clock; the corpus lets that clock pass `exp` and `nbf`. Jumps are tested on the core and
//! on the script in LuaJIT, where the test sets the time.

#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should panic")]

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use lua_harness::Script;
use routing_claims::{Decider, Policy};

#[test]
fn decisions_follow_a_clock_that_jumps() {
    let policy =
        Policy::from_json(br#"{"services": [{"name": "a"}], "reportHeader": "x-report", "clockSkewSeconds": 2}"#)
            .unwrap();
    let mut core = Decider::new(policy.clone());
    let script = Script::new(&lua_filter::source(&policy)).unwrap();
    let mut rng = fastrand::Rng::with_seed(8);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..20_000 {
        // Few tokens, so that each is cached, and few seconds, so that each jump crosses an `exp` or `nbf`.
        let (exp, nbf) = (START + rng.i64(-4..4), START + rng.i64(-4..4));
        let payload = match rng.u8(..3) {
            0 => format!(r#"{{"a":"PR-1","exp":{exp}}}"#),
            1 => format!(r#"{{"a":"PR-1","nbf":{nbf}}}"#),
            _ => format!(r#"{{"a":"PR-1","exp":{exp},"nbf":{nbf}}}"#),
        };
        let now = START + rng.i64(-10..10);
        let token = format!("Bearer e30.{}.s", BASE64_URL_SAFE_NO_PAD.encode(&payload));
        let request = [(&b"authorization"[..], token.as_bytes())];

        let report = |decider: &mut Decider| {
            let decision = decider.decide(request, now);
            decision.set_headers().find(|(name, _)| *name == "x-report").unwrap().1.escape_ascii().to_string()
        };
        let expected = report(&mut Decider::new(policy.clone()));
        assert_eq!(report(&mut core), expected, "core, {payload} at {now}");
        let answer = script.run(request, now).unwrap();
        let found = answer.headers.iter().find(|(name, _)| name == b"x-report").unwrap();
        assert_eq!(String::from_utf8_lossy(&found.1), expected, "script, {payload} at {now}");
        seen.insert(expected);
    }
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), ["applied a=PR-1", "expired", "not-yet-valid"]);
}

const START: i64 = 1_800_000_000;
