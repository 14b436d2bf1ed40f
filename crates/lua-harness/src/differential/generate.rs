//! Generates policies, payloads, tokens and requests that are nearly valid.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use routing_claims::{CarryConfig, HeaderSourceConfig, LimitsConfig, PolicyConfig, ServiceConfig, TokenFormat};

use super::dice::Dice;
use crate::Lines;

const NAMES: &[&str] = &[
    "api",
    "API-x",
    "a",
    "web.1",
    "exp",
    "nbf",
    "gr\u{f6}\u{df}e",
    "q\"uote",
    "back\\slash",
    "two words",
    "\u{1f600}",
    "routes",
    "\0",
    // The code points at which UTF-8 gets a byte longer, and the neighbours of the surrogates.
    "\u{7f}\u{80}",
    "\u{7ff}\u{800}",
    "\u{ffff}\u{10000}\u{10ffff}",
    "\u{d7ff}\u{e000}",
];
const SEGMENTS: &[&str] = &["routes", "https://example.com/r", "a", "api", "\u{e9}", "ro\"utes", "exp."];
const PREFIXES: &[&str] = &["Bearer ", "", "Token:", "bearer", "A"];
const SOURCES: &[&str] = &["authorization", "X-Jwt", "x-token", "x-user", "jwt"];
const COOKIES: &[&str] = &["token", "t", "Token", "session"];
const BAGGAGE: &[&str] = &["qa", "QA", "t", "!#$%&'*+-.^_`|~"];
const CARRIER_HEADER: &str = "x-qa-routes";

/// A valid configuration.
pub(super) fn policy(dice: &mut Dice) -> PolicyConfig {
    let mut claim_path: Vec<String> = (0..dice.roll(4)).map(|_| dice.pick(SEGMENTS).into()).collect();
    let open = !claim_path.is_empty() && dice.roll(3) == 1;
    let mut services: Vec<ServiceConfig> = (0..=dice.roll(6))
        .map(|index| {
            let name: String = dice.pick(NAMES).into();
            let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
            // Headers whose order differs from that of the names.
            let header = (!plain || dice.once_in(4)).then(|| format!("x-{}-{index}", ["m", "z", "b"][index % 3]));
            ServiceConfig { name, header }
        })
        .collect();
    // More headers than the script reads one by one.
    if dice.once_in(8) {
        services.extend((0..60).map(|index| ServiceConfig { name: format!("many-{index}"), header: None }));
    }
    services.sort_by_key(|service| service.name.to_ascii_lowercase());
    services.dedup_by_key(|service| service.name.to_ascii_lowercase());
    if claim_path.is_empty() {
        services.retain(|service| service.name != "exp" && service.name != "nbf");
        if services.is_empty() {
            services.push(ServiceConfig { name: "api".into(), header: None });
        }
    }
    let mut from_headers: Vec<HeaderSourceConfig> = (0..=dice.roll(3))
        .map(|_| HeaderSourceConfig { name: dice.pick(SOURCES).into(), prefix: dice.pick(PREFIXES).into() })
        .collect();
    from_headers.sort_by_key(|source| (source.name.to_ascii_lowercase(), source.prefix.to_ascii_lowercase()));
    from_headers.dedup();
    if dice.once_in(2) {
        from_headers.reverse();
    }
    let mut from_cookies: Vec<String> = (0..dice.roll(3)).map(|_| dice.pick(COOKIES).into()).collect();
    from_cookies.sort();
    from_cookies.dedup();
    if !from_cookies.is_empty() && dice.once_in(4) {
        from_headers.clear();
    }
    let mut from_baggage: Vec<String> = (0..dice.roll(3)).map(|_| dice.pick(BAGGAGE).into()).collect();
    from_baggage.sort();
    from_baggage.dedup();
    if !from_baggage.is_empty() && dice.once_in(2) {
        from_headers.clear();
    }
    let carry = match dice.roll(4) {
        1 | 2 => Some(CarryConfig { baggage: Some(dice.pick(BAGGAGE).into()), header: None }),
        3 => {
            if dice.once_in(2) {
                let at = dice.roll(from_headers.len() + 1);
                from_headers.insert(at, HeaderSourceConfig { name: CARRIER_HEADER.into(), prefix: String::new() });
            }
            Some(CarryConfig { baggage: None, header: Some(CARRIER_HEADER.into()) })
        }
        _ => None,
    };
    // What is carried can come near its limit only if the claim path is long.
    if carry.is_some() && !claim_path.is_empty() && dice.once_in(8) {
        claim_path.extend((0..11).map(|_| "p".repeat(255)));
        claim_path.push("q".repeat(100 + dice.roll(150)));
    }
    let depth = claim_path.iter().fold(1, |depth, _| depth + 1);
    PolicyConfig {
        from_headers,
        from_cookies,
        from_baggage,
        carry,
        format: [TokenFormat::Jwt, TokenFormat::Jwt, TokenFormat::Payload][dice.roll(3)],
        claim_path,
        services: (!open).then_some(services),
        header_prefix: open.then(|| ["x-route-", "r-", "version-of-"][dice.roll(3)].into()),
        report_header: (!dice.once_in(8)).then(|| "x-report".into()),
        clock_skew_seconds: [60, 0, 5, 300][dice.roll(4)],
        limits: LimitsConfig {
            max_token_bytes: [8192, 8192, 65536, 256][dice.roll(4)],
            max_payload_bytes: [6144, 6144, 150, 300, 64, 49152][dice.roll(6)],
            max_routes: [32, 1, 2, 64][dice.roll(4)],
            max_depth: [16, depth, depth + 1, 64][dice.roll(4)],
        },
    }
}

