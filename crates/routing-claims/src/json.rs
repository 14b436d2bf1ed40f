//! From bytes to JSON events: a strict RFC 8259 reader that is asked for one thing at a time.
//!
//! It keeps its nesting in one word and unescapes strings in place, so it neither recurses nor allocates. The bytes
//! must be valid UTF-8 already: only then is every accepted text JSON.

/// Reads one JSON object from its first byte to its last.
///
/// The order of calls is the caller's duty: a key, its value, the next key. A member's value is announced by
/// [`Scanner::value`], which takes the colon, and is then read by the method of its kind or by [`Scanner::skip`].
pub(crate) struct Scanner<'b> {
    bytes: &'b mut [u8],
    at: usize,
    depth: u32,
    max_depth: u32,
    /// Bit n tells whether the container at depth n + 1 is an object; `max_depth` is at most 64.
    objects: u64,
    /// The innermost container has just been opened: no comma before its first member.
    fresh: bool,
}

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    start: usize,
    end: usize,
}

impl<'b> Scanner<'b> {
    /// Starts inside the object that the bytes must be.
    pub(crate) fn object(bytes: &'b mut [u8], max_depth: u32) -> Result<Self, Fault> {
        let mut scanner = Self { bytes, at: 0, depth: 0, max_depth, objects: 0, fresh: true };
        scanner.white_space();
        if scanner.peek() != Some(b'{') {
            return Err(Fault::Malformed);
        }
        scanner.enter()?;
        Ok(scanner)
    }

    /// How many bytes have been read.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// The bytes of a span.
    pub(crate) fn text(&self, span: Span) -> &[u8] {
        span.of(self.bytes)
    }

    /// The next member's key, unescaped, or none at the end of the object, which is left.
    pub(crate) fn key(&mut self) -> Result<Option<Span>, Fault> {
        self.white_space();
        if self.eat(b'}') {
            self.leave();
            return Ok(None);
        }
        if !self.fresh {
            self.expect(b',')?;
            self.white_space();
        }
        self.string().map(Some)
    }

    /// Takes the colon after a key and tells what follows.
    pub(crate) fn value(&mut self) -> Result<Kind, Fault> {
        self.white_space();
        self.expect(b':')?;
        self.white_space();
        self.kind()
    }

    /// Whether another item of the array follows; if not, the array is left.
    pub(crate) fn item(&mut self) -> Result<bool, Fault> {
        self.white_space();
        if self.eat(b']') {
            self.leave();
            return Ok(false);
        }
        if !self.fresh {
            self.expect(b',')?;
            self.white_space();
        }
        Ok(true)
    }

    /// Enters the container that comes next.
    pub(crate) fn enter(&mut self) -> Result<(), Fault> {
        if self.depth >= self.max_depth {
            return Err(Fault::TooDeep);
        }
        let level = 1_u64.wrapping_shl(self.depth);
        if self.peek() == Some(b'{') {
            self.objects |= level;
        } else {
            self.objects &= !level;
        }
        self.depth = self.depth.wrapping_add(1);
        self.fresh = true;
        self.step();
        Ok(())
    }

    /// Reads a string and unescapes it in place.
    pub(crate) fn string(&mut self) -> Result<Span, Fault> {
        self.expect(b'"')?;
        let start = self.at;
        self.at = start.wrapping_add(plain_length(self.bytes.get(start..).unwrap_or_default()));
        match self.peek() {
            Some(b'"') => {}
            Some(b'\\') => return self.escaped_string(start),
            _ => return Err(Fault::Malformed),
        }
        let span = Span { start, end: self.at };
        self.step();
        self.fresh = false;
        Ok(span)
    }

