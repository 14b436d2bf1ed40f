//! Answers of the proxy itself: redirects and direct responses.
//! (`ApplyRedirect` and `ApplyDirectResponse` in Istio's `route.go`, and `newUri` in Envoy's `config_impl.cc`.)

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::Value;

use super::ExplainRequest;
use crate::views::{
    reader::{Field, UnusableField},
    virtual_service::{DirectResponse, Redirect},
};

/// The status of a redirect, and the location if all of it is known.
pub(super) fn redirect(redirect: &Redirect, request: &ExplainRequest) -> Result<String, UnusableField> {
    let code = redirect.code.optional()?.copied().filter(|code| *code != 0).unwrap_or(301);
    let location = location(redirect, request)?.map(|location| format!(" to {location}")).unwrap_or_default();
    Ok(format!("{code}: a redirect{location}"))
}

/// Without a scheme if the request's is not known.
fn location(redirect: &Redirect, request: &ExplainRequest) -> Result<Option<String>, UnusableField> {
    let scheme = text(&redirect.scheme)?.or_else(|| request.scheme.clone());
    let host = text(&redirect.authority)?.unwrap_or_else(|| request.host.clone());
    let port = match (redirect.port.optional()?.copied(), text(&redirect.derive_port)?.as_deref()) {
        (Some(port), _) => Some(port).filter(|port| *port != 0),
        (None, Some("FROM_REQUEST_PORT")) => match request.port {
            Some(port) => Some(port.into()),
            None => return Ok(None),
        },
        (None, _) => None,
    };
    // A port that the scheme has anyway is left out.
    let has_anyway = if scheme.as_deref() == Some("https") { 443 } else { 80 };
    let port = port.filter(|port| *port != has_anyway).map(|port| format!(":{port}")).unwrap_or_default();
    let path = match text(&redirect.uri)? {
        None => request.path.clone(),
        Some(uri) if uri.contains('?') => uri,
        Some(uri) => {
            let query = request.path.split_once('?').map(|(_, query)| format!("?{query}"));
            uri + &query.unwrap_or_default()
        }
    };
    let scheme = scheme.map(|scheme| format!("{scheme}:")).unwrap_or_default();
    Ok(Some(format!("{scheme}//{host}{port}{path}")))
}

/// The text of a field that counts as absent if it is empty.
fn text(field: &Field<String>) -> Result<Option<String>, UnusableField> {
    Ok(field.optional()?.filter(|text| !text.is_empty()).cloned())
}

/// The status of a direct response and its body.
pub(super) fn direct_response(response: &DirectResponse) -> Result<String, UnusableField> {
    let status = response.status.required(&response.path, "status")?;
    let body = match response.body.optional()? {
        None => None,
        Some(body) => match (body.string.optional()?, body.bytes.optional()?) {
            (Some(text), _) => Some(Value::String(text.clone()).to_string()),
            (None, Some(bytes)) => BASE64.decode(bytes).ok().map(|bytes| format!("{} bytes", bytes.len())),
            (None, None) => None,
        },
    };
    let body = body.map(|body| format!(", {body}")).unwrap_or_default();
    Ok(format!("{status}: a response of the proxy itself{body}"))
}
