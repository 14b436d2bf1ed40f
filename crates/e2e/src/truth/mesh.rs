//! Sets on the mesh: applies them, waits until the proxies have them, sends their requests, and deletes them.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use e2e::{Proxy, app::App, settle};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use routing_plan::{
    diagnostic::{Document, Location},
    manifests::Manifest,
};
use serde_json::{Value, json};
use testbed::client::Http1;
use tokio::process::Command;

use super::generate::{Caller, FAR, Request, SERVICES, Set};
use crate::world::{OTHER_PORT, PORT, World};

/// The mesh, with workloads for as many sets as can be applied at once.
pub(super) struct Mesh<'w> {
    pub(super) world: &'w World,
    /// What installs the filter at the moment.
    pub(super) filters: Vec<Manifest>,
    installed: Option<Set>,
    dir: PathBuf,
    _apps: Vec<App>,
}

/// What happened to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A Service's workload answered.
    Service {
        /// Its host.
        host: String,
        /// The Service's port.
        port: u16,
        /// The header lines that it received.
        headers: Vec<(String, String)>,
    },
    /// The proxy answered.
    Proxy { status: u16, location: Option<String>, body: String },
}

/// What became of the objects of a set.
#[derive(Clone, Debug, Default)]
pub(super) struct Applied {
    /// The accepted ones, each with the time at which it was created.
    pub(super) objects: Vec<Value>,
    /// Why the API server or Istio's validation refuses the others, by their number in the set.
    pub(super) refused: BTreeMap<usize, String>,
}

impl<'w> Mesh<'w> {
    /// Starts the workloads.
    pub(super) async fn start(world: &'w World, dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir)?;
        let mut apps = Vec::new();
        for slot in 0..SLOTS {
            for (index, (name, _)) in SERVICES.iter().enumerate() {
                for port in [PORT, OTHER_PORT] {
                    let addr = world.net.addr(APPS, workload_port(slot, index, port));
                    apps.push(App::http(addr, &format!("{slot}/{name}"), &port.to_string(), None).await?);
                }
            }
        }
        Ok(Self { world, filters: Vec::new(), installed: None, dir, _apps: apps })
    }

    /// Replaces the resources that install the filter.
    pub(super) async fn install(&mut self, filters: Set) -> Result<()> {
        self.uninstall().await?;
        let applied = self.apply(std::slice::from_ref(&filters)).await?.swap_remove(0);
        self.filters = manifests(&applied.objects, FILTERS);
        self.installed = Some(filters);
        Ok(())
    }

    /// Deletes the resources that install the filter. The proxies notice at the next [`apply`](Self::apply).
    async fn uninstall(&mut self) -> Result<()> {
        match self.installed.take() {
            Some(old) => self.delete(&[old]).await,
            None => Ok(()),
        }
    }

    /// Leaves the mesh as it was, for the other scenarios.
    pub(super) async fn stop(mut self) -> Result<()> {
        self.uninstall().await?;
        settle(&self.world.cluster, &self.world.proxies()).await
    }