/// A token for a policy.
pub(super) fn token(dice: &mut Dice, policy: &PolicyConfig, now: i64) -> Vec<u8> {
    let mut payload = Payload { dice, policy, now }.bytes();
    if dice.once_in(8) {
        mutate(dice, &mut payload, b"\"\\{}[],:.-+eE0/u \n\t\0\x01\x1f\x7f\x80\xbf\xc0\xc2\xe0\xed\xa0\xf0\xf4\xff");
    }
    if dice.once_in(16) {
        let sequences: &[&[u8]] = &[
            b"\xc1\xbf",
            b"\xc2\x80",
            b"\xdf\xbf",
            b"\xe0\x9f\xbf",
            b"\xe0\xa0\x80",
            b"\xed\x9f\xbf",
            b"\xed\xa0\x80",
            b"\xef\xbf\xbf",
            b"\xf0\x8f\xbf\xbf",
            b"\xf0\x90\x80\x80",
            b"\xf4\x8f\xbf\xbf",
            b"\xf4\x90\x80\x80",
            b"\xf5\x80\x80\x80",
            b"\xe2\x82",
            b"\xf0\x9f\x98",
            b"\xc2",
            b"\x80",
        ];
        let at = payload.windows(2).position(|pair| pair == b"s\"").map_or(0, |at| at + 1);
        payload.splice(at..at, dice.pick(sequences).iter().copied());
    }
    let mut segment = URL_SAFE_NO_PAD.encode(payload).into_bytes();
    if dice.once_in(8) {
        while !segment.len().is_multiple_of(4) {
            segment.push(b'=');
        }
    }
    if dice.once_in(32) {
        segment.extend_from_slice(dice.pick(&[b"=".as_slice(), b"==", b"===", b"====", b"A==="]));
    }
    if dice.once_in(16) {
        mutate(dice, &mut segment, b"=+/-_. AZaz09,B\x80\0");
    }
    if dice.once_in(64) {
        return dice
            .pick(&[b"".as_slice(), b".", b"..", b".e30.", b"a..", b"a.e30", b"a.e30.b.c", b"e30", b"="])
            .to_vec();
    }
    let mut token = match policy.format {
        TokenFormat::Jwt => [b"eyJhbGciOiJub25lIn0.".as_slice(), &segment, b".sig"].concat(),
        TokenFormat::Payload => segment,
    };
    if dice.once_in(32) {
        mutate(dice, &mut token, b"...=, ;");
    }
    if dice.once_in(32) {
        let more = dice.roll(9000);
        token.resize(token.len() + more, b'A');
    }
    token
}

