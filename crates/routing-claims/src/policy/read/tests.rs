//! Texts that are read, and the errors for all others.

use proptest::{collection::vec, option, prelude::*, sample::Index};
use serde_json::{Value, json};

use super::*;
use crate::{CarryConfig, HeaderSourceConfig, LimitsConfig, Policy, ServiceConfig, TokenFormat, limits::Bound};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_serde_writes_is_read_again(config in config()) {
        let text = serde_json::to_string_pretty(&config).unwrap();
        prop_assert_eq!(read(text.as_bytes()).unwrap(), config);
    }

    /// Any part of a configuration can be missing, duplicate, misspelled or of another type.
    #[test]
    fn changed_configurations_are_read_or_diagnosed(
        config in config(),
        changes in vec((any::<Index>(), value()), 1..3),
    ) {
        let mut root = serde_json::to_value(config).unwrap();
        for (place, value) in changes {
            let count = count(&root);
            *nth(&mut root, &mut place.index(count)).unwrap() = value;
        }
        read_or_diagnosed(root.to_string().as_bytes())?;
    }

    #[test]
    fn changed_texts_are_read_or_diagnosed(
        config in config(),
        pretty in any::<bool>(),
        changes in vec((any::<Index>(), 0_usize..4, piece()), 1..3),
    ) {
        let mut text = if pretty { serde_json::to_vec_pretty(&config) } else { serde_json::to_vec(&config) }.unwrap();
        for (place, cut, piece) in changes {
            let start = place.index(text.len() + 1);
            let end = (start + cut).min(text.len());
            text.splice(start..end, piece);
        }
        read_or_diagnosed(&text)?;
    }

    #[test]
    fn members_in_any_order_and_number_are_read_or_diagnosed(members in vec(member(), 0..5)) {
        read_or_diagnosed(format!("{{{}}}", members.join(",")).as_bytes())?;
    }

    #[test]
    fn a_policy_says_its_configuration(config in valid_config()) {
        let policy = Policy::new(config).unwrap();
        let text = serde_json::to_string(policy.config()).unwrap();
        let again = Policy::from_json(text.as_bytes()).unwrap();
        prop_assert_eq!(again.config(), policy.config());
    }
}

