//! What the corpus can't show of the script: the form of its text, its faults, its bounds.

#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should panic")]

use std::{collections::BTreeSet, fmt::Write as _};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use lua_harness::{Lines, Processed, Script, borrowed};
use mlua::Lua;
use routing_claims::{CarryConfig, LimitsConfig, Policy, PolicyConfig, ServiceConfig};
use serde_json::json;

const NOW: i64 = 1_700_000_000;

/// `TrafficExtension` takes no more.
const MAX_SCRIPT_BYTES: usize = 65536;

#[test]
fn survives_a_yaml_literal_block() {
    let hostile: String = ('\0'..='\u{17f}').collect();
    for (index, chunk) in hostile.chars().collect::<Vec<_>>().chunks(30).enumerate() {
        let name: String = chunk.iter().collect();
        let source = source(PolicyConfig {
            claim_path: vec![name.clone()],
            services: Some(vec![service(&name, &format!("x-{index}"))]),
            ..PolicyConfig::default()
        });
        for line in source.lines() {
            assert!(line.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'\\'), "{line}");
            assert!(!line.ends_with(' '), "{line:?}");
        }
        assert!(!source.contains("{{") && !source.contains("${"), "templates would read this as their own");
    }
}

#[test]
fn a_hundred_services_fit() {
    let services = (0..100)
        .map(|index| {
            service(&format!("{index:03}{}", "\u{f6}".repeat(30)), &format!("x-{index:03}{}", "y".repeat(122)))
        })
        .collect();
    let length = source(PolicyConfig { services: Some(services), ..PolicyConfig::default() }).len();
    assert!(length < MAX_SCRIPT_BYTES, "{length} bytes");
    let plain = source(closed(&(0..100).map(|index| format!("some-microservice-{index}")).collect::<Vec<_>>())).len();
    println!("100 services: {plain} bytes with common names, {length} bytes with the longest and worst");
}

#[test]
fn hostile_names_are_only_names() {
    let names = [
        "\"",
        "\\",
        "\\\"",
        "]]",
        "]==]",
        "\n",
        "\r\n",
        "\0",
        "a\0b",
        "\t",
        "--",
        "\"] = os.exit(1), [\"",
        "\u{7f}",
        "\u{80}",
        "\u{2028}",
        "gr\u{f6}\u{df}e",
        "\u{1f600}",
        "{{ .Values.x }}",
        "${HOME}",
        "$(HOME)",
        "%s%1%",
        " ",
        "'",
        "`",
        "<%= 1 %>",
        "-- policy end",
    ];
    let services: Vec<_> = names.iter().enumerate().map(|(index, name)| service(name, &format!("x-{index}"))).collect();
    for segment in names {
        let filter = filter(PolicyConfig {
            claim_path: vec![segment.into()],
            services: Some(services.clone()),
            ..PolicyConfig::default()
        });
        for (index, name) in names.iter().enumerate() {
            let answer = send(&filter, &json!({segment: {*name: "PR-1"}}).to_string(), &[]);
            assert_eq!(set(&answer), [(format!("x-{index}"), "PR-1".into())], "{name:?} under {segment:?}");
            let other = format!("{name}x");
            let answer = send(&filter, &json!({segment: {other: "PR-1"}}).to_string(), &[]);
            assert_eq!(set(&answer), [], "{name:?} under {segment:?}");
        }
    }
}

