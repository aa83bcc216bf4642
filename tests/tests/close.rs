//! A stream that is closed in good order: what the client has by then does not come again.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proto::{Element, ns};
use tests::client::{body, numbered};
use tests::cluster::Cluster;
use tests::wire::Wire;

const PING: &str = "<iq type='get' id='all'><ping xmlns='urn:xmpp:ping'/></iq>";

/// A session without stream management, available.
async fn plain(cluster: &Cluster, user: &str) -> Wire {
    let mut wire = cluster.bound(0, user, "plain").await;
    wire.send("<presence/>").await.unwrap();
    wire
}

/// The bodies of all messages up to the answer to a ping.
async fn bodies(wire: &mut Wire) -> Vec<String> {
    wire.send(PING).await.unwrap();
    let mut bodies = Vec::new();
    loop {
        let element = wire.next().await.unwrap();
        match element.local() {
            "message" => bodies.push(body(&element)),
            "iq" if element.attr("id") == Some("all") => return bodies,
            _ => {}
        }
    }
}

async fn leave_messages(cluster: &Cluster) {
    let mut alice = cluster.client(0, "alice").await;
    for text in numbered("left", 0..5) {
        alice.say("bob@localhost", &text).await;
    }
    alice.settle().await.unwrap();
    alice.wire.close().await;
}

#[tokio::test]
async fn sm_30_an_ack_just_before_the_close_counts() {
    let cluster = Cluster::start(1, &["alice", "bob"], "").await;
    leave_messages(&cluster).await;
    let mut bob = cluster.client(0, "bob").await;
    bob.expect(numbered("left", 0..5)).await;
    bob.acknowledge().await.unwrap();
    bob.wire.close().await;
    let mut bob = plain(&cluster, "bob").await;
    assert_eq!(bodies(&mut bob).await, [""; 0]);
}

#[tokio::test]
async fn sm_30_without_an_ack_the_close_counts_for_nothing() {
    let cluster = Cluster::start(1, &["alice", "bob"], "").await;
    leave_messages(&cluster).await;
    // He counts and does not say what he has, also when he is asked.
    let mut bob = cluster.bound(0, "bob", "silent").await;
    bob.send("<enable xmlns='urn:xmpp:sm:3'/><presence/>")
        .await
        .unwrap();
    assert_eq!(bodies(&mut bob).await, numbered("left", 0..5));
    bob.close().await;
    let mut bob = plain(&cluster, "bob").await;
    assert_eq!(bodies(&mut bob).await, numbered("left", 0..5));
}

#[tokio::test]
async fn a_clean_close_is_an_ack_where_nobody_counts() {
    let cluster = Cluster::start(1, &["alice", "bob"], "").await;
    leave_messages(&cluster).await;
    let mut bob = plain(&cluster, "bob").await;
    let mut read = Vec::new();
    while read.len() < 5 {
        let element: Element = bob.next().await.unwrap();
        read.extend((element.local() == "message").then(|| body(&element)));
        assert!(!element.is("ping", ns::PING));
    }
    assert_eq!(read, numbered("left", 0..5));
    bob.close().await;
    let mut bob = plain(&cluster, "bob").await;
    assert_eq!(bodies(&mut bob).await, [""; 0]);
}
