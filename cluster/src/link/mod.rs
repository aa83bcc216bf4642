//! The links between nodes: one authenticated connection per pair of nodes, which carries everything between them.
//!
//! The node in the lower seat dials. Requests, replies and pings travel as frames; those by which a failure is detected
//! and overcome overtake the others. When a connection is lost, all callers that wait for a reply fail at once. If the
//! peer then refuses connections, or stays silent for half a second, it is down ([`PeerEvent::Down`]) and others lead
//! its groups. That does not yet mean that its sessions are lost: a process that was paused for a second has lost
//! nothing. So a silent peer is only absent ([`Absence`]), and only one whose address refuses connections is known to
//! be gone.
//!
//! Connections run on a runtime of their own, so that pings never wait for an entry, a snapshot or the host. Requests
//! are answered on the runtime that the links were started from.
//!
//! - [`frame`] is the format; [`tls`] authenticates; [`hello`] is the greeting;
//! - `connection` carries frames; `pieces` cuts large ones; `peer` keeps one seat connected; `listener` accepts;
//! - `discover` finds nodes by name.
//!
//! A node that joins is in nobody's configuration. It knows somebody and dials; the greeting says which seat it has and
//! where it is reached, and whoever hears this keeps a connection with it from then on. All others hear of it from the
//! membership of the groups.
//!
//! # Invariants
//!
//! 1. A seat is filled by at most one process at a time. Its events come in order: it is up before it is down.
//! 2. Nothing is sent to a peer that has not authenticated (T-67).
//! 3. Nothing but reading and writing bytes happens on the connections' runtime.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use self::connection::Connection;
use self::discover::Found;
pub use self::frame::Kind;
use self::hello::Place;
use self::peer::Peer;
use self::tls::{Tls, TlsError};
use crate::bound::TooLarge;
use crate::config::{self, Config, LinkAuth};
use crate::format::{Version, Versions};
use crate::identity::Identity;
use crate::{BootId, NodeId};

mod connection;
pub mod discover;
pub mod frame;
pub mod hello;
mod listener;
mod lost;
mod peer;
mod pieces;
pub mod tls;

/// How many events a slow subscriber may be behind.
const EVENTS: usize = 256;

/// A process that fills a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// The seat that it fills.
    pub seat: u64,
    /// Its node id.
    pub node: NodeId,
    /// Its run.
    pub boot: BootId,
}

/// A peer came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// The process is connected.
    Up(Process),
    /// The process is not connected any more: it is gone, paused, or cut off.
    Down(Process),
    /// The process was down before, and now nobody listens at its address: this run will not come back.
    Gone(Process),
    /// A peer says that this node is no longer a member.
    Replaced,
}

/// A process that has filled a seat which nobody fills now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absence {
    /// The process.
    pub process: Process,
    /// Since when nothing was heard of it.
    pub since: Instant,
    /// Whether its address has refused a connection since then, so that the process is known to be gone.
    pub gone: bool,
}

/// The receiver of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// The node with this id, in whichever seat.
    Node(NodeId),
    /// The node that fills this seat.
    Seat(u64),
}

impl From<NodeId> for To {
    fn from(node: NodeId) -> Self {
        Self::Node(node)
    }
}

/// A request of a peer.
#[derive(Clone, Debug)]
pub struct Request {
    /// The sender.
    pub from: Process,
    /// What it is about.
    pub kind: Kind,
    /// The Raft group; 0 if it concerns none.
    pub group: u64,
    /// The content.
    pub payload: Bytes,
}

/// Answers requests of the kinds that it was registered for ([`Links::serve`]).
pub trait Handler: Send + Sync + 'static {
    /// Returns the reply, or `None` to refuse. Each request is answered in a task of its own.
    fn handle(&self, request: Request) -> BoxFuture<'static, Option<Bytes>>;
}

/// A request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The peer is not connected, or was lost before it answered: it may or may not have acted.
    #[error("the peer is not connected")]
    Down,
    /// The peer has not answered in time; it may or may not have acted.
    #[error("the peer does not answer")]
    Timeout,
    /// The peer will not answer: it knows no such request or group, or is about to stop.
    #[error("the peer refuses")]
    Refused,
    /// The request is larger than may be sent.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

/// The links cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum LinkStartError {
    /// No address to listen on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The certificates or the secret cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The connections to all peers. Clones share them.
#[derive(Clone)]
pub struct Links(Arc<Shared>);

/// What the tasks of all peers share.
struct Shared {
    identity: Identity,
    place: Place,
    speaks: Versions,
    // A lock, as connections read it; it is written when an operator changes secrets or certificates.
    tls: RwLock<Tls>,
    // A lock, as everybody reads it; it is written when a node joins or leaves the cluster.
    peers: RwLock<BTreeMap<u64, (Arc<Peer>, AbortHandle)>>,
    // A lock, as the tasks of requests read it; it is written only while the node starts.
    handlers: RwLock<HashMap<Kind, Arc<dyn Handler>>>,
    events: broadcast::Sender<PeerEvent>,
    tasks: Mutex<Vec<AbortHandle>>,
    /// The runtime on which requests are answered.
    answering: Handle,
    /// The runtime of the connections.
    connecting: Handle,
    /// What was found behind the configured name, if there is one and it has addresses.
    found: watch::Sender<Option<Found>>,
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Links").field(&self.up()).finish()
    }
}

