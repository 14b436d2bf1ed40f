//! Generates sets: the resources of one namespace and one public host, and requests that may meet them.
//!
//! A set is a pure function of its number. The first alternatives of a choice are the plainest ones. Most values come from
//! small pools that the resources and the requests share, so that conditions often hold.

use fastrand::Rng;
use serde_json::{Map, Value, json};

use super::{http_routes, virtual_services};
use crate::{
    scene::bearer,
    world::{OTHER_PORT, PORT},
};

/// Resources and requests that belong together.
#[derive(Clone, Debug)]
pub(super) struct Set {
    /// Its namespace. All of its names contain it, or are in a namespace whose name does.
    pub(super) tag: String,
    pub(super) objects: Vec<Value>,
    pub(super) requests: Vec<Request>,
}

/// A request as the client sends it.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) from: Caller,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
}

/// Where a request starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// Outside the mesh, through this gateway: `namespace/name`.
    Gateway(String),
    /// The workload with the router label.
    Client,
    /// The workload without it, in the same namespace.
    Plain,
    /// The workload in a third namespace.
    ServiceA,
}

impl Set {
    /// The set with this number.
    pub(super) fn generate(number: u64, requests: usize) -> Self {
        let mut draft = Draft::new(number);
        let mut objects = draft.services();
        objects.extend(draft.gateway());
        objects.extend(draft.destination_rules());
        objects.extend(virtual_services::generate(&mut draft));
        objects.extend(http_routes::generate(&mut draft));
        let requests = (0..requests).map(|_| draft.request()).collect();
        Self { tag: draft.tag, objects, requests }
    }

    /// Its second namespace.
    pub(super) fn far(&self) -> String {
        format!("{}-far", self.tag)
    }

    /// The same set in another namespace.
    pub(super) fn renamed(&self, tag: &str) -> Self {
        let rename = |text: &str| text.replace(&self.tag, tag);
        let objects = self.objects.iter().map(|object| rename_all(object, &rename)).collect();
        let requests = self.requests.iter().cloned().map(|mut request| {
            request.host = rename(&request.host);
            if let Caller::Gateway(name) = &mut request.from {
                *name = rename(name);
            }
            request
        });
        Self { tag: tag.to_owned(), objects, requests: requests.collect() }
    }
}

