//! A way to a server that can be cut.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// Forwards TCP connections to a server. Dropping it stops it.
#[derive(Debug)]
pub struct Forwarder {
    /// Its address.
    pub addr: SocketAddr,
    way: watch::Sender<Way>,
    serving: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The number of times that it was cut.
    Open(u64),
    Shut,
}

impl Forwarder {
    /// Starts it, open.
    ///
    /// # Errors
    ///
    /// If the address cannot be bound.
    pub async fn start(addr: SocketAddr, to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(addr).await.with_context(|| format!("cannot listen on {addr}"))?;
        let (way, changes) = watch::channel(Way::Open(0));
        let serving = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => _ = tokio::spawn(forward(stream, to, changes.clone())),
                    // Such as too many open files: there will be fewer.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        });
        Ok(Self { addr, way, serving })
    }

    /// Resets all connections. New ones are forwarded.
    pub fn cut(&self) {
        self.way.send_modify(|way| {
            *way = match *way {
                Way::Open(times) => Way::Open(times + 1),
                Way::Shut => Way::Shut,
            };
        });
    }

    /// Resets all connections, and each new one.
    pub fn shut(&self) {
        self.way.send_replace(Way::Shut);
    }

    /// Forwards new connections again, if it was shut.
    pub fn open(&self) {
        self.way.send_if_modified(|way| {
            let was_shut = *way == Way::Shut;
            if was_shut {
                *way = Way::Open(0);
            }
            was_shut
        });
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.serving.abort();
        self.shut();
    }
}

/// Forwards until either side closes, or the way changes. Errors are those of the peers.
async fn forward(mut client: TcpStream, to: SocketAddr, mut changes: watch::Receiver<Way>) {
    let is_shut = *changes.borrow_and_update() == Way::Shut;
    client.set_zero_linger().ok();
    if is_shut {
        return;
    }
    let Ok(mut server) = TcpStream::connect(to).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = changes.changed() => {}
    }
}