/// A request with one of the tokens, in most cases where the policy reads it.
pub(super) fn request(dice: &mut Dice, policy: &PolicyConfig, tokens: &[Vec<u8>]) -> Lines {
    let mut lines: Lines = vec![(b"host".to_vec(), b"shop.example".to_vec())];
    let token = |dice: &mut Dice| dice.pick(tokens);
    for source in &policy.from_headers {
        for _ in 0..[1, 1, 1, 1, 1, 1, 0, 2][dice.roll(8)] {
            let mut value = source.prefix.clone().into_bytes();
            if dice.once_in(4) {
                for byte in value.iter_mut().filter(|byte| byte.is_ascii_alphabetic()) {
                    *byte ^= if dice.once_in(2) { 32 } else { 0 };
                }
            }
            if dice.once_in(16) {
                value = b"Basic ".to_vec();
            }
            value.extend_from_slice([b"".as_slice(), b" ", b"\t ", b"\n"][dice.roll(32).saturating_sub(28)]);
            if !dice.once_in(16) {
                value.extend(token(dice));
            }
            value.extend_from_slice([b"".as_slice(), b" \t", b"\x0b", b","][dice.roll(32).saturating_sub(28)]);
            lines.push((source.name.clone().into_bytes(), value));
        }
    }
    for _ in 0..[0, 1, 1, 1, 1, 2][dice.roll(6)] {
        let mut line = Vec::new();
        for _ in 0..[1, 1, 1, 0, 2, 3][dice.roll(6)] {
            let name = policy.from_cookies.first().map_or("token", String::as_str);
            let name = if dice.once_in(3) { dice.pick(COOKIES) } else { name };
            line.extend_from_slice([b"".as_slice(), b" ", b"\t", b";"][dice.roll(4)]);
            match dice.roll(6) {
                0 | 1 => line.extend([name.as_bytes(), b"=", &token(dice)].concat()),
                2 => line.extend([name.as_bytes(), b" =\t", &token(dice), b" "].concat()),
                3 => line.extend([b"x".as_slice(), name.as_bytes(), b"=1=2"].concat()),
                4 => line.extend(name.as_bytes()),
                _ => line.extend([name.as_bytes(), b"="].concat()),
            }
            if !dice.once_in(4) {
                line.push(b';');
            }
        }
        lines.push((b"cookie".to_vec(), line));
    }
    let baggage_keys = policy.from_baggage.iter().chain(policy.carry.iter().filter_map(|carry| carry.baggage.as_ref()));
    let baggage_keys: Vec<&str> = baggage_keys.map(String::as_str).chain(["qa"]).collect();
    for _ in 0..[0, 1, 1, 2][dice.roll(4)] {
        let members: Vec<_> = (0..[1, 2, 3, 5][dice.roll(4)]).map(|_| member(dice, &baggage_keys, tokens)).collect();
        let mut line = members.join(&b","[..]);
        // The script's headers are texts of C.
        line.retain(|byte| *byte != 0);
        lines.push((dice.pick(&[b"baggage".to_vec(), b"baggage".to_vec(), b"Baggage".to_vec()]), line));
    }
    // Joined lines, as Envoy joins those of `authorization`.
    if dice.once_in(4) && lines.len() > 2 && lines[1].0 == lines[2].0 {
        let (_, second) = lines.remove(2);
        lines[1].1.extend([b",".as_slice(), &second].concat());
    }
    let managed: Vec<String> = (policy.services.iter().flatten())
        .map(|service| service.header.clone().unwrap_or_else(|| service.name.to_ascii_lowercase()))
        .chain(policy.report_header.clone())
        .chain(policy.carry.iter().filter_map(|carry| carry.header.clone()))
        .chain(policy.header_prefix.iter().flat_map(|prefix| [prefix.clone(), format!("{prefix}api")]))
        .collect();
    for _ in 0..[0, 0, 1, 2][dice.roll(4)] {
        let mut name = dice.pick(&managed);
        match dice.roll(8) {
            0 => name.make_ascii_uppercase(),
            1 => name = format!("a{name}"),
            2 => _ = name.pop(),
            _ => {}
        }
        if !name.is_empty() {
            lines.push((name.into_bytes(), b"PR-9".to_vec()));
        }
    }
    // Sources first in one half of the requests, last in the other.
    if dice.once_in(2) {
        lines.reverse();
    }
    lines
}

