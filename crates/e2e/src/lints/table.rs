//! What happens with the fixtures of each lint.

use super::mesh::AT_GATEWAY;

/// Two fixtures of a lint, and what happens with each.
pub(crate) struct Proof {
    /// Its code.
    pub(crate) lint: &'static str,
    /// What to look at.
    pub(super) probe: Probe,
    /// Name and result of a fixture that the lint finds something in.
    pub(crate) bad: (&'static str, &'static str),
    /// Name and result of a fixture that it finds nothing in.
    pub(crate) good: (&'static str, &'static str),
}

/// What to look at.
#[derive(Clone, Copy)]
pub(crate) enum Probe {
    /// Whether the API server or Istio's webhook refuses the fixture.
    Refused,
    /// Whether the API server stores it.
    Stored,
    /// Whether `manifest-gen render` takes its plan.
    Rendered,
    /// Whether the order of its two filters depends on which one is older.
    Order,
    /// The answers to requests, after it is applied.
    Requests(&'static [Request]),
    /// The answers to requests, after it is created by a client that does not ask for unknown fields as errors.
    Unvalidated(&'static [Request]),
    /// The answers to a request on which the filter traps, and to this one after it.
    AfterTrap(Request),
    /// What happens to requests after the first pull by Istio's agent, and in a new pod after the tag and the file have changed.
    /// The scenario of modules from a registry shows it.
    Pulled,
}

/// A request as the client sends it.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    pub(super) from: From,
    pub(super) host: &'static str,
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) headers: &'static [(&'static str, &'static str)],
    pub(super) token: Option<Token>,
    /// The headers to look at in what the service receives.
    pub(super) shows: &'static [&'static str],
}

/// Where a request starts.
#[derive(Clone, Copy)]
pub(super) enum From {
    /// The workload with the router label.
    Client,
    /// The workload without it, in the same namespace.
    Plain,
    /// Outside the mesh, through the gateway.
    Gateway,
    /// Outside the mesh, through the gateway of the Gateway API.
    Entry,
    /// The proxy of a caller of `client`, to the inbound listener of `client`.
    AnotherProxy,
    /// The workload that the fixture's Deployment stands for.
    Deployment,
}

/// A token with a version of `microservice-A`.
#[derive(Clone, Copy)]
pub(super) struct Token {
    pub(super) version: &'static str,
    /// Whether it has the issuer's signature, or none.
    pub(super) is_signed: bool,
}

impl Request {
    const fn to(from: From, host: &'static str) -> Self {
        Self { from, host, method: "GET", path: "/", headers: &[], token: None, shows: &[] }
    }

    pub(super) const fn with(self, headers: &'static [(&'static str, &'static str)]) -> Self {
        Self { headers, ..self }
    }

    const fn on(self, path: &'static str) -> Self {
        Self { path, ..self }
    }

    const fn by(self, method: &'static str) -> Self {
        Self { method, ..self }
    }

    const fn token(self, version: &'static str) -> Self {
        Self { token: Some(Token { version, is_signed: false }), ..self }
    }

    const fn signed(self, version: &'static str) -> Self {
        Self { token: Some(Token { version, is_signed: true }), ..self }
    }

    const fn shows(self, shows: &'static [&'static str]) -> Self {
        Self { shows, ..self }
    }
}