impl Links {
    /// Listens, and keeps dialling the peers in higher seats. Connections run on `runtime`; requests are answered on
    /// the current one.
    pub fn start(
        config: &Config,
        identity: &Identity,
        runtime: &Handle,
    ) -> Result<Self, LinkStartError> {
        let failed = |source| LinkStartError::Listen {
            address: config.listen,
            source,
        };
        let listener = std::net::TcpListener::bind(config.listen).map_err(failed)?;
        Self::start_on(listener, config, identity, runtime)
    }

    /// The same with a listener that exists already.
    pub fn start_on(
        listener: std::net::TcpListener,
        config: &Config,
        identity: &Identity,
        runtime: &Handle,
    ) -> Result<Self, LinkStartError> {
        let answering = Handle::current();
        // Sockets that are opened here belong to the connections' runtime.
        let _inside = runtime.enter();
        let failed = |source| LinkStartError::Listen {
            address: config.listen,
            source,
        };
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = TcpListener::from_std(listener).map_err(failed)?;
        let shared = Arc::new(Shared {
            identity: identity.clone(),
            place: Place {
                cluster_name: config.cluster_name.clone(),
                shards: config.shards,
                address: config.advertise.clone(),
                zone: config.zone.clone(),
            },
            speaks: config.formats,
            tls: RwLock::new(Tls::new(&config.auth)?),
            peers: RwLock::default(),
            handlers: RwLock::default(),
            events: broadcast::channel(EVENTS).0,
            tasks: Mutex::default(),
            answering,
            connecting: runtime.clone(),
            found: watch::Sender::default(),
        });
        for peer in config.peers.iter().filter(|peer| peer.seat != config.seat) {
            shared.introduce(peer.seat, &peer.address);
        }
        let mut tasks = vec![runtime.spawn(listener::run(shared.clone(), listener))];
        if let Some(names) = &config.discovery {
            tasks.push(runtime.spawn(discover::run(shared.clone(), names.clone())));
        }
        shared
            .tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(tasks.iter().map(|task| task.abort_handle()));
        Ok(Self(shared))
    }

    /// Has nodes known by these secrets or certificates from now on. Connections that there are stay. Reads files, and so
    /// blocks.
    pub fn set_auth(&self, auth: &LinkAuth) -> Result<(), TlsError> {
        let tls = Tls::new(auth)?;
        *self.0.tls.write().unwrap_or_else(PoisonError::into_inner) = tls;
        Ok(())
    }

    /// Keeps a connection with the node of this seat from now on, which was said to be at `address`. Does nothing for
    /// a seat that is known, except that an address replaces the one that nobody answers at.
    pub fn introduce(&self, seat: u64, address: &str) {
        if seat != self.0.identity.seat() && !address.is_empty() {
            self.0.introduce(seat, address);
        }
    }

    /// What was found behind the configured name, if there is one and it has addresses.
    pub fn found(&self) -> Option<Found> {
        *self.0.found.borrow()
    }

    /// Forgets a seat whose node has left the cluster for good.
    pub fn dismiss(&self, seat: u64) {
        let mut peers = self.0.peers.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((peer, task)) = peers.remove(&seat) {
            task.abort();
            peer.disconnect();
        }
    }

    /// Ends the connection with a node, if there is one. The next greeting tells whether it may come back.
    pub fn send_away(&self, node: NodeId) {
        let peers = self.0.peers();
        let is_it = |peer: &&Arc<Peer>| peer.process().is_some_and(|there| there.node == node);
        if let Some(peer) = peers.iter().find(is_it) {
            peer.send_away();
        }
    }

    /// Has `handler` answer requests of these kinds from now on. Before that they are refused.
    pub fn serve(&self, kinds: &[Kind], handler: Arc<dyn Handler>) {
        let mut handlers = self
            .0
            .handlers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        handlers.extend(kinds.iter().map(|kind| (*kind, handler.clone())));
    }

    /// Sends a request and waits for the reply. Fails at once if the peer is not connected or the connection is lost.
    pub async fn call(
        &self,
        to: impl Into<To>,
        kind: Kind,
        group: u64,
        payload: impl Into<Bytes>,
        timeout: Duration,
    ) -> Result<Bytes, LinkError> {
        let connection = match to.into() {
            To::Seat(seat) => self.0.connection(|peer, _| peer == seat),
            To::Node(node) => self.0.connection(|_, process| process.node == node),
        };
        let connection = connection.ok_or(LinkError::Down)?;
        connection.call(kind, group, payload.into(), timeout).await
    }

