//! What strangers and neighbours do wrong costs them, and nobody else: over real processes, with the limits
//! that are the default.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::future::join_all;
use proto::ns;
use tests::client::PASSWORD;
use tests::cluster::Cluster;
use tests::until;
use tests::wire::{End, Wire};
use tokio::net::TcpSocket;
use tokio::time::timeout;

/// The block of addresses that does wrong, and another one.
const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 1);
/// Streams that do wrong at a time; a stream may do so three times.
const STREAMS: usize = 12;
const TRIES: usize = 3;

/// Tries to log in, once: the condition of the failure, or nothing.
async fn attempt(wire: &mut Wire, user: &str, password: &str) -> String {
    let outcome = wire.authenticate(user, password).await.unwrap();
    let condition = outcome
        .elements()
        .next()
        .map(|child| child.local().to_owned());
    condition
        .filter(|_| outcome.is("failure", ns::SASL))
        .unwrap_or_default()
}

/// Logs in from an address: the condition of the failure, or nothing.
async fn log_in(cluster: &Cluster, node: usize, from: Ipv4Addr, user: &str) -> String {
    let wire = Wire::direct_from(from, cluster.address(node), cluster.tls()).await;
    let mut wire = wire.unwrap();
    wire.open().await.unwrap();
    attempt(&mut wire, user, PASSWORD).await
}

/// Gives wrong passwords for alice at a node, as many as [`STREAMS`] and [`TRIES`] say.
async fn guess(cluster: &Cluster, node: usize) {
    let guess = async || {
        let wire = Wire::direct_from(HERE, cluster.address(node), cluster.tls()).await;
        let mut wire = wire.unwrap();
        wire.open().await.unwrap();
        for _ in 0..TRIES {
            let failure = attempt(&mut wire, "alice", "wrong").await;
            assert!(!failure.is_empty());
        }
    };
    join_all((0..STREAMS).map(|_| guess())).await;
}

#[tokio::test]
async fn t_26_wrong_passwords_lock_nobody_out_but_who_gives_them() {
    let cluster = Cluster::start(1, &["alice", "bob"], "").await;
    guess(&cluster, 0).await;
    assert_eq!(
        log_in(&cluster, 0, HERE, "alice").await,
        "temporary-auth-failure"
    );
    assert_eq!(log_in(&cluster, 0, HERE, "bob").await, "", "a neighbour");
    assert_eq!(
        log_in(&cluster, 0, ELSEWHERE, "alice").await,
        "",
        "the owner"
    );
}

#[tokio::test]
async fn t_26_wrong_passwords_are_counted_by_all_nodes_together() {
    let cluster = Cluster::start(3, &["alice"], "").await;
    // A third of them is too few at any single node, and at two.
    let guesses = (0..3).map(|node| {
        let cluster = &cluster;
        async move {
            let wires = (0..STREAMS / 3 + 1).map(async |_| {
                let wire = Wire::direct_from(HERE, cluster.address(node), cluster.tls()).await;
                let mut wire = wire.unwrap();
                wire.open().await.unwrap();
                for _ in 0..TRIES {
                    attempt(&mut wire, "alice", "wrong").await;
                }
            });
            join_all(wires).await;
        }
    });
    join_all(guesses).await;
    for node in 0..3 {
        until("the nodes have told each other", async || {
            log_in(&cluster, node, HERE, "alice").await == "temporary-auth-failure"
        })
        .await;
        assert_eq!(log_in(&cluster, node, ELSEWHERE, "alice").await, "");
    }
}

#[tokio::test]
async fn t_40_bad_resumes_keep_no_good_one_from_its_session() {
    let cluster = Cluster::start(3, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(1, "bob").await;
    alice.wire.cut();
    bob.wire.cut();
    let bad = async |_| {
        let wire = Wire::direct(cluster.address(0), cluster.tls()).await;
        let mut wire = wire.unwrap();
        wire.login("alice", PASSWORD).await.unwrap();
        for _ in 0..TRIES {
            let resume = "<resume xmlns='urn:xmpp:sm:3' previd='nobody' h='0'/>";
            wire.send(resume).await.unwrap();
            match wire.next().await {
                Ok(failed) => assert!(failed.is("failed", ns::SM), "{failed:?}"),
                Err(End::Error(condition, _)) => return condition,
                Err(end) => panic!("{end}"),
            }
        }
        String::new()
    };
    let outcomes = join_all((0..STREAMS * 2).map(bad)).await;
    // At the same account from the same address, and at a neighbour's.
    for node in 0..3 {
        for client in [&mut alice, &mut bob] {
            let resumed = timeout(Duration::from_secs(1), client.resume(cluster.address(node)));
            assert!(resumed.await.is_ok(), "a good resume had to wait");
            client.check_nothing_more().await;
        }
    }
    assert!(
        outcomes.contains(&"policy-violation".to_owned()),
        "{outcomes:?}"
    );
}

/// Connects to all of a node's ports for clients and says nothing; what is let in stays open.
async fn idle(cluster: &Cluster, count: usize) -> Vec<tokio::net::TcpStream> {
    let mut open = Vec::new();
    for n in 0..count {
        let socket = TcpSocket::new_v4().unwrap();
        // No address has more than its share.
        let source = Ipv4Addr::new(127, 3, 0, u8::try_from(n / 50 + 1).unwrap());
        socket.bind((source, 0).into()).unwrap();
        open.extend(socket.connect(cluster.starttls(0)).await.ok());
    }
    open
}

#[tokio::test]
async fn t_16_strangers_leave_descriptors_for_the_node_itself() {
    let mut cluster = Cluster::start(1, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(0, "bob").await;
    // The limit is lowered while the node runs: strangers get 40 of what is left.
    let taken = cluster.process(0).descriptors();
    let limit = taken + 40 + 128;
    cluster.process(0).limit_descriptors(limit);
    let strangers = idle(&cluster, 400).await;
    for round in 0..3 {
        let used = cluster.process(0).descriptors();
        // Some are being told that there is no room.
        assert!(used < limit - 64, "{used} of {limit} in round {round}");
        let (status, _) = cluster.get(0, "/livez").await.unwrap();
        assert_eq!(status, 200);
        alice.say("bob@localhost", &format!("{round}")).await;
        bob.expect([format!("{round}")]).await;
    }
    let log = std::fs::read_to_string(cluster.log(0)).unwrap();
    assert!(log.contains("no room for more connections"), "{log}");
    drop(strangers);
    until("somebody else is let in", async || {
        let wire = Wire::direct(cluster.address(0), cluster.tls()).await;
        match wire {
            Ok(mut wire) => wire.open().await.is_ok(),
            Err(_) => false,
        }
    })
    .await;
}

#[tokio::test]
async fn t_63_silent_sockets_at_the_admin_port_do_not_silence_it() {
    let cluster = Cluster::start(1, &[], "").await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        let socket = tokio::net::TcpStream::connect(cluster.admin(0)).await;
        silent.push(socket.unwrap());
    }
    let (status, _) = cluster.get(0, "/livez").await.unwrap();
    assert_eq!(status, 200);
}
