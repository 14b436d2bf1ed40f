//! From bytes to JSON events: a strict RFC 8259 reader that is asked for one thing at a time.
//!
//! It keeps its nesting in one word and unescapes strings in place, so it neither recurses nor allocates. The bytes
//! must be valid UTF-8 already: only then is every accepted text JSON.
//!
//! What is read most (plain strings, structure) is inlined into the loops that read it, so that the place stays in a
//! register, which halves the instructions; what is rare or long is a function that takes the place and gives it back.
#![allow(clippy::inline_always, reason = "the compiler's own choice keeps the place in memory")]

/// Reads one JSON object from its first byte to its last.
///
/// The order of calls is the caller's duty: a key, its value, the next key. A member's value is announced by
/// [`Scanner::value`], which takes the colon, and is then read by the method of its kind or by [`Scanner::skip`].
pub(crate) struct Scanner<'b> {
    /// With the padding.
    bytes: &'b mut [u8],
    at: usize,
    /// How many containers more may be entered.
    room: u32,
    /// The innermost container has just been opened: no comma before its first member.
    fresh: bool,
}

/// How many zeros must follow what is scanned: no JSON has a zero, so the end needs no look of its own, and words of
/// eight bytes reach to it.
pub(crate) const PADDING: usize = 8;

/// What a scan stops at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Malformed,
    TooDeep,
}

/// The kind of value that comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
    String,
    Number,
    Literal,
}

/// A part of the scanned bytes. It stays valid while the scan goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: usize,
    end: usize,
}

impl<'b> Scanner<'b> {
    /// Starts inside the object that the bytes must be, all but the [`PADDING`] at their end.
    #[inline(always)]
    pub(crate) fn object(bytes: &'b mut [u8], max_depth: u32) -> Result<Self, Fault> {
        let mut scanner = Self { bytes, at: 0, room: max_depth, fresh: true };
        if scanner.next() != b'{' {
            return Err(Fault::Malformed);
        }
        scanner.enter()?;
        Ok(scanner)
    }

    /// The bytes of a span.
    #[inline(always)]
    pub(crate) fn text(&self, span: Span) -> &[u8] {
        span.of(self.bytes)
    }

    /// The next member's key, unescaped, or none at the end of the object, which is left.
    #[inline(always)]
    pub(crate) fn key(&mut self) -> Result<Option<Span>, Fault> {
        match self.member(b'}')? {
            Some(byte) => self.string_from(byte).map(Some),
            None => Ok(None),
        }
    }

    /// Takes the colon after a key and tells what follows.
    #[inline(always)]
    pub(crate) fn value(&mut self) -> Result<Kind, Fault> {
        kind(self.colon()?)
    }

    /// Enters the container that comes next.
    #[inline(always)]
    pub(crate) fn enter(&mut self) -> Result<(), Fault> {
        self.room = self.room.checked_sub(1).ok_or(Fault::TooDeep)?;
        self.fresh = true;
        self.step();
        Ok(())
    }

    /// Reads a string and unescapes it in place.
    #[inline(always)]
    pub(crate) fn string(&mut self) -> Result<Span, Fault> {
        self.string_from(peek(self.bytes, self.at))
    }

    #[inline(always)]
    fn string_from(&mut self, byte: u8) -> Result<Span, Fault> {
        if byte != b'"' {
            return Err(Fault::Malformed);
        }
        let start = self.at.wrapping_add(1);
        let end = plain_end(self.bytes, start);
        self.fresh = false;
        if peek(self.bytes, end) == b'"' {
            self.at = end.wrapping_add(1);
            return Ok(Span { start, end });
        }
        let unescaped = unescape(self.bytes, end);
        let (at, end) = unescaped.map_err(|fault| self.stop(fault))?;
        self.at = at;
        Ok(Span { start, end })
    }

    /// Reads a number (RFC 8259 section 6); the span is its text.
    #[inline(always)]
    pub(crate) fn number(&mut self) -> Result<Span, Fault> {
        let start = self.at;
        self.fresh = false;
        self.at = number_end(self.bytes, start).map_err(|fault| self.stop(fault))?;
        Ok(Span { start, end: self.at })
    }

    /// Reads the value that comes next, whatever it is, with all it contains.
    #[inline(always)]
    pub(crate) fn skip(&mut self) -> Result<(), Fault> {
        self.skip_from(peek(self.bytes, self.at))
    }

