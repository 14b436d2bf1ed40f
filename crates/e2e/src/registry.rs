//! A registry on loopback, and images of the WASM filter.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http_body_util::Full;
use hyper::{
    Response,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};
use sha2::{Digest as _, Sha256};
use testbed::client::Http1;
use tokio::process::Command;

use crate::{app::App, control_plane::Daemon, tools::Tools};

/// A registry without TLS and without authentication. Dropping it stops it, and deletes its images.
#[derive(Debug)]
pub struct Registry {
    /// Its address.
    pub addr: SocketAddr,
    crane: PathBuf,
    _daemon: Daemon,
}

impl Registry {
    /// Starts an empty registry and writes its log to `dir`.
    ///
    /// # Errors
    ///
    /// If it does not start or is not ready in time.
    pub async fn start(tools: &Tools, addr: SocketAddr, dir: &Path) -> Result<Self> {
        let mut command = std::process::Command::new(&tools.crane);
        command.args(["registry", "serve", "--address", &addr.to_string()]);
        let mut daemon = Daemon::spawn(&mut command, "registry", dir)?;
        daemon
            .ready(async || {
                let answer = async { Http1::connect(addr).await?.get("registry", "/v2/", &[]).await };
                Ok(matches!(answer.await, Ok(response) if response.status == 200))
            })
            .await?;
        Ok(Self { addr, crane: tools.crane.clone(), _daemon: daemon })
    }

    /// Pushes an image under a name such as `routing-claims:1`.
    ///
    /// # Errors
    ///
    /// If the registry does not accept it.
    pub async fn push(&self, image: &Image, name: &str) -> Result<()> {
        crane(
            &self.crane,
            &["push".as_ref(), "--insecure".as_ref(), image.path.as_ref(), format!("{}/{name}", self.addr).as_ref()],
        )
        .await?;
        Ok(())
    }
}

/// An image of the WASM filter on disk.
#[derive(Clone, Debug)]
pub struct Image {
    /// A file or folder that `crane push` takes.
    path: PathBuf,
    /// The digest of its manifest: 64 hex digits.
    pub digest: String,
    /// The SHA-256 of the module: 64 hex digits.
    pub file_sha256: String,
}

impl Image {
    /// Packs a module as the only file of the only layer, in the form that Istio's agent expects.
    ///
    /// # Errors
    ///
    /// If the files cannot be written.
    pub async fn pack(tools: &Tools, module: &[u8], name: &str, dir: &Path) -> Result<Self> {
        let dir = dir.join(format!("image-{name}"));
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("plugin.wasm"), module)?;
        let (layer, path) = (dir.join("layer.tar"), dir.join("image.tar"));
        let mut tar = Command::new("tar");
        tar.args(["--create", "--file"]).arg(&layer).arg("--directory").arg(&dir).arg("plugin.wasm");
        run(&mut tar).await?;
        let append = ["append", "--new_tag", "routing-claims:packed", "--new_layer"];
        let append = append.map(AsRef::as_ref).into_iter().chain([layer.as_ref(), "--output".as_ref(), path.as_ref()]);
        crane(&tools.crane, &append.collect::<Vec<_>>()).await?;
        let digest = crane(&tools.crane, &["digest".as_ref(), "--tarball".as_ref(), path.as_ref()]).await?;
        let digest = digest.trim().strip_prefix("sha256:").context("expected a SHA-256 digest")?.to_owned();
        let file_sha256 = Sha256::digest(module).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        Ok(Self { path, digest, file_sha256 })
    }
}

/// A server that asks for a password, and passes requests with the right one to a registry. Dropping it stops it.
#[derive(Debug)]
pub struct PasswordGate {
    /// Its address.
    pub addr: SocketAddr,
    _app: App,
}

impl PasswordGate {
    /// Starts it. The realm is part of its challenge.
    ///
    /// # Errors
    ///
    /// If the address cannot be bound.
    pub async fn start(
        addr: SocketAddr,
        registry: SocketAddr,
        (user, password): (&str, &str),
        realm: &str,
    ) -> Result<Self> {
        let challenge = format!("Basic realm=\"{realm}\"");
        let expected = format!("Basic {}", BASE64.encode(format!("{user}:{password}")));
        let app = App::answering(addr, move |request| {
            let authorized =
                request.headers().get(AUTHORIZATION).is_some_and(|value| value.as_bytes() == expected.as_bytes());
            let path = request.uri().path().to_owned();
            let challenge = challenge.clone();
            async move {
                if !authorized {
                    let response = Response::builder().status(401).header(WWW_AUTHENTICATE, challenge);
                    return Ok(response.body(Full::default())?);
                }
                let answer = Http1::connect(registry).await?.get("registry", &path, &[]).await?;
                let mut response = Response::builder().status(answer.status);
                for name in ["content-type", "docker-content-digest"] {
                    if let Some(value) = answer.header(name) {
                        response = response.header(name, value);
                    }
                }
                Ok(response.body(Full::from(answer.body))?)
            }
        });
        Ok(Self { addr, _app: app.await? })
    }
}

async fn crane(crane: &Path, arguments: &[&std::ffi::OsStr]) -> Result<String> {
    // Nothing of the user's, such as a login.
    run(Command::new(crane).args(arguments).env_clear()).await
}

/// Runs a command and returns its standard output.
async fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().await?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{:?}: {errors}", command.as_std());
    Ok(String::from_utf8(output.stdout)?)
}
