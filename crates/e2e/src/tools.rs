//! Finds the programs of the control plane: given ones, ones on `PATH`, or ones built from Go modules into the user's cache, which
//! OpenTelemetry's SDKs are installed into too.

use std::{
    env,
    ffi::OsString,
    fmt,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use testbed::Group;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

use crate::opentelemetry;

/// The paths of everything that a control plane needs.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The version of Istio.
    pub istio: Istio,
    /// etcd.
    pub etcd: PathBuf,
    /// The Kubernetes API server.
    pub kube_apiserver: PathBuf,
    /// Kubernetes' command line.
    pub kubectl: PathBuf,
    /// istiod.
    pub pilot_discovery: PathBuf,
    /// Istio's command line.
    pub istioctl: PathBuf,
    /// Istio's agent, which runs in each pod and starts Envoy.
    pub pilot_agent: PathBuf,
    /// The template of the configuration with which the agent starts Envoy.
    pub bootstrap: PathBuf,
    /// Helm 3.
    pub helm_3: PathBuf,
    /// Helm 4.
    pub helm_4: PathBuf,
    /// Prometheus.
    pub prometheus: PathBuf,
    /// A client of registries, which can also be one.
    pub crane: PathBuf,
    /// The folder with OpenTelemetry's SDKs.
    pub opentelemetry: PathBuf,
    /// Folders and files with the resource definitions of Istio and of the Gateway API.
    pub definitions: Vec<PathBuf>,
}

/// A minor version of Istio that this repository can build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Istio {
    /// 1.30.
    #[value(name = "1.30")]
    V1_30,
    /// 1.31, the default.
    #[default]
    #[value(name = "1.31")]
    V1_31,
}

impl fmt::Display for Istio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1_30 => "1.30",
            Self::V1_31 => "1.31",
        })
    }
}

/// Finds each program: the one that its variable names (`ETCD_BIN`, `KUBE_APISERVER_BIN`, `KUBECTL_BIN`, `PILOT_DISCOVERY_BIN`,
/// `ISTIOCTL_BIN`, `PILOT_AGENT_BIN`, `HELM_3_BIN`, `HELM_4_BIN`, `PROMETHEUS_BIN`, `CRANE_BIN`), else a recent enough one on `PATH`, else
/// the one in the cache, which this function builds if necessary.
///
/// The cache is `ROUTING_CLAIMS_TOOLS`, else `routing-claims/tools` in the user's cache folder.
///
/// # Errors
///
/// If a program that a variable names does not exist, Go or Python is missing, or a build or an installation fails.
pub async fn locate(istio: Istio) -> Result<Tools> {
    let have_go = Command::new("go").arg("version").stdin(Stdio::null()).output().await;
    ensure!(
        have_go.is_ok_and(|output| output.status.success()),
        "Go is required to build etcd, kube-apiserver, Istio and Helm; install Go 1.26 or newer (https://go.dev/dl)"
    );
    let istio_module = &*format!("istio-{istio}");
    let line = &*format!("{istio}.");
    let etcd = Program {
        name: "etcd",
        variable: "ETCD_BIN",
        module: "etcd",
        package: "go.etcd.io/etcd/server/v3",
        version: &["--version"],
        recent: "etcd Version: 3.",
    };
    let kube_apiserver = Program {
        name: "kube-apiserver",
        variable: "KUBE_APISERVER_BIN",
        module: "kube-apiserver",
        package: "k8s.io/kubernetes/cmd/kube-apiserver",
        version: &["--version"],
        recent: "Kubernetes v1.3",
    };
    let kubectl = Program {
        name: "kubectl",
        variable: "KUBECTL_BIN",
        module: "kube-apiserver",
        package: "k8s.io/kubernetes/cmd/kubectl",
        version: &["version", "--client"],
        recent: "Client Version: v1.3",
    };
    let of_istio = |name, variable, package, version| Program {
        name,
        variable,
        module: istio_module,
        package,
        version,
        recent: line,
    };
    let version = &["version", "--short"];
    let pilot_discovery =
        of_istio("pilot-discovery", "PILOT_DISCOVERY_BIN", "istio.io/istio/pilot/cmd/pilot-discovery", version);
    let pilot_agent = of_istio("pilot-agent", "PILOT_AGENT_BIN", "istio.io/istio/pilot/cmd/pilot-agent", version);
    let version = &["version", "--remote=false", "--short"];
    let istioctl = of_istio("istioctl", "ISTIOCTL_BIN", "istio.io/istio/istioctl/cmd/istioctl", version);
    let helm = |variable, package, recent| Program {
        name: "helm",
        variable,
        module: "helm",
        package,
        version: &["version", "--short"],
        recent,
    };
    let helm_3 = helm("HELM_3_BIN", "helm.sh/helm/v3/cmd/helm", "v3.");
    let helm_4 = helm("HELM_4_BIN", "helm.sh/helm/v4/cmd/helm", "v4.");
    let prometheus = Program {
        name: "prometheus",
        variable: "PROMETHEUS_BIN",
        module: "prometheus",
        package: "github.com/prometheus/prometheus/cmd/prometheus",
        version: &["--version"],
        recent: "version 3.",
    };
    let crane = Program {
        name: "crane",
        variable: "CRANE_BIN",
        module: "registry",
        package: "github.com/google/go-containerregistry/cmd/crane",
        version: &["version"],
        recent: "0.2",
    };
    let istio_dir = module_dir(istio_module, "istio.io/istio").await?;
    Ok(Tools {
        istio,
        etcd: etcd.find().await?,
        kube_apiserver: kube_apiserver.find().await?,
        kubectl: kubectl.find().await?,
        pilot_discovery: pilot_discovery.find().await?,
        istioctl: istioctl.find().await?,
        pilot_agent: pilot_agent.find().await?,
        bootstrap: istio_dir.join("tools/packaging/common/envoy_bootstrap.json"),
        helm_3: helm_3.find().await?,
        helm_4: helm_4.find().await?,
        prometheus: prometheus.find().await?,
        crane: crane.find().await?,
        opentelemetry: opentelemetry::locate(&cache_dir()?).await?,
        definitions: vec![
            istio_dir.join("manifests/charts/base/files/crd-all.gen.yaml"),
            module_dir(istio_module, "sigs.k8s.io/gateway-api").await?.join("config/crd/standard"),
        ],
    })
}

