//! Any bytes: an error that says where and why in one line, or a policy that says its configuration again, as serde reads it and
//! as the Lua script takes it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lua_harness::Script;
use routing_claims::{Policy, PolicyConfig};

fuzz_target!(|text: &[u8]| {
    let policy = match Policy::from_json(text) {
        Ok(policy) => policy,
        Err(error) => {
            assert!(!error.problems().is_empty());
            assert!(error.problems().iter().all(|problem| !problem.path.is_empty() && !problem.message.is_empty()));
            // It goes to logs.
            assert!(!error.to_string().contains(char::is_control), "{:?}", error.to_string());
            return;
        }
    };
    let by_serde: PolicyConfig = serde_json::from_slice(text).expect("serde takes what the reader takes");
    assert_eq!(Policy::new(by_serde).expect("the same configuration").config(), policy.config());

    let written = serde_json::to_vec(policy.config()).expect("a configuration can be written");
    let again = Policy::from_json(&written).expect("a policy's configuration is one");
    assert_eq!(again.config(), policy.config());

    let script = lua_filter::source(&policy);
    assert!(script.bytes().all(|byte| matches!(byte, b'\n' | b' '..=b'~') && byte != b'\\'));
    Script::new(&script).expect("the script loads");
});
