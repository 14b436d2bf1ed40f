//! Manifests as people have them, in `tests/documents`: the output of Helm, of kustomize and of kubectl, every kind of Istio,
//! and YAML that is odd but allowed. The commands read all of it, and find nothing wrong with what is right.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc};

use jiff::Timestamp;
use manifest_gen::{
    documents::{Documents, ManifestInput},
    migrate::migrate,
    yaml::{self, File},
};
use routing_plan::{
    explain::{ExplainRequest, MeshFacts, explain},
    lint::{self, Finding},
    manifests::Manifest,
};

#[test]
fn every_document_is_read() {
    let (_, input) = read_all();
    assert!(input.diagnostics.is_empty(), "{:#?}", input.diagnostics);
    assert!(input.manifests.len() >= 300, "{}", input.manifests.len());
    let kinds: BTreeMap<&str, usize> = input.manifests.iter().fold(BTreeMap::new(), |mut kinds, manifest| {
        *kinds.entry(&*manifest.kind).or_default() += 1;
        kinds
    });
    assert!(kinds.len() >= 45, "{kinds:?}");
    // The two patches in one file; the third is a list of operations, which is in a file that the kustomization names.
    assert_eq!(input.notes.iter().filter(|note| note.contains("left out a patch")).count(), 3, "{:#?}", input.notes);
}

/// Each file alone: what one file shows may lack what is in another cluster.
#[test]
fn lint_finds_nothing_in_what_is_right() {
    for file in files() {
        let mut documents = Documents::default();
        let input = documents.read_valid_manifests(&[Arc::clone(&file)], None);
        let mut found = lint::run(None, input.manifests, None, Timestamp::UNIX_EPOCH);
        if file.name.ends_with("old-envoy-filters.yaml") {
            // Old fields are unknown, and these filters have no selector that tells them apart.
            let all = found.len();
            found.retain(|finding| !["unknown-field", "filter-priority"].contains(&finding.lint.code));
            assert_eq!(all - found.len(), 14);
        }
        let place = |finding: &Finding| format!("{}: {}", documents.span(&finding.location), finding.lint.code);
        assert!(found.is_empty(), "{:#?}", found.iter().map(place).collect::<Vec<_>>());
    }
}

#[test]
fn explain_answers_for_every_host() {
    let (documents, input) = read_all();
    let hosts = |manifest: &Manifest| -> Vec<String> {
        let hosts = manifest.value["spec"]["hosts"].as_array().cloned().unwrap_or_default();
        hosts.iter().filter_map(|host| host.as_str().map(str::to_owned)).collect()
    };
    let mut asked = 0;
    for manifest in input.manifests.iter().filter(|manifest| manifest.kind == "VirtualService") {
        for host in hosts(manifest) {
            for gateway in [None, Some("ingress/public-v1".to_owned())] {
                let request = ExplainRequest {
                    host: host.clone(),
                    path: "/api?x=1".into(),
                    method: "GET".into(),
                    headers: vec![("end-user".into(), "tester".into())],
                    port: None,
                    scheme: None,
                    namespace: gateway.is_none().then(|| manifest.namespace.clone()),
                    gateway,
                    labels: None,
                    mesh: MeshFacts::default(),
                };
                let text = explain(&input.manifests, &request, 0).to_text(&|place| documents.span(place).to_string());
                assert!(text.contains("routed by"), "{text}");
                asked += 1;
            }
        }
    }
    assert!(asked > 80, "{asked}");
}

/// What is written is read as the same, and is left alone the second time.
#[test]
fn migrate_converts_or_keeps_every_document() {
    for file in files() {
        for document in yaml::read(&file).unwrap() {
            let once = migrate(&document).unwrap_or_else(|diagnostics| panic!("{}: {diagnostics:?}", file.name));
            let text = once.to_yaml();
            let [again] = &yaml::read(&Arc::new(File { name: file.name.clone(), text: text.clone() })).unwrap()[..]
            else {
                panic!("{text}")
            };
            assert_eq!(again.to_json(), once.value, "{text}");
            assert_eq!(migrate(again).unwrap().to_yaml(), text);
        }
    }
}

fn read_all() -> (Documents, ManifestInput) {
    let mut documents = Documents::default();
    let input = documents.read_valid_manifests(&files(), None);
    (documents, input)
}

fn files() -> Vec<Arc<File>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/documents");
    let mut paths: Vec<_> = [root.clone(), root.join("kustomize")]
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()))
        .filter(|path| path.is_file())
        .collect();
    paths.sort();
    let file =
        |path: &PathBuf| Arc::new(File { name: path.display().to_string(), text: fs::read_to_string(path).unwrap() });
    paths.iter().map(file).collect()
}
