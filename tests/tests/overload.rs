//! More than can be kept, or than can be written as fast as it comes, over real processes: whoever sends it
//! is told at once or is read more slowly; what was acknowledged arrives.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proto::ns;
use tests::client::body;
use tests::cluster::Cluster;
use tests::postgres::Postgres;

const BOB: &str = "bob@localhost";
/// One client says as much as it can.
const UNLIMITED: &str = "[limits]\nstanzas_per_second = 0\n";

/// Says something long to bob, who is away, and logs bob in. Whether it arrived; if not, it was refused.
async fn arrives(cluster: &Cluster, text: &str) -> bool {
    let mut alice = cluster.client(0, "alice").await;
    let chat = format!("<message to='{BOB}' type='chat' id='long'><body>{text}</body></message>");
    alice.send(&chat).await;
    alice.settle().await.unwrap();
    let refused = alice.take_messages(|message| message.attr("type") == Some("error"));
    alice.close().await.unwrap();
    let mut bob = cluster.client(0, "bob").await;
    if let Some(refused) = refused.first() {
        let error = refused.child("error", ns::CLIENT).unwrap();
        assert!(
            error.child("policy-violation", ns::STANZAS).is_some(),
            "{error:?}"
        );
        bob.check_nothing_more().await;
        bob.close().await.unwrap();
        return false;
    }
    assert_eq!(body(&bob.message_element().await.unwrap()), text);
    bob.close().await.unwrap();
    true
}

#[tokio::test]
async fn t_72_what_grows_when_it_is_written_is_refused_before_it_is_acknowledged_or_arrives() {
    let postgres = Postgres::start();
    for url in [None, Some(postgres.url())] {
        let cluster = Cluster::prepare(1, UNLIMITED).unwrap();
        if let Some(url) = &url {
            cluster.store_in(url);
        }
        let cluster = cluster.started(&["alice", "bob"]).await;
        assert!(!arrives(&cluster, &"'".repeat(200_000)).await, "{url:?}");
        assert!(arrives(&cluster, &"'".repeat(40_000)).await, "{url:?}");
        assert!(arrives(&cluster, &"x".repeat(200_000)).await, "{url:?}");
    }
}
