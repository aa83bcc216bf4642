//! Whole nodes, with real logs and links, in one process.

#![allow(
    clippy::disallowed_methods,
    reason = "it measures how long things take"
)]

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster::config::{Config, LinkAuth, Peer};
use cluster::format::{Version, Versions};
use cluster::session::*;
use cluster::shard::map::shard_of;
use cluster::{ArchiveId, Cluster, ConnId, Epoch, Host, ShardId, SmId};
use futures_util::future::BoxFuture;
use proto::stanza::{Header, Kind, MessageType, Packet, PresenceType};
use proto::{BareJid, Jid};
use tempfile::TempDir;

/// Notes what it is told, and performs everything.
#[derive(Default)]
struct Edge {
    outputs: Mutex<Vec<Output>>,
    rows: Mutex<Vec<ArchiveId>>,
}

impl Host for Edge {
    fn answer(&self, question: bytes::Bytes) -> bytes::Bytes {
        question
    }

    fn outputs(&self, outputs: Vec<Output>) {
        self.outputs.lock().expect("whole").extend(outputs);
    }

    fn notices(&self, _: ShardId, _: bool, _: &[Notice]) {}

    fn resync(&self, _: ShardId) {}

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
    /// The numbered messages that came, in order.
    fn chats(&self) -> Vec<u64> {
        let outputs = self.outputs.lock().expect("whole");
        let payloads = outputs.iter().filter_map(|output| match &output.event {
            Event::Stanza { item, .. } => {
                Some(String::from_utf8_lossy(&item.packet.payload).into_owned())
            }
            _ => None,
        });
        let number = |text: String| {
            text.strip_prefix("<body>")?
                .strip_suffix("</body>")?
                .parse()
                .ok()
        };
        payloads.filter_map(number).collect()
    }
}

struct Node {
    cluster: Cluster,
    edge: Arc<Edge>,
}