    /// The peers that are up, by seat.
    pub fn up(&self) -> Vec<Process> {
        let peers = self.0.peers();
        peers.iter().filter_map(|peer| peer.process()).collect()
    }

    /// The processes that were up and are not any more, by seat.
    pub fn absent(&self) -> Vec<Absence> {
        let peers = self.0.peers();
        peers.iter().filter_map(|peer| peer.absence()).collect()
    }

    /// Whether a node is up. This node is.
    pub fn is_up(&self, node: NodeId) -> bool {
        node == self.0.identity.node() || self.up().iter().any(|process| process.node == node)
    }

    /// Events from now on. [`Links::up`] knows of an event before it is sent.
    pub fn subscribe(&self) -> broadcast::Receiver<PeerEvent> {
        self.0.events.subscribe()
    }

    /// The newest version of the formats that all members read. As long as some member was not met in this run, it is
    /// the oldest that this node writes.
    pub fn common_format(&self) -> Version {
        let ours = self.0.speaks;
        let peers = self.0.peers();
        let known = peers.iter().map(|peer| peer.speaks());
        let common = known.map(|theirs| theirs.and_then(|theirs| ours.common(theirs)));
        let lowest = common.map(|common| common.unwrap_or(ours.oldest)).min();
        lowest.unwrap_or(ours.newest)
    }

    /// The versions of the formats that the processes of the seats speak, as far as they were met.
    pub fn spoken(&self) -> BTreeMap<u64, Versions> {
        let peers = self.0.peers();
        let met = peers.iter();
        met.filter_map(|peer| Some((peer.seat, peer.speaks()?)))
            .collect()
    }

    /// The zones of the seats whose processes were met and are in one, this node's among them.
    pub fn zones(&self) -> BTreeMap<u64, String> {
        let peers = self.0.peers();
        let peers = peers.iter().map(|peer| (peer.seat, peer.zone()));
        let me = (self.0.identity.seat(), self.0.place.zone.clone());
        let named = peers.chain([me]).filter(|(_, zone)| !zone.is_empty());
        named.collect()
    }

    /// The connected nodes that are in the zone of this one.
    pub fn neighbours(&self) -> BTreeSet<NodeId> {
        let zones = self.zones();
        let near = zones.get(&self.0.identity.seat());
        let up = self.up().into_iter();
        let up = up.filter(|process| near.is_some() && zones.get(&process.seat) == near);
        up.map(|process| process.node).collect()
    }

    /// The seats of all peers, with the addresses of their nodes.
    pub fn seats(&self) -> BTreeMap<u64, String> {
        let peers = self.0.peers();
        peers
            .iter()
            .map(|peer| (peer.seat, peer.address()))
            .collect()
    }

    /// Ends all connections and stops listening.
    pub fn shutdown(&self) {
        for task in self
            .0
            .tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            task.abort();
        }
        for (peer, task) in self
            .0
            .peers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
        {
            task.abort();
            peer.disconnect();
        }
        // Handlers refer to groups, and these refer to the links: the circle must be broken.
        self.0
            .handlers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

impl Shared {
    /// All peers, by seat.
    fn peers(&self) -> Vec<Arc<Peer>> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers.values().map(|(peer, _)| peer.clone()).collect()
    }

    fn tls(&self) -> Tls {
        let tls = self.tls.read().unwrap_or_else(PoisonError::into_inner);
        tls.clone()
    }

    fn connection(&self, wanted: impl Fn(u64, Process) -> bool) -> Option<Arc<Connection>> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        let mut connections = peers
            .iter()
            .filter_map(|(seat, (peer, _))| Some((*seat, peer.connection()?)));
        let found = connections.find(|(seat, connection)| wanted(*seat, connection.process));
        found.map(|(_, connection)| connection)
    }

    /// The peer in a seat. It is made and kept connected if it is new.
    fn introduce(self: &Arc<Self>, seat: u64, address: &str) -> Arc<Peer> {
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((peer, _)) = peers.get(&seat) {
            // What a connected process has said is newer than what others say.
            if peer.connection().is_none() && !address.is_empty() {
                peer.move_to(address);
            }
            return peer.clone();
        }
        let (sender, receiver) = mpsc::channel(1);
        let named = config::Peer {
            seat,
            address: address.to_owned(),
        };
        let peer = Arc::new(Peer::new(named, self.identity.seat(), sender));
        let task = self
            .connecting
            .spawn(peer::run(self.clone(), peer.clone(), receiver));
        peers.insert(seat, (peer.clone(), task.abort_handle()));
        peer
    }

    async fn answer(&self, request: Request) -> Option<Bytes> {
        let handler = self.handler(request.kind)?;
        handler.handle(request).await
    }

    fn handler(&self, kind: Kind) -> Option<Arc<dyn Handler>> {
        self.handlers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&kind)
            .cloned()
    }
}

#[cfg(test)]
mod tests;
