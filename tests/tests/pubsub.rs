//! Publish-subscribe on accounts (XEP-0060, XEP-0163), over real processes: who hears what, and when, whoever dies.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proto::ns;
use tests::client::Client;
use tests::cluster::Cluster;
use tests::contact::befriend;
use tests::pep::{ask, hears, publish, read, show, show_and_tell};
use tests::until;

const ALICE: &str = "alice@localhost";
const BOB: &str = "bob@localhost";
const MOOD: &str = "http://jabber.org/protocol/mood";

/// The client has heard what was published last on the node, so that nothing is read for it any more: what is published
/// while that is done may be told twice.
async fn begins_to_hear(client: &mut Client, owner: &mut Client, node: &str) {
    publish(owner, node, "current", "before", &[]).await;
    show_and_tell(client, node).await;
    hears(client, &[(ALICE, node, "before")]).await;
}

/// Two friends on nodes of a cluster, of whom Bob wants to hear of moods, and his second client of nothing.
async fn friends(cluster: &Cluster) -> (Client, Client, Client) {
    let last = cluster.count() - 1;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(last, "bob").await;
    let deaf = cluster.client_with(last, "bob", "deaf").await;
    befriend(&mut alice, &mut bob).await;
    (alice, bob, deaf)
}

async fn conversation(cluster: &Cluster) {
    let (mut alice, mut bob, mut deaf) = friends(cluster).await;
    publish(&mut alice, MOOD, "current", "sad", &[]).await;
    publish(&mut alice, "urn:unwanted", "current", "x", &[]).await;
    // What was published last, to the client that wants to hear of it, once.
    show_and_tell(&mut bob, MOOD).await;
    hears(&mut bob, &[(ALICE, MOOD, "sad")]).await;
    show(&mut bob, MOOD).await;
    publish(&mut alice, MOOD, "current", "glad", &[]).await;
    publish(&mut alice, "urn:unwanted", "current", "y", &[]).await;
    hears(&mut bob, &[(ALICE, MOOD, "glad")]).await;
    // The account's own client hears, too, on whichever node: nobody asks it, as the hash is known.
    show(&mut alice, MOOD).await;
    hears(&mut alice, &[(ALICE, MOOD, "glad")]).await;
    publish(&mut alice, MOOD, "current", "calm", &[]).await;
    hears(&mut alice, &[(ALICE, MOOD, "calm")]).await;
    hears(&mut bob, &[(ALICE, MOOD, "calm")]).await;
    assert_eq!(read(&mut bob, ALICE, MOOD).await, ["calm"]);
    for event in ["purge", "delete"] {
        let what = format!("<{event} node='{MOOD}'/>");
        let answer = ask(&mut alice, "set", "", ns::PUBSUB_OWNER, &what).await;
        assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
        hears(&mut bob, &[(ALICE, MOOD, event)]).await;
        hears(&mut alice, &[(ALICE, MOOD, event)]).await;
    }
    assert_eq!(read(&mut bob, ALICE, MOOD).await, ["item-not-found"]);
    for client in [&mut alice, &mut bob, &mut deaf] {
        client.check_nothing_more().await;
    }
}

#[tokio::test]
async fn pe_7_pe_9_contacts_hear_what_they_want_on_one_node() {
    conversation(&Cluster::start(1, &["alice", "bob"], "").await).await;
}

#[tokio::test]
async fn pe_7_pe_9_contacts_hear_what_they_want_on_three_nodes() {
    conversation(&Cluster::start(3, &["alice", "bob"], "").await).await;
}

#[tokio::test]
async fn pe_13_pe_19_strangers_and_who_is_blocked_read_and_hear_nothing() {
    let cluster = Cluster::start(1, &["alice", "bob", "carol"], "").await;
    let (mut alice, mut bob, _) = friends(&cluster).await;
    let mut carol = cluster.client(0, "carol").await;
    begins_to_hear(&mut bob, &mut alice, MOOD).await;
    publish(&mut alice, MOOD, "current", "sad", &[]).await;
    hears(&mut bob, &[(ALICE, MOOD, "sad")]).await;
    let refused = ["not-authorized", "presence-subscription-required"];
    assert_eq!(read(&mut carol, ALICE, MOOD).await, refused);
    let closed = [("access_model", "whitelist")];
    publish(&mut alice, "urn:closed", "1", "mine", &closed).await;
    assert_eq!(
        read(&mut bob, ALICE, "urn:closed").await,
        ["not-allowed", "closed-node"]
    );
    let open = [("access_model", "open")];
    publish(&mut alice, "urn:keys", "1", "key", &open).await;
    assert_eq!(read(&mut carol, ALICE, "urn:keys").await, ["key"]);
    let block = |name: &str| {
        format!(
            "<iq type='set' id='{name}'><{name} xmlns='{}'><item jid='{BOB}'/></{name}></iq>",
            ns::BLOCKING
        )
    };
    alice.request(&block("block"), "block").await.unwrap();
    publish(&mut alice, MOOD, "current", "glad", &[]).await;
    assert_eq!(read(&mut bob, ALICE, MOOD).await, ["service-unavailable"]);
    alice.request(&block("unblock"), "unblock").await.unwrap();
    publish(&mut alice, MOOD, "current", "calm", &[]).await;
    hears(&mut bob, &[(ALICE, MOOD, "calm")]).await;
    bob.check_nothing_more().await;
}

