//! Requests that an attacker can send to make each byte of a decision as expensive as possible.

use serde_json::{Value, json};

use crate::{Input, services, widest};

/// Inputs within a policy's limits, most of them 8 KB or more.
#[must_use]
pub fn worst() -> Vec<Input> {
    let listed = |name, payload: &str, outcome| Input::with_payload(name, services(2), payload, outcome);
    let prefixed = |name, payload: &str, outcome| Input::with_payload(name, prefix_policy(), payload, outcome);
    let member = |value: &str| format!(r#"{{"a":{value}}}"#);
    let array = |item: &str| member(&format!("[{}]", repeated(item, ",", BYTES)));
    let string = |part: &str| member(&format!(r#""{}""#, repeated(part, "", BYTES)));
    let time = |value: &str| format!(r#"{{"exp":{value}}}"#);
    let nested = |open: &str, close: &str| array(&format!("{}1{}", open.repeat(62), close.repeat(62)));

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
        listed("a huge number", &member(&"9".repeat(BYTES)), "no-routes"),
        listed("a huge time", &time(&"9".repeat(BYTES)), "no-routes"),
        listed("a long fraction of a time", &time(&format!("9{}.{}", "0".repeat(9), "0".repeat(BYTES))), "no-routes"),
        listed("a time of long exponent", &time(&format!("9e{}", "0".repeat(BYTES))), "expired"),
        listed("white space", &member(&format!("{}1", " ".repeat(BYTES))), "no-routes"),
        listed("white space between all", &array(" 1 "), "no-routes"),
        listed("short escapes", &string(r"\n"), "no-routes"),
        listed("escapes of four digits", &string(r"\u0041"), "no-routes"),
        listed("escaped surrogates", &string(r"\ud83d\ude00"), "no-routes"),
        listed("text of two bytes", &string("\u{e9}"), "no-routes"),
        listed("text of mixed lengths", &string("a\u{e9}\u{20ac}\u{1f600}"), "no-routes"),
        listed("many keys", &keys(BYTES, short_name), "no-routes"),
        listed(
            "keys as long as a service's",
            &keys(BYTES, |number| format!("microservice-{}", short_name(number + 2))),
            "no-routes",
        ),
        listed("one service in all cases", &keys(BYTES, |number| cased("microservice-a", number)), "too-many-routes"),
        listed(
            "one service in as many cases as are read",
            &filled(&read_keys("1", |number| cased("microservice-a", number))),
            "no-routes",
        ),
        Input::with_payload(
            "keys near 1,000 services",
            thousand_services(),
            &keys(BYTES, |number| format!("{}-{number:03}-", "s".repeat(58))),
            "no-routes",
        ),
        Input::with_payload(
            "1,000 services",
            thousand_services(),
            &keys(LARGEST, |number| format!("{}-{number:03}", "s".repeat(58))),
            "too-many-routes",
        ),
        prefixed("prefix mode, many keys", &under_r(&keys(BYTES, short_name)), "too-many-routes"),
        prefixed("prefix mode, thousands of keys", &under_r(&keys(LARGEST, short_name)), "too-many-routes"),
        prefixed(
            "prefix mode, long invalid names that differ at the end",
            &under_r(&keys(LARGEST, |number| format!("{}{}", " ".repeat(1000), padded(number)))),
            "no-routes",
        ),
        prefixed("prefix mode, as many keys as are read", &filled(&under_r(&read_keys("1", short_name))), "applied"),
        prefixed("prefix mode, faults in the report", &filled(&under_r(&read_keys("[]", short_name))), "no-routes"),
        prefixed(
            "prefix mode, keys in all cases",
            &filled(&under_r(&read_keys("1", |number| cased("abcdefghijklm", number)))),
            "no-routes",
        ),
        prefixed(
            "prefix mode, long keys in all cases",
            &under_r(&read_keys("1", |number| cased(&"abcdefghi".repeat(7), number * 0x0101_0101_0101_0101))),
            "no-routes",
        ),
        prefixed(
            "prefix mode, long keys that differ at the end",
            &under_r(&read_keys("1", |number| format!("{}{}", "k".repeat(59), padded(number)))),
            "too-many-routes",
        ),
        // Few bytes, each of them expensive.
        listed(
            "nothing but one service in as many cases as are read",
            &read_keys("1", |number| cased("microservice-a", number)),
            "no-routes",
        ),
        prefixed("prefix mode, nothing but as many keys as are read", &under_r(&read_keys("1", short_name)), "applied"),
        prefixed(
            "prefix mode, nothing but keys in all cases",
            &under_r(&read_keys("1", |number| cased("abcdefgh", number * 37))),
            "no-routes",
        ),
        prefixed("prefix mode, nothing but faults in the report", &under_r(&read_keys("[]", short_name)), "no-routes"),
        header("commas", b"authorization", ",", "no-token"),
        header("commas and spaces", b"authorization", " ,\t", "no-token"),
        header("schemes", b"authorization", "Bearex,", "no-token"),
        header("cookies", b"cookie", "=;", "no-token"),
        header("cookies of a name's length", b"cookie", "ab=;", "no-token"),
        header("cookies of names wanted", b"cookie", "hh=;aa=;", "ambiguous-token"),
        cookies("cookies of one letter", ["a", "b", "c", "d", "e", "f", "g", "h"], "z=;", "no-token"),
        cookies("similar cookies", ["a1z", "a2z", "a3z", "a4z", "a5z", "a6z", "a7z", "a8z"], "a9z=;", "no-token"),
        many_headers(),
    ]
}

/// A header line of 8 KB.
fn header(name: &str, header: &[u8], part: &str, outcome: &'static str) -> Input {
    line(name, ["aa", "bb", "cc", "dd", "ee", "ff", "gg", "hh"], header, part, outcome)
}

/// A line of 8 KB of cookies, for a policy that reads other cookies.
fn cookies(name: &str, known: [&str; 8], part: &str, outcome: &'static str) -> Input {
    line(name, known, b"cookie", part, outcome)
}

fn line(name: &str, cookies: [&str; 8], header: &[u8], part: &str, outcome: &'static str) -> Input {
    let policy = json!({
        "fromHeaders": [{ "name": "authorization", "prefix": "Bearer " }],
        "fromCookies": cookies,
        "services": [{ "name": "microservice-A" }],
    });
    Input {
        lines: vec![(header.to_vec(), repeated(part, "", BYTES).into_bytes())],
        ..Input::new(name, policy, "", outcome)
    }
}

/// As many header lines as Envoy accepts, each with a name as long as a managed header's.
fn many_headers() -> Input {
    let lines =
        (0..100).map(|number| (format!("microservice-{}", padded(number)).into_bytes(), vec![b'v'; 70])).collect();
    Input { lines, ..Input::new("headers near managed ones", thousand_services(), "", "no-token") }
}

fn prefix_policy() -> Value {
    json!({ "claimPath": ["r"], "headerPrefix": "x-route-", "reportHeader": "x-report", "limits": widest() })
}

fn thousand_services() -> Value {
    let services = (0..1000).map(|number| json!({ "name": format!("{}-{number:03}", "s".repeat(58)), "header": format!("microservice-{number:04}") }));
    json!({ "services": services.collect::<Vec<_>>(), "limits": widest() })
}

fn under_r(object: &str) -> String {
    format!(r#"{{"r":{object}}}"#)
}

/// An object of at most this many bytes.
fn keys(bytes: usize, key: impl Fn(usize) -> String) -> String {
    let mut object = String::from("{");
    for number in 0.. {
        let member = format!(r#""{}":1"#, key(number));
        if object.len() + member.len() + 2 > bytes - 8 {
            break;
        }
        if number > 0 {
            object.push(',');
        }
        object += &member;
    }
    object + "}"
}

/// An object with as many keys as are read, all with the same value.
fn read_keys(value: &str, key: impl Fn(usize) -> String) -> String {
    let members: Vec<_> = (0..128).map(|number| format!(r#""{}":{value}"#, key(number))).collect();
    format!("{{{}}}", members.join(","))
}

/// An object filled up with a member that the policy does not read.
fn filled(object: &str) -> String {
    let rest = repeated("1", ",", BYTES - object.len());
    format!(r#"{},"filler":[{rest}]}}"#, object.strip_suffix('}').unwrap_or(object))
}

fn repeated(part: &str, separator: &str, bytes: usize) -> String {
    vec![part; (bytes - 12) / (part.len() + separator.len())].join(separator)
}

/// The shortest names, unordered.
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

/// The name, with a letter in upper case for each bit that is set.
fn cased(name: &str, bits: usize) -> String {
    let upper = |(at, letter): (usize, char)| if bits >> at & 1 == 1 { letter.to_ascii_uppercase() } else { letter };
    name.chars().enumerate().map(upper).collect()
}

const BYTES: usize = 8 * 1024;

/// The payload of a token of 64 KB.
const LARGEST: usize = 47 * 1024;