    /// Applies sets, at most `SLOTS`, and waits until the proxies have them.
    pub(super) async fn apply(&self, sets: &[Set]) -> Result<Vec<Applied>> {
        let invalid = self.validate(sets).await?;
        let cluster = &self.world.cluster;
        let namespaces = sets.iter().flat_map(|set| [set.tag.clone(), set.far()]);
        let namespaces =
            namespaces.map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
        let workloads = sets.iter().enumerate().flat_map(|(slot, set)| self.workloads(slot, set));
        for resources in [namespaces.collect::<Vec<_>>(), workloads.collect()] {
            stream::iter(resources)
                .map(async |resource: Value| cluster.apply_unrecorded(&resource).await?.map_err(anyhow::Error::msg))
                .buffer_unordered(AT_ONCE)
                .try_collect::<Vec<_>>()
                .await?;
        }
        let objects = sets
            .iter()
            .enumerate()
            .flat_map(|(slot, set)| set.objects.iter().enumerate().map(move |(index, object)| (slot, index, object)));
        let answers: Vec<_> = stream::iter(objects.collect::<Vec<_>>())
            .map(async |(slot, index, object)| {
                let answer = match invalid.get(&istio_id(object)) {
                    Some(why) => Err(why.clone()),
                    None => cluster.apply_unrecorded(&self.bound(object)).await?,
                };
                anyhow::Ok((slot, index, object, answer))
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let mut applied = vec![Applied::default(); sets.len()];
        for (slot, index, object, answer) in answers {
            match answer {
                Ok(created) => {
                    let mut object = object.clone();
                    object["metadata"]["creationTimestamp"] = json!(created);
                    applied[slot].objects.push(object);
                }
                Err(why) => drop(applied[slot].refused.insert(index, why)),
            }
        }
        settle(cluster, &self.world.proxies()).await?;
        Ok(applied)
    }

    /// Deletes sets. The proxies notice at the next [`apply`](Self::apply).
    pub(super) async fn delete(&self, sets: &[Set]) -> Result<()> {
        let workloads = sets.iter().enumerate().flat_map(|(slot, set)| self.workloads(slot, set));
        let objects: Vec<_> = sets.iter().flat_map(|set| set.objects.iter().cloned()).chain(workloads).collect();
        stream::iter(objects)
            .map(async |object| self.world.cluster.delete_unrecorded(&object).await)
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    /// What Istio's validating webhook refuses, and why, by [`istio_id`]. The webhook does not run here; `istioctl validate`
    /// runs the same code.
    async fn validate(&self, sets: &[Set]) -> Result<BTreeMap<String, String>> {
        let file = self.dir.join("sets.yaml");
        let objects = sets.iter().flat_map(|set| &set.objects).map(Value::to_string);
        fs::write(&file, objects.collect::<Vec<_>>().join("\n---\n"))?;
        let mut command = Command::new(&self.world.istioctl);
        let output = command.arg("validate").arg("-f").arg(&file).stdin(Stdio::null()).output().await?;
        let said = String::from_utf8_lossy(&output.stderr);
        // Warnings come first, in the same form.
        let errors = said.lines().skip_while(|line| !line.starts_with("Error: "));
        let errors: BTreeMap<_, _> = errors
            .filter_map(|line| line.trim().strip_prefix("* ")?.split_once(": "))
            .map(|(id, why)| (id.to_owned(), why.to_owned()))
            .collect();
        ensure!(output.status.success() || !errors.is_empty(), "istioctl validate: {said}");
        Ok(errors)
    }

    /// An object as this mesh needs it: a gateway listens on its own address.
    fn bound(&self, object: &Value) -> Value {
        let mut object = object.clone();
        if object["kind"] == "Gateway"
            && let Some(servers) = object["spec"]["servers"].as_array_mut()
        {
            for server in servers {
                server["bind"] = json!(self.world.gateway.ip.to_string());
            }
        }
        object
    }

    /// One workload for each Service.
    fn workloads(&self, slot: usize, set: &Set) -> Vec<Value> {
        let one = |(index, (name, _)): (usize, &(&str, u32))| {
            json!({
                "apiVersion": "networking.istio.io/v1",
                "kind": "WorkloadEntry",
                "metadata": {"name": name, "namespace": if *name == FAR { set.far() } else { set.tag.clone() }},
                "spec": {
                    "address": self.world.net.ip(APPS).to_string(),
                    "labels": {"app": name, "version": "v1"},
                    "ports": {
                        "http": workload_port(slot, index, PORT),
                        "http-other": workload_port(slot, index, OTHER_PORT),
                    },
                },
            })
        };
        let exists =
            |name: &str| set.objects.iter().any(|one| one["kind"] == "Service" && one["metadata"]["name"] == name);
        SERVICES.iter().enumerate().filter(|(_, (name, _))| exists(name)).map(one).collect()
    }

    pub(super) fn proxy(&self, from: &Caller) -> &'w Proxy {
        match from {
            Caller::Gateway(_) => &self.world.gateway,
            Caller::Client => &self.world.client,
            Caller::Plain => &self.world.plain,
            Caller::ServiceA => &self.world.sidecar_a,
        }
    }

    /// Sends a request of the set in a slot on a connection of its own.
    pub(super) async fn send(&self, slot: usize, set: &Set, request: &Request) -> Result<Answer> {
        let Request { from, host, port, method, path, headers } = request;
        let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\n");
        text.extend(headers.iter().flat_map(|(name, value)| [name, ": ", value, "\r\n"]));
        text.push_str("\r\n");
        let mut connection = Http1::connect(self.proxy(from).addr(*port)).await?;
        connection.write(text.as_bytes()).await?;
        let response = connection.read().await?;
        let said: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        let Some((answered, name)) = said["service"].as_str().and_then(|service| service.split_once('/')) else {
            let location = response.header("location").map(|location| String::from_utf8_lossy(location).into_owned());
            return Ok(Answer::Proxy { status: response.status, location, body: response.text() });
        };
        let service = if name == FAR { format!("{name}.{}", set.far()) } else { format!("{name}.{}", set.tag) };
        let host = if answered == slot.to_string() {
            format!("{service}.svc.cluster.local")
        } else {
            format!("{name} of another set")
        };
        let lines = serde_json::from_value(said["headers"].clone())?;
        let port = said["version"].as_str().context("a service without a version")?.parse()?;
        Ok(Answer::Service { host, port, headers: lines })
    }
}

/// Objects as `explain` and `lint` take them, with document numbers from `first` on.
pub(super) fn manifests(objects: &[Value], first: usize) -> Vec<Manifest> {
    let location = |index| Location::root(Document::Manifest(first + index));
    let manifests = objects.iter().enumerate().map(|(index, object)| Manifest::new(object.clone(), location(index)));
    manifests.flatten().collect()
}

/// An object as `istioctl validate` names it.
fn istio_id(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    format!("{}/{}/{}", text(&object["kind"]), text(&metadata["namespace"]), text(&metadata["name"]))
}

fn workload_port(slot: usize, service: usize, port: u16) -> u16 {
    let index = (slot * SERVICES.len() + service) * 2 + usize::from(port == OTHER_PORT);
    FIRST_PORT + u16::try_from(index).unwrap_or_default()
}

/// How many sets can be applied at once.
const SLOTS: usize = 25;
/// The last byte of the address of all workloads.
const APPS: u8 = 70;
const FIRST_PORT: u16 = 20_000;
/// The number of the first document of a filter, greater than that of any object of a set.
const FILTERS: usize = 1000;
/// Requests to the API server at the same time.
const AT_ONCE: usize = 16;
