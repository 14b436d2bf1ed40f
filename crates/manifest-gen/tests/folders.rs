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

const DEPLOYMENT: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: a}
spec: {template: {metadata: {labels: {routing-claims.dev/router: enabled}}}}
";

/// A patch looks like a workload without labels, which would not pass the filter.
#[test]
fn patches_of_kustomize_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let patch = "kind: Deployment\napiVersion: apps/v1\nmetadata: {name: web, namespace: a}\nspec: {template: {metadata: {labels: {tier: web}}}}\n";
    write("plan.yaml", &PLAN.replace("namespace: a}", "namespace: a, variants: [{name: PR-1}]}"));
    fs::create_dir(folder.path().join("apps")).unwrap();
    write("apps/web.yaml", DEPLOYMENT);
    write("apps/patch.yaml", patch);
    write("apps/delete.yaml", &format!("$patch: delete\n{patch}"));
    let lint = || run(folder.path(), &["lint", "-f", "plan.yaml", "--manifests", "apps"], "");
    for kustomization in [
        "resources: [web.yaml]\npatches: [{path: ./patch.yaml}]\n",
        "kind: Component\napiVersion: kustomize.config.k8s.io/v1alpha1\npatchesStrategicMerge: [../apps/patch.yaml]\n",
    ] {
        write("apps/kustomization.yaml", kustomization);
        let output = lint();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(said.contains("apps/patch.yaml:1:1: left out a patch") && said.contains("apps/delete.yaml"), "{said}");
    }
    fs::remove_file(folder.path().join("apps/kustomization.yaml")).unwrap();
    let output = lint();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("web.yaml:1:1: Deployment a/web comes a second time"));
}

#[test]
fn lint_tells_its_findings_beside_files_that_can_not_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &[u8]| fs::write(folder.path().join(name), text).unwrap();
    write("broken.yaml", b"a: ]\n---\nkind: Service\nmetadata: {name: x}\n");
    write("latin1.yaml", b"kind: \xff\n");
    write("route.yaml", b"kind: VirtualService\nmetadata: {name: a, namespace: a}\nspec: {hosts: 1}\n");
    let output = run(folder.path(), &["lint", "--manifests", ".", "absent.yaml"], "");
    let (found, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(2));
    assert!(found.contains("./route.yaml:3:15: error[wrong-type]"), "{found}");
    for file in ["broken.yaml:1:4", "latin1.yaml", "absent.yaml"] {
        assert!(said.contains(file), "{said}");
    }
    assert!(said.contains("1 resource does not name a namespace: assumed `default`"), "{said}");
    let output = run(folder.path(), &["lint", "--manifests", "broken.yaml", "--namespace", "a"], "");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("assumed"));
}

#[test]
fn explain_tells_which_namespace_it_assumes() {
    let folder = tempfile::tempdir().unwrap();
    let route =
        "kind: VirtualService\nmetadata: {name: x}\nspec: {hosts: [x], http: [{route: [{destination: {host: z}}]}]}\n";
    let explain = |host: &str, more: &[&str]| {
        let arguments = [&["explain", "--manifests", "-", "--host", host], more].concat();
        String::from_utf8(run(folder.path(), &arguments, route).stdout).unwrap()
    };
    let text = explain("x.default.svc.cluster.local", &[]);
    assert!(text.contains("goes to      z.default.svc.cluster.local") && text.contains("(stdin:1:1)"), "{text}");
    let text = explain("x.shop.svc.cluster.local", &["--namespace", "shop"]);
    assert!(text.contains("goes to      z.shop.svc.cluster.local") && !text.contains("--namespace"), "{text}");
}

/// What `kubectl get -o yaml` shows of a resource that was applied as it was rendered.
#[test]
fn diff_does_not_compare_what_the_api_server_sets() {
    let folder = tempfile::tempdir().unwrap();
    let rendered = String::from_utf8(run(folder.path(), &["render", "-f", "-"], PLAN).stdout).unwrap();
    fs::write(folder.path().join("plan.yaml"), PLAN).unwrap();
    let live = rendered.replace(
        "metadata:\n",
        "metadata:\n  uid: 1-2\n  generation: 2\n  resourceVersion: '7'\n  creationTimestamp: 2026-01-01T00:00:00Z\n  \
         managedFields: [{manager: kubectl}]\n",
    );
    let live = live.replace("spec:\n", "status: {conditions: []}\nspec:\n").replace(
        "  annotations:\n",
        "  annotations:\n    kubectl.kubernetes.io/last-applied-configuration: |\n      {}\n",
    );
    fs::write(folder.path().join("live.yaml"), &live).unwrap();
    let output = run(folder.path(), &["diff", "live.yaml", "plan.yaml"], "");
    assert_eq!((output.status.code(), &*String::from_utf8_lossy(&output.stdout)), (Some(0), ""));
    fs::write(folder.path().join("live.yaml"), live.replace("plan: qa", "plan: other")).unwrap();
    assert_eq!(run(folder.path(), &["diff", "live.yaml", "plan.yaml"], "").status.code(), Some(1));
}

#[test]
fn rendered_files_can_be_concatenated() {
    let folder = tempfile::tempdir().unwrap();
    assert!(run(folder.path(), &["render", "-f", "-", "-o", "out"], PLAN).status.success());
    let text = |name: &str| fs::read_to_string(folder.path().join("out").join(name)).unwrap();
    fs::write(folder.path().join("all.yaml"), [A, B, FILTER].map(text).concat()).unwrap();
    let output = run(folder.path(), &["diff", "all.yaml", "out"], "");
    assert_eq!((output.status.code(), &*String::from_utf8_lossy(&output.stdout)), (Some(0), ""));
}

/// The API server writes defaults into an `HTTPRoute`.
#[test]
fn diff_knows_the_defaults_of_http_routes() {
    let folder = tempfile::tempdir().unwrap();
    let plan = PLAN.replace("  services:\n", "  routes: {resource: HTTPRoute}\n  services:\n");
    let plan = plan
        .replace("namespace: a}", "namespace: a, port: 80, variants: [{name: PR-1}]}")
        .replace(": b}", ": b, port: 80}");
    fs::write(folder.path().join("plan.yaml"), &plan).unwrap();
    let rendered = String::from_utf8(run(folder.path(), &["render", "-f", "plan.yaml"], "").stdout).unwrap();
    let live = rendered.replace(
        "  - backendRefs:\n    - name",
        "  - backendRefs:\n    - group: \"\"\n      kind: Service\n      weight: 1\n      name",
    );
    let live = live.replace(
        "        value: PR-1\n",
        "        value: PR-1\n        type: Exact\n      path: {type: PathPrefix, value: /}\n",
    );
    let live =
        live.replace("    name: default\n", "    name: default\n    matches: [{path: {type: PathPrefix, value: /}}]\n");
    assert!(live.matches("PathPrefix").count() > 0 && live.contains("weight: 1"), "{live}");
    fs::write(folder.path().join("live.yaml"), &live).unwrap();
    let output = run(folder.path(), &["diff", "live.yaml", "plan.yaml"], "");
    assert_eq!((output.status.code(), &*String::from_utf8_lossy(&output.stdout)), (Some(0), ""), "{live}");
}
