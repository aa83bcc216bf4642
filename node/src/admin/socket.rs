//! Bounds the connections of the admin interface: few at a time, and none for long.
//!
//! A new connection has not authenticated, so its cost is bounded here, below HTTP. If an address has its share of
//! connections, its oldest one is closed for the new one. So silent sockets, however many, cannot keep anybody from
//! asking whether this node lives.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::listen::gate::{Gate, Permit};

/// How many connections there may be from all addresses.
const CONNECTIONS: usize = 64;
/// How many connections there may be from one address.
const PER_ADDRESS: u32 = 16;
/// How long a request's head may take, and how long to wait for the next request.
const HEAD: Duration = Duration::from_secs(5);
/// The most bytes of a request's head.
const BUFFER: usize = 32 << 10;
/// How long a connection may live. A scraper just opens the next one.
const LIFETIME: Duration = Duration::from_secs(60);
/// The pause when the process has no file descriptors left (T-16).
const OUT_OF_SOCKETS: Duration = Duration::from_millis(100);

/// A listening socket, with places for those that connect.
pub(super) struct Bounded {
    socket: TcpListener,
    gate: Arc<Gate>,
}

impl Bounded {
    /// Takes a listening socket over.
    pub(super) fn new(socket: std::net::TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: TcpListener::from_std(socket)?,
            gate: Gate::with_total(PER_ADDRESS, CONNECTIONS),
        })
    }

    /// Serves whoever connects, until the process ends.
    pub(super) async fn serve(self, service: Router) {
        loop {
            match self.socket.accept().await {
                Ok((socket, peer)) => {
                    let permit = self.gate.replace(peer.ip());
                    tokio::spawn(converse(socket, permit, service.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "an operator's connection could not be accepted");
                    sleep(OUT_OF_SOCKETS).await;
                }
            }
        }
    }
}

/// Answers the requests of one connection.
async fn converse(socket: TcpStream, permit: Permit, service: Router) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(BUFFER);
    let service = TowerToHyperService::new(service);
    let requests = http.serve_connection(TokioIo::new(socket), service);
    tokio::select! {
        // It does not matter how it ended: the peer knows, or is gone.
        _ = timeout(LIFETIME, requests) => {}
        () = permit.shed() => {}
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::Instant;

    use super::*;

    async fn start() -> SocketAddr {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let service = Router::new().route("/livez", get(async || "alive\n"));
        tokio::spawn(Bounded::new(socket).unwrap().serve(service));
        address
    }

    async fn alive(address: SocketAddr) -> bool {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let request = b"GET /livez HTTP/1.0\r\nHost: x\r\n\r\n";
        socket.write_all(request).await.unwrap();
        let mut answer = String::new();
        let read = timeout(Duration::from_secs(2), socket.read_to_string(&mut answer));
        read.await.is_ok() && answer.ends_with("alive\n")
    }

    #[tokio::test]
    async fn t_63_silent_sockets_do_not_silence_the_node() {
        let address = start().await;
        let mut silent = Vec::new();
        for _ in 0..2 * CONNECTIONS {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        assert!(alive(address).await);
    }

    #[tokio::test]
    async fn t_65_a_head_that_does_not_end_ends_its_connection() {
        let address = start().await;
        let started = Instant::now();
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
        let mut answer = Vec::new();
        let read = timeout(2 * HEAD, socket.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "it is still open");
        assert!(started.elapsed() >= HEAD / 2, "it had no time");
        assert!(alive(address).await);
    }
}
