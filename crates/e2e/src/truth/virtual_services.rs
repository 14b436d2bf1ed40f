//! Generated `VirtualService`s.

use serde_json::{Map, Value, json};

use super::generate::{Draft, FAR, HEADER_VALUES, HEADERS, PATHS, full_host};
use crate::world::{OTHER_PORT, PORT};

/// None, one, or several that may be for one host, and the ones that they delegate to.
pub(super) fn generate(draft: &mut Draft) -> Vec<Value> {
    let count = draft.weighted(&[(4, 1), (2, 0), (2, 2), (1, 3)]);
    let mut all = Vec::new();
    for index in 0..count {
        let name = format!("{}-vs-{index}", draft.tag);
        let one = draft.virtual_service(&name);
        if one.to_string().contains("\"delegate\"") && !draft.once_in(10) {
            let target = draft.delegate_target();
            if all.iter().all(|other: &Value| other["metadata"] != target["metadata"]) {
                all.push(target);
            }
        }
        all.push(one);
    }
    all
}

impl Draft {
    fn virtual_service(&mut self, name: &str) -> Value {
        let (tag, far) = (self.tag.clone(), self.far());
        let namespace =
            self.weighted(&[(30, tag.clone()), (2, "client".to_owned()), (2, "istio-system".to_owned()), (2, far)]);
        let mut spec = Map::new();
        let hosts = self.hosts(&namespace);
        spec.insert("hosts".into(), json!(hosts));
        let is_public = hosts.iter().any(|host| host.ends_with(".qa.example"));
        if let Some(gateways) = self.gateways(&namespace, is_public) {
            spec.insert("gateways".into(), gateways);
        }
        if self.once_in(5) {
            let lists = [
                json!(["*"]),
                json!(["."]),
                json!(["client"]),
                json!([tag]),
                json!(["microservice-a", "."]),
                json!([".", tag]),
                json!(["client", "*"]),
            ];
            spec.insert("exportTo".into(), self.pick(&lists));
        }
        if self.once_in(30) {
            let to = json!({"destination": {"host": full_host("other", &tag)}});
            spec.insert("tcp".into(), json!([{"route": [to]}]));
        } else {
            let routes = 1 + self.up_to(3);
            let http: Vec<_> = (0..routes).map(|index| self.route(&namespace, index + 1 == routes)).collect();
            spec.insert("http".into(), http.into());
        }
        if self.once_in(60) {
            spec.insert(self.pick(&["exportTo", "gateways", "tls"]).into(), Value::Null);
        }
        let mut one = virtual_service(&namespace, name, &spec);
        if self.once_in(20) {
            one["apiVersion"] = json!("networking.istio.io/v1alpha3");
        }
        one
    }

    /// The one that routes delegate to.
    fn delegate_target(&mut self) -> Value {
        let namespace = self.tag.clone();
        let http: Vec<_> =
            (0..=self.up_to(1)).map(|index| self.route_without_delegate(&namespace, index == 1)).collect();
        let mut spec = Map::new();
        spec.insert("http".into(), http.into());
        if self.once_in(8) {
            let lists = [json!(["."]), json!(["*"]), json!(["client"])];
            spec.insert("exportTo".into(), self.pick(&lists));
        }
        virtual_service(&namespace, DELEGATE, &spec)
    }

    fn hosts(&mut self, namespace: &str) -> Vec<String> {
        let (tag, public) = (self.tag.clone(), self.public_host());
        let mut pool = vec![
            (24, full_host("web", &tag)),
            (2, format!("web.{tag}")),
            (1, format!("web.{tag}.svc")),
            (2, format!("*.{tag}.svc.cluster.local")),
            (2, full_host("other", &tag)),
            (10, public.clone()),
            (2, format!("*.{public}")),
            (1, format!("a.{public}")),
        ];
        if namespace == tag {
            pool.push((8, "web".to_owned()));
        }
        let mut hosts = vec![self.weighted(&pool)];
        if self.once_in(4) {
            let second = self.weighted(&pool);
            if !hosts.contains(&second) {
                hosts.push(second);
            }
        }
        hosts
    }

    fn gateways(&mut self, namespace: &str, is_public: bool) -> Option<Value> {
        let gateway = self.gateway_name(namespace);
        let forms = if is_public { [2, 1, 1, 12, 6, 1] } else { [20, 1, 4, 4, 6, 1] };
        let lists = [
            None,
            Some(json!([])),
            Some(json!(["mesh"])),
            Some(json!([gateway])),
            Some(json!(["mesh", gateway])),
            Some(json!(["istio-system/none"])),
        ];
        self.weighted(&forms.into_iter().zip(lists).collect::<Vec<_>>())
    }

