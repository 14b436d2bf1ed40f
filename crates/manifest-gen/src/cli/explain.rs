//! `explain`.

use std::{collections::BTreeMap, path::PathBuf};

use jiff::Timestamp;

use routing_plan::{
    diagnostic::{FieldPath, Location},
    explain::{
        self, Caveat, ExplainRequest, Explanation, MeshFacts,
        hops::{self, Call},
    },
    manifests::Manifest,
    resolve::{Expiry, parse_timestamp},
    resources,
};
use serde_json::{Value, json};

use super::{Exit, Format, Result, UnexpectedFormat, files, manifests::ManifestArgs, parse_pair, print, show};
use crate::{
    diagnostic::FileDiagnostic,
    documents::{Documents, ManifestInput},
};

/// Explain where a request goes, from the YAML alone.
///
/// Shows what the filter decides, the headers it sets, the rules of the host in order, why each matches or not, and the
/// destination. Your own `VirtualService`s, `HTTPRoute`s and `GRPCRoute`s count too. Where something is unknown, the output
/// says what is assumed, or that the answer is unknown.
///
/// With `--then`, follows the calls that the services make, and tells the first hop where the choice of the token is lost, why,
/// and what helps.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  manifest-gen explain -f plan.yaml --host microservice-a.microservice-a.svc.cluster.local --claims '{\"microservice-A\": \"PR-1\"}'
  manifest-gen explain --manifests rendered/ apps/ --host a.qa.example --gateway istio-system/public --token \"$TOKEN\"
  manifest-gen explain -f plan.yaml --host a.shop.svc.cluster.local --token \"$TOKEN\" --then 'forwards baggage to b.shop.svc.cluster.local'
  manifest-gen explain -f plan.yaml --host a.qa.example --gateway istio-system/public --header \"cookie: qa=$TOKEN\" \\
    --then 'forwards baggage, own token to b.shop.svc.cluster.local:8080/items' --then 'forwards nothing to c.shop.svc.cluster.local'")]
pub(super) struct Args {
    /// The plan and its variant files: files, folders of YAML files, or `-` for stdin.
    #[arg(short = 'f', long = "file", value_name = "PATH", required_unless_present = "manifests")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    manifests: ManifestArgs,
    /// Host of the request.
    #[arg(long)]
    host: String,
    /// Path of the request.
    #[arg(long, default_value = "/")]
    path: String,
    /// Method of the request.
    #[arg(long, default_value = "GET")]
    method: String,
    /// Port of the request.
    #[arg(long)]
    port: Option<u16>,
    /// Scheme of the request as the proxy sees it.
    #[arg(long, value_parser = ["http", "https"])]
    scheme: Option<String>,
    /// A header line; can be given several times.
    #[arg(long, value_name = "NAME: VALUE", value_parser = parse_header)]
    header: Vec<(String, String)>,
    /// The token of the request, where the policy looks for it first.
    #[arg(long, conflicts_with = "claims")]
    token: Option<String>,
    /// The payload of an unsigned token, as JSON.
    #[arg(long, value_name = "JSON")]
    claims: Option<String>,
    /// What the service that has received the request forwards, and to which host; can be given several times, one for each
    /// further hop: names of headers, `own token` for a bearer token of the service's own, or `nothing`.
    #[arg(long, value_name = "forwards HEADER, … to HOST[:PORT][/PATH]", value_parser = parse_call)]
    then: Vec<Call>,
    /// The gateway that receives the request; default: a workload sends it within the mesh.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    gateway: Option<String>,
    /// Namespace of the workload that sends the request, or of the gateway's workload.
    #[arg(long, value_name = "NAMESPACE")]
    from_namespace: Option<String>,
    /// Labels of the workload that sends the request, or of the gateway's workload.
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',', value_parser = parse_label)]
    from_labels: Option<Vec<(String, String)>>,
    /// Version of the proxy, for an `EnvoyFilter` with a `proxyVersion`.
    #[arg(long, value_name = "VERSION", value_parser = parse_version)]
    istio_version: Option<String>,
    /// The manifests have all resources of the mesh: a Service or a delegate that they do not have does not exist.
    #[arg(long)]
    complete: bool,
    /// `defaultVirtualServiceExportTo` of the mesh's configuration.
    #[arg(long, value_name = "NAMESPACE", value_delimiter = ',')]
    default_export_to: Vec<String>,
    /// Judge the token's `exp` and `nbf` at this time (RFC 3339) instead of now.
    #[arg(long, value_name = "TIME", value_parser = parse_timestamp)]
    now: Option<Timestamp>,
    /// Format of the output.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl Args {
    pub(super) fn run(&self) -> Result<Exit> {
        let mut documents = Documents::default();
        let files = files::read(&self.manifests.manifests)?;
        let ManifestInput { mut manifests, diagnostics, .. } = self.manifests.read(&files, &mut documents);
        if !self.files.is_empty() {
            let plan = files::resolve(&mut documents, &self.files, Expiry::Keep)?;
            let generated: Vec<_> = resources::generate(&plan).into_iter().map(Manifest::from).collect();
            manifests.retain(|manifest| !generated.iter().any(|other| other.id() == manifest.id()));
            manifests.extend(generated);
        }
        let mut headers = self.header.clone();
        if let Some(claims) = &self.claims {
            headers.push(explain::unverified_header(&manifests, claims).ok_or_else(no_filter)?);
        }
        if let Some(token) = &self.token {
            headers.push(explain::header_for(&manifests, token).ok_or_else(no_filter)?);
        }
        let request = ExplainRequest {
            host: self.host.to_ascii_lowercase(),
            path: self.path.clone(),
            method: self.method.clone(),
            headers,
            port: self.port,
            scheme: self.scheme.clone(),
            gateway: self.gateway.clone(),
            namespace: self.from_namespace.clone(),
            labels: self.from_labels.clone().map(BTreeMap::from_iter),
            mesh: MeshFacts {
                istio_version: self.istio_version.clone(),
                is_complete: self.complete,
                default_export_to: self.default_export_to.clone(),
            },
        };
        let now = self.now.unwrap_or_else(Timestamp::now).as_second();
        let add_caveats = |explanation: &mut Explanation| {
            if let Some(assumed) = manifests.iter().find(|manifest| manifest.has_assumed_namespace()) {
                let message = "resources that do not name a namespace are in `default` (--namespace)".into();
                explanation.assumed.push(Caveat { message, location: Some(assumed.location(&FieldPath::default())) });
            }
            if !diagnostics.is_empty() {
                let message = "what the documents contain that are not valid YAML".into();
                explanation.unknown.push(Caveat { message, location: None });
            }
        };
        let place = |location: &Location| documents.span(location).to_string();
        let output = if self.then.is_empty() {
            let mut explanation = explain::explain(&manifests, &request, now);
            add_caveats(&mut explanation);
            match self.format {
                Format::Text => explanation.to_text(&place),
                Format::Json => format!("{:#}\n", located(json!(explanation), &explanation, &place)),
            }
        } else {
            let mut journey = hops::follow(&manifests, &request, &self.then, now);
            journey.hops.iter_mut().for_each(|hop| add_caveats(&mut hop.explanation));
            match self.format {
                Format::Text => journey.to_text(&place),
                Format::Json => {
                    let mut value = json!(journey);
                    for (index, hop) in journey.hops.iter().enumerate() {
                        value["hops"][index] = located(value["hops"][index].take(), &hop.explanation, &place);
                    }
                    format!("{value:#}\n")
                }
            }
        };
        print(&output)?;
        if diagnostics.is_empty() {
            return Ok(Exit::Done);
        }
        show(&diagnostics);
        Ok(Exit::Invalid)
    }
}

