//! A cluster takes nodes in that nobody has heard of, lets nodes go, and forgets nobody's session meanwhile.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tests::cluster::Cluster;
use tests::pair::Pair;
use tests::{PATIENCE, process};
use tokio::time::{Instant, sleep};

/// The seats that vote in each shard, according to a node.
fn voters(cluster: &Cluster, node: usize) -> Vec<Vec<String>> {
    let config = cluster.config(node).to_string_lossy().into_owned();
    let output = process::run(["cluster", "status", "--json", "--config", &config], "");
    let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let shards = status["shards"].as_array().cloned().unwrap_or_default();
    let of = |shard: &Value| {
        let voters = shard["voters"].as_array().cloned().unwrap_or_default();
        voters
            .iter()
            .map(|voter| voter.as_str().unwrap_or_default().to_owned())
            .collect()
    };
    shards.iter().map(of).collect()
}

async fn until_voters(cluster: &Cluster, node: usize, what: impl Fn(&[Vec<String>]) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = voters(cluster, node);
        if !now.is_empty() && what(&now) {
            return;
        }
        let log = process::tail(&cluster.log(node));
        assert!(Instant::now() < deadline, "the voters are {now:?}:\n{log}");
        sleep(Duration::from_millis(50)).await;
    }
}

fn each_has(count: usize) -> impl Fn(&[Vec<String>]) -> bool {
    move |shards| shards.iter().all(|voters| voters.len() == count)
}

