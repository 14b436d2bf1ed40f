//! `routing-claims-controller`.

use std::{fs, io::IsTerminal as _, net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, ValueEnum};
use controller::run::{self, Options};
use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Keeps the routes of a mesh: a labelled Service becomes a version that tokens choose.
///
/// Reads plans, variants, Services and their endpoints, and writes what `manifest-gen render` would write. Finds
/// the cluster as kubectl does: by the pod's service account, or by KUBECONFIG.
#[derive(Parser)]
#[command(name = "routing-claims-controller", version, after_help = EXAMPLES)]
struct Args {
    /// Print what would be written, and exit with 0 if that is nothing and with 1 otherwise.
    #[arg(long)]
    dry_run: bool,
    /// Delay the deletion of a variant's Service, by a finalizer, until its route has been gone for this long; 0 removes
    /// finalizers that are left. Default: Services are never written.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=3600))]
    drain_seconds: Option<u64>,
    /// How long proxies take to have a change: routes are written this long after the filter that they need.
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(..=3600))]
    settle_seconds: u64,
    /// Address of `/healthz`, `/readyz` and `/metrics`.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// Namespace of the lease that decides which replica writes. Default: the namespace of the pod.
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE")]
    namespace: Option<String>,
    /// Write without a lease, as the only replica.
    #[arg(long)]
    no_leader_election: bool,
    /// Format of the logs. Default: text on a terminal, else JSON.
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// What is logged: `error`, `warn`, `info`, `debug`, or directives such as `info,kube=debug`.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Json,
    Text,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match start(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

#[tokio::main]
async fn start(args: &Args) -> Result<ExitCode> {
    log(args)?;
    let config = Config::infer().await.context("cannot find a cluster: neither a service account nor a kubeconfig")?;
    let client = Client::try_from(config).context("cannot use the cluster's configuration")?;
    if args.dry_run {
        let text = run::dry_run(&client).await?;
        print!("{text}");
        return Ok(if text.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let options = Options {
        listen: args.listen,
        lease_namespace: if args.no_leader_election { None } else { Some(namespace(args)?) },
        identity: identity(),
        settle: Duration::from_secs(args.settle_seconds),
        drain: args.drain_seconds.map(Duration::from_secs),
    };
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    run::run(client, options, stop).await?;
    Ok(ExitCode::SUCCESS)
}

fn log(args: &Args) -> Result<()> {
    let filter = EnvFilter::try_new(&args.log).with_context(|| format!("--log: cannot read `{}`", args.log))?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let default = if std::io::stderr().is_terminal() { LogFormat::Text } else { LogFormat::Json };
    match args.log_format.unwrap_or(default) {
        LogFormat::Json => logs.json().flatten_event(true).init(),
        LogFormat::Text => logs.init(),
    }
    Ok(())
}

/// Namespace of the lease.
fn namespace(args: &Args) -> Result<String> {
    if let Some(namespace) = &args.namespace {
        return Ok(namespace.clone());
    }
    match fs::read_to_string(NAMESPACE_FILE) {
        Ok(namespace) => Ok(namespace.trim().to_owned()),
        Err(_) => bail!("the namespace of the lease is not known: give `--namespace`, or `--no-leader-election`"),
    }
}

/// A pod's name is its host's name.
fn identity() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}-{}", host.trim(), std::process::id())
}

/// Where Kubernetes tells a pod its namespace.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

const EXAMPLES: &str = "\
Examples:
  routing-claims-controller                                  in a pod, as the chart runs it
  KUBECONFIG=~/.kube/config routing-claims-controller --dry-run
  routing-claims-controller --no-leader-election --listen 127.0.0.1:8080 --drain-seconds 15";