/// The controller, which this function builds. Without optimization: the program that ships takes minutes to compile.
///
/// # Errors
///
/// If it does not compile.
pub async fn controller() -> Result<PathBuf> {
    build_controller(&[], "debug").await
}

/// The controller as [`controller()`], but optimized, for measurements.
///
/// # Errors
///
/// If it does not compile.
pub async fn optimized_controller() -> Result<PathBuf> {
    build_controller(&["--release"], "release").await
}

async fn build_controller(arguments: &[&str], folder: &str) -> Result<PathBuf> {
    let mut build = testbed::cargo(&["build", "--quiet", "--package", "controller"]);
    let succeeded = Group::spawn(build.args(arguments))?.wait().await?.success();
    ensure!(succeeded, "the controller does not compile (see above)");
    Ok(testbed::target_dir().join(folder).join("routing-claims-controller"))
}

/// A program, and how to find it.
#[derive(Clone, Copy)]
struct Program<'a> {
    name: &'static str,
    /// The environment variable that names an existing one.
    variable: &'static str,
    /// The folder in `tools/` that pins its version.
    module: &'a str,
    package: &'static str,
    /// The arguments that make it print its version, and the text that a recent enough version contains.
    version: &'a [&'a str],
    recent: &'a str,
}

impl Program<'_> {
    async fn find(self) -> Result<PathBuf> {
        let Self { name, variable, module, package, .. } = self;
        if let Some(path) = env::var_os(variable).filter(|path| !path.is_empty()) {
            let path = PathBuf::from(path);
            ensure!(path.is_file(), "{variable} is set to {}, which is not a file", path.display());
            return Ok(path);
        }
        for candidate in env::split_paths(&env::var_os("PATH").unwrap_or_default()).map(|dir| dir.join(name)) {
            if candidate.is_file() {
                if self.is_recent(&candidate).await {
                    return Ok(candidate);
                }
                println!("  skipping {}: expected version `{}`", candidate.display(), self.recent);
            }
        }
        let installed = cache_dir()?.join(format!("{module}-{}", pinned(module, package)?)).join(name);
        if !installed.is_file() {
            build(module, package, &installed).await?;
        }
        Ok(installed)
    }

    async fn is_recent(self, candidate: &Path) -> bool {
        let output = Command::new(candidate).args(self.version).stdin(Stdio::null()).output().await;
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(self.recent))
    }
}