pub(super) const PROOFS: &[Proof] = &[
    // A caller that has the first route of one, and one that has it of the other.
    Proof {
        lint: "duplicate-host",
        probe: Probe::Requests(&[ORDERS, ORDERS.with(CANARY)]),
        bad: ("bad", "orders; orders"),
        good: ("good", "orders; orders-canary"),
    },
    Proof {
        lint: "duplicate-host",
        probe: Probe::Requests(&[ORDERS, Request::to(From::Plain, "orders.core")]),
        bad: ("bad-same-callers", "orders; orders"),
        good: ("good-other-callers", "orders; orders-canary"),
    },
    Proof {
        lint: "duplicate-host",
        probe: Probe::Requests(&[ORDERS, ORDERS.with(CANARY)]),
        bad: ("bad-exported", "orders; orders"),
        good: ("good-exported", "orders; orders-canary"),
    },
    Proof {
        lint: "duplicate-host",
        probe: Probe::Requests(&[ORDERS, ORDERS.with(CANARY)]),
        bad: ("bad-no-gateways", "orders; orders"),
        good: ("good", "orders; orders-canary"),
    },
    Proof {
        lint: "missing-service",
        probe: Probe::Requests(&[SHOP, SHOP.token("PR-1")]),
        bad: ("bad", "microservice-a; 503"),
        good: ("good", "microservice-a; microservice-a-pr-1"),
    },
    Proof {
        lint: "missing-service",
        probe: Probe::Requests(&[SHOP, SHOP.token("PR-1")]),
        bad: ("bad-http-route", "microservice-a; 500"),
        good: ("good-http-route", "microservice-a; microservice-a-pr-1"),
    },
    Proof {
        lint: "missing-service",
        probe: Probe::Requests(&[ORDERS, ORDERS.with(CANARY)]),
        bad: ("bad-namespace", "orders; 503"),
        good: ("good-namespace", "orders; orders-canary"),
    },
    Proof {
        lint: "default-missing",
        probe: Probe::Requests(&[SHOP, SHOP.token("PR-2"), SHOP.token("PR-1")]),
        bad: ("bad", "404; 404; microservice-a-pr-1"),
        good: ("good", "microservice-a; microservice-a; microservice-a-pr-1"),
    },
    Proof {
        lint: "default-missing",
        probe: Probe::Requests(&[SHOP, SHOP.token("PR-1")]),
        bad: ("bad-http-route", "404; microservice-a-pr-1"),
        good: ("good-http-route", "microservice-a; microservice-a-pr-1"),
    },
    Proof {
        lint: "default-missing",
        probe: Probe::Requests(&[SHOP, SHOP.by("POST")]),
        bad: ("bad-http-route-method", "microservice-a; 404"),
        good: ("good-http-route", "microservice-a; microservice-a"),
    },
    Proof {
        lint: "default-missing",
        probe: Probe::Requests(&[ORDERS, ORDERS.token("PR-1")]),
        bad: ("bad-delegate", "404; orders-pr-1"),
        good: ("good-delegate", "orders; orders-pr-1"),
    },
    Proof {
        lint: "default-missing",
        probe: Probe::Unvalidated(&[SHOP]),
        bad: ("bad", "404"),
        good: ("good-unknown-field", "microservice-a"),
    },
    Proof {
        lint: "default-not-last",
        probe: Probe::Requests(&[SHOP.token("PR-1")]),
        bad: ("bad", "microservice-a"),
        good: ("good", "microservice-a-pr-1"),
    },
    Proof {
        lint: "default-not-last",
        probe: Probe::Requests(&[ORDERS.on("/api")]),
        bad: ("bad-star", "orders"),
        good: ("good-star", "api"),
    },
    Proof {
        lint: "header-not-stripped",
        probe: Probe::Requests(&[SHOP.with(FORGED).shows(&["microservice-a"])]),
        bad: ("bad", "microservice-a-pr-1 with microservice-a: PR-1"),
        good: ("good", "microservice-a without microservice-a"),
    },
    Proof {
        lint: "header-not-stripped",
        probe: Probe::Requests(&[Request::to(From::Deployment, "microservice-a.shop").with(FORGED)]),
        bad: ("bad-caller", "microservice-a-pr-1"),
        good: ("good-caller", "microservice-a"),
    },
    Proof {
        lint: "header-not-stripped",
        probe: Probe::Requests(&[Request::to(From::Deployment, "microservice-a.shop").with(FORGED)]),
        bad: ("bad-caller-namespace", "microservice-a-pr-1"),
        good: ("good-caller-namespace", "microservice-a"),
    },
    Proof {
        lint: "header-not-stripped",
        probe: Probe::Requests(&[Request::to(From::Gateway, "microservice-a.shop.svc.cluster.local").with(FORGED)]),
        bad: ("bad-gateway", "microservice-a-pr-1"),
        good: ("good-gateway", "microservice-a"),
    },
    Proof {
        lint: "token-not-forwarded",
        probe: Probe::Requests(&[GATEWAY.signed("PR-1").shows(&["microservice-a", "authorization"])]),
        bad: ("bad", "microservice-a without microservice-a without authorization"),
        good: ("good", "microservice-a with microservice-a: PR-1 with authorization: Bearer TOKEN"),
    },
    Proof {
        lint: "token-not-forwarded",
        probe: Probe::Requests(&[GATEWAY.signed("PR-1").shows(&["microservice-a"])]),
        bad: ("bad-format", "microservice-a without microservice-a"),
        good: ("good-payload", "microservice-a with microservice-a: PR-1"),
    },
    Proof {
        lint: "token-not-forwarded",
        probe: Probe::Requests(&[GATEWAY.signed("PR-1").shows(&["microservice-a"])]),
        bad: ("bad-other-output", "microservice-a without microservice-a"),
        good: ("good-payload", "microservice-a with microservice-a: PR-1"),
    },
    Proof {
        lint: "token-not-forwarded",
        probe: Probe::Requests(&[GATEWAY.signed("PR-1").shows(&["microservice-a"])]),
        bad: ("bad-all-proxies", "microservice-a without microservice-a"),
        good: ("good", "microservice-a with microservice-a: PR-1"),
    },
    Proof {
        lint: "token-not-forwarded",
        probe: Probe::Requests(&[GATEWAY.signed("PR-1").shows(&["microservice-a"])]),
        bad: ("bad-false", "microservice-a without microservice-a"),
        good: ("good", "microservice-a with microservice-a: PR-1"),
    },
    Proof {
        lint: "token-not-forwarded",
        probe: Probe::Requests(&[INBOUND.signed("PR-1").shows(&["authorization"])]),
        bad: ("bad-workload", "client without authorization"),
        good: ("good-other-workloads", "client with authorization: Bearer TOKEN"),
    },
    Proof {
        lint: "token-not-verified",
        probe: Probe::Requests(&[GATEWAY.token("PR-1").shows(&["microservice-a"])]),
        bad: ("bad", "microservice-a with microservice-a: PR-1"),
        good: ("good", "401"),
    },
    Proof {
        lint: "token-not-verified",
        probe: Probe::Requests(&[GATEWAY.token("PR-1").shows(&["microservice-a"])]),
        bad: ("bad-other-proxies", "microservice-a with microservice-a: PR-1"),
        good: ("good", "401"),
    },
    Proof {
        lint: "source-not-verified",
        probe: Probe::Requests(&[GATEWAY.with(FORGED_COOKIE).shows(&["microservice-a"])]),
        bad: ("bad", "microservice-a with microservice-a: PR-1"),
        good: ("good", "401"),
    },
    Proof {
        lint: "source-not-verified",
        probe: Probe::Requests(&[GATEWAY.with(FORGED_IN_HEADER).shows(&["microservice-a"])]),
        bad: ("bad-header", "microservice-a with microservice-a: PR-1"),
        good: ("good-header", "401"),
    },
    Proof {
        lint: "source-not-verified",
        probe: Probe::Requests(&[GATEWAY.with(FORGED_IN_HEADER).shows(&["microservice-a"])]),
        bad: ("bad-prefix", "microservice-a with microservice-a: PR-1"),
        good: ("good-header", "401"),
    },
    Proof {
        lint: "source-not-verified",
        probe: Probe::Requests(&[GATEWAY.signed("PR-2").with(FORGED_COOKIE).shows(&["microservice-a"])]),
        bad: ("bad-rule", "microservice-a with microservice-a: PR-1"),
        good: ("good-rules", "401"),
    },
    Proof {
        lint: "source-not-verified",
        probe: Probe::Requests(&[GATEWAY.with(FORGED_CHOICE).shows(&["microservice-a"])]),
        bad: ("bad-baggage", "microservice-a with microservice-a: PR-1"),
        good: ("good-carry", "microservice-a without microservice-a"),
    },
    Proof {
        lint: "source-not-verified",
        probe: Probe::Requests(&[SHOP.with(FORGED_VERIFIED).shows(&["microservice-a"])]),
        bad: ("bad-sidecar", "microservice-a with microservice-a: PR-1"),
        good: ("good-sidecar", "microservice-a without microservice-a"),
    },
    Proof {
        lint: "source-not-verified",
        probe: Probe::Requests(&[SHOP.with(FORGED_VERIFIED).shows(&["microservice-a"])]),
        bad: ("bad-plugin", "microservice-a with microservice-a: PR-1"),
        good: ("good-plugin", "microservice-a without microservice-a"),
    },
    Proof {
        lint: "issuer-unknown",
        probe: Probe::Requests(&[
            Request::to(From::AnotherProxy, "client.client").signed("PR-1"),
            Request::to(From::AnotherProxy, "client.client"),
        ]),
        bad: ("bad", "401; client"),
        good: ("good", "client; client"),
    },
    Proof {
        lint: "plugin-mode",
        probe: Probe::Requests(&[INBOUND]),
        bad: ("bad", "client without microservice-a"),
        good: ("good", "client with microservice-a: PR-1"),
    },
    Proof {
        lint: "plugin-mode",
        probe: Probe::Requests(&[INBOUND, SHOP.with(FORGED).shows(&["microservice-a"])]),
        bad: ("bad-server", "client without microservice-a; microservice-a with microservice-a: PR-1"),
        good: ("good", "client with microservice-a: PR-1; microservice-a without microservice-a"),
    },
    Proof {
        lint: "plugin-mode",
        probe: Probe::Requests(&[INBOUND]),
        bad: ("bad-traffic-extension", "client without microservice-a"),
        good: ("good-traffic-extension", "client with microservice-a: PR-1"),
    },
    Proof {
        lint: "fail-open",
        probe: Probe::AfterTrap(SHOP.with(FORGED).shows(&["microservice-a"])),
        bad: ("bad", "503; microservice-a with microservice-a: PR-1"),
        good: ("good", "503; 503"),
    },
    Proof {
        lint: "fail-open",
        probe: Probe::AfterTrap(SHOP.with(FORGED).shows(&["microservice-a"])),
        bad: ("bad-envoy-filter", "503; microservice-a with microservice-a: PR-1"),
        good: ("good-envoy-filter", "503; 503"),
    },
    // With the older setting, even the request that traps passes.
    Proof {
        lint: "fail-open",
        probe: Probe::AfterTrap(SHOP.with(FORGED).shows(&["microservice-a"])),
        bad: (
            "bad-envoy-filter-1-24",
            "microservice-a without microservice-a; microservice-a with microservice-a: PR-1",
        ),
        good: ("good-envoy-filter", "503; 503"),
    },
    Proof {
        lint: "module-fails-open",
        probe: Probe::Requests(&[SHOP.with(FORGED).shows(&["microservice-a"])]),
        bad: ("bad", "microservice-a with microservice-a: PR-1"),
        good: ("good", "Envoy refuses it; microservice-a without microservice-a"),
    },
    Proof {
        lint: "module-fails-open",
        probe: Probe::Requests(&[SHOP.with(FORGED).shows(&["microservice-a"])]),
        bad: ("bad-false", "microservice-a with microservice-a: PR-1"),
        good: ("good", "Envoy refuses it; microservice-a without microservice-a"),
    },
    Proof {
        lint: "value-never-matches",
        probe: Probe::Requests(&[SHOP.token("PR 1"), SHOP.token("PR-1"), SHOP.with(&[("microservice-a", "PR 1")])]),
        bad: ("bad", "microservice-a; microservice-a; microservice-a"),
        good: ("good", "microservice-a; microservice-a-pr-1; microservice-a"),
    },
    Proof {
        lint: "value-never-matches",
        probe: Probe::Requests(&[SHOP.token("PR-1-"), SHOP.token("PR-1")]),
        bad: ("bad-http-route", "microservice-a; microservice-a"),
        good: ("good-http-route", "microservice-a; microservice-a-pr-1"),
    },
    Proof {
        lint: "value-never-matches",
        probe: Probe::Requests(&[ORDERS, ORDERS.with(&[("x-user", "alice")])]),
        bad: ("bad-without", "orders; orders"),
        good: ("good-without", "orders-public; orders"),
    },
    Proof {
        lint: "filter-priority",
        probe: Probe::Order,
        bad: ("bad", "the older one is first"),
        good: ("good", "always the same order"),
    },
    Proof {
        lint: "filter-priority",
        probe: Probe::Order,
        bad: ("bad-same", "the older one is first"),
        good: ("good-one-priority", "always the same order"),
    },
    Proof {
        lint: "filter-priority",
        probe: Probe::Order,
        bad: ("bad-zero", "the older one is first"),
        good: ("good-root-namespace", "always the same order"),
    },
    Proof {
        lint: "policy-invalid",
        probe: Probe::Requests(&[SHOP_A_B]),
        bad: ("bad", "microservice-a with a: forged without b"),
        good: ("good", "microservice-a without a with b: forged"),
    },
    Proof {
        lint: "policy-invalid",
        probe: Probe::Requests(&[SHOP_A_B]),
        bad: ("bad-limits", "microservice-a with a: forged without b"),
        good: ("good", "microservice-a without a with b: forged"),
    },
    Proof {
        lint: "policy-invalid",
        probe: Probe::Requests(&[SHOP_A_B]),
        bad: ("bad-no-config", "microservice-a with a: forged without b"),
        good: ("good", "microservice-a without a with b: forged"),
    },
    Proof {
        lint: "policy-invalid",
        probe: Probe::Requests(&[SHOP_A_B]),
        bad: ("bad-envoy-filter-wasm", "Envoy refuses it; microservice-a with a: forged without b"),
        good: ("good", "microservice-a without a with b: forged"),
    },
    Proof {
        lint: "filter-position",
        probe: Probe::Requests(&[SHOP_A_B]),
        bad: ("bad", "Envoy refuses it; microservice-a with a: forged without b"),
        good: ("good", "microservice-a without a with b: forged"),
    },
    Proof {
        lint: "filter-position",
        probe: Probe::Requests(&[SHOP_A_B]),
        bad: ("bad-add", "Envoy refuses it; microservice-a with a: forged without b"),
        good: ("good", "microservice-a without a with b: forged"),
    },
    Proof {
        lint: "filter-position",
        probe: Probe::Requests(&[SHOP_A_B, INBOUND.with(&[("a", "set")]).shows(&["a"])]),
        bad: ("bad-any", "microservice-a without a with b: forged; client without a"),
        good: ("good", "microservice-a without a with b: forged; client with a: set"),
    },
    Proof {
        lint: "filter-position",
        probe: Probe::Requests(&[GATEWAY.with(FORGED_PAYLOAD).shows(&["microservice-a"])]),
        bad: ("bad-gateway-first", "microservice-a with microservice-a: PR-1"),
        good: ("good-gateway", "microservice-a without microservice-a"),
    },
    Proof {
        lint: "filter-position",
        probe: Probe::Requests(&[GATEWAY.with(FORGED_PAYLOAD).shows(&["microservice-a"])]),
        bad: ("bad-authn-traffic-extension", "microservice-a with microservice-a: PR-1"),
        good: ("good-gateway", "microservice-a without microservice-a"),
    },
    Proof {
        lint: "filter-position",
        probe: Probe::Requests(&[SHOP_A_B]),
        bad: ("bad-inbound", "microservice-a with a: forged with b: forged"),
        good: ("good", "microservice-a without a with b: forged"),
    },
    Proof {
        lint: "filter-position",
        probe: Probe::Requests(&[SHOP_A_B]),
        bad: ("bad-network", "Envoy refuses it; microservice-a with a: forged without b"),
        good: ("good", "microservice-a without a with b: forged"),
    },
    Proof {
        lint: "filter-position",
        probe: Probe::Requests(&[SHOP_A_B]),
        bad: ("bad-network-plugin", "microservice-a with a: forged without b"),
        good: ("good", "microservice-a without a with b: forged"),
    },
    Proof {
        lint: "filter-position",
        probe: Probe::Requests(&[SHOP_A_B]),
        bad: ("bad-old-manager", "microservice-a with a: forged with b: forged"),
        good: ("good", "microservice-a without a with b: forged"),
    },
    Proof {
        lint: "filter-position",
        probe: Probe::Requests(&[SHOP_A_B]),
        bad: ("bad-old-router", "microservice-a with a: forged with b: forged"),
        good: ("good", "microservice-a without a with b: forged"),
    },
    Proof {
        lint: "filter-position",
        probe: Probe::Requests(&[SHOP_A_B]),
        bad: ("bad-replace", "Envoy refuses it; microservice-a with a: forged without b"),
        good: ("good", "microservice-a without a with b: forged"),
    },
    Proof {
        lint: "filter-overridden",
        probe: Probe::Requests(&[SHOP_A]),
        bad: ("bad", "microservice-a with a: forged"),
        good: ("good", "microservice-a without a"),
    },
    Proof {
        lint: "filter-overridden",
        probe: Probe::Requests(&[SHOP_A]),
        bad: ("bad-merge", "microservice-a with a: forged"),
        good: ("good-other-workloads", "microservice-a without a"),
    },
    Proof {
        lint: "filter-overridden",
        probe: Probe::Requests(&[SHOP_A]),
        bad: ("bad-same-priority", "microservice-a with a: forged"),
        good: ("good", "microservice-a without a"),
    },
    Proof {
        lint: "filter-overridden",
        probe: Probe::Requests(&[SHOP_A]),
        bad: ("bad-type", "microservice-a with a: forged"),
        good: ("good-other-filter", "microservice-a without a"),
    },
    refused("invalid-value", API_SERVER, "bad", "good"),
    refused("invalid-value", API_SERVER, "bad-context", "good"),
    refused("invalid-value", API_SERVER, "bad-mode", "good"),
    refused("invalid-value", API_SERVER, "bad-operation", "good"),
    refused("invalid-value", API_SERVER, "bad-script", "good-script"),
    refused("invalid-value", API_SERVER, "bad-strategy", "good"),
    Proof {
        lint: "variant-expired",
        probe: Probe::Rendered,
        bad: ("bad", "`render` refuses it"),
        good: ("good", "rendered"),
    },
    Proof {
        lint: "object-size",
        probe: Probe::Stored,
        bad: ("bad", "the API server refuses it"),
        good: ("good", "stored"),
    },
    Proof {
        lint: "object-size",
        probe: Probe::Stored,
        bad: ("bad-config-map", "the API server refuses it"),
        good: ("good", "stored"),
    },
    refused("http-route-limits", API_SERVER, "bad", "good"),
    refused("http-route-limits", API_SERVER, "bad-matches", "good-matches"),
    refused("http-route-limits", API_SERVER, "bad-matches-of-rule", "good-matches-of-rule"),
    Proof {
        lint: "cross-namespace-backend",
        probe: Probe::Requests(&[Request::to(From::Entry, "shop.example")]),
        bad: ("bad", "500"),
        good: ("good", "microservice-a"),
    },
    Proof {
        lint: "subset-missing",
        probe: Probe::Requests(&[SHOP]),
        bad: ("bad", "503"),
        good: ("good", "microservice-a"),
    },
    Proof {
        lint: "variant-is-default",
        probe: Probe::Requests(&[SHOP, SHOP.token("PR-1")]),
        bad: ("bad", "microservice-a-pr-1; microservice-a-pr-1"),
        good: ("good", "microservice-a; microservice-a-pr-1"),
    },
    Proof {
        lint: "variant-is-default",
        probe: Probe::Requests(&[SHOP, SHOP.token("PR-1")]),
        bad: ("bad-http-route", "microservice-a-pr-1; microservice-a-pr-1"),
        good: ("good-http-route", "microservice-a; microservice-a-pr-1"),
    },
    refused("wrong-type", API_SERVER, "bad", "good"),
    refused("wrong-type", API_SERVER, "bad-http-route", "good-http-route"),
    refused("wrong-type", API_SERVER, "bad-kind-of-match", "good"),
    refused("wrong-type", API_SERVER, "bad-label", "good-label"),
    refused("wrong-type", API_SERVER, "bad-match", "good"),
    // `kubectl create` removes what is null.
    Proof {
        lint: "wrong-type",
        probe: Probe::Unvalidated(&[ORDERS]),
        bad: ("bad-null-match", "orders-canary"),
        good: ("good-match", "orders"),
    },
    refused("wrong-type", API_SERVER, "bad-bool", "good"),
    refused("wrong-type", API_SERVER, "bad-plugin-config", "good"),
    refused("wrong-type", API_SERVER, "bad-two-kinds", "good"),
    Proof {
        lint: "null-field",
        probe: Probe::Stored,
        bad: ("bad", "the API server refuses it"),
        good: ("good", "stored"),
    },
    Proof {
        lint: "null-field",
        probe: Probe::Stored,
        bad: ("bad-http-route", "the API server refuses it"),
        good: ("good", "stored"),
    },
    Proof {
        lint: "null-field",
        probe: Probe::Stored,
        bad: ("bad-condition", "the API server refuses it"),
        good: ("good", "stored"),
    },
    Proof {
        lint: "null-field",
        probe: Probe::Unvalidated(&[ORDERS.with(&[("x-canary", "no")])]),
        bad: ("bad-condition", "orders-canary"),
        good: ("good-match", "orders"),
    },
    refused("unknown-field", API_SERVER, "bad", "good"),
    Proof {
        lint: "unknown-field",
        probe: Probe::Unvalidated(&[ORDERS]),
        bad: ("bad", "orders-canary"),
        good: ("good-match", "orders"),
    },
    refused("unknown-field", API_SERVER, "bad-filter", "good-filter"),
    refused("unknown-field", API_SERVER, "bad-http-route", "good"),
    refused("unknown-field", API_SERVER, "bad-match", "good-of-envoy"),
    refused("unknown-field", API_SERVER, "bad-plugin", "good-filter"),
    refused("unknown-field", API_SERVER, "bad-plugin-selector", "good-filter"),
    refused("refused-match", ISTIO, "bad", "good"),
    refused("refused-match", ISTIO, "bad-empty-prefix", "good"),
    refused("refused-match", ISTIO, "bad-star", "good"),
    Proof {
        lint: "refused-match",
        probe: Probe::Requests(&[ORDERS.with(CANARY)]),
        bad: ("bad-http-route", "Envoy refuses it; details"),
        good: ("good-http-route", "orders-canary"),
    },
    Proof {
        lint: "refused-match",
        probe: Probe::Requests(&[Request::to(From::Gateway, "orders.core.svc.cluster.local").signed("PR-1")]),
        bad: ("bad-claim", "Envoy refuses it; 404"),
        good: ("good-claim", "orders-beta"),
    },
    refused("refused-route", ISTIO, "bad", "good"),
    refused("refused-route", API_SERVER, "bad-method", "good"),
    refused("refused-route", API_SERVER, "bad-names", "good"),
    refused("refused-route", ISTIO, "bad-percentage", "good-names"),
    refused("refused-route", ISTIO, "bad-status", "good-names"),
    refused("refused-route", API_SERVER, "bad-parents", "good"),
    refused("refused-route", API_SERVER, "bad-path", "good"),
    refused("refused-route", API_SERVER, "bad-port", "good"),
    refused("refused-route", ISTIO, "bad-claim-beside-mesh", "good-names"),
    refused("refused-route", ISTIO, "bad-claim-in-mesh", "good-names"),
    refused("refused-route", ISTIO, "bad-conflict", "good-names"),
    refused("refused-route", ISTIO, "bad-delegate", "good-names"),
    refused("refused-route", ISTIO, "bad-export", "good-names"),
    refused("refused-route", ISTIO, "bad-export-to-nobody", "good-names"),
    refused("refused-route", ISTIO, "bad-gateway", "good-names"),
    refused("refused-route", ISTIO, "bad-gateway-of-match", "good-names"),
    refused("refused-route", API_SERVER, "bad-grpc-method", "good-names"),
    refused("refused-route", ISTIO, "bad-hosts", "good-names"),
    refused("refused-route", ISTIO, "bad-no-action", "good-names"),
    Proof {
        lint: "unsupported-parent",
        probe: Probe::Requests(&[ORDERS]),
        bad: ("bad", "orders"),
        good: ("good", "orders-canary"),
    },
    Proof {
        lint: "unsupported-parent",
        probe: Probe::Requests(&[ORDERS]),
        bad: ("bad-grpc", "orders"),
        good: ("good-grpc", "orders-canary"),
    },
    Proof {
        lint: "rule-unreachable",
        probe: Probe::Requests(&[ORDERS.on("/orders/42")]),
        bad: ("bad", "orders"),
        good: ("good", "details"),
    },
    Proof {
        lint: "rule-unreachable",
        probe: Probe::Requests(&[ORDERS.on("/orders/42")]),
        bad: ("bad-merged", "orders"),
        good: ("good", "details"),
    },
    pulled("wasm-unpinned", ("bad", "first module; second module"), ("good", "first module; 403")),
    pulled(
        "wasm-unpinned",
        ("bad-envoy-filter", "first module; second module"),
        ("good-envoy-filter", "first module; 403"),
    ),
    pulled("tag-moves", ("bad", "first module; second module"), ("good", "first module; first module")),
    pulled("tag-moves", ("bad-sha256", "first module; 403"), ("good-tag-and-digest", "first module; first module")),
    pulled("oci-sha256", ("bad", "403; 403"), ("good", "first module; first module")),
    pulled("oci-sha256", ("bad-extension", "403; 403"), ("good", "first module; first module")),
    pulled("pull-can-deny", ("bad", "403; 403"), ("good-file", "first module; first module")),
    pulled("pull-can-deny", ("bad-http", "403; 403"), ("good-file", "first module; first module")),
    pulled("pull-can-deny", ("bad-envoy-filter", "403; 403"), ("good-fails-open", "unfiltered; unfiltered")),
];

