//! Writes the corpus as seeds of the fuzz targets, each in the format that its target reads: `fuzz-seeds FOLDER`.

use std::{collections::BTreeSet, env, fs, path::Path};

use anyhow::{Context as _, Result};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use conformance::{Case, Corpus};
use serde_json::Value;

fn main() -> Result<()> {
    let folder = env::args_os().nth(1).context("expected the folder to write to")?;
    let folder = Path::new(&folder);
    let corpus = Corpus::load()?;
    let (mut policies, mut payloads, mut requests) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    policies.extend(corpus.rejects.iter().map(|reject| reject.policy.clone().into_bytes()));
    for case in &corpus.cases {
        policies.insert(policy(case));
        payloads.extend(case.payload(NOW)?);
        requests.insert(request(case)?);
    }
    write(&folder.join("policy"), &policies)?;
    write(&folder.join("json"), &payloads)?;
    write(&folder.join("decide"), &requests)?;
    write(&folder.join("module"), &requests)
}

fn policy(case: &Case) -> Vec<u8> {
    Value::from(case.policy.clone()).to_string().into_bytes()
}

/// The policy in one line, the header lines, an empty line, and the payload. `@` is the token.
fn request(case: &Case) -> Result<Vec<u8>> {
    let mut seed = policy(case);
    let payload = case.payload(NOW)?.unwrap_or_default();
    let encoded = BASE64_URL_SAFE_NO_PAD.encode(&payload);
    let token = [&*BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), &encoded, "sig"].join(".");
    for (name, mut value) in case.request(NOW)? {
        for text in [&token, &encoded] {
            if let Some(at) = value.windows(text.len().max(1)).position(|window| window == text.as_bytes()) {
                value.splice(at..at + text.len(), *b"@");
            }
        }
        seed.extend([&b"\n"[..], &name, b": ", &value].concat());
    }
    seed.extend([&b"\n\n"[..], &payload].concat());
    Ok(seed)
}

fn write(folder: &Path, seeds: &BTreeSet<Vec<u8>>) -> Result<()> {
    fs::create_dir_all(folder)?;
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(folder.join(format!("case-{number}")), seed)?;
    }
    Ok(())
}

/// The time of the fuzz targets.
const NOW: i64 = 1_800_000_000;
