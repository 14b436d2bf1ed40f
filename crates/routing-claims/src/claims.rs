//! From JSON events to the versions chosen (R6 to R8, R10 to R12).

use std::cmp::Ordering;

use crate::{
    json::{Fault, Kind, Scanner, Span},
    limits,
    outcome::{ClaimFault, Outcome},
    policy::Policy,
    time::{self, Times},
};

/// The claims of one payload. It is kept from one token to the next, so that reading allocates nothing.
pub(crate) struct Claims {
    found: Vec<Claim>,
}

/// What a payload says of one header, or of a key that names none.
#[derive(Clone, Copy)]
pub(crate) struct Claim {
    /// Closed mode: the service, in order of header name. Open mode: [`UNNAMED`] or [`NAMED`].
    rank: u16,
    key: Span,
    pub(crate) version: Result<Span, ClaimFault>,
}

impl Claims {
    pub(crate) fn new(policy: &Policy) -> Self {
        // The shortest member is `"a":1,`.
        let payload_bytes = usize::try_from(policy.config().limits.max_payload_bytes).unwrap_or_default();
        Self { found: Vec::with_capacity(payload_bytes.div_euclid(6).saturating_add(1)) }
    }

    /// Reads a payload; strings in it are unescaped in place.
    pub(crate) fn read(&mut self, policy: &Policy, payload: &mut [u8]) -> Result<Times, Outcome> {
        self.found.clear();
        if std::str::from_utf8(payload).is_err() {
            return Err(Outcome::MalformedPayload);
        }
        let times = self.scan(policy, payload);
        // A key that stands twice was read before the fault that ended the scan, so it comes first in the document.
        self.sort(payload)?;
        times
    }

    /// In order of header name, at most one for each; before them those whose key names no header.
    pub(crate) fn found(&self) -> &[Claim] {
        &self.found
    }

    /// Orders what was found, refuses a key that stands twice (R7), and makes one of the claims for one header (R11).
    ///
    /// Sorting takes n log n whatever the keys are; a hash table would have to be guarded against chosen keys.
    fn sort(&mut self, payload: &[u8]) -> Result<(), Outcome> {
        self.found.sort_unstable_by(|a, b| a.order(b, payload));
        let same_key = |pair: &[Claim]| matches!(pair, [a, b] if a.key.of(payload) == b.key.of(payload));
        if self.found.windows(2).any(same_key) {
            return Err(Outcome::DuplicateKey);
        }
        self.found.dedup_by(|claim, first| {
            let conflict = claim.version != Err(ClaimFault::InvalidName) && claim.same_header(first, payload);
            if conflict {
                first.version = Err(ClaimFault::ConflictingName);
            }
            conflict
        });
        Ok(())
    }

    fn scan(&mut self, policy: &Policy, payload: &mut [u8]) -> Result<Times, Outcome> {
        let path = &policy.config().claim_path;
        let mut times = Times::default();
        let mut json = Scanner::object(payload, policy.config().limits.max_depth)?;
        // How many segments of the path have been entered, and the most that ever were.
        let (mut level, mut deepest) = (0_usize, 0);
        loop {
            let Some(key) = json.key()? else {
                let Some(outer) = level.checked_sub(1) else { break };
                level = outer;
                continue;
            };
            let time = match json.text(key) {
                b"exp" if level == 0 => Some(&mut times.exp),
                b"nbf" if level == 0 => Some(&mut times.nbf),
                _ => None,
            };
            if let Some(time) = time {
                if time.is_some() {
                    return Err(Outcome::DuplicateKey);
                }
                if json.value()? != Kind::Number {
                    return Err(Outcome::MalformedPayload);
                }
                let number = json.number()?;
                *time = Some(time::floor(json.text(number)));
            } else if let Some(segment) = path.get(level) {
                if json.text(key) != segment.as_bytes() {
                    json.value()?;
                    json.skip()?;
                    continue;
                }
                if deepest > level {
                    return Err(Outcome::DuplicateKey);
                }
                if json.value()? != Kind::Object {
                    return Err(Outcome::MalformedPayload);
                }
                json.enter()?;
                level = level.saturating_add(1);
                deepest = level;
            } else {
                self.claim(policy, &mut json, key)?;
            }
        }
        json.finish()?;
        Ok(times)
    }

    /// Reads one member of the routes object.
    fn claim(&mut self, policy: &Policy, json: &mut Scanner<'_>, key: Span) -> Result<(), Fault> {
        let rank = match policy.config().services {
            Some(_) => policy.service(json.text(key)),
            None => Some(if is_name(json.text(key)) { NAMED } else { UNNAMED }),
        };
        let Some(rank) = rank else {
            json.value()?;
            return json.skip();
        };
        let unnamed = policy.config().services.is_none() && rank == UNNAMED;
        let index = self.found.len();
        self.found.push(Claim { rank, key, version: Err(ClaimFault::InvalidName) });
        let kind = json.value()?;
        if unnamed {
            return json.skip();
        }
        let version = version(json, kind)?;
        if let Some(claim) = self.found.get_mut(index) {
            claim.version = version;
        }
        Ok(())
    }
}

impl Claim {
    /// The header this is about: all of it in closed mode, what follows `headerPrefix` in open mode, there in any case.
    pub(crate) fn header<'a>(&self, policy: &'a Policy, payload: &'a [u8]) -> &'a [u8] {
        match policy.config().services {
            Some(_) => policy.service_header(self.rank).as_bytes(),
            None => self.key.of(payload),
        }
    }

    fn order(&self, other: &Self, payload: &[u8]) -> Ordering {
        let (key, other_key) = (self.key.of(payload), other.key.of(payload));
        let [lower, other_lower] = [key, other_key].map(|key| key.iter().map(u8::to_ascii_lowercase));
        self.rank.cmp(&other.rank).then_with(|| lower.cmp(other_lower)).then_with(|| key.cmp(other_key))
    }

    fn same_header(&self, other: &Self, payload: &[u8]) -> bool {
        self.rank == other.rank && self.key.of(payload).eq_ignore_ascii_case(other.key.of(payload))
    }
}

/// Rank of a key that can't be part of a header's name.
const UNNAMED: u16 = 0;
const NAMED: u16 = 1;

impl From<Fault> for Outcome {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Malformed => Self::MalformedPayload,
            Fault::TooDeep => Self::TooDeep,
        }
    }
}

/// Reads a claim's value (R12).
fn version(json: &mut Scanner<'_>, kind: Kind) -> Result<Result<Span, ClaimFault>, Fault> {
    let (span, valid) = match kind {
        Kind::String => {
            let span = json.string()?;
            (span, is_version(json.text(span)))
        }
        Kind::Number => {
            let span = json.number()?;
            let text = json.text(span);
            (span, text.len() <= limits::VERSION_BYTES && text.iter().all(u8::is_ascii_digit))
        }
        Kind::Object | Kind::Array | Kind::Literal => {
            json.skip()?;
            return Ok(Err(ClaimFault::InvalidValue));
        }
    };
    Ok(if valid { Ok(span) } else { Err(ClaimFault::InvalidValue) })
}

fn is_version(text: &[u8]) -> bool {
    let ends = [text.first(), text.last()];
    text.len() <= limits::VERSION_BYTES
        && ends.into_iter().all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
        && text.iter().copied().all(is_name_byte)
}

fn is_name(text: &[u8]) -> bool {
    (1..=limits::NAME_BYTES).contains(&text.len()) && text.iter().copied().all(is_name_byte)
}

fn is_name_byte(byte: u8) -> bool {
    matches!(byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-')
}
