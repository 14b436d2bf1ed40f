//! Files to plans, variant files and manifests, and locations in them back to spans of the files.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::Path,
    sync::Arc,
};

use routing_plan::{
    diagnostic::{Diagnostic, Document, FieldPath, Location, nearest},
    manifests::Manifest,
    plan::{self, RoutingPlan, RoutingVariant},
    resolve::{Expiry, PlanFiles, ResolvedPlan, UnreadableFile, resolve},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    diagnostic::FileDiagnostic,
    kustomize, schema,
    yaml::{self, File, Kind, Node, Span},
};

/// The documents that were read: locations of plans, variants and manifests that came from here are spans in them.
#[derive(Debug, Default)]
pub struct Documents {
    plan: Option<Node>,
    variants: Vec<Node>,
    bases: BTreeMap<usize, Node>,
    manifests: Vec<Node>,
}

/// A plan with everything that belongs to it.
#[derive(Debug)]
pub struct PlanInput {
    /// The plan.
    pub plan: RoutingPlan,
    /// Its variant files, in the order of the files.
    pub variants: Vec<RoutingVariant>,
    /// The files that it names.
    pub files: PlanFiles,
}

/// Manifests, and notes about the files that they come from.
#[derive(Debug, Default)]
pub struct ManifestInput {
    /// The manifests.
    pub manifests: Vec<Manifest>,
    /// What is not valid, and therefore missing.
    pub diagnostics: Vec<FileDiagnostic>,
    /// What was left out or may be a mistake.
    pub notes: Vec<String>,
}

/// Reads a file that a plan names.
pub type Fetch<'f> = &'f dyn Fn(&Path) -> io::Result<Vec<u8>>;

impl Documents {
    /// Reads files that together contain one plan and any number of variants, and the files that the plan names.
    ///
    /// # Errors
    ///
    /// Everything in all files that is not valid YAML or does not fit the schemas.
    pub fn read_plan(&mut self, files: &[Arc<File>], fetch: Fetch<'_>) -> Result<PlanInput, Vec<FileDiagnostic>> {
        let Found { mut plans, variants, mut diagnostics } = find(files);
        if let [(first, _), others @ ..] = &plans[..] {
            let second = |other: &Node| FileDiagnostic::at(&other.span, "expected one plan, found a second one");
            diagnostics
                .extend(others.iter().map(|(other, _)| second(other).with_related(&first.span, "the first plan")));
        } else if diagnostics.is_empty() {
            let names = files.iter().map(|file| &*file.name).collect::<Vec<_>>().join(", ");
            let message = format!("no plan in {}", if names.is_empty() { "no files" } else { &names });
            diagnostics
                .push(FileDiagnostic::new(message).with_help("give the file with `kind: RoutingPlan` with `-f`"));
        }
        let plan = plans.pop().and_then(|(node, plan)| Some((node, plan?)));
        let Some((node, plan)) = plan.filter(|_| diagnostics.is_empty()) else { return Err(diagnostics) };
        let folder = Path::new(&node.span.file.name).parent().unwrap_or(Path::new(""));
        let files = self.read_named(&plan, folder, fetch)?;
        self.plan = Some(node);
        let (nodes, variants) = variants.into_iter().unzip();
        self.variants = nodes;
        Ok(PlanInput { plan, variants, files })
    }

    /// Resolves a plan that was read from here.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, in the order of files and lines.
    pub fn resolve(&self, input: &PlanInput, expiry: Expiry) -> Result<ResolvedPlan, Vec<FileDiagnostic>> {
        resolve(&input.plan, &input.variants, &input.files, expiry).map_err(|diagnostics| {
            let mut diagnostics: Vec<_> = diagnostics.into_iter().map(|diagnostic| self.at_span(diagnostic)).collect();
            diagnostics.sort_by(|a, b| order(a).cmp(&order(b)));
            diagnostics
        })
    }

    /// Reads every manifest of files. Other documents, such as a Helm chart's values, are skipped.
    ///
    /// # Errors
    ///
    /// Everything that is not valid YAML.
    pub fn read_manifests(&mut self, files: &[Arc<File>]) -> Result<Vec<Manifest>, Vec<FileDiagnostic>> {
        let ManifestInput { manifests, diagnostics, .. } = self.read_valid_manifests(files, None);
        if diagnostics.is_empty() { Ok(manifests) } else { Err(diagnostics) }
    }

