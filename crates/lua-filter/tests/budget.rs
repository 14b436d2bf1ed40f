//! The cost of a request whose token was seen before. Garbage is asserted, instructions are reported.

#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should panic")]

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use lua_harness::{Lines, Script, borrowed};
use routing_claims::{Policy, PolicyConfig, ServiceConfig};

const NOW: i64 = 1_700_000_000;

#[test]
fn a_repeated_token_leaves_no_garbage_of_its_own() {
    let exp = NOW + 60;
    let requests: [(&str, Lines); 4] = [
        (
            "applied",
            lines(&[("authorization", &bearer(&format!(r#"{{"service-0":"PR-1","service-1":2,"exp":{exp}}}"#)))]),
        ),
        (
            "spoofed",
            lines(&[("authorization", &bearer(r#"{"service-1":"PR-1"}"#)), ("service-0", "PR-9"), ("service-1", "x")]),
        ),
        ("expired", lines(&[("authorization", &bearer(r#"{"service-0":"PR-1","exp":1}"#))])),
        ("no token", lines(&[])),
    ];
    for count in [2, 100] {
        for (name, request) in &requests {
            for jit in ["on", "off"] {
                let ours = Script::new(&format!("jit.{jit}() {}", script(count))).unwrap();
                let calls = Script::new(&format!("jit.{jit}() {}", same_calls(count, name))).unwrap();
                assert_eq!(sorted(&ours, request), sorted(&calls, request), "{name}: these are not the same calls");
                let (ours_bytes, calls_bytes) = (garbage(&ours, request), garbage(&calls, request));
                println!(
                    "{count} services, {name}, jit {jit}: {ours_bytes} bytes a request, the calls alone {calls_bytes}"
                );
                assert!(ours_bytes <= calls_bytes, "{count} services, {name}, jit {jit}: {ours_bytes} > {calls_bytes}");
            }
            let filter = Script::new(&script(count)).unwrap();
            let (first, again) = (instructions(&filter, request), instructions(&filter, request));
            println!("{count} services, {name}: {first} instructions at first, {again} from then on");
        }
    }
}

/// A script that only makes the same calls of the handle for one of the requests.
fn same_calls(services: usize, request: &str) -> String {
    let strip = if services > 2 {
        "for name in pairs(headers) do found = name == 'service-0' or name == 'service-1' or found end
         if found then headers:remove('service-0') headers:remove('service-1') end"
    } else {
        "if headers:get('service-0') then headers:remove('service-0') end
         if headers:get('service-1') then headers:remove('service-1') end"
    };
    let apply = match request {
        "applied" => {
            "handle:timestamp() headers:replace('service-0', 'PR-1') headers:replace('service-1', '2') handle:clearRouteCache()"
        }
        "spoofed" => "headers:replace('service-1', 'PR-1') handle:clearRouteCache()",
        "expired" => "handle:timestamp()",
        _ => "",
    };
    format!(
        "function envoy_on_request(handle)
           local headers, found = handle:headers(), false
           {strip}
           headers:get('authorization')
           {apply}
         end"
    )
}

/// The average garbage of a request in bytes, after warm-up.
fn garbage(filter: &Script, request: &Lines) -> usize {
    const REQUESTS: usize = 1000;
    let send = || {
        for _ in 0..REQUESTS {
            filter.run(borrowed(request), NOW).unwrap();
        }
    };
    send();
    filter.lua().gc_collect().unwrap();
    filter.lua().gc_stop();
    // Strings that each request creates, and that exist already from its second run on.
    send();
    let before = filter.lua().used_memory();
    send();
    let grown = filter.lua().used_memory() - before;
    filter.lua().gc_restart();
    grown.div_ceil(REQUESTS)
}

fn instructions(script: &Script, request: &Lines) -> u64 {
    script.count_instructions(borrowed(request), NOW).unwrap()
}

fn sorted(filter: &Script, request: &Lines) -> Lines {
    let mut lines = filter.run(borrowed(request), NOW).unwrap().headers;
    lines.sort();
    lines
}

fn script(services: usize) -> String {
    let services =
        (0..services).map(|index| ServiceConfig { name: format!("service-{index}"), header: None }).collect();
    lua_filter::source(&Policy::new(PolicyConfig { services: Some(services), ..PolicyConfig::default() }).unwrap())
}

fn bearer(payload: &str) -> String {
    format!("Bearer e30.{}.sig", URL_SAFE_NO_PAD.encode(payload))
}

fn lines(of: &[(&str, &str)]) -> Lines {
    let accept = (b"accept".to_vec(), b"*/*".to_vec());
    of.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).chain([accept]).collect()
}
