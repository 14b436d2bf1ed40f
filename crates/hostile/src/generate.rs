//! Generates hostile requests: nearly valid tokens, header tricks, and forged managed headers on every request.
//!
//! A request is a pure function of the seed, its number and, for tokens about to expire, the current second.

use std::fmt::Write as _;

use fastrand::Rng;
use routing_claims::PolicyConfig;
use testbed::Headers;

use crate::target::{FORGED, Target};

/// How a request reaches Envoy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// A hostile request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostileRequest {
    /// Its number in the run. Its path is `/<index>`.
    pub index: u64,
    /// For HTTP/2: the header lines. For HTTP/1.1 they are in `bytes`.
    pub lines: Headers,
    /// For HTTP/1.1: all bytes on the wire.
    pub bytes: Vec<u8>,
}

impl HostileRequest {
    /// The whole request as text, with other bytes escaped.
    #[must_use]
    pub fn shown(&self) -> String {
        if self.lines.is_empty() { self.bytes.escape_ascii().to_string() } else { shown(&self.lines) }
    }
}

/// Header lines as one line of text.
pub(crate) fn shown(lines: &Headers) -> String {
    let line = |(name, value): &Line| format!("{}: {}", name.escape_ascii(), value.escape_ascii());
    lines.iter().map(line).collect::<Vec<_>>().join("\\r\\n")
}

/// Generates the request with this number. `now` is the Unix time in seconds.
#[must_use]
pub fn request(seed: u64, index: u64, target: &Target, protocol: Protocol, now: i64) -> HostileRequest {
    let mut draft = Draft { rng: rng(seed, index), seed, target, http1: protocol == Protocol::Http1, now };
    let mut lines = draft.carriers();
    lines.extend(draft.forged());
    lines.extend(draft.others());
    if draft.rng.bool() {
        draft.rng.shuffle(&mut lines);
    }
    match protocol {
        Protocol::Http1 => HostileRequest { index, bytes: draft.http1(index, &lines), lines: Vec::new() },
        Protocol::Http2 => HostileRequest { index, lines: lines.iter().map(http2).collect(), bytes: Vec::new() },
    }
}

