//! What to strip and what to set, and why: the one way in and out of this crate.

#[cfg(feature = "http")]
mod http;
mod owned;

use std::fmt;

pub use owned::OwnedDecision;

use crate::{
    cache::{Cache, Place},
    claims::Claims,
    config::PolicyConfig,
    json::PADDING,
    limits,
    outcome::{ClaimFault, Outcome},
    policy::Policy,
    source::{self, Source},
    time::Validity,
    token,
};

/// Follows one [`Policy`], request by request: the memory that deciding needs, and the cache of decisions (R16).
///
/// All memory is allocated when it is made, a few hundred kilobytes; make one per worker thread. It belongs to its
/// policy, so decisions of one policy can't be mistaken for another's.
pub struct Decider {
    policy: Policy,
    payload: Box<[u8]>,
    claims: Claims,
    lines: Vec<u8>,
    report: Vec<u8>,
    cache: Cache,
}

/// What to do with a request: remove each managed header that [`removes`](Decision::removes) names, then set
/// [`set_headers`](Decision::set_headers).
pub struct Decision<'d> {
    policy: &'d Policy,
    managed: bool,
    verdict: Verdict,
    lines: &'d [u8],
}

/// The part of a decision that depends on the token and the time alone.
#[derive(Clone, Copy)]
pub(crate) struct Verdict {
    pub(crate) outcome: Outcome,
    /// Claims skipped, in the order of [`ClaimFault::ALL`].
    pub(crate) faults: [u32; ClaimFault::ALL.len()],
    pub(crate) validity: Validity,
}

