//! Accepts client sockets in one place, and has them served on all arbiters in turn.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_rt::ArbiterHandle;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::proxy::{self, Origin, ProxyError};
use super::refusal::Refusal;
use super::{Door, descriptors};
use crate::app::App;
use crate::clock;
use crate::metrics::Refused;
use crate::session::arrival::{self, Visitor, Web};
use crate::session::pump::Pump;

/// How many connections may wait in the kernel to be accepted.
const BACKLOG: i32 = 1024;
/// The pause when the process has no file descriptors left (T-16).
const OUT_OF_SOCKETS: Duration = Duration::from_millis(50);
/// How often it is tried to open a listener again.
const REOPEN: Duration = Duration::from_secs(1);
/// The interval of TCP keepalives: balancers silently drop connections that were idle for 350 s.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A socket that clients connect to.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    /// How its connections begin.
    pub door: Door,
    /// The address that it really has.
    pub address: SocketAddr,
}

impl Listener {
    /// The socket alone, for those who accept by themselves.
    pub fn into_std(self) -> TcpListener {
        self.socket
    }
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}")]
pub struct ListenError {
    address: SocketAddr,
    error: io::Error,
}

impl ListenError {
    /// Whether another process listens on the address, or did a moment ago.
    pub fn is_taken(&self) -> bool {
        self.error.kind() == io::ErrorKind::AddrInUse
    }
}

/// Opens a listener. An IPv6 wildcard takes IPv4 as well, or only that where there is no IPv6.
pub fn bind(address: SocketAddr, door: Door) -> Result<Listener, ListenError> {
    let fallback = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
    let socket = match open(address) {
        Err(_) if address.is_ipv6() && address.ip().is_unspecified() => open(fallback),
        opened => opened,
    };
    let opened = socket.and_then(|socket| {
        let address = socket.local_addr()?;
        Ok(Listener {
            socket,
            door,
            address,
        })
    });
    opened.map_err(|error| ListenError { address, error })
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A restarted node must not have to wait until the connections of its predecessor have timed out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts connections until `stop` is true. While `open` is false the listener is closed, so that clients learn at
/// once that they have to go to another node.
pub async fn accept(
    app: Arc<App>,
    listener: Listener,
    arbiters: Vec<ArbiterHandle>,
    mut stop: watch::Receiver<bool>,
    mut open: watch::Receiver<bool>,
) -> io::Result<()> {
    let (address, door) = (listener.address, listener.door);
    let mut socket = tokio::net::TcpListener::from_std(listener.socket)?;
    for arbiter in arbiters.iter().cycle() {
        let accepted = tokio::select! {
            _ = stop.changed() => return Ok(()),
            () = becomes(&mut open, false) => None,
            accepted = socket.accept() => Some(accepted),
        };
        let Some(accepted) = accepted else {
            drop(socket);
            let opened = tokio::select! {
                _ = stop.changed() => return Ok(()),
                opened = reopen(address, door, &mut open) => opened,
            };
            socket = opened?;
            continue;
        };
        match accepted.and_then(|(socket, peer)| Ok((socket.into_std()?, peer))) {
            Ok((socket, peer)) => {
                let Some(space) = space(&app, &socket, peer) else {
                    continue;
                };
                let accepted = Accepted {
                    space,
                    socket,
                    peer,
                    door,
                };
                let app = app.clone();
                arbiter.spawn_fn(move || drop(actix_rt::spawn(serve(app, accepted))));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                app.gate.shed_oldest();
                tokio::time::sleep(OUT_OF_SOCKETS).await;
            }
        }
    }
    Ok(())
}

/// Waits until the value is as wished; for ever, if nobody is left who could change it.
async fn becomes(open: &mut watch::Receiver<bool>, wish: bool) {
    if open.wait_for(|open| *open == wish).await.is_err() {
        std::future::pending().await
    }
}

/// Opens the listener again once that is wanted. If another process has taken the port meanwhile, it tries until it is
/// free.
async fn reopen(
    address: SocketAddr,
    door: Door,
    open: &mut watch::Receiver<bool>,
) -> io::Result<tokio::net::TcpListener> {
    becomes(open, true).await;
    loop {
        match bind(address, door) {
            Ok(listener) => return tokio::net::TcpListener::from_std(listener.socket),
            Err(error) => {
                tracing::warn!(%error, "the listener cannot be opened again yet");
                tokio::time::sleep(REOPEN).await;
            }
        }
    }
}

/// Counts a socket for as long as it is open.
struct Counted(Arc<App>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.metrics.connections.dec();
    }
}

