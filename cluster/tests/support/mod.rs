//! Nodes in one process, on real sockets and disks, with a host that notes what it is told.

#![allow(dead_code, reason = "each file of tests uses a part")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests measure how long things take"
)]

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster::config::{Config, LinkAuth, Peer};
use cluster::format::Versions;
use cluster::session::*;
use cluster::{ArchiveId, Cluster, ConnId, Epoch, Host, ShardId, SmId, shard_of};
use futures_util::future::BoxFuture;
use proto::stanza::{Header, Kind, MessageType, Packet, PresenceType};
use proto::{BareJid, Jid};
use tempfile::TempDir;

/// Notes what it is told, and performs everything.
#[derive(Default)]
pub struct Edge {
    outputs: Mutex<Vec<Output>>,
    pub rows: Mutex<Vec<ArchiveId>>,
    /// How often outputs may have been skipped.
    pub skipped: AtomicUsize,
    /// For as long as this is true, nobody who says something to the host gets on.
    pub busy: AtomicBool,
}

impl Host for Edge {
    fn answer(&self, question: bytes::Bytes) -> bytes::Bytes {
        question
    }

    fn outputs(&self, outputs: Vec<Output>) {
        while self.busy.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.outputs.lock().expect("whole").extend(outputs);
    }

    fn notices(&self, _: ShardId, _: bool, _: &[Notice]) {}

    fn resync(&self, _: ShardId) {
        self.skipped.fetch_add(1, Ordering::SeqCst);
    }

    fn perform(&self, _: ShardId, effects: Vec<Pending>) -> BoxFuture<'static, Vec<Completed>> {
        let mut rows = self.rows.lock().expect("whole");
        for effect in &effects {
            if let Effect::Archive(row) = &*effect.effect {
                rows.push(row.mid);
            }
        }
        let done = effects.iter().map(|effect| Completed {
            id: effect.id,
            relays: Vec::new(),
            messages: Vec::new(),
        });
        let done = done.collect();
        Box::pin(async move { done })
    }
}

impl Edge {
    /// Everything that came for a session: the numbers of stanzas, and what they are.
    pub fn stanzas(&self, of: &Jid) -> Vec<(u64, Arc<Item>)> {
        let outputs = self.outputs.lock().expect("whole");
        let stanza = |output: &Output| match &output.event {
            Event::Stanza { seq, item } if output.session == *of => Some((*seq, item.clone())),
            _ => None,
        };
        outputs.iter().filter_map(stanza).collect()
    }

    /// The numbered messages that came, in order.
    pub fn chats(&self) -> Vec<u64> {
        let outputs = self.outputs.lock().expect("whole");
        let stanzas = outputs.iter().filter_map(|output| match &output.event {
            Event::Stanza { item, .. } => Some(item),
            _ => None,
        });
        stanzas.filter_map(|item| number(item)).collect()
    }
}

pub struct Node {
    pub cluster: Cluster,
    pub edge: Arc<Edge>,
}

pub async fn start(config: Config, listener: Option<TcpListener>) -> Node {
    let edge = Arc::new(Edge::default());
    let started = Instant::now();
    loop {
        let again = listener.as_ref().map(|l| l.try_clone().expect("clones"));
        match Cluster::start_on(config.clone(), again, edge.clone()).await {
            Ok(cluster) => return Node { cluster, edge },
            // The log's thread of a node that was dropped in this process may still be at its last write.
            Err(error)
                if format!("{error:?}").contains("Locked")
                    && started.elapsed() < Duration::from_secs(20) =>
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("does not start: {error}"),
        }
    }
}

pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub async fn ready(nodes: &[Node]) {
    for node in nodes {
        let cluster = &node.cluster;
        until(&format!("ready, but {:?}", cluster.ready()), || {
            cluster.ready().is_ok()
        })
        .await;
    }
}

/// An account of a shard.
pub fn account(shard: u16) -> BareJid {
    let mut all = (0..).map(|n| BareJid::new(&format!("user{n}@example.org")).expect("valid"));
    all.find(|account| shard_of(account, 3) == ShardId(shard))
        .expect("shards have accounts")
}