    fn route(&mut self, namespace: &str, last: bool) -> Value {
        if self.once_in(14) {
            let mut delegate = json!({"name": DELEGATE});
            if namespace != self.tag || self.once_in(2) {
                delegate["namespace"] = json!(self.tag);
            }
            let mut route = json!({"delegate": delegate});
            if !self.once_in(3) {
                route["match"] = self.matches(namespace);
            }
            return route;
        }
        self.route_without_delegate(namespace, last)
    }

    fn route_without_delegate(&mut self, namespace: &str, last: bool) -> Value {
        let mut route = Map::new();
        if self.once_in(4) {
            route.insert("name".into(), self.pick(&["one", "two", "default"]).into());
        }
        if !self.once_in(if last { 2 } else { 8 }) {
            route.insert("match".into(), self.matches(namespace));
        }
        match self.weighted(&[(24, 0), (2, 1), (2, 2)]) {
            0 => {
                route.insert("route".into(), self.destinations(namespace));
                self.modify(&mut route, namespace);
            }
            1 => {
                let redirects = [
                    json!({"uri": "/else"}),
                    json!({"authority": "else.example", "redirectCode": 302}),
                    json!({"scheme": "https", "redirectCode": 307}),
                    json!({"authority": "else.example", "uri": "/else?z=1", "port": 8443}),
                    json!({"uri": "/else", "derivePort": "FROM_REQUEST_PORT"}),
                    json!({"scheme": "https", "port": 443}),
                ];
                route.insert("redirect".into(), self.pick(&redirects));
            }
            _ => {
                let responses =
                    [json!({"status": 418}), json!({"status": 503, "body": {"string": "later, \"please\""}})];
                route.insert("directResponse".into(), self.pick(&responses));
            }
        }
        route.into()
    }

    /// What a route does beside sending the request somewhere.
    fn modify(&mut self, route: &mut Map<String, Value>, namespace: &str) {
        if !self.once_in(5) {
            return;
        }
        let (mirror, fault) = (self.destination(namespace), self.fault());
        let (field, value) = self.pick(&[
            ("timeout", json!("5s")),
            ("retries", json!({"attempts": 1, "perTryTimeout": "2s"})),
            ("rewrite", json!({"uri": "/rewritten"})),
            ("rewrite", json!({"authority": "rewritten.example"})),
            ("headers", json!({"request": {"set": {"x-added": "1"}}})),
            ("mirror", mirror),
            ("corsPolicy", json!({"allowOrigins": [{"exact": "https://a.example"}]})),
            ("fault", fault.clone()),
            ("fault", fault),
        ]);
        route.insert(field.into(), value);
    }

    fn fault(&mut self) -> Value {
        self.pick(&[
            json!({"abort": {"httpStatus": 555, "percentage": {"value": 100}}}),
            json!({"abort": {"httpStatus": 555, "percentage": {"value": 100}}, "delay": {"fixedDelay": "0.01s"}}),
            json!({"abort": {"httpStatus": 555}}),
            json!({"abort": {"httpStatus": 555, "percentage": {"value": 0.00001}}}),
            json!({"delay": {"fixedDelay": "0.01s", "percentage": {"value": 100}}}),
        ])
    }

    fn destinations(&mut self, namespace: &str) -> Value {
        let weights: &[Option<u64>] = self.weighted(&[
            (30, &[None][..]),
            (2, &[Some(100)]),
            (4, &[Some(90), Some(10)]),
            (3, &[Some(0), Some(100)]),
            (1, &[Some(1), Some(1)]),
            (1, &[None, Some(1)]),
            (1, &[Some(0)]),
            (1, &[Some(0), Some(0)]),
        ]);
        weights
            .iter()
            .map(|weight| {
                let mut to = json!({"destination": self.destination(namespace)});
                if let Some(weight) = weight {
                    to["weight"] = json!(weight);
                }
                to
            })
            .collect()
    }

    fn destination(&mut self, namespace: &str) -> Value {
        let tag = self.tag.clone();
        let mut hosts = vec![
            (8, full_host("web", &tag)),
            (8, full_host("web-pr-1", &tag)),
            (4, full_host("web-pr-2", &tag)),
            (3, full_host(FAR, &self.far())),
            (1, format!("web-pr-1.{tag}")),
            (1, format!("web-pr-1.{tag}.svc")),
            (1, full_host("none", &tag)),
        ];
        if namespace == tag {
            hosts.extend([(6, "web".to_owned()), (6, "web-pr-1".to_owned())]);
        }
        let mut destination = json!({"host": self.weighted(&hosts)});
        if self.once_in(3) {
            destination["port"] = json!({"number": self.weighted(&[(6, PORT), (1, OTHER_PORT), (1, 7070)])});
        }
        if self.once_in(15) {
            destination["subset"] = self.pick(&["v1", "v2", "v3"]).into();
        }
        destination
    }

