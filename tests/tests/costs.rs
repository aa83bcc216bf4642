//! What a message costs, counted and not timed: entries, syncs, system calls, wake-ups and bytes written.
//!
//! The counts of a build are compared with [`BASELINE`], so that a change which makes each message dearer is seen before
//! it lands. Nothing here depends on the speed of the machine except how much company each message finds in a batch;
//! the tolerance is for that. Whoever makes something cheaper lowers its numbers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use tests::client::{Client, numbered};
use tests::cluster::Cluster;

const BOB: &str = "bob@localhost";
/// Counts may be higher by this factor.
const TOLERANCE: f64 = 1.5;
/// What is counted of each scenario.
const COUNTED: [&str; 5] = ["entries", "syncs", "calls", "wake-ups", "bytes"];
/// For each message of a scenario, over all nodes, what is [`COUNTED`].
const BASELINE: [(&str, [f64; 5]); 3] = [
    ("one at a time, one node", [2.0, 2.0, 16.5, 21.0, 10_300.0]),
    (
        "a hundred at a time, one node",
        [0.06, 0.06, 2.6, 0.8, 5_100.0],
    ),
    (
        "one at a time, three nodes",
        [2.0, 5.8, 70.0, 80.0, 12_500.0],
    ),
];

/// Counts since the processes began.
async fn counts(cluster: &Cluster, nodes: &[u32]) -> [u64; 5] {
    let each = nodes.iter().map(|pid| {
        let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
        let calls = field(&io, "syscr:") + field(&io, "syscw:");
        (calls, switches(*pid), field(&io, "wchar:"))
    });
    let all: Vec<(u64, u64, u64)> = each.collect();
    [
        cluster.sum("holdfast_commit_seconds_count").await,
        cluster.sum("holdfast_fsync_seconds_count").await,
        all.iter().map(|(calls, _, _)| calls).sum(),
        all.iter().map(|(_, switches, _)| switches).sum(),
        all.iter().map(|(_, _, bytes)| bytes).sum(),
    ]
}

/// How often threads of a process have waited.
fn switches(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let status =
        threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("status")).ok());
    status
        .map(|status| field(&status, "voluntary_ctxt_switches:"))
        .sum()
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim().parse().ok()).unwrap()
}

/// Sends `rounds` times `window` messages, each round when the one before has arrived, and compares what they cost.
async fn check(scenario: usize, count: usize, rounds: usize, window: usize) {
    let unlimited = "[limits]\nstanzas_per_second = 0\nbytes_per_second = 0\n";
    let mut cluster = Cluster::start(count, &["alice", "bob"], unlimited).await;
    let pids: Vec<u32> = (0..count).map(|node| cluster.process(node).id()).collect();
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(count - 1, "bob").await;
    exchange(&mut alice, &mut bob, rounds / 4, window).await;
    let before = counts(&cluster, &pids).await;
    exchange(&mut alice, &mut bob, rounds, window).await;
    let after = counts(&cluster, &pids).await;
    check_hops(&cluster, count).await;
    let messages = (rounds * window) as f64;
    let (name, baseline) = BASELINE[scenario];
    let found: Vec<f64> = (0..COUNTED.len())
        .map(|what| (after[what] - before[what]) as f64 / messages)
        .collect();
    println!("{name}: {COUNTED:?} {found:.2?}");
    for ((what, found), base) in COUNTED.iter().zip(found).zip(baseline) {
        assert!(
            found <= base * TOLERANCE,
            "{name}: {found:.2} {what} for each message, and {base:.2} were enough"
        );
    }
}

/// An operator sees where messages wait.
async fn check_hops(cluster: &Cluster, nodes: usize) {
    for hop in ["batch", "relay", "effects"] {
        let name = format!("holdfast_hop_seconds_count{{hop=\"{hop}\"}}");
        // A node by itself has one shard, and so nothing to send to another.
        let met = hop != "relay" || nodes > 1;
        assert_eq!(cluster.sum(&name).await > 0, met, "{hop}");
    }
}

async fn exchange(alice: &mut Client, bob: &mut Client, rounds: usize, window: usize) {
    for round in 0..rounds {
        let texts = numbered("m", round * window..(round + 1) * window);
        for text in &texts {
            alice.say(BOB, text).await;
        }
        bob.expect(texts).await;
    }
    alice.settle().await.unwrap();
    bob.acknowledge().await.unwrap();
}

#[tokio::test]
async fn a_message_by_itself_costs_no_more_than_it_did() {
    check(0, 1, 200, 1).await;
}

#[tokio::test]
async fn messages_together_cost_no_more_than_they_did() {
    check(1, 1, 40, 100).await;
}

#[tokio::test]
async fn a_message_through_three_nodes_costs_no_more_than_it_did() {
    check(2, 3, 200, 1).await;
}
