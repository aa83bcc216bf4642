//! Three nodes, and what the death of one (F-1) or all of them (F-2) means to clients: nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tests::client::{Client, numbered};
use tests::cluster::Cluster;

/// Messages of one burst in each direction.
const BURST: usize = 20;

async fn burst(from: &mut Client, to: &str, round: usize, part: usize) {
    let first = part * BURST;
    for body in numbered(&format!("{} {round}", from.user), first..first + BURST) {
        from.say(to, &body).await;
    }
}

#[tokio::test]
async fn p2_kill_9_of_any_node_loses_repeats_and_reorders_nothing() {
    let mut cluster = Cluster::start(3, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(1, "bob").await;
    let (to_alice, to_bob) = (alice.jid.to_string(), bob.jid.to_string());
    // Alice is on the node that dies at first, then Bob, then Alice again.
    for victim in 0..3 {
        burst(&mut alice, &to_bob, victim, 0).await;
        burst(&mut bob, &to_alice, victim, 0).await;
        cluster.kill(victim);
        let elsewhere = cluster.address((victim + 2) % 3);
        match victim {
            1 => bob.resume(elsewhere).await,
            _ => alice.resume(elsewhere).await,
        }
        burst(&mut alice, &to_bob, victim, 1).await;
        burst(&mut bob, &to_alice, victim, 1).await;
        alice.settle().await.unwrap();
        bob.settle().await.unwrap();
        bob.expect(numbered(&format!("alice {victim}"), 0..2 * BURST))
            .await;
        alice
            .expect(numbered(&format!("bob {victim}"), 0..2 * BURST))
            .await;
        alice.check_nothing_more().await;
        bob.check_nothing_more().await;
        cluster.run(victim);
        cluster.ready(victim).await;
    }
}

#[tokio::test]
async fn p2_a_session_whose_node_dies_while_it_hibernates_keeps_its_queue() {
    let mut cluster = Cluster::start(3, &["alice", "bob"], "").await;
    let mut alice = cluster.client(1, "alice").await;
    let mut bob = cluster.client(0, "bob").await;
    let to_bob = bob.jid.to_string();
    bob.wire.cut();
    for body in numbered("before", 0..5) {
        alice.say(&to_bob, &body).await;
    }
    alice.settle().await.unwrap();
    cluster.kill(0);
    for body in numbered("after", 0..5) {
        alice.say(&to_bob, &body).await;
    }
    alice.settle().await.unwrap();
    bob.resume(cluster.address(2)).await;
    bob.expect(numbered("before", 0..5)).await;
    bob.expect(numbered("after", 0..5)).await;
    bob.check_nothing_more().await;
}

#[tokio::test]
async fn p1_all_nodes_killed_at_once_come_back_with_every_session_and_its_queue() {
    let mut cluster = Cluster::start(3, &["alice", "bob", "carol"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(1, "bob").await;
    let mut carol = cluster.client(2, "carol").await;
    let (to_bob, to_carol) = (bob.jid.to_string(), carol.jid.to_string());
    carol.wire.cut();
    for body in numbered("kept", 0..10) {
        alice.say(&to_carol, &body).await;
    }
    alice.settle().await.unwrap();
    // Nobody knows how far these have come when the power is gone.
    for body in numbered("under way", 0..30) {
        alice.say(&to_bob, &body).await;
    }
    for node in 0..3 {
        cluster.kill(node);
    }
    for node in 0..3 {
        cluster.run(node);
    }
    for node in 0..3 {
        cluster.ready(node).await;
    }
    alice.resume(cluster.address(2)).await;
    bob.resume(cluster.address(0)).await;
    carol.resume(cluster.address(1)).await;
    alice.settle().await.unwrap();
    carol.expect(numbered("kept", 0..10)).await;
    bob.expect(numbered("under way", 0..30)).await;
    alice.check_nothing_more().await;
    bob.check_nothing_more().await;
    carol.check_nothing_more().await;
}
