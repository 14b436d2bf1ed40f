//! The Kubernetes API. It remembers what is applied and deleted, so that `explain` can read it.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use hyper::Request;
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{ConfigMap, ServiceAccount},
};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
    config::AuthInfo,
    core::{ApiResource, GroupVersionKind, TypeMeta},
};
use manifest_gen::yaml::{self, File};
use routing_plan::{
    diagnostic::{Document, Location},
    manifests::Manifest,
};
use serde_json::{Value, json};

use crate::{Readiness, until};

/// Whether something changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Apply {
    /// It does.
    ForReal,
    /// The API server only says what would be.
    DryRun,
}

/// A connection to the API.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    applied: Arc<Mutex<BTreeMap<String, Value>>>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

impl Cluster {
    pub(crate) fn connect(url: &str, token: &str) -> Result<Self> {
        let mut config = Config::new(url.parse()?);
        // The server signs its own certificate.
        config.accept_invalid_certs = true;
        config.auth_info = AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() };
        Ok(Self { client: Client::try_from(config)?, applied: Arc::default() })
    }

    /// The connection itself, for what this type does not do.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Whether it serves, and knows all roles.
    pub(crate) async fn is_ready(&self) -> bool {
        match Request::get("/readyz").body(Vec::new()) {
            Ok(request) => self.client.request_text(request).await.is_ok(),
            Err(_) => false,
        }
    }

    /// Applies the resource definitions of a file or a folder, and waits until the API serves them.
    ///
    /// # Errors
    ///
    /// If a file can't be read, or the API server refuses a definition or does not serve it in time.
    pub async fn define(&self, path: &Path) -> Result<()> {
        let files: Vec<_> = if path.is_dir() {
            fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<_>>()?
        } else {
            vec![path.to_owned()]
        };
        for file in files {
            let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let definitions = Self::documents(&text)?;
            for definition in definitions.iter().filter(|one| one["kind"] == "CustomResourceDefinition") {
                self.define_one(definition).await?;
            }
        }
        Ok(())
    }

    /// Applies a resource definition, and waits until the API serves it.
    ///
    /// # Errors
    ///
    /// If the API refuses it, or does not serve it in time.
    pub async fn define_one(&self, definition: &Value) -> Result<()> {
        let (api, name) = self.api(definition)?;
        api.patch(&name, &by_us(), &Patch::Apply(definition)).await?;
        until(&format!("serving of {name}"), PATIENCE, async || {
            let status = api.get(&name).await?.data["status"]["conditions"].clone();
            let established = |one: &Value| one["type"] == "Established" && one["status"] == "True";
            let is = status.as_array().is_some_and(|conditions| conditions.iter().any(established));
            Ok(Readiness::of(is, || status.to_string()))
        })
        .await
    }

    /// Creates or updates a resource.
    ///
    /// # Errors
    ///
    /// If the API rejects it.
    pub async fn apply(&self, resource: &Value) -> Result<()> {
        let (api, name) = self.api(resource)?;
        api.patch(&name, &by_us(), &Patch::Apply(resource))
            .await
            .with_context(|| format!("cannot apply {}", Self::id(resource)))?;
        self.all().insert(Self::id(resource), resource.clone());
        Ok(())
    }

    /// Creates or updates a resource without remembering it. The inner result is the API server's answer: the time at which
    /// the resource was created, or why it is refused.
    ///
    /// # Errors
    ///
    /// If the API server does not answer.
    pub async fn apply_unrecorded(&self, resource: &Value) -> Result<Result<String, String>> {
        let (api, name) = self.api(resource)?;
        match api.patch(&name, &by_us(), &Patch::Apply(resource)).await {
            Ok(applied) => {
                let created = applied.metadata.creation_timestamp.context("a resource without a creation time")?;
                Ok(Ok(created.0.to_string()))
            }
            Err(kube::Error::Api(status)) => Ok(Err(status.message)),
            Err(error) => Err(error).with_context(|| format!("cannot apply {}", Self::id(resource))),
        }
    }

    /// What the API makes of a resource: with its defaults. Nothing changes.
    ///
    /// # Errors
    ///
    /// If the API server refuses it, or does not answer.
    pub async fn with_defaults(&self, resource: &Value) -> Result<Value> {
        let name = &resource["metadata"]["name"];
        let mut other = resource.clone();
        // Not merged with what has its name.
        other["metadata"]["name"] = json!("with-defaults");
        let (api, _) = self.api(&other)?;
        let applied = api.patch("with-defaults", &by_us().dry_run(), &Patch::Apply(&other)).await;
        let applied = applied.with_context(|| format!("cannot apply {}", Self::id(resource)))?;
        let mut applied = serde_json::to_value(applied)?;
        applied["metadata"]["name"] = name.clone();
        Ok(applied)
    }

    /// Creates or updates a resource as somebody who takes no field from others, without remembering it. The inner result is
    /// what the API server has then, or each reason why it refuses, with the field.
    ///
    /// # Errors
    ///
    /// If the API server does not answer.
    pub async fn apply_as(&self, manager: &str, resource: &Value, how: Apply) -> Result<Result<Value, Vec<String>>> {
        let (api, name) = self.api(resource)?;
        let params = PatchParams { dry_run: how == Apply::DryRun, ..PatchParams::apply(manager) };
        match api.patch(&name, &params, &Patch::Apply(resource)).await {
            Ok(applied) => Ok(Ok(serde_json::to_value(applied)?)),
            Err(kube::Error::Api(status)) => {
                let causes = status.details.iter().flat_map(|details| &details.causes);
                let causes: Vec<_> = causes.map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
                Ok(Err(if causes.is_empty() { vec![status.message] } else { causes }))
            }
            Err(error) => Err(error).with_context(|| format!("cannot apply {}", Self::id(resource))),
        }
    }

    /// Why the API server refuses a resource of a `kubectl create`, which asks for unknown fields as errors. Nothing changes.
    ///
    /// # Errors
    ///
    /// If the API server does not answer.
    pub async fn refusal(&self, resource: &Value) -> Result<Option<String>> {
        Ok(self.post(resource, "dryRun=All&fieldValidation=Strict").await?.err())
    }

    /// Creates a resource without remembering it, as a client does that does not ask for unknown fields as errors. The inner
    /// result says why it is refused.
    ///
    /// # Errors
    ///
    /// If the API server does not answer.
    pub async fn create_unrecorded(&self, resource: &Value) -> Result<Result<(), String>> {
        self.post(resource, "fieldValidation=Ignore").await
    }

    async fn post(&self, resource: &Value, options: &str) -> Result<Result<(), String>> {
        let (api, _) = self.api(resource)?;
        let request = Request::post(format!("{}?{options}", api.resource_url()))
            .header("content-type", "application/json")
            .body(serde_json::to_vec(resource)?)?;
        match self.client.request::<Value>(request).await {
            Ok(_) => Ok(Ok(())),
            // A missing namespace and an existing resource are not faults of the resource.
            Err(kube::Error::Api(status)) if !matches!(status.code, 404 | 409) => Ok(Err(status.message)),
            Err(error) => Err(error).with_context(|| format!("cannot create {}", Self::id(resource))),
        }
    }

    /// Deletes a resource if it exists, without waiting until it is gone.
    ///
    /// # Errors
    ///
    /// If the API server does not answer, or refuses.
    pub async fn delete_unrecorded(&self, resource: &Value) -> Result<()> {
        let (api, name) = self.api(resource)?;
        match api.delete(&name, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot delete {}", Self::id(resource))),
        }
    }

    /// Deletes all resources of a kind in a namespace, without waiting until they are gone.
    ///
    /// # Errors
    ///
    /// If the API server does not answer, or refuses.
    pub async fn delete_all(&self, api_version: &str, kind: &str, namespace: &str) -> Result<()> {
        let any = json!({"apiVersion": api_version, "kind": kind, "metadata": {"namespace": namespace, "name": "any"}});
        let (api, _) = self.api(&any)?;
        let deleted = api.delete_collection(&DeleteParams::default(), &ListParams::default()).await;
        deleted.map(drop).with_context(|| format!("cannot delete each {kind} of {namespace}"))
    }

    /// Deletes the resource that was applied under that name (`Kind namespace/name`), and waits until it is gone.
    ///
    /// # Errors
    ///
    /// If it was not applied here, or the API rejects the request.
    pub async fn delete(&self, id: &str) -> Result<()> {
        let resource = self.all().remove(id).with_context(|| format!("{id} was not applied"))?;
        let (api, name) = self.api(&resource)?;
        api.delete(&name, &DeleteParams::default()).await.with_context(|| format!("cannot delete {id}"))?;
        until(&format!("deletion of {id}"), PATIENCE, async || {
            Ok(Readiness::of(api.get_opt(&name).await?.is_none(), || "it still exists".to_owned()))
        })
        .await
    }

    /// A token of a service account for the API, or for another audience such as istiod's CA.
    ///
    /// # Errors
    ///
    /// If there is no such service account.
    pub async fn token(&self, namespace: &str, service_account: &str, audience: Option<&str>) -> Result<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let audiences = audience.map(|audience| vec![audience.to_owned()]);
        let spec = Some(TokenRequestSpec { audiences, ..TokenRequestSpec::default() });
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let answer = accounts
            .create_token_request(service_account, &kube::api::PostParams::default(), &request)
            .await
            .with_context(|| format!("cannot get a token for the service account {namespace}/{service_account}"))?;
        answer.status.and_then(|status| status.token).context("the answer contains no token")
    }

    /// A resource as the API has it, if it exists.
    ///
    /// # Errors
    ///
    /// If the API server does not answer.
    pub async fn get(&self, resource: &Value) -> Result<Option<Value>> {
        let (api, name) = self.api(resource)?;
        let found = api.get_opt(&name).await.with_context(|| format!("cannot get {}", Self::id(resource)))?;
        Ok(found.map(serde_json::to_value).transpose()?)
    }

    /// All resources of a kind, in all namespaces or in one.
    ///
    /// # Errors
    ///
    /// If the API server does not answer.
    pub async fn list(&self, api_version: &str, kind: &str, namespace: Option<&str>) -> Result<Vec<Value>> {
        let any = json!({"apiVersion": api_version, "kind": kind, "metadata": {"namespace": namespace, "name": "any"}});
        let (api, _) = self.api(&any)?;
        let listed = api.list(&ListParams::default()).await.with_context(|| format!("cannot list each {kind}"))?;
        let items = listed.items.into_iter().map(|mut item| {
            // The items of a list have no type.
            item.types = Some(TypeMeta { api_version: api_version.to_owned(), kind: kind.to_owned() });
            serde_json::to_value(item)
        });
        Ok(items.collect::<Result<_, _>>()?)
    }

    /// Changes some fields of a resource, as another person does with `kubectl patch`. The inner result is why it is refused.
    ///
    /// # Errors
    ///
    /// If the API server does not answer.
    pub async fn merge(&self, resource: &Value, change: &Value) -> Result<Result<(), String>> {
        let (api, name) = self.api(resource)?;
        answered(api.patch(&name, &PatchParams::default(), &Patch::Merge(change)).await)
            .with_context(|| format!("cannot change {}", Self::id(resource)))
    }

    /// The same for the status.
    ///
    /// # Errors
    ///
    /// If the API server does not answer.
    pub async fn merge_status(&self, resource: &Value, change: &Value) -> Result<Result<(), String>> {
        let (api, name) = self.api(resource)?;
        answered(api.patch_status(&name, &PatchParams::default(), &Patch::Merge(change)).await)
            .with_context(|| format!("cannot change the status of {}", Self::id(resource)))
    }

    /// The certificate of istiod's CA, as istiod writes it into each namespace.
    ///
    /// # Errors
    ///
    /// If istiod does not write it in time.
    pub(crate) async fn root_certificate(&self, namespace: &str) -> Result<String> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let mut found = None;
        until(&format!("the CA's certificate in the namespace {namespace}"), PATIENCE, async || {
            let map = maps.get_opt("istio-ca-root-cert").await?;
            found = map.and_then(|map| map.data?.remove("root-cert.pem"));
            Ok(Readiness::of(found.is_some(), || "istiod has not written it".to_owned()))
        })
        .await?;
        found.context("no certificate")
    }

    /// The resource that was applied under that name, unless it was deleted.
    #[must_use]
    pub fn applied(&self, id: &str) -> Option<Value> {
        self.all().get(id).cloned()
    }

    /// All applied resources of a kind, as one YAML text.
    #[must_use]
    pub fn yaml(&self, kind: &str) -> String {
        let all = self.all();
        let of_kind = all.values().filter(|resource| resource["kind"] == kind);
        of_kind.map(Value::to_string).collect::<Vec<_>>().join("\n---\n")
    }

    /// The applied resources, as `explain` takes them.
    #[must_use]
    pub fn manifests(&self) -> Vec<Manifest> {
        let location = |index| Location::root(Document::Manifest(index));
        let all = self.all();
        all.values().enumerate().filter_map(|(index, value)| Manifest::new(value.clone(), location(index))).collect()
    }

    /// The name of a resource, in the form that [`delete`](Self::delete) expects and `manifest-gen diff` prints.
    #[must_use]
    pub fn id(resource: &Value) -> String {
        let text = |value: &Value| value.as_str().unwrap_or("default").to_owned();
        let metadata = &resource["metadata"];
        format!("{} {}/{}", text(&resource["kind"]), text(&metadata["namespace"]), text(&metadata["name"]))
    }

    /// The documents of a YAML text.
    ///
    /// # Errors
    ///
    /// If the text is not valid YAML.
    pub fn documents(text: &str) -> Result<Vec<Value>> {
        let file = Arc::new(File { name: "yaml".to_owned(), text: text.to_owned() });
        let nodes = yaml::read(&file)
            .map_err(|invalid| anyhow!(invalid.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))?;
        Ok(nodes.iter().map(yaml::Node::to_json).filter(|value| !value.is_null()).collect())
    }

    fn api(&self, resource: &Value) -> Result<(Api<DynamicObject>, String)> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let types = TypeMeta {
            api_version: text(&resource["apiVersion"]).context("missing `apiVersion`")?,
            kind: text(&resource["kind"]).context("missing `kind`")?,
        };
        let name = text(&resource["metadata"]["name"]).context("missing `metadata.name`")?;
        let of_kind = ApiResource::from_gvk(&GroupVersionKind::try_from(&types)?);
        let api = match resource["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &of_kind),
            None => Api::all_with(self.client.clone(), &of_kind),
        };
        Ok((api, name))
    }

    fn all(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Value>> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells a refusal from a failure to ask.
fn answered<T>(answer: kube::Result<T>) -> Result<Result<(), String>> {
    match answer {
        Ok(_) => Ok(Ok(())),
        Err(kube::Error::Api(status)) => Ok(Err(status.message)),
        Err(error) => Err(error.into()),
    }
}

fn by_us() -> PatchParams {
    PatchParams::apply("routing-claims-e2e").force()
}

const PATIENCE: Duration = Duration::from_secs(20);
