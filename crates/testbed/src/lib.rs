//! A real Envoy on loopback for tests and the demo.