/// A random number generator that depends only on these numbers.
pub(crate) fn rng(seed: u64, number: u64) -> Rng {
    // Two rounds, so that neighbouring seeds and neighbouring numbers do not share streams.
    let mut outer = Rng::with_seed(seed);
    Rng::with_seed(outer.u64(..) ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// The path of the request with this number.
#[must_use]
pub fn path(index: u64) -> String {
    format!("/{index}")
}

/// The host of every request.
pub const AUTHORITY: &str = "hostile.example";

/// A request that is being generated.
struct Draft<'t> {
    rng: Rng,
    seed: u64,
    target: &'t Target,
    http1: bool,
    now: i64,
}

type Line = (Vec<u8>, Vec<u8>);

impl Draft<'_> {
    /// Lines that carry tokens, most of them in a source of the policy.
    fn carriers(&mut self) -> Vec<Line> {
        let PolicyConfig { from_headers, from_cookies, from_baggage, carry, .. } = self.target.policy().config();
        let mut lines = Vec::new();
        let places = from_headers.len() + from_cookies.len() + from_baggage.len();
        let carriers = self.weighted(&[(1, 0), (20, 1), (2, 2)]);
        for _ in 0..carriers {
            let place = self.rng.usize(..places);
            if let Some(source) = from_headers.get(place) {
                let mut value = source.prefix.clone().into_bytes();
                if self.once_in(6) {
                    for byte in value.iter_mut().filter(|byte| byte.is_ascii_alphabetic()) {
                        *byte ^= if self.rng.bool() { 32 } else { 0 };
                    }
                }
                if self.once_in(24) {
                    value = self
                        .pick(&[
                            &b"Basic "[..],
                            b"bearer",
                            b"Bearer\t",
                            b"BEARER  ",
                            b"Bearer Bearer ",
                            b", Bearer ",
                            b"",
                        ])
                        .to_vec();
                }
                value.extend(self.token());
                if self.once_in(24) {
                    value.extend_from_slice(self.pick(&[
                        &b","[..],
                        b" ,",
                        b", ",
                        b",,",
                        b" \t",
                        b";",
                        b", Basic eDp5",
                    ]));
                }
                if self.once_in(48) {
                    let more = [&b", "[..], source.prefix.as_bytes(), &self.token()].concat();
                    value.extend(more);
                }
                lines.push((source.name.clone().into_bytes(), value));
            } else if let Some(name) = from_cookies.get(place - from_headers.len()) {
                lines.push((b"cookie".to_vec(), self.cookies(name)));
            } else if let Some(key) = from_baggage.get(place - from_headers.len() - from_cookies.len()) {
                lines.push((b"baggage".to_vec(), self.baggage(key)));
            }
            if self.once_in(24) {
                lines.extend(lines.last().cloned());
            }
        }
        let carried = carry.as_ref().and_then(|carry| carry.baggage.as_deref());
        if (carried.is_some() || !from_baggage.is_empty()) && self.once_in(3) {
            lines.push((b"baggage".to_vec(), self.baggage(carried.unwrap_or("qa"))));
        }
        lines
    }

    /// A line of `baggage` with members of others, and mostly one of the key: a token, a choice, or a forged value.
    fn baggage(&mut self, wanted: &str) -> Vec<u8> {
        let mut members: Vec<Vec<u8>> = Vec::new();
        for _ in 0..self.weighted(&[(6, 1), (2, 2), (1, 4)]) {
            let key = if self.once_in(8) { self.pick(&["QA", "xqa", "", "q a", "other"]) } else { wanted };
            let token = self.token();
            let value = match self.rng.u8(..8) {
                0 => format!("{FORGED}-{}", self.rng.u16(..)).into_bytes(),
                1..=4 => token.split(|byte| *byte == b'.').nth(1).unwrap_or(&token).to_vec(),
                _ => token,
            };
            let (before, after) = self.pick(&[("", ""), ("", ";ttl=5"), (" ", " "), ("\t", " ; p"), ("", "%3D")]);
            members.push([before.as_bytes(), key.as_bytes(), b"=", &value, after.as_bytes()].concat());
        }
        for _ in 0..self.rng.usize(..3) {
            let member = self.pick(&["", " ", "tenant=a", " region = eu%20west;p=1", "=", ";", "x", "caf\u{e9}=1"]);
            let at = self.rng.usize(..=members.len());
            members.insert(at, member.into());
        }
        if self.once_in(24) {
            members.push([b"v=".as_slice(), &vec![b'v'; 8100 + self.rng.usize(..120)]].concat());
        }
        members.join(self.pick(&[&b","[..], b", ", b",,"]))
    }

    fn cookies(&mut self, wanted: &str) -> Vec<u8> {
        let mut line = Vec::new();
        for _ in 0..self.weighted(&[(6, 1), (2, 2), (1, 4)]) {
            let name = if self.once_in(6) { self.pick(&["QA", "qa ", "xqa", "", "$qa", "qa=qa"]) } else { wanted };
            let gap = self.pick(&[&b"; "[..], b";", b" ;\t", b";;"]);
            let quote: &[u8] = if self.once_in(32) { b"\"" } else { b"" };
            let token = self.token();
            line.extend([name.as_bytes(), b"=", quote, &token, quote, gap].concat());
        }
        line
    }

    /// One to four forged managed headers.
    fn forged(&mut self) -> Vec<Line> {
        let mut lines = Vec::new();
        for _ in 0..self.weighted(&[(4, 1), (3, 2), (1, 3), (1, 4)]) {
            let mut name = self.managed_name();
            match self.rng.u8(..16) {
                0 => name.make_ascii_uppercase(),
                1 | 2 => name = name.split('-').map(capital).collect::<Vec<_>>().join("-"),
                _ => {}
            }
            let mut value = format!("{FORGED}-{}", self.rng.u16(..)).into_bytes();
            match self.rng.u8(..32) {
                0 => value = FORGED.into(),
                1 => value.extend_from_slice(b"\xff\xfe"),
                2 => value.resize(9000, b'F'),
                3 => value.extend_from_slice(b", PR-1"),
                4 => value.splice(0..0, *b"  \t").for_each(drop),
                _ => {}
            }
            lines.push((name.into_bytes(), value));
            if self.once_in(4) {
                lines.extend(lines.last().cloned());
            }
        }
        lines
    }

    fn managed_name(&mut self) -> String {
        let watched = self.target.watched;
        let Some(prefix) = self.target.policy().config().header_prefix.clone() else {
            // Mostly the headers that routes match.
            return if self.rng.bool() { self.pick(&watched).into() } else { self.pick(self.target.managed()).clone() };
        };
        match self.rng.u8(..8) {
            0 => self.pick(self.target.managed()).clone(),
            1 => prefix,
            2 => format!("{prefix}{}", self.pick(&["a.b", "a_b", "-", "API", "x-route-api", "0"])),
            _ => self.pick(&watched).into(),
        }
    }

    /// Lines that must arrive unchanged, and some that Envoy rejects.
    fn others(&mut self) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for _ in 0..self.rng.usize(..4) {
            // A name that differs from a managed header in one byte.
            let name = self.managed_name().replace('-', self.pick(&["-", "_"]));
            let prefix = self.target.policy().config().header_prefix.as_deref().unwrap_or_default();
            let name = match self.rng.u8(..3) {
                0 => format!("a{name}"),
                1 if prefix.is_empty() => format!("{name}x"),
                _ => format!("x{name}"),
            };
            lines.push((name.into_bytes(), b"near".to_vec()));
        }
        if self.once_in(3) {
            lines.push((b"x-client".to_vec(), self.text(60)));
        }
        if self.once_in(96) {
            let count = self.weighted(&[(2, 40), (2, 85), (1, 110)]);
            lines.extend((0..count).map(|n| (format!("x-filler-{n}").into_bytes(), b"1".to_vec())));
        }
        if self.once_in(96) {
            let length = self.weighted(&[(4, 8200), (4, 20_000), (1, 70_000)]);
            lines.push((b"x-long".to_vec(), vec![b'l'; length]));
        }
        if self.once_in(24) {
            let watched = self.pick(&self.target.watched);
            let odd: (&str, Vec<u8>) = match self.rng.u8(..8) {
                0 if self.http1 => ("connection", watched.into()),
                1 if self.http1 => ("connection", b"authorization, keep-alive".to_vec()),
                2 => ("te", b"trailers".to_vec()),
                3 => ("x-forwarded-for", b"10.0.0.1".to_vec()),
                4 => ("x-envoy-original-path", b"/other".to_vec()),
                5 => ("x-envoy-decorator-operation", watched.into()),
                6 => ("accept", b"*/*".to_vec()),
                _ => ("x-request-id", b"of-the-client".to_vec()),
            };
            lines.push((odd.0.into(), odd.1));
        }
        if self.http1 && self.once_in(256) {
            let name =
                self.pick(&[&b"bad name"[..], b"", b"caf\xc3\xa9", b"x\0y", b"x-tab\t", b"microservice-a "]).to_vec();
            lines.push((name, FORGED.into()));
        }
        lines
    }

    /// The bytes of a token, in the policy's format or close to it.
    fn token(&mut self) -> Vec<u8> {
        match self.rng.u8(..32) {
            // Tokens that are in the cache, then tokens that differ from them in a byte.
            0..=8 => self.pooled(),
            9..=12 => {
                let token = self.pooled();
                self.mutated_token(token)
            }
            // Tokens about to become valid or to expire. They are sent on both sides of their time.
            13..=17 => self.clocked(),
            18..=19 => {
                let token = self.clocked();
                self.mutated_token(token)
            }
            20..=22 => {
                let payload = payload(&mut self.rng, self.target, None);
                self.target.token(payload.as_bytes())
            }
            23..=28 => {
                let payload = payload(&mut self.rng, self.target, None).into_bytes();
                let payload = self.mutated_payload(payload);
                self.target.token(&payload)
            }
            29..=30 => {
                let token = self.pooled();
                let token = self.mutated_token(token);
                self.mutated_token(token)
            }
            _ => self.odd(),
        }
    }

    fn pooled(&mut self) -> Vec<u8> {
        // A few that are almost always cached, and more than fit into a cache.
        let id = if self.rng.bool() { self.rng.u64(..16) } else { self.rng.u64(..600) };
        let mut rng = rng(self.seed ^ POOLED, id);
        self.target.token(payload(&mut rng, self.target, None).as_bytes())
    }

    /// A token from the pool of a second near now. The same token is sent from a few seconds before its time to a few
    /// seconds after.
    fn clocked(&mut self) -> Vec<u8> {
        let at = self.now + self.rng.i64(-3..=3);
        let id = self.rng.u64(..4);
        let mut rng = rng(self.seed ^ CLOCKED ^ at.unsigned_abs(), id);
        let skew = i64::from(self.target.policy().config().clock_skew_seconds);
        let times = match rng.u8(..4) {
            0 => format!("\"nbf\":{}", at + skew),
            1 => format!("\"nbf\":{},\"exp\":{}", at + skew - 2, at - skew),
            _ => format!("\"exp\":{}", at - skew),
        };
        self.target.token(payload(&mut rng, self.target, Some(&times)).as_bytes())
    }

    /// Flips bits, and truncates, splices, inserts or removes bytes.
    fn mutated_token(&mut self, mut token: Vec<u8>) -> Vec<u8> {
        let length = token.len().max(1);
        let at = self.rng.usize(..length).min(token.len());
        match self.rng.u8(..12) {
            0..=2 => {
                if let Some(byte) = token.get_mut(at) {
                    *byte ^= 1 << self.rng.u8(..7);
                }
            }
            3 => token.truncate(at),
            4 => drop(token.drain(..at)),
            5 => {
                let other = self.pooled();
                token.truncate(at);
                token.extend_from_slice(other.get(at..).unwrap_or_default());
            }
            6 => {
                for byte in &mut token {
                    *byte = if *byte == b'-' {
                        b'+'
                    } else if *byte == b'_' {
                        b'/'
                    } else {
                        *byte
                    };
                }
            }
            7 => {
                let pad = self.pick(&[&b"="[..], b"==", b"===", b"%3D"]);
                let end = token.iter().rposition(|byte| *byte == b'.').unwrap_or(token.len());
                token.splice(end..end, pad.iter().copied());
            }
            8 => token.insert(at, self.pick(b".=+/ ,;_-~\xff%\t\"'")),
            9 => {
                if at < token.len() {
                    token.remove(at);
                }
            }
            10 => token.extend_from_slice(self.pick(&[&b"."[..], b".x", b"A", b"="])),
            _ => {
                if let Some(byte) = token.get_mut(at) {
                    *byte ^= if byte.is_ascii_alphabetic() { 32 } else { 0 };
                }
            }
        }
        token
    }

    /// Makes the JSON invalid, or changes its meaning.
    fn mutated_payload(&mut self, mut payload: Vec<u8>) -> Vec<u8> {
        for _ in 0..=self.rng.usize(..3) {
            let at = self.rng.usize(..=payload.len());
            match self.rng.u8(..8) {
                0 if at < payload.len() => payload[at] = self.pick(STRUCTURE),
                1 => payload.insert(at, self.pick(STRUCTURE)),
                2 if at < payload.len() => _ = payload.remove(at),
                3 => {
                    let snippet = self.pick(SNIPPETS);
                    payload.splice(at..at, snippet.iter().copied());
                }
                4 => {
                    // Duplicate keys.
                    let body = payload.get(1..payload.len().saturating_sub(1)).unwrap_or_default();
                    payload = [b"{", body, b",", body, b"}"].concat();
                }
                5 => {
                    let (open, close) = self.pick(&[("[", "]"), ("{\"a\":", "}")]);
                    let depth = self.weighted(&[(3, 3), (3, 15), (3, 17), (1, 600)]);
                    let nested = format!("\"n\":{}1{},", open.repeat(depth), close.repeat(depth));
                    let at = 1.min(payload.len());
                    payload.splice(at..at, nested.into_bytes());
                }
                6 => {
                    let at = 1.min(payload.len());
                    let number = self.pick(&[
                        "1e400",
                        "-0.0",
                        "1e-999999",
                        "99999999999999999999",
                        "1.5e1",
                        "0",
                        "\"1\"",
                        "null",
                    ]);
                    let key = self.pick(&["exp", "nbf", "iat"]);
                    payload.splice(at..at, format!("\"{key}\":{number},").into_bytes());
                }
                _ => {
                    let more = self.weighted(&[(8, 10), (2, 300), (1, 6000)]);
                    payload.resize(payload.len() + more, b' ');
                }
            }
        }
        payload
    }

    fn odd(&mut self) -> Vec<u8> {
        let limit = usize::try_from(self.target.policy().config().limits.max_token_bytes).unwrap_or_default();
        match self.rng.u8(..8) {
            0 => Vec::new(),
            1 => self.pick(&[&b"."[..], b"..", b"...", b"a.b", b".e30.", b"e30", b"=", b"null", b"undefined"]).to_vec(),
            // At the limit, and one byte below and above.
            2 | 3 => {
                let mut token = self.pooled();
                token.resize(limit - 1 + self.rng.usize(..3), b'A');
                token
            }
            4 => vec![b'.'; self.rng.usize(..2000)],
            5 => vec![b'A'; self.rng.usize(..20_000)],
            6 => self.text(400),
            _ => {
                let payload = format!(
                    "{{{}}}",
                    (0..self.rng.usize(..400)).map(|n| format!("\"k{n}\":{n}")).collect::<Vec<_>>().join(",")
                );
                self.target.token(payload.as_bytes())
            }
        }
    }

    /// Random bytes that a header value may contain, not only text.
    fn text(&mut self, longest: usize) -> Vec<u8> {
        (0..self.rng.usize(..longest)).map(|_| self.rng.u8(0x20..)).filter(|byte| *byte != 0x7f).collect()
    }

    /// The lines in HTTP/1.1, with white space where a client may put it and where it is not allowed.
    fn http1(&mut self, index: u64, lines: &[Line]) -> Vec<u8> {
        let mut bytes = format!("GET {} HTTP/1.1\r\nhost: {AUTHORITY}\r\n", path(index)).into_bytes();
        for (name, value) in lines {
            bytes.extend_from_slice(name);
            bytes.extend_from_slice(match self.rng.u8(..128) {
                0..=3 => b":",
                4..=5 => b":   ",
                6..=7 => b":\t",
                8 => b" : ",
                _ => b": ",
            });
            let mut value = value.clone();
            match self.rng.u16(..1024) {
                0..=3 => self.put_in(&mut value, &[&b"\r\n "[..], b"\r\n\t ", b"\r\n  \r\n "]),
                4..=6 => self.put_in(&mut value, &[&b"\n "[..], b"\0", b"\r ", b"\x01", b"\x0b", b"\x7f"]),
                _ => {}
            }
            bytes.extend(value);
            bytes.extend_from_slice(match self.rng.u8(..64) {
                0 => b" \r\n",
                1 => b"\t \r\n",
                _ => b"\r\n",
            });
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }

    /// Inserts bytes, but never at the end, where they would change the next line or end the request.
    fn put_in(&mut self, value: &mut Vec<u8>, what: &[&[u8]]) {
        let at = self.rng.usize(..value.len().max(1));
        if at < value.len() {
            value.splice(at..at, self.pick(what).iter().copied());
        }
    }

    fn once_in(&mut self, times: usize) -> bool {
        self.rng.usize(..times) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.rng.usize(..from.len())].clone()
    }

    fn weighted(&mut self, choices: &[(usize, usize)]) -> usize {
        let total: usize = choices.iter().map(|(weight, _)| weight).sum();
        let mut left = self.rng.usize(..total);
        for (weight, choice) in choices {
            if left < *weight {
                return *choice;
            }
            left -= weight;
        }
        0
    }
}

