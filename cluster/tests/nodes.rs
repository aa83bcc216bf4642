//! Whole nodes, with real logs and links, in one process.

#![allow(
    clippy::disallowed_methods,
    reason = "it measures how long things take"
)]

mod support;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cluster::config::{Config, LinkAuth, Peer};
use cluster::format::{Version, Versions};
use cluster::session::*;
use cluster::{Cluster, ConnId, Host, SmId};
use tempfile::TempDir;

use self::support::*;

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
        .query_latest(&bob, sessions(&bob))
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn im_nothing_is_lost_or_doubled_when_a_node_dies_amid_messages() {
    let dir = TempDir::new().expect("makes");
    let mut nodes = several(&dir, 3).await;
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
    let sleeps = |_, state: &ShardState| {
        let views = state.sessions(&carol.bare());
        views
            .first()
            .is_some_and(|view| view.hibernates_for.is_some())
    };
    until("sessions of the dead node hibernate", || {
        nodes[0].cluster.read_all(sleeps).contains(&true)
    })
    .await;
    ready(&nodes).await;
    assert_eq!(nodes[1].edge.chats(), Vec::from_iter(0..60));
}

/// Longer than a node may be silent before others lead what it led.
const BUSY: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_5_a_node_that_is_busy_with_entries_is_heard_by_the_others() {
    let dir = TempDir::new().expect("makes");
    let nodes = several(&dir, 3).await;
    ready(&nodes).await;
    let alice = account(0);
    let sender = log_in(&nodes[0], &alice).await;
    for shard in 1..3 {
        log_in(&nodes[2], &account(shard)).await;
    }
    nodes[2].edge.busy.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    // Leaders may move meanwhile, and the others go on.
    for shard in 1..3 {
        send(&nodes[0], &sender, &account(shard), u64::from(shard) - 1).await;
    }
    while begun.elapsed() < BUSY {
        for node in &nodes[..2] {
            let seats = node.cluster.status().nodes;
            assert!(seats.iter().all(|seat| seat.up), "{:?}", begun.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    nodes[2].edge.busy.store(false, Ordering::SeqCst);
    until("all is delivered", || nodes[2].edge.chats().len() >= 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_drains_leads_nothing_and_is_not_ready() {
    let dir = TempDir::new().expect("makes");
    let nodes = several(&dir, 3).await;
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
    let seen = nodes[1].cluster.query_latest(&bob, sessions(&bob)).await;
    assert_eq!(seen.map(|views| views.len()), Ok(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_works_while_one_node_is_a_version_ahead() {
    let dir = TempDir::new().expect("makes");
    let ahead = Versions {
        oldest: Version::CURRENT,
        newest: Version(Version::CURRENT.0 + 1),
    };
    let nodes = several_of(&dir, &[Versions::SPOKEN, ahead, Versions::SPOKEN]).await;
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
        auth: LinkAuth::of_secrets(b"a secret for two nodes"),
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