impl Decider {
    /// Allocates what decisions by this policy need.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        let limits = &policy.config().limits;
        let payload_bytes = usize::try_from(limits.max_payload_bytes).unwrap_or_default();
        let routes = usize::try_from(limits.max_routes).unwrap_or_default();
        let line_bytes = LENGTH_BYTES + limits::HEADER_BYTES + limits::VERSION_BYTES;
        let report_line_bytes = LENGTH_BYTES + limits::HEADER_BYTES + limits::REPORT_BYTES;
        Self {
            payload: vec![0; payload_bytes.saturating_add(PADDING)].into_boxed_slice(),
            claims: Claims::new(),
            lines: Vec::with_capacity(routes.saturating_mul(line_bytes).saturating_add(report_line_bytes)),
            report: Vec::with_capacity(limits::REPORT_BYTES),
            cache: Cache::new(),
            policy,
        }
    }

    /// The policy that is followed.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Decides on a request by its header lines (name in any case, value; repeated names as they stand, bytes as they
    /// are) at a time in Unix seconds.
    ///
    /// Never fails: whatever is wrong with the token is an [`Outcome`] that sets no routing header. Allocates nothing.
    pub fn decide<'h>(&mut self, headers: impl IntoIterator<Item = (&'h [u8], &'h [u8])>, now: i64) -> Decision<'_> {
        let request = source::read(&self.policy, headers);
        let token = match request.token {
            Source::None => return self.without_token(Outcome::NoToken, request.managed),
            Source::Ambiguous => return self.without_token(Outcome::AmbiguousToken, request.managed),
            Source::One(token) => token,
        };
        let place = Place::of(token);
        if let Some(slot) = self.cache.find(place, token, now) {
            return self.decision(request.managed, slot.verdict, self.cache.lines(&slot));
        }
        let verdict = self.judge(token, now);
        if verdict.outcome != Outcome::TokenTooLarge {
            self.cache.put(place, token, verdict, &self.lines);
        }
        self.decision(request.managed, verdict, &self.lines)
    }

    fn without_token(&mut self, outcome: Outcome, managed: bool) -> Decision<'_> {
        let verdict = Verdict { outcome, faults: Default::default(), validity: Validity::ALWAYS };
        self.lines.clear();
        self.report(outcome);
        self.decision(managed, verdict, &self.lines)
    }

    fn decision<'d>(&'d self, managed: bool, verdict: Verdict, lines: &'d [u8]) -> Decision<'d> {
        Decision { policy: &self.policy, managed, verdict, lines }
    }

    /// Decides on a token that is not in the cache.
    fn judge(&mut self, token: &[u8], now: i64) -> Verdict {
        self.lines.clear();
        let config = self.policy.config();
        let times = token::decode_unverified(config, token, &mut self.payload)
            .and_then(|decoded| self.claims.read(&self.policy, decoded, &mut self.payload));
        let (fault, validity) = match times {
            Ok(times) => times.judge(now, config.clock_skew_seconds),
            Err(fault) => (Some(fault), Validity::ALWAYS),
        };
        let outcome = fault.unwrap_or_else(|| self.apply());
        self.report(outcome);
        Verdict { outcome, faults: self.faults(outcome), validity }
    }

    /// Writes a line for each valid claim (R13).
    fn apply(&mut self) -> Outcome {
        let config = self.policy.config();
        let valid = || self.claims.found().filter_map(|claim| Some((claim, claim.version.ok()?)));
        match u32::try_from(valid().count()) {
            _ if self.claims.too_many => return Outcome::TooManyRoutes,
            Ok(0) => return Outcome::NoRoutes,
            Ok(count) if count <= config.limits.max_routes => {}
            _ => return Outcome::TooManyRoutes,
        }
        let prefix = config.header_prefix.as_deref().unwrap_or_default();
        for (claim, version) in valid() {
            let header = claim.header(&self.policy, &self.payload);
            push_line(&mut self.lines, [prefix.as_bytes(), header], version.of(&self.payload));
        }
        Outcome::Applied
    }

    /// Writes the line of the report (R18).
    fn report(&mut self, outcome: Outcome) {
        let PolicyConfig { header_prefix, report_header: Some(header), .. } = self.policy.config() else { return };
        self.report.clear();
        self.report.extend_from_slice(outcome.code().as_bytes());
        if judges_claims(outcome) {
            let prefix = header_prefix.as_deref().unwrap_or_default();
            let mut unnamed = false;
            for claim in self.claims.found() {
                let header = match claim.version {
                    Err(ClaimFault::InvalidName) if unnamed => continue,
                    Err(ClaimFault::InvalidName) => [&[][..], &[]],
                    _ => [prefix.as_bytes(), claim.header(&self.policy, &self.payload)],
                };
                unnamed |= claim.version == Err(ClaimFault::InvalidName);
                if !push_word(&mut self.report, header, claim.version.map(|version| version.of(&self.payload))) {
                    self.report.extend_from_slice(CUT);
                    break;
                }
            }
        }
        push_line(&mut self.lines, [header.as_bytes(), &[]], &self.report);
    }

    fn faults(&self, outcome: Outcome) -> [u32; ClaimFault::ALL.len()] {
        if !judges_claims(outcome) {
            return Default::default();
        }
        let mut faults = [0_u32; ClaimFault::ALL.len()];
        for fault in self.claims.found().filter_map(|claim| claim.version.err()) {
            if let Some(count) = faults.get_mut(fault.index()) {
                *count = count.saturating_add(1);
            }
        }
        faults
    }
}

impl<'d> Decision<'d> {
    /// What became of the request.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.verdict.outcome
    }

    /// How many claims were skipped for each reason, reasons without any left out.
    pub fn faults(&self) -> impl Iterator<Item = (ClaimFault, u32)> {
        ClaimFault::ALL.iter().copied().zip(self.verdict.faults).filter(|(_, count)| *count > 0)
    }

    /// Whether any header of the request must be removed before [`set_headers`](Self::set_headers) are set.
    #[must_use]
    pub fn removes_any(&self) -> bool {
        self.managed
    }

    /// Whether the request's lines of this header (name in any case) must be removed (R1).
    #[must_use]
    pub fn removes(&self, header: &[u8]) -> bool {
        self.managed && self.policy.is_managed(header)
    }

    /// The headers to set, each name once, the report last: names in lower case, values in visible ASCII and spaces.
    pub fn set_headers(&self) -> impl Iterator<Item = (&'d str, &'d str)> + use<'d> {
        let mut lines = std::str::from_utf8(self.lines).unwrap_or_default();
        std::iter::from_fn(move || {
            let (line, rest) = next_line(lines)?;
            lines = rest;
            Some(line)
        })
    }

    /// Whether the request changes at all, so that its route must be chosen anew (R15).
    #[must_use]
    pub fn changes_request(&self) -> bool {
        self.managed || !self.lines.is_empty()
    }
}

