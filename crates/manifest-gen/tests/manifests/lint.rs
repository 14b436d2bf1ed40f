//! Every lint has YAML files that it finds something in, and files that it does not: `tests/lints/CODE/bad*.yaml` and
//! `good*.yaml`, each with a plan in `NAME.plan.yaml` if it needs one. `# also: CODE` in the first line of a file names
//! another lint that finds something. Other files are what a plan names.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use manifest_gen::{documents::Documents, yaml::File};
use routing_plan::{
    lint::{Finding, LINTS, markdown, run},
    resolve::Expiry,
};

use crate::read;

#[test]
fn every_lint_has_a_bad_and_a_good_fixture() {
    let codes: BTreeSet<_> = LINTS.iter().map(|lint| lint.code.to_owned()).collect();
    let folders: BTreeSet<_> = entries(&root()).iter().map(|path| name(path)).collect();
    assert_eq!(folders, codes);
    for code in codes {
        for fixture in ["bad.yaml", "good.yaml"] {
            assert!(root().join(&code).join(fixture).is_file(), "{code} has no {fixture}");
        }
    }
}

#[test]
fn bad_fixtures_have_their_finding_and_good_fixtures_have_none() {
    let mut number = 0;
    let mut mismatches = Vec::new();
    for folder in entries(&root()) {
        let is_fixture =
            |name: &str| ["bad", "good"].iter().any(|start| name.starts_with(start)) && !name.ends_with(".plan.yaml");
        for path in entries(&folder).into_iter().filter(|path| is_fixture(&name(path))) {
            let text = fs::read_to_string(&path).unwrap();
            let also = text.lines().next().and_then(|line| line.strip_prefix("# also: "));
            let own = name(&path).starts_with("bad").then(|| name(&folder));
            let expected: BTreeSet<String> = own.into_iter().chain(also.map(str::to_owned)).collect();
            let found: BTreeSet<String> = lint(&path).iter().map(|finding| finding.lint.code.to_owned()).collect();
            if found != expected {
                mismatches.push(format!("{}: {found:?} instead of {expected:?}", path.display()));
            }
            number += 1;
        }
    }
    assert!(mismatches.is_empty(), "{}", mismatches.join("\n"));
    assert!(number >= 2 * LINTS.len());
}

#[test]
fn codes_are_unique_and_documented() {
    let codes: BTreeSet<_> = LINTS.iter().map(|lint| lint.code).collect();
    assert_eq!(codes.len(), LINTS.len());
    let page = markdown();
    assert!(codes.iter().all(|code| page.contains(&format!("\n## {code}\n"))));
}

#[test]
fn findings_can_be_ignored() {
    let text = fs::read_to_string(root().join("token-not-forwarded/bad.yaml")).unwrap();
    let with = |codes: &str| text.replacen("metadata:", &format!("metadata:\n  annotations: {{{codes}}}"), 1);
    let found = |text: &str| run(None, read(text), None, now()).len();
    assert_eq!(found(&with("routing-claims.dev/ignore: 'fail-open, token-not-forwarded'")), 0);
    assert_eq!(found(&with("routing-claims.dev/ignore: fail-open")), 1);
}

/// The second location of an ignored finding was attached to the finding before it.
#[test]
fn an_ignored_finding_leaves_no_trace() {
    let virtual_service = |metadata: &str, hosts: &str| {
        format!(
            "kind: VirtualService\nmetadata: {{namespace: a, {metadata}}}\nspec: {{hosts: [{hosts}], http: [{{directResponse: {{status: 503}}}}]}}\n---\n"
        )
    };
    let text = virtual_service("name: one", "a, b")
        + &virtual_service("name: two", "a")
        + &virtual_service("name: three, annotations: {routing-claims.dev/ignore: duplicate-host}", "b");
    let found = run(None, read(&text), None, now());
    let related: Vec<_> = found.iter().map(|found| found.related.as_ref().unwrap().path.to_string()).collect();
    assert_eq!(related, ["spec.hosts[0]"]);
}

#[test]
fn a_wrong_type_is_found_where_it_is() {
    let found = lint(&root().join("wrong-type/bad.yaml"));
    let [Finding { message, location, .. }] = &found[..] else { panic!("{found:?}") };
    assert_eq!(location.path.to_string(), r#"spec.http[0].match[0].headers["x-canary"].exact"#);
    assert_eq!(*message, format!("expected a string, found the number `2` at `{}`", location.path));
}

/// A generated resource has one location for all of it, so two of its routes can give the same finding.
#[test]
fn a_finding_comes_once() {
    assert_eq!(lint(&root().join("missing-service/bad-woven.yaml")).len(), 1);
}

#[test]
fn an_expired_variant_is_found_in_the_plan() {
    let found = lint(&root().join("variant-expired/bad.yaml"));
    assert_eq!(found[0].location.path.to_string(), "spec.services[0].variants[0].name");
}

fn lint(manifests: &Path) -> Vec<Finding> {
    let file = |path: &Path| Arc::new(File { name: name(path), text: fs::read_to_string(path).unwrap() });
    let mut documents = Documents::default();
    let plan = Some(manifests.with_extension("plan.yaml")).filter(|plan| plan.is_file()).map(|plan| {
        let fetch = |path: &Path| fs::read(manifests.with_file_name(path));
        let input = documents.read_plan(&[file(&plan)], &fetch).unwrap();
        documents.resolve(&input, Expiry::Keep).unwrap()
    });
    let manifests = documents.read_manifests(&[file(manifests)]).unwrap();
    run(plan.as_ref(), manifests, None, now())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lints")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}
