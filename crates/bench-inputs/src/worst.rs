//! The most expensive requests that an attacker can send: each fills what the limits allow with one kind of bytes.

use serde_json::{Value, json};

use crate::{Input, encoded, service_names};

/// The worst tokens and the worst header lines.
#[must_use]
pub fn worst(times: u32) -> Vec<Input> {
    [worst_tokens(times), worst_header_lines(times)].concat()
}

/// Tokens as large as the default limits allow, for `times` 1; for 2, twice as large, under limits twice as wide.
#[must_use]
pub fn worst_tokens(times: u32) -> Vec<Input> {
    let size = Size { times };
    let listed = |name: &str, payload: &str, outcome| size.token(name, size.listed(2), payload, outcome);
    let prefixed = |name: &str, payload: &str, outcome| {
        size.token(&format!("prefix mode, {name}"), size.prefixed(), payload, outcome)
    };
    let member = |value: &str| format!(r#"{{"a":{value}}}"#);
    let array = |item: &str| member(&format!("[{}]", repeated(item, ",", size.payload() - 8)));
    let string = |part: &str| member(&format!(r#""{}""#, repeated(part, "", size.payload() - 8)));
    let digits = |digit: &str| digit.repeat(size.payload() - 20);
    let time = |value: &str| format!(r#"{{"exp":{value}}}"#);
    let nested = |open: &str, close: &str| array(&format!("{}1{}", open.repeat(14), close.repeat(14)));

    vec![
        listed("nested arrays", &nested("[", "]"), "no-routes"),
        listed("nested objects", &nested(r#"{"":"#, "}"), "no-routes"),
        listed("empty arrays", &array("[]"), "no-routes"),
        listed("empty objects", &array("{}"), "no-routes"),
        listed("empty strings", &array(r#""""#), "no-routes"),
        listed("short strings", &array(r#""a""#), "no-routes"),
        listed("literals", &array("null"), "no-routes"),
        listed("short numbers", &array("1"), "no-routes"),
        listed("short fractions", &array("0.1"), "no-routes"),
        listed("short exponents", &array("-1.0e+1"), "no-routes"),
        listed("a huge number", &member(&digits("9")), "no-routes"),
        listed("a huge time", &time(&digits("9")), "no-routes"),
        listed("a long fraction of a time", &time(&format!("9000000000.{}", digits("0"))), "no-routes"),
        listed("a time of long exponent", &time(&format!("9e{}", digits("0"))), "expired"),
        listed("white space", &member(&format!("{}1", digits(" "))), "no-routes"),
        listed("white space between all", &array(" 1 "), "no-routes"),
        listed("short escapes", &string(r"\n"), "no-routes"),
        listed("escapes of four digits", &string(r"\u0041"), "no-routes"),
        listed("escaped surrogates", &string(r"\ud83d\ude00"), "no-routes"),
        listed("text of two bytes", &string("\u{e9}"), "no-routes"),
        listed("text of mixed lengths", &string("a\u{e9}\u{20ac}\u{1f600}"), "no-routes"),
        listed("many keys", &size.keys(short_name), "no-routes"),
        listed(
            "keys as long as a service's",
            &size.keys(|number| format!("microservice-{}", short_name(number + 2))),
            "no-routes",
        ),
        listed("one service in all cases", &size.keys(|number| cased("microservice-a", number)), "too-many-routes"),
        listed("one service in 128 cases", &read_keys("1", |number| cased("microservice-a", number)), "no-routes"),
        listed(
            "one service in 128 cases, then numbers",
            &size.filled(&read_keys("1", |number| cased("microservice-a", number))),
            "no-routes",
        ),
        size.token(
            "keys near 1,000 services",
            size.thousand_services(),
            &size.keys(|number| format!("{}-{number:03}-", "s".repeat(58))),
            "no-routes",
        ),
        size.token(
            "keys of 1,000 services",
            size.thousand_services(),
            &size.keys(|number| format!("{}-{number:03}", "s".repeat(58))),
            "too-many-routes",
        ),
        prefixed("many keys", &under_r(&size.keys(short_name)), "too-many-routes"),
        prefixed("128 keys", &under_r(&read_keys("1", short_name)), "applied"),
        prefixed("128 keys, then numbers", &size.filled(&under_r(&read_keys("1", short_name))), "applied"),
        prefixed("128 keys with faults", &size.filled(&under_r(&read_keys("[]", short_name))), "no-routes"),
        prefixed(
            "128 keys in all cases",
            &under_r(&read_keys("1", |number| cased("abcdefgh", number * 37))),
            "no-routes",
        ),
        prefixed(
            "128 keys in all cases, then numbers",
            &size.filled(&under_r(&read_keys("1", |number| cased("abcdefghijklm", number)))),
            "no-routes",
        ),
        prefixed(
            "long keys in all cases",
            &under_r(&members(80, "1", |number| cased(&"abcdefghi".repeat(7), number * 0x0101_0101_0101_0101))),
            "no-routes",
        ),
        prefixed(
            "long keys alike to the end",
            &under_r(&size.keys(|number| format!("{}{}", "k".repeat(59), padded(number)))),
            "too-many-routes",
        ),
        prefixed(
            "invalid names alike to the end",
            &under_r(&size.keys(|number| format!("{}{}", " ".repeat(100), padded(number)))),
            "no-routes",
        ),
        prefixed(
            "as many routes as are applied",
            &size.filled(&under_r(&members(32, r#""1""#, |number| format!("{}{}", "k".repeat(59), padded(number))))),
            "applied",
        ),
    ]
}

/// Header lines of 8 KB, for `times` 1; for 2, twice as long. The core has no limit for them.
#[must_use]
pub fn worst_header_lines(times: u32) -> Vec<Input> {
    let size = Size { times };
    vec![
        size.line("commas", TWO_LETTERS, b"authorization", ",", "no-token"),
        size.line("commas and spaces", TWO_LETTERS, b"authorization", " ,\t", "no-token"),
        size.line("schemes", TWO_LETTERS, b"authorization", "Bearex,", "no-token"),
        size.line("cookies without a name", TWO_LETTERS, b"cookie", "=;", "no-token"),
        size.line("cookies of a name's length", TWO_LETTERS, b"cookie", "ab=;", "no-token"),
        size.line("cookies of names wanted", TWO_LETTERS, b"cookie", "hh=;aa=;", "ambiguous-token"),
        size.line("cookies of one letter", ["a", "b", "c", "d", "e", "f", "g", "h"], b"cookie", "z=;", "no-token"),
        size.line("cookies much alike", MUCH_ALIKE, b"cookie", "a9z=;", "no-token"),
        many_headers(),
    ]
}

const TWO_LETTERS: [&str; 8] = ["aa", "bb", "cc", "dd", "ee", "ff", "gg", "hh"];
const MUCH_ALIKE: [&str; 8] = ["a1z", "a2z", "a3z", "a4z", "a5z", "a6z", "a7z", "a8z"];

/// How many times as large as the default limits allow.
#[derive(Clone, Copy)]
struct Size {
    times: u32,
}

impl Size {
    /// Bytes of the largest payload whose token has room for a header and eight bytes of a signature.
    fn payload(self) -> usize {
        TOKEN_BYTES * self.times as usize / 4 * 3 - 12
    }

    fn token(self, name: &str, policy: Value, payload: &str, outcome: &'static str) -> Input {
        assert!(payload.len() <= self.payload(), "{name}: {} bytes", payload.len());
        Input::new(name, policy, format!("Bearer e30.{}.signature", encoded(payload)), outcome)
    }

    /// A header line as long as a token may be, for a policy with as many cookies as it may have.
    fn line(self, name: &str, cookies: [&str; 8], header: &[u8], part: &str, outcome: &'static str) -> Input {
        let policy = json!({
            "fromHeaders": [{ "name": "authorization", "prefix": "Bearer " }],
            "fromCookies": cookies,
            "services": [{ "name": "microservice-A" }],
        });
        let value = repeated(part, "", TOKEN_BYTES * self.times as usize);
        Input { lines: vec![(header.to_vec(), value.into_bytes())], ..Input::new(name, policy, "", outcome) }
    }

    fn listed(self, services: usize) -> Value {
        json!({ "services": service_names(services), "limits": self.limits() })
    }

    fn prefixed(self) -> Value {
        json!({ "claimPath": ["r"], "headerPrefix": "x-route-", "reportHeader": "x-report", "limits": self.limits() })
    }

    fn thousand_services(self) -> Value {
        json!({ "services": thousand_services(), "limits": self.limits() })
    }

    fn limits(self) -> Value {
        if self.times == 1 {
            return json!({});
        }
        json!({ "maxTokenBytes": TOKEN_BYTES * self.times as usize, "maxPayloadBytes": TOKEN_BYTES * self.times as usize / 4 * 3 })
    }

    /// An object of as many keys as fit.
    fn keys(self, key: impl Fn(usize) -> String) -> String {
        let room = self.payload() - r#"{"r":}"#.len();
        let count = (1..=room).take_while(|count| members(*count, "1", &key).len() <= room).count();
        members(count, "1", key)
    }

    /// An object filled up by a member that is skipped, of the most expensive bytes.
    fn filled(self, object: &str) -> String {
        let rest = repeated("1", ",", self.payload() - object.len() - 32);
        format!(r#"{},"filler":[{rest}]}}"#, object.strip_suffix('}').unwrap_or(object))
    }
}

/// As many header lines as Envoy takes, each as long as a managed header.
fn many_headers() -> Input {
    let lines =
        (0..100).map(|number| (format!("microservice-{}", padded(number)).into_bytes(), vec![b'v'; 70])).collect();
    let policy = json!({ "services": thousand_services() });
    Input { lines, ..Input::new("headers near managed ones", policy, "", "no-token") }
}

fn thousand_services() -> Vec<Value> {
    (0..1000)
        .map(|number| json!({ "name": format!("{}-{number:03}", "s".repeat(58)), "header": format!("microservice-{number:04}") }))
        .collect()
}

/// An object of as many keys as are read (R13).
fn read_keys(value: &str, key: impl Fn(usize) -> String) -> String {
    members(128, value, key)
}

fn under_r(routes: &str) -> String {
    format!(r#"{{"r":{routes}}}"#)
}

fn members(count: usize, value: &str, key: impl Fn(usize) -> String) -> String {
    let members: Vec<_> = (0..count).map(|number| format!(r#""{}":{value}"#, key(number))).collect();
    format!("{{{}}}", members.join(","))
}

fn repeated(part: &str, separator: &str, bytes: usize) -> String {
    vec![part; bytes / (part.len() + separator.len())].join(separator)
}

/// The shortest names, in no particular order.
fn short_name(number: usize) -> String {
    const LETTERS: &[u8] = b"qwertyuiopasdfghjklzxcvbnmQWERTYUIOPASDFGHJKLZXCVBNM0123456789";
    let mut name = String::new();
    let mut rest = number;
    loop {
        name.push(char::from(LETTERS[rest % LETTERS.len()]));
        rest /= LETTERS.len();
        if rest == 0 {
            return name;
        }
        rest -= 1;
    }
}

fn padded(number: usize) -> String {
    format!("{:04}", number * 7919 % 10_000)
}

/// A name with each letter in upper case whose bit is set.
fn cased(name: &str, bits: usize) -> String {
    let upper = |(at, letter): (usize, char)| if bits >> at & 1 == 1 { letter.to_ascii_uppercase() } else { letter };
    name.chars().enumerate().map(upper).collect()
}

/// The default of `maxTokenBytes`.
const TOKEN_BYTES: usize = 8192;
