//! Why a token has its outcome: the filter decides, and the diagnosis names the place and the numbers.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use routing_claims::{Decider, Policy};
use routing_plan::{diagnosis, token_source};

const POLICY: &str = r#"{"claimPath":["routing","qa"],"services":[{"name":"cart"}],"limits":{"maxTokenBytes":512,"maxPayloadBytes":256,"maxDepth":4,"maxRoutes":1}}"#;
const NOW: i64 = 1_000_000_000;

/// The outcome of these header lines, then its causes.
fn said(policy: &str, lines: &[(String, String)]) -> String {
    let policy = Policy::from_json(policy.as_bytes()).unwrap();
    let mut decider = Decider::new(policy.clone());
    let bytes = lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let outcome = decider.decide(bytes, NOW).outcome();
    let causes = diagnosis::causes(&policy, lines, outcome, NOW);
    std::iter::once(outcome.to_string()).chain(causes).collect::<Vec<_>>().join(" | ")
}

fn said_of_token(policy: &str, token: &str) -> String {
    let config = Policy::from_json(policy.as_bytes()).unwrap().config().clone();
    said(policy, &token_source::header_line(&config, token).into_iter().collect::<Vec<_>>())
}

fn said_of(payload: impl AsRef<[u8]>) -> String {
    said_of_token(POLICY, &format!("e30.{}.", URL_SAFE_NO_PAD.encode(payload)))
}