/// A member of `baggage`.
fn member(dice: &mut Dice, keys: &[&str], tokens: &[Vec<u8>]) -> Vec<u8> {
    let key = dice.pick(keys).as_bytes();
    let mut value = dice.pick(tokens);
    // A choice is a payload alone.
    if dice.once_in(2) {
        value = value.split(|byte| *byte == b'.').nth(1).unwrap_or(&value).to_vec();
    }
    if dice.once_in(16) {
        mutate(dice, &mut value, b"%.;=, \t\"\xc3\xff");
    }
    match dice.roll(12) {
        0..=3 => [key, b"=", &value].concat(),
        4 => [b" \t", key, b" =\t", &value, b" "].concat(),
        5 => [key, b"=", &value, b" ;ttl=5;", key, b"=1"].concat(),
        6 => [b"v=".as_slice(), &vec![b'v'; 8192 - dice.roll(200)]].concat(),
        7 => [key, b"=v;", &vec![b'v'; dice.roll(9000)]].concat(),
        8 => [b"v=1;".as_slice(), key, b"=", &value].concat(),
        _ => dice
            .pick(&[
                b"".as_slice(),
                b" ",
                b"=",
                b";",
                b"a=1",
                b" b = 2 ; c",
                b"\xe9=\xff",
                b"a\tb",
                b"qa",
                b"qa;=",
                b"==",
                b"x=%20",
            ])
            .to_vec(),
    }
}

/// Replaces, inserts, removes or duplicates a few bytes.
fn mutate(dice: &mut Dice, bytes: &mut Vec<u8>, with: &[u8]) {
    for _ in 0..=dice.roll(3) {
        let at = dice.roll(bytes.len().clamp(1, 65536));
        let byte = dice.pick(with);
        match dice.roll(4) {
            0 if at < bytes.len() => bytes[at] = byte,
            1 if at < bytes.len() => _ = bytes.remove(at),
            2 if at < bytes.len() => bytes.insert(at, bytes[at]),
            _ => bytes.insert(at.min(bytes.len()), byte),
        }
    }
}

struct Payload<'d, 'b, 'p> {
    dice: &'d mut Dice<'b>,
    policy: &'p PolicyConfig,
    now: i64,
}

