//! Plans and variants that are refused: fields of `spec`, in YAML.

/// Plans that break rules.
pub(super) const WRONG_PLANS: &[&str] = &[
    "metadata: {name: q.a, namespace: default}",
    "policy: {services: [{name: a}]}",
    // The filter.
    "filter: {engine: lua, istioVersion: new}",
    "filter: {engine: lua, istioVersion: '1.5'}",
    "filter: {engine: lua, istioVersion: '0.30'}",
    "filter: {engine: lua, istioVersion: '1.29', resource: TrafficExtension}",
    "filter: {engine: module, istioVersion: '1.30', module: {path: /a.so}}",
    "filter: {engine: lua, istioVersion: '1.29', resource: WasmPlugin}",
    "filter: {engine: module, istioVersion: '1.31', resource: WasmPlugin, module: {path: /a.so}}",
    "filter: {engine: lua, istioVersion: '1.29', gateways: {matchLabels: {}}}",
    "filter: {engine: wasm, istioVersion: '1.29'}",
    "filter: {engine: module, istioVersion: '1.31'}",
    "filter: {engine: lua, istioVersion: '1.29', wasm: {url: https://a}, module: {path: /a.so}}",
    "filter: {engine: wasm, istioVersion: '1.29', wasm: {image: 'r.b/f:1', pullSecret: a, pullPolicy: Always}}",
    // The module of WebAssembly.
    "filter: {engine: wasm, istioVersion: '1.29', wasm: {}}",
    "filter: {engine: wasm, istioVersion: '1.29', wasm: {url: https://a, inline: a.wasm}}",
    "filter: {engine: wasm, istioVersion: '1.29', wasm: {inline: a.wasm}}",
    "filter: {engine: wasm, istioVersion: '1.29', wasm: {image: 'r.b/f:1', sha256: a111111111111111111111111111111111111111111111111111111111111111}}",
    "filter: {engine: wasm, istioVersion: '1.29', resource: WasmPlugin, wasm: {image: 'r.b/f:1', pullPolicy: Always, digest: ab}}",
    "filter: {engine: wasm, istioVersion: '1.29', wasm: {image: 'oci://r.b/f:1'}}",
    "filter: {engine: wasm, istioVersion: '1.29', wasm: {image: 'r.b/f@sha256:ab'}}",
    "filter: {engine: wasm, istioVersion: '1.29', resource: WasmPlugin, wasm: {image: 'r.b/f:1', pullSecret: A}}",
    "filter: {engine: wasm, istioVersion: '1.29', wasm: {url: 'oci://r.b/f:1'}}",
    "filter: {engine: wasm, istioVersion: '1.29', wasm: {url: https://a, sha256: ab}}",
    "filter: {engine: wasm, istioVersion: '1.29', resource: WasmPlugin, wasm: {url: https://a, digest: 'sha256:1111111111111111111111111111111111111111111111111111111111111111', pullSecret: a, pullPolicy: Always}}",
    // The native module.
    "filter: {engine: module, istioVersion: '1.31', module: {}}",
    "filter: {engine: module, istioVersion: '1.31', module: {path: /a.so, cluster: a}}",
    "filter: {engine: module, istioVersion: '1.31', module: {url: http://a, cluster: a}}",
    "filter: {engine: module, istioVersion: '1.31', module: {path: a.so}}",
    "filter: {engine: module, istioVersion: '1.31', module: {url: 'oci://a/a', cluster: a, sha256: ab}}",
    // Whose tokens are verified.
    "authentication: [{issuer: a, jwksUri: https://a}]",
    "filter: {engine: lua, istioVersion: '1.31', verify: outbound}",
    "{filter: {engine: lua, istioVersion: '1.31', gateways: {matchLabels: {a: b}}}, authentication: [{issuer: a, jwksUri: https://a}], policy: {format: payload}}",
    "{filter: {engine: lua, istioVersion: '1.31', verify: outbound}, authentication: [{issuer: a, jwksUri: https://a}]}",
    "{filter: {engine: lua, istioVersion: '1.31', gateways: {matchLabels: {a: b}}}, authentication: []}",
    "{filter: {engine: lua, istioVersion: '1.31', gateways: {matchLabels: {a: b}}}, authentication: [{issuer: '', jwksUri: ftp://a}]}",
    "{filter: {engine: lua, istioVersion: '1.31', gateways: {matchLabels: {a: b}}}, authentication: [{issuer: a}]}",
    "{filter: {engine: lua, istioVersion: '1.31', gateways: {matchLabels: {a: b}}}, authentication: [{issuer: a, jwksUri: https://a, jwks: '{}'}]}",
    "{filter: {engine: lua, istioVersion: '1.31', gateways: {matchLabels: {a: b}}}, authentication: [{issuer: a, jwks: '{}', cluster: a}]}",
    "{filter: {engine: lua, istioVersion: '1.31', verify: outbound}, authentication: [{issuer: a, jwksUri: https://a, cluster: a}], policy: {fromBaggage: [qa], carry: {baggage: qa}}}",
    // The access logs.
    "telemetry: {accessLogProvider: '', namespaces: [A_b]}",
    // The services.
    "services: [{name: A_b, namespace: a}]",
    "services: [{name: a, namespace: C, host: UP, gateways: [mesh]}]",
    "services: [{name: a, namespace: a, gateways: [a/b/c]}]",
    "services: [{name: a, namespace: a, gateways: [a], hosts: ['*.*']}]",
    "services: [{name: a, namespace: a, hosts: [b]}]",
    "services: [{name: a, namespace: a, base: a.yaml}]",
    "services: [{name: a, namespace: a, base: a.yaml, baseRef: {name: a}}]",
    "services: [{name: a, namespace: a, baseRef: {name: UP}}]",
    "services: [{name: a, namespace: a, allowedNamespaces: ['a*b']}]",
    // Routes of the Gateway API.
    "{filter: {engine: lua, istioVersion: '1.21'}, routes: {resource: HTTPRoute}, services: [{name: a, namespace: a, port: 80}]}",
    "{routes: {resource: HTTPRoute}, services: [{name: a, namespace: a}]}",
    "{routes: {resource: HTTPRoute}, services: [{name: a, namespace: a, port: 80, gateways: [a], hosts: [a], base: a.yaml}]}",
    "{routes: {resource: HTTPRoute}, services: [{name: a, namespace: a, port: 80, baseRef: {name: a}}]}",
];