/// An explanation as JSON, with the places of its rules and caveats.
fn located(mut value: Value, explanation: &Explanation, place: &dyn Fn(&Location) -> String) -> Value {
    for (index, rule) in explanation.rules.iter().enumerate() {
        value["rules"][index]["location"] = json!(place(&rule.location));
    }
    for (field, caveats) in [("assumed", &explanation.assumed), ("unknown", &explanation.unknown)] {
        for (index, caveat) in caveats.iter().enumerate() {
            value[field][index]["location"] = json!(caveat.location.as_ref().map(place));
        }
    }
    value
}

fn no_filter() -> Vec<FileDiagnostic> {
    vec![
        FileDiagnostic::new("the manifests contain no filter of this project, so it is unknown where a token belongs")
            .with_help("give the plan with `-f`, or the rendered manifests with `--manifests`"),
    ]
}

fn parse_header(text: &str) -> std::result::Result<(String, String), UnexpectedFormat> {
    let (name, value) = parse_pair(text, ':', "name: value")?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

fn parse_label(text: &str) -> std::result::Result<(String, String), UnexpectedFormat> {
    parse_pair(text, '=', "key=value")
}

/// `forwards HEADER, … to HOST[:PORT][/PATH]`.
fn parse_call(text: &str) -> std::result::Result<Call, String> {
    let expected = || format!("expected `forwards HEADER, … to HOST`, such as `{CALL}`");
    let rest = text.trim().strip_prefix("forwards ").ok_or_else(expected)?;
    let (forwarded, to) = rest.rsplit_once(" to ").ok_or_else(expected)?;
    let (authority, path) = to.trim().find('/').map_or((to.trim(), "/"), |at| to.trim().split_at(at));
    let (host, port) = match authority.split_once(':') {
        None => (authority, None),
        Some((host, port)) => {
            let port =
                port.parse().map_err(|_| format!("expected a port from 1 to 65535 after `{host}:`, found `{port}`"))?;
            (host, Some(port))
        }
    };
    let is_host = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    if !is_host {
        return Err(format!("expected a host after `to`, found `{host}`; {}", expected()));
    }
    let mut call = Call {
        host: host.to_ascii_lowercase(),
        port,
        path: path.to_owned(),
        forwards: Vec::new(),
        has_own_token: false,
    };
    if forwarded.trim() == "nothing" {
        return Ok(call);
    }
    for name in forwarded.split(',').map(str::trim) {
        match name {
            "own token" => call.has_own_token = true,
            name if is_header_name(name) => call.forwards.push(name.to_ascii_lowercase()),
            _ => {
                return Err(format!(
                    "expected the name of a header, `own token` or `nothing`, found `{name}`; {}",
                    expected()
                ));
            }
        }
    }
    Ok(call)
}

/// A `token` of RFC 9110, section 5.6.2.
fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// A regular expression may ask for any part of a version, so all of it is needed.
fn parse_version(text: &str) -> std::result::Result<String, &'static str> {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let numbers: Vec<_> = text.split(['.', '-']).take(3).collect();
    if numbers.len() == 3 && numbers.into_iter().all(is_number) {
        Ok(text.to_owned())
    } else {
        Err("expected a whole version, such as 1.31.0")
    }
}

const CALL: &str = "forwards baggage to reviews.shop.svc.cluster.local";
