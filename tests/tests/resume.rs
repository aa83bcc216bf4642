//! Resumption on three nodes, rule by rule: who may, when, and what follows.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use proto::{Element, ns};
use tests::client::{Client, PASSWORD, body, numbered};
use tests::cluster::Cluster;
use tests::wire::{End, Wire};

/// Reads so many messages without a word about them.
async fn read_silently(client: &mut Client, count: usize) -> Vec<Element> {
    let mut messages = Vec::new();
    while messages.len() < count {
        let element = client.wire.next().await.unwrap();
        if element.is("message", ns::CLIENT) {
            messages.push(element);
        }
    }
    messages
}

#[tokio::test]
async fn sm_52_what_is_not_acknowledged_is_replayed_in_order_before_anything_new() {
    let cluster = Cluster::start(3, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(1, "bob").await;
    let to_bob = bob.jid.to_string();
    for body in numbered("first", 0..10) {
        alice.say(&to_bob, &body).await;
    }
    let seen = read_silently(&mut bob, 10).await;
    // Three are acknowledged now and two more by the resumption; five are left.
    bob.handled += 3;
    bob.acknowledge().await.unwrap();
    bob.wire.cut();
    for body in numbered("second", 0..3) {
        alice.say(&to_bob, &body).await;
    }
    alice.settle().await.unwrap();
    bob.handled += 2;
    bob.resume(cluster.address(2)).await;
    for original in &seen[5..] {
        let again = bob.message_element().await.unwrap();
        assert_eq!(body(&again), body(original));
        let id = |message: &Element| message.child("stanza-id", ns::SID).cloned();
        assert!(
            id(original).is_some() && id(&again) == id(original),
            "SM-58: {again:?}"
        );
        assert!(
            again.child("delay", ns::DELAY).is_some(),
            "SM-58: {again:?}"
        );
    }
    bob.expect(numbered("second", 0..3)).await;
    bob.check_nothing_more().await;
}

#[tokio::test]
async fn sm_46_a_session_is_resumed_again_and_again() {
    let cluster = Cluster::start(3, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(0, "bob").await;
    let (to_alice, to_bob) = (alice.jid.to_string(), bob.jid.to_string());
    for round in 0..6 {
        bob.wire.cut();
        let bodies = numbered(&format!("round {round}"), 0..3);
        for body in &bodies {
            alice.say(&to_bob, body).await;
            bob.say(&to_alice, body).await;
        }
        bob.resume(cluster.address(round % 3)).await;
        alice.settle().await.unwrap();
        bob.settle().await.unwrap();
        bob.expect(bodies.clone()).await;
        alice.expect(bodies).await;
    }
    alice.check_nothing_more().await;
    bob.check_nothing_more().await;
}

#[tokio::test]
async fn sm_50_a_resume_while_the_old_connection_is_open_ends_that_with_conflict() {
    let cluster = Cluster::start(3, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(1, "bob").await;
    let to_bob = bob.jid.to_string();
    for node in [2, 2, 0] {
        let (wire, answer) = bob.take_over(cluster.address(node)).await.unwrap();
        let mut old = std::mem::replace(&mut bob.wire, wire);
        bob.resumed(&answer).await.unwrap();
        let end = old.end().await;
        assert_eq!(end.condition(), "conflict", "{end}");
        alice.say(&to_bob, "only here").await;
        alice.settle().await.unwrap();
        bob.expect(["only here".to_owned()]).await;
    }
    bob.check_nothing_more().await;
}

#[tokio::test]
async fn sm_59_of_racing_resumes_the_last_one_wins_and_the_others_are_told() {
    let cluster = Cluster::start(3, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(1, "bob").await;
    let to_bob = bob.jid.to_string();
    bob.wire.cut();
    let racers = (0..6).map(|n| bob.take_over(cluster.address(n % 3)));
    let mut wires = Vec::new();
    for result in futures_util::future::join_all(racers).await {
        let (wire, answer) = result.unwrap();
        assert!(answer.is("resumed", ns::SM), "{answer:?}");
        wires.push(wire);
    }
    alice.say(&to_bob, "who is it?").await;
    alice.settle().await.unwrap();
    let mut winners = 0;
    for mut wire in wires {
        winners += usize::from(wins(&mut wire).await);
    }
    assert_eq!(winners, 1);
}

/// Whether the message comes here, or this connection is told that another one has the session.
async fn wins(wire: &mut Wire) -> bool {
    loop {
        match wire.next().await {
            Ok(stanza) if stanza.local() == "message" => return body(&stanza) == "who is it?",
            Ok(_) => {}
            Err(end) => {
                assert_eq!(end.condition(), "conflict", "{end}");
                return false;
            }
        }
    }
}

#[tokio::test]
async fn sm_48_the_session_of_another_account_is_refused_exactly_as_an_unknown_one() {
    let cluster = Cluster::start(3, &["alice", "mallory"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut answers = Vec::new();
    for previd in [alice.id.clone(), "there-is-none".to_owned()] {
        let mut wire = Wire::direct(cluster.address(1), cluster.tls())
            .await
            .unwrap();
        wire.login("mallory", PASSWORD).await.unwrap();
        wire.send(&format!(
            "<resume xmlns='{}' previd='{previd}' h='0'/>",
            ns::SM
        ))
        .await
        .unwrap();
        let answer = wire.next().await.unwrap();
        assert!(
            answer.is("failed", ns::SM) && answer.attr("h").is_none(),
            "{answer:?}"
        );
        assert!(
            answer.child("item-not-found", ns::STANZAS).is_some(),
            "{answer:?}"
        );
        answers.push(answer);
        // The stream goes on (SM-47).
        wire.bind("desk").await.unwrap();
        wire.close().await;
    }
    assert_eq!(answers[0], answers[1]);
    alice.check_nothing_more().await;
    alice.wire.cut();
    alice.resume(cluster.address(2)).await;
}

#[track_caller]
fn check_too_high(end: &End, h: u32, sent: u32) {
    let End::Error(condition, error) = end else {
        panic!("no stream error: {end}")
    };
    assert_eq!(condition, "undefined-condition");
    let detail = error
        .child("handled-count-too-high", ns::SM)
        .expect("SM-28");
    assert_eq!(detail.attr("h"), Some(&*h.to_string()));
    assert_eq!(detail.attr("send-count"), Some(&*sent.to_string()));
}

async fn check_gone(client: &mut Client, cluster: &Cluster) {
    let answer = client.try_resume(cluster.address(2)).await.unwrap();
    assert!(answer.is("failed", ns::SM), "{answer:?}");
    assert!(
        answer.child("item-not-found", ns::STANZAS).is_some(),
        "{answer:?}"
    );
    let handled: u32 = answer.attr("h").expect("SM-47").parse().unwrap();
    assert_eq!(
        handled,
        client.acked + u32::try_from(client.unacknowledged()).unwrap(),
        "I-11"
    );
}

#[tokio::test]
async fn sm_28_an_acknowledgement_of_what_was_not_sent_ends_the_session() {
    let cluster = Cluster::start(3, &["alice"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    alice.check_nothing_more().await;
    let sent = alice.handled;
    alice.handled += 5;
    alice.acknowledge().await.unwrap();
    check_too_high(&alice.wire.end().await, sent + 5, sent);
    check_gone(&mut alice, &cluster).await;
}

#[tokio::test]
async fn sm_47_a_resume_that_acknowledges_what_was_not_sent_ends_the_session() {
    let cluster = Cluster::start(3, &["alice"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    alice.check_nothing_more().await;
    let sent = alice.handled;
    alice.handled += 1;
    let Err(end) = alice.try_resume(cluster.address(1)).await else {
        panic!("resumed")
    };
    check_too_high(&end, sent + 1, sent);
    alice.handled = 0;
    check_gone(&mut alice, &cluster).await;
}

#[tokio::test]
async fn sm_37_a_clean_close_ends_the_session() {
    let cluster = Cluster::start(3, &["alice"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    alice.check_nothing_more().await;
    alice.wire.send("</stream:stream>").await.unwrap();
    let end = alice.wire.end().await;
    assert!(matches!(end, End::Closed), "{end}");
    let answer = alice.try_resume(cluster.address(2)).await.unwrap();
    assert!(answer.is("failed", ns::SM), "{answer:?}");
    // The client has ended it by itself: nothing of it is remembered.
    assert_eq!(answer.attr("h"), None, "{answer:?}");
}

#[tokio::test]
async fn sm_21_both_counters_wrap_at_two_to_the_thirty_second() {
    let first = u32::MAX - 6;
    let cluster = Cluster::prepare(3, &format!("[sm]\nfirst_count = {first}\n")).unwrap();
    let cluster = cluster
        .counting_from(first)
        .started(&["alice", "bob"])
        .await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(1, "bob").await;
    let (to_alice, to_bob) = (alice.jid.to_string(), bob.jid.to_string());
    for body in numbered("over", 0..4) {
        alice.say(&to_bob, &body).await;
        bob.say(&to_alice, &body).await;
    }
    alice.settle().await.unwrap();
    bob.settle().await.unwrap();
    bob.expect(numbered("over", 0..4)).await;
    alice.expect(numbered("over", 0..4)).await;
    // The rest crosses the limit while nobody listens.
    bob.wire.cut();
    for body in numbered("over", 4..12) {
        alice.say(&to_bob, &body).await;
        bob.say(&to_alice, &body).await;
    }
    bob.resume(cluster.address(2)).await;
    alice.settle().await.unwrap();
    bob.settle().await.unwrap();
    bob.expect(numbered("over", 4..12)).await;
    alice.expect(numbered("over", 4..12)).await;
    assert!(
        bob.handled < first && alice.handled < first,
        "nothing has wrapped"
    );
    bob.check_nothing_more().await;
    alice.check_nothing_more().await;
    assert!(
        bob.acked < first && alice.acked < first,
        "nothing has wrapped"
    );
    bob.resume(cluster.address(0)).await;
    alice.say(&to_bob, "end").await;
    alice.settle().await.unwrap();
    bob.expect(["end".to_owned()]).await;
}

#[tokio::test]
async fn sm_60_a_node_that_lacks_a_quorum_never_says_that_a_session_is_gone() {
    let mut cluster = Cluster::start(3, &["alice"], "").await;
    let mut alice = cluster.client(2, "alice").await;
    cluster.kill(0);
    cluster.kill(1);
    // Nothing is acknowledged by a minority (I-20).
    alice.say("alice@localhost", "into the silence").await;
    alice
        .wire
        .send(&format!("<r xmlns='{}'/>", ns::SM))
        .await
        .unwrap();
    match alice.take_over(cluster.address(2)).await {
        Ok((_, answer)) => panic!("{answer:?}"),
        Err(end) => assert_eq!(end.condition(), "internal-server-error", "{end}"),
    }
    while let Some(Ok(element)) = alice.wire.next_within(Duration::from_millis(50)).await {
        assert_ne!(element.attr("h"), Some("2"), "acknowledged by a minority");
    }
    cluster.run(0);
    cluster.run(1);
    cluster.ready(0).await;
    alice.resume(cluster.address(0)).await;
    alice.expect(["into the silence".to_owned()]).await;
    alice.check_nothing_more().await;
}