/// Variants that break rules.
pub(super) const WRONG_VARIANTS: &[&str] = &["variant: -x", "host: UP", "expiresAt: tomorrow"];

/// Plans of the wrong form, and what the API server says of each.
pub(super) const ILL_FORMED_PLANS: &[(&str, &str)] = &[
    ("polices: {}", "field not declared in schema"),
    ("services: [{name: a, namespace: a, gateway: [b]}]", "field not declared in schema"),
    ("services: {}", "expected list"),
    ("services: [{namespace: a}]", "name"),
    ("services: [{name: a}]", "spec.services[0].namespace: Required value"),
    ("services: [{name: a, namespace: a, port: 0}]", "spec.services[0].port: Invalid value"),
    ("services: [{name: a, namespace: a, port: 65536}]", "spec.services[0].port: Invalid value"),
    ("services: [{name: a, namespace: a, port: '80'}]", "expected numeric"),
    ("services: [{name: a, namespace: a}, {name: a, namespace: b}]", "duplicate entries for key"),
    ("services: [{name: a, namespace: a, variants: [{name: PR-1}, {name: PR-1}]}]", "duplicate entries for key"),
    ("services: [{name: a, namespace: a, variants: [{name: -x}]}]", "spec.services[0].variants[0].name: Invalid value"),
    (
        "services: [{name: a, namespace: a, variants: [{name: a, host: UP}]}]",
        "spec.services[0].variants[0].host: Invalid value",
    ),
    (
        "services: [{name: a, namespace: a, variants: [{name: a, expiresAt: tomorrow}]}]",
        "spec.services[0].variants[0].expiresAt: Invalid value",
    ),
    ("filter: {engine: luna, istioVersion: '1.31'}", "spec.filter.engine: Unsupported value"),
    ("filter: {engine: lua}", "spec.filter.istioVersion: Required value"),
    ("filter: {engine: lua, istioVersion: 1.31}", "expected string"),
    ("policy: {limits: {maxRoutes: 65}}", "spec.policy.limits.maxRoutes: Invalid value"),
    ("policy: {clockSkewSeconds: 301}", "spec.policy.clockSkewSeconds: Invalid value"),
    (
        "{filter: {engine: lua, istioVersion: '1.31', gateways: {matchLabels: {a: b}}}, authentication: [{issuer: a, jwksUri: https://a}, {issuer: a, jwksUri: https://b}]}",
        "duplicate entries for key",
    ),
];

/// Variants of the wrong form, and what the API server says of each.
pub(super) const ILL_FORMED_VARIANTS: &[(&str, &str)] =
    &[("expires: 2026-12-01T00:00:00Z", "field not declared in schema"), ("variant: 1", "expected string")];
