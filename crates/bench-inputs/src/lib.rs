//! The requests that are measured, each with its policy and the outcome it must have.
//!
//! `benches/core.rs` times them, `src/main.rs` has their instructions counted.

mod faults;
mod worst;

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use routing_claims::{Decider, Policy};
use serde_json::{Value, json};

pub use faults::faults;
pub use worst::{worst, worst_header_lines, worst_tokens};

/// The time of every decision, in Unix seconds.
pub const NOW: i64 = 1_800_000_000;

/// A request to decide on.
#[derive(Debug, Clone)]
pub struct Input {
    /// What it is, for tables.
    pub name: String,
    /// As JSON.
    pub policy: Value,
    /// Header lines; the token, if any, ends the last.
    pub lines: Vec<Line>,
    /// What the decision must say.
    pub outcome: &'static str,
}

/// Name and value of a header line.
pub type Line = (Vec<u8>, Vec<u8>);

impl Input {
    fn new(name: impl Into<String>, policy: Value, value: impl Into<Vec<u8>>, outcome: &'static str) -> Self {
        let lines = vec![(b"authorization".to_vec(), value.into())];
        Self { name: name.into(), policy, lines, outcome }
    }

    /// With a payload in a token whose signature is as long as RS256 makes it.
    fn with_payload(name: impl Into<String>, policy: Value, payload: &str, outcome: &'static str) -> Self {
        Self::new(name, policy, format!("Bearer {}", token(payload)), outcome)
    }

    /// Bytes of all header lines, names and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lines.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// A decider that has seen another token, so that nothing is done for the first time.
    ///
    /// # Errors
    ///
    /// When the policy is not valid, or the outcome is not what it must be.
    pub fn decider(&self) -> Result<Decider> {
        let policy = Policy::from_json(self.policy.to_string().as_bytes());
        let mut decider = Decider::new(policy.with_context(|| format!("policy of `{}`", self.name))?);
        let outcome = decide(&mut decider, &self.variant(0));
        ensure!(outcome == self.outcome, "`{}` is {outcome}, not {}", self.name, self.outcome);
        Ok(decider)
    }

    /// The same with another signature: to a cache another token.
    #[must_use]
    pub fn variant(&self, number: usize) -> Vec<Line> {
        let mut lines = self.lines.clone();
        if let (Some((_, value)), false) = (lines.last_mut(), self.outcome == "no-token") {
            let digits = format!("{number:08}");
            value.truncate(value.len() - digits.len());
            value.extend(digits.into_bytes());
        }
        lines
    }
}

/// Decides and reads the decision as a proxy does, and gives its outcome.
pub fn decide(decider: &mut Decider, lines: &[Line]) -> &'static str {
    let decision = decider.decide(lines.iter().map(|(name, value)| (name.as_slice(), value.as_slice())), NOW);
    if decision.removes_any() {
        for (name, _) in lines {
            std::hint::black_box(decision.removes(name));
        }
    }
    for header in decision.set_headers() {
        std::hint::black_box(header);
    }
    decision.outcome().code()
}

/// Tokens as they come: by number of services and of headers, and by size.
#[must_use]
pub fn typical() -> Vec<Input> {
    let with_services = |count| {
        let name = if count == 2 { "reference".to_owned() } else { format!("{count} services") };
        Input::with_payload(name, services(count), REFERENCE_PAYLOAD, "applied")
    };
    let with_headers = |count: usize| {
        let mut input = Input { name: format!("{count} headers"), ..with_services(2) };
        input.lines.splice(0..0, other_headers(count - 1));
        input
    };
    let with_payload = |kilobytes: usize| {
        Input::with_payload(format!("{kilobytes} KB payload"), services(2), &payload(kilobytes * 1024), "applied")
    };
    vec![
        with_services(2),
        with_services(20),
        with_services(100),
        with_headers(10),
        with_headers(80),
        with_payload(2),
        with_payload(8),
    ]
}

/// A policy that lists so many services, its limits as wide as they go.
fn services(count: usize) -> Value {
    json!({ "services": service_names(count), "limits": widest() })
}