    /// Reads every manifest of the documents that are valid. One that names no namespace is in the one given here.
    pub fn read_valid_manifests(&mut self, files: &[Arc<File>], namespace: Option<&str>) -> ManifestInput {
        let mut input = ManifestInput::default();
        let mut documents = Vec::new();
        for file in files {
            let (valid, diagnostics) = yaml::read_valid(file);
            documents.extend(valid);
            input.diagnostics.extend(diagnostics);
        }
        let patch_files = kustomize::patch_files(&documents);
        for node in documents {
            if kustomize::is_patch(&node, &patch_files) {
                input.notes.push(format!("{}: left out a patch of kustomize (render with kustomize first)", node.span));
                continue;
            }
            let location = Location::root(Document::Manifest(self.manifests.len()));
            push_manifests(node.to_json(), location, namespace, &mut input.manifests);
            self.manifests.push(node);
        }
        let mut first: HashMap<String, &Manifest> = HashMap::new();
        for manifest in &input.manifests {
            if let Some(first) = first.insert(manifest.id(), manifest) {
                let [first, again] = [first, manifest].map(|one| self.span(&one.location(&FieldPath::default())));
                input.notes.push(format!("{again}: {} comes a second time, first at {first}", manifest.id()));
            }
        }
        input
    }

    /// The span of a location in a document that was read from here.
    ///
    /// # Panics
    ///
    /// The document was not read from here.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a location of another set of documents is a fault of this program")]
    pub fn span(&self, location: &Location) -> &Span {
        let node = match location.document {
            Document::Plan => self.plan.as_ref(),
            Document::Variant(index) => self.variants.get(index),
            Document::Base(service) => self.bases.get(&service),
            Document::Manifest(index) => self.manifests.get(index),
        };
        node.expect("the document was read from here").span_at(&location.path)
    }

    fn at_span(&self, diagnostic: Diagnostic) -> FileDiagnostic {
        let Diagnostic { message, location, related, help } = diagnostic;
        let related = related.into_iter().map(|(location, what)| (self.span(&location).clone(), what));
        FileDiagnostic { message, span: Some(self.span(&location).clone()), related: related.collect(), help }
    }

    /// Reads the files that a plan names. One that can't be read is a matter of resolving, which knows if it is needed.
    fn read_named(
        &mut self,
        plan: &RoutingPlan,
        folder: &Path,
        fetch: Fetch<'_>,
    ) -> Result<PlanFiles, Vec<FileDiagnostic>> {
        let fetch = |path: &str| fetch(&folder.join(path)).map_err(|error| UnreadableFile(error.to_string()));
        let mut files = PlanFiles::default();
        let mut diagnostics = Vec::new();
        if let Some(path) = plan.spec.filter.wasm.as_ref().and_then(|wasm| wasm.inline.as_ref()) {
            files.modules.insert(path.clone(), fetch(path).map(Arc::from));
        }
        for (index, service) in plan.spec.services.iter().enumerate() {
            let Some(path) = &service.base else { continue };
            let text = fetch(path).and_then(|bytes| {
                String::from_utf8(bytes).map_err(|_| UnreadableFile("the file is not valid UTF-8".into()))
            });
            let base = text.map(|text| Arc::new(File { name: folder.join(path).display().to_string(), text }));
            let base = match base.map(|file| yaml::read(&file)) {
                Ok(Ok(documents)) => <[Node; 1]>::try_from(documents)
                    .map_err(|documents| UnreadableFile(format!("expected one document, found {}", documents.len()))),
                Ok(Err(invalid)) => {
                    diagnostics.extend(invalid);
                    continue;
                }
                Err(error) => Err(error),
            };
            files.bases.insert(
                path.clone(),
                base.map(|[node]| {
                    let value = node.to_json();
                    self.bases.insert(index, node);
                    value
                }),
            );
        }
        if diagnostics.is_empty() { Ok(files) } else { Err(diagnostics) }
    }
}

/// Reads the variants of files, each with its document, and skips plans.
///
/// # Errors
///
/// Everything in all files that is not valid YAML or does not fit the schemas.
pub fn read_variants(files: &[Arc<File>]) -> Result<Vec<(Node, RoutingVariant)>, Vec<FileDiagnostic>> {
    let Found { variants, diagnostics, .. } = find(files);
    if diagnostics.is_empty() { Ok(variants) } else { Err(diagnostics) }
}