#[test]
fn a_payload_that_is_refused_has_its_cause() {
    let version = "expected a version (1 to 63 of `A-Z a-z 0-9 . _ -`, with a letter or digit at its ends)";
    let cart = |value: &str| format!(r#"{{"routing":{{"qa":{{"cart":{value}}}}}}}"#);
    for (payload, expected) in [
        (r#"{"routing":"x"}"#.to_owned(), "malformed-payload | `routing` is a string, expected an object".to_owned()),
        (
            r#"{"routing":{"qa":"{\"cart\":\"PR-1\"}"}}"#.into(),
            "malformed-payload | `routing`.`qa` is a string, expected an object (its text is JSON, but the policy reads only objects)".into(),
        ),
        (
            r#"{"exp":"1","nbf":null}"#.into(),
            "malformed-payload | `exp` is a string, expected a number | `nbf` is null, expected a number".into(),
        ),
        ("[1]".into(), "malformed-payload | the payload is a list, expected an object".into()),
        ("\u{feff}{}".into(), "malformed-payload | the payload begins with a byte order mark, which is not JSON".into()),
        (
            r#"{"a": 1,}"#.into(),
            "malformed-payload | the payload is not valid JSON: trailing comma at line 1 column 9".into(),
        ),
        (
            r#"{"a":[[["[",{}]]]}"#.into(),
            "too-deep | the bracket at column 13 of the payload is at depth 5, and `limits.maxDepth` is 4".into(),
        ),
        (r#"{"routing":{},"routing":{}}"#.into(), "duplicate-key | the payload has the key `routing` twice".into()),
        (
            r#"{"routing":{"qa":{"cart":"a","cart":"b"}}}"#.into(),
            "duplicate-key | `routing`.`qa` has the key `cart` twice".into(),
        ),
        (
            r#"{"exp":999999000.5}"#.into(),
            "expired | `exp` is 2001-09-09T01:30:00Z, now is 2001-09-09T01:46:40Z, and `clockSkewSeconds` is 60".into(),
        ),
        (
            r#"{"nbf":1000001000}"#.into(),
            "not-yet-valid | `nbf` is 2001-09-09T02:03:20Z, now is 2001-09-09T01:46:40Z, and `clockSkewSeconds` is 60".into(),
        ),
        ("{}".into(), "no-routes | the payload has no `routing`".into()),
        (r#"{"routing":{}}"#.into(), "no-routes | the payload has no `qa`".into()),
        (
            r#"{"routing":{"qa":{"other":"PR-1","b":1}}}"#.into(),
            "no-routes | none of the 2 keys of `routing`.`qa` names a service of the policy".into(),
        ),
        (cart("[]"), format!("no-routes | `cart` is a list, {version}")),
        (cart("1.5"), format!("no-routes | `cart` is a number with a sign or a fraction, {version}")),
        (cart(r#""a/b""#), format!("no-routes | `cart` has another character at position 2, {version}")),
        (cart(r#""a-""#), format!("no-routes | `cart` has another character at position 2, {version}")),
        (cart(r#""""#), format!("no-routes | `cart` is a string of 0 bytes, {version}")),
        (cart(r#""PR-1""#), "applied".into()),
    ] {
        assert_eq!(said_of(&payload), expected, "{payload}");
    }
    assert_eq!(said_of(b"{\"a\":\"\xeb\"}"), "malformed-payload | the payload is not UTF-8, at byte 7");
    assert_eq!(
        said_of(format!(r#"{{"a":"{}"}}"#, "x".repeat(250))),
        "token-too-large | the payload has 258 bytes, and `limits.maxPayloadBytes` is 256"
    );
}

#[test]
fn a_token_that_is_refused_has_its_cause() {
    for (token, expected) in [
        ("a.b", "malformed-token | a JWT has three parts separated by dots, and the token has 2"),
        ("a..b", "malformed-token | the payload of the token is empty"),
        ("a.e+0.b", "malformed-token | the payload is not base64url: unexpected character at column 4 of the token"),
        ("a.e.b", "malformed-token | the payload is not base64url: 1 characters can't be its length"),
    ] {
        assert_eq!(said_of_token(POLICY, token), expected);
    }
    let long = "x".repeat(600);
    assert_eq!(
        said_of_token(POLICY, &long),
        "token-too-large | the token has 600 bytes, and `limits.maxTokenBytes` is 512"
    );
    let payload = r#"{"format":"payload","services":[{"name":"cart"}]}"#;
    assert_eq!(
        said_of_token(payload, "e30.e30.x"),
        "malformed-token | the token is a whole JWT, and the policy has `format: payload`"
    );
}

#[test]
fn a_request_without_one_token_has_its_cause() {
    let line = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let policy = r#"{"fromHeaders":[{"name":"authorization","prefix":"Bearer "}],"fromCookies":["session"],"services":[{"name":"cart"}]}"#;
    for (lines, expected) in [
        (vec![], "no-token | the request has no header `authorization` | the request has no cookie `session`"),
        (
            vec![line("authorization", "Basic x"), line("cookie", "other=1; session")],
            "no-token | the header `authorization` does not start with `Bearer ` | the request has no cookie `session`",
        ),
        (
            vec![line("authorization", "Bearer e30.e30.x, bearer e30.e30.x")],
            "ambiguous-token | the header `authorization` has 2 tokens",
        ),
        (vec![line("cookie", "session=")], "malformed-token | the token is empty"),
        (vec![line("cookie", "session=a; session=b")], "ambiguous-token | the cookie `session` has 2 tokens"),
        (
            vec![line("cookie", "session=e30.e30.x")],
            "no-routes | none of the 0 keys of the payload names a service of the policy",
        ),
    ] {
        assert_eq!(said(policy, &lines), expected);
    }
    let policy = r#"{"fromHeaders":[{"name":"x-qa"}],"fromBaggage":["qa"],"carry":{"header":"x-qa"},"services":[{"name":"cart"}]}"#;
    for (lines, expected) in [
        (
            vec![line("baggage", "a=1;qa=2, QA=1")],
            "no-token | the request has no header `x-qa` | the request has no baggage key `qa`",
        ),
        (
            vec![line("baggage", "a=1, qa = 1"), line("baggage", "qa=;x")],
            "ambiguous-token | the baggage key `qa` has 2 tokens",
        ),
        (
            vec![line("baggage", "qa=e30%3D;x")],
            "malformed-token | the value is percent-encoded, which base64url does not need: a library may have encoded `=` or a `;property` into it",
        ),
        (
            vec![line("baggage", "qa=e30.e30")],
            "malformed-token | a JWT has three parts separated by dots, and the token has 2",
        ),
        (vec![line("x-qa", "e30")], "no-routes | none of the 0 keys of the payload names a service of the policy"),
        (
            vec![line("x-qa", "e3_")],
            "malformed-token | the payload is not base64url: unexpected character at column 3 of the token",
        ),
    ] {
        assert_eq!(said(policy, &lines), expected);
    }
}
