//! Addresses. Each run has a /24 of loopback to itself, so that ports can be fixed and concurrent runs do not collide.

use std::net::{Ipv4Addr, SocketAddr};

/// The 256 loopback addresses of this run.
#[derive(Clone, Copy, Debug)]
pub struct Net {
    prefix: [u8; 3],
}

impl Net {
    /// The addresses of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        let [.., high, low] = std::process::id().to_be_bytes();
        // Not 127.0.0, where everything else listens.
        Self { prefix: [127, 64 | (high & 63), low] }
    }

    /// One address.
    #[must_use]
    pub fn ip(self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.prefix;
        Ipv4Addr::new(a, b, c, last)
    }

    /// One address with a port.
    #[must_use]
    pub fn addr(self, last: u8, port: u16) -> SocketAddr {
        (self.ip(last), port).into()
    }
}
