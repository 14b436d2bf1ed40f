//! R17 on the command line: an error never shows the token, its payload or a claim, wherever the token was typed.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

const PLAN: &str = "\
apiVersion: routing-claims.dev/v1alpha1
kind: RoutingPlan
metadata: {name: qa, namespace: istio-system}
spec: {filter: {engine: lua, istioVersion: '1.24'}, services: [{name: a, namespace: a}]}
";

const PAYLOAD: &str = r#"{"a":"hidden-version","email":"hidden@example.com"}"#;

#[test]
fn no_error_shows_a_token() {
    let payload = URL_SAFE_NO_PAD.encode(PAYLOAD);
    let token = &format!("eyJhbGciOiJIUzI1NiJ9.{payload}.c2lnbmF0dXJl");
    let (header, bearer) = (&format!("authorization Bearer {token}"), &format!("Bearer {token}"));
    let (equals, cut) = (&format!("--token={token}"), &token[..token.len() - "e.c2lnbmF0dXJl".len()]);
    let (two_parts, bad_json) = (&format!("{payload}.sig"), &format!("{payload}.{}.sig", &payload[..20]));
    let explain = |rest: &[&'static str]| [&["explain", "-f", "plan.yaml"][..], rest].concat();
    let decode = ["token", "decode"];
    let mut commands: Vec<Vec<&str>> =
        [cut, two_parts, bad_json, bearer].map(|odd| [&decode[..], &[odd]].concat()).to_vec();
    commands.extend([
        // With something else that is wrong.
        vec!["token", "decode", token, "-f", "missing.yaml"],
        vec!["token", "decode", token, "-f", "bad.yaml"],
        vec!["token", "decode", token, "--signature", "RS256", "--key", "missing.pem"],
        vec!["token", "decode", token, "--signature", "HS256"],
        vec!["token", "decode", token, "--now", "never"],
        vec!["token", "decode", token, "--unknown"],
        [explain(&["--host", "a", "--token"]), vec![token, "--manifests", "missing"]].concat(),
        [explain(&["--host", "a", "--token"]), vec![token, "--claims", PAYLOAD]].concat(),
        [explain(&["--token"]), vec![token]].concat(),
        vec!["explain", "--manifests", "service.yaml", "--host", "a", "--token", token],
        vec!["explain", "--manifests", "service.yaml", "--host", "a", "--claims", PAYLOAD],
        // Misplaced.
        vec![token],
        vec!["token", token],
        vec!["token", "mint", token],
        vec!["token", "decode", token, token],
        vec!["token", "decode", "e30.e30.", "-f", token],
        vec!["token", "decode", "e30.e30.", "--signature", "HS256", "--key", token],
        vec!["token", "decode", "e30.e30.", "--signature", token],
        vec!["token", "decode", "e30.e30.", "--now", token],
        vec!["token", "decode", "e30.e30.", equals],
        vec!["token", "mint", "--claim", token, "--unsigned-and-insecure"],
        vec!["token", "mint", "--payload", token, "--unsigned-and-insecure"],
        vec!["token", "mint", "--payload", r#""hidden-version""#, "--unsigned-and-insecure"],
        vec!["token", "mint", "--payload", r#"{"a":"hidden-version""#, "--unsigned-and-insecure"],
        vec!["token", "mint", "--expires-at", token, "--unsigned-and-insecure"],
        [explain(&["--host", "a", "--header"]), vec![header]].concat(),
        [explain(&["--host", "a"]), vec![token]].concat(),
        [explain(&["--host", "a", "--port"]), vec![token]].concat(),
        [explain(&["--host", "a", "--from-labels"]), vec![token]].concat(),
        vec!["explain", "--host", "a", "-f", token],
        vec!["render", token],
        vec!["lint", "-f", token],
        vec!["diff", token, token],
        vec!["migrate", token],
        vec!["man", token],
        vec!["completions", token],
        vec!["schema", token],
    ]);
    for arguments in &commands {
        for input in ["", bearer, "\u{feff}"] {
            assert_hidden(arguments, input, &payload);
        }
    }
    for input in [cut, two_parts, bad_json, bearer] {
        assert_hidden(&["token", "decode", "-"], input, &payload);
    }
}

/// Runs a command that fails, and looks at all that it says.
fn assert_hidden(arguments: &[&str], input: &str, payload: &str) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("plan.yaml"), PLAN).unwrap();
    fs::write(folder.path().join("bad.yaml"), "kind: RoutingPlan\nkind: RoutingPlan\n").unwrap();
    fs::write(folder.path().join("service.yaml"), "kind: Service\nmetadata: {name: a}\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_manifest-gen"));
    command.current_dir(folder.path()).args(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that does not read it may have ended by now.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    assert!(!output.stderr.is_empty(), "{arguments:?} says nothing");
    // A part of the payload's base64 is as good as all of it.
    for secret in ["hidden", &payload[10..30], "c2lnbmF0dXJl"] {
        assert!(!said.contains(secret), "{arguments:?} shows {secret}:\n{said}");
    }
}