/// A payload with routes for this policy. `times` are members of its top level.
fn payload(rng: &mut Rng, target: &Target, times: Option<&str>) -> String {
    let config = target.policy().config();
    let mut routes = String::from("{");
    let mut keys: Vec<String> = Vec::new();
    let services = config.services.as_deref().unwrap_or_default();
    for _ in 0..=rng.usize(..4) {
        let mut key = match (rng.u8(..16), services) {
            (0, _) => "other".to_owned(),
            (_, []) => pick(rng, &["api", "cart", "API", "checkout", "a b"]).to_owned(),
            // The services whose headers routes match are the first or the last ones.
            (1..=8, [first, .., last]) => {
                if rng.bool() {
                    first.name.clone()
                } else {
                    last.name.clone()
                }
            }
            (_, services) => pick(rng, services).name,
        };
        if rng.u8(..8) == 0 {
            key.make_ascii_uppercase();
        }
        // Duplicate keys and case variants only now and then.
        if keys.iter().any(|other| other.eq_ignore_ascii_case(&key)) && rng.u8(..16) > 0 {
            continue;
        }
        let value = match rng.u8(..16) {
            0 => pick(rng, &["\"\"", "null", "\"a b\"", "-1", "\"-x\"", "{}", "[1]", "1.5", "\"PR-1\\u0000\""])
                .to_owned(),
            1 => rng.u32(..).to_string(),
            2 => format!("\"v{}.{}\"", rng.u8(..), rng.u8(..)),
            3..=8 => "\"PR-1\"".to_owned(),
            9 => "\"\\u0050R-2\"".to_owned(),
            _ => "\"PR-2\"".to_owned(),
        };
        let comma = if keys.is_empty() { "" } else { "," };
        // Writing to a string never fails.
        _ = write!(routes, "{comma}\"{key}\":{value}");
        keys.push(key);
    }
    routes.push('}');
    let small = config.limits.max_payload_bytes < 1000;
    let noise = if small {
        String::new()
    } else {
        format!(
            "\"iss\":\"https://issuer.example\",\"sub\":\"{}\",\"aud\":[\"a\",\"b\"],\"jti\":\"{:x}\"",
            rng.u32(..),
            rng.u64(..)
        )
    };
    let routes = match config.claim_path.split_first() {
        None => routes[1..routes.len() - 1].to_owned(),
        Some((first, rest)) => {
            let inner = rest.iter().rev().fold(routes, |inner, segment| format!("{{\"{segment}\":{inner}}}"));
            format!("\"{first}\":{inner}")
        }
    };
    let parts = [times.unwrap_or_default(), &noise, &routes];
    format!("{{{}}}", parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(","))
}

