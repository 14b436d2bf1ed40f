//! Decides what to remove from a request, what to set, and why.

#[cfg(feature = "http")]
mod http;
mod owned;
mod propagated;
mod steps;

use std::fmt;

use memchr::memchr;
pub use owned::OwnedDecision;
pub use steps::Step;

use crate::{
    cache::{Bucket, Cache},
    claims::Claims,
    judgement::{Judgement, Reading},
    limits,
    outcome::{CarryFault, ClaimFault, Outcome},
    policy::Policy,
    propagator::{CarrierChange, Propagator},
    source::{self, Source},
    time::{Times, Validity},
    token,
};

/// Decides on requests under one [`Policy`]. It owns the memory that deciding needs, and the cache of decisions (R16).
///
/// Create one per worker thread: a decider allocates all of its memory, a few hundred kilobytes, when it is created. It
/// belongs to its policy, so a decision made under one policy is never used under another.
pub struct Decider {
    policy: Policy,
    payload: Box<[u8]>,
    claims: Claims,
    /// The headers to set, and then what is carried.
    lines: Vec<u8>,
    report: Vec<u8>,
    cache: Cache,
    propagator: Propagator,
}

/// What to do with a request: remove each header that [`removes`](Decision::removes) names, then set
/// [`set_headers`](Decision::set_headers).
pub struct Decision<'d> {
    policy: &'d Policy,
    managed: bool,
    judgement: Judgement,
    lines: &'d [u8],
    carrier: CarrierChange<'d>,
}