fn service_names(count: usize) -> Vec<Value> {
    let letter = |number: usize| char::from(b'A' + u8::try_from(number % 26).unwrap_or_default());
    let name = |number| match number {
        0..26 => format!("microservice-{}", letter(number)),
        _ => format!("microservice-{}{}", letter(number / 26 - 1), letter(number)),
    };
    (0..count).map(|number| json!({ "name": name(number) })).collect()
}

fn widest() -> Value {
    json!({ "maxTokenBytes": 65536, "maxPayloadBytes": 49152, "maxDepth": 64, "maxRoutes": 64 })
}

/// RS256, so many bytes of payload in all.
fn token(payload: &str) -> String {
    let header = encoded(r#"{"alg":"RS256","typ":"JWT","kid":"k1"}"#);
    // 256 bytes of a multiplicative generator: no two characters alike but by chance.
    let bytes =
        std::iter::successors(Some(1_u32), |state| Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)));
    let signature: Vec<u8> = bytes.map(|state| state.to_be_bytes()[0]).skip(1).take(256).collect();
    format!("{header}.{}.{}", encoded(payload), encoded(signature))
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The reference payload with more claims of an identity provider, up to so many bytes.
fn payload(bytes: usize) -> String {
    let mut payload = REFERENCE_PAYLOAD.trim_end_matches('}').to_owned();
    let room = |payload: &str| bytes - payload.len() - r#","pad":""}"#.len();
    for number in 1_000.. {
        let claim = match number % 4 {
            0 => format!(r#","https://example.com/claims/{number}":"tester@example.com""#),
            1 => format!(r#","groups_{number}":["developers","qa/testers","oncall"]"#),
            2 => format!(r#","address_{number}":{{"country":"JP","postal_code":"100-0001","verified":true}}"#),
            _ => format!(r#","updated_at_{number}":{}"#, NOW - number),
        };
        if room(&payload) < claim.len() {
            break;
        }
        payload += &claim;
    }
    let pad = "x".repeat(room(&payload));
    payload + &format!(r#","pad":"{pad}"}}"#)
}

/// What a browser's request through a mesh carries besides its token.
fn other_headers(count: usize) -> Vec<Line> {
    let known = [
        (":authority", "shop.qa.example.com"),
        (":path", "/api/v1/orders/4711?expand=items,customer"),
        (":method", "GET"),
        (":scheme", "https"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        ("accept", "application/json"),
        ("accept-encoding", "gzip, deflate, br"),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "6e1c2b7e-4a37-9d1f-b6c8-0f2f7a0d9a51"),
    ];
    let named = known.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let more = (0..).map(|number| (format!("x-custom-header-{number}"), format!("value {number}")));
    let lines = named.into_iter().chain(more).take(count);
    lines.map(|(name, value)| (name.into_bytes(), value.into_bytes())).collect()
}

/// Eight claims, two of them routes; its token has 751 bytes.
const REFERENCE_PAYLOAD: &str = concat!(
    r#"{"iss":"https://login.qa.example.com/realms/store","sub":"auth0|66f1c0a94bd2e7001c8a55d0e1f2","aud":"https://api.qa.example.com/orders/v1","#,
    r#""iat":1799998200,"exp":1800001800,"scope":"openid profile email offline_access","#,
    r#""microservice-A":"PR-1","microservice-B":"PR-2"}"#
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_is_what_it_says() {
        assert_eq!((REFERENCE_PAYLOAD.len(), token(REFERENCE_PAYLOAD).len()), (267, 751));
        let claims: serde_json::Map<String, Value> = serde_json::from_str(REFERENCE_PAYLOAD).unwrap();
        assert_eq!(claims.len(), 8);
    }

    #[test]
    fn every_input_has_its_outcome_and_a_name_of_its_own() {
        let mut names = std::collections::BTreeSet::new();
        for input in typical().into_iter().chain(faults()).chain(worst(1)) {
            let mut decider = input.decider().unwrap();
            assert_eq!(decide(&mut decider, &input.lines), input.outcome, "{}", input.name);
            assert!(names.insert(input.name.clone()), "{} twice", input.name);
        }
    }

    #[test]
    fn payloads_have_their_size() {
        for bytes in [2048, 8192] {
            assert_eq!(payload(bytes).len(), bytes);
        }
    }
}
