//! `cargo xtask gen`: the pages of `docs/` and the files of `deploy/` that come from the code.

mod prometheus;

use std::{fmt::Write as _, fs, path::Path, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use controller::rbac::{self, Rule};
use manifest_gen::yaml;
use routing_claims::{CarryFault, ClaimFault, Description, Outcome, PolicyConfig};
use serde_json::Value;
use similar::TextDiff;
use testbed::workspace_dir;

/// Writes the files that are generated from the code.
#[derive(Parser)]
#[command(name = "cargo xtask gen", bin_name = "cargo xtask gen")]
struct Args {
    /// Write nothing; fail and show the difference when a file is out of date.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    match run(Args::parse().check) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(check: bool) -> Result<()> {
    let schema = serde_json::to_value(schemars::schema_for!(PolicyConfig))?;
    let filter_rules = prometheus::filter_rules()?;
    let [plans, variants] = controller::definitions::all();
    let pages = [
        ("docs/outcomes.md", outcomes()?),
        ("docs/policy.md", policy(&schema)?),
        ("docs/policy.schema.json", format!("{schema:#}\n")),
        ("crates/routing-claims/behaviour.md", behaviour()?),
        ("docs/lints.md", manifest_gen::docs::lints_markdown()),
        ("docs/cli.md", manifest_gen::docs::cli_markdown()),
        ("docs/plan.schema.json", manifest_gen::docs::plan_schema()),
        ("docs/variant.schema.json", manifest_gen::docs::variant_schema()),
        ("docs/compatibility.md", compatibility()?),
        ("deploy/monitoring/rules.yaml", prometheus::resource("istio-system", "routing-claims", &filter_rules)),
        (
            "deploy/monitoring/controller-rules.yaml",
            prometheus::resource("routing-claims", "routing-claims-controller", prometheus::CONTROLLER_RULES),
        ),
        ("deploy/chart/routing-claims/files/filter-rules.yaml", filter_rules),
        ("deploy/chart/routing-claims/files/controller-rules.yaml", prometheus::CONTROLLER_RULES.to_owned()),
        ("deploy/chart/routing-claims/files/dashboard.json", read("deploy/monitoring/dashboard.json")?),
        ("deploy/chart/routing-claims/files/cluster-role.yaml", rules(rbac::CLUSTER_ROLE)?),
        ("deploy/chart/routing-claims/files/cluster-role-drain.yaml", rules(rbac::CLUSTER_ROLE_DRAIN)?),
        ("deploy/chart/routing-claims/files/role.yaml", rules(rbac::ROLE)?),
        ("deploy/chart/routing-claims/crds/routingplans.yaml", definition(&plans)),
        ("deploy/chart/routing-claims/crds/routingvariants.yaml", definition(&variants)),
    ];
    let mut stale = Vec::new();
    for (name, text) in pages {
        let path = workspace_dir().join(name);
        if check {
            let found = fs::read_to_string(&path).unwrap_or_default();
            if found != text {
                println!(
                    "{}",
                    TextDiff::from_lines(&found, &text).unified_diff().header(name, "what would be written")
                );
                stale.push(name);
            }
        } else {
            write(&path, &text)?;
        }
    }
    if !stale.is_empty() {
        bail!("{} not what the code says; run `cargo xtask gen`", stale.join(", "));
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::create_dir_all(path.parent().context("a file in a folder")?)?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The rules for the core's package and its documentation, which can't reach `docs/`.
fn behaviour() -> Result<String> {
    let page = fs::read_to_string(workspace_dir().join("docs/behaviour.md"))?;
    let links = [("](policy.md)", "](crate::PolicyConfig)"), ("](outcomes.md)", "](crate::Outcome)")];
    let page = links.iter().fold(page, |page, (page_link, item)| page.replace(page_link, item));
    Ok(format!("<!-- Copied by `cargo xtask gen` from docs/behaviour.md. -->\n\n{page}"))
}

fn outcomes() -> Result<String> {
    let mut page = String::from(OUTCOMES);
    writeln!(page, "\n## Outcomes\n\nOne per request.")?;
    for outcome in Outcome::ALL {
        describe(&mut page, outcome.code(), outcome.description())?;
    }
    writeln!(page, "\n## Claim faults\n\nOne claim was skipped. The other claims of the token are not affected.")?;
    for fault in ClaimFault::ALL {
        describe(&mut page, fault.code(), fault.description())?;
    }
    writeln!(
        page,
        "\n## Faults of the carrier\n\nThe choice does not travel to the next hop. The request itself is routed by it."
    )?;
    for fault in CarryFault::ALL {
        describe(&mut page, fault.code(), fault.description())?;
    }
    Ok(page)
}

fn describe(page: &mut String, code: &str, Description { meaning, cause, remedy, .. }: Description) -> Result<()> {
    writeln!(page, "\n### `{code}`\n\n{meaning}\n\n- **Cause:** {cause}\n- **Remedy:** {remedy}")?;
    Ok(())
}

fn policy(schema: &Value) -> Result<String> {
    let mut page = String::from(POLICY);
    writeln!(page, "\n## Fields\n")?;
    fields(&mut page, schema, schema)?;
    for (name, of) in [
        ("HeaderSourceConfig", "an entry of `fromHeaders`"),
        ("CarryConfig", "`carry`"),
        ("ServiceConfig", "an entry of `services`"),
        ("LimitsConfig", "`limits`"),
    ] {
        writeln!(page, "\n### Fields of {of}\n")?;
        fields(&mut page, schema, &schema["$defs"][name])?;
    }
    page.push_str(POLICY_END);
    page.push_str(POLICY_CARRY);
    Ok(page)
}

/// A custom resource definition.
fn definition(definition: &Value) -> String {
    // `helm show crds` of Helm 3 puts nothing between two files.
    let head = "---\n# Generated by `cargo xtask gen` from crates/controller/src/definitions.rs.\n";
    format!("{head}{}", yaml::write::write(definition))
}

/// The runs that `cargo xtask e2e --record` recorded.
fn compatibility() -> Result<String> {
    let runs = fs::read_to_string(workspace_dir().join("crates/e2e/compatibility.json"))?;
    let runs: Vec<Value> = serde_json::from_str(&runs)?;
    let mut page = String::from(COMPATIBILITY);
    for run in &runs {
        let versions = &run["versions"];
        for version in [&run["istio"], &versions["envoy"], &versions["kubernetes"], &versions["gatewayApi"]] {
            write!(page, "| {} ", version.as_str().context("a version is text")?)?;
        }
        for names in [&run["filters"], &run["routes"]] {
            let names: Vec<_> = names.as_array().context("a list of names")?.iter().filter_map(Value::as_str).collect();
            write!(page, "| {} ", names.join(", "))?;
        }
        writeln!(page, "| {} |", run["passed"])?;
    }
    page.push_str(COMPATIBILITY_END);
    Ok(page)
}

/// Rules of a role, each with its reason.
fn rules(rules: &[Rule]) -> Result<String> {
    let mut text = String::from(ROLE);
    for rule in rules {
        write!(text, "# {}", rule.why)?;
        for (index, (key, value)) in rule.to_json().as_object().context("a rule is an object")?.iter().enumerate() {
            let value = value.to_string().replace("\",\"", "\", \"");
            write!(text, "\n{} {key}: {value}", if index == 0 { "-" } else { " " })?;
        }
        text.push('\n');
    }
    Ok(text)
}

fn read(name: &str) -> Result<String> {
    fs::read_to_string(workspace_dir().join(name)).with_context(|| format!("cannot read {name}"))
}

/// A table of an object's fields, in their order.
fn fields(page: &mut String, schema: &Value, object: &Value) -> Result<()> {
    writeln!(page, "| field | type | default | meaning |\n|---|---|---|---|")?;
    let required = object["required"].as_array();
    for (name, field) in object["properties"].as_object().context("an object has properties")? {
        let default = match &field["default"] {
            Value::Null if required.is_some_and(|required| required.iter().any(|r| r == name)) => "required".into(),
            Value::Null => "none".into(),
            Value::Object(_) => "see below".into(),
            default => format!("`{default}`"),
        };
        let meaning = field["description"].as_str().context("a field has a description")?.replace('\n', " ");
        writeln!(page, "| `{name}` | {} | {default} | {meaning} |", kind(schema, field)?)?;
    }
    Ok(())
}

/// A field's type in words.
fn kind(schema: &Value, field: &Value) -> Result<String> {
    // An optional object, or null.
    let field = field["anyOf"].get(0).unwrap_or(field);
    if let Some(reference) = field["$ref"].as_str() {
        let target = schema.pointer(reference.trim_start_matches('#')).context("a reference leads somewhere")?;
        let variants = target["oneOf"].as_array().into_iter().flatten();
        let names: Vec<_> =
            variants.map(|variant| format!("`{}`", variant["const"].as_str().unwrap_or_default())).collect();
        return Ok(if names.is_empty() { "object".into() } else { names.join(" or ") });
    }
    let name = match &field["type"] {
        Value::Array(types) => types.iter().find_map(|name| name.as_str().filter(|name| *name != "null")),
        name => name.as_str(),
    };
    match name.context("a field has a type")? {
        "array" => Ok(format!("list of {}", kind(schema, &field["items"])?)),
        "integer" => Ok(format!("{} to {}", field["minimum"], field["maximum"])),
        name => Ok(name.into()),
    }
}

const OUTCOMES: &str = "\
<!-- Generated by `cargo xtask gen` from crates/routing-claims/src/outcome.rs. -->

# Outcomes

What the filter did with a request, and why. The codes are stable. They appear in two places:

- in the report header, for access logs (`reportHeader` of the [policy](policy.md))
- in the counters of the WASM filter and the native module: `routing_claims.<code>`, with `_` for `-`. Envoy shows them as
  `wasmcustom.routing_claims.<code>`, and Prometheus gets them as `routing_claims_<code>`.

Whatever the outcome, the request continues, without the routing headers that the client sent.
";

const POLICY: &str = r#"<!-- Generated by `cargo xtask gen` from crates/routing-claims/src/config.rs. -->

# Policy

A policy configures the filter. It is the same for every engine: JSON in the `pluginConfig` of a `WasmPlugin` or in the
configuration of Envoy's WASM filter or native module, or `spec.policy` of a plan. [policy.schema.json](policy.schema.json) is its JSON Schema.

A policy is in one of two modes. In *listed mode*, `services` lists the services that can be routed. This is the shortest
policy, for tokens such as `{"microservice-A": "PR-1"}`:

```json
{"services": [{"name": "microservice-A"}, {"name": "microservice-B"}]}
```

In *prefix mode*, any service can be routed, to a header that starts with `headerPrefix`. This policy sets `x-route-cart: PR-7`
for the token `{"sub": "alice", "routing": {"cart": "PR-7"}}`:

```json
{"claimPath": ["routing"], "headerPrefix": "x-route-", "reportHeader": "x-routing-report"}
```

An invalid policy never loads. The error names each invalid field, what was expected and what was found:

    services[0].header: expected a header that a policy may manage, found `x-envoy-a`, which is protected: HTTP or the mesh needs it
"#;

const ROLE: &str = "# Generated by `cargo xtask gen` from crates/controller/src/rbac.rs.\n";

const COMPATIBILITY: &str = "\
<!-- Generated by `cargo xtask gen` from crates/e2e/compatibility.json, which `cargo xtask e2e --record` writes. -->

# Compatibility

## What was run together

Each row is a full run of `cargo xtask e2e --record`: every scenario with every filter and route resource, on a real control plane, and
none failed. The versions are those that `crates/e2e/tools` pins; a test fails if they change without a new run.

| Istio | Envoy | Kubernetes API | Gateway API | filters | routes | scenarios passed |
|---|---|---|---|---|---|---|
";

const COMPATIBILITY_END: &str = "
Istio's Go module has no tagged versions, so each row is a build of that release branch, with a stock Envoy. The proxies of Istio's own
images were not run. What older versions of Istio support is read from their release notes ([istio.md](istio.md)), and the Envoy versions
that each engine was run on are in [engines.md](engines.md).

## What may change

| what | promise |
|---|---|
| plan and variant files, `routing-claims.dev/v1alpha1` | A minor version may add a field, or replace one. It reads the replaced form for two more minor versions and at least six months, and says which field replaces it. After that, the old form is an error that names the new one. `manifest-gen migrate` rewrites old forms. A form is never given a second meaning. |
| the policy (JSON) | As plan files. A filter also reads the policies of the minor version before it, because filters and policies roll out separately. |
| outcomes and faults | A code keeps its meaning. A minor version may add a code. |
| counters, headers, labels and annotations that a mesh sees | Stable. A replaced name is announced one minor version ahead. |
| lint codes, and the JSON of `lint`, `explain` and `diff` | A minor version may add codes and fields. |
| the crate `routing-claims` | Semantic Versioning, checked by cargo-semver-checks in CI. Its `rust-version` may rise with a minor version. |
| the crates `routing-plan`, `lua-filter` and `manifest-gen` as libraries | none before 1.0 |
| rendered resources | The same plan gives the same bytes in patch versions. `manifest-gen diff` shows what an upgrade changes, in a safe order. |
";

const POLICY_END: &str = r"
## Further rules

- **Mode.** Exactly one of `services` and `headerPrefix` is required. The filter can strip a header only if it is listed or has a
  known prefix; a client could set any other header.
- **Prefix mode.** It requires a `claimPath`. Otherwise, `sub` and `email` would become headers.
- **Managed headers.** These are the headers of `services`, all headers under `headerPrefix`, and `reportHeader`. They are lower-case
  and unique, and are not a source of the token. The same is true of `carry.header`, except that it can be a source without a `prefix`.
- **Protected headers.** A managed header cannot be one of `host`, `authorization`, `cookie`, `connection`, `content-length`,
  `content-type`, `transfer-encoding`, `te`, `trailer`, `upgrade`, `expect`, `forwarded`, `via`, `x-request-id`, `traceparent`,
  `tracestate`, `baggage`, `x-envoy-*`, `x-forwarded-*`, `x-istio-*`, `x-b3-*`.
- **`headerPrefix`.** It is 2 to 63 bytes long and ends with `-`. No protected header and no source of the token starts with it, so
  `x-` is not possible.
- **Service names.** They are 1 to 63 bytes long and unique, compared case-insensitively.
- **`exp` and `nbf`.** These are the times of the token. With an empty `claimPath`, they cannot be service names, and a `claimPath`
  cannot start with one of them.
- **Depth.** The routes object is at depth 1 plus the length of `claimPath`, which is at most `limits.maxDepth`.
- **Sources.** At least one source, at most 8 headers, 8 cookies and 8 baggage keys. The `prefix` of a header is printable ASCII without
  commas, and does not start with a space. Cookies and members of `baggage` have fields of their own, so neither header is a source.
- **Carrier.** Exactly one of `carry.baggage` and `carry.header`.
- **Services.** At most 1000.
";

const POLICY_CARRY: &str = r#"
## From hop to hop

Each hop finds the choice in the request, so the request must bring it along. Either every service forwards the token, or the filter
writes the *choice* to a *carrier* that services forward anyway (`carry`). The choice contains the claims that routed and the token's
`exp`. In `baggage`, the choice `{"exp":1800000000,"microservice-A":"PR-1"}` is this member:

    qa=eyJleHAiOjE4MDAwMDAwMDAsIm1pY3Jvc2VydmljZS1BIjoiUFItMSJ9

The choice is not signed and not a credential. [security.md](security.md#the-carrier) says what that means. One policy can be for all
hops: the first hop finds the token and writes the carrier, and later hops find the choice there and leave it as it is.

| your services | the policy, besides `services` or `headerPrefix` |
|---|---|
| forward `Authorization` | `{}` |
| use OpenTelemetry, which forwards `baggage` by itself | `{"fromBaggage": ["qa"], "carry": {"baggage": "qa"}}` |
| the same, and a browser sends the token in a cookie | `{"fromCookies": ["qa"], "fromBaggage": ["qa"], "carry": {"baggage": "qa"}}` |
| the same, and a mobile app sends the token in a header | `{"fromHeaders": [{"name": "x-qa-token"}], "fromBaggage": ["qa"], "carry": {"baggage": "qa"}}` |
| the same, and services send bearer tokens of their own | `{"fromHeaders": [], "fromCookies": ["qa"], "fromBaggage": ["qa"], "carry": {"baggage": "qa"}}` |
| forward a header of your choice | `{"fromHeaders": [{"name": "authorization", "prefix": "Bearer "}, {"name": "x-qa-routes"}], "carry": {"header": "x-qa-routes"}}` |

- **A service's own token wins over `baggage`,** because headers come first. It names no version, so the outcome is `no-routes`. If your
  services have such tokens, `fromHeaders` must not contain `authorization`.
- **A hop whose policy does not have the carrier as a source** removes what the client sent in the carrier, and writes it itself. This is
  what the gateway does if the plan has `authentication`: `render` leaves the carrier out of its sources.
- **A choice can also be set by hand,** in a test or a service: base64url without padding of the JSON above. A value with dots is read as
  a JWT. Do not percent-encode it, and add no `;property`, which OpenTelemetry's SDK for Python encodes into the value.
- **A CORS preflight has neither cookie nor token,** so main answers it. [istio.md](istio.md#from-hop-to-hop) says what follows from that,
  and what OpenTelemetry's SDKs do with `baggage`.
- **`manifest-gen explain --then`** tells from what each service forwards whether the choice reaches a hop, and why not.
- **`carry-too-large`** ([outcomes.md](outcomes.md)) says that the choice did not fit, and later hops use the baseline.
"#;
