//! Sockets of the admin interface: few at a time, none for long.
//!
//! Whoever connects has shown nothing yet, so what a connection costs is bounded here, below HTTP.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

/// Connections at a time.
const CONNECTIONS: usize = 64;
/// A connection may live so long. A scraper opens the next one.
const LIFETIME: Duration = Duration::from_secs(60);
/// A wait when the process is out of descriptors (T-16).
const OUT_OF_SOCKETS: Duration = Duration::from_millis(100);

/// Accepts connections within the bounds.
pub(super) struct Bounded {
    socket: TcpListener,
    places: Arc<Semaphore>,
}

impl Bounded {
    /// Takes a listening socket over.
    pub(super) fn new(socket: std::net::TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: TcpListener::from_std(socket)?,
            places: Arc::new(Semaphore::new(CONNECTIONS)),
        })
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            // Never closed, so there is a place or there will be one.
            let Ok(place) = self.places.clone().acquire_owned().await else {
                std::future::pending().await
            };
            match self.socket.accept().await {
                Ok((socket, peer)) => {
                    let end = Box::pin(sleep(LIFETIME));
                    let connection = Connection {
                        socket,
                        end,
                        _place: place,
                    };
                    return (connection, peer);
                }
                Err(_) => sleep(OUT_OF_SOCKETS).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// A connection that ends by itself.
pub(super) struct Connection {
    socket: TcpStream,
    end: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    /// An error once the connection has lived its time; otherwise it wakes the task when it has.
    fn alive(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.alive(context)?;
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.alive(context)?;
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
