//! Node to node: one authenticated connection per pair of nodes, shared by everything they tell each other.
//!
//! The lower seat dials. Requests, answers and signs of life of both sides travel as frames; what finds
//! and ends a failure overtakes the rest. When a connection is lost all who wait for an answer hear of it
//! at once, and a peer that then refuses to be called, or stays silent for half a second, is down
//! ([`PeerEvent::Down`]): others lead its groups. Its clients are another matter. A process that stands
//! still for a second has lost nothing, so that a peer which is merely silent is [`Absence`], and one
//! whose address refuses to be called is known to be gone.
//!
//! Connections run on a runtime of their own: signs of life must not wait for an entry that is applied, a
//! snapshot or a host. Requests are answered on the runtime that the links were started from.
//!
//! - [`frame`]: bytes to frames; [`tls`]: who may be there; [`hello`]: who is there;
//! - `connection`: one connection while it lasts; `pieces`: what is large; `peer`: one seat, connected or not;
//!   `listener`.
//!
//! # Invariants
//!
//! 1. A seat is filled by at most one process at a time, which was up before it is down; events say so in
//!    this order.
//! 2. Nothing is sent to a peer that has not proved itself (T-67).
//! 3. Nothing but bytes is handled on the connections' runtime.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;

pub use self::frame::Kind;
use self::peer::Peer;
use self::tls::{Tls, TlsError};
use crate::bound::TooLarge;
use crate::config::Config;
use crate::format::{Version, Versions};
use crate::identity::Identity;
use crate::{BootId, NodeId};

mod connection;
pub mod frame;
pub mod hello;
mod listener;
mod peer;
mod pieces;
pub mod tls;

/// Events that a slow listener may fall behind by.
const EVENTS: usize = 256;

/// One run of the process that fills a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// The place.
    pub seat: u64,
    /// The disk.
    pub node: NodeId,
    /// The run.
    pub boot: BootId,
}

/// A peer came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// It is connected.
    Up(Process),
    /// It is not connected any more: it is gone, stands still, or is cut off.
    Down(Process),
    /// It was down before, and now nobody listens at its address: it will not come back under this boot id.
    Gone(Process),
}

/// A process that filled a seat, and does not now; nor does another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absence {
    /// Which.
    pub process: Process,
    /// Since when nothing is heard of it.
    pub since: Instant,
    /// Its address refuses connections, or did once since then: the process is gone.
    pub gone: bool,
}

/// Whom a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// A disk, wherever it is.
    Node(NodeId),
    /// Whoever fills the seat.
    Seat(u64),
}

impl From<NodeId> for To {
    fn from(node: NodeId) -> Self {
        Self::Node(node)
    }
}

/// What a peer asks.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who asks.
    pub from: Process,
    /// In which version of the formats, which is that of the answer too.
    pub version: Version,
    /// About what.
    pub kind: Kind,
    /// In which Raft group; 0 if in none.
    pub group: u64,
    /// The question.
    pub payload: Bytes,
}

/// Answers requests of the kinds that it was registered for ([`Links::serve`]).
pub trait Handler: Send + Sync + 'static {
    /// Answers, or refuses with `None`. Requests are answered side by side, each in its own task.
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
    /// More than may be sent at a time.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

/// The links cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum LinkStartError {
    /// Nobody could call us.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Nobody could be authenticated.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The connections to all peers. Clones share them.
#[derive(Clone)]
pub struct Links(Arc<Shared>);

/// What the tasks of all peers share.
struct Shared {
    identity: Identity,
    cluster_name: String,
    shards: u16,
    speaks: Versions,
    tls: Tls,
    peers: BTreeMap<u64, Arc<Peer>>,
    // Written while the node is put together, read by the tasks of requests.
    handlers: RwLock<HashMap<Kind, Arc<dyn Handler>>>,
    events: broadcast::Sender<PeerEvent>,
    tasks: Mutex<Vec<AbortHandle>>,
    /// Where requests are answered.
    answering: Handle,
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Links").field(&self.up()).finish()
    }
}

impl Links {
    /// Listens, and keeps calling the peers with higher seats. Connections run on `runtime`; requests are
    /// answered on the current one.
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

