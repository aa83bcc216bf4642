//! A node that reaches no majority says so, and sends its clients where one may be.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use proto::ns;
use serde_json::Value;
use tests::cluster::Cluster;
use tests::wire::{End, Wire};
use tests::{process, until};

/// The exit code of `cluster status`, and what it shows.
fn status(cluster: &Cluster, node: usize) -> (Option<i32>, Value) {
    let config = cluster.config(node).to_string_lossy().into_owned();
    let output = process::run(["cluster", "status", "--json", "--config", &config], "");
    let shown = serde_json::from_slice(&output.stdout).unwrap();
    (output.status.code(), shown)
}

#[tokio::test]
async fn f_10_who_is_idle_on_a_node_without_a_majority_is_sent_away_after_5_s() {
    let mut cluster = Cluster::start(3, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    assert_eq!(status(&cluster, 0).0, Some(0));
    for node in [1, 2] {
        cluster.process(node).pause();
    }
    let lost = Instant::now();
    let end = alice.wire.end().await;
    assert!(end.is_passing(), "{end}");
    let took = lost.elapsed();
    assert!(
        took > Duration::from_secs(5) && took < Duration::from_secs(15),
        "{took:?}"
    );
    let (code, shown) = status(&cluster, 0);
    assert_eq!((code, &shown["majority"]), (Some(1), &Value::Bool(false)));
    until("nobody listens", async || {
        TcpStream::connect(cluster.address(0)).is_err()
    })
    .await;
    let (_, metrics) = cluster.get(0, "/metrics").await.unwrap();
    assert!(metrics.contains("holdfast_shards_cut_off 3\n"), "{metrics}");
    let log = std::fs::read_to_string(cluster.log(0)).unwrap();
    let unready = |line: &str| line.contains("WARN") && line.contains("not ready: ");
    assert_eq!(log.lines().filter(|line| unready(line)).count(), 1, "{log}");
    let said = log.lines().filter(|line| line.contains("ERROR"));
    let said: Vec<_> = said.collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("reaches no majority"), "{said:?}");
    for node in [1, 2] {
        cluster.signal(node, Signal::SIGCONT);
    }
    alice.resume(cluster.address(1)).await;
    // The node listens again, says so, and serves.
    cluster.ready(0).await;
    until("it is told", async || {
        let log = std::fs::read_to_string(cluster.log(0)).unwrap();
        log.contains("ready again")
    })
    .await;
    until("it listens", async || {
        TcpStream::connect(cluster.address(0)).is_ok()
    })
    .await;
    let mut bob = cluster.client(0, "bob").await;
    let to = alice.jid.to_string();
    bob.say(&to, "back").await;
    bob.settle().await.unwrap();
    alice.expect(["back".to_owned()]).await;
}

/// Accounts of several shards, so that the node leads some of them.
const USERS: [&str; 6] = ["alice", "bob", "carol", "dave", "erin", "frank"];

#[tokio::test]
async fn a_bind_that_is_committed_after_its_time_leaves_no_session_behind() {
    let mut cluster = Cluster::start(3, &USERS, "").await;
    let mut wires = Vec::new();
    for user in USERS {
        let mut wire = Wire::direct(cluster.address(0), cluster.tls())
            .await
            .unwrap();
        wire.login(user, tests::client::PASSWORD).await.unwrap();
        wires.push(wire);
    }
    for node in [1, 2] {
        cluster.process(node).pause();
    }
    for wire in &mut wires {
        let bind = format!(
            "<iq type='set' id='bind'><bind xmlns='{}'><resource>r</resource></bind></iq>",
            ns::BIND
        );
        wire.send(&bind).await.unwrap();
    }
    // Nobody hears whether the session is there.
    for wire in &mut wires {
        match wire.end().await {
            End::Error(condition, _) => assert_eq!(condition, "internal-server-error"),
            end => panic!("{end}"),
        }
    }
    let log = std::fs::read_to_string(cluster.log(0)).unwrap();
    let reason = "reason=\"the shard has no leader that can be reached\"";
    let told =
        |line: &&str| line.contains("a session could not be opened") && line.contains(reason);
    assert_eq!(log.lines().filter(told).count(), USERS.len(), "{log}");
    // One by one: two that hear of each other first elect a leader without what is in this node's log.
    cluster.signal(1, Signal::SIGCONT);
    until("what was in this node's log is committed", async || {
        let (_, shown) = status(&cluster, 0);
        let mut shards = shown["shards"].as_array().unwrap().iter();
        shards.all(|shard| shard["leader"].is_u64() && shard["committed"] == shard["last_log"])
    })
    .await;
    cluster.signal(2, Signal::SIGCONT);
    // What this node had in its log is committed after all. It has no connection, and so is over.
    until("sessions have been and are over", async || {
        let mut ended = 0;
        for node in 0..3 {
            let (_, page) = cluster.get(node, "/metrics").await.unwrap();
            let counter = "holdfast_session_events_total{event=\"ended_lost\"} ";
            let lines = page.lines().filter_map(|line| line.strip_prefix(counter));
            ended += lines
                .map(|count| count.parse::<u64>().unwrap())
                .sum::<u64>();
        }
        let config = cluster.config(0).to_string_lossy().into_owned();
        let output = process::run(["session", "list", "--json", "--config", &config], "");
        let sessions: Value = serde_json::from_slice(&output.stdout).unwrap();
        ended > 0 && sessions.as_array().unwrap().is_empty()
    })
    .await;
}