    #[inline(always)]
    fn skip_from(&mut self, byte: u8) -> Result<(), Fault> {
        self.fresh = false;
        // Most values are plain strings.
        if byte == b'"' {
            let end = plain_end(self.bytes, self.at.wrapping_add(1));
            if peek(self.bytes, end) == b'"' {
                self.at = end.wrapping_add(1);
                return Ok(());
            }
        }
        self.at = skip(self.bytes, self.at, self.room).map_err(|fault| self.stop(fault))?;
        Ok(())
    }

    /// Takes the colon after a key and passes over the value.
    #[inline(always)]
    pub(crate) fn skip_value(&mut self) -> Result<(), Fault> {
        let byte = self.colon()?;
        self.skip_from(byte)
    }

    /// Checks that nothing but white space follows the object.
    #[inline(always)]
    pub(crate) fn finish(mut self) -> Result<(), Fault> {
        self.next();
        if self.at.wrapping_add(PADDING) == self.bytes.len() { Ok(()) } else { Err(Fault::Malformed) }
    }

    /// Takes the colon after a key and gives the first byte of the value.
    #[inline(always)]
    fn colon(&mut self) -> Result<u8, Fault> {
        if self.next() != b':' {
            return Err(Fault::Malformed);
        }
        self.step();
        Ok(self.next())
    }

    /// The first byte of the container's next member or item, or none at its end, where it is left.
    #[inline(always)]
    fn member(&mut self, close: u8) -> Result<Option<u8>, Fault> {
        let mut byte = self.next();
        if byte == close {
            self.step();
            self.room = self.room.wrapping_add(1);
            self.fresh = false;
            return Ok(None);
        }
        if !self.fresh {
            if byte != b',' {
                return Err(Fault::Malformed);
            }
            self.step();
            byte = self.next();
        }
        Ok(Some(byte))
    }

    /// Passes over white space and looks at the byte behind it.
    #[inline(always)]
    fn next(&mut self) -> u8 {
        next(self.bytes, &mut self.at)
    }

    /// Keeps the place of a fault.
    fn stop(&mut self, (fault, at): (Fault, usize)) -> Fault {
        self.at = at;
        fault
    }

    /// An index within a slice cannot overflow.
    #[inline(always)]
    fn step(&mut self) {
        self.at = self.at.wrapping_add(1);
    }
}

/// The byte at a place; a zero beyond the end, where no JSON goes on.
#[inline(always)]
fn peek(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or_default()
}

/// Passes over white space and looks at the byte behind it.
#[inline(always)]
fn next(bytes: &[u8], at: &mut usize) -> u8 {
    loop {
        let byte = peek(bytes, *at);
        // Most bytes are told by one comparison.
        if byte > b' ' || !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            return byte;
        }
        *at = at.wrapping_add(1);
    }
}

/// What a value is, by its first byte.
#[inline(always)]
fn kind(byte: u8) -> Result<Kind, Fault> {
    match byte {
        b'"' => Ok(Kind::String),
        b'{' => Ok(Kind::Object),
        b'[' => Ok(Kind::Array),
        b'-' | b'0'..=b'9' => Ok(Kind::Number),
        b't' | b'f' | b'n' => Ok(Kind::Literal),
        _ => Err(Fault::Malformed),
    }
}

/// Passes over a value and all it contains, which may nest to `max_depth`.
fn skip(bytes: &[u8], mut at: usize, max_depth: u32) -> Step {
    let mut depth = 0_u32;
    // The lowest bit tells whether the innermost container is an object; those around it are above.
    let mut objects = 0_u64;
    loop {
        let byte = next(bytes, &mut at);
        match byte {
            b'"' => at = string_end(bytes, at)?,
            b'{' | b'[' => {
                if depth >= max_depth {
                    return Err((Fault::TooDeep, at));
                }
                depth = depth.wrapping_add(1);
                objects = (objects << 1) | u64::from(byte == b'{');
                at = at.wrapping_add(1);
                if next(bytes, &mut at) != closing(objects) {
                    at = key_end(bytes, at, objects)?;
                    continue;
                }
            }
            b't' | b'f' | b'n' => at = literal_end(bytes, at)?,
            _ => at = number_end(bytes, at)?,
        }
        // A value has ended, and so may the containers around it.
        loop {
            if depth == 0 {
                return Ok(at);
            }
            let byte = next(bytes, &mut at);
            at = at.wrapping_add(1);
            if byte == b',' {
                next(bytes, &mut at);
                at = key_end(bytes, at, objects)?;
                break;
            }
            if byte != closing(objects) {
                return Err((Fault::Malformed, at));
            }
            depth = depth.wrapping_sub(1);
            objects >>= 1;
        }
    }
}

