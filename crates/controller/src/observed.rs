//! The objects of the cluster, reduced to what the controller decides by.

use std::{
    collections::{BTreeMap, btree_map},
    fmt,
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1 as core, discovery::v1 as discovery},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::api::DynamicObject;
use routing_plan::{
    manifests::remove_server_fields,
    plan::{PlanSpec, VariantSpec},
    resources::PLAN_LABEL,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    kinds::Kind,
    objects::{PlanStatus, VariantStatus},
};

/// All that the controller has read.
#[derive(Debug, Default)]
pub struct Observed {
    /// The plans.
    pub plans: Collection<Plan>,
    /// Variants that are objects.
    pub variants: Collection<Variant>,
    /// The Services.
    pub services: Collection<Service>,
    /// Their endpoints.
    pub slices: Collection<EndpointSlice>,
    /// Istio's workloads without pods.
    pub workloads: Collection<Workload>,
    /// The objects of the kinds that plans become, whoever wrote them, by kind.
    pub resources: BTreeMap<Kind, Collection<Resource>>,
}

/// Namespace and name of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectName {
    /// The object of that name.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The name of an object of the API.
    #[must_use]
    pub fn of(metadata: &ObjectMeta) -> Self {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Self::new(text(&metadata.namespace), text(&metadata.name))
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The objects of one kind.
#[derive(Debug)]
pub struct Collection<T> {
    items: BTreeMap<ObjectName, T>,
    /// Objects of a list that is being read. They replace the others at its end.
    listing: Option<BTreeMap<ObjectName, T>>,
    complete: bool,
}

impl<T> Default for Collection<T> {
    fn default() -> Self {
        Self { items: BTreeMap::new(), listing: None, complete: false }
    }
}

impl<T: PartialEq> Collection<T> {
    /// Adds or replaces an object. Returns whether that makes a difference.
    pub fn insert(&mut self, name: ObjectName, item: T) -> bool {
        if let Some(listing) = &mut self.listing {
            listing.insert(name, item);
            return false;
        }
        match self.items.entry(name) {
            btree_map::Entry::Vacant(entry) => {
                entry.insert(item);
                true
            }
            btree_map::Entry::Occupied(mut entry) => entry.insert(item) != *entry.get(),
        }
    }

    /// Removes an object. Returns whether it was there.
    pub fn remove(&mut self, name: &ObjectName) -> bool {
        self.items.remove(name).is_some()
    }

    /// A list of all objects begins.
    pub fn begin_list(&mut self) {
        self.listing = Some(BTreeMap::new());
    }

    /// The list ends: what was not in it is gone. Returns whether that makes a difference.
    pub fn end_list(&mut self) -> bool {
        let listed = self.listing.take().unwrap_or_default();
        let changed = !self.complete || listed != self.items;
        self.items = listed;
        self.complete = true;
        changed
    }
}

impl<T> Collection<T> {
    /// Whether all objects have been read once.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The objects in order of namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = (&ObjectName, &T)> {
        self.items.iter()
    }

    /// The object of that name.
    #[must_use]
    pub fn get(&self, name: &ObjectName) -> Option<&T> {
        self.items.get(name)
    }

    pub(crate) fn get_mut(&mut self, name: &ObjectName) -> Option<&mut T> {
        self.items.get_mut(name)
    }
}

impl<T> FromIterator<(ObjectName, T)> for Collection<T> {
    fn from_iter<I: IntoIterator<Item = (ObjectName, T)>>(objects: I) -> Self {
        Self { items: objects.into_iter().collect(), listing: None, complete: true }
    }
}

/// What tells an object from others, of its metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its UID.
    pub uid: String,
    /// When it was created.
    pub created: Timestamp,
    /// Whether it is being deleted.
    pub is_deleting: bool,
}

impl Identity {
    fn of(metadata: &ObjectMeta) -> Self {
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            created: metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            is_deleting: metadata.deletion_timestamp.is_some(),
        }
    }
}

/// A plan.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What tells it from others.
    pub identity: Identity,
    /// Its `metadata.generation`.
    pub generation: i64,
    /// Its `spec`, or why it can't be read.
    pub spec: Result<Arc<PlanSpec>, String>,
    /// Its status as it is in the cluster.
    pub status: PlanStatus,
}

/// A plan is another one if its `spec` is: the controller writes the status itself.
impl PartialEq for Plan {
    fn eq(&self, other: &Self) -> bool {
        (&self.identity, self.generation) == (&other.identity, other.generation)
    }
}

impl From<DynamicObject> for Plan {
    fn from(object: DynamicObject) -> Self {
        Self {
            identity: Identity::of(&object.metadata),
            generation: object.metadata.generation.unwrap_or_default(),
            spec: field(&object, "spec").map(Arc::new),
            status: field(&object, "status").unwrap_or_default(),
        }
    }
}

/// A `RoutingVariant`.
#[derive(Debug, Clone)]
pub struct Variant {
    /// What tells it from others.
    pub identity: Identity,
    /// Its `metadata.generation`.
    pub generation: i64,
    /// The only plan that it is for, if it says so.
    pub plan: Option<String>,
    /// Its `spec`, or why it can't be read.
    pub spec: Result<VariantSpec, String>,
    /// Its status as it is in the cluster.
    pub status: VariantStatus,
}

/// As with plans; labels do not count as a generation.
impl PartialEq for Variant {
    fn eq(&self, other: &Self) -> bool {
        (&self.identity, self.generation, &self.plan) == (&other.identity, other.generation, &other.plan)
    }
}

