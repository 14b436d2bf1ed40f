//! From JSON events to the versions chosen (R6 to R8, R10 to R12).

use std::cmp::Ordering;

use crate::{
    json::{Fault, Kind, PADDING, Scanner, Span},
    limits,
    outcome::{ClaimFault, Outcome},
    policy::Policy,
    time::{self, Times},
    token::Decoded,
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

    /// Reads the payload that was decoded into a buffer with room for [`PADDING`]; strings in it are unescaped in place.
    pub(crate) fn read(&mut self, policy: &Policy, decoded: Decoded, buffer: &mut [u8]) -> Result<Times, Outcome> {
        self.found.clear();
        let padded = buffer.get_mut(..decoded.length.saturating_add(PADDING)).unwrap_or_default();
        let (payload, padding) = padded.split_at_mut_checked(decoded.length).unwrap_or_default();
        if !decoded.ascii && std::str::from_utf8(payload).is_err() {
            return Err(Outcome::MalformedPayload);
        }
        padding.fill(0);
        let times = self.scan(policy, padded);
        // A key that stands twice was read before the fault that ended the scan, so it comes first in the document.
        self.sort(padded)?;
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
        let same_key =
            |pair: &[Claim]| matches!(pair, [a, b] if a.rank == b.rank && a.key.of(payload) == b.key.of(payload));
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
                    json.skip_value()?;
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
    #[inline]
    fn claim(&mut self, policy: &Policy, json: &mut Scanner<'_>, key: Span) -> Result<(), Fault> {
        let open = policy.config().services.is_none();
        let rank = match policy.service(json.text(key)) {
            Some(rank) => rank,
            None if !open => return json.skip_value(),
            None => {
                if is_name(json.text(key)) {
                    NAMED
                } else {
                    UNNAMED
                }
            }
        };
        let index = self.found.len();
        self.found.push(Claim { rank, key, version: Err(ClaimFault::InvalidName) });
        if open && rank == UNNAMED {
            return json.skip_value();
        }
        let version = version(json)?;
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
        self.rank.cmp(&other.rank).then_with(|| {
            let (key, other_key) = (self.key.of(payload), other.key.of(payload));
            let [lower, other_lower] = [key, other_key].map(|key| key.iter().map(u8::to_ascii_lowercase));
            lower.cmp(other_lower).then_with(|| key.cmp(other_key))
        })
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
#[inline]
fn version(json: &mut Scanner<'_>) -> Result<Result<Span, ClaimFault>, Fault> {
    let (span, valid) = match json.value()? {
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
    is_name(text) && ends.into_iter().all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
}

fn is_name(text: &[u8]) -> bool {
    (1..=limits::NAME_BYTES).contains(&text.len())
        && text.iter().all(|byte| NAME_BYTES.get(usize::from(*byte)) == Some(&true))
}

/// `[A-Za-z0-9._-]`, of which names and versions are made.
const NAME_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        table[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        byte += 1;
    }
    table
};

// A version may have any length that a name may have.
const _: () = assert!(limits::NAME_BYTES == limits::VERSION_BYTES);