fn nobody_is<'a>(seats: &'a [&'a str]) -> impl Fn(&[Vec<String>]) -> bool + 'a {
    move |shards| {
        let mut voters = shards.iter().flatten();
        voters.all(|voter| !seats.contains(&voter.as_str()))
    }
}

/// Asks nodes to stop at the same moment, and waits until they have.
async fn stop(cluster: &mut Cluster, nodes: &[usize]) {
    for node in nodes {
        cluster.signal(*node, Signal::SIGTERM);
    }
    for node in nodes {
        let ended = cluster.process(*node).end().await;
        assert!(ended.success(), "node {node}: {ended:?}");
    }
}

#[tokio::test]
async fn three_nodes_become_five_and_three_again_while_clients_chat() {
    let mut cluster = Cluster::prepare_to_grow(3, 5, "").unwrap();
    cluster.accounts(&["alice", "bob", "carol", "dave"]);
    for node in 0..3 {
        cluster.run(node);
    }
    for node in 0..3 {
        cluster.ready(node).await;
    }
    let mut pair = Pair::start(&cluster, [0, 1], ["alice", "bob"]).await;
    pair.talk().await;
    for node in 3..5 {
        cluster.run(node);
    }
    for node in 3..5 {
        cluster.ready(node).await;
        pair.talk().await;
    }
    until_voters(&cluster, 4, each_has(3)).await;
    pair.move_to(&cluster, [3, 4]).await;
    pair.talk().await;
    // A founder dies while it is needed least of all.
    cluster.kill(0);
    pair.talk().await;
    cluster.run(0);
    cluster.ready(0).await;
    let mut late = Pair::start(&cluster, [3, 4], ["carol", "dave"]).await;
    late.talk().await;
    stop(&mut cluster, &[3, 4]).await;
    for pair in [&mut pair, &mut late] {
        pair.move_to(&cluster, [0, 2]).await;
        pair.talk().await;
    }
    // They may come back, until an operator says that they will not.
    for seat in ["4", "5"] {
        remove(&cluster, seat);
    }
    until_voters(&cluster, 1, nobody_is(&["4", "5"])).await;
    for pair in [&mut pair, &mut late] {
        pair.talk().await;
    }
}

/// `holdfast cluster remove`, asked of the second node.
fn remove(cluster: &Cluster, seat: &str) {
    assert!(is_removed(cluster, 1, seat));
}

/// Whether a node agrees to remove another one. It does not as long as it has not noticed that it is away.
fn is_removed(cluster: &Cluster, asked: usize, seat: &str) -> bool {
    let config = cluster.config(asked).to_string_lossy().into_owned();
    let output = process::run(["cluster", "remove", seat, "--config", &config], "");
    output.status.success()
}

#[tokio::test]
async fn one_node_becomes_three_and_one_again() {
    let mut cluster = Cluster::prepare_to_grow(1, 3, "").unwrap();
    cluster.accounts(&["alice", "bob"]);
    cluster.run(0);
    cluster.ready(0).await;
    let mut pair = Pair::start(&cluster, [0, 0], ["alice", "bob"]).await;
    pair.talk().await;
    for node in 1..3 {
        cluster.run(node);
    }
    for node in 1..3 {
        cluster.ready(node).await;
    }
    until_voters(&cluster, 0, each_has(3)).await;
    pair.move_to(&cluster, [1, 2]).await;
    pair.talk().await;
    // Both at once: the one that is left has to vote alone before they are gone.
    stop(&mut cluster, &[1, 2]).await;
    pair.move_to(&cluster, [0, 0]).await;
    pair.talk().await;
    cluster.ready(0).await;
    for node in 1..3 {
        cluster.run(node);
    }
    for node in 1..3 {
        cluster.ready(node).await;
    }
    until_voters(&cluster, 0, each_has(3)).await;
    pair.move_to(&cluster, [2, 1]).await;
    pair.talk().await;
}

#[tokio::test]
async fn a_member_that_is_away_for_long_is_replaced_and_serves_clients_when_it_is_back() {
    let mut cluster = Cluster::prepare_to_grow(3, 4, "").unwrap();
    cluster.add_to("[cluster]", "replace_after = \"2s\"");
    cluster.accounts(&["alice", "bob"]);
    for node in 0..4 {
        cluster.run(node);
    }
    for node in 0..4 {
        cluster.ready(node).await;
    }
    let mut pair = Pair::start(&cluster, [0, 2], ["alice", "bob"]).await;
    pair.talk().await;
    cluster.kill(2);
    until_voters(&cluster, 0, nobody_is(&["3"])).await;
    until_voters(&cluster, 0, each_has(3)).await;
    pair.move_to(&cluster, [0, 3]).await;
    pair.talk().await;
    // What it has on its disk is older than what it missed. It counts for nothing until it has caught up.
    until_forgotten(&cluster).await;
    cluster.run(2);
    cluster.ready(2).await;
    pair.move_to(&cluster, [2, 1]).await;
    pair.talk().await;
}

/// Waits until no group has the member any more that was replaced.
async fn until_forgotten(cluster: &Cluster) {
    let deadline = Instant::now() + PATIENCE;
    let said = |node: usize| {
        let log = std::fs::read_to_string(cluster.log(node)).unwrap_or_default();
        log.matches("are to leave").count()
    };
    while [0, 1, 3].map(said).iter().sum::<usize>() < 3 {
        assert!(Instant::now() < deadline, "it is not forgotten");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn voters_move_to_the_zones_that_have_none() {
    let mut cluster = Cluster::prepare_to_grow(3, 4, "").unwrap();
    cluster.accounts(&["alice", "bob"]);
    for (node, zone) in ["east", "east", "west", "north"].iter().enumerate() {
        cluster.edit(node, "[cluster]", &format!("[cluster]\nzone = \"{zone}\""));
    }
    for node in 0..3 {
        cluster.run(node);
    }
    for node in 0..3 {
        cluster.ready(node).await;
    }
    let mut pair = Pair::start(&cluster, [0, 1], ["alice", "bob"]).await;
    pair.talk().await;
    until_voters(&cluster, 0, each_has(3)).await;
    cluster.run(3);
    cluster.ready(3).await;
    // One of the first two leaves each shard, and whoever is alone in a zone votes in all.
    let is_apart = |voters: &Vec<String>| {
        let votes = |seat: &str| voters.iter().any(|voter| voter == seat);
        voters.len() == 3 && votes("3") && votes("4")
    };
    until_voters(&cluster, 0, |shards| shards.iter().all(is_apart)).await;
    pair.talk().await;
}

/// The name that a node's disk has, or had last.
fn identity(cluster: &Cluster, node: usize) -> String {
    let text = std::fs::read_to_string(cluster.data_dir(node).join("identity")).unwrap_or_default();
    let name = text.lines().find(|line| line.starts_with("node "));
    name.unwrap_or_default().to_owned()
}

/// Runs a node again whenever it has ended, as a supervisor does, until it is ready on another disk than before.
async fn until_it_has_joined_anew(cluster: &mut Cluster, node: usize, before: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if cluster.process(node).ended().is_some() {
            cluster.run(node);
        }
        let now = identity(cluster, node);
        let (status, page) = cluster.get(node, "/readyz").await.unwrap_or_default();
        if status == 200 && !now.is_empty() && now != before {
            return;
        }
        let log = process::tail(&cluster.log(node));
        let known = voters(cluster, 1);
        assert!(
            Instant::now() < deadline,
            "it is still {now} ({page}), and the voters are {known:?}:\n{log}"
        );
        sleep(Duration::from_millis(20)).await;
    }
}

/// Kills a node and has another one give it up as soon as that has noticed.
async fn kill_and_remove(cluster: &mut Cluster, node: usize, asked: usize) {
    cluster.kill(node);
    let seat = (node + 1).to_string();
    let deadline = Instant::now() + PATIENCE;
    while !is_removed(cluster, asked, &seat) {
        assert!(Instant::now() < deadline, "it is not removed");
    }
}

async fn four() -> (Cluster, Pair) {
    let mut cluster = Cluster::prepare_to_grow(3, 4, "").unwrap();
    cluster.accounts(&["alice", "bob"]);
    for node in 0..4 {
        cluster.run(node);
    }
    all_are_ready(&mut cluster).await;
    let pair = Pair::start(&cluster, [0, 1], ["alice", "bob"]).await;
    (cluster, pair)
}

async fn all_are_ready(cluster: &mut Cluster) {
    for node in 0..4 {
        cluster.ready(node).await;
    }
    until_voters(cluster, 0, each_has(3)).await;
}

#[tokio::test]
async fn m_13_a_node_that_is_removed_and_restarted_at_once_joins_anew() {
    let (mut cluster, mut pair) = four().await;
    // In turn a node that all others call, and one that calls another.
    for node in [3, 2, 3, 2] {
        let before = identity(&cluster, node);
        kill_and_remove(&mut cluster, node, 1).await;
        cluster.run(node);
        until_it_has_joined_anew(&mut cluster, node, &before).await;
        all_are_ready(&mut cluster).await;
        pair.talk().await;
    }
}

#[tokio::test]
async fn m_13_a_removal_outlives_the_node_that_was_asked_and_leads() {
    let (mut cluster, mut pair) = four().await;
    let before = identity(&cluster, 3);
    until_voters(&cluster, 1, |shards| {
        shards.iter().flatten().any(|voter| voter == "4")
    })
    .await;
    let leader = cluster.leader(0, 1).filter(|leader| *leader != 3);
    let asked = leader.unwrap_or(2);
    kill_and_remove(&mut cluster, 3, asked).await;
    cluster.kill(asked);
    // Its vote may be needed until the others have moved on without it.
    cluster.run(3);
    until_it_has_joined_anew(&mut cluster, 3, &before).await;
    cluster.run(asked);
    all_are_ready(&mut cluster).await;
    pair.move_to(&cluster, [1, 2]).await;
    pair.talk().await;
}
