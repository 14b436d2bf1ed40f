//! A straightforward filter to compare with. It uses the SDK, sets one header after the other, and parses the whole payload
//! into a `serde_json::Value`. It strips nothing and checks little.
#![allow(missing_docs, reason = "the SDK's macro makes a public function")]

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use proxy_wasm::{
    traits::{Context, HttpContext},
    types::{Action, LogLevel},
};
use serde_json::Value;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Warn);
    proxy_wasm::set_http_context(|_, _| Box::new(NaiveFilter));
}}

struct NaiveFilter;

impl Context for NaiveFilter {}

impl HttpContext for NaiveFilter {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        if let Some(claims) = self.claims() {
            for service in ["microservice-A", "microservice-B"] {
                if let Some(version) = claims[service].as_str() {
                    self.set_http_request_header(&service.to_lowercase(), Some(version));
                }
            }
        }
        Action::Continue
    }
}

impl NaiveFilter {
    fn claims(&self) -> Option<Value> {
        let authorization = self.get_http_request_header("authorization")?;
        let payload = authorization.strip_prefix("Bearer ")?.split('.').nth(1)?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
    }
}
