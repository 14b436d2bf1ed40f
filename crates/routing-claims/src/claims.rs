//! From JSON events to the versions chosen (R6 to R8, R10 to R12).

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
    /// Sorting takes n log n whatever the keys are; a hash table would have to be guarded against chosen keys.
    fn sort(&mut self, open: bool, payload: &[u8]) -> Result<(), Outcome> {
        let Self { all, sorted } = self;
        // Most tokens name few services, and each once.
        if sorted.len() > 1 && sort(sorted, all, open, payload) == Twice::SomeKey {
            return Err(Outcome::DuplicateKey);
        }
        sorted.dedup_by(|entry, first| {
            let [Some(claim), Some(other)] = [claim_of(all, *entry), claim_of(all, *first)] else { return false };
            claim.version == Err(ClaimFault::ConflictingName)
                && claim.order == other.order
                && claim.key.of(payload).eq_ignore_ascii_case(other.key.of(payload))
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

fn index(entry: u64) -> usize {
    usize::try_from(entry & INDEX).unwrap_or_default()
}

/// Whether a key stands twice.
#[derive(PartialEq, Eq)]
enum Twice {
    SomeKey,
    NoKey,
}

/// Orders entries by their keys in lower case, then as they are written, and marks claims for one header as conflicting.
///
/// Six bytes at a time, and those alike in them by the next six: so what is compared and moved is a word, and no key is read
/// again for each comparison, which takes a quarter off thousands of keys and two thirds off keys that are much alike.
#[inline(never)]
fn sort(entries: &mut [u64], all: &mut [Claim], open: bool, payload: &[u8]) -> Twice {
    entries.sort_unstable();
    let key = |all: &[Claim], entry: u64| claim_of(all, entry).map(|claim| claim.key).unwrap_or_default();
    // Runs of entries alike so far, each within the one before it: where it ends, and the step that sorted it.
    let mut runs = [(0, 0); LAST];
    let mut innermost = 0_usize;
    let (mut at, mut end, mut step) = (0, entries.len(), 0);
    loop {
        if at == end {
            let Some(outer) = innermost.checked_sub(1) else { return Twice::NoKey };
            innermost = outer;
            (end, step) = runs.get(outer).copied().unwrap_or_default();
            continue;
        }
        let rest = entries.get_mut(at..end).unwrap_or_default();
        let order = rest.first().map(|entry| entry & !INDEX);
        let count = rest.iter().take_while(|entry| Some(*entry & !INDEX) == order).count();
        let behind = at.saturating_add(count);
        if count == 1 {
            at = behind;
            continue;
        }
        let run = rest.get_mut(..count).unwrap_or_default();
        let longest = run.iter().map(|entry| key(all, *entry).length()).max().unwrap_or_default();
        let next = step_after(step, open, longest);
        if next == LAST {
            run.sort_unstable_by(|a, b| key(all, *a).of(payload).cmp(key(all, *b).of(payload)));
            let same = |pair: &[u64]| matches!(*pair, [a, b] if key(all, a).of(payload) == key(all, b).of(payload));
            if run.windows(2).any(same) {
                return Twice::SomeKey;
            }
            at = behind;
            continue;
        }
        for entry in run.iter_mut() {
            let chunk = next.checked_sub(CHUNKS).unwrap_or(next);
            let word = key(all, *entry).word(payload, chunk.saturating_mul(CHUNK_BYTES));
            let word = if next < CHUNKS { lower(word) } else { word };
            *entry = word & !INDEX | *entry & INDEX;
            // From here on they differ in nothing but case.
            if next == CHUNKS
                && let Some(claim) = all.get_mut(index(*entry))
                && (!open || claim.order & NAMED != 0)
            {
                claim.version = Err(ClaimFault::ConflictingName);
            }
        }
        run.sort_unstable();
        if let Some(outer) = runs.get_mut(innermost) {
            *outer = (end, step);
        }
        innermost = innermost.saturating_add(1);
        (end, step) = (behind, next);
    }
}

/// By what a run of entries is sorted that the steps up to this one left alike: from 1 on, that chunk of the key in lower case;
/// from [`CHUNKS`] on, the key's chunks as they are written; at last all of it. Chunks beyond the longest key are passed over,
/// and in closed mode those in lower case, as the keys of one service differ in nothing but case.
fn step_after(step: usize, open: bool, longest: usize) -> usize {
    let beyond = |chunk: usize| chunk.saturating_mul(CHUNK_BYTES) >= longest;
    let next = step.saturating_add(1);
    if next < CHUNKS && (!open || beyond(next)) {
        CHUNKS
    } else if next > CHUNKS && beyond(next.saturating_sub(CHUNKS)) {
        LAST
    } else {
        next.min(LAST)
    }
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

/// What fits beside it.
const CHUNK_BYTES: usize = 6;

/// Enough for all that can be part of a header's name.
const CHUNKS: usize = limits::NAME_BYTES.div_ceil(CHUNK_BYTES);
const LAST: usize = 2 * CHUNKS;

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
