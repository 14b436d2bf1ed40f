//! gRPC and WebSocket, which the filter and the routes handle like any other request.

use anyhow::{Context as _, Result, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest as _};
use tonic::{Request, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    scene::{From, Scene, bearer},
    world::{GRPC, PORT, WEBSOCKET, host},
};

/// The health service of each version knows only its own name.
pub(super) async fn grpc(scene: &mut Scene<'_>) -> Result<String> {
    let to = Endpoint::try_from(format!("http://{}", scene.proxy(From::Client).addr(PORT)))?;
    let to = to.origin(format!("http://{}:{PORT}", host(GRPC, GRPC)).parse()?);
    let mut client = HealthClient::new(to.connect().await?);
    let token = bearer(&json!({"microservice-C": "PR-1"}));
    for (token, here, elsewhere) in [(None, "main", "PR-1"), (Some(&token), "PR-1", "main")] {
        for (version, serves) in [(here, true), (elsewhere, false)] {
            let mut request = Request::new(HealthCheckRequest { service: version.to_owned() });
            // A gRPC client can forge headers too.
            request.metadata_mut().insert("microservice-c", "PR-1".parse()?);
            if let Some(token) = token {
                request.metadata_mut().insert("authorization", token.parse()?);
            }
            match client.check(request).await {
                Ok(_) => ensure!(serves, "{version} answered, token: {token:?}"),
                Err(status) if status.code() == tonic::Code::NotFound => {
                    ensure!(!serves, "{version} did not answer, token: {token:?}");
                }
                Err(status) => return Err(status).context("the call failed"),
            }
        }
    }
    Ok("4 calls on one connection".to_owned())
}

/// The upgrade request is routed, and the messages follow it.
pub(super) async fn websocket(scene: &mut Scene<'_>) -> Result<String> {
    let token = bearer(&json!({"microservice-D": "PR-1"}));
    for (token, version) in [(None, "main"), (Some(&token), "PR-1")] {
        let stream = TcpStream::connect(scene.proxy(From::Client).addr(PORT)).await?;
        let mut request = format!("ws://{}:{PORT}/", host(WEBSOCKET, WEBSOCKET)).into_client_request()?;
        request.headers_mut().insert("microservice-d", "PR-1".parse()?);
        if let Some(token) = token {
            request.headers_mut().insert("authorization", token.parse()?);
        }
        let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await?;
        for message in ["one", "two"] {
            socket.send(Message::text(message)).await?;
            let answer = socket.next().await.context("no answer")??.into_text()?;
            ensure!(answer.as_str() == format!("{version} {message}"), "{answer} instead of {version}");
        }
    }
    Ok("2 connections, 4 messages".to_owned())
}
