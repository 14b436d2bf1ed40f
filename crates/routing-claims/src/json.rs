//! From bytes to JSON events: a strict RFC 8259 reader that is asked for one thing at a time.
//!
//! It keeps its nesting in one word and unescapes strings in place, so it neither recurses nor allocates. The bytes
//! must be valid UTF-8 already: only then is every accepted text JSON.

use crate::swar;

/// Reads one JSON object from its first byte to its last.
///
/// The order of calls is the caller's duty: a key, its value, the next key. A member's value is announced by
/// [`Scanner::value`], which takes the colon, and is then read by the method of its kind or by [`Scanner::skip`].
pub(crate) struct Scanner<'b> {
    bytes: &'b mut [u8],
    /// How many bytes have been read.
    at: usize,
    /// How many more containers may be entered.
    room: u32,
    /// The innermost container has just been opened: no comma before its first member.
    fresh: bool,
}

/// Why a scan stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Malformed,
    TooDeep,
}

/// The kind of value that comes next, judged by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    String,
    Number,
    /// An array, a literal, or not JSON, which [`Scanner::skip`] finds out.
    Other,
}

/// A part of a buffer, here of the scanned bytes. It stays valid while the scan goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl<'b> Scanner<'b> {
    /// Starts inside the object that the bytes must be.
    pub(crate) fn object(bytes: &'b mut [u8], max_depth: u32) -> Result<Self, Fault> {
        debug_assert!(max_depth <= u64::BITS, "`skip` has one bit for each level");
        let at = take(bytes, next(bytes, 0).0, b'{')?;
        let room = max_depth.checked_sub(1).ok_or(Fault::TooDeep)?;
        Ok(Self { bytes, at, room, fresh: true })
    }

    /// The bytes of a span.
    pub(crate) fn text(&self, span: Span) -> &[u8] {
        span.of(self.bytes)
    }

    /// The next member's key, unescaped, or none at the end of the object, which is left.
    pub(crate) fn key(&mut self) -> Result<Option<Span>, Fault> {
        let first = std::mem::take(&mut self.fresh);
        let (at, byte) = next(self.bytes, self.at);
        if byte == b'}' {
            self.at = at + 1;
            self.room += 1;
            return Ok(None);
        }
        self.at = if first { at } else { next(self.bytes, take(self.bytes, at, b',')?).0 };
        self.string().map(Some)
    }

    /// Takes the colon after a key and tells what follows.
    pub(crate) fn value(&mut self) -> Result<Kind, Fault> {
        let colon = next(self.bytes, self.at).0;
        let (at, first) = next(self.bytes, take(self.bytes, colon, b':')?);
        self.at = at;
        Ok(match first {
            b'"' => Kind::String,
            b'{' => Kind::Object,
            b'-' | b'0'..=b'9' => Kind::Number,
            _ => Kind::Other,
        })
    }

    /// Enters the object that comes next.
    pub(crate) fn enter(&mut self) -> Result<(), Fault> {
        self.room = self.room.checked_sub(1).ok_or(Fault::TooDeep)?;
        self.fresh = true;
        self.at = take(self.bytes, self.at, b'{')?;
        Ok(())
    }

    /// Reads a string and unescapes it in place. Those that are read, unlike those that are skipped, are short: words would
    /// cost more than bytes.
    pub(crate) fn string(&mut self) -> Result<Span, Fault> {
        let start = take(self.bytes, self.at, b'"')?;
        self.at = start + swar::plain_length_by_bytes(behind(self.bytes, start));
        let end = self.at;
        if self.peek() == b'"' {
            self.at += 1;
            return Ok(Span::new(start, end));
        }
        self.unescape(start)
    }

    /// Reads a number (RFC 8259 section 6); the span is its text.
    pub(crate) fn number(&mut self) -> Result<Span, Fault> {
        let start = self.at;
        self.at = number(self.bytes, start)?;
        Ok(Span::new(start, self.at))
    }

    /// Reads the value that comes next, whatever it is, with all it contains.
    pub(crate) fn skip(&mut self) -> Result<(), Fault> {
        self.at = skip(self.bytes, self.at, self.room)?;
        Ok(())
    }

    /// Takes the colon after a key and passes over the value.
    pub(crate) fn skip_value(&mut self) -> Result<(), Fault> {
        let colon = next(self.bytes, self.at).0;
        self.at = take(self.bytes, colon, b':')?;
        self.skip()
    }

    /// Checks that nothing but white space follows the object.
    pub(crate) fn finish(self) -> Result<(), Fault> {
        if next(self.bytes, self.at).0 == self.bytes.len() { Ok(()) } else { Err(Fault::Malformed) }
    }

    /// Reads a string from its first escape to its closing quote: what is unescaped is never longer, so it is written over it.
    #[cold]
    fn unescape(&mut self, start: usize) -> Result<Span, Fault> {
        let mut end = self.at;
        loop {
            let byte = self.peek();
            self.at += 1;
            match byte {
                b'"' => return Ok(Span::new(start, end)),
                b'\\' => {
                    let (character, at) = escape(self.bytes, self.at)?;
                    self.at = at;
                    end = self.put(end, character.encode_utf8(&mut [0; 4]).as_bytes());
                }
                b' '.. => end = self.put(end, &[byte]),
                _ => return Err(Fault::Malformed),
            }
        }
    }

    #[expect(clippy::indexing_slicing, reason = "an escape is never shorter than what it stands for")]
    fn put(&mut self, at: usize, text: &[u8]) -> usize {
        let end = at + text.len();
        debug_assert!(end <= self.at, "what is not yet read is overwritten");
        self.bytes[at..end].copy_from_slice(text);
        end
    }

    fn peek(&self) -> u8 {
        peek(self.bytes, self.at)
    }
}