#[test]
fn each_fault_has_its_kind_and_path() {
    for (text, kind, shown) in [
        (
            "",
            Kind::Syntax,
            "policy: expected valid JSON, found a syntax error: EOF while parsing a value at line 1 column 0",
        ),
        (
            "{} {}",
            Kind::Syntax,
            "policy: expected valid JSON, found a syntax error: trailing characters at line 1 column 4",
        ),
        ("[]", Kind::WrongType, "policy: expected an object, found a list"),
        (r#"{"a\nb":1}"#, Kind::UnknownField, r"a\nb: expected one of `fromHeaders`,"),
        (
            r#"{"fromCookies":["a"],"limits":{},"fromCookies":[]}"#,
            Kind::DuplicateField,
            "fromCookies: expected each field once, found duplicate field `fromCookies`",
        ),
        (
            r#"{"services":[{"name":"a"},{"header":"a","header":"a"}]}"#,
            Kind::DuplicateField,
            "services[1].header: expected each field once, found duplicate field `header`",
        ),
        (
            r#"{"services":[{"name":"a"},{"header":"a"}]}"#,
            Kind::MissingField,
            "services[1]: expected the field `name`, found none",
        ),
        (
            r#"{"claimPath":", expected b"}"#,
            Kind::WrongType,
            r#"claimPath: expected a list, found string ", expected b""#,
        ),
        (
            r#"{"clockSkewSeconds":-1}"#,
            Kind::OutOfRange,
            "clockSkewSeconds: expected a whole number from 0 to 300, found integer `-1`",
        ),
        (r#"{"format":"a\nb"}"#, Kind::InvalidText, r"format: expected `jwt` or `payload`, found `a\nb`"),
    ] {
        let diagnostic = read(text.as_bytes()).unwrap_err();
        assert_eq!(diagnostic.kind, kind, "{text}");
        assert!(diagnostic.to_string().starts_with(shown), "{diagnostic}");
    }
}

/// Derived code alone would accept a list for an object, and an object for a unit variant.
#[test]
fn one_form_only() {
    for (text, at) in [
        (r#"[[],[],"jwt",[],[],null,null,0,{}]"#, "policy"),
        (r#"{"services":[["a",null]]}"#, "services[0]"),
        (r#"{"fromHeaders":[["a","b"]]}"#, "fromHeaders[0]"),
        (r#"{"limits":[256,64,1,1]}"#, "limits"),
        (r#"{"format":{"jwt":null}}"#, "format"),
    ] {
        let diagnostic = read(text.as_bytes()).unwrap_err();
        assert_eq!((diagnostic.path.to_string().as_str(), diagnostic.kind), (at, Kind::WrongType), "{text}");
    }
}

#[test]
fn null_stands_for_nothing_where_nothing_may_stand() {
    for text in
        [r#"{"services":null,"headerPrefix":null,"reportHeader":null}"#, r#"{"services":[{"name":"a","header":null}]}"#]
    {
        assert!(read(text.as_bytes()).is_ok(), "{text}");
    }
}

/// Every error of `serde_json` is understood, and is one line.
fn read_or_diagnosed(text: &[u8]) -> Result<(), TestCaseError> {
    if let Err(diagnostic) = read(text) {
        let PolicyDiagnostic { expected, found, .. } = &diagnostic;
        prop_assert!(!expected.is_empty() && !found.is_empty(), "{diagnostic}");
        prop_assert!(!diagnostic.to_string().contains(char::is_control), "{diagnostic}");
    }
    Ok(())
}

fn config() -> impl Strategy<Value = PolicyConfig> {
    let source = (text(), text()).prop_map(|(name, prefix)| HeaderSourceConfig { name, prefix });
    let service = (text(), option::of(text())).prop_map(|(name, header)| ServiceConfig { name, header });
    let format = prop_oneof![Just(TokenFormat::Jwt), Just(TokenFormat::Payload)];
    let carry = option::of((option::of(text()), option::of(text())))
        .prop_map(|carry| carry.map(|(baggage, header)| CarryConfig { baggage, header }));
    let sources = (vec(source, 0..3), vec(text(), 0..3), vec(text(), 0..3), carry, format, vec(text(), 0..3));
    let targets = (option::of(vec(service, 0..3)), option::of(text()), option::of(text()));
    (sources, targets, any::<u32>(), any::<[u32; 4]>()).prop_map(
        |(sources, (services, header_prefix, report_header), skew, limits)| {
            let (from_headers, from_cookies, from_baggage, carry, format, claim_path) = sources;
            let [max_token_bytes, max_payload_bytes, max_routes, max_depth] = limits;
            PolicyConfig {
                from_headers,
                from_cookies,
                from_baggage,
                carry,
                format,
                claim_path,
                services,
                header_prefix,
                report_header,
                clock_skew_seconds: skew,
                limits: LimitsConfig { max_token_bytes, max_payload_bytes, max_routes, max_depth },
            }
        },
    )
}

/// Configurations that [`Policy::new`] accepts.
fn valid_config() -> impl Strategy<Value = PolicyConfig> {
    let number = |bound: Bound| bound.range();
    let limits = (number(limits::TOKEN_BYTES), number(limits::PAYLOAD_BYTES), number(limits::ROUTES), 5..=64_u32);
    let service = ("[A-Za-z0-9.]{0,20}", option::of("[a-z0-9.]{1,20}"));
    let listed = vec(service, 1..4).prop_map(|services| {
        let service = |(index, (name, header)): (usize, (String, Option<String>))| ServiceConfig {
            name: format!("n{index}-{name}"),
            header: header.map(|header| format!("h{index}-{header}")),
        };
        (Some(services.into_iter().enumerate().map(service).collect()), None)
    });
    let prefix = "r[a-z0-9-]{0,20}-".prop_map(|prefix| (None, Some(prefix)));
    let path = vec("\\PC{1,10}", 1..4).prop_map(|mut path| {
        path[0].insert(0, '/');
        path
    });
    let sources = vec(("[ -~&&[^, ]][ -~&&[^,]]{0,10}", "[A-Za-z]{1,10}"), 1..4).prop_map(|sources| {
        let source = |(index, (prefix, name))| HeaderSourceConfig { name: format!("S{index}-{name}"), prefix };
        sources.into_iter().enumerate().map(source).collect::<Vec<_>>()
    });
    let carry = prop_oneof![
        "[A-Za-z0-9!#$%&'*+.^_`|~-]{1,10}".prop_map(|key| CarryConfig { baggage: Some(key), header: None }),
        "x-carry-[a-z]{0,5}".prop_map(|header| CarryConfig { baggage: None, header: Some(header) }),
    ];
    let baggage = (vec("[A-Za-z]{1,10}", 0..3), option::of(carry)).prop_map(|(keys, carry)| {
        (keys.into_iter().enumerate().map(|(index, key)| format!("b{index}-{key}")).collect::<Vec<_>>(), carry)
    });
    let sources = (sources, baggage);
    let parts = (sources, path, prop_oneof![listed, prefix], option::of("report-[a-z0-9]{1,10}"), 0..=300_u32, limits);
    (config(), parts).prop_map(|(config, (sources, claim_path, (services, header_prefix), report, skew, limits))| {
        let (from_headers, (from_baggage, carry)) = sources;
        let (max_token_bytes, max_payload_bytes, max_routes, max_depth) = limits;
        PolicyConfig {
            from_headers,
            from_cookies: Vec::new(),
            from_baggage,
            carry,
            claim_path,
            services,
            header_prefix,
            report_header: report.map(|report| format!("x-{report}")),
            clock_skew_seconds: skew,
            limits: LimitsConfig { max_token_bytes, max_payload_bytes, max_routes, max_depth },
            ..config
        }
    })
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z-]{0,5}", "\\PC{0,5}", any::<String>()]
}

fn value() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(60.0),
        json!(4_294_967_295_u32),
        json!(4_294_967_296_u64),
        json!("jwt"),
        json!("payload"),
        json!(""),
        json!([]),
        json!([null]),
        json!(["a", "b"]),
        json!({}),
        json!({"name": "a"}),
        json!({"name": "a", "header": null}),
        json!({"name": "a", "prefix": "b"}),
        json!({"name": null}),
        json!({"jwt": null}),
        json!({"maxDepth": 3}),
        json!({"baggage": "a"}),
    ])
}

/// A member of the root, with a valid or invalid name and type.
fn member() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "fromHeaders",
        "fromCookies",
        "fromBaggage",
        "carry",
        "format",
        "claimPath",
        "services",
        "headerPrefix",
        "reportHeader",
        "clockSkewSeconds",
        "clockSkewSecond\\u0073",
        "limits",
        "limit",
        "",
    ]);
    let raw = prop::sample::select(vec![
        "-0",
        "1e1",
        "1.0",
        "01",
        "\"\\u006awt\"",
        "\"\\ud800\"",
        "nul",
        "[1,]",
        "[[[[[[[[[]]]]]]]]]",
    ]);
    (name, prop_oneof![4 => value().prop_map(|value| value.to_string()), 1 => raw.prop_map(str::to_owned)])
        .prop_map(|(name, value)| format!("\"{name}\":{value}"))
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let grammar = b"{}[]\",:\\ 0-.ent".map(|byte| vec![byte]);
    prop_oneof![
        prop::sample::select(grammar.to_vec()),
        Just(Vec::new()),
        Just(b"null".to_vec()),
        vec(any::<u8>(), 1..2),
    ]
}

fn count(value: &Value) -> usize {
    1 + children(value).map(count).sum::<usize>()
}

fn children(value: &Value) -> impl Iterator<Item = &Value> {
    let members = value.as_object().into_iter().flat_map(|members| members.values());
    members.chain(value.as_array().into_iter().flatten())
}

/// The value at an index, counted from the root.
fn nth<'v>(value: &'v mut Value, place: &mut usize) -> Option<&'v mut Value> {
    if *place == 0 {
        return Some(value);
    }
    *place -= 1;
    match value {
        Value::Object(members) => members.values_mut().find_map(|value| nth(value, place)),
        Value::Array(items) => items.iter_mut().find_map(|value| nth(value, place)),
        _ => None,
    }
}
