//! The scanner against `serde_json`: what is accepted, what is rejected, what is read.

use proptest::{prelude::*, sample::select, string::string_regex};

use super::{
    reference::{MAX_DEPTH, Tree, agreement, expected, read, skip},
    *,
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn valid_objects_are_read_as_serde_json_reads_them(text in object()) {
        let tree = expected(text.as_bytes());
        prop_assert!(tree.is_some(), "the generator wrote invalid JSON");
        prop_assert_eq!(read(text.as_bytes()).ok(), tree);
    }

    #[test]
    fn mutated_objects_are_judged_as_serde_json_judges_them(text in mutated(object())) {
        agrees(&text)?;
    }

    #[test]
    fn byte_soup_is_judged_as_serde_json_judges_it(text in soup()) {
        agrees(&text)?;
    }

    #[test]
    fn numbers_are_judged_as_serde_json_judges_them(number in "[-+.0-9eE]{1,8}") {
        agrees(format!("{{\"k\":{number}}}").as_bytes())?;
    }

    #[test]
    fn no_proper_start_of_an_object_is_one(text in object()) {
        let text = text.trim_end_matches(WHITE_SPACE).as_bytes();
        for end in 0..text.len() {
            prop_assert_eq!(skip(&text[..end], MAX_DEPTH), Err(Fault::Malformed), "the first {} bytes", end);
        }
    }

    #[test]
    fn depth_is_judged_at_the_bracket_that_is_one_too_many(text in object()) {
        let depth = expected(text.as_bytes()).unwrap().depth();
        for max_depth in 1..depth {
            let bracket = deeper_bracket(text.as_bytes(), max_depth).unwrap();
            prop_assert_eq!(skip(&text.as_bytes()[..bracket], max_depth), Err(Fault::Malformed));
            prop_assert_eq!(skip(&text.as_bytes()[..=bracket], max_depth), Err(Fault::TooDeep));
        }
        prop_assert_eq!(skip(text.as_bytes(), depth), Ok(()));
    }

    /// A bracket that is one too many is the first fault if nothing before it is one.
    #[test]
    fn the_first_fault_is_reported(text in mutated(object()), max_depth in 1_u32..4) {
        if std::str::from_utf8(&text).is_ok() {
            let too_deep = deeper_bracket(&text, max_depth).is_some();
            let expected = if too_deep { Err(Fault::TooDeep) } else { skip(&text, MAX_DEPTH) };
            prop_assert_eq!(skip(&text, max_depth), expected);
        }
    }
}

/// Where the scanner is laxer than `serde_json::Value` on purpose: it takes a number as text, and it does not recurse.
#[test]
fn numbers_have_any_size_and_the_depth_limit_is_the_callers() {
    for number in ["1e400", "-1E+99999", "123456789e999999999999"] {
        let text = format!("{{\"k\":{number}}}");
        let error = serde_json::from_str::<serde_json::Value>(&text).unwrap_err();
        assert!(error.to_string().contains("number out of range"), "{error}");
        assert_eq!(read(text.as_bytes()), Ok(Tree::Object(vec![("k".into(), Tree::Number(number.into()))])));
    }
    for depth in 1..=64 {
        let inner = usize::try_from(depth).unwrap() - 1;
        let text = format!("{{\"k\":{}0{}}}", "[".repeat(inner), "]".repeat(inner));
        assert_eq!(skip(text.as_bytes(), depth), Ok(()));
        assert_eq!(skip(text.as_bytes(), depth - 1), Err(Fault::TooDeep));
    }
}

/// Where it is stricter on purpose: a payload is an object.
#[test]
fn only_an_object_is_read() {
    for text in ["[]", "\"a\"", "1", "true", "null", " [ {} ] "] {
        assert!(serde_json::from_str::<Tree>(text).is_ok());
        assert_eq!(read(text.as_bytes()), Err(Fault::Malformed), "{text}");
    }
}

#[test]
fn every_byte_after_a_backslash_and_in_a_string() {
    for byte in 0..=u8::MAX {
        for text in [[b"{\"", &[byte][..], b"\":0}"].concat(), [b"{\"\\", &[byte][..], b"0020\":0}"].concat()] {
            agrees(&text).unwrap();
        }
    }
}

#[test]
fn every_unit_of_utf_16_alone_and_in_a_pair() {
    for unit in 0..=u16::MAX {
        agrees(format!("{{\"\\u{unit:04x}\":0}}").as_bytes()).unwrap();
    }
    for unit in (0xd700..=0xe0ff).step_by(17).chain([0xd7ff, 0xd800, 0xdbff, 0xdc00, 0xdfff, 0xe000]) {
        for next in ["\\ud7ff", "\\ud800", "\\udbff", "\\udc00", "\\uDFFF", "\\ue000", "\\n", "\\u12", "x"] {
            agrees(format!("{{\"\\u{unit:04X}{next}\":\"\\u{unit:04X}{next}\"}}").as_bytes()).unwrap();
        }
    }
}

/// Reading event by event and skipping both judge a text as `serde_json` does.
fn agrees(text: &[u8]) -> Result<(), TestCaseError> {
    agreement(text).map_err(TestCaseError::fail)
}