#[test]
fn needs_and_leaves_nothing_global() {
    let globals = |lua: &Lua| -> BTreeSet<String> {
        lua.globals().pairs::<String, mlua::Value>().map(|pair| pair.unwrap().0).collect()
    };
    let removed =
        ["require", "package", "module", "debug", "io", "jit", "bit", "load", "loadstring", "getfenv", "setfenv"];
    let script = source(closed(&["api"]));
    let filter = Script::new(&format!("{} = nil {script}", removed.join(", "))).unwrap();
    assert_eq!(set(&send(&filter, r#"{"api":"PR-1"}"#, &[])), [("api".into(), "PR-1".into())]);
    let expected: BTreeSet<_> = globals(&Lua::new())
        .into_iter()
        .filter(|name| !removed.contains(&name.as_str()))
        .chain(["envoy_on_request".into()])
        .collect();
    assert_eq!(globals(filter.lua()), expected);
}

/// An error would let the request pass unstripped (R1, R2), its text could show the token (R17).
#[test]
fn a_fault_within_gives_the_baseline() {
    let script = source(PolicyConfig { report_header: Some("x-report".into()), ..closed(&["api", "shop"]) });
    let fails = |call: &str| {
        format!(
            "local inner = envoy_on_request
             function envoy_on_request(handle)
               local headers = handle:headers()
               local calls = 0
               local broken = setmetatable({{}}, {{__index = function(_, name)
                 return function(_, ...)
                   if name == '{call}' then
                     calls = calls + 1
                     if calls == 2 then error('near ' .. tostring(headers:get('authorization'))) end
                   end
                   return headers[name](headers, ...)
                 end
               end}})
               inner(setmetatable({{}}, {{__index = function(_, name)
                 return function(_, ...)
                   if name == 'headers' then return broken end
                   return handle[name](handle, ...)
                 end
               end}}))
             end"
        )
    };
    let broken = [
        format!("table.sort = function(claims) error(claims[1].version) end {script}"),
        format!("unpack = nil {script}"),
        // Headers were set by then.
        format!("{script} {}", fails("replace")),
    ];
    for source in broken {
        let filter = Script::new(&source).unwrap();
        for payload in [r#"{"api":"PR-1","shop":"PR-2"}"#, r#"{"api":"PR-1","shop":"PR-2","exp":99999999999}"#] {
            let answer = send(&filter, payload, &[("shop", "PR-9"), ("x-report", "applied")]);
            assert_eq!(set(&answer), []);
            assert!(answer.edited && answer.cleared);
            assert_eq!(answer.logs, ["routing-claims: internal error; the request goes to the baseline"]);
        }
    }
}

#[test]
fn logs_nothing() {
    let filter = filter(closed(&["api"]));
    for payload in [r#"{"api":"PR-1"}"#, "{", r#"{"api":"no version"}"#, r#"{"exp":1}"#] {
        assert_eq!(send(&filter, payload, &[]).logs, Vec::<String>::new());
    }
}

/// R15: a modifying call is all it takes for Envoy to clear the route cache by itself.
#[test]
fn edits_only_what_it_changes() {
    let open = PolicyConfig {
        claim_path: vec!["routes".into()],
        header_prefix: Some("x-route-".into()),
        ..PolicyConfig::default()
    };
    let many: Vec<_> = (0..100).map(|index| format!("service-{index}")).collect();
    for policy in [closed(&["api"]), closed(&many), open] {
        let name = match &policy.services {
            Some(services) => services[0].name.clone(),
            None => "x-route-api".into(),
        };
        let filter = filter(policy);
        let request: Lines = vec![(b"accept".to_vec(), b"*/*".to_vec())];
        let answer = answer(&filter, &request, NOW);
        assert_eq!((answer.headers, answer.edited, answer.cleared), (request, false, false));
        let answer = send(&filter, "{}", &[(&name, "PR-9"), (&name, "PR-8")]);
        assert_eq!((set(&answer), answer.edited, answer.cleared), (vec![], true, true));
    }
}

/// Envoys before `timestamp` and `clearRouteCache`.
#[test]
fn an_old_handle_will_do() {
    let script = format!(
        "os.time = function() return {NOW} end
         {}
         local inner = envoy_on_request
         function envoy_on_request(handle) inner({{headers = function() return handle:headers() end}}) end",
        source(closed(&["api"]))
    );
    let filter = Script::new(&script).unwrap();
    let at = |exp: i64| set(&send(&filter, &format!(r#"{{"api":"PR-1","exp":{exp}}}"#), &[])).len();
    assert_eq!((at(NOW - 59), at(NOW - 60)), (1, 0));
}

/// R9: each fraction, exponent and sign counts, at its very second.
#[test]
fn times_are_cut_toward_minus_infinity() {
    let filter = filter(PolicyConfig { clock_skew_seconds: 0, ..closed(&["api"]) });
    for (exp, cut) in [
        ("1.99", 1),
        ("-0", 0),
        ("-1.0", -1),
        ("-1.25", -2),
        ("-0.0011", -1),
        ("15e-1", 1),
        ("-15e-1", -2),
        ("1e3", 1000),
        ("-1E+3", -1000),
        ("0.00012e6", 120),
        ("-0.00012345e6", -124),
        ("17000000009999999999999999e-16", NOW),
        ("1700000000.9999999999999999999999", NOW),
        ("-1700000000.0000000000000000000001", -NOW - 1),
        ("1e-99999999999999999999999", 0),
        ("-1e-99999999999999999999999", -1),
        ("0e99999999999999999999999", 0),
    ] {
        let request = bearer(&format!(r#"{{"api":"PR-1","exp":{exp}}}"#));
        let routes = |now| set(&answer(&filter, &request, now)).len();
        assert_eq!((routes(cut - 1), routes(cut)), (1, 0), "{exp}");
    }
}

/// R16: also while other tokens come and go, and however large they are.
#[test]
fn the_cache_is_bounded() {
    let limits = LimitsConfig { max_token_bytes: 65536, max_payload_bytes: 49152, ..LimitsConfig::default() };
    let filter = filter(PolicyConfig { limits, ..closed(&["api"]) });
    let used = || {
        filter.lua().gc_collect().unwrap();
        filter.lua().gc_collect().unwrap();
        filter.lua().used_memory()
    };
    // The largest payload comes first, as the room to read it in stays.
    send(&filter, &format!(r#"{{"api":"PR-1","x":"{}"}}"#, "y".repeat(49_000)), &[]);
    let before = used();
    for (length, tokens) in [(1, 5000), (400, 500), (4000, 100), (40_000, 20)] {
        for index in 0..tokens {
            let payload = format!(r#"{{"api":"PR-{index}","x":"{}"}}"#, "y".repeat(length));
            assert_eq!(set(&send(&filter, &payload, &[])), [("api".into(), format!("PR-{index}"))]);
            let often = send(&filter, r#"{"api":"often"}"#, &[]);
            assert_eq!(set(&often), [("api".into(), "often".into())]);
        }
        let grown = used().saturating_sub(before);
        assert!(grown < 512 * 1024, "{grown} bytes after tokens of {length}");
    }
}

/// Work is linear in the input: twice the input is no more than about twice the instructions.
#[test]
fn work_is_linear() {
    let limits = LimitsConfig { max_token_bytes: 65536, max_payload_bytes: 49152, ..LimitsConfig::default() };
    let open = PolicyConfig {
        limits,
        claim_path: vec!["r".into()],
        header_prefix: Some("x-route-".into()),
        report_header: Some("x-report".into()),
        from_cookies: vec!["t".into()],
        ..PolicyConfig::default()
    };
    let filter = filter(open);
    let keys = |count: usize| {
        let mut payload = String::from(r#"{"r":{"a":1"#);
        for index in 0..count / 12 {
            write!(payload, r#","k{index:05}":[]"#).unwrap();
        }
        payload + "}}"
    };
    let payloads: [(&str, &dyn Fn(usize) -> String); 6] = [
        ("members", &keys),
        ("string", &|n| format!(r#"{{"x":"{}"}}"#, "y".repeat(n))),
        ("escapes", &|n| format!(r#"{{"r":{{"{}":1}}}}"#, "\\u00e9".repeat(n / 6))),
        ("spaces", &|n| format!("{{{}}}", " ".repeat(n))),
        ("digits", &|n| format!(r#"{{"exp":0.{}e{n}}}"#, "0".repeat(n))),
        ("arrays", &|n| format!(r#"{{"x":[{}1]}}"#, "[],".repeat(n / 3))),
    ];
    for (name, payload) in payloads {
        let count = |n| filter.count_instructions(borrowed(&bearer(&payload(n))), NOW).unwrap();
        let (one, two) = (count(20_000), count(40_000));
        println!("{name}: {} instructions per byte", two / 40_000);
        assert!(two < one * 5 / 2, "{name}: {one}, {two}");
    }
    for (name, piece) in [("semicolons", ";"), ("spaces", " "), ("pairs", "t=;"), ("names", "abc ;"), ("equals", "=")] {
        let count = |n: usize| {
            let request = vec![(b"cookie".to_vec(), piece.repeat(n / piece.len()).into_bytes())];
            filter.count_instructions(borrowed(&request), NOW).unwrap()
        };
        let (one, two) = (count(20_000), count(40_000));
        assert!(two < one * 5 / 2 + 100, "{name}: {one}, {two}");
    }
    let carries = self::filter(PolicyConfig {
        from_headers: Vec::new(),
        from_baggage: vec!["qa".into(), "t".into()],
        carry: Some(CarryConfig { baggage: Some("qa".into()), header: None }),
        ..closed(&["a"])
    });
    for piece in [",", " ", "t=,", "qa,", "=,", ";,", "=", "qa=1;,"] {
        let count = |n: usize| {
            let request = vec![(b"baggage".to_vec(), piece.repeat(n / piece.len()).into_bytes())];
            carries.count_instructions(borrowed(&request), NOW).unwrap()
        };
        let (one, two) = (count(20_000), count(40_000));
        assert!(two < one * 5 / 2 + 100, "{piece}: {one}, {two}");
    }
}

fn closed(names: &[impl AsRef<str>]) -> PolicyConfig {
    let services = names.iter().map(|name| ServiceConfig { name: name.as_ref().into(), header: None }).collect();
    PolicyConfig { services: Some(services), ..PolicyConfig::default() }
}

fn service(name: &str, header: &str) -> ServiceConfig {
    ServiceConfig { name: name.into(), header: Some(header.into()) }
}

fn source(config: PolicyConfig) -> String {
    lua_filter::source(&Policy::new(config).unwrap())
}

fn filter(config: PolicyConfig) -> Script {
    Script::new(&source(config)).unwrap()
}

fn bearer(payload: &str) -> Lines {
    let value = format!("Bearer e30.{}.sig", URL_SAFE_NO_PAD.encode(payload));
    vec![(b"authorization".to_vec(), value.into_bytes())]
}

fn send(filter: &Script, payload: &str, more: &[(&str, &str)]) -> Processed {
    let mut request = bearer(payload);
    request.extend(more.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())));
    answer(filter, &request, NOW)
}

fn answer(filter: &Script, request: &Lines, now: i64) -> Processed {
    filter.run(borrowed(request), now).unwrap()
}

/// The header lines behind the filter, without the token.
fn set(answer: &Processed) -> Vec<(String, String)> {
    answer
        .headers
        .iter()
        .filter(|(name, _)| name != b"authorization")
        .map(|(name, value)| (String::from_utf8(name.clone()).unwrap(), String::from_utf8(value.clone()).unwrap()))
        .collect()
}