fn pick<T: Clone>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())].clone()
}

/// The line in HTTP/2: the name in lower case, without bytes that the client's own library rejects.
fn http2((name, value): &Line) -> Line {
    let value = value.iter().copied().filter(|byte| *byte == b'\t' || *byte >= 0x20 && *byte != 0x7f);
    (name.to_ascii_lowercase(), value.collect::<Vec<_>>().trim_ascii().to_vec())
}

fn capital(word: &str) -> String {
    let mut word = word.to_owned();
    if let Some(first) = word.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    word
}

const POOLED: u64 = 0x706f_6f6c;
const CLOCKED: u64 = 0x636c_6f63 << 32;

const STRUCTURE: &[u8] = b"\"\\{}[],:.-+eE0/u \n\t\0\x01\x1f\x7f\x80\xbf\xc0\xe0\xf4\xff";

const SNIPPETS: &[&[u8]] = &[
    b"\\u0000",
    b"\\ud800",
    b"\\ud83d\\ude00",
    b"\\x41",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\"exp\":0,",
    b",\"exp\":0",
    b",\"nbf\":9e99",
    b",\"microservice-A\":\"PR-1\"",
    b"\"API\":\"PR-2\",",
    b"/*x*/",
    b"NaN",
    b"}{",
    b"[[[[[[",
    b"}}}}",
    b",,",
    b"\"r\":{},",
    b"\"\":\"\",",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_and_number_give_the_same_request() {
        for target in &Target::all().unwrap() {
            for protocol in [Protocol::Http1, Protocol::Http2] {
                let make = |seed, index| request(seed, index, target, protocol, 1_800_000_000);
                for index in 0..200 {
                    assert_eq!(make(7, index), make(7, index));
                    assert_ne!(make(7, index), make(8, index));
                    assert_ne!(make(7, index), make(7, index + 1));
                }
            }
        }
    }

    #[test]
    fn every_request_carries_a_forged_managed_header() {
        for target in &Target::all().unwrap() {
            for index in 0..2000 {
                let request = request(1, index, target, Protocol::Http2, 1_800_000_000);
                let forged = |(name, value): &Line| target.manages(name) && value.starts_with(FORGED.as_bytes());
                assert!(request.lines.iter().any(forged), "{} {index}", target.name);
            }
        }
    }

    /// Bytes after a request would be read as the next request.
    #[test]
    fn http1_requests_end_where_they_should() {
        for target in &Target::all().unwrap() {
            for index in 0..5000 {
                let bytes = request(3, index, target, Protocol::Http1, 1_800_000_000).bytes;
                let ends = bytes.windows(3).filter(|window| *window == b"\n\r\n").count();
                assert!(bytes.ends_with(b"\r\n\r\n") && ends == 1, "{}", bytes.escape_ascii());
                assert!(!bytes.windows(2).any(|window| window == b"\n\n"));
            }
        }
    }

    /// An attack that never reaches the filter proves nothing.
    #[test]
    fn every_outcome_comes_about_for_every_policy() {
        const NOW: i64 = 1_800_000_000;
        for target in &Target::all().unwrap() {
            let mut decider = target.decider();
            let mut seen = std::collections::BTreeSet::new();
            for index in 0..6000 {
                let request = request(5, index, target, Protocol::Http2, NOW);
                let lines = request.lines.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
                seen.insert(decider.decide(lines, NOW).outcome().code());
            }
            let missing: Vec<_> = routing_claims::Outcome::ALL
                .iter()
                .map(|outcome| outcome.code())
                .filter(|code| !seen.contains(code))
                .collect();
            // Only the policy with a low `maxRoutes` gets too many routes.
            let expected: &[&str] = if target.name == "tight" { &[] } else { &["too-many-routes"] };
            assert_eq!(missing, expected, "{}", target.name);
        }
    }
}
