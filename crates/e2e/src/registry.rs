//! A registry on loopback, and images of the WASM filter.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::http1,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};
use hyper_util::rt::TokioIo;
use package::{
    images::MANIFEST_GEN,
    push::{self, Login, PushError},
    release::Release,
    shipped,
};
use testbed::client::Http1;
use tokio::{net::TcpStream, process::Command};

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

    /// Pushes an image under a name such as `routing-claims:1`, as `cargo xtask package --push` does. Returns what that prints:
    /// the name with tag and digest.
    ///
    /// # Errors
    ///
    /// If the registry does not accept it.
    pub async fn push(&self, image: &Image, name: &str) -> Result<String> {
        image.push(self.addr, name, None).await.with_context(|| format!("cannot push {name}"))
    }

    /// What crane prints about an image in the registry.
    ///
    /// # Errors
    ///
    /// If crane fails.
    pub async fn crane(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        let mut command = Command::new(&self.crane);
        // Without the user's environment, such as a login.
        let output = command.arg("--insecure").args(arguments).env_clear().stdin(Stdio::null()).output().await?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`crane {}`: {errors}", arguments.join(" "));
        Ok(output.stdout)
    }
}

/// An image that ships, or one made like it.
#[derive(Clone, Debug)]
pub struct Image {
    shipped: shipped::Image,
    /// The digest to pin: `sha256:` and 64 hex digits.
    pub digest: String,
}

impl Image {
    /// Packs a module with a bill of materials as `cargo xtask package` does.
    ///
    /// # Errors
    ///
    /// None: nothing is read from the outside.
    pub fn module(wasm: &[u8], bill: &[u8]) -> Result<Self> {
        Self::of(shipped::Image::module(&Release::current(), wasm, bill)?)
    }

    /// Packs `manifest-gen` as `cargo xtask package` does, for the platforms that are in the folder.
    ///
    /// # Errors
    ///
    /// If the folder does not have what `cargo xtask build` builds.
    pub fn program(dist: &Path) -> Result<Self> {
        let programs = shipped::programs(dist, &MANIFEST_GEN)?;
        Self::of(shipped::Image::program(&Release::current(), &MANIFEST_GEN, &programs, &shipped::licenses()?)?)
    }

    fn of(shipped: shipped::Image) -> Result<Self> {
        Ok(Self { digest: shipped.digest()?.to_owned(), shipped })
    }

    /// Pushes the image to a registry, with a login if it needs one.
    ///
    /// # Errors
    ///
    /// As [`push::Registry::push`].
    pub async fn push(&self, to: SocketAddr, name: &str, login: Option<Login>) -> Result<String, PushError> {
        let (name, tag) = name.split_once(':').unwrap_or((name, "latest"));
        let registry = push::Registry::new(&to.to_string(), |_| Ok(login))?;
        registry.push(name, tag, &self.shipped.image, &self.shipped.bills).await
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
            let challenge = challenge.clone();
            async move {
                if !authorized {
                    let response = Response::builder().status(401).header(WWW_AUTHENTICATE, challenge);
                    return Ok(response.body(Full::default())?);
                }
                passed_on(request, registry).await
            }
        });
        Ok(Self { addr, _app: app.await? })
    }
}

async fn passed_on(request: Request<Incoming>, to: SocketAddr) -> Result<Response<Full<Bytes>>> {
    let (mut requests, connection) = http1::handshake(TokioIo::new(TcpStream::connect(to).await?)).await?;
    // Its errors are those of the request.
    tokio::spawn(connection);
    let (head, body) = requests.send_request(request).await?.into_parts();
    Ok(Response::from_parts(head, Full::from(body.collect().await?.to_bytes())))
}
