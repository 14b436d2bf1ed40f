//! An external processor: a gRPC server that Envoy calls with the headers of each request.
//!
//! ```console
//! $ cargo run --example ext-proc 127.0.0.1:9000
//! listening on 127.0.0.1:9000
//! ```
//!
//! Envoy's configuration. The cluster `routing-claims` leads to this address and uses HTTP/2:
//!
//! ```yaml
//! http_filters:
//! - name: envoy.filters.http.ext_proc
//!   typed_config:
//!     "@type": type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor
//!     grpc_service: {envoy_grpc: {cluster_name: routing-claims}}
//!     # Without an answer, the request fails. Otherwise it would continue with routing headers that the client forged.
//!     failure_mode_allow: false
//!     processing_mode: {request_header_mode: SEND, response_header_mode: SKIP}
//! ```
//!
//! The messages below contain only the fields that this example needs. For more, use a crate such as `envoy-types`, which
//! contains all of Envoy's messages (and takes a minute to compile).

use std::{
    convert::Infallible,
    error::Error,
    future::{Future, Ready, ready},
    pin::Pin,
    task::{Context, Poll},
    time::SystemTime,
};

use futures_util::{Stream, StreamExt};
use proto::{
    CommonResponse, HeaderMutation, HeaderValue, HeaderValueOption, HeadersResponse, ProcessingRequest,
    ProcessingResponse, processing_request, processing_response,
};
use routing_claims::{DeciderPool, Policy};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    server::{Grpc, NamedService, StreamingService},
    transport::{Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;
use tower::Service;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).ok_or("usage: ext-proc ADDRESS")?;
    let policy = Policy::from_json(POLICY.as_bytes())?;
    let incoming = TcpIncoming::bind(address.parse()?)?;
    println!("listening on {}", incoming.local_addr()?);
    let processor = Processor { pool: DeciderPool::new(policy) };
    Server::builder().add_service(processor).serve_with_incoming(incoming).await?;
    Ok(())
}

const POLICY: &str = r#"{
    "services": [{"name": "microservice-A"}, {"name": "microservice-B"}],
    "reportHeader": "x-routing-report"
}"#;

/// The gRPC service: one stream per request that Envoy handles.
#[derive(Clone)]
struct Processor {
    pool: DeciderPool,
}

impl Processor {
    fn answer(&self, request: ProcessingRequest) -> Result<ProcessingResponse, Status> {
        let Some(processing_request::Request::RequestHeaders(message)) = request.request else {
            return Err(Status::invalid_argument("only request headers are processed"));
        };
        let headers = message.headers.map(|map| map.headers).unwrap_or_default();
        let lines = headers.iter().map(|HeaderValue { key, value, raw_value }| {
            // One of the two is empty. Which one has the value depends on Envoy's version.
            (key.as_bytes(), if raw_value.is_empty() { value.as_bytes() } else { raw_value })
        });
        let mut decider = self.pool.take();
        let decision = decider.decide(lines, unix_seconds());
        let remove_headers = headers.iter().filter(|header| decision.removes(header.key.as_bytes()));
        let set_headers = decision.set_headers().map(|(name, value)| HeaderValueOption {
            header: Some(HeaderValue { key: name.into(), raw_value: value.into(), ..HeaderValue::default() }),
            append_action: OVERWRITE_IF_EXISTS_OR_ADD,
        });
        let response = CommonResponse {
            // Envoy removes first, then sets.
            header_mutation: Some(HeaderMutation {
                set_headers: set_headers.collect(),
                remove_headers: remove_headers.map(|header| header.key.clone()).collect(),
            }),
            clear_route_cache: decision.changes_request(),
        };
        let response = HeadersResponse { response: Some(response) };
        Ok(ProcessingResponse { response: Some(processing_response::Response::RequestHeaders(response)) })
    }
}

impl StreamingService<ProcessingRequest> for Processor {
    type Response = ProcessingResponse;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<ProcessingResponse, Status>> + Send>>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, requests: Request<Streaming<ProcessingRequest>>) -> Self::Future {
        let processor = self.clone();
        let answers = requests.into_inner().map(move |request| processor.answer(request?));
        ready(Ok(Response::new(Box::pin(answers))))
    }
}