fn rename_all(value: &Value, rename: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(rename(text)),
        Value::Array(items) => items.iter().map(|item| rename_all(item, rename)).collect(),
        Value::Object(members) => {
            members.iter().map(|(key, value)| (key.clone(), rename_all(value, rename))).collect::<Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

/// A set in the making.
pub(super) struct Draft {
    rng: Rng,
    pub(super) tag: String,
    /// The gateway that the set uses: `namespace/name`.
    gateway: (String, String),
}

impl Draft {
    fn new(number: u64) -> Self {
        let mut rng = Rng::with_seed(number);
        let tag = format!("set-{number}");
        let gateway = if rng.bool() { ("istio-system", "public") } else { (&*tag, "gw") };
        let gateway = (gateway.0.to_owned(), gateway.1.to_owned());
        Self { rng, tag, gateway }
    }

    pub(super) fn once_in(&mut self, times: u32) -> bool {
        self.rng.u32(..times) == 0
    }

    pub(super) fn up_to(&mut self, most: usize) -> usize {
        self.rng.usize(..=most)
    }

    pub(super) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.rng.usize(..from.len())].clone()
    }

    /// One of the alternatives, each as likely as its weight says.
    pub(super) fn weighted<T: Clone>(&mut self, from: &[(u32, T)]) -> T {
        let mut left = self.rng.u32(..from.iter().map(|(weight, _)| weight).sum::<u32>());
        for (weight, one) in from {
            if left < *weight {
                return one.clone();
            }
            left -= weight;
        }
        unreachable!("the rolled number is less than the sum of the weights")
    }

    /// The second namespace of the set.
    pub(super) fn far(&self) -> String {
        format!("{}-far", self.tag)
    }

    pub(super) fn public_host(&self) -> String {
        format!("{}.qa.example", self.tag)
    }

    /// A name of the gateway, in one of the forms that Istio takes or that people believe it takes.
    pub(super) fn gateway_name(&mut self, namespace: &str) -> String {
        let (own, name) = self.gateway.clone();
        let full = format!("{own}/{name}");
        if own == namespace {
            let forms = [(3, name.clone()), (2, full), (2, format!("./{name}"))];
            let more = [(1, format!("{name}.{own}.svc.cluster.local")), (1, format!("{name}.{own}"))];
            return self.weighted(&[&forms[..], &more].concat());
        }
        let wrong = [(1, name.clone()), (1, format!("./{name}")), (1, format!("{name}.{own}.svc.cluster.local"))];
        self.weighted(&[&[(12, full)][..], &wrong].concat())
    }

    fn services(&mut self) -> Vec<Value> {
        let mut services = Vec::new();
        for (name, missing) in SERVICES {
            if self.rng.u32(..100) < missing {
                continue;
            }
            let namespace = if name == FAR { self.far() } else { self.tag.clone() };
            let http = json!({"name": "http", "port": PORT, "targetPort": PORT});
            let other = json!({"name": "http-other", "port": OTHER_PORT, "targetPort": OTHER_PORT});
            let ports = self.weighted(&[(20, json!([http])), (6, json!([http, other])), (1, json!([other]))]);
            let selector = if self.once_in(25) { "no-workload" } else { name };
            services.push(json!({
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"selector": {"app": selector}, "ports": ports},
            }));
        }
        services
    }

    /// The set's own gateway, on the proxy of the shared one.
    fn gateway(&self) -> Option<Value> {
        let host = self.public_host();
        (self.gateway.0 == self.tag).then(|| {
            json!({
                "apiVersion": "networking.istio.io/v1",
                "kind": "Gateway",
                "metadata": {"name": self.gateway.1, "namespace": self.tag},
                "spec": {
                    "selector": {"istio": "ingressgateway"},
                    "servers": [{
                        "hosts": [host, format!("*.{host}"), format!("*.{}.svc.cluster.local", self.tag)],
                        "port": {"number": PORT, "name": "http", "protocol": "HTTP"},
                    }],
                },
            })
        })
    }

    /// Subsets `v1`, which has the workloads, and `v2`, which has none.
    fn destination_rules(&mut self) -> Option<Value> {
        let host = self.weighted(&[(2, "web".to_owned()), (2, full_host("web", &self.tag)), (1, "other".to_owned())]);
        self.once_in(3).then(|| {
            json!({
                "apiVersion": "networking.istio.io/v1",
                "kind": "DestinationRule",
                "metadata": {"name": "web", "namespace": self.tag},
                "spec": {
                    "host": host,
                    "subsets": [{"name": "v1", "labels": {"version": "v1"}}, {"name": "v2", "labels": {"version": "v2"}}],
                },
            })
        })
    }

    fn request(&mut self) -> Request {
        let (tag, public) = (self.tag.clone(), self.public_host());
        let inside = [
            (16, full_host("web", &tag)),
            (3, format!("web.{tag}")),
            (2, format!("web.{tag}.svc")),
            (2, full_host("other", &tag)),
            (1, full_host("web-pr-1", &tag)),
            (1, full_host(FAR, &self.far())),
            (1, format!("{FAR}.{}", self.far())),
        ];
        let outside = [(8, public.clone()), (2, format!("a.{public}"))];
        let gateway = Caller::Gateway(format!("{}/{}", self.gateway.0, self.gateway.1));
        let from = self.weighted(&[(5, Caller::Client), (2, Caller::Plain), (2, Caller::ServiceA), (4, gateway)]);
        let at_gateway = matches!(from, Caller::Gateway(_));
        let unlikely = self.once_in(30);
        let host = if at_gateway == unlikely { self.weighted(&inside) } else { self.weighted(&outside) };
        let method = self.weighted(&[(8, "GET"), (3, "POST"), (1, "DELETE")]);
        let query = self.weighted(&[
            (6, ""),
            (2, "?x=1"),
            (1, "?x=2&y=1"),
            (1, "?y=1&x=1"),
            (1, "?x"),
            (1, "?x="),
            (1, "?X=1"),
        ]);
        let path = format!("{}{query}", self.pick(&PATHS));
        let mut headers = Vec::new();
        if self.rng.bool() {
            let claims = [
                json!({"web": "PR-1"}),
                json!({"web": "PR-2", "other": "PR-1"}),
                json!({"WEB": "PR-1", "x": "PR-1"}),
                json!({"web": 1, "other": "PR-2"}),
                json!({"web": "PR-1", "exp": 1}),
            ];
            headers.push(("authorization".to_owned(), bearer(&self.pick(&claims))));
        }
        for _ in 0..self.up_to(2) {
            let name = self.pick(&HEADERS);
            if headers.iter().all(|(other, _)| other != name) {
                headers.push((name.to_owned(), self.pick(&HEADER_VALUES).to_owned()));
            }
        }
        let port = if !at_gateway && self.once_in(8) { OTHER_PORT } else { PORT };
        Request { from, host, port, method, path, headers }
    }
}

pub(super) fn full_host(name: &str, namespace: &str) -> String {
    format!("{name}.{namespace}.svc.cluster.local")
}

/// The Services of a set, and how many of 100 sets lack each. The last is in the second namespace.
pub(super) const SERVICES: [(&str, u32); 5] = [("web", 2), ("web-pr-1", 4), ("web-pr-2", 8), ("other", 8), (FAR, 8)];
pub(super) const FAR: &str = "far";

pub(super) const PATHS: [&str; 11] =
    ["/", "/", "/api", "/api/", "/api/v1", "/API/v1", "/apix", "/a.b", "/shop.Cart/Add", "/shop.Cart/Get", "/x//y"];
/// Names of headers of requests. The first is set by the filter.
pub(super) const HEADERS: [&str; 4] = ["web", "other", "x-user", "x-team"];
pub(super) const HEADER_VALUES: [&str; 6] = ["PR-1", "PR-1", "PR-2", "alice", "bob", "PR-10"];

#[cfg(test)]
mod tests {
    use super::Set;

    #[test]
    fn a_set_depends_on_its_number_only_and_can_be_renamed() {
        for number in 0..100 {
            let set = Set::generate(number, 20);
            assert_eq!(format!("{set:?}"), format!("{:?}", Set::generate(number, 20)));
            let renamed = format!("{:?}", set.renamed("another"));
            assert!(!renamed.contains("set-"), "{renamed}");
            assert_eq!(renamed.replace("another", &set.tag), format!("{set:?}"));
        }
    }
}
