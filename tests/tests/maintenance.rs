//! `holdfast cluster drain` and `undrain`: a node leaves the service and comes back, and clients notice nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use tests::cluster::Cluster;
use tests::pair::Pair;
use tests::wire::{End, Wire};
use tests::{process, until};

/// Runs `holdfast cluster …`, which asks this node.
fn ask(cluster: &Cluster, node: usize, command: &[&str]) -> (bool, String) {
    let config = cluster.config(node).to_string_lossy().into_owned();
    let output = process::run([&["cluster"], command, &["--config", &config]].concat(), "");
    let said = match output.stdout.is_empty() {
        true => output.stderr,
        false => output.stdout,
    };
    let said = String::from_utf8_lossy(&said).into_owned();
    (output.status.success(), said)
}

/// How many shards the node in this seat leads, and in how many it votes, as node 0 sees it.
fn share(cluster: &Cluster, seat: u64) -> (u64, usize) {
    let (_, status) = ask(cluster, 0, &["status", "--json"]);
    let status: Value = serde_json::from_str(&status).unwrap_or_default();
    let nodes = status["nodes"].as_array().into_iter().flatten();
    let leads = nodes.filter(|node| node["seat"] == seat);
    let leads = leads.filter_map(|node| node["leads"].as_u64()).sum();
    let shards = status["shards"].as_array().into_iter().flatten();
    let name = Value::from(seat.to_string());
    let votes = |shard: &&Value| {
        let voters = shard["voters"].as_array();
        voters.is_some_and(|voters| voters.contains(&name))
    };
    (leads, shards.filter(votes).count())
}

/// How the node in this seat is, as node 0 sees it.
fn state(cluster: &Cluster, seat: u64) -> String {
    state_at(cluster, 0, seat)
}

/// The same as another node sees it.
fn state_at(cluster: &Cluster, asked: usize, seat: u64) -> String {
    let (_, status) = ask(cluster, asked, &["status", "--json"]);
    let status: Value = serde_json::from_str(&status).unwrap_or_default();
    let mut nodes = status["nodes"].as_array().into_iter().flatten();
    let node = nodes.find(|node| node["seat"] == seat);
    let state = node.and_then(|node| node["state"].as_str());
    state.unwrap_or_default().to_owned()
}

async fn says(cluster: &Cluster, node: usize) -> (u16, String) {
    cluster.get(node, "/readyz").await.unwrap_or_default()
}

#[tokio::test]
async fn a_drained_node_leads_nothing_serves_nobody_and_comes_back() {
    let mut cluster = Cluster::start(3, &["alice", "bob"], "").await;
    let mut pair = Pair::start(&cluster, [0, 1], ["alice", "bob"]).await;
    pair.talk().await;
    // Of another node than the one that is meant, and of that one itself.
    for asked in [0, 1] {
        let (done, said) = ask(&cluster, asked, &["drain", "2"]);
        assert!(done, "{said}");
        until("it leads nothing", async || share(&cluster, 2).0 == 0).await;
        until("it drains", async || state(&cluster, 2) == "draining").await;
        let (status, reason) = says(&cluster, 1).await;
        assert_eq!(status, 503);
        assert!(reason.contains("holdfast cluster drain"), "{reason}");
        until("its listeners are closed", async || {
            Wire::direct(cluster.address(1), cluster.tls())
                .await
                .is_err()
        })
        .await;
        // Its client was told nothing and goes on elsewhere, where it misses nothing.
        let end = loop {
            if let Err(end) = pair.ends[1].wire.next().await {
                break end;
            }
        };
        assert!(matches!(end, End::Lost(_)), "{end}");
        pair.move_to(&cluster, [0, 2]).await;
        pair.talk().await;
        assert_eq!(share(&cluster, 2).1, 3, "it still votes");
        let (done, said) = ask(&cluster, asked, &["undrain", "2"]);
        assert!(done, "{said}");
        cluster.ready(1).await;
        until("it is back", async || state(&cluster, 2) == "active").await;
        until("it listens", async || {
            Wire::direct(cluster.address(1), cluster.tls())
                .await
                .is_ok()
        })
        .await;
        pair.move_to(&cluster, [0, 1]).await;
        pair.talk().await;
    }
    let (done, said) = ask(&cluster, 0, &["drain", "9"]);
    assert!(!done && said.contains("node 9 is not connected"), "{said}");
}

#[tokio::test]
async fn of_two_that_are_drained_at_once_others_take_the_votes_and_a_restart_ends_it() {
    let mut cluster = Cluster::start(5, &["alice", "bob"], "").await;
    let mut pair = Pair::start(&cluster, [3, 4], ["alice", "bob"]).await;
    for seat in ["4", "5"] {
        let (done, said) = ask(&cluster, 0, &["drain", seat]);
        assert!(done, "{said}");
    }
    let at_most_one_of_three = || {
        let (_, status) = ask(&cluster, 0, &["status", "--json"]);
        let status: Value = serde_json::from_str(&status).unwrap_or_default();
        let shards = status["shards"].as_array().cloned().unwrap_or_default();
        let drained = |shard: &Value| {
            let voters = shard["voters"].as_array().cloned().unwrap_or_default();
            voters
                .iter()
                .filter(|seat| **seat == "4" || **seat == "5")
                .count()
        };
        !shards.is_empty() && shards.iter().all(|shard| drained(shard) < 2)
    };
    until("no shard depends on both", async || at_most_one_of_three()).await;
    until("they lead nothing", async || {
        (share(&cluster, 4).0, share(&cluster, 5).0) == (0, 0)
    })
    .await;
    pair.move_to(&cluster, [0, 1]).await;
    pair.talk().await;
    for node in [3, 4] {
        cluster.kill(node);
    }
    pair.talk().await;
    for node in [3, 4] {
        cluster.run(node);
        cluster.ready(node).await;
    }
    pair.move_to(&cluster, [3, 4]).await;
    pair.talk().await;
}

#[tokio::test]
async fn the_last_node_in_service_cannot_be_drained() {
    let mut cluster = Cluster::start(3, &["alice", "bob"], "").await;
    for seat in [1, 2] {
        let (done, said) = ask(&cluster, 0, &["drain", &seat.to_string()]);
        assert!(done, "{said}");
        for asked in 0..3 {
            until("they know", async || {
                state_at(&cluster, asked, seat) == "draining"
            })
            .await;
        }
    }
    let (done, said) = ask(&cluster, 0, &["remove", "1"]);
    assert!(!done && said.contains("node 1 is connected"), "{said}");
    // Of one that is drained, and of the last one itself.
    for asked in [0, 2] {
        let (done, said) = ask(&cluster, asked, &["drain", "3"]);
        assert!(
            !done && said.contains("no other node is connected"),
            "{said}"
        );
    }
    cluster.ready(2).await;
    let mut pair = Pair::start(&cluster, [2, 2], ["alice", "bob"]).await;
    pair.talk().await;
    let (done, said) = ask(&cluster, 2, &["undrain", "1"]);
    assert!(done, "{said}");
    cluster.ready(0).await;
    until("they know", async || state_at(&cluster, 2, 1) == "active").await;
    let (done, said) = ask(&cluster, 2, &["drain", "3"]);
    assert!(done, "{said}");
}