/// An accepted socket, of which nothing is known yet.
struct Accepted {
    socket: std::net::TcpStream,
    peer: SocketAddr,
    door: Door,
    space: Space,
}

/// Whether there is room for a new socket.
enum Space {
    /// There are descriptors for it.
    Enough,
    /// It has taken a descriptor of the reserve. It may be told that there is no room; the permit bounds how many are.
    Short(OwnedSemaphorePermit),
}

/// Finds out whether there is room for a new socket. `None`: it is closed at once, because a flood of sockets must not
/// use up the reserve while earlier ones are being told.
fn space(app: &App, socket: &std::net::TcpStream, peer: SocketAddr) -> Option<Space> {
    if !descriptors::is_short(socket) {
        return Some(Space::Enough);
    }
    // The oldest connection without a session is closed, so that the next client finds room.
    app.gate.shed_oldest();
    let place = app.refusals.place();
    if place.is_none() {
        note_refusal(app, peer.ip(), Refusal::Descriptors);
    }
    place.map(Space::Short)
}

fn note_refusal(app: &App, address: IpAddr, refusal: Refusal) {
    app.metrics.refused.inc(match refusal {
        Refusal::Address => Refused::Address,
        Refusal::Descriptors => Refused::Descriptors,
    });
    app.refusals.log(address, refusal, clock::instant());
}

async fn serve(app: Arc<App>, accepted: Accepted) {
    app.metrics.connections.inc();
    let counted = Counted(app.clone());
    let Accepted {
        socket,
        peer,
        door,
        space,
    } = accepted;
    // Errors are ignored: a socket that refuses these options is about to fail anyway.
    let tuned = SockRef::from(&socket);
    drop(tuned.set_tcp_nodelay(true));
    drop(tuned.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE)));
    let Ok(mut socket) = TcpStream::from_std(socket) else {
        return;
    };
    let mut address = peer.ip().to_canonical();
    let c2s = &app.config.c2s;
    if c2s.proxy_protocol && c2s.trusted_proxies.iter().any(|p| p.contains(address)) {
        match proxy::read(&mut socket).await {
            Ok(Origin::Address(client)) => address = client.to_canonical(),
            Ok(Origin::Balancer) => {}
            Err(ProxyError::Silent) => return,
            Err(error) => {
                app.metrics.refused.inc(Refused::ProxyHeader);
                return app.journal.no_header(address, error);
            }
        }
    }
    let entered = match space {
        Space::Enough => match app.gate.enter(address) {
            Some(permit) => Ok(permit),
            None => Err((Refusal::Address, app.refusals.place())),
        },
        Space::Short(place) => Err((Refusal::Descriptors, Some(place))),
    };
    let permit = match entered {
        Ok(permit) => permit,
        Err((refusal, place)) => {
            note_refusal(&app, address, refusal);
            if place.is_some() {
                arrival::turn_away(&app, socket, door, refusal.into()).await;
            }
            return;
        }
    };
    let visitor = Visitor {
        socket,
        address,
        permit,
    };
    match door {
        Door::StartTls => carry(arrival::starttls(app, visitor).await, counted),
        Door::Tls => carry(arrival::tls(app, visitor).await, counted),
        Door::Web => carry_web(arrival::web(app, visitor).await, counted),
    }
}

/// Serves a connection that has come to a session, as a task of its own.
fn carry<S: AsyncRead + AsyncWrite + Unpin + 'static>(pump: Option<Pump<S>>, counted: Counted) {
    let Some(pump) = pump.map(Box::new) else {
        return;
    };
    drop(actix_rt::spawn(async move {
        pump.run().await;
        drop(counted);
    }));
}

/// The same for what a web client has come to.
fn carry_web(web: Option<Web>, counted: Counted) {
    match web {
        Some(Web::Socket(pump)) => carry(Some(pump), counted),
        Some(Web::Requests(connection)) => drop(actix_rt::spawn(async move {
            connection.run().await;
            drop(counted);
        })),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_knows_the_port_that_it_got() {
        let listener = bind("127.0.0.1:0".parse().unwrap(), Door::Tls).unwrap();
        assert_ne!(listener.address.port(), 0);
        assert!(bind(listener.address, Door::Tls).is_err());
    }
}