/// What closes the innermost container.
#[inline(always)]
fn closing(objects: u64) -> u8 {
    if objects & 1 == 1 { b'}' } else { b']' }
}

/// In an object, passes over a key and its colon.
#[inline(always)]
fn key_end(bytes: &[u8], at: usize, objects: u64) -> Step {
    if objects & 1 == 0 {
        return Ok(at);
    }
    let mut at = string_end(bytes, at)?;
    if next(bytes, &mut at) == b':' { Ok(at.wrapping_add(1)) } else { Err((Fault::Malformed, at)) }
}

#[inline(always)]
fn string_end(bytes: &[u8], at: usize) -> Step {
    if peek(bytes, at) != b'"' {
        return Err((Fault::Malformed, at));
    }
    let end = plain_end(bytes, at.wrapping_add(1));
    if peek(bytes, end) == b'"' { Ok(end.wrapping_add(1)) } else { escaped_end(bytes, end) }
}

/// The rest of a string from its first escape on.
#[cold]
fn escaped_end(bytes: &[u8], mut at: usize) -> Step {
    loop {
        let byte = peek(bytes, at);
        at = at.wrapping_add(1);
        match byte {
            b'"' => return Ok(at),
            b'\\' => at = escape(bytes, at)?.1,
            b' '.. => {}
            _ => return Err((Fault::Malformed, at)),
        }
    }
}

/// The rest of a string from its first escape on, and where its text ends: what is unescaped is never longer, so it is
/// written over it.
#[cold]
fn unescape(bytes: &mut [u8], mut at: usize) -> Result<(usize, usize), (Fault, usize)> {
    let mut end = at;
    let mut put = |bytes: &mut [u8], byte| {
        if let Some(place) = bytes.get_mut(end) {
            *place = byte;
        }
        end = end.wrapping_add(1);
    };
    loop {
        let byte = peek(bytes, at);
        at = at.wrapping_add(1);
        match byte {
            b'"' => return Ok((at, end)),
            b'\\' => {
                let (character, behind) = escape(bytes, at)?;
                at = behind;
                for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                    put(bytes, byte);
                }
            }
            b' '.. => put(bytes, byte),
            _ => return Err((Fault::Malformed, at)),
        }
    }
}

/// What follows a backslash (RFC 8259 section 7), and where that ends.
fn escape(bytes: &[u8], at: usize) -> Result<(char, usize), (Fault, usize)> {
    let malformed = (Fault::Malformed, at);
    let behind = at.wrapping_add(1);
    let character = match peek(bytes, at) {
        byte @ (b'"' | b'\\' | b'/') => char::from(byte),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let (unit, behind) = hex4(bytes, behind).ok_or(malformed)?;
            if !matches!(unit, 0xd800..=0xdbff) {
                return char::from_u32(unit.into()).map(|character| (character, behind)).ok_or(malformed);
            }
            let low = bytes.get(behind..).and_then(|rest| rest.strip_prefix(b"\\u")).ok_or(malformed)?;
            let (low, behind) = hex4(bytes, bytes.len().wrapping_sub(low.len())).ok_or(malformed)?;
            let low_bits = u32::from(low).checked_sub(0xdc00).filter(|bits| *bits < 0x400).ok_or(malformed)?;
            let high_bits = u32::from(unit & 0x3ff) << 10;
            let character = char::from_u32(0x1_0000_u32.wrapping_add(high_bits | low_bits)).ok_or(malformed)?;
            return Ok((character, behind));
        }
        _ => return Err(malformed),
    };
    Ok((character, behind))
}

/// Four hexadecimal digits, and where they end.
fn hex4(bytes: &[u8], at: usize) -> Option<(u16, usize)> {
    let digits: &[u8; 4] = bytes.get(at..)?.first_chunk()?;
    let unit = digits.iter().try_fold(0, |unit, digit| Some((unit << 4) | char::from(*digit).to_digit(16)?))?;
    Some((u16::try_from(unit).ok()?, at.wrapping_add(4)))
}

#[inline(always)]
fn literal_end(bytes: &[u8], at: usize) -> Step {
    let rest = bytes.get(at..).unwrap_or_default();
    let literal = [&b"true"[..], b"false", b"null"].into_iter().find(|literal| rest.starts_with(literal));
    literal.map(|literal| at.wrapping_add(literal.len())).ok_or((Fault::Malformed, at))
}

#[inline(always)]
fn number_end(bytes: &[u8], mut at: usize) -> Step {
    if peek(bytes, at) == b'-' {
        at = at.wrapping_add(1);
    }
    at = if peek(bytes, at) == b'0' { at.wrapping_add(1) } else { digits_end(bytes, at)? };
    if matches!(peek(bytes, at), b'.' | b'e' | b'E') { fraction_end(bytes, at) } else { Ok(at) }
}

