//! One node with no configuration beyond its addresses: the life of a session.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proto::ns;
use tests::client::{PASSWORD, numbered};
use tests::cluster::Cluster;
use tests::wire::Wire;

#[tokio::test]
async fn a_cut_connection_is_resumed_with_all_that_came_meanwhile() {
    let cluster = Cluster::start(1, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(0, "bob").await;
    let (alice_jid, bob_jid) = (alice.jid.to_string(), bob.jid.to_string());
    alice.say(&bob_jid, "hello 0").await;
    bob.expect(numbered("hello", 0..1)).await;
    bob.say(&alice_jid, "hello 1").await;
    alice.expect(numbered("hello", 1..2)).await;

    bob.wire.cut();
    let bare = bob.jid.bare().to_string();
    for (number, body) in numbered("meanwhile", 0..10).iter().enumerate() {
        alice
            .say(if number % 2 == 0 { &bob_jid } else { &bare }, body)
            .await;
    }
    alice.settle().await.unwrap();
    bob.resume(cluster.address(0)).await;
    bob.expect(numbered("meanwhile", 0..10)).await;
    alice.say(&bob_jid, "end").await;
    bob.expect(["end".to_owned()]).await;
    alice.check_nothing_more().await;
    bob.check_nothing_more().await;
}

#[tokio::test]
async fn starttls_leads_to_the_same_login() {
    let cluster = Cluster::start(1, &["alice"], "").await;
    let mut wire = Wire::starttls(cluster.starttls(0), cluster.tls())
        .await
        .unwrap();
    let features = wire.login("alice", PASSWORD).await.unwrap();
    assert!(features.child("bind", ns::BIND).is_some(), "{features:?}");
    let jid = wire.bind("phone").await.unwrap();
    assert_eq!(jid.as_str(), "alice@localhost/phone");
    wire.close().await;
}

#[tokio::test]
async fn st_37_an_unknown_account_is_refused_like_a_wrong_password() {
    let cluster = Cluster::start(1, &["alice"], "").await;
    let mut answers = Vec::new();
    for (user, password) in [("alice", "wrong"), ("nobody", PASSWORD)] {
        let mut wire = Wire::direct(cluster.address(0), cluster.tls())
            .await
            .unwrap();
        wire.open().await.unwrap();
        let answer = wire.authenticate(user, password).await.unwrap();
        assert!(answer.is("failure", ns::SASL), "{answer:?}");
        assert!(
            answer.child("not-authorized", ns::SASL).is_some(),
            "{answer:?}"
        );
        answers.push(answer);
    }
    assert_eq!(answers[0], answers[1]);
}