impl NamedService for Processor {
    const NAME: &'static str = "envoy.service.ext_proc.v3.ExternalProcessor";
}

/// The code that `tonic-prost-build` would generate. The service has one method.
impl Service<http::Request<Body>> for Processor {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let processor = self.clone();
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).streaming(processor, request).await) })
    }
}

fn unix_seconds() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// `HeaderValueOption.HeaderAppendAction`.
const OVERWRITE_IF_EXISTS_OR_ADD: i32 = 2;

/// Messages of `envoy/service/ext_proc/v3/external_processor.proto` and `envoy/config/core/v3/base.proto`.
mod proto {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct ProcessingRequest {
        #[prost(oneof = "processing_request::Request", tags = "2")]
        pub(crate) request: Option<processing_request::Request>,
    }

    pub(crate) mod processing_request {
        #[derive(Clone, PartialEq, prost::Oneof)]
        pub(crate) enum Request {
            #[prost(message, tag = "2")]
            RequestHeaders(super::HttpHeaders),
        }
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct HttpHeaders {
        #[prost(message, optional, tag = "1")]
        pub(crate) headers: Option<HeaderMap>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct HeaderMap {
        #[prost(message, repeated, tag = "1")]
        pub(crate) headers: Vec<HeaderValue>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct HeaderValue {
        #[prost(string, tag = "1")]
        pub(crate) key: String,
        #[prost(string, tag = "2")]
        pub(crate) value: String,
        #[prost(bytes = "vec", tag = "3")]
        pub(crate) raw_value: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct ProcessingResponse {
        #[prost(oneof = "processing_response::Response", tags = "1")]
        pub(crate) response: Option<processing_response::Response>,
    }

    pub(crate) mod processing_response {
        #[derive(Clone, PartialEq, prost::Oneof)]
        pub(crate) enum Response {
            #[prost(message, tag = "1")]
            RequestHeaders(super::HeadersResponse),
        }
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct HeadersResponse {
        #[prost(message, optional, tag = "1")]
        pub(crate) response: Option<CommonResponse>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct CommonResponse {
        #[prost(message, optional, tag = "2")]
        pub(crate) header_mutation: Option<HeaderMutation>,
        #[prost(bool, tag = "5")]
        pub(crate) clear_route_cache: bool,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct HeaderMutation {
        #[prost(message, repeated, tag = "1")]
        pub(crate) set_headers: Vec<HeaderValueOption>,
        #[prost(string, repeated, tag = "2")]
        pub(crate) remove_headers: Vec<String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct HeaderValueOption {
        #[prost(message, optional, tag = "1")]
        pub(crate) header: Option<HeaderValue>,
        #[prost(int32, tag = "3")]
        pub(crate) append_action: i32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In `crates/conformance/tests/ext_proc.rs`, a real Envoy calls the server.
    #[test]
    fn a_token_routes_and_a_forged_header_does_not() {
        let processor = Processor { pool: DeciderPool::new(Policy::from_json(POLICY.as_bytes()).unwrap()) };
        let line =
            |key: &str, value: &str| HeaderValue { key: key.into(), raw_value: value.into(), value: String::new() };
        let headers = vec![
            line(":path", "/"),
            line("authorization", "Bearer e30.eyJtaWNyb3NlcnZpY2UtQSI6IlBSLTEifQ."),
            line("microservice-b", "PR-9"),
        ];
        let headers = proto::HttpHeaders { headers: Some(proto::HeaderMap { headers }) };
        let request = ProcessingRequest { request: Some(processing_request::Request::RequestHeaders(headers)) };
        let answer = processor.answer(request).unwrap();
        let Some(processing_response::Response::RequestHeaders(answer)) = answer.response else { panic!("{answer:?}") };
        let answer = answer.response.unwrap();
        assert!(answer.clear_route_cache);
        let mutation = answer.header_mutation.unwrap();
        assert_eq!(mutation.remove_headers, ["microservice-b"]);
        let set: Vec<_> = mutation.set_headers.into_iter().filter_map(|option| option.header).collect();
        assert_eq!(set, [line("microservice-a", "PR-1"), line("x-routing-report", "applied microservice-a=PR-1")]);
    }
}