/// What files contain. A plan that does not fit its schema is `None`.
struct Found {
    plans: Vec<(Node, Option<RoutingPlan>)>,
    variants: Vec<(Node, RoutingVariant)>,
    diagnostics: Vec<FileDiagnostic>,
}

fn find(files: &[Arc<File>]) -> Found {
    let (plan_schema, variant_schema) = (plan::schema::<RoutingPlan>(), plan::schema::<RoutingVariant>());
    let mut found = Found { plans: Vec::new(), variants: Vec::new(), diagnostics: Vec::new() };
    let diagnostics = &mut found.diagnostics;
    for file in files {
        let nodes = yaml::read(file).unwrap_or_else(|invalid| {
            diagnostics.extend(invalid);
            Vec::new()
        });
        for node in nodes {
            match node.get("kind").and_then(Node::text) {
                Some(PLAN_KIND) => {
                    let plan = fit(&node, &plan_schema, diagnostics);
                    found.plans.push((node, plan));
                }
                Some(VARIANT_KIND) => {
                    found.variants.extend(fit(&node, &variant_schema, diagnostics).map(|variant| (node, variant)));
                }
                kind => diagnostics.push(unknown_kind(&node, kind)),
            }
        }
    }
    found
}

fn fit<T: DeserializeOwned>(node: &Node, schema: &Value, diagnostics: &mut Vec<FileDiagnostic>) -> Option<T> {
    let before = diagnostics.len();
    let value = schema::read(node, schema, diagnostics);
    if diagnostics.len() > before {
        return None;
    }
    let read = serde_json::from_value(value);
    read.map_err(|error| diagnostics.push(FileDiagnostic::at(&node.span, error.to_string()))).ok()
}

fn unknown_kind(node: &Node, kind: Option<&str>) -> FileDiagnostic {
    if !matches!(node.kind, Kind::Mapping(_)) {
        return FileDiagnostic::at(&node.span, "expected a plan or a variant file, found no mapping");
    }
    let Some(kind) = kind else {
        let help = format!("give `kind: {PLAN_KIND}` or `kind: {VARIANT_KIND}`");
        return FileDiagnostic::at(&node.span, "missing field `kind`").with_help(help);
    };
    let span = node.span_at(&FieldPath::default().field("kind"));
    let diagnostic =
        FileDiagnostic::at(span, format!("expected the kind `{PLAN_KIND}` or `{VARIANT_KIND}`, found `{kind}`"));
    match nearest(kind, [PLAN_KIND, VARIANT_KIND]) {
        Some(near) => diagnostic.with_help(format!("did you mean `{near}`?")),
        None if kind == "VirtualService" => {
            diagnostic.with_help("name the file of your own VirtualService in a service's `base`")
        }
        None => diagnostic,
    }
}

/// The manifest of a document, or those of a list, such as a `List` or a `VirtualServiceList`.
fn push_manifests(mut value: Value, location: Location, namespace: Option<&str>, manifests: &mut Vec<Manifest>) {
    let Some((kind, mut items)) = take_items(&mut value) else {
        manifests.extend(Manifest::in_namespace(value, location, namespace));
        return;
    };
    for (index, item) in items.iter_mut().enumerate() {
        // The API server leaves out the kind of the items of a typed list.
        if let Some(fields) = item.as_object_mut().filter(|fields| !kind.is_empty() && !fields.contains_key("kind")) {
            fields.insert("kind".into(), kind.clone().into());
            fields.insert("apiVersion".into(), value["apiVersion"].clone());
        }
        push_manifests(item.take(), location.clone().field("items").index(index), namespace, manifests);
    }
}

/// The kind of a list's items, empty if they can be of any kind, and the items.
fn take_items(value: &mut Value) -> Option<(String, Vec<Value>)> {
    let kind = value["kind"].as_str()?.strip_suffix("List")?.to_owned();
    let items = value.get_mut("items")?.as_array_mut()?;
    Some((kind, std::mem::take(items)))
}

fn order(diagnostic: &FileDiagnostic) -> Option<(&str, usize, usize)> {
    diagnostic.span.as_ref().map(|span| (&*span.file.name, span.line, span.column))
}

const PLAN_KIND: &str = "RoutingPlan";
const VARIANT_KIND: &str = "RoutingVariant";