impl Payload<'_, '_, '_> {
    fn bytes(mut self) -> Vec<u8> {
        let mut out = String::new();
        self.space(&mut out);
        if self.dice.once_in(64) {
            self.value(&mut out, 3);
        } else {
            self.level(&mut out, 0);
        }
        self.space(&mut out);
        if self.dice.once_in(64) {
            out.push_str(self.dice.pick(&["x", "{}", "\0", "\u{feff}"]));
        }
        if self.dice.once_in(64) {
            out.insert_str(0, self.dice.pick(&["\u{feff}", "\0", "["]));
        }
        out.into_bytes()
    }

    /// The object to which the first `level` segments of the claim path lead.
    fn level(&mut self, out: &mut String, level: usize) {
        let path = self.policy.claim_path.clone();
        let mut members = Vec::new();
        if level == 0 {
            for name in ["exp", "nbf"] {
                if self.dice.once_in(3) {
                    members.push((name.to_owned(), Role::Time));
                }
            }
        }
        if let Some(segment) = path.get(level) {
            members.push((segment.clone(), Role::Step));
            if self.dice.once_in(16) {
                members.pop();
            }
        }
        let claims = if level == path.len() { self.dice.roll(6) } else { self.dice.roll(16).saturating_sub(13) };
        for _ in 0..claims {
            let key = self.claim_key();
            if self.dice.once_in(8) || members.iter().all(|(other, _)| *other != key) {
                members.push((key, Role::Claim));
            }
        }
        for _ in 0..self.dice.roll(8).saturating_sub(4) {
            members.push((
                self.dice.pick(&["iss", "sub", "x", "", "aud", "Exp", "exp", "routes"]).to_owned(),
                Role::Noise,
            ));
        }
        if level == path.len() && self.dice.once_in(32) {
            // More routes than any limit, or about as many keys as are read (R13).
            let count = if self.dice.once_in(2) { 122 + self.dice.roll(12) } else { 70 };
            let start = "k".repeat(self.dice.roll(60));
            let in_cases = self.dice.once_in(2);
            let open = self.policy.services.is_none();
            let key = |index| match (in_cases, open) {
                (true, true) => in_case("abcdefgh", index),
                (true, false) => in_case(&format!("many-{}", index % 60), index / 60),
                (false, _) => format!("{start}{index}"),
            };
            let role = self.dice.pick(&[Role::Claim, Role::Plain("1"), Role::Plain("null")]);
            members.extend((0..count).map(|index| (key(index), role.clone())));
        }
        if self.dice.once_in(16) && !members.is_empty() {
            members.push(self.dice.pick(&members));
        }
        if self.dice.once_in(2) {
            members.reverse();
        }
        self.object(out, members, level);
    }

    fn object(&mut self, out: &mut String, members: Vec<(String, Role)>, level: usize) {
        out.push('{');
        self.space(out);
        for (index, (key, role)) in members.into_iter().enumerate() {
            if index > 0 {
                out.push(',');
                self.space(out);
            }
            self.string(out, &key);
            if let Role::Plain(value) = role {
                _ = write!(out, ":{value}");
                continue;
            }
            self.space(out);
            out.push(':');
            self.space(out);
            match role {
                Role::Time if !self.dice.once_in(32) => self.time(out),
                Role::Step if !self.dice.once_in(32) => self.level(out, level + 1),
                Role::Claim if !self.dice.once_in(8) => self.version(out),
                _ => self.value(out, 3),
            }
            self.space(out);
        }
        out.push('}');
    }

    fn claim_key(&mut self) -> String {
        let services = self.policy.services.as_deref().unwrap_or_default();
        let key = if services.is_empty() || self.dice.once_in(8) {
            self.dice.pick(NAMES).to_owned()
        } else {
            self.dice.pick(services).name
        };
        match self.dice.roll(8) {
            0 => key.to_ascii_uppercase(),
            1 => key.to_ascii_lowercase(),
            2 if self.dice.once_in(4) => format!("{key}{}", "x".repeat(self.dice.roll(70))),
            _ => key,
        }
    }

    fn version(&mut self, out: &mut String) {
        match self.dice.roll(8) {
            0 | 1 => {
                let version = self.dice.pick(&["PR-1", "v1.2_3", "a", "7"]);
                self.string(out, version);
            }
            2 => _ = write!(out, "{}", self.dice.roll(1000)),
            3 => self.number(out),
            4 => {
                let bad =
                    self.dice.pick(&["", "-a", "a-", "a b", "\u{e9}", ".", "_", "a\nb", "a\0", "a=b", "A,B", "x!"]);
                self.string(out, bad);
            }
            5 => {
                let length = 60 + self.dice.roll(6);
                let text = "0123456789".repeat(7);
                if self.dice.once_in(2) { self.string(out, &text[..length]) } else { out.push_str(&text[1..length]) }
            }
            _ => self.string(out, "main"),
        }
    }

    /// A number around the current time, or one far from it.
    fn time(&mut self, out: &mut String) {
        let skew = i64::from(self.policy.clock_skew_seconds);
        let around = [0, skew, -skew][self.dice.roll(3)];
        let time = self.now + around + [-2, -1, 0, 1, 2][self.dice.roll(5)];
        let sign = if time < 0 { "-" } else { "" };
        let digits = time.unsigned_abs();
        _ = match self.dice.roll(10) {
            0 | 1 => write!(out, "{time}"),
            2 => write!(
                out,
                "{time}.{}",
                ["0", "5", "99", "999999999999999999999", "0000000000000000000000001"][self.dice.roll(5)]
            ),
            3 => write!(out, "{time}e{}", ["0", "-0", "+0", "1", "-1"][self.dice.roll(5)]),
            4 => {
                let zeros = self.dice.roll(30);
                write!(out, "{sign}{digits}{}E-{zeros}", if digits == 0 { String::new() } else { "0".repeat(zeros) })
            }
            5 => {
                let zeros = self.dice.roll(30);
                let width = digits.to_string().len() + zeros;
                write!(out, "{sign}0.{}{digits}e+{width}", "0".repeat(zeros))
            }
            6 => write!(out, "{sign}{digits}{}", if digits == 0 { "" } else { "0000000000000000000000" }),
            7 => write!(out, "{time}1e-1"),
            _ => return self.number(out),
        };
    }

    fn number(&mut self, out: &mut String) {
        if self.dice.once_in(8) {
            let wrong = ["00", "01", "-", "-01", "1.", ".5", "1e", "1e+", "+1", "0x1", "NaN", "1e1.0", "-e1", "1.e1"];
            return out.push_str(self.dice.pick(&wrong));
        }
        out.push_str(self.dice.pick(&[
            "0",
            "1.5",
            "-0.10",
            "-0.11",
            "-0",
            "-0.0",
            "-0.5",
            "-1e-400",
            "1e-400",
            "1e400",
            "-1e400",
            "0e999999999999999999999",
            "1E+99999999999999999999999",
            "1e-99999999999999999999999",
            "-1e-99999999999999999999999",
            "9223372036854775807",
            "9223372036854775808",
            "-9223372036854775809",
            "9007199254740993",
            "1.5e1",
            "123456789012345678901234567890123456789012345678901234567890123",
            "1234567890123456789012345678901234567890123456789012345678901234",
        ]));
    }

    fn value(&mut self, out: &mut String, depth: usize) {
        match self.dice.roll(if depth == 0 { 8 } else { 12 }) {
            0 => out.push_str("null"),
            1 if self.dice.once_in(8) => out.push_str(self.dice.pick(&["nul", "True", "truee", "fals", "undefined"])),
            1 => out.push_str(self.dice.pick(&["true", "false"])),
            2 => self.number(out),
            3 => _ = write!(out, "{}", self.dice.roll(70)),
            4..=7 => {
                let text = self.dice.pick(&[
                    "",
                    "text",
                    "\u{e9}\u{20ac}\u{1f600}",
                    "a\"b\\c/d",
                    "\u{8}\u{c}\n\r\t\u{7f}\u{1}",
                    "{[:,]}",
                ]);
                self.string(out, text);
            }
            8 | 9 => {
                out.push('[');
                for index in 0..self.dice.roll(4) {
                    if index > 0 {
                        out.push(',');
                    }
                    self.space(out);
                    self.value(out, depth - 1);
                    self.space(out);
                }
                out.push(']');
            }
            10 => {
                let brackets = [1, 2, 3, 15, 64][self.dice.roll(5)] + self.dice.roll(3);
                let (open, close) = [("[", "]"), ("{\"a\":", "}")][self.dice.roll(2)];
                _ = write!(out, "{}1{}", open.repeat(brackets), close.repeat(brackets));
            }
            _ => {
                let members = (0..self.dice.roll(3)).map(|_| (self.claim_key(), Role::Noise)).collect();
                self.object(out, members, 0);
            }
        }
    }

    /// A string, with valid and invalid escapes.
    fn string(&mut self, out: &mut String, text: &str) {
        let escapes = self.dice.once_in(4);
        out.push('"');
        for character in text.chars() {
            let must = matches!(character, '"' | '\\' | '\0'..='\x1f') && !self.dice.once_in(64);
            if !(must || escapes && self.dice.once_in(3)) {
                out.push(character);
                continue;
            }
            let short = match character {
                '"' | '\\' | '/' => Some(character),
                '\u{8}' => Some('b'),
                '\u{c}' => Some('f'),
                '\n' => Some('n'),
                '\r' => Some('r'),
                '\t' => Some('t'),
                _ => None,
            };
            if let Some(short) = short
                && self.dice.once_in(2)
            {
                out.push('\\');
                out.push(short);
                continue;
            }
            for unit in character.encode_utf16(&mut [0; 2]) {
                _ = if self.dice.once_in(2) { write!(out, "\\u{unit:04x}") } else { write!(out, "\\u{unit:04X}") };
            }
        }
        if self.dice.once_in(128) {
            out.push_str(self.dice.pick(&[
                "\\ud800",
                "\\udc00",
                "\\ud800\\u0041",
                "\\ud800\\ud800",
                "\\udc00\\ud800",
                "\\u12",
                "\\u00g0",
                "\\U0041",
                "\\x41",
                "\\",
                "\\'",
                "\u{1}",
                "\\ud83d\\ude00",
                "\\uD800\\",
                "\\u0000",
                "\\udfff",
                "\\udc00\\udc00",
                "\\ud800\\ue000",
                "\\ud800\\udbff",
                "\\udbff\\udfff",
            ]));
        }
        if !self.dice.once_in(256) {
            out.push('"');
        }
    }

    fn space(&mut self, out: &mut String) {
        if self.dice.once_in(8) {
            let bad = self.dice.once_in(32);
            out.push_str(self.dice.pick(&[" ", "\t", "\n", "\r", if bad { "\u{b}" } else { "  " }]));
        }
    }
}

#[derive(Clone)]
enum Role {
    Time,
    Step,
    Claim,
    /// A claim with this value. Nothing else is random, because among many claims one would be invalid.
    Plain(&'static str),
    Noise,
}

/// The name, with one of its first eight letters in upper case for each bit that is set.
fn in_case(name: &str, bits: usize) -> String {
    let upper = |(place, letter): (usize, char)| {
        if place < 8 && bits >> place & 1 == 1 { letter.to_ascii_uppercase() } else { letter }
    };
    name.chars().enumerate().map(upper).collect()
}
