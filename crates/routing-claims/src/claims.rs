//! From JSON events to the versions chosen (R6 to R8, R10 to R12).

use crate::{
    json::{Fault, Kind, PADDING, Scanner, Span},
    limits,
    outcome::{ClaimFault, Outcome},
    policy::Policy,
    time::{self, Times},
};

/// The claims of one payload. It is kept from one token to the next, so that reading allocates nothing.
pub(crate) struct Claims {
    /// In the order of the document.
    all: Vec<Claim>,
    /// The number of each claim in `all`, below the start of its key.
    sorted: Vec<Entry>,
    /// There are more claims than are kept (R13).
    pub(crate) too_many: bool,
}

/// What a payload says of one header, or of a key that names none.
#[derive(Clone, Copy)]
pub(crate) struct Claim {
    key: Span,
    /// In closed mode.
    service: u16,
    pub(crate) version: Result<Span, ClaimFault>,
}

impl Claims {
    pub(crate) fn new() -> Self {
        Self { all: Vec::with_capacity(limits::CLAIMS), sorted: Vec::with_capacity(limits::CLAIMS), too_many: false }
    }

    /// Reads the payload that was decoded into a buffer with room for [`PADDING`]; strings in it are unescaped in place.
    pub(crate) fn read(&mut self, policy: &Policy, length: usize, buffer: &mut [u8]) -> Result<Times, Outcome> {
        self.all.clear();
        self.sorted.clear();
        self.too_many = false;
        let padded = buffer.get_mut(..length.saturating_add(PADDING)).unwrap_or_default();
        let (payload, padding) = padded.split_at_mut_checked(length).unwrap_or_default();
        if std::str::from_utf8(payload).is_err() {
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
        self.sorted.iter().filter_map(|entry| entry.claim(&self.all))
    }

    /// Orders what was found, refuses a key that stands twice (R7), and makes one of the claims for one header (R11).
    fn sort(&mut self, open: bool, payload: &[u8]) -> Result<(), Outcome> {
        let Self { all, sorted, .. } = self;
        sorted.extend(all.iter().zip(0..).map(|(claim, number)| Entry::new(claim, number, open, payload)));
        sorted.sort_unstable();
        let mut conflicts = false;
        for alike in sorted.chunk_by_mut(|a, b| a.start() == b.start()).filter(|alike| alike.len() > 1) {
            let named = alike.first().is_some_and(|entry| entry.0 & NAMED != 0);
            if named {
                conflicts |= sort_from(START_BYTES, alike, all, payload)?;
            } else if open {
                unique(alike, all, payload)?;
            } else {
                conflict(alike, all, payload)?;
                conflicts = true;
            }
        }
        if conflicts {
            sorted.retain(|entry| entry.0 & LEFT_OUT == 0);
        }
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
        if self.too_many {
            return json.skip_value();
        }
        let mut service = 0;
        if !policy.is_open() {
            let Some(named) = policy.service(json.text(key)) else { return json.skip_value() };
            service = named;
        }
        if self.all.len() == limits::CLAIMS {
            self.too_many = true;
            return json.skip_value();
        }
        let (version, fault) = if !policy.is_open() || is_name(json.text(key)) {
            (version(json), ClaimFault::InvalidValue)
        } else {
            (json.skip_value().map(|()| Err(ClaimFault::InvalidName)), ClaimFault::InvalidName)
        };
        // Also before a fault, as the key may stand twice.
        self.all.push(Claim { key, service, version: version.unwrap_or(Err(fault)) });
        version.map(|_| ())
    }
}

impl Claim {
    /// The header this is about: all of it in closed mode, what follows `headerPrefix` in open mode, there in any case.
    pub(crate) fn header<'a>(&self, policy: &'a Policy, payload: &'a [u8]) -> &'a [u8] {
        if policy.is_open() { self.key.of(payload) } else { policy.service_header(self.service).as_bytes() }
    }
}

/// A claim's number, below what claims are sorted by first: in open mode the first bytes of the key in lower case, and above
/// them whether it can be part of a header's name; in closed mode the service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry(u64);

impl Entry {
    fn new(claim: &Claim, number: u64, open: bool, payload: &[u8]) -> Self {
        if !open {
            return Self(u64::from(claim.service) << START.trailing_zeros() | number);
        }
        let named = if claim.version == Err(ClaimFault::InvalidName) { 0 } else { NAMED };
        Self(lower(claim.key.word(payload, 0)) & START & !NAMED | named | number)
    }