    fn matches(&mut self, namespace: &str) -> Value {
        let count = self.weighted(&[(20, 1), (6, 2), (1, 0)]);
        (0..count).map(|_| self.match_entry(namespace)).collect()
    }

    fn match_entry(&mut self, namespace: &str) -> Value {
        let mut entry = Map::new();
        for _ in 0..self.weighted(&[(12, 1), (6, 2), (1, 0)]) {
            let (field, value) = self.condition(namespace);
            if field == "uri" && self.once_in(5) {
                entry.insert("ignoreUriCase".into(), true.into());
            }
            entry.insert(field.into(), value);
        }
        entry.into()
    }

    fn condition(&mut self, namespace: &str) -> (&'static str, Value) {
        let field = self.weighted(&[
            (10, "headers"),
            (10, "uri"),
            (4, "withoutHeaders"),
            (4, "queryParams"),
            (3, "method"),
            (2, "authority"),
            (1, "scheme"),
            (2, "port"),
            (3, "gateways"),
            (4, "sourceLabels"),
            (2, "sourceNamespace"),
            (1, "name"),
        ]);
        let value = match field {
            "headers" | "withoutHeaders" => self.headers(field == "headers"),
            "uri" => {
                self.string(&PATHS, &["/api.*", ".*", "/a[pP][iI]", "(?i)/api", "/api/?", "*", "/api(?=/)", "/.+"])
            }
            "queryParams" => {
                let name = self.weighted(&[(4, "x"), (1, "y"), (1, "X")]);
                json!({name: self.string(&["1", "2", ""], &["[0-9]+", ".*", "."])})
            }
            "method" => self.string(&["GET", "POST", "get"], &["GET|POST", ".*"]),
            "authority" => {
                let public = self.public_host();
                let hosts = [full_host("web", &self.tag), public.clone(), public[..public.len() - 3].to_owned()];
                self.string(&hosts.each_ref().map(String::as_str), &[".*\\.example", "web.*"])
            }
            "scheme" => self.string(&["http", "https", "HTTP"], &["https?"]),
            "port" => json!(self.pick(&[PORT, PORT, OTHER_PORT])),
            "gateways" => {
                let gateway = self.gateway_name(namespace);
                self.pick(&[json!(["mesh"]), json!([gateway]), json!([gateway, "mesh"]), json!([])])
            }
            "sourceLabels" => self.weighted(&[
                (3, json!({"app": "client"})),
                (2, json!({"app": "plain"})),
                (1, json!({"routing-claims.dev/router": "enabled"})),
                (1, json!({"istio": "ingressgateway"})),
                (1, json!({})),
            ]),
            "sourceNamespace" => self.pick(&["client", "microservice-a", "istio-system"]).into(),
            _ => "a-name".into(),
        };
        (field, value)
    }

    fn headers(&mut self, wanted: bool) -> Value {
        let mut headers = Map::new();
        for _ in 0..=self.up_to(1) {
            let name = self.weighted(&[(20, 0), (1, 1), (1, 2), (1, 3), (1, 4)]);
            let (name, value) = match name {
                0 => {
                    let name = self.pick(&HEADERS).to_owned();
                    let patterns = ["PR-[0-9]+", ".*", "alice|bob", "PR-1", "(PR-1", "*", ".+", "(?i)pr-1"];
                    (name, self.string(&HEADER_VALUES, &patterns))
                }
                1 => ("X-User".to_owned(), self.string(&HEADER_VALUES, &[".*"])),
                2 => (":method".to_owned(), json!({"exact": "GET"})),
                3 => (":path".to_owned(), self.string(&PATHS, &["/api.*"])),
                _ => ("@request.auth.claims[sub]".to_owned(), json!({"exact": "alice"})),
            };
            headers.insert(name, value);
        }
        if !wanted && self.once_in(4) {
            // Not for a claim: istiod takes it, and Envoy rejects the routes of all hosts.
            let named = headers.iter_mut().filter(|(name, _)| !name.starts_with('@'));
            named.for_each(|(_, value)| *value = json!({}));
        }
        headers.into()
    }

    /// A condition on a text: mostly one kind, sometimes none, two, or a wrong one.
    fn string(&mut self, texts: &[&str], patterns: &[&str]) -> Value {
        let text = self.pick(texts);
        let pattern = self.pick(patterns);
        self.weighted(&[
            (30, json!({"exact": text})),
            (20, json!({"prefix": text})),
            (16, json!({"regex": pattern})),
            (5, json!({})),
            (1, json!({"prefix": ""})),
            (1, json!({"exact": 2})),
            (1, json!({"exct": text})),
            (1, json!({"exact": text, "prefix": text})),
            (1, json!({"exact": null})),
            (1, json!(text)),
        ])
    }
}

fn virtual_service(namespace: &str, name: &str, spec: &Map<String, Value>) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    })
}

const DELEGATE: &str = "delegate";