const fn refused(lint: &'static str, by: &'static str, bad: &'static str, good: &'static str) -> Proof {
    Proof { lint, probe: Probe::Refused, bad: (bad, by), good: (good, "accepted") }
}

const fn pulled(lint: &'static str, bad: (&'static str, &'static str), good: (&'static str, &'static str)) -> Proof {
    Proof { lint, probe: Probe::Pulled, bad, good }
}

const API_SERVER: &str = "the API server refuses it";
const ISTIO: &str = "Istio refuses it";
const SHOP: Request = Request::to(From::Client, "microservice-a.shop");
const SHOP_A: Request = SHOP.with(&[("a", "forged")]).shows(&["a"]);
/// The fixture before has a policy with `b`.
const SHOP_A_B: Request = SHOP.with(&[("a", "forged"), ("b", "forged")]).shows(&["a", "b"]);
const ORDERS: Request = Request::to(From::Client, "orders.core");
const GATEWAY: Request = Request::to(From::Gateway, AT_GATEWAY);
/// As another proxy sends it: its filter has set the header.
const INBOUND: Request = Request::to(From::AnotherProxy, "client.client").with(FORGED).shows(&["microservice-a"]);
const FORGED: &[(&str, &str)] = &[("microservice-a", "PR-1")];
/// The payload `{"microservice-A":"PR-1"}`.
const FORGED_PAYLOAD: &[(&str, &str)] = &[("x-payload", "eyJtaWNyb3NlcnZpY2UtQSI6IlBSLTEifQ")];
/// The same in other places, in the token `e30.….`.
const FORGED_COOKIE: &[(&str, &str)] = &[("cookie", "qa=e30.eyJtaWNyb3NlcnZpY2UtQSI6IlBSLTEifQ.")];
const FORGED_IN_HEADER: &[(&str, &str)] = &[("x-token", "e30.eyJtaWNyb3NlcnZpY2UtQSI6IlBSLTEifQ.")];
const FORGED_CHOICE: &[(&str, &str)] = &[("baggage", "qa=eyJtaWNyb3NlcnZpY2UtQSI6IlBSLTEifQ")];
const FORGED_VERIFIED: &[(&str, &str)] = &[("routing-claims-payload", "eyJtaWNyb3NlcnZpY2UtQSI6IlBSLTEifQ")];
const CANARY: &[(&str, &str)] = &[("x-canary", "yes")];
