//! Reads a payload to the version for each header (R6 to R8, R10 to R12).

use crate::{
    json::{Fault, Kind, Scanner, Span},
    limits,
    outcome::{ClaimFault, Outcome},
    policy::Policy,
    time::{self, Times},
};

/// The claims of one payload. Reused for every token, so that reading allocates nothing.
pub(crate) struct Claims {
    found: Vec<Claim>,
    /// The names of the claims' headers, one after the other.
    headers: Vec<u8>,
    /// Whether there are more claims than are kept (R13).
    pub(crate) too_many: bool,
}

/// A claim: its key, and its header and version if they are valid.
#[derive(Clone, Copy)]
pub(crate) struct Claim {
    key: Span,
    /// The span in [`Claims::headers`]. Empty for a key that is not a valid name.
    header: Span,
    pub(crate) version: Result<Span, ClaimFault>,
}

impl Claims {
    pub(crate) fn new() -> Self {
        Self {
            found: Vec::with_capacity(limits::CLAIMS),
            headers: Vec::with_capacity(limits::CLAIMS * limits::HEADER_BYTES),
            too_many: false,
        }
    }

    /// Reads a decoded payload. Strings in it are unescaped in place.
    pub(crate) fn read(&mut self, policy: &Policy, payload: &mut [u8]) -> Result<Times, Outcome> {
        self.found.clear();
        self.headers.clear();
        self.too_many = false;
        if std::str::from_utf8(payload).is_err() {
            return Err(Outcome::MalformedPayload);
        }
        let times = self.scan(policy, payload);
        // A duplicate key was read before the fault that ended the scan, so it comes first in the document.
        self.sort(payload)?;
        times
    }

    /// The claims in order of header, one for each header, after the claims whose key is not a valid name.
    pub(crate) fn found(&self) -> &[Claim] {
        &self.found
    }

    /// The header of a claim, in lower case. Empty if its key is not a valid name.
    pub(crate) fn header(&self, claim: &Claim) -> &[u8] {
        claim.header.of(&self.headers)
    }

    /// Sorts the claims, rejects duplicate keys (R7), and merges claims for the same header (R11).
    fn sort(&mut self, payload: &[u8]) -> Result<(), Outcome> {
        let Self { found, headers, .. } = self;
        let header = |claim: &Claim| claim.header.of(headers);
        let key = |claim: &Claim| claim.key.of(payload);
        sort(found, false, headers);
        let mut conflicts = false;
        for alike in found.chunk_by_mut(|a, b| header(a) == header(b)) {
            sort(alike, true, payload);
            if !alike.is_sorted_by(|a, b| key(a) < key(b)) {
                return Err(Outcome::DuplicateKey);
            }
            match alike {
                [first, _, ..] if !header(first).is_empty() => {
                    first.version = Err(ClaimFault::ConflictingName);
                    conflicts = true;
                }
                _ => {}
            }
        }
        if conflicts {
            found.dedup_by(|a, b| header(a) == header(b) && !header(a).is_empty());
        }
        Ok(())
    }

    fn scan(&mut self, policy: &Policy, payload: &mut [u8]) -> Result<Times, Outcome> {
        let path = &policy.config().claim_path;
        let mut times = Times::default();
        let mut json = Scanner::object(payload, policy.config().limits.max_depth)?;
        // The number of path segments that have been entered, and its maximum so far.
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
                level += 1;
                deepest = level;
            } else {
                self.claim(policy, &mut json, key)?;
            }
        }
        json.finish()?;
        Ok(times)
    }

    /// Reads a member of the routes object, after its key.
    fn claim(&mut self, policy: &Policy, json: &mut Scanner<'_>, key: Span) -> Result<(), Fault> {
        if self.too_many {
            return json.skip_value();
        }
        let name = json.text(key);
        let (prefix, rest) = match policy.header_prefix() {
            Some(prefix) if is_name(name) => (prefix, name),
            Some(_) => (&[][..], &[][..]),
            None => match policy.service_header(name) {
                Some(header) => (header, &[][..]),
                None => return json.skip_value(),
            },
        };
        if self.found.len() == limits::CLAIMS {
            self.too_many = true;
            return json.skip_value();
        }
        let header = self.add_header(prefix, rest);
        let version =
            if header.is_empty() { json.skip_value().map(|()| Err(ClaimFault::InvalidName)) } else { version(json) };
        // Added even before a fault, because the key can be a duplicate.
        self.found.push(Claim { key, header, version: version.unwrap_or(Err(ClaimFault::InvalidValue)) });
        version.map(|_| ())
    }

    fn add_header(&mut self, prefix: &[u8], name: &[u8]) -> Span {
        let start = self.headers.len();
        self.headers.extend_from_slice(prefix);
        self.headers.extend(name.iter().map(u8::to_ascii_lowercase));
        debug_assert!(self.headers.len() - start <= limits::HEADER_BYTES, "there is room for every header");
        Span::new(start, self.headers.len())
    }
}

/// Sorts claims by their keys or by their headers, in these bytes.
///
/// WebAssembly gets one copy of the standard library's sort for both, which makes the module 6 KB smaller. Elsewhere, two copies save up
/// to a tenth of the instructions for a token with many claims.
fn sort(claims: &mut [Claim], by_key: bool, bytes: &[u8]) {
    let key = |claim: &Claim| claim.key.of(bytes);
    let header = |claim: &Claim| claim.header.of(bytes);
    if cfg!(target_family = "wasm") {
        let text = |claim: &Claim| if by_key { key(claim) } else { header(claim) };
        claims.sort_unstable_by(|a, b| text(a).cmp(text(b)));
    } else if by_key {
        claims.sort_unstable_by(|a, b| key(a).cmp(key(b)));
    } else {
        claims.sort_unstable_by(|a, b| header(a).cmp(header(b)));
    }
}

impl From<Fault> for Outcome {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Malformed => Self::MalformedPayload,
            Fault::TooDeep => Self::TooDeep,
        }
    }
}

/// Reads the value of a claim (R12).
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
        Kind::Object | Kind::Other => {
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
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

// Names and versions have the same maximum length.
const _: () = assert!(limits::NAME_BYTES == limits::VERSION_BYTES);
// In prefix mode, every name fits into a header.
const _: () = assert!(*limits::HEADER_PREFIX_BYTES.end() + limits::NAME_BYTES <= limits::HEADER_BYTES);