#[tokio::test]
async fn a_session_that_was_away_hears_the_newest_of_each_and_stays_interested() {
    let mut cluster = Cluster::start(3, &["alice", "bob"], "").await;
    let (mut alice, mut bob, _) = friends(&cluster).await;
    begins_to_hear(&mut bob, &mut alice, MOOD).await;
    publish(&mut alice, MOOD, "current", "0", &[]).await;
    hears(&mut bob, &[(ALICE, MOOD, "0")]).await;
    bob.settle().await.unwrap();
    cluster.kill(2);
    until("his session hibernates", async || {
        cluster.sum("holdfast_hibernated_sessions").await > 0
    })
    .await;
    for mood in ["1", "2", "3"] {
        publish(&mut alice, MOOD, "current", mood, &[]).await;
    }
    alice.settle().await.unwrap();
    bob.resume(cluster.address(1)).await;
    hears(&mut bob, &[(ALICE, MOOD, "3")]).await;
    publish(&mut alice, MOOD, "current", "4", &[]).await;
    hears(&mut bob, &[(ALICE, MOOD, "4")]).await;
    bob.check_nothing_more().await;
}

#[tokio::test]
async fn what_was_published_is_told_once_whichever_node_dies() {
    let mut cluster = Cluster::start(3, &["alice", "bob"], "").await;
    let (mut alice, mut bob, _) = friends(&cluster).await;
    let many = [("max_items", "max")];
    publish(&mut alice, "urn:many", "before", "before", &many).await;
    show_and_tell(&mut bob, "urn:many").await;
    hears(&mut bob, &[(ALICE, "urn:many", "before")]).await;
    // Of three nodes that die one after the other, one leads Alice's shard and one Bob's.
    for victim in 0..3 {
        let mut expect = Vec::new();
        for part in 0..2 {
            for n in 0..5 {
                let text = format!("{victim}.{part}.{n}");
                publish(&mut alice, "urn:many", &text, &text, &many).await;
                expect.push(text);
            }
            if part == 0 {
                cluster.kill(victim);
                let elsewhere = cluster.address((victim + 2) % 3);
                match victim {
                    1 => {}
                    2 => bob.resume(elsewhere).await,
                    _ => alice.resume(elsewhere).await,
                }
                if victim == 2 {
                    alice.resume(elsewhere).await;
                }
            }
        }
        let expect: Vec<_> = expect
            .iter()
            .map(|text| (ALICE, "urn:many", text.as_str()))
            .collect();
        hears(&mut bob, &expect).await;
        cluster.run(victim);
        cluster.ready(victim).await;
    }
    bob.check_nothing_more().await;
    let mut texts = read(&mut bob, ALICE, "urn:many").await;
    texts.sort();
    assert_eq!(texts.len(), 31, "{texts:?}");
}

#[tokio::test]
async fn a_thousand_nodes_are_made_listed_and_read() {
    let cluster = Cluster::start(1, &["alice"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    for n in 0..1_000 {
        publish(&mut alice, &format!("urn:node:{n}"), "current", "x", &[]).await;
    }
    let one_more = "<publish node='urn:one-more'><item><x xmlns='urn:x'/></item></publish>";
    let answer = ask(&mut alice, "set", "", ns::PUBSUB, one_more).await;
    let error = answer.child("error", ns::CLIENT).expect("T-54");
    assert!(
        error.child("resource-constraint", ns::STANZAS).is_some(),
        "{error:?}"
    );
    let query = format!(
        "<iq type='get' id='d' to='{ALICE}'><query xmlns='{}'/></iq>",
        ns::DISCO_ITEMS
    );
    let items = alice.request(&query, "d").await.unwrap();
    let items = items.child("query", ns::DISCO_ITEMS).unwrap();
    assert_eq!(items.elements().count(), 1_000);
}
