//! Resources read back, generated or hand-written: what lint, explain and diff look at.

use serde_json::Value;

use crate::{
    diagnostic::{FieldPath, Location, Segment},
    filter::{Annotation, RoutingFilter},
    resources::{POLICY_ANNOTATION, Resource},
    views::{
        Labels, View, Viewed,
        reader::{Field, Fields, ReadFields, Reading, WrongType, read_at},
    },
};

/// A Kubernetes resource, whoever wrote it.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Such as `VirtualService`.
    pub kind: String,
    /// Its namespace, `default` if it names none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The whole resource.
    pub value: Value,
    location: Location,
    generated: bool,
    assumed_namespace: bool,
    annotations: Labels,
    created: Option<String>,
    view: View,
    reading: Reading,
    filter: Option<RoutingFilter>,
}

/// The manifest of a generated resource.
impl From<Resource> for Manifest {
    fn from(resource: Resource) -> Self {
        let Resource { kind, namespace, name, value, origin } = resource;
        Self { generated: true, ..Self::read(kind, namespace, name, value, origin) }
    }
}

impl Manifest {
    /// The manifest at a location, if the value is one: a document without kind or name, such as a Helm chart's values,
    /// is not. Kubernetes makes a name of `generateName`, whose random end is left out here.
    #[must_use]
    pub fn new(value: Value, location: Location) -> Option<Self> {
        Self::in_namespace(value, location, None)
    }

    /// As [`Manifest::new`], with the namespace of a resource that names none.
    #[must_use]
    pub fn in_namespace(value: Value, location: Location, namespace: Option<&str>) -> Option<Self> {
        let kind = value["kind"].as_str()?.to_owned();
        let metadata = &value["metadata"];
        let name = metadata["name"].as_str().or(metadata["generateName"].as_str())?.to_owned();
        let given = metadata["namespace"].as_str().or(namespace);
        let assumed_namespace = given.is_none();
        let namespace = given.unwrap_or("default").to_owned();
        Some(Self { assumed_namespace, ..Self::read(kind, namespace, name, value, location) })
    }

    /// Whether nobody has told its namespace, though the answers of this crate depend on it.
    #[must_use]
    pub fn has_assumed_namespace(&self) -> bool {
        self.assumed_namespace && !matches!(self.view, View::Other)
    }

    /// Location of a path in the resource; of a generated resource, of what it was generated from.
    #[must_use]
    pub fn location(&self, path: &FieldPath) -> Location {
        let location = self.location.clone();
        if self.generated { location } else { location.join(path) }
    }

    /// Whether it was generated from the plan just now.
    #[must_use]
    pub fn is_generated(&self) -> bool {
        self.generated
    }

    /// Kind, namespace and name.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{} {}/{}", self.kind, self.namespace, self.name)
    }

    /// Its view, if it is of this kind.
    pub(crate) fn view<V: Viewed>(&self) -> Option<&V> {
        V::of(&self.view)
    }

    /// Its view, whatever the kind.
    pub(crate) fn any_view(&self) -> &View {
        &self.view
    }

    /// The filter that it inserts, if it is one of this project.
    pub(crate) fn filter(&self) -> Option<&RoutingFilter> {
        self.filter.as_ref()
    }

    /// The value of an annotation.
    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }

    /// When it was created (`metadata.creationTimestamp`, in whole seconds), if it comes from a cluster.
    pub(crate) fn created(&self) -> Option<&str> {
        self.created.as_deref()
    }

    /// Values whose type is not the one of their field.
    pub(crate) fn wrong_types(&self) -> &[WrongType] {
        &self.reading.wrong
    }

    /// Fields that its view does not know, anywhere under a path.
    pub(crate) fn unknown_under(&self, path: &FieldPath) -> impl Iterator<Item = &FieldPath> {
        self.reading.unknown.iter().filter(|unknown| unknown.segments().starts_with(path.segments()))
    }

    /// Fields that its view reads, or reads beside, and that are null.
    pub(crate) fn null_fields(&self) -> &[FieldPath] {
        &self.reading.null
    }

    /// The value at a path.
    pub(crate) fn value_at(&self, path: &FieldPath) -> Option<&Value> {
        path.segments().iter().try_fold(&self.value, |value, segment| match segment {
            Segment::Field(name) => value.get(&**name),
            Segment::Index(index) => value.get(index),
        })
    }

    fn read(kind: String, namespace: String, name: String, value: Value, location: Location) -> Self {
        let mut reading = Reading::default();
        let metadata = read_at::<Metadata>(&value, &["metadata"], &mut reading);
        let annotations =
            metadata.as_ref().and_then(|metadata| metadata.annotations.known().cloned()).unwrap_or_default();
        let created = metadata.and_then(|metadata| metadata.created.text().map(str::to_owned));
        let view = View::read(&value, &mut reading);
        let policy = annotations.get(POLICY_ANNOTATION).map(|text| Annotation { text, key: POLICY_ANNOTATION });
        let filter = RoutingFilter::of(&view, &namespace, policy);
        Self {
            kind,
            namespace,
            name,
            value,
            location,
            generated: false,
            assumed_namespace: false,
            annotations,
            created,
            view,
            reading,
            filter,
        }
    }
}

/// Removes from a resource what the API server and kubectl add to it, and says whether there was anything.
pub fn remove_server_fields(value: &mut Value) -> bool {
    let Some(fields) = value.as_object_mut() else { return false };
    let mut removed = fields.remove("status").is_some();
    let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) else { return removed };
    let before = metadata.len();
    metadata.retain(|name, _| !SET_BY_SERVER.contains(&&**name));
    removed |= metadata.len() < before;
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        removed |= annotations.remove(LAST_APPLIED).is_some();
    }
    metadata.retain(|_, value| !value.is_null() && value.as_object().is_none_or(|fields| !fields.is_empty()));
    removed
}

/// What every resource has, the part that is read.
struct Metadata {
    annotations: Field<Labels>,
    created: Field<String>,
}

impl ReadFields for Metadata {
    fn read_fields(fields: &mut Fields<'_>) -> Self {
        fields.in_part();
        Self { annotations: fields.field("annotations"), created: fields.field("creationTimestamp") }
    }
}

/// Fields of `metadata` that the API server sets.
const SET_BY_SERVER: [&str; 6] =
    ["creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid"];
/// The annotation of `kubectl apply`.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