/// A decider of the same policy with memory of its own and an empty cache.
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

/// Without versions: they are claim values (R17).
impl fmt::Debug for Decision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decision").field("outcome", &self.outcome()).finish_non_exhaustive()
    }
}

/// Whether claims were looked at one by one.
fn judges_claims(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Applied | Outcome::NoRoutes)
}

/// Adds a word to the report and says whether it had room.
fn push_word(report: &mut Vec<u8>, [prefix, header]: [&[u8]; 2], version: Result<&[u8], ClaimFault>) -> bool {
    let (sign, text) = match version {
        Ok(version) => (b'=', version),
        Err(fault) => (b'!', fault.code().as_bytes()),
    };
    let length = [prefix, header, text].iter().fold(2, |sum: usize, part| sum.saturating_add(part.len()));
    if report.len().saturating_add(length) > FULL_REPORT_BYTES {
        return false;
    }
    report.push(b' ');
    report.extend_from_slice(prefix);
    report.extend(header.iter().map(u8::to_ascii_lowercase));
    report.push(sign);
    report.extend_from_slice(text);
    true
}

/// Adds a header to set: length of the name in one byte and of the value in two, then both. All bytes are ASCII, the
/// lengths too, so that all lines together are one text.
fn push_line(lines: &mut Vec<u8>, [prefix, header]: [&[u8]; 2], value: &[u8]) {
    let name_length = prefix.len().saturating_add(header.len());
    let lengths = [name_length, value.len() & 0x7f, value.len() >> 7];
    lines.extend_from_slice(&lengths.map(|length| u8::try_from(length).unwrap_or_default()));
    let start = lines.len();
    if prefix.is_empty() {
        lines.extend_from_slice(header);
    } else {
        lines.extend_from_slice(prefix);
        lines.extend_from_slice(header);
        lines.get_mut(start..).unwrap_or_default().make_ascii_lowercase();
    }
    lines.extend_from_slice(value);
}

/// Takes the first of the lines that [`push_line`] wrote.
fn next_line(lines: &str) -> Option<((&str, &str), &str)> {
    let (lengths, rest) = lines.split_at_checked(LENGTH_BYTES)?;
    let [name_length, low, high] = *lengths.as_bytes() else { return None };
    let (name, rest) = rest.split_at_checked(name_length.into())?;
    let (value, rest) = rest.split_at_checked(usize::from(low) | usize::from(high) << 7)?;
    Some(((name, value), rest))
}

/// Bytes of a line besides its name and value.
const LENGTH_BYTES: usize = 3;

/// Ends a report that had no room for all its words.
const CUT: &[u8] = b" ...";

/// Bytes of a report that leave room for [`CUT`].
const FULL_REPORT_BYTES: usize = limits::REPORT_BYTES - CUT.len();

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

    use super::*;

    const NOW: i64 = 1_800_000_000;

    /// What R17 forbids in `Debug`, also of the memory that a decision leaves behind.
    #[test]
    fn debug_shows_no_token_payload_or_version() {
        let policy = br#"{"services": [{"name": "shop"}, {"name": "cart"}], "reportHeader": "x-report"}"#;
        let mut decider = Decider::new(Policy::from_json(policy).unwrap());
        let payload = r#"{"shop":"hidden-version","cart":"hidden value","email":"hidden@example"}"#;
        let secret = bearer(payload);
        for _ in 0..2 {
            let decision = decider.decide([(&b"authorization"[..], secret.as_bytes())], NOW);
            assert!(decision.set_headers().any(|header| header == ("shop", "hidden-version")));
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

    /// Faults of claims are no news when the whole token counts for nothing.
    #[test]
    fn no_faults_of_claims_beside_a_fault_of_the_token() {
        let mut decider = Decider::new(Policy::from_json(br#"{"services": [{"name": "shop"}]}"#).unwrap());
        let token = bearer(r#"{"shop":null,"exp":1}"#);
        let decision = decider.decide([(&b"authorization"[..], token.as_bytes())], NOW);
        assert_eq!((decision.outcome(), decision.faults().count()), (Outcome::Expired, 0));
    }

    /// One that is too large would push many others out, and it is judged fast.
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
            let found = decider.cache.find(Place::of(token), token, NOW).map(|slot| slot.verdict.outcome);
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