/// Where the first bracket is that opens more than `max_depth` levels, if what precedes it is the start of a valid text.
fn deeper_bracket(text: &[u8], max_depth: u32) -> Option<usize> {
    let (mut open, mut in_string, mut escaped) = (Vec::new(), false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                open.push(if *byte == b'{' { b'}' } else { b']' });
                if open.len() > max_depth as usize {
                    let closed: Vec<u8> = text[..=at].iter().chain(open.iter().rev()).copied().collect();
                    return skip(&closed, MAX_DEPTH).is_ok().then_some(at);
                }
            }
            b'}' | b']' if !in_string => _ = open.pop(),
            _ => {}
        }
    }
    None
}

/// The text of an object with all that the grammar allows.
fn object() -> impl Strategy<Value = String> {
    let number = string_regex("-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?").unwrap();
    let literal = select(vec!["true", "false", "null"]).prop_map(str::to_owned);
    let leaf = prop_oneof![2 => string(), 2 => number, 1 => literal];
    let value =
        leaf.prop_recursive(5, 40, 5, |value| prop_oneof![members(value.clone()), list(value, '[', ']')].boxed());
    (space(), members(value), space()).prop_map(|(before, object, after)| format!("{before}{object}{after}"))
}

fn members(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let member = (string(), space(), value).prop_map(|(key, space, value)| format!("{key}{space}:{space}{value}"));
    list(member, '{', '}')
}

fn list(item: impl Strategy<Value = String>, open: char, close: char) -> impl Strategy<Value = String> {
    (space(), prop::collection::vec((space(), item, space()), 0..5)).prop_map(move |(empty, items)| {
        let items: Vec<_> = items.into_iter().map(|(before, item, after)| format!("{before}{item}{after}")).collect();
        if items.is_empty() { format!("{open}{empty}{close}") } else { format!("{open}{}{close}", items.join(",")) }
    })
}

/// A string with its quotes; few distinct ones, so that keys repeat.
fn string() -> impl Strategy<Value = String> {
    let plain = any::<char>()
        .prop_filter("stands only escaped", |c| !matches!(c, '\0'..='\x1f' | '"' | '\\'))
        .prop_map(String::from);
    let short = select(vec!["\\\"", "\\\\", "\\/", "\\b", "\\f", "\\n", "\\r", "\\t"]).prop_map(str::to_owned);
    let unit = (any::<char>(), any::<bool>()).prop_map(|(c, upper)| {
        let escape = |unit: &u16| if upper { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") };
        c.encode_utf16(&mut [0; 2]).iter().map(escape).collect()
    });
    let pieces = prop::collection::vec(prop_oneof!["[a-c]{1,3}", plain, short, unit], 0..5);
    pieces.prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn space() -> impl Strategy<Value = String> {
    prop_oneof![3 => Just(String::new()), 1 => "[ \t\n\r]{1,2}"]
}

/// A text with a few bytes changed, preferably to those that mean something.
fn mutated(text: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![4 => select(PIECES).prop_map(<[u8]>::to_vec), 1 => any::<u8>().prop_map(|byte| vec![byte])];
    let mutation = (any::<prop::sample::Index>(), 0_usize..3, piece);
    (text, prop::collection::vec(mutation, 1..4)).prop_map(|(text, mutations)| {
        let mut text = text.into_bytes();
        for (place, cut, piece) in mutations {
            let start = place.index(text.len() + 1);
            let end = (start + cut).min(text.len());
            text.splice(start..end, piece);
        }
        text
    })
}

/// Pieces of the grammar in any order, mostly inside an object.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::collection::vec(select(PIECES), 0..12).prop_map(|pieces| pieces.concat());
    let inside = pieces.clone().prop_map(|soup| [b"{\"k\":", &*soup, b"}"].concat());
    let in_string = pieces.clone().prop_map(|soup| [b"{\"k\":\"", &*soup, b"\"}"].concat());
    prop_oneof![1 => pieces, 2 => inside, 1 => in_string]
}

const PIECES: &[&[u8]] = &[
    b"",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"\"a\"",
    b"\"a\":",
    b"\"a\":1",
    b"[]",
    b"{}",
    b"0",
    b"7",
    b"-",
    b"+",
    b".",
    b"e",
    b"E",
    b"00",
    b"1.5",
    b"1e+2",
    b"true",
    b"false",
    b"null",
    b"nul",
    b"True",
    b"\\",
    b"\\u",
    b"\\ud800",
    b"\\uDC00",
    b"\\ud83d\\ude00",
    b"\\u00e",
    b"\\n",
    b"\\x",
    b"\\/",
    b" ",
    b"\t",
    b"\n",
    b"\r",
    b"\x0b",
    b"\0",
    b"\x1f",
    b"\x7f",
    b"\xc2\xa0",
    b"\xc3\xa9",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\xf4\x90\x80\x80",
    b"//",
    b"'",
];

const WHITE_SPACE: [char; 4] = [' ', '\t', '\n', '\r'];
