//! Addresses. Each run has a /24 of loopback to itself, so that ports can be fixed and concurrent runs do not collide.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
};

use anyhow::{Result, bail};

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

/// A port that is free on all addresses, for a program that does not take an address. No two calls return the same port.
pub(crate) fn free_port() -> Result<u16> {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    // Each process starts elsewhere, so that concurrent runs do not compete for the same ports.
    let start = std::process::id().wrapping_mul(PORTS_OF_A_RUN);
    for _ in 0..PORTS {
        let offset = start.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed).into()) % u32::from(PORTS);
        let port = FIRST_PORT + u16::try_from(offset)?;
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port from {FIRST_PORT} to {} is free", FIRST_PORT + PORTS - 1)
}

/// Ports for [`free_port`]: above those of common servers, and below those that Linux gives to clients.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 10_000;
/// More than the ports that a run takes.
const PORTS_OF_A_RUN: u32 = 127;
