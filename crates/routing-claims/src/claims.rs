//! From JSON events to the versions chosen (R6 to R8, R10 to R12).

use std::hash::{BuildHasher, RandomState};

use hashbrown::{HashTable, hash_table::Entry};

use crate::{
    json::{Fault, Kind, Scanner, Span},
    limits,
    outcome::{ClaimFault, Outcome},
    policy::Policy,
    time::{self, Times},
};

/// The claims of one payload. It is kept from one token to the next, so that reading allocates nothing.
pub(crate) struct Claims {
    /// At most one for each header, in order of header name once [`Claims::read`] is done.
    found: Vec<Claim>,
    /// How many keys can't name a header.
    invalid_names: u32,
    /// Closed mode, for each service: 0, or one more than the index of its claim.
    by_service: Vec<u16>,
    /// Open mode: indices of the claims, by their key in lower case.
    by_name: HashTable<u16>,
    /// Keys to be told apart to the letter: those that can't name a header, and those that differ from a claim's key
    /// only in case.
    other_keys: HashTable<Span>,
    /// Keyed anew for each instance: nobody can choose keys that collide.
    hasher: RandomState,
}

/// What a payload says of one header.
pub(crate) struct Claim {
    service: u16,
    key: Span,
    pub(crate) version: Result<Span, ClaimFault>,
}

/// How the routes object is read.
enum Slot {
    /// The first claim of its header, by index.
    New(usize),
    /// A claim of this header stands already; the keys differ.
    Conflict(usize),
    /// The key stands twice.
    Duplicate,
    /// Open mode: the key can't name a header.
    InvalidName,
    /// Closed mode: the key names no service.
    Ignored,
}

impl Claims {
    pub(crate) fn new(policy: &Policy) -> Self {
        // The shortest member is `"a":1,`.
        let payload_bytes = usize::try_from(policy.config().limits.max_payload_bytes).unwrap_or_default();
        let keys = payload_bytes.div_euclid(6).saturating_add(1);
        let closed = policy.config().services.is_some();
        Self {
            found: Vec::with_capacity(if closed { policy.service_count() } else { keys }),
            invalid_names: 0,
            by_service: vec![0; policy.service_count()],
            by_name: HashTable::with_capacity(if closed { 0 } else { keys }),
            other_keys: HashTable::with_capacity(keys),
            hasher: RandomState::new(),
        }
    }

    /// Reads a payload; strings in it are unescaped in place.
    pub(crate) fn read(&mut self, policy: &Policy, payload: &mut [u8]) -> Result<Times, Outcome> {
        self.clear();
        if std::str::from_utf8(payload).is_err() {
            return Err(Outcome::MalformedPayload);
        }
        let times = self.scan(policy, payload)?;
        if policy.config().services.is_some() {
            self.found.sort_unstable_by_key(|claim| claim.service);
        } else {
            self.found.sort_unstable_by(|a, b| lower(a.key.of(payload)).cmp(lower(b.key.of(payload))));
        }
        Ok(times)
    }

    pub(crate) fn found(&self) -> &[Claim] {
        &self.found
    }

    pub(crate) fn invalid_names(&self) -> u32 {
        self.invalid_names
    }

    fn clear(&mut self) {
        self.found.clear();
        self.invalid_names = 0;
        self.by_service.fill(0);
        self.by_name.clear();
        self.other_keys.clear();
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
    fn claim(&mut self, policy: &Policy, json: &mut Scanner<'_>, key: Span) -> Result<(), Outcome> {
        let slot = match policy.config().services {
            Some(_) => self.slot_of_service(policy, json, key),
            None => self.slot_of_name(json, key),
        };
        if matches!(slot, Slot::Duplicate) {
            return Err(Outcome::DuplicateKey);
        }
        let kind = json.value()?;
        match slot {
            Slot::New(index) => {
                let version = version(json, kind)?;
                if let Some(claim) = self.found.get_mut(index) {
                    claim.version = version;
                }
            }
            Slot::Conflict(index) => {
                json.skip()?;
                if let Some(claim) = self.found.get_mut(index) {
                    claim.version = Err(ClaimFault::ConflictingName);
                }
            }
            Slot::InvalidName => {
                json.skip()?;
                self.invalid_names = self.invalid_names.saturating_add(1);
            }
            Slot::Duplicate | Slot::Ignored => json.skip()?,
        }
        Ok(())
    }

    fn slot_of_service(&mut self, policy: &Policy, json: &Scanner<'_>, key: Span) -> Slot {
        let Some(service) = policy.service(json.text(key)) else { return Slot::Ignored };
        if let Some(index) = self.by_service.get(usize::from(service)).and_then(|number| number.checked_sub(1)) {
            return self.slot_beside(json, key, index);
        }
        let index = self.push(service, key);
        if let Some(number) = self.by_service.get_mut(usize::from(service)) {
            *number = index.saturating_add(1);
        }
        Slot::New(index.into())
    }

    fn slot_of_name(&mut self, json: &Scanner<'_>, key: Span) -> Slot {
        let name = json.text(key);
        if !is_name(name) {
            return if self.is_new_key(json, key) { Slot::InvalidName } else { Slot::Duplicate };
        }
        let mut folded = [0; limits::NAME_BYTES];
        for (to, from) in folded.iter_mut().zip(name) {
            *to = from.to_ascii_lowercase();
        }
        let found = &self.found;
        let key_of = |index: &u16| found.get(usize::from(*index)).map_or(&[][..], |claim| json.text(claim.key));
        let hash = self.hasher.hash_one(folded);
        if let Some(index) = self.by_name.find(hash, |index| key_of(index).eq_ignore_ascii_case(name)) {
            return self.slot_beside(json, key, *index);
        }
        let index = self.push(0, key);
        // There is room for every key that a payload can hold, so nothing is ever hashed again.
        self.by_name.insert_unique(hash, index, |_| hash);
        Slot::New(index.into())
    }

    /// For a key whose header has a claim already.
    fn slot_beside(&mut self, json: &Scanner<'_>, key: Span, index: u16) -> Slot {
        let index = usize::from(index);
        let same = self.found.get(index).is_some_and(|claim| json.text(claim.key) == json.text(key));
        if !same && self.is_new_key(json, key) { Slot::Conflict(index) } else { Slot::Duplicate }
    }

    fn is_new_key(&mut self, json: &Scanner<'_>, key: Span) -> bool {
        let text = json.text(key);
        let hash = |span: &Span| self.hasher.hash_one(json.text(*span));
        match self.other_keys.entry(hash(&key), |span| json.text(*span) == text, hash) {
            Entry::Occupied(_) => false,
            Entry::Vacant(entry) => {
                entry.insert(key);
                true
            }
        }
    }

    fn push(&mut self, service: u16, key: Span) -> u16 {
        let index = u16::try_from(self.found.len()).unwrap_or(u16::MAX);
        self.found.push(Claim { service, key, version: Err(ClaimFault::InvalidValue) });
        index
    }
}

impl Claim {
    /// The header this is about: all of it in closed mode, what follows `headerPrefix` in open mode, there in any case.
    pub(crate) fn header<'a>(&self, policy: &'a Policy, payload: &'a [u8]) -> &'a [u8] {
        match policy.config().services {
            Some(_) => policy.service_header(self.service).as_bytes(),
            None => self.key.of(payload),
        }
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

fn lower(text: &[u8]) -> impl Iterator<Item = u8> {
    text.iter().map(u8::to_ascii_lowercase)
}
