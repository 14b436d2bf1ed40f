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
    /// In the order of the document.
    all: Vec<Claim>,
    /// The number of each claim in `all` below what it is sorted by, in [`Claim::order`] and [`INDEX`].
    sorted: Vec<u64>,
}

/// What a payload says of one header, or of a key that names none.
#[derive(Clone, Copy)]
pub(crate) struct Claim {
    /// What is compared first, and mostly last, when claims are sorted. Closed mode: the service, in order of header name.
    /// Open mode: the start of the key in lower case, and [`NAMED`]. The bits of [`INDEX`] are zero.
    order: u64,
    key: Span,
    pub(crate) version: Result<Span, ClaimFault>,
}

impl Claims {
    pub(crate) fn new(policy: &Policy) -> Self {
        // The shortest member is `"a":1,`.
        let payload_bytes = usize::try_from(policy.config().limits.max_payload_bytes).unwrap_or_default();
        let most = payload_bytes.div_euclid(6).saturating_add(1);
        Self { all: Vec::with_capacity(most), sorted: Vec::with_capacity(most) }
    }

    /// Reads the payload that was decoded into a buffer with room for [`PADDING`]; strings in it are unescaped in place.
    pub(crate) fn read(&mut self, policy: &Policy, decoded: Decoded, buffer: &mut [u8]) -> Result<Times, Outcome> {
        self.all.clear();
        self.sorted.clear();
        let padded = buffer.get_mut(..decoded.length.saturating_add(PADDING)).unwrap_or_default();
        let (payload, padding) = padded.split_at_mut_checked(decoded.length).unwrap_or_default();
        if !decoded.ascii && std::str::from_utf8(payload).is_err() {
            return Err(Outcome::MalformedPayload);
        }
        if let Some(padding) = padding.first_chunk_mut() {
            *padding = [0; PADDING];
        }
        let times = self.scan(policy, padded);
        // A key that stands twice was read before the fault that ended the scan, so it comes first in the document.
        self.sort(policy.is_open(), padded)?;
        times
    }

    /// In order of header name, at most one for each; before them those whose key names no header.
    pub(crate) fn found(&self) -> impl Iterator<Item = &Claim> {
        self.sorted.iter().filter_map(|entry| claim_of(&self.all, *entry))
    }

    /// Orders what was found, refuses a key that stands twice (R7), and makes one of the claims for one header (R11).
    ///
    /// Sorting takes n log n whatever the keys are; a hash table would have to be guarded against chosen keys. What is
    /// moved are single words, and most comparisons are of them alone: two fifths fewer instructions than sorting claims by
    /// their keys.
    fn sort(&mut self, open: bool, payload: &[u8]) -> Result<(), Outcome> {
        let Self { all, sorted } = self;
        sorted.sort_unstable_by(|a, b| {
            (a & !INDEX).cmp(&(b & !INDEX)).then_with(|| {
                let (a, b) = (key_of(all, *a), key_of(all, *b));
                // The keys of one service differ in nothing but case.
                if open { compare(payload, a, b) } else { a.of(payload).cmp(b.of(payload)) }
            })
        });
        let same_key = |pair: &[u64]| {
            let [a, b] = *pair else { return false };
            a & !INDEX == b & !INDEX && key_of(all, a).of(payload) == key_of(all, b).of(payload)
        };
        if sorted.windows(2).any(same_key) {
            return Err(Outcome::DuplicateKey);
        }
        sorted.dedup_by(|entry, first| {
            let conflict = *entry & !INDEX == *first & !INDEX
                && claim_of(all, *entry).is_some_and(|claim| claim.version != Err(ClaimFault::InvalidName))
                && key_of(all, *entry).of(payload).eq_ignore_ascii_case(key_of(all, *first).of(payload));
            if conflict && let Some(claim) = all.get_mut(index(*first)) {
                claim.version = Err(ClaimFault::ConflictingName);
            }
            conflict
        });
        Ok(())
    }

    // Apart from the rest, it has the registers for itself.
    #[inline(never)]
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
        let open = policy.is_open();
        let order = match policy.service(json.text(key)) {
            Some(service) => u64::from(service) << INDEX.count_ones(),
            None if !open => return json.skip_value(),
            None => {
                let named = if is_name(json.text(key)) { NAMED } else { 0 };
                (lower(json.word(key)) & !NAMED & !INDEX) | named
            }
        };
        let index = self.all.len();
        self.all.push(Claim { order, key, version: Err(ClaimFault::InvalidName) });
        self.sorted.push(order | index as u64 & INDEX);
        if open && order & NAMED == 0 {
            return json.skip_value();
        }
        let version = version(json)?;
        if let Some(claim) = self.all.get_mut(index) {
            claim.version = version;
        }
        Ok(())
    }
}

impl Claim {
    /// The header this is about: all of it in closed mode, what follows `headerPrefix` in open mode, there in any case.
    pub(crate) fn header<'a>(&self, policy: &'a Policy, payload: &'a [u8]) -> &'a [u8] {
        if policy.is_open() {
            self.key.of(payload)
        } else {
            policy.service_header(self.order >> INDEX.count_ones()).as_bytes()
        }
    }
}

/// The claim of an entry of [`Claims::sorted`].
fn claim_of(all: &[Claim], entry: u64) -> Option<&Claim> {
    all.get(index(entry))
}

fn key_of(all: &[Claim], entry: u64) -> Span {
    claim_of(all, entry).map(|claim| claim.key).unwrap_or_default()
}

fn index(entry: u64) -> usize {
    usize::try_from(entry & INDEX).unwrap_or_default()
}

/// Compares keys in lower case, then as they are.
fn compare(payload: &[u8], a: Span, b: Span) -> Ordering {
    let mut exact = Ordering::Equal;
    let mut differ = |word: u64, other: u64| {
        exact = exact.then(word.cmp(&other));
        Some(lower(word).cmp(&lower(other))).filter(|order| order.is_ne())
    };
    let (words, other_words) = (a.of(payload).as_chunks::<8>().0, b.of(payload).as_chunks::<8>().0);
    let mut from = 0_usize;
    for (word, other) in words.iter().zip(other_words) {
        if word != other
            && let Some(order) = differ(u64::from_be_bytes(*word), u64::from_be_bytes(*other))
        {
            return order;
        }
        from = from.saturating_add(8);
    }
    for from in (from..a.length().max(b.length())).step_by(8) {
        if let Some(order) = differ(a.word(payload, from), b.word(payload, from)) {
            return order;
        }
    }
    exact.then(a.length().cmp(&b.length()))
}

/// A word with its letters in lower case.
#[inline]
fn lower(word: u64) -> u64 {
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    let each = |byte: u8| u64::from_le_bytes([byte; 8]);
    // In each lane the high bit tells whether the byte, if ASCII, is from `A` or beyond `Z` on.
    let ascii = word & !HIGH_BITS;
    let upper = ascii.wrapping_add(each(0x80 - b'A')) & !ascii.wrapping_add(each(0x80 - b'Z' - 1)) & !word & HIGH_BITS;
    word | upper >> 2
}

/// Where the number of a claim stands beside what it is sorted by; no payload has more claims.
const INDEX: u64 = 0xffff;

/// Set in the order of a key that can be part of a header's name, which is ASCII and so has no such bit.
const NAMED: u64 = 1 << 63;

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
#[expect(clippy::indexing_slicing, reason = "evaluated at compile time, where a fault is a compile error")]
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