impl Decider {
    /// Creates a decider, and allocates all memory that decisions under this policy need.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        let limits = &policy.config().limits;
        let routes = limits.max_routes as usize;
        let line_bytes = limits::HEADER_BYTES + limits::VERSION_BYTES + SEPARATOR_BYTES;
        let report_line_bytes = limits::HEADER_BYTES + limits::REPORT_BYTES + SEPARATOR_BYTES;
        Self {
            payload: vec![0; limits.max_payload_bytes as usize].into_boxed_slice(),
            claims: Claims::new(),
            lines: Vec::with_capacity(routes * line_bytes + report_line_bytes + limits::CARRIED_BYTES),
            report: Vec::with_capacity(limits::REPORT_BYTES),
            cache: Cache::new(),
            propagator: Propagator::new(&policy),
            policy,
        }
    }

    /// The policy of this decider.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Decides on a request, from its header lines at a time in Unix seconds.
    ///
    /// A line is a name in any case and a value, as bytes. Pass repeated lines in their order.
    ///
    /// Never fails: whatever is wrong with the token results in an [`Outcome`] that sets no routing header. Allocates nothing.
    pub fn decide<'h>(&mut self, headers: impl IntoIterator<Item = (&'h [u8], &'h [u8])>, now: i64) -> Decision<'_> {
        let Self { policy, propagator, .. } = self;
        let request = source::read(policy, propagator, headers);
        if self.policy.propagates() {
            return self.decide_propagated(&request, now);
        }
        let token = match request.token {
            Source::None => return self.without_token(Outcome::NoToken, request.managed),
            Source::Ambiguous => return self.without_token(Outcome::AmbiguousToken, request.managed),
            Source::One(token) => token,
        };
        let bucket = Bucket::of(token);
        if let Some(entry) = self.cache.find(bucket, token, Reading::PLAIN, now) {
            return self.decision(request.managed, entry.judgement, self.cache.lines(&entry));
        }
        let judgement = self.judge_and_remember(bucket, token, Reading::PLAIN, now);
        self.decision(request.managed, judgement, &self.lines)
    }

    fn without_token(&mut self, outcome: Outcome, managed: bool) -> Decision<'_> {
        self.lines.clear();
        self.report(outcome, None);
        self.decision(managed, Judgement::of(outcome, Validity::ALWAYS), &self.lines)
    }

    /// A decision that leaves the carrier as it is.
    #[inline]
    fn decision<'d>(&'d self, managed: bool, judgement: Judgement, lines: &'d [u8]) -> Decision<'d> {
        Decision { policy: &self.policy, managed, judgement, lines, carrier: CarrierChange::default() }
    }

    fn judge_and_remember(&mut self, bucket: Bucket, token: &[u8], reading: Reading, now: i64) -> Judgement {
        let judgement = self.judge(token, reading, now);
        if judgement.outcome != Outcome::TokenTooLarge {
            self.cache.put(bucket, token, reading, judgement, &self.lines);
        }
        judgement
    }

    /// Decides on a token that is not in the cache.
    fn judge(&mut self, token: &[u8], reading: Reading, now: i64) -> Judgement {
        self.lines.clear();
        let config = self.policy.config();
        let times = token::decode_unverified(config, token, reading.tells_format, &mut self.payload)
            .and_then(|payload| self.claims.read(&self.policy, payload));
        let (fault, validity) = match times {
            Ok(times) => times.judge(now, config.clock_skew_seconds),
            Err(fault) => (Some(fault), Validity::ALWAYS),
        };
        let outcome = fault.unwrap_or_else(|| self.apply());
        let carried = match (outcome, times) {
            (Outcome::Applied, Ok(Times { exp, .. })) => self.carry(reading.carry, exp),
            _ => Ok(0),
        };
        self.report(outcome, carried.err());
        if let Ok(1..) = carried {
            self.lines.extend_from_slice(self.propagator.choice());
        }
        Judgement { outcome, faults: self.faults(outcome), validity, carried }
    }

    /// Writes a line for each valid claim (R13).
    fn apply(&mut self) -> Outcome {
        let valid = || self.claims.found().iter().filter_map(|claim| Some((claim, claim.version.ok()?)));
        let count = valid().count();
        if self.claims.too_many || count > self.policy.config().limits.max_routes as usize {
            return Outcome::TooManyRoutes;
        }
        if count == 0 {
            return Outcome::NoRoutes;
        }
        for (claim, version) in valid() {
            push_line(&mut self.lines, self.claims.header(claim), version.of(&self.payload));
        }
        Outcome::Applied
    }

    /// Writes the line of the report (R18).
    fn report(&mut self, outcome: Outcome, carry_fault: Option<CarryFault>) {
        let Some(header) = &self.policy.config().report_header else { return };
        self.report.clear();
        self.report.extend_from_slice(outcome.code().as_bytes());
        if let Some(fault) = carry_fault {
            self.report.extend_from_slice(b" !");
            self.report.extend_from_slice(fault.code().as_bytes());
        }
        if judges_claims(outcome) {
            // Claims without a valid name come first, and share one word.
            let unnamed = self.claims.found().partition_point(|claim| claim.version == Err(ClaimFault::InvalidName));
            for claim in self.claims.found().iter().skip(unnamed.saturating_sub(1)) {
                let (sign, text) = match claim.version {
                    Ok(version) => (b'=', version.of(&self.payload)),
                    Err(fault) => (b'!', fault.code().as_bytes()),
                };
                let claimed = self.claims.header(claim);
                if self.report.len() + b" ".len() + claimed.len() + b"=".len() + text.len() > FULL_REPORT_BYTES {
                    self.report.extend_from_slice(CUT);
                    break;
                }
                self.report.push(b' ');
                self.report.extend_from_slice(claimed);
                self.report.push(sign);
                self.report.extend_from_slice(text);
            }
        }
        push_line(&mut self.lines, header.as_bytes(), &self.report);
    }

    #[expect(clippy::indexing_slicing, reason = "there is a count for each fault")]
    fn faults(&self, outcome: Outcome) -> [u32; ClaimFault::ALL.len()] {
        let mut faults = [0; ClaimFault::ALL.len()];
        if judges_claims(outcome) {
            for fault in self.claims.found().iter().filter_map(|claim| claim.version.err()) {
                faults[fault.index()] += 1;
            }
        }
        faults
    }
}

