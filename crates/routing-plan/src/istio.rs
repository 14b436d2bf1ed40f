//! Versions of Istio, and what each of them can do.

use std::{fmt, str::FromStr};

/// A version of Istio: major and minor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IstioVersion(pub u32, pub u32);

/// Something that not every supported version of Istio can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// A `RequestAuthentication` verifies tokens in cookies.
    TokensInCookies,
    /// `networking.istio.io/v1` and `security.istio.io/v1`; older ones serve `v1beta1`.
    StableApis,
    /// The mesh is routed by `HTTPRoute`s whose parent is a Service.
    HttpRoutesInMesh,
    /// Envoy 1.33, whose WASM filter has `failure_policy`, with `FAIL_RELOAD`, instead of `fail_open`.
    EnvoyFailurePolicy,
    /// `failStrategy: FAIL_RELOAD` in a `WasmPlugin` or `TrafficExtension`.
    PluginFailReload,
    /// `TrafficExtension`.
    TrafficExtension,
    /// Envoy 1.39, whose dynamic modules have the ABI of the native module, in Istio's proxy.
    NativeModule,
}

impl Capability {
    /// The first version that can do it.
    #[must_use]
    pub const fn since(self) -> IstioVersion {
        match self {
            Self::TokensInCookies => IstioVersion(1, 21),
            Self::StableApis | Self::HttpRoutesInMesh => IstioVersion(1, 22),
            Self::EnvoyFailurePolicy => IstioVersion(1, 25),
            Self::PluginFailReload => IstioVersion(1, 27),
            Self::TrafficExtension => IstioVersion(1, 30),
            Self::NativeModule => IstioVersion(1, 31),
        }
    }
}

impl IstioVersion {
    /// The oldest that plans are resolved for. Older ones lack what is written for every resource, and are without fixes.
    pub const OLDEST: Self = Self(1, 20);

    /// Whether this version can do it.
    #[must_use]
    pub fn has(self, capability: Capability) -> bool {
        self >= capability.since()
    }
}

/// A text that is not a version of Istio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a version such as 1.27")]
pub struct InvalidIstioVersion;

/// Reads `1.27` or `1.27.3`.
impl FromStr for IstioVersion {
    type Err = InvalidIstioVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers: Result<Vec<u32>, _> = text.split('.').map(str::parse).collect();
        match numbers.as_deref() {
            Ok([major, minor] | [major, minor, _]) => Ok(Self(*major, *minor)),
            _ => Err(InvalidIstioVersion),
        }
    }
}

impl fmt::Display for IstioVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared_by_number() {
        let version = |text: &str| text.parse::<IstioVersion>();
        assert_eq!((version("1.27"), version("1.9.3")), (Ok(IstioVersion(1, 27)), Ok(IstioVersion(1, 9))));
        for text in ["", "1", "1.2.3.4", "1.x", "v1.27"] {
            assert_eq!(version(text), Err(InvalidIstioVersion), "{text}");
        }
        assert!(IstioVersion(1, 100).has(Capability::TrafficExtension));
        assert!(!IstioVersion(1, 9).has(Capability::TokensInCookies));
    }
}
