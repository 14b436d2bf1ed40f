//! Types of Envoy's second API, which ended with Envoy 1.17, and what takes their place in the third.

/// The current type of an old one. The names of both are without `type.googleapis.com/`. The current ones are those that
/// the Go module `github.com/envoyproxy/go-control-plane/envoy` of Istio 1.31 has (read).
pub(super) fn current_type(old: &str) -> Option<String> {
    let (package, name) = old.rsplit_once('.')?;
    let (package, _) = package.rsplit_once(".v2")?;
    TYPES.iter().find(|(old, _)| *old == format!("{package}.{name}")).map(|(_, current)| format!("envoy.{current}"))
}

/// Whether a type is one of the second API, known or not.
pub(super) fn is_old(name: &str) -> bool {
    let is_v2 = |part: &str| part.strip_prefix("v2").is_some_and(|rest| rest.is_empty() || rest.starts_with("alpha"));
    name.starts_with("envoy.") && name.split('.').any(is_v2)
}

/// The type of a filter's configuration, by its current name, if its fields are those of the old configuration.
pub(super) fn type_of(filter: &str) -> Option<String> {
    let (_, kind) = filter.split_once("envoy.filters.")?;
    let package = format!("extensions.filters.{kind}.v3.");
    TYPES.iter().find(|(_, current)| current.starts_with(&package)).map(|(_, current)| format!("envoy.{current}"))
}

/// A filter that Envoy no longer has, and what there is instead.
pub(super) fn removed(filter: &str) -> Option<&'static str> {
    REMOVED.iter().find(|(name, _)| *name == filter).map(|(_, instead)| *instead)
}

/// Old types without their version, and current ones without `envoy.`.
const TYPES: &[(&str, &str)] = &[
    ("envoy.config.filter.http.buffer.Buffer", "extensions.filters.http.buffer.v3.Buffer"),
    ("envoy.config.filter.http.cors.Cors", "extensions.filters.http.cors.v3.Cors"),
    ("envoy.config.filter.http.csrf.CsrfPolicy", "extensions.filters.http.csrf.v3.CsrfPolicy"),
    (
        "envoy.config.filter.http.dynamic_forward_proxy.FilterConfig",
        "extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig",
    ),
    ("envoy.config.filter.http.ext_authz.ExtAuthz", "extensions.filters.http.ext_authz.v3.ExtAuthz"),
    ("envoy.config.filter.http.ext_authz.ExtAuthzPerRoute", "extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute"),
    ("envoy.config.filter.http.fault.HTTPFault", "extensions.filters.http.fault.v3.HTTPFault"),
    ("envoy.config.filter.http.grpc_http1_bridge.Config", "extensions.filters.http.grpc_http1_bridge.v3.Config"),
    (
        "envoy.config.filter.http.transcoder.GrpcJsonTranscoder",
        "extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
    ),
    ("envoy.config.filter.http.grpc_web.GrpcWeb", "extensions.filters.http.grpc_web.v3.GrpcWeb"),
    ("envoy.config.filter.http.header_to_metadata.Config", "extensions.filters.http.header_to_metadata.v3.Config"),
    ("envoy.config.filter.http.health_check.HealthCheck", "extensions.filters.http.health_check.v3.HealthCheck"),
    ("envoy.config.filter.http.ip_tagging.IPTagging", "extensions.filters.http.ip_tagging.v3.IPTagging"),
    ("envoy.config.filter.http.jwt_authn.JwtAuthentication", "extensions.filters.http.jwt_authn.v3.JwtAuthentication"),
    ("envoy.config.filter.http.lua.Lua", "extensions.filters.http.lua.v3.Lua"),
    ("envoy.config.filter.http.rate_limit.RateLimit", "extensions.filters.http.ratelimit.v3.RateLimit"),
    ("envoy.config.filter.http.rbac.RBAC", "extensions.filters.http.rbac.v3.RBAC"),
    ("envoy.config.filter.http.router.Router", "extensions.filters.http.router.v3.Router"),
    ("envoy.config.filter.http.tap.Tap", "extensions.filters.http.tap.v3.Tap"),
    ("envoy.config.filter.network.ext_authz.ExtAuthz", "extensions.filters.network.ext_authz.v3.ExtAuthz"),
    (
        "envoy.config.filter.network.http_connection_manager.HttpConnectionManager",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    ),
    ("envoy.config.filter.network.mongo_proxy.MongoProxy", "extensions.filters.network.mongo_proxy.v3.MongoProxy"),
    ("envoy.config.filter.network.rate_limit.RateLimit", "extensions.filters.network.ratelimit.v3.RateLimit"),
    ("envoy.config.filter.network.rbac.RBAC", "extensions.filters.network.rbac.v3.RBAC"),
    ("envoy.config.filter.network.redis_proxy.RedisProxy", "extensions.filters.network.redis_proxy.v3.RedisProxy"),
    ("envoy.config.filter.network.tcp_proxy.TcpProxy", "extensions.filters.network.tcp_proxy.v3.TcpProxy"),
    (
        "envoy.config.filter.listener.http_inspector.HttpInspector",
        "extensions.filters.listener.http_inspector.v3.HttpInspector",
    ),
    (
        "envoy.config.filter.listener.original_dst.OriginalDst",
        "extensions.filters.listener.original_dst.v3.OriginalDst",
    ),
    (
        "envoy.config.filter.listener.original_src.OriginalSrc",
        "extensions.filters.listener.original_src.v3.OriginalSrc",
    ),
    (
        "envoy.config.filter.listener.proxy_protocol.ProxyProtocol",
        "extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
    ),
    (
        "envoy.config.filter.listener.tls_inspector.TlsInspector",
        "extensions.filters.listener.tls_inspector.v3.TlsInspector",
    ),
];

const REMOVED: &[(&str, &str)] = &[
    ("envoy.filters.http.dynamo", "remove the patch"),
    (
        "envoy.filters.http.gzip",
        "use `envoy.filters.http.compressor` with its `compressor_library`, whose fields differ",
    ),
    ("envoy.filters.http.squash", "remove the patch"),
    ("envoy.filters.network.client_ssl_auth", "use an AuthorizationPolicy"),
];