impl<'d> Decision<'d> {
    /// The outcome of the request.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.judgement.outcome
    }

    /// The number of claims that were skipped for each fault, without faults that have none.
    pub fn faults(&self) -> impl Iterator<Item = (ClaimFault, u32)> {
        ClaimFault::ALL.iter().copied().zip(self.judgement.faults).filter(|(_, count)| *count > 0)
    }

    /// Why the choice was not carried to the next hop (R19).
    #[must_use]
    pub fn carry_fault(&self) -> Option<CarryFault> {
        self.judgement.carried.err()
    }

    /// Whether any header of the request must be removed, before [`set_headers`](Self::set_headers) are set.
    #[must_use]
    pub fn removes_any(&self) -> bool {
        self.managed || self.carrier.removed
    }

    /// Whether all lines of this header must be removed (R1, R19). The name can be in any case.
    #[must_use]
    pub fn removes(&self, header: &[u8]) -> bool {
        self.managed && self.policy.is_managed(header)
            || self.carrier.removed
                && self.policy.carrier().is_some_and(|carrier| header.eq_ignore_ascii_case(carrier.header.as_bytes()))
    }

    /// The headers to set, as names and values: the routing headers in order of name, the report, and the carrier. Each name occurs
    /// once, in lower case. Values are visible ASCII and spaces, except that `baggage` contains the bytes of the client's other members.
    pub fn set_headers(&self) -> impl Iterator<Item = (&'d str, &'d [u8])> + use<'d> {
        let value = self.carrier.value;
        let mut carrier = self.policy.carrier().filter(|_| !value.is_empty()).map(|carrier| (&*carrier.header, value));
        let mut lines = ascii(self.lines);
        std::iter::from_fn(move || {
            let Some((name, rest)) = split_at_byte(lines, b':') else { return carrier.take() };
            let (value, rest) = split_at_byte(rest, b'\n')?;
            lines = rest;
            Some((name, value.as_bytes()))
        })
    }

    /// Whether the request changes at all, so that its route must be recomputed (R15).
    #[must_use]
    pub fn changes_request(&self) -> bool {
        self.managed || !self.lines.is_empty() || self.carrier.removed || !self.carrier.value.is_empty()
    }
}

/// A clone has the same policy, its own memory and an empty cache.
impl Clone for Decider {
    fn clone(&self) -> Self {
        Self::new(self.policy.clone())
    }
}

impl fmt::Debug for Decider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decider").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// Does not show versions, which are claim values (R17).
impl fmt::Debug for Decision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decision").field("outcome", &self.outcome()).finish_non_exhaustive()
    }
}

/// Whether the report lists each claim.
fn judges_claims(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Applied | Outcome::NoRoutes)
}

/// Adds a header to set, as `name:value` and a line feed. No name has a colon, and no value a line feed.
fn push_line(lines: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    lines.extend_from_slice(name);
    lines.push(b':');
    lines.extend_from_slice(value);
    lines.push(b'\n');
}

/// Lines that [`push_line`] added.
fn ascii(lines: &[u8]) -> &str {
    let Ok(lines) = std::str::from_utf8(lines) else {
        unreachable!("the policy's headers and valid versions are ASCII")
    };
    lines
}

/// The names and values of lines that [`push_line`] added.
fn lines(lines: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    lines.split(|byte| *byte == b'\n').filter_map(|line| {
        let (name, value) = split_at_byte(ascii(line), b':')?;
        Some((name, value.as_bytes()))
    })
}

/// The text before and after an ASCII character. `str::split_once` takes five times the instructions for a short text.
fn split_at_byte(text: &str, byte: u8) -> Option<(&str, &str)> {
    let (before, rest) = text.split_at_checked(memchr(byte, text.as_bytes())?)?;
    Some((before, rest.get(1..)?))
}

/// Length of a line in bytes, without its name and value.
const SEPARATOR_BYTES: usize = 2;

/// The end of a report that is cut off.
const CUT: &[u8] = b" ...";

