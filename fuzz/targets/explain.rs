//! Any manifests and any request: the explanation is the same a second time, and never contains the token. So is that of a call
//! that follows.
//!
//! The first line of an input is method, host, path, port, namespace and gateway, separated by spaces, with `-` for none. Header
//! lines, an empty line, and YAML follow. `@` in a header's value is replaced by a token.
#![no_main]

use std::sync::Arc;

use jiff::Timestamp;
use libfuzzer_sys::{Corpus, fuzz_target};
use manifest_gen::{documents::Documents, yaml::File};
use routing_claims_fuzz::{line, request};
use routing_plan::{
    diagnostic::Location,
    diff,
    explain::{
        self, ExplainRequest, MeshFacts,
        hops::{self, Call},
    },
    lint,
};

fuzz_target!(|input: &[u8]| -> Corpus {
    // Names of headers are shown, so only `@` may be the token.
    if input.windows(TOKEN.len()).any(|part| part == TOKEN.as_bytes()) {
        return Corpus::Reject;
    }
    let (first, rest) = line(input);
    let (lines, text) = request(rest);
    let (Some(request), Ok(text)) = (read(first, &lines), std::str::from_utf8(text)) else { return Corpus::Reject };
    let file = Arc::new(File { name: "manifests.yaml".into(), text: text.into() });
    let Ok(manifests) = Documents::default().read_manifests(&[file]) else { return Corpus::Reject };

    let explanation = explain::explain(&manifests, &request, NOW);
    let text = explanation.to_text(&place);
    assert_eq!(explain::explain(&manifests, &request, NOW).to_text(&place), text);
    assert!(!text.contains(TOKEN), "{text}");
    let before = explanation.rules.len().saturating_sub(1);
    assert!(explanation.rules.iter().take(before).all(|rule| rule.matches != Some(true)), "{text}");

    let call = Call {
        host: request.host.clone(),
        port: request.port,
        path: request.path.clone(),
        forwards: request.headers.iter().map(|(name, _)| name.clone()).step_by(2).collect(),
        has_own_token: request.headers.len() % 2 == 0,
    };
    let journey = hops::follow(&manifests, &request, &[call], NOW).to_text(&place);
    assert!(journey.contains(&text) && !journey.contains(TOKEN), "{journey}");

    assert!(diff::diff(&manifests, &manifests).is_empty());
    let _ = lint::run(None, manifests, None, Timestamp::UNIX_EPOCH);
    Corpus::Keep
});

fn place(location: &Location) -> String {
    location.path.to_string()
}

fn read(first: &[u8], lines: &[(&[u8], &[u8])]) -> Option<ExplainRequest> {
    let words: Vec<_> = std::str::from_utf8(first).ok()?.split(' ').collect();
    let [method, host, path, port, namespace, gateway] = words[..] else { return None };
    let some = |word: &str| (word != "-").then(|| word.to_owned());
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    Some(ExplainRequest {
        host: host.into(),
        path: path.into(),
        method: method.into(),
        headers: lines
            .iter()
            .map(|(name, value)| Some((text(name)?, text(value)?.replace('@', TOKEN))))
            .collect::<Option<_>>()?,
        port: port.parse().ok(),
        scheme: None,
        gateway: some(gateway),
        namespace: some(namespace),
        labels: None,
        mesh: MeshFacts { is_complete: path.len() % 2 == 0, ..MeshFacts::default() },
    })
}

/// A token with the payload `{"microservice-A":"PR-1"}`. Its signature makes it longer than any version.
const TOKEN: &str = "e30.eyJtaWNyb3NlcnZpY2UtQSI6IlBSLTEifQ.c2lnbmF0dXJlc2lnbmF0dXJlc2lnbmF0dXJl";

const NOW: i64 = 1_800_000_000;
