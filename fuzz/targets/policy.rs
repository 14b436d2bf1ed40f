//! Any bytes: an error in one line with a path and a reason, or a policy whose configuration reads back as the same policy, and
//! which the Lua script accepts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lua_harness::Script;
use routing_claims::{Policy, PolicyConfig, PolicyDiagnostic};

fuzz_target!(|text: &[u8]| {
    let policy = match Policy::from_json(text) {
        Ok(policy) => policy,
        Err(error) => {
            assert!(!error.diagnostics().is_empty());
            for PolicyDiagnostic { expected, found, .. } in error.diagnostics() {
                assert!(!expected.is_empty() && !found.is_empty(), "{error}");
            }
            // The error is written to logs.
            let text = error.to_string();
            assert!(!text.contains(char::is_control) && text.len() < 100_000, "{text:?}");
            return;
        }
    };
    let by_serde: PolicyConfig = serde_json::from_slice(text).expect("JSON of a configuration");
    assert_eq!(Policy::new(by_serde).expect("the same configuration").config(), policy.config());

    let written = serde_json::to_vec(policy.config()).expect("a configuration can be written");
    let again = Policy::from_json(&written).expect("a policy's configuration is one");
    assert_eq!(again.config(), policy.config());

    let script = lua_filter::source(&policy);
    assert!(script.bytes().all(|byte| matches!(byte, b'\n' | b' '..=b'~') && byte != b'\\'));
    Script::new(&script).expect("the script loads");
});
