//! A registry on loopback, and images of the WASM filter.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Result, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http_body_util::Full;
use hyper::{
    Response,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};
use package::{images, layout::digest, release::Release};
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
        let mut push = Command::new(&self.crane);
        push.args(["push", "--insecure"]).arg(&image.path).arg(format!("{}/{name}", self.addr));
        // Without the user's environment, such as a login.
        let output = push.env_clear().stdin(Stdio::null()).output().await?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cannot push {name}: {errors}");
        Ok(())
    }
}

/// An image of the WASM filter, as an OCI layout on disk.
#[derive(Clone, Debug)]
pub struct Image {
    path: PathBuf,
    /// The digest of its manifest: `sha256:` and 64 hex digits.
    pub digest: String,
    /// The checksum of the module itself, in the same form.
    pub file: String,
}

impl Image {
    /// Packs a module as `cargo xtask package` does.
    ///
    /// # Errors
    ///
    /// If the folder cannot be written.
    pub fn pack(module: &[u8], path: &Path) -> Result<Self> {
        let layout = images::module(&Release::current(), module)?;
        layout.write(path)?;
        let [manifest] = layout.manifests() else { bail!("expected an image with one manifest") };
        Ok(Self { path: path.to_owned(), digest: manifest.digest.clone(), file: digest(module) })
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
