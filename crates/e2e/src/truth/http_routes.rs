//! Generated `HTTPRoute`s and `GRPCRoute`s.

use serde_json::{Map, Value, json};

use super::generate::{Draft, FAR, HEADER_VALUES, HEADERS, PATHS};
use crate::world::{OTHER_PORT, PORT};

/// Mostly none, because a host with a `VirtualService` has enough to tell already.
pub(super) fn generate(draft: &mut Draft) -> Vec<Value> {
    let count = draft.weighted(&[(5, 0), (3, 1), (2, 2), (1, 3)]);
    (0..count).map(|index| draft.http_route(index)).collect()
}

impl Draft {
    fn http_route(&mut self, index: usize) -> Value {
        let tag = self.tag.clone();
        let namespace = self.weighted(&[(12, tag.clone()), (2, "client".to_owned()), (1, self.far())]);
        let grpc = self.once_in(6);
        let parents = self.weighted(&[(8, 1), (2, 2)]);
        let parents: Vec<_> = (0..parents).map(|_| self.parent(&namespace)).collect();
        let rules = 1 + self.up_to(2);
        let rules: Vec<_> = (0..rules).map(|index| self.rule(grpc, index + 1 == rules)).collect();
        let mut spec = json!({"parentRefs": parents, "rules": rules});
        if self.once_in(8) {
            spec["hostnames"] = json!(["else.example"]);
        }
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": if grpc { "GRPCRoute" } else { "HTTPRoute" },
            "metadata": {"name": format!("{tag}-route-{index}"), "namespace": namespace},
            "spec": spec,
        })
    }

    fn parent(&mut self, namespace: &str) -> Value {
        let tag = self.tag.clone();
        let mut parent =
            json!({"group": "", "kind": "Service", "name": self.weighted(&[(16, "web"), (2, "other"), (1, "none")])});
        if namespace != tag || self.once_in(4) {
            parent["namespace"] = json!(tag);
        }
        if self.once_in(3) {
            parent["port"] = json!(self.weighted(&[(4, PORT), (2, OTHER_PORT), (1, 7070)]));
        }
        match self.weighted(&[(16, 0), (1, 1), (1, 2), (1, 3)]) {
            1 => drop(parent.as_object_mut().and_then(|parent| parent.remove("group"))),
            2 => parent["sectionName"] = json!(self.pick(&["http", "none"])),
            3 => parent = json!({"name": "public", "namespace": "istio-system"}),
            _ => {}
        }
        parent
    }

    fn rule(&mut self, grpc: bool, last: bool) -> Value {
        let mut rule = Map::new();
        if !self.once_in(if last { 2 } else { 6 }) {
            let count = self.weighted(&[(12, 1), (4, 2), (1, 0)]);
            let matches: Vec<_> =
                (0..count).map(|_| if grpc { self.grpc_match() } else { self.http_match() }).collect();
            rule.insert("matches".into(), matches.into());
        }
        if self.once_in(10) {
            let mut filters = vec![json!({
                "type": "RequestHeaderModifier",
                "requestHeaderModifier": {"set": [{"name": "x-added", "value": "1"}]},
            })];
            if !grpc {
                let redirects = [
                    json!({"hostname": "else.example"}),
                    json!({"scheme": "https", "statusCode": 301}),
                    json!({"port": 8443, "path": {"type": "ReplaceFullPath", "replaceFullPath": "/else"}}),
                ];
                filters.push(json!({"type": "RequestRedirect", "requestRedirect": self.pick(&redirects)}));
                filters.push(json!({
                    "type": "URLRewrite",
                    "urlRewrite": {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/rewritten"}},
                }));
            }
            let filter = self.pick(&filters);
            let redirects = filter["type"] == "RequestRedirect";
            rule.insert("filters".into(), json!([filter]));
            if redirects {
                return rule.into();
            }
        }
        let weights: &[Option<i64>] = self.weighted(&[
            (24, &[None][..]),
            (3, &[Some(9), Some(1)]),
            (2, &[Some(0), None]),
            (2, &[Some(0)]),
            (1, &[Some(0), Some(0)]),
            (1, &[]),
            (1, &[Some(-1)]),
        ]);
        if !weights.is_empty() || self.once_in(2) {
            let backends: Vec<_> = weights.iter().map(|weight| self.backend(*weight)).collect();
            rule.insert("backendRefs".into(), backends.into());
        }
        rule.into()
    }

    fn backend(&mut self, weight: Option<i64>) -> Value {
        let (tag, far) = (self.tag.clone(), self.far());
        let name = self.weighted(&[(12, "web"), (12, "web-pr-1"), (6, "web-pr-2"), (4, FAR), (1, "none")]);
        let mut backend = json!({"name": name, "port": self.weighted(&[(12, PORT), (2, OTHER_PORT), (1, 7070)])});
        if name == FAR {
            backend["namespace"] = json!(far);
        } else if self.once_in(3) {
            backend["namespace"] = json!(tag);
        }
        if self.once_in(25) {
            drop(backend.as_object_mut().and_then(|backend| backend.remove("port")));
        }
        if self.once_in(8) {
            backend["group"] = json!("");
            backend["kind"] = json!("Service");
        }
        if let Some(weight) = weight {
            backend["weight"] = json!(weight);
        }
        backend
    }

    fn http_match(&mut self) -> Value {
        let mut one = Map::new();
        for _ in 0..self.weighted(&[(6, 1), (5, 2), (1, 3), (1, 0)]) {
            let field = self.weighted(&[(5, "path"), (6, "headers"), (2, "queryParams"), (2, "method")]);
            let value = match field {
                "path" => self.typed(&["/api(/.*)?", "/.*"], &PATHS, &["PathPrefix", "Exact", "RegularExpression"]),
                "headers" => self.named(&HEADERS, &HEADER_VALUES),
                "queryParams" => self.named(&["x", "y"], &["1", "2"]),
                _ => self.pick(&["GET", "POST", "get"]).into(),
            };
            one.insert(field.into(), value);
        }
        one.into()
    }

    fn grpc_match(&mut self) -> Value {
        let mut one = Map::new();
        if !self.once_in(4) {
            let methods = [
                json!({"service": "shop.Cart", "method": "Add"}),
                json!({"service": "shop.Cart"}),
                json!({"method": "Get"}),
                json!({"type": "RegularExpression", "service": "shop\\..*", "method": "(Add|Get)"}),
                json!({"type": "Exact"}),
            ];
            one.insert("method".into(), self.pick(&methods));
        }
        if self.once_in(3) {
            one.insert("headers".into(), self.named(&HEADERS, &HEADER_VALUES));
        }
        one.into()
    }

    fn named(&mut self, names: &[&str], values: &[&str]) -> Value {
        let count = self.weighted(&[(5, 1), (1, 2)]);
        (0..count)
            .map(|_| {
                let mut one = self.typed(&[".*", "PR-[0-9]+", "1|2"], values, &["Exact", "RegularExpression"]);
                let name = self.pick(names);
                one["name"] = if self.once_in(12) { name.to_uppercase() } else { name.to_owned() }.into();
                one
            })
            .collect()
    }

    /// A `value`, and the `type` that says how it is meant; the first type is the default.
    fn typed(&mut self, patterns: &[&str], values: &[&str], types: &[&str]) -> Value {
        let kind = self.pick(types);
        let value = if kind == "RegularExpression" { self.pick(patterns) } else { self.pick(values) };
        let mut one = json!({"value": value});
        if kind != types[0] || self.once_in(3) {
            one["type"] = json!(kind);
        }
        one
    }
}