    /// The same with a listener that is there already.
    pub fn start_on(
        listener: std::net::TcpListener,
        config: &Config,
        identity: &Identity,
        runtime: &Handle,
    ) -> Result<Self, LinkStartError> {
        let answering = Handle::current();
        // What is opened here is looked after by the connections' runtime.
        let _inside = runtime.enter();
        let failed = |source| LinkStartError::Listen {
            address: config.listen,
            source,
        };
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = TcpListener::from_std(listener).map_err(failed)?;
        let mut incoming = Vec::new();
        let mut peers = BTreeMap::new();
        for peer in config.peers.iter().filter(|peer| peer.seat != config.seat) {
            let (sender, receiver) = mpsc::channel(1);
            peers.insert(
                peer.seat,
                Arc::new(Peer::new(peer.clone(), config.seat, sender)),
            );
            incoming.push((peer.seat, receiver));
        }
        let shared = Arc::new(Shared {
            identity: identity.clone(),
            cluster_name: config.cluster_name.clone(),
            shards: config.shards,
            speaks: config.formats,
            tls: Tls::new(&config.auth)?,
            peers,
            handlers: RwLock::default(),
            events: broadcast::channel(EVENTS).0,
            tasks: Mutex::default(),
            answering,
        });
        let mut tasks = vec![runtime.spawn(listener::run(shared.clone(), listener))];
        for (seat, receiver) in incoming {
            let peer = shared.peers[&seat].clone();
            tasks.push(runtime.spawn(peer::run(shared.clone(), peer, receiver)));
        }
        shared
            .tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(tasks.iter().map(|task| task.abort_handle()));
        Ok(Self(shared))
    }

    /// From now on `handler` answers requests of these kinds. Until then they are refused.
    pub fn serve(&self, kinds: &[Kind], handler: Arc<dyn Handler>) {
        let mut handlers = self
            .0
            .handlers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        handlers.extend(kinds.iter().map(|kind| (*kind, handler.clone())));
    }

    /// Asks a peer. Fails at once if it is not connected or the connection is lost.
    pub async fn call(
        &self,
        to: impl Into<To>,
        kind: Kind,
        group: u64,
        payload: impl Into<Bytes>,
        timeout: Duration,
    ) -> Result<Bytes, LinkError> {
        let connection = match to.into() {
            To::Seat(seat) => self.0.peers.get(&seat).and_then(|peer| peer.connection()),
            To::Node(node) => {
                let mut connections = self.0.peers.values().filter_map(|peer| peer.connection());
                connections.find(|connection| connection.process.node == node)
            }
        };
        let connection = connection.ok_or(LinkError::Down)?;
        connection.call(kind, group, payload.into(), timeout).await
    }

    /// The peers that are up, by seat.
    pub fn up(&self) -> Vec<Process> {
        self.0
            .peers
            .values()
            .filter_map(|peer| peer.process())
            .collect()
    }

    /// The processes that were up and are not, by seat.
    pub fn absent(&self) -> Vec<Absence> {
        let peers = self.0.peers.values();
        peers.filter_map(|peer| peer.absence()).collect()
    }

    /// Whether a node is up. This node is.
    pub fn is_up(&self, node: NodeId) -> bool {
        node == self.0.identity.node() || self.up().iter().any(|process| process.node == node)
    }

    /// Events from now on. [`Links::up`] knows of an event before it is sent.
    pub fn subscribe(&self) -> broadcast::Receiver<PeerEvent> {
        self.0.events.subscribe()
    }

    /// The newest version of the formats that all members read: of those that were met in this run. As long as
    /// one was not, it is the oldest that this node writes.
    pub fn common_format(&self) -> Version {
        let ours = self.0.speaks;
        let known = self.0.peers.values().map(|peer| peer.speaks());
        let common = known.map(|theirs| theirs.and_then(|theirs| ours.common(theirs)));
        let lowest = common.map(|common| common.unwrap_or(ours.oldest)).min();
        lowest.unwrap_or(ours.newest)
    }

    /// The seats of all peers.
    pub fn seats(&self) -> Vec<u64> {
        self.0.peers.keys().copied().collect()
    }

    /// Ends all connections and stops to listen.
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
        for peer in self.0.peers.values() {
            peer.disconnect();
        }
        // Handlers hold on to groups, which hold on to these links.
        self.0
            .handlers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

impl Shared {
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