// What follows reads a piece of JSON that begins at a position, and gives the position behind it.

/// Reads a value and all it contains, which may nest to `max_depth`.
fn skip(text: &[u8], mut at: usize, max_depth: u32) -> Result<usize, Fault> {
    let mut depth = 0;
    // The lowest bit tells whether the innermost container is an object; those around it are above.
    let mut objects = 0_u64;
    loop {
        let (start, first) = next(text, at);
        at = match first {
            b'"' => string(text, start + 1)?,
            b'-' | b'0'..=b'9' => number(text, start)?,
            b'{' | b'[' => {
                if depth == max_depth {
                    return Err(Fault::TooDeep);
                }
                depth += 1;
                objects = objects << 1 | u64::from(first == b'{');
                let (inside, first) = next(text, start + 1);
                if first != closing(objects) {
                    at = if objects & 1 == 1 { key(text, inside)? } else { inside };
                    continue;
                }
                inside
            }
            b't' => literal(text, start, b"true")?,
            b'f' => literal(text, start, b"false")?,
            b'n' => literal(text, start, b"null")?,
            _ => return Err(Fault::Malformed),
        };
        // A value has ended, and so may the containers around it.
        loop {
            if depth == 0 {
                return Ok(at);
            }
            let (end, byte) = next(text, at);
            at = end + 1;
            if byte == b',' {
                if objects & 1 == 1 {
                    at = key(text, next(text, at).0)?;
                }
                break;
            }
            if byte != closing(objects) {
                return Err(Fault::Malformed);
            }
            depth -= 1;
            objects >>= 1;
        }
    }
}

/// Reads a key and its colon.
fn key(text: &[u8], at: usize) -> Result<usize, Fault> {
    let at = string(text, take(text, at, b'"')?)?;
    take(text, next(text, at).0, b':')
}

/// Reads a string from behind its opening quote.
fn string(text: &[u8], mut at: usize) -> Result<usize, Fault> {
    at += swar::plain_length(behind(text, at));
    loop {
        at = match peek(text, at) {
            b'"' => return Ok(at + 1),
            b'\\' => escape(text, at + 1)?.1,
            b' '.. => at + 1,
            _ => return Err(Fault::Malformed),
        }
    }
}

fn literal(text: &[u8], at: usize, word: &[u8]) -> Result<usize, Fault> {
    if behind(text, at).starts_with(word) { Ok(at + word.len()) } else { Err(Fault::Malformed) }
}

