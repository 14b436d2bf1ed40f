//! What the commands do to folders.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

const PLAN: &str = "\
apiVersion: routing-claims.dev/v1alpha1
kind: RoutingPlan
metadata: {name: qa, namespace: istio-system}
spec:
  filter: {engine: lua, istioVersion: '1.24'}
  services:
  - {name: a, namespace: a}
  - {name: b, namespace: b}
";

const VARIANT: &str = "\
apiVersion: routing-claims.dev/v1alpha1
kind: RoutingVariant
metadata: {name: f}
spec: {service: a, variant: PR-1, expiresAt: 2020-01-01T00:00:00Z}
";

fn run(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_manifest-gen"))
        .current_dir(folder)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

const FILTER: &str = "istio-system.envoyfilter.routing-claims-qa.yaml";
const A: &str = "a.virtualservice.routing-claims-a.yaml";
const B: &str = "b.virtualservice.routing-claims-b.yaml";

#[test]
fn render_removes_what_it_wrote_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    assert!(run(folder.path(), &["render", "-f", "-", "-o", "out"], PLAN).status.success());
    assert_eq!(names(&out), [A, B, FILTER]);
    // Another plan's file and a user's own.
    let other = fs::read_to_string(out.join(B)).unwrap().replace("plan: qa", "plan: other");
    fs::write(out.join("other.yaml"), other).unwrap();
    fs::write(out.join("mine.yaml"), "kind: Service\nmetadata: {name: x}\n").unwrap();
    let without_b = PLAN.replace("  - {name: b, namespace: b}\n", "");
    assert_eq!(run(folder.path(), &["render", "-f", "-", "--check", "out"], &without_b).status.code(), Some(1));
    assert!(run(folder.path(), &["render", "-f", "-", "-o", "out"], &without_b).status.success());
    assert_eq!(names(&out), [A, FILTER, "mine.yaml", "other.yaml"]);
    let check = run(folder.path(), &["render", "-f", "-", "--check", "out"], &without_b);
    assert_eq!((check.status.code(), check.stdout), (Some(0), Vec::new()));
}

/// The label's value was the name of the program once.
#[test]
fn render_updates_and_removes_files_of_earlier_versions() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    assert!(run(folder.path(), &["render", "-f", "-", "-o", "out"], PLAN).status.success());
    for name in [A, B, FILTER] {
        let text = fs::read_to_string(out.join(name)).unwrap();
        assert!(text.contains("managed-by: routing-claims"), "{text}");
        fs::write(out.join(name), text.replace("managed-by: routing-claims", "managed-by: manifest-gen")).unwrap();
    }
    let without_b = PLAN.replace("  - {name: b, namespace: b}\n", "");
    assert!(run(folder.path(), &["render", "-f", "-", "-o", "out"], &without_b).status.success());
    assert_eq!(names(&out), [A, FILTER]);
    assert!(fs::read_to_string(out.join(A)).unwrap().contains("managed-by: routing-claims"));
}

/// A label that changes is a resource to apply, not one to delete.
#[test]
fn diff_updates_resources_of_earlier_versions() {
    let folder = tempfile::tempdir().unwrap();
    let rendered = String::from_utf8(run(folder.path(), &["render", "-f", "-"], PLAN).stdout).unwrap();
    fs::write(folder.path().join("plan.yaml"), PLAN).unwrap();
    let earlier = rendered.replace("managed-by: routing-claims", "managed-by: manifest-gen");
    fs::write(folder.path().join("earlier.yaml"), earlier).unwrap();
    let output = run(folder.path(), &["diff", "earlier.yaml", "plan.yaml"], "");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("apply VirtualService a/routing-claims-a") && !text.contains("delete"), "{text}");
    assert!(!text.contains("->"), "no route changes: {text}");
}

#[test]
fn render_overwrites_no_file_of_others() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("out")).unwrap();
    fs::write(folder.path().join("out").join(A), "kind: Service\nmetadata: {name: x}\n").unwrap();
    let output = run(folder.path(), &["render", "-f", "-", "-o", "out"], PLAN);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("does not belong to the plan `qa`"));
    assert_eq!(names(&folder.path().join("out")), [A]);
}

#[test]
fn prune_removes_files_that_contain_only_expired_variants() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("expired.yaml", VARIANT);
    write("later.yaml", &VARIANT.replace("2020", "2999"));
    write("both.yaml", &format!("{VARIANT}---\n{}", VARIANT.replace("2020", "2999")));
    write("plan.yaml", PLAN);
    let output = run(folder.path(), &["prune", "-f", "."], "");
    assert_eq!((output.status.code(), &*String::from_utf8_lossy(&output.stdout)), (Some(0), "./expired.yaml\n"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("both.yaml:4:46: expired, but its file contains more"));
    assert_eq!(names(folder.path()), ["both.yaml", "later.yaml", "plan.yaml"]);
}

#[test]
fn a_token_that_is_signed_verifies_with_its_key_only() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("key"), "secret").unwrap();
    fs::write(folder.path().join("other"), "another").unwrap();
    let minted =
        run(folder.path(), &["token", "mint", "--claim", "a=PR-1", "--signature", "HS256", "--key", "key"], "");
    let token = String::from_utf8(minted.stdout).unwrap();
    let decode = |arguments: &[&str]| {
        let output = run(folder.path(), &[&["token", "decode", "-"], arguments].concat(), &token);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = decode(&["--signature", "HS256", "--key", "key"]);
    assert!(code == Some(0) && text.contains("verified with the key"), "{text}");
    let (code, text) = decode(&["--signature", "HS256", "--key", "other"]);
    assert!(code == Some(1) && text.contains("INVALID"), "{text}");
    let (code, text) = decode(&[]);
    assert!(code == Some(0) && text.contains("NOT VERIFIED"), "{text}");
}