impl From<DynamicObject> for Variant {
    fn from(object: DynamicObject) -> Self {
        Self {
            identity: Identity::of(&object.metadata),
            generation: object.metadata.generation.unwrap_or_default(),
            plan: label(&object.metadata, PLAN_LABEL),
            spec: field(&object, "spec"),
            status: field(&object, "status").unwrap_or_default(),
        }
    }
}

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// What tells it from others.
    pub identity: Identity,
    /// Its ports.
    pub ports: Vec<u16>,
    /// The labels of its workloads; empty: none.
    pub selector: BTreeMap<String, String>,
    /// Whether it is only another name for a host elsewhere.
    pub is_external_name: bool,
    /// Whether the controller delays its deletion.
    pub has_finalizer: bool,
    /// The variant that it wants to be.
    pub claim: Option<Box<ServiceClaim>>,
}

/// The variant that a Service wants to be: its labels and annotations, unchecked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceClaim {
    /// Label with the service of the plan.
    pub service: String,
    /// Label with the version.
    pub variant: Option<String>,
    /// Label with the only plan that it is for.
    pub plan: Option<String>,
    /// Annotation with the time that it lives from its creation on.
    pub ttl: Option<String>,
    /// Annotation with the time of its end.
    pub expires_at: Option<String>,
}

impl From<core::Service> for Service {
    fn from(object: core::Service) -> Self {
        let metadata = &object.metadata;
        let annotation = |key: &str| metadata.annotations.as_ref()?.get(key).cloned();
        let claim = label(metadata, SERVICE_LABEL).map(|service| {
            Box::new(ServiceClaim {
                service,
                variant: label(metadata, VARIANT_LABEL),
                plan: label(metadata, PLAN_LABEL),
                ttl: annotation(TTL_ANNOTATION),
                expires_at: annotation(EXPIRES_AT_ANNOTATION),
            })
        });
        let has_finalizer = metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER);
        let identity = Identity::of(metadata);
        let spec = object.spec.unwrap_or_default();
        Self {
            identity,
            ports: spec.ports.iter().flatten().filter_map(|port| u16::try_from(port.port).ok()).collect(),
            selector: spec.selector.unwrap_or_default(),
            is_external_name: spec.type_.as_deref() == Some("ExternalName"),
            has_finalizer,
            claim,
        }
    }
}

/// A slice of the endpoints of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Name of the Service, in the same namespace.
    pub service: String,
    /// How many of its endpoints there are, and how many are ready.
    pub endpoints: u32,
    /// Those that are ready, or about which nothing is known.
    pub ready: u32,
}

impl From<discovery::EndpointSlice> for EndpointSlice {
    fn from(object: discovery::EndpointSlice) -> Self {
        // Istiod ignores slices of names (`addressType: FQDN`; read, endpointslice.go), so nothing routes to them.
        let endpoints = if object.address_type == "FQDN" { Vec::new() } else { object.endpoints.unwrap_or_default() };
        let is_ready = |one: &&discovery::Endpoint| {
            one.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
        };
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            service: label(&object.metadata, "kubernetes.io/service-name").unwrap_or_default(),
            endpoints: count(endpoints.len()),
            ready: count(endpoints.iter().filter(is_ready).count()),
        }
    }
}

/// A `WorkloadEntry` of Istio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// The labels that Services select it by.
    pub labels: BTreeMap<String, String>,
    /// Whether its health check, if it has one, has not failed.
    pub is_healthy: bool,
}

impl From<DynamicObject> for Workload {
    fn from(object: DynamicObject) -> Self {
        let labels = object.data["spec"]["labels"].as_object().into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let conditions = object.data["status"]["conditions"].as_array().into_iter().flatten();
        Self {
            labels: labels.map(|(key, value)| (key.clone(), text(value))).collect(),
            is_healthy: !conditions.into_iter().any(|one| one["type"] == "Healthy" && one["status"] == "False"),
        }
    }
}

/// An object of a kind that plans become.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// The plan that it belongs to, if the controller owns it.
    pub plan: Option<ObjectName>,
    /// The whole object, without what the server sets.
    pub value: Value,
}

impl From<DynamicObject> for Resource {
    fn from(object: DynamicObject) -> Self {
        let plan_namespace = label(&object.metadata, OWNER_LABEL);
        let plan = plan_namespace.zip(label(&object.metadata, PLAN_LABEL));
        let mut value = json!(object);
        remove_server_fields(&mut value);
        Self { plan: plan.map(|(namespace, name)| ObjectName::new(namespace, name)), value }
    }
}

fn label(metadata: &ObjectMeta, key: &str) -> Option<String> {
    metadata.labels.as_ref()?.get(key).cloned()
}

fn field<T: DeserializeOwned>(object: &DynamicObject, name: &str) -> Result<T, String> {
    serde_path_to_error::deserialize(&object.data[name]).map_err(|error| {
        let path = error.path().to_string();
        format!("{name}{}{path}: {}", if path.starts_with('[') { "" } else { "." }, error.inner())
    })
}

/// Label of a Service with the service of the plan whose variant it is.
pub const SERVICE_LABEL: &str = "routing-claims.dev/service";
/// Label of a Service with the version that it is.
pub const VARIANT_LABEL: &str = "routing-claims.dev/variant";
/// Label of what the controller writes, with the namespace of the plan: only objects with it are changed or deleted.
pub const OWNER_LABEL: &str = "routing-claims.dev/plan-namespace";
/// Annotation of a Service with the time that its variant lives, from the Service's creation on.
pub const TTL_ANNOTATION: &str = "routing-claims.dev/ttl";
/// Annotation of a Service with the time at which its variant ends.
pub const EXPIRES_AT_ANNOTATION: &str = "routing-claims.dev/expires-at";
/// Finalizer of a Service that exists until no proxy routes to it.
pub const FINALIZER: &str = "routing-claims.dev/drain";
