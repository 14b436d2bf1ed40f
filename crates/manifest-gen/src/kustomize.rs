//! What belongs to kustomize in a folder of manifests: its patches look like resources, but are only parts of them.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
};

use crate::yaml::Node;

/// The files that kustomizations name as patches.
#[must_use]
pub fn patch_files(documents: &[Node]) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    for document in documents.iter().filter(|document| is_kustomization(document)) {
        let items = |field| document.get(field).map(Node::items).unwrap_or_default();
        let by_path = items("patches").iter().chain(items("patchesJson6902")).filter_map(|patch| patch.get("path"));
        // An item of `patchesStrategicMerge` may be the patch itself, which is not the name of any file.
        let named = by_path.chain(items("patchesStrategicMerge")).filter_map(Node::text);
        let folder = Path::new(&document.span.file.name).parent().unwrap_or(Path::new(""));
        files.extend(named.map(|path| normal(&folder.join(path))));
    }
    files
}

/// Whether a document is part of a patch: its file is one, or it has a directive of strategic merge.
#[must_use]
pub fn is_patch(document: &Node, patch_files: &BTreeSet<PathBuf>) -> bool {
    patch_files.contains(&normal(Path::new(&document.span.file.name))) || document.get("$patch").is_some()
}

/// By its kind, or by the name of its file: the kind may be left out.
fn is_kustomization(document: &Node) -> bool {
    let version = document.get("apiVersion").and_then(Node::text);
    let name = Path::new(&document.span.file.name).file_name().unwrap_or_default();
    version.is_some_and(|version| version.starts_with("kustomize.config.k8s.io/"))
        || FILE_NAMES.iter().any(|one| name == *one)
}

/// The path without `.` and `..`, as far as the text tells.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(normal.components().next_back(), Some(Component::Normal(_))) => {
                normal.pop();
            }
            component => normal.push(component),
        }
    }
    normal
}

/// The names under which kustomize looks for a kustomization.
pub const FILE_NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