    fn start(self) -> u64 {
        self.0 & START
    }

    fn claim(self, claims: &[Claim]) -> Option<&Claim> {
        claims.get(self.number())
    }

    fn key(self, claims: &[Claim]) -> Span {
        self.claim(claims).map(|claim| claim.key).unwrap_or_default()
    }

    fn number(self) -> usize {
        usize::try_from(self.0 & NUMBER).unwrap_or_default()
    }
}

/// The bytes of a key that fit beside the number.
const START: u64 = 0xffff_ffff_ffff_0000;

const START_BYTES: usize = 6;

/// Set in a key that can be part of a header's name, which is ASCII and so has no such bit.
const NAMED: u64 = 1 << 63;

/// Set in all but one of the claims that conflict.
const LEFT_OUT: u64 = 1 << 15;

const NUMBER: u64 = LEFT_OUT - 1;

/// Orders entries whose keys are names, alike in lower case up to a byte; whether any conflict is the result.
///
/// Words are sorted instead of keys, so that it costs little whatever keys are sent: six bytes at a time, and those alike in
/// them by the next six, up to the length of a name.
fn sort_from(from: usize, entries: &mut [Entry], claims: &mut [Claim], payload: &[u8]) -> Result<bool, Outcome> {
    if entries.iter().all(|entry| entry.key(claims).length() <= from) {
        conflict(entries, claims, payload)?;
        return Ok(true);
    }
    for entry in &mut *entries {
        *entry = Entry(lower(entry.key(claims).word(payload, from)) & START | entry.0 & NUMBER);
    }
    entries.sort_unstable();
    let mut conflicts = false;
    for alike in entries.chunk_by_mut(|a, b| a.start() == b.start()).filter(|alike| alike.len() > 1) {
        conflicts |= sort_from(from.saturating_add(START_BYTES), alike, claims, payload)?;
    }
    Ok(conflicts)
}

/// Marks claims whose keys differ in nothing but case, and leaves all but one of them out.
fn conflict(entries: &mut [Entry], claims: &mut [Claim], payload: &[u8]) -> Result<(), Outcome> {
    unique(entries, claims, payload)?;
    for entry in &mut *entries {
        if let Some(claim) = claims.get_mut(entry.number()) {
            claim.version = Err(ClaimFault::ConflictingName);
        }
    }
    for entry in entries.iter_mut().skip(1) {
        entry.0 |= LEFT_OUT;
    }
    Ok(())
}

/// Refuses a key that stands twice. Orders entries by their keys as they are written, each moved to its place: there are few.
fn unique(entries: &mut [Entry], claims: &[Claim], payload: &[u8]) -> Result<(), Outcome> {
    for end in 1..entries.len() {
        let Some((entry, before)) = entries.get(..=end).and_then(<[Entry]>::split_last) else { break };
        let (entry, key) = (*entry, entry.key(claims).of(payload));
        let place = before.binary_search_by(|other| other.key(claims).of(payload).cmp(key));
        let Err(place) = place else { return Err(Outcome::DuplicateKey) };
        entries.copy_within(place..end, place.saturating_add(1));
        if let Some(into) = entries.get_mut(place) {
            *into = entry;
        }
    }
    Ok(())
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

pub(crate) fn is_version(text: &[u8]) -> bool {
    let ends = [text.first(), text.last()];
    is_name(text) && ends.into_iter().all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
}

pub(crate) fn is_name(text: &[u8]) -> bool {
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