/// Builds a package of a module in `tools/`. After an interrupted build, Go's own cache keeps what was compiled.
async fn build(module: &str, package: &str, to: &Path) -> Result<()> {
    let dir = to.parent().context("the path of a program has a parent")?;
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let lock = File::create(dir.join("lock"))?;
    println!("  building {package} into {}", dir.display());
    // Waits for another run that builds the same program.
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await??;
    if to.is_file() {
        return Ok(());
    }
    println!("  counting its packages (Go downloads the modules the first time)");
    let packages = go(module, &["list", "-deps", "-tags", TAGS, package]).await?.lines().count();
    let new = to.with_extension("new");
    let mut build = go_command(module);
    build.args(["build", "-v", "-trimpath", "-tags", TAGS, "-ldflags", LINK, "-o"]).arg(&new).arg(package);
    let mut group = Group::spawn(build.stdout(Stdio::null()).stderr(Stdio::piped()))?;
    // `-v` prints each package as it is compiled, but not those from the cache.
    let mut lines = BufReader::new(group.stderr().context("the output of `go build` is not piped")?).lines();
    let (begin, mut told, mut compiled, mut errors) = (Instant::now(), Instant::now(), 0, Vec::new());
    while let Some(line) = lines.next_line().await? {
        if line.contains(' ') || line.starts_with('#') {
            errors.push(line);
        } else {
            compiled += 1;
        }
        if told.elapsed() > PROGRESS {
            told = Instant::now();
            println!("  {package}: {compiled} of at most {packages} packages after {} s", begin.elapsed().as_secs());
        }
    }
    if !group.wait().await?.success() {
        bail!("`go build {package}` in crates/e2e/tools/{module} failed:\n{}", errors.join("\n"));
    }
    fs::rename(&new, to)?;
    println!("  {package} was built in {} s", begin.elapsed().as_secs());
    drop(lock);
    Ok(())
}

/// The version in `tools/<module>/go.mod` of the Go module that contains a package.
///
/// # Errors
///
/// If the file cannot be read, or requires no such module.
pub fn pinned(module: &str, package: &str) -> Result<String> {
    let path = module_file(module).join("go.mod");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let requirements = text.lines().map(|line| line.trim().trim_start_matches("require ")).filter_map(|line| {
        let (name, version) = line.split_once(" v")?;
        Some((name, version.split(' ').next()?))
    });
    let of_package = requirements.filter(|(name, _)| package == *name || package.starts_with(&format!("{name}/")));
    let (_, version) = of_package
        .max_by_key(|(name, _)| name.len())
        .with_context(|| format!("{} does not require the module of {package}", path.display()))?;
    Ok(version.to_owned())
}

/// The folder of a module that a module in `tools/` requires, in Go's cache.
async fn module_dir(module: &str, required: &str) -> Result<PathBuf> {
    go(module, &["mod", "download", required]).await?;
    let listed = go(module, &["list", "-m", "-json", required]).await?;
    let listed: Value = serde_json::from_str(&listed)?;
    let dir = listed["Dir"].as_str().with_context(|| format!("`go list` does not print the folder of {required}"))?;
    Ok(dir.into())
}

/// Runs `go` and returns its standard output.
async fn go(module: &str, arguments: &[&str]) -> Result<String> {
    let mut command = go_command(module);
    let mut group = Group::spawn(command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let output = group.output().await?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("`go {}` in crates/e2e/tools/{module} failed:\n{}", arguments.join(" "), errors.trim_end());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn go_command(module: &str) -> Command {
    let mut command = Command::new("go");
    command
        .current_dir(module_file(module))
        // Without a C compiler, and without a Go workspace of the user.
        .envs([("CGO_ENABLED", "0"), ("GOWORK", "off"), ("GOFLAGS", "-mod=readonly")])
        .stdin(Stdio::null());
    command
}

fn module_file(module: &str) -> PathBuf {
    testbed::workspace_dir().join("crates/e2e/tools").join(module)
}

fn cache_dir() -> Result<PathBuf> {
    let variable = |name| env::var_os(name).filter(|path: &OsString| !path.is_empty()).map(PathBuf::from);
    if let Some(dir) = variable("ROUTING_CLAIMS_TOOLS") {
        return Ok(dir);
    }
    let cache = variable("XDG_CACHE_HOME").or_else(|| env::home_dir().map(|home| home.join(".cache")));
    let cache =
        cache.context("cannot find the home folder; set ROUTING_CLAIMS_TOOLS to the folder for the programs")?;
    Ok(cache.join("routing-claims/tools"))
}

/// Prometheus without the clients of clouds; no other program has this tag.
const TAGS: &str = "remove_all_sd";
/// Omits debug information, which halves the size.
const LINK: &str = "-s -w";
const PROGRESS: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_of_a_package_gives_its_version() {
        let version = |module: &str, package: &str| pinned(module, package).unwrap();
        assert!(version("etcd", "go.etcd.io/etcd/server/v3").starts_with("3."));
        assert!(version("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver").starts_with("1."));
        let istio = [Istio::V1_30, Istio::V1_31]
            .map(|line| version(&format!("istio-{line}"), "istio.io/istio/pilot/cmd/pilot-discovery"));
        assert_ne!(istio[0], istio[1]);
        assert!(version("helm", "helm.sh/helm/v3/cmd/helm").starts_with("3."));
        assert!(version("helm", "helm.sh/helm/v4/cmd/helm").starts_with("4."));
        assert!(version("registry", "github.com/google/go-containerregistry/cmd/crane").starts_with("0."));
        assert!(pinned("etcd", "k8s.io/kubernetes").is_err());
    }
}