/// Maximum length of a report in bytes that leaves room for [`CUT`].
const FULL_REPORT_BYTES: usize = limits::REPORT_BYTES - CUT.len();

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

    use super::*;

    const NOW: i64 = 1_800_000_000;

    /// Everything that R17 forbids in `Debug`, including the memory that a decision leaves behind.
    #[test]
    fn debug_shows_no_token_payload_or_version() {
        let policy = br#"{"services": [{"name": "shop"}, {"name": "cart"}], "reportHeader": "x-report"}"#;
        let mut decider = Decider::new(Policy::from_json(policy).unwrap());
        let payload = r#"{"shop":"hidden-version","cart":"hidden value","email":"hidden@example"}"#;
        let secret = bearer(payload);
        for _ in 0..2 {
            let decision = decider.decide([(&b"authorization"[..], secret.as_bytes())], NOW);
            assert!(decision.set_headers().any(|header| header == ("shop", &b"hidden-version"[..])));
            assert_eq!(format!("{decision:?}"), "Decision { outcome: Applied, .. }");
            let texts = [format!("{decision:#?}"), format!("{decider:?}"), format!("{decider:#?}")];
            for text in texts {
                for part in ["hidden", &secret["Bearer ".len()..], &BASE64_URL_SAFE_NO_PAD.encode(payload)] {
                    assert!(!text.contains(part), "{part} in {text}");
                }
                // Nor as a list of its bytes.
                assert!(!text.contains("104, 105, 100, 100, 101, 110") && !text.contains("104,\n"), "{text}");
            }
        }
        assert!(format!("{decider:?}").contains("x-report"));
    }

    #[test]
    fn faults_are_counted_claim_by_claim() {
        let policy = br#"{"claimPath": ["r"], "headerPrefix": "x-route-"}"#;
        let mut decider = Decider::new(Policy::from_json(policy).unwrap());
        let token = bearer(r#"{"r":{"a b":1,"c d":1,"":1,"e":null,"f":[],"g":"1","G":"1","h":"1"}}"#);
        for _ in 0..2 {
            let decision = decider.decide([(&b"authorization"[..], token.as_bytes())], NOW);
            assert!(decision.faults().eq([
                (ClaimFault::InvalidName, 3),
                (ClaimFault::ConflictingName, 1),
                (ClaimFault::InvalidValue, 2)
            ]));
        }
        let decision = decider.decide([], NOW);
        assert_eq!((decision.outcome(), decision.faults().count()), (Outcome::NoToken, 0));
    }

    /// Faults of claims do not matter if the whole token is rejected.
    #[test]
    fn no_faults_of_claims_beside_a_fault_of_the_token() {
        let mut decider = Decider::new(Policy::from_json(br#"{"services": [{"name": "shop"}]}"#).unwrap());
        let token = bearer(r#"{"shop":null,"exp":1}"#);
        let decision = decider.decide([(&b"authorization"[..], token.as_bytes())], NOW);
        assert_eq!((decision.outcome(), decision.faults().count()), (Outcome::Expired, 0));
    }

    /// A token that is too large would evict many others, and is rejected quickly anyway.
    #[test]
    fn decisions_are_kept_unless_the_token_is_too_large() {
        let policy = br#"{"services": [{"name": "shop"}], "limits": {"maxPayloadBytes": 64}}"#;
        let mut decider = Decider::new(Policy::from_json(policy).unwrap());
        for (payload, outcome) in [
            (r#"{"shop":"1"}"#, Outcome::Applied),
            ("[]", Outcome::MalformedPayload),
            (&" ".repeat(65), Outcome::TokenTooLarge),
        ] {
            let token = bearer(payload);
            let found = decider.decide([(&b"authorization"[..], token.as_bytes())], NOW).outcome();
            assert_eq!(found, outcome);
            let token = &token.as_bytes()["Bearer ".len()..];
            let found =
                decider.cache.find(Bucket::of(token), token, Reading::PLAIN, NOW).map(|entry| entry.judgement.outcome);
            assert_eq!(found, (outcome != Outcome::TokenTooLarge).then_some(outcome));
        }
    }

    #[test]
    fn a_decider_tells_its_policy() {
        let decider = Decider::new(Policy::from_json(br#"{"services": [{"name": "shop"}]}"#).unwrap());
        assert!(decider.policy().is_managed(b"shop"));
    }

    #[test]
    fn only_managed_headers_that_the_client_sent_are_stripped() {
        let policy = br#"{"services": [{"name": "shop"}, {"name": "cart"}]}"#;
        let mut decider = Decider::new(Policy::from_json(policy).unwrap());
        let decision = decider.decide([(&b"Shop"[..], &b"1"[..]), (b"host", b"a")], NOW);
        assert!(decision.removes_any() && decision.removes(b"SHOP") && !decision.removes(b"host"));
        let decision = decider.decide([(&b"host"[..], &b"a"[..])], NOW);
        assert!(!decision.removes_any() && !decision.removes(b"shop"));
    }

    fn bearer(payload: &str) -> String {
        format!("Bearer e30.{}.", BASE64_URL_SAFE_NO_PAD.encode(payload))
    }
}