/// The rest of a number from its point or exponent on.
fn fraction_end(bytes: &[u8], mut at: usize) -> Step {
    if peek(bytes, at) == b'.' {
        at = digits_end(bytes, at.wrapping_add(1))?;
    }
    if matches!(peek(bytes, at), b'e' | b'E') {
        at = at.wrapping_add(1);
        if matches!(peek(bytes, at), b'+' | b'-') {
            at = at.wrapping_add(1);
        }
        at = digits_end(bytes, at)?;
    }
    Ok(at)
}

/// One digit and those that follow it.
#[inline(always)]
fn digits_end(bytes: &[u8], at: usize) -> Step {
    if !peek(bytes, at).is_ascii_digit() {
        return Err((Fault::Malformed, at));
    }
    let at = at.wrapping_add(1);
    if peek(bytes, at).is_ascii_digit() { Ok(last_digit_end(bytes, at)) } else { Ok(at) }
}

/// The first place from `at` on that has no digit; eight bytes at a time as in [`plain_end`].
fn last_digit_end(bytes: &[u8], mut at: usize) -> usize {
    let Some((words, _)) = bytes.get(at..).map(<[u8]>::as_chunks) else { return at };
    for word in words {
        let values = u64::from_le_bytes(*word) ^ each(b'0');
        // A lane above nine carries into its high bit, or has it already.
        let hits = ((values & !HIGH_BITS).wrapping_add(each(0x80 - 10)) | values) & HIGH_BITS;
        if hits != 0 {
            return at.wrapping_add(first_lane(hits));
        }
        at = at.wrapping_add(8);
    }
    at
}

/// The first place from `at` on with a byte that ends or interrupts the text of a string: `"`, `\`, a control character.
///
/// It looks at eight bytes at a time, each in a lane of a word: a lane's high bit is set when subtracting borrows from a
/// lane that was small. A borrow may go on to the lanes above, never to those below, so the lowest hit is a true one.
#[inline(always)]
fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    let Some((words, _)) = bytes.get(at..).map(<[u8]>::as_chunks) else { return at };
    for word in words {
        let word = u64::from_le_bytes(*word);
        // Changing the second bit puts `"` right behind the control characters, and moves nothing else there.
        let quote_or_control = (word ^ each(0x02)).wrapping_sub(each(b'"' - 1));
        let backslash = (word ^ each(b'\\')).wrapping_sub(each(1));
        // Lanes beyond ASCII are neither, whatever the subtraction says of them.
        let hits = (quote_or_control | backslash) & !word & HIGH_BITS;
        if hits != 0 {
            return at.wrapping_add(first_lane(hits));
        }
        at = at.wrapping_add(8);
    }
    at
}

/// A word with the byte in each of its lanes.
const fn each(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// The high bit of each lane.
const HIGH_BITS: u64 = each(0x80);

/// The lowest lane with a bit set.
#[inline(always)]
fn first_lane(hits: u64) -> usize {
    usize::try_from(hits.trailing_zeros() >> 3).unwrap_or_default()
}

/// Where a part of the text ends, or what is wrong with it and where.
type Step = Result<usize, (Fault, usize)>;

impl Span {
    #[inline(always)]
    pub(crate) fn length(self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// Eight bytes of the span, from a place in it on, as a number that compares as they do; zeros stand for bytes beyond
    /// its end.
    #[inline(always)]
    pub(crate) fn word(self, bytes: &[u8], from: usize) -> u64 {
        // The padding is as long as a word.
        let word = bytes.get(self.start.wrapping_add(from)..).and_then(<[u8]>::first_chunk);
        let word = word.map_or(0, |word| u64::from_be_bytes(*word));
        let length = self.length().saturating_sub(from);
        if length >= PADDING {
            return word;
        }
        let bits = u32::try_from(length.wrapping_mul(8)).unwrap_or_default();
        word & !u64::MAX.wrapping_shr(bits)
    }

    /// The bytes of the span, of the buffer that was scanned.
    #[inline(always)]
    pub(crate) fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start..self.end).unwrap_or_else(nothing)
    }
}

/// Never called: marked so, it leaves a jump where both cases would be computed.
#[cold]
fn nothing<'b>() -> &'b [u8] {
    &[]
}

#[cfg(any(test, fuzzing))]
pub(crate) mod reference;
#[cfg(test)]
mod tests;
