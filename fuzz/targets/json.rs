//! Any bytes: the core's scanner accepts what `serde_json` accepts as an object, and reads the same from it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use routing_claims::json_agreement;

fuzz_target!(|text: &[u8]| {
    if let Err(difference) = json_agreement(text) {
        panic!("{difference}");
    }
});