pub fn packet(kind: Kind, from: &Jid, to: Option<&BareJid>, text: String) -> Packet {
    let header = Header {
        kind,
        from: Some(from.clone()),
        to: to.map(Jid::from),
        id: None,
        lang: None,
    };
    Packet {
        header,
        payload: Bytes::from(text),
    }
}

/// A session that may be resumed, with presence.
pub async fn log_in(node: &Node, account: &BareJid) -> (Jid, Epoch) {
    let session = account.with_resource("r").expect("valid");
    let propose = |command| node.cluster.propose(account, command);
    let bind = Bind {
        session: session.clone(),
        owner: node.cluster.owner(ConnId(1)),
    };
    let Ok(Outcome::Bound { epoch }) = propose(Command::Bind(bind)).await else {
        panic!("not bound")
    };
    let smid = Some(SmId(session.as_str().into()));
    let enable = Enable {
        session: session.clone(),
        epoch,
        after: 0,
        smid,
        max: 60,
        seed: 0,
    };
    assert_eq!(propose(Command::Enable(enable)).await, Ok(Outcome::Done));
    let update = PresenceUpdate {
        packet: packet(
            Kind::Presence(PresenceType::Available),
            &session,
            None,
            String::new(),
        ),
        priority: 0,
        subscribers: Vec::new(),
        probes: Vec::new(),
        requests: Vec::new(),
    };
    let stanzas = vec![vec![Action::Presence(update)]];
    let inbound = Inbound {
        session: session.clone(),
        epoch,
        first: 1,
        stanzas,
    };
    assert_eq!(
        propose(Command::Inbound(inbound)).await,
        Ok(Outcome::Handled { next: 2 })
    );
    (session, epoch)
}

/// Sends the message with this number, from 0 on.
pub async fn send(node: &Node, (session, epoch): &(Jid, Epoch), to: &BareJid, n: u64) {
    let text = format!("<body>{n}</body>");
    let message = Message {
        packet: packet(Kind::Message(MessageType::Chat), session, Some(to), text),
        mid: ArchiveId::new(1, u128::from(n)),
        traits: Traits {
            archive_received: true,
            offline: true,
            ..Traits::default()
        },
    };
    let stanzas = vec![vec![Action::Send(Relay::Message(message))]];
    let inbound = Inbound {
        session: session.clone(),
        epoch: *epoch,
        first: n + 2,
        stanzas,
    };
    let outcome = node
        .cluster
        .propose(&session.bare(), Command::Inbound(inbound))
        .await;
    assert_eq!(outcome, Ok(Outcome::Handled { next: n + 3 }));
}

/// The number in a message.
pub fn number(item: &Item) -> Option<u64> {
    let text = String::from_utf8_lossy(&item.packet.payload).into_owned();
    let text = text.strip_prefix("<body>")?.strip_suffix("</body>")?;
    text.parse().ok()
}

/// Asks for the sessions of an account.
pub fn sessions(account: &BareJid) -> query::Sessions {
    let account = account.clone();
    query::Sessions { account }
}

/// So many seats on loopback.
pub async fn several(dir: &TempDir, count: usize) -> Vec<Node> {
    several_of(dir, &vec![Versions::SPOKEN; count]).await
}

/// A seat on loopback for each of these builds, which speak these versions.
pub async fn several_of(dir: &TempDir, formats: &[Versions]) -> Vec<Node> {
    let listen = |_: &Versions| TcpListener::bind("127.0.0.1:0").expect("binds");
    let listeners: Vec<TcpListener> = formats.iter().map(listen).collect();
    let address = |listener: &TcpListener| listener.local_addr().expect("bound").to_string();
    let peers: Vec<Peer> = (1..)
        .zip(&listeners)
        .map(|(seat, l)| Peer {
            seat,
            address: address(l),
        })
        .collect();
    let mut nodes = Vec::new();
    for ((peer, listener), formats) in peers.iter().zip(listeners).zip(formats) {
        listener.set_nonblocking(true).expect("sets");
        let config = Config {
            seat: peer.seat,
            advertise: peer.address.clone(),
            peers: peers.clone(),
            formats: *formats,
            auth: LinkAuth::of_secrets(b"a secret for all nodes"),
            ..Config::single(dir.path().join(peer.seat.to_string()), Settings::default())
        };
        nodes.push(start(config, Some(listener)).await);
    }
    nodes
}