    /// Reads a number (RFC 8259 section 6); the span is its text.
    pub(crate) fn number(&mut self) -> Result<Span, Fault> {
        let start = self.at;
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            let _ = self.eat(b'+') || self.eat(b'-');
            self.digits()?;
        }
        self.fresh = false;
        Ok(Span { start, end: self.at })
    }

    /// Reads the value that comes next, whatever it is, with all it contains.
    pub(crate) fn skip(&mut self) -> Result<(), Fault> {
        let floor = self.depth;
        loop {
            match self.kind()? {
                Kind::Object => {
                    self.enter()?;
                    if self.key()?.is_some() {
                        self.value()?;
                        continue;
                    }
                }
                Kind::Array => {
                    self.enter()?;
                    if self.item()? {
                        continue;
                    }
                }
                Kind::String => self.string().map(drop)?,
                Kind::Number => self.number().map(drop)?,
                Kind::Literal => self.literal().map(drop)?,
            }
            if !self.close_down_to(floor)? {
                return Ok(());
            }
        }
    }

    /// Checks that nothing but white space follows the object.
    pub(crate) fn finish(mut self) -> Result<(), Fault> {
        self.white_space();
        if self.at == self.bytes.len() { Ok(()) } else { Err(Fault::Malformed) }
    }

    /// After a value: leaves the containers that end here, to the depth `floor`. Says whether, above it, another value
    /// follows.
    fn close_down_to(&mut self, floor: u32) -> Result<bool, Fault> {
        while self.depth > floor {
            if self.in_object() {
                if self.key()?.is_some() {
                    self.value()?;
                    return Ok(true);
                }
            } else if self.item()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn in_object(&self) -> bool {
        self.objects & 1_u64.wrapping_shl(self.depth.wrapping_sub(1)) != 0
    }

    fn leave(&mut self) {
        self.depth = self.depth.wrapping_sub(1);
        self.fresh = false;
    }

    /// The kind of the value that comes next.
    pub(crate) fn kind(&self) -> Result<Kind, Fault> {
        match self.peek() {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't' | b'f' | b'n') => Ok(Kind::Literal),
            _ => Err(Fault::Malformed),
        }
    }

    /// Reads `true`, `false` or `null`; the span is its text.
    pub(crate) fn literal(&mut self) -> Result<Span, Fault> {
        let start = self.at;
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let literal = [&b"true"[..], b"false", b"null"].into_iter().find(|literal| rest.starts_with(literal));
        self.at = self.at.wrapping_add(literal.ok_or(Fault::Malformed)?.len());
        self.fresh = false;
        Ok(Span { start, end: self.at })
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.step();
        }
        if self.at > start { Ok(()) } else { Err(Fault::Malformed) }
    }

    /// The rest of a string from its first escape on. What is unescaped is never longer, so it is written over it.
    #[cold]
    fn escaped_string(&mut self, start: usize) -> Result<Span, Fault> {
        let mut end = self.at;
        loop {
            let byte = self.peek().ok_or(Fault::Malformed)?;
            self.step();
            match byte {
                b'"' => break,
                b'\\' => {
                    let mut utf8 = [0; 4];
                    for byte in self.escape()?.encode_utf8(&mut utf8).bytes() {
                        self.put(&mut end, byte);
                    }
                }
                b' '.. => self.put(&mut end, byte),
                _ => return Err(Fault::Malformed),
            }
        }
        self.fresh = false;
        Ok(Span { start, end })
    }

    fn put(&mut self, end: &mut usize, byte: u8) {
        if let Some(place) = self.bytes.get_mut(*end) {
            *place = byte;
        }
        *end = end.wrapping_add(1);
    }

    /// What follows a backslash (RFC 8259 section 7).
    fn escape(&mut self) -> Result<char, Fault> {
        let byte = self.peek().ok_or(Fault::Malformed)?;
        self.step();
        match byte {
            b'"' | b'\\' | b'/' => Ok(char::from(byte)),
            b'b' => Ok('\u{8}'),
            b'f' => Ok('\u{c}'),
            b'n' => Ok('\n'),
            b'r' => Ok('\r'),
            b't' => Ok('\t'),
            b'u' => {
                let unit = self.hex4()?;
                if matches!(unit, 0xd800..=0xdbff) {
                    self.expect(b'\\')?;
                    self.expect(b'u')?;
                    let units = [unit, self.hex4()?];
                    char::decode_utf16(units).next().and_then(Result::ok).ok_or(Fault::Malformed)
                } else {
                    char::from_u32(unit.into()).ok_or(Fault::Malformed)
                }
            }
            _ => Err(Fault::Malformed),
        }
    }

    fn hex4(&mut self) -> Result<u16, Fault> {
        let mut unit = 0_u16;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16)).ok_or(Fault::Malformed)?;
            unit = (unit << 4) | u16::try_from(digit).unwrap_or_default();
            self.step();
        }
        Ok(unit)
    }

    fn white_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.step();
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Fault> {
        if self.eat(byte) { Ok(()) } else { Err(Fault::Malformed) }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.step();
        }
        found
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// An index within a slice cannot overflow.
    fn step(&mut self) {
        self.at = self.at.wrapping_add(1);
    }
}

/// How many bytes stand before the first that ends or interrupts the text of a string: `"`, `\`, a control character.
///
/// It looks at eight bytes at a time, each in a lane of a word: a lane's high bit is set when subtracting borrows from a
/// lane that was small. A borrow may go on to the lanes above, never to those below, so the lowest hit is a true one.
fn plain_length(bytes: &[u8]) -> usize {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let below = |word: u64, bound: u64| word.wrapping_sub(LOW.wrapping_mul(bound)) & !word;
    let (words, tail) = bytes.as_chunks();
    let mut length = 0_usize;
    for word in words {
        let word = u64::from_le_bytes(*word);
        let quote = below(word ^ LOW.wrapping_mul(u64::from(b'"')), 1);
        let backslash = below(word ^ LOW.wrapping_mul(u64::from(b'\\')), 1);
        let hits = (quote | backslash | below(word, u64::from(b' '))) & HIGH;
        if hits != 0 {
            return length.wrapping_add(usize::try_from(hits.trailing_zeros() >> 3).unwrap_or_default());
        }
        length = length.wrapping_add(8);
    }
    let plain = |byte: &u8| *byte >= b' ' && !matches!(byte, b'"' | b'\\');
    length.wrapping_add(tail.iter().take_while(|byte| plain(byte)).count())
}

impl Span {
    /// The bytes of the span, of the buffer that was scanned.
    pub(crate) fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start..self.end).unwrap_or_default()
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) mod reference;
#[cfg(test)]
mod tests;