async fn start(config: Config, listener: Option<TcpListener>) -> Node {
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

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn ready(nodes: &[Node]) {
    for node in nodes {
        let cluster = &node.cluster;
        until(&format!("ready, but {:?}", cluster.ready()), || {
            cluster.ready().is_ok()
        })
        .await;
    }
}

/// An account of a shard.
fn account(shard: u16) -> BareJid {
    let mut all = (0..).map(|n| BareJid::new(&format!("user{n}@example.org")).expect("valid"));
    all.find(|account| shard_of(account, 3) == ShardId(shard))
        .expect("shards have accounts")
}

fn packet(kind: Kind, from: &Jid, to: Option<&BareJid>, text: String) -> Packet {
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
async fn log_in(node: &Node, account: &BareJid) -> (Jid, Epoch) {
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
async fn send(node: &Node, (session, epoch): &(Jid, Epoch), to: &BareJid, n: u64) {
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

fn pending(node: &Node) -> usize {
    node.cluster
        .read_all(|_, state| state.pending_count())
        .into_iter()
        .sum()
}

#[tokio::test]
async fn a_node_by_itself_delivers_and_a_restart_keeps_the_queue() {
    let dir = TempDir::new().expect("makes");
    let config = Config::single(dir.path().to_owned(), Settings::default());
    let node = start(config.clone(), None).await;
    ready(std::slice::from_ref(&node)).await;
    let (alice, bob) = (account(0), account(1));
    let sender = log_in(&node, &alice).await;
    let (session, _) = log_in(&node, &bob).await;
    for n in 0..10 {
        send(&node, &sender, &bob, n).await;
    }
    until("all is delivered", || {
        node.edge.chats() == Vec::from_iter(0..10)
    })
    .await;
    until("all is archived", || pending(&node) == 0).await;
    assert_eq!(node.edge.rows.lock().expect("whole").len(), 10);
    node.cluster.shutdown().await;
    drop(node);

    let again = start(config, None).await;
    ready(std::slice::from_ref(&again)).await;
    assert_eq!(again.edge.chats(), [0u64; 0]);
    let owner = again.cluster.owner(ConnId(1));
    let resume = Resume {
        account: bob.clone(),
        smid: SmId(session.as_str().into()),
        h: 0,
        owner,
    };
    let outcome = again.cluster.propose(&bob, Command::Resume(resume)).await;
    assert!(
        matches!(outcome, Ok(Outcome::Resumed { .. })),
        "{outcome:?}"
    );
    until("all comes again", || {
        again.edge.chats() == Vec::from_iter(0..10)
    })
    .await;
    let views = again
        .cluster
        .read_latest(&bob, |state| state.sessions(&bob))
        .await
        .expect("reads");
    assert_eq!(views[0].owner, Some(owner));
    assert_eq!(
        again
            .cluster
            .status()
            .shards
            .iter()
            .map(|shard| shard.sessions)
            .sum::<usize>(),
        2
    );
}

/// Three seats on loopback.
async fn three(dir: &TempDir) -> Vec<Node> {
    three_of(dir, [Versions::SPOKEN; 3]).await
}

/// Three seats on loopback, of builds that speak these versions.
async fn three_of(dir: &TempDir, formats: [Versions; 3]) -> Vec<Node> {
    let listen = |_| TcpListener::bind("127.0.0.1:0").expect("binds");
    let listeners: Vec<TcpListener> = (1..=3).map(listen).collect();
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
            formats,
            auth: LinkAuth::Secret(b"a secret for three nodes".to_vec()),
            ..Config::single(dir.path().join(peer.seat.to_string()), Settings::default())
        };
        nodes.push(start(config, Some(listener)).await);
    }
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn im_nothing_is_lost_or_doubled_when_a_node_dies_amid_messages() {
    let dir = TempDir::new().expect("makes");
    let mut nodes = three(&dir).await;
    ready(&nodes).await;
    // The third node goes, and with it the leader of one of the shards.
    let victim = nodes[2].cluster.node();
    let shards = nodes[0].cluster.status().shards;
    let led = shards
        .iter()
        .find(|shard| shard.leader == Some(victim))
        .map_or(0, |shard| shard.shard.0);
    let (alice, bob) = (account((led + 1) % 3), account(led));
    let sender = log_in(&nodes[0], &alice).await;
    log_in(&nodes[1], &bob).await;
    let (carol, _) = log_in(&nodes[2], &account((led + 2) % 3)).await;
    for n in 0..60 {
        if n == 30 {
            nodes.pop();
        }
        send(&nodes[0], &sender, &bob, n).await;
    }
    until("all is delivered", || nodes[1].edge.chats().len() >= 60).await;
    assert_eq!(nodes[1].edge.chats(), Vec::from_iter(0..60));
    until("all is archived", || {
        pending(&nodes[0]) == 0 && pending(&nodes[1]) == 0
    })
    .await;
    let sleeps = |state: &ShardState| {
        state
            .sessions(&carol.bare())
            .first()
            .is_some_and(|view| view.hibernates_for.is_some())
    };
    until("sessions of the dead node hibernate", || {
        nodes[0].cluster.read(&carol.bare(), sleeps)
    })
    .await;
    ready(&nodes).await;
    assert_eq!(nodes[1].edge.chats(), Vec::from_iter(0..60));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_drains_leads_nothing_and_is_not_ready() {
    let dir = TempDir::new().expect("makes");
    let nodes = three(&dir).await;
    ready(&nodes).await;
    nodes[0].cluster.drain().await;
    let me = nodes[0].cluster.node();
    assert!(nodes[0].cluster.ready().is_err());
    let leads = |node: &Node| {
        node.cluster
            .status()
            .shards
            .iter()
            .any(|shard| shard.leader == Some(me))
    };
    until("others lead", || !leads(&nodes[1])).await;
    let bob = account(0);
    log_in(&nodes[0], &bob).await;
    let seen = nodes[1]
        .cluster
        .read_latest(&bob, |state| state.sessions(&bob).len())
        .await;
    assert_eq!(seen, Ok(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_works_while_one_node_is_a_version_ahead() {
    let dir = TempDir::new().expect("makes");
    let ahead = Versions {
        oldest: Version::CURRENT,
        newest: Version(Version::CURRENT.0 + 1),
    };
    let nodes = three_of(&dir, [Versions::SPOKEN, ahead, Versions::SPOKEN]).await;
    ready(&nodes).await;
    let (alice, bob) = (account(0), account(1));
    let sender = log_in(&nodes[1], &alice).await;
    log_in(&nodes[0], &bob).await;
    for n in 0..20 {
        send(&nodes[1], &sender, &bob, n).await;
    }
    until("all is delivered", || nodes[0].edge.chats().len() >= 20).await;
    let formats = nodes[1].cluster.read_all(|_, state| state.format());
    assert!(formats.iter().all(|format| *format == Version::CURRENT));
}

#[tokio::test]
async fn what_does_not_allow_a_start_is_named() {
    let dir = TempDir::new().expect("makes");
    let busy = TcpListener::bind("127.0.0.1:0").expect("binds");
    let listen = busy.local_addr().expect("bound");
    let config = Config {
        listen,
        peers: vec![
            Peer {
                seat: 1,
                address: listen.to_string(),
            },
            Peer {
                seat: 2,
                address: "127.0.0.1:9".into(),
            },
        ],
        auth: LinkAuth::Secret(b"a secret for two nodes".to_vec()),
        ..Config::single(dir.path().to_owned(), Settings::default())
    };
    let edge: Arc<dyn Host> = Arc::new(Edge::default());
    let error = Cluster::start(config.clone(), edge.clone())
        .await
        .expect_err("the port is taken");
    assert!(error.to_string().contains(&listen.to_string()), "{error}");
    let error = Cluster::start(
        Config {
            shards: 0,
            ..config
        },
        edge,
    )
    .await
    .expect_err("no shards");
    assert!(error.to_string().contains("shards"), "{error}");
}
