//! `cargo xtask gen`: the pages of `docs/` that come from the code.

use std::{fmt::Write as _, fs, path::Path, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use routing_claims::{ClaimFault, Description, Outcome, PolicyConfig};
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
    let pages = [
        ("docs/outcomes.md", outcomes()?),
        ("docs/policy.md", policy(&schema)?),
        ("docs/policy.schema.json", format!("{schema:#}\n")),
        ("crates/routing-claims/behaviour.md", behaviour()?),
        ("docs/lints.md", manifest_gen::docs::lints_markdown()),
        ("docs/cli.md", manifest_gen::docs::cli_markdown()),
        ("docs/plan.schema.json", manifest_gen::docs::plan_schema()),
        ("docs/variant.schema.json", manifest_gen::docs::variant_schema()),
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
        ("ServiceConfig", "an entry of `services`"),
        ("LimitsConfig", "`limits`"),
    ] {
        writeln!(page, "\n### Fields of {of}\n")?;
        fields(&mut page, schema, &schema["$defs"][name])?;
    }
    page.push_str(POLICY_END);
    Ok(page)
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

const POLICY_END: &str = r"
## Further rules

- **Mode.** Exactly one of `services` and `headerPrefix` is required. The filter can strip a header only if it is listed or has a
  known prefix; a client could set any other header.
- **Prefix mode.** It requires a `claimPath`. Otherwise, `sub` and `email` would become headers.
- **Managed headers.** These are the headers of `services`, all headers under `headerPrefix`, and `reportHeader`. They are lower-case
  and unique, and are not a source of the token.
- **Protected headers.** A managed header cannot be one of `host`, `authorization`, `cookie`, `connection`, `content-length`,
  `content-type`, `transfer-encoding`, `te`, `trailer`, `upgrade`, `expect`, `forwarded`, `via`, `x-request-id`, `traceparent`,
  `tracestate`, `baggage`, `x-envoy-*`, `x-forwarded-*`, `x-istio-*`, `x-b3-*`.
- **`headerPrefix`.** It is 2 to 63 bytes long and ends with `-`. No protected header and no source of the token starts with it, so
  `x-` is not possible.
- **Service names.** They are 1 to 63 bytes long and unique, compared case-insensitively.
- **`exp` and `nbf`.** These are the times of the token. With an empty `claimPath`, they cannot be service names, and a `claimPath`
  cannot start with one of them.
- **Depth.** The routes object is at depth 1 plus the length of `claimPath`, which is at most `limits.maxDepth`.
- **Sources.** At least one source, at most 8 headers and 8 cookies. The `prefix` of a header is printable ASCII without commas, and
  does not start with a space.
- **Services.** At most 1000.
";