/// Reads a number (RFC 8259 section 6).
#[expect(clippy::inline_always, reason = "inlined, each of many short numbers costs 53 instructions instead of 73")]
#[inline(always)]
fn number(text: &[u8], mut at: usize) -> Result<usize, Fault> {
    at = if peek(text, at) == b'-' { integer(text, at + 1)? } else { integer(text, at)? };
    let mut next = peek(text, at);
    if next == b'.' {
        at = digits(text, at + 1)?;
        next = peek(text, at);
    }
    if matches!(next, b'e' | b'E') {
        at += 1;
        if matches!(peek(text, at), b'+' | b'-') {
            at += 1;
        }
        at = digits(text, at)?;
    }
    Ok(at)
}

/// Reads an integer without a sign.
fn integer(text: &[u8], at: usize) -> Result<usize, Fault> {
    if peek(text, at) == b'0' { Ok(at + 1) } else { digits(text, at) }
}

/// Reads one digit and those that follow it.
fn digits(text: &[u8], mut at: usize) -> Result<usize, Fault> {
    if !peek(text, at).is_ascii_digit() {
        return Err(Fault::Malformed);
    }
    loop {
        at += 1;
        if !peek(text, at).is_ascii_digit() {
            return Ok(at);
        }
    }
}

/// Reads what follows a backslash (RFC 8259 section 7), and gives the character that it stands for.
fn escape(text: &[u8], at: usize) -> Result<(char, usize), Fault> {
    let character = match peek(text, at) {
        byte @ (b'"' | b'\\' | b'/') => char::from(byte),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let unit = utf16_unit(text, at + 1)?;
            if !matches!(unit, 0xd800..=0xdbff) {
                return Ok((char::from_u32(unit).ok_or(Fault::Malformed)?, at + 5));
            }
            let low = utf16_unit(text, literal(text, at + 5, br"\u")?)?;
            if !matches!(low, 0xdc00..=0xdfff) {
                return Err(Fault::Malformed);
            }
            let code_point = 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
            return Ok((char::from_u32(code_point).ok_or(Fault::Malformed)?, at + 11));
        }
        _ => return Err(Fault::Malformed),
    };
    Ok((character, at + 1))
}

/// Reads four hexadecimal digits.
fn utf16_unit(text: &[u8], at: usize) -> Result<u32, Fault> {
    let digits = text.get(at..at + 4).ok_or(Fault::Malformed)?;
    let value = |digit: &u8| char::from(*digit).to_digit(16);
    digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | value(digit)?)).ok_or(Fault::Malformed)
}

/// Passes over white space, and looks at the byte behind it.
fn next(text: &[u8], mut at: usize) -> (usize, u8) {
    loop {
        match peek(text, at) {
            b' ' | b'\t' | b'\n' | b'\r' => at += 1,
            byte => return (at, byte),
        }
    }
}

/// Reads this one byte.
fn take(text: &[u8], at: usize, byte: u8) -> Result<usize, Fault> {
    if peek(text, at) == byte { Ok(at + 1) } else { Err(Fault::Malformed) }
}

/// The byte at a position; a zero beyond the end, which JSON does not go on with anywhere.
fn peek(text: &[u8], at: usize) -> u8 {
    text.get(at).copied().unwrap_or(0)
}

fn behind(text: &[u8], at: usize) -> &[u8] {
    text.get(at..).unwrap_or(&[])
}

/// What closes the innermost container.
fn closing(objects: u64) -> u8 {
    if objects & 1 == 1 { b'}' } else { b']' }
}

impl Span {
    #[expect(clippy::cast_possible_truncation, reason = "limits bound every buffer to less than 64 KB")]
    pub(crate) fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && u32::try_from(end).is_ok());
        Self { start: start as u32, end: end as u32 }
    }

    pub(crate) fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The bytes of the span, of the buffer that it is a part of.
    #[expect(clippy::indexing_slicing, reason = "whoever makes a span has read it from the buffer")]
    pub(crate) fn of(self, buffer: &[u8]) -> &[u8] {
        &buffer[self.start as usize..self.end as usize]
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) mod reference;
#[cfg(test)]
mod tests;
