//! A node that stood still while the others went on (P3), and one that leaves in order.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use nix::sys::signal::Signal;
use proto::ns;
use tests::client::{Client, numbered};
use tests::cluster::Cluster;
use tests::wire::{End, Wire};

/// Accounts of several shards, so that the paused node leads some of them and follows in others.
const OWNERS: [&str; 4] = ["alice", "carol", "dave", "erin"];

#[tokio::test]
async fn p3_a_paused_owner_can_neither_acknowledge_nor_deliver() {
    let mut users = OWNERS.to_vec();
    users.push("bob");
    let mut cluster = Cluster::start(3, &users, "").await;
    let mut bob = cluster.client(1, "bob").await;
    let to_bob = bob.jid.to_string();
    let mut owners = Vec::new();
    for user in OWNERS {
        owners.push(cluster.client(0, user).await);
    }
    cluster.process(0).pause();
    let mut old = Vec::new();
    for owner in &mut owners {
        // These wait in the socket of the process that stands still.
        let ghost = format!("<message to='{to_bob}' type='chat'><body>ghost</body></message>");
        owner.wire.send(&ghost).await.unwrap();
        owner
            .wire
            .send(&format!("<r xmlns='{}'/>", ns::SM))
            .await
            .unwrap();
        old.push(move_to(&cluster, owner, 2).await);
    }
    for owner in &owners {
        bob.say(owner.jid.as_str(), "for the new owner").await;
    }
    bob.settle().await.unwrap();
    for owner in &mut owners {
        owner.expect(["for the new owner".to_owned()]).await;
    }
    cluster.signal(0, Signal::SIGCONT);
    for wire in &mut old {
        check_silent(wire).await;
    }
    // Every ghost that could have arrived would have done so before these.
    for owner in &mut owners {
        owner.say(&to_bob, "alive").await;
        owner.settle().await.unwrap();
        bob.expect(["alive".to_owned()]).await;
    }
    bob.check_nothing_more().await;
}

/// Resumes elsewhere; the old connection stays open.
async fn move_to(cluster: &Cluster, owner: &mut Client, node: usize) -> Wire {
    loop {
        match owner.take_over(cluster.address(node)).await {
            Ok((wire, answer)) => {
                let old = std::mem::replace(&mut owner.wire, wire);
                owner.resumed(&answer).await.unwrap();
                return old;
            }
            Err(end) => assert_eq!(end.condition(), "internal-server-error", "{end}"),
        }
    }
}

/// The old connection ends, and nothing is acknowledged or delivered before that. It may have been asked
/// for an acknowledgement, even before the pause.
async fn check_silent(wire: &mut Wire) {
    loop {
        match wire.next().await {
            Ok(element) if element.is("r", ns::SM) => {}
            Ok(element) => panic!("the old owner speaks: {element:?}"),
            Err(End::Silent) => panic!("the old owner does not let go"),
            Err(End::Error(condition, _)) => return assert_eq!(condition, "conflict"),
            Err(_) => return,
        }
    }
}

#[tokio::test]
async fn a_short_pause_changes_nothing() {
    let cluster = Cluster::start(3, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(1, "bob").await;
    let to_bob = bob.jid.to_string();
    for round in 0..5 {
        cluster.signal(0, Signal::SIGSTOP);
        alice.say(&to_bob, &format!("round {round}")).await;
        cluster.signal(0, Signal::SIGCONT);
    }
    alice.settle().await.unwrap();
    bob.expect(numbered("round", 0..5)).await;
    alice.check_nothing_more().await;
    bob.check_nothing_more().await;
}

#[tokio::test]
async fn f_5_a_leader_that_was_paused_takes_nobody_else_for_gone() {
    let users = ["alice", "bob", "carol", "dave"];
    let mut cluster = Cluster::start(3, &users, "").await;
    for round in 0..3 {
        let paused = round % 3;
        let mut wires = Vec::new();
        for (n, user) in users.iter().enumerate() {
            let node = (paused + 1 + n % 2) % 3;
            // Without stream management: whoever is cut is over.
            wires.push(cluster.bound(node, user, "plain").await);
        }
        cluster.process(paused).pause();
        // Longer than its peers wait for it; what they do meanwhile is theirs.
        tokio::time::sleep(Duration::from_millis(2200)).await;
        cluster.signal(paused, Signal::SIGCONT);
        cluster.ready(paused).await;
        // What it believes it may yet say; so look for a while.
        for turn in 0..10 {
            for (wire, user) in wires.iter_mut().zip(users) {
                wire.ping(&format!("{user}-{round}-{turn}")).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn f_4_a_node_that_is_told_to_stop_sends_its_clients_elsewhere() {
    let mut cluster = Cluster::start(3, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(1, "bob").await;
    let (to_alice, to_bob) = (alice.jid.to_string(), bob.jid.to_string());
    for node in 0..3 {
        for body in numbered("before", 0..5) {
            alice.say(&to_bob, &body).await;
            bob.say(&to_alice, &body).await;
        }
        cluster.signal(node, Signal::SIGTERM);
        let leaver = if node == 1 { &mut bob } else { &mut alice };
        // No `</stream:stream>`, which would end the session for most clients.
        let end = leaver.wire.end().await;
        assert!(!matches!(end, End::Closed | End::Silent), "{end}");
        let condition = end.condition();
        assert!(
            condition.is_empty() || condition == "system-shutdown",
            "{end}"
        );
        leaver.resume(cluster.address((node + 2) % 3)).await;
        // What was read and thrown away above came before and was not acknowledged: it comes again.
        alice.settle().await.unwrap();
        bob.settle().await.unwrap();
        bob.expect(numbered("before", 0..5)).await;
        alice.expect(numbered("before", 0..5)).await;
        alice.check_nothing_more().await;
        bob.check_nothing_more().await;
        let status = cluster.process(node).end().await;
        assert!(status.success(), "{status}");
        cluster.run(node);
        cluster.ready(node).await;
    }
}

#[tokio::test]
async fn f_4_a_node_that_is_told_to_stop_accepts_clients_until_balancers_know() {
    let mut cluster = Cluster::prepare(3, "").unwrap();
    cluster.environment(0, &[("HOLDFAST_DRAIN__GRACE", "4s".into())]);
    let mut cluster = cluster.started(&["alice", "bob"]).await;
    let mut alice = cluster.client(0, "alice").await;
    cluster.signal(0, Signal::SIGTERM);
    while cluster.get(0, "/readyz").await.unwrap().0 == 200 {}
    // A balancer that has not looked since sends its next client here.
    let mut bob = cluster.client(0, "bob").await;
    bob.say(alice.jid.as_str(), "here").await;
    alice.expect(["here".to_owned()]).await;
    for client in [&mut alice, &mut bob] {
        let end = client.wire.end().await;
        assert!(!matches!(end, End::Closed | End::Silent), "{end}");
        client.resume(cluster.address(1)).await;
    }
    bob.say(alice.jid.as_str(), "there").await;
    alice.expect(["there".to_owned()]).await;
    let status = cluster.process(0).end().await;
    assert!(status.success(), "{status}");
}
