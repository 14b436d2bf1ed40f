//! A tower layer in front of an axum service: a gateway that routes each request by its token.
//!
//! ```console
//! $ cargo run --example tower-layer --features http &
//! listening on http://127.0.0.1:3000
//! $ curl http://127.0.0.1:3000 -H 'authorization: Bearer e30.eyJzaG9wIjoiUFItMSJ9.'
//! shop, version PR-1
//! $ curl http://127.0.0.1:3000 -H 'shop: PR-1'
//! shop, baseline
//! ```

use std::{
    error::Error,
    task::{Context, Poll},
    time::SystemTime,
};

use axum::{Router, routing::get};
use http::{HeaderMap, Request};
use routing_claims::{DeciderPool, Policy};
use tower::{Layer, Service};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app()?).await?;
    Ok(())
}

fn app() -> Result<Router, Box<dyn Error>> {
    let policy = Policy::from_json(br#"{"services": [{"name": "shop"}]}"#)?;
    Ok(Router::new().route("/", get(shop)).layer(RoutingLayer { pool: DeciderPool::new(policy) }))
}

/// Represents the services behind a gateway.
async fn shop(headers: HeaderMap) -> String {
    match headers.get("shop").and_then(|version| version.to_str().ok()) {
        Some(version) => format!("shop, version {version}\n"),
        None => "shop, baseline\n".into(),
    }
}

/// Removes and sets the routing headers of each request. It does not verify signatures: put it behind a layer that does.
#[derive(Clone)]
struct RoutingLayer {
    pool: DeciderPool,
}

/// It has a pool instead of a decider, because axum clones it for each request.
#[derive(Clone)]
struct Routing<S> {
    pool: DeciderPool,
    inner: S,
}

impl<S> Layer<S> for RoutingLayer {
    type Service = Routing<S>;

    fn layer(&self, inner: S) -> Routing<S> {
        Routing { pool: self.pool.clone(), inner }
    }
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Routing<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        let mut decider = self.pool.take();
        let decision = decider.decide_header_map(request.headers(), unix_seconds());
        decision.apply(request.headers_mut());
        self.inner.call(request)
    }
}

fn unix_seconds() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_token_routes_and_a_forged_header_does_not() {
        // The payload is {"shop":"PR-1"}.
        let token = ("authorization", "Bearer e30.eyJzaG9wIjoiUFItMSJ9.");
        assert_eq!(answer([token]).await, "shop, version PR-1\n");
        assert_eq!(answer([("shop", "PR-1")]).await, "shop, baseline\n");
        assert_eq!(answer([token, ("shop", "PR-9")]).await, "shop, version PR-1\n");
    }

    async fn answer<const N: usize>(headers: [(&str, &str); N]) -> String {
        let request =
            headers.into_iter().fold(Request::builder(), |request, (name, value)| request.header(name, value));
        let response = app().unwrap().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        String::from_utf8(to_bytes(response.into_body(), 1024).await.unwrap().to_vec()).unwrap()
    }
}
