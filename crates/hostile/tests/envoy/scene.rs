//! An Envoy whose configuration changes while it runs.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use hostile::envoy;
use hostile::target::Engine;
use routing_claims::Policy;
use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::client::{Http1, Response};
use testbed::echo::{Echo, Seen};
use testbed::{Acknowledgement, Envoy, EnvoyBinary, Headers, Offer, Options, config};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// How a running Envoy receives a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// In its listener (LDS), like Istio's `EnvoyFilter`.
    Listener,
    /// Separately (ECDS), like Istio's `WasmPlugin`.
    Filter,
}

pub(crate) struct Scene {
    pub(crate) envoy: Envoy,
    pub(crate) address: SocketAddr,
    by: By,
    offer: Offer,
    /// Filters before ours.
    before: Vec<Value>,
    _upstreams: Vec<Echo>,
    folder: TempDir,
}

impl Scene {
    /// Starts Envoy with this filter.
    pub(crate) async fn start(by: By, filter: &Value) -> Self {
        Self::start_as(by, filter, Options::default()).await
    }

    /// Starts Envoy with this filter after another, which does not change.
    pub(crate) async fn start_after(first: &Value, filter: &Value) -> Self {
        Self::start_with(By::Listener, vec![first.clone()], filter, Options::default(), NOBODY.into()).await
    }

    /// Starts Envoy with this filter, and a cluster `modules` that leads to this server.
    pub(crate) async fn start_serving(by: By, filter: &Value, modules: SocketAddr) -> Self {
        Self::start_with(by, Vec::new(), filter, Options::default(), modules).await
    }

    /// Starts Envoy with this filter and other options.
    pub(crate) async fn start_as(by: By, filter: &Value, options: Options) -> Self {
        Self::start_with(by, Vec::new(), filter, options, NOBODY.into()).await
    }

    async fn start_with(by: By, before: Vec<Value>, filter: &Value, options: Options, modules: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (upstreams, mut clusters) = envoy::upstreams().await.unwrap();
        clusters.push(config::cluster("modules", modules));
        let (offer, mut bootstrap);
        match by {
            By::Listener => {
                offer = Offer::listeners(folder.path()).unwrap();
                bootstrap = config::bootstrap(&[], &clusters);
                bootstrap["dynamic_resources"]["lds_config"] = offer.source();
            }
            By::Filter => {
                offer = Offer::filter(folder.path(), NAME, &filter["typed_config"]).unwrap();
                let discovered = offer.discovered(&filter["typed_config"]);
                bootstrap = config::bootstrap(&[in_listener(&before, &discovered)], &clusters);
            }
        }
        bootstrap["node"] = json!({"id": "faults", "cluster": "faults"});
        let envoy = Envoy::start_with(&binary().await, "scene", bootstrap, folder.path(), options).await.unwrap();
        if by == By::Listener {
            assert_eq!(
                offer.offer_listeners(&envoy, &[in_listener(&before, filter)]).await.unwrap(),
                Acknowledgement::Ack
            );
        }
        let address = envoy::address(&envoy, "in").await.unwrap();
        Self { envoy, address, by, offer, before, _upstreams: upstreams, folder }
    }

    /// Offers another filter to the running Envoy.
    pub(crate) async fn offer(&self, filter: &Value) -> Acknowledgement {
        match self.by {
            By::Listener => self.offer.offer_listeners(&self.envoy, &[in_listener(&self.before, filter)]).await,
            By::Filter => self.offer.offer_filter(&self.envoy, &filter["typed_config"]).await,
        }
        .unwrap()
    }

    pub(crate) async fn connect(&self) -> Http1 {
        Http1::connect(self.address).await.unwrap()
    }

    /// Sends a request over a connection of its own.
    pub(crate) async fn get(&self, lines: &[(&str, &str)]) -> Response {
        self.connect().await.get("a.example", "/", &headers(lines)).await.unwrap()
    }

    /// Waits until the log, after its first `since` bytes, contains these words.
    pub(crate) async fn logs(&self, since: usize, words: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let log = self.envoy.log().unwrap();
            let log = &log[since..];
            if log.contains(words) {
                return;
            }
            assert!(Instant::now() < deadline, "{words:?} is not in the log:\n{log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

pub(crate) async fn binary() -> EnvoyBinary {
    testbed::locate(|line| println!("{line}")).await.unwrap()
}

pub(crate) fn headers(lines: &[(&str, &str)]) -> Headers {
    lines.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

/// The filter with a policy.
pub(crate) fn filter(engine: Engine, policy: &Value) -> Value {
    match engine {
        Engine::Wasm => config::wasm_filter(&module(), policy),
        Engine::Module => config::module_filter(&testbed::module_path().unwrap(), policy),
        Engine::Lua => {
            let policy = Policy::from_json(policy.to_string().as_bytes()).unwrap();
            config::lua_filter(&lua_filter::source(&policy))
        }
    }
}

/// The WASM module that `cargo xtask build` wrote.
pub(crate) fn module() -> std::path::PathBuf {
    let module = testbed::target_dir().join("dist/routing-claims.wasm");
    assert!(module.is_file(), "cannot find {}; run `cargo xtask build --filters`", module.display());
    module
}

/// The values of a header as they arrived upstream.
pub(crate) fn arrived(response: &Response, header: &str) -> Vec<String> {
    assert_eq!(response.status, 200, "{}", response.text());
    let seen = Seen::from_body(&response.body).unwrap();
    seen.values(header).into_iter().map(|value| String::from_utf8(value.to_vec()).unwrap()).collect()
}

/// The value of an `Authorization` header with this payload.
pub(crate) fn bearer(payload: &str) -> String {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
    format!("Bearer eyJhbGciOiJub25lIn0.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(payload))
}

/// Starts a server that answers every request with these bytes, for as long as the test runs.
pub(crate) async fn serve_file(bytes: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", bytes.len());
            let mut request = [0; 4096];
            if stream.read(&mut request).await.is_err() {
                continue;
            }
            stream.write_all(&[head.as_bytes(), &bytes].concat()).await.ok();
        }
    });
    address
}

/// The SHA-256 of a file, in hexadecimal.
pub(crate) fn sha256(file: &Path) -> String {
    let output = std::process::Command::new("sha256sum").arg(file).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

fn in_listener(before: &[Value], filter: &Value) -> Value {
    let filters: Vec<_> = before.iter().chain([filter]).cloned().collect();
    envoy::listener("in", &filters, &config::route_all(hostile::target::MAIN))
}

/// Nothing listens there.
const NOBODY: ([u8; 4], u16) = ([127, 0, 0, 1], 9);

pub(crate) const NAME: &str = "routing-claims";
