//! `explain`.

use std::{collections::BTreeMap, path::PathBuf};

use jiff::Timestamp;

use super::{Exit, Format, Result, files, parse_time, print};
use routing_plan::{
    explain::{self, Request},
    manifests::{self, Manifest},
    model::Expiry,
    problem::Problem,
    resources,
};

/// Tell what becomes of a request, from the YAML alone.
///
/// Shows what the filter decides, the headers it sets, the rules of the host in order and why each does not match, and
/// where the request goes. Your own `VirtualService`s and `HTTPRoute`s are followed too. What can't be told is said.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  manifest-gen explain -f plan.yaml --host microservice-a.microservice-a.svc.cluster.local --claims '{\"microservice-A\": \"PR-1\"}'
  manifest-gen explain --manifests rendered/ apps/ --host a.qa.example --gateway istio-system/public --token \"$TOKEN\"")]
pub(super) struct Args {
    /// The plan and its fragments: files, folders of YAML files, or `-` for stdin.
    #[arg(short = 'f', long = "file", value_name = "PATH", required_unless_present = "manifests")]
    files: Vec<PathBuf>,
    /// Manifests: rendered ones, and your own.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    manifests: Vec<PathBuf>,
    /// Host of the request.
    #[arg(long)]
    host: String,
    /// Path of the request.
    #[arg(long, default_value = "/")]
    path: String,
    /// Method of the request.
    #[arg(long, default_value = "GET")]
    method: String,
    /// Port that the request is for.
    #[arg(long)]
    port: Option<u16>,
    /// More header lines.
    #[arg(long, value_name = "NAME: VALUE", value_parser = parse_header)]
    header: Vec<(String, String)>,
    /// The token that the request carries, where the policy looks for it first.
    #[arg(long, conflicts_with = "claims")]
    token: Option<String>,
    /// The payload of that token, as JSON.
    #[arg(long, value_name = "JSON")]
    claims: Option<String>,
    /// The request reaches this gateway, instead of leaving a workload.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    gateway: Option<String>,
    /// Namespace of the workload that sends it.
    #[arg(long, value_name = "NAMESPACE")]
    from_namespace: Option<String>,
    /// Labels of the workload that sends it (or of the gateway).
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',', value_parser = parse_label)]
    from_labels: Option<Vec<(String, String)>>,
    /// Judge the token's `exp` and `nbf` at this time (RFC 3339) instead of now.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    now: Option<Timestamp>,
    /// Form of the output.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl Args {
    pub(super) fn run(&self) -> Result<Exit> {
        let mut manifests = manifests::read(&files::read(&self.manifests)?)?;
        if !self.files.is_empty() {
            let mesh = files::mesh(&self.files, Expiry::Keep)?;
            let generated: Vec<_> = resources::generate(&mesh).into_iter().map(Manifest::from).collect();
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
        let request = Request {
            host: self.host.to_ascii_lowercase(),
            path: self.path.clone(),
            method: self.method.clone(),
            headers,
            port: self.port,
            gateway: self.gateway.clone(),
            namespace: self.from_namespace.clone(),
            labels: self.from_labels.clone().map(BTreeMap::from_iter),
        };
        let now = self.now.unwrap_or_else(Timestamp::now).as_second();
        let explanation = explain::explain(&manifests, &request, now);
        match self.format {
            Format::Text => print(&explanation.to_text()),
            // Texts, numbers and lists: always JSON.
            Format::Json => print(&format!("{:#}\n", serde_json::to_value(&explanation).unwrap_or_default())),
        }
    }
}

fn no_filter() -> Vec<Problem> {
    vec![
        Problem::new(
            "no filter of this project is among the manifests, so there is no policy that says where a token stands",
        )
        .help("give the plan with `-f`, or the rendered manifests with `--manifests`"),
    ]
}

fn parse_header(text: &str) -> std::result::Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("a header is `name: value`")?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

fn parse_label(text: &str) -> std::result::Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a label is `key=value`")?;
    Ok((key.to_owned(), value.to_owned()))
}
