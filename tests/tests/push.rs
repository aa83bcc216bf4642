//! A client that is away is woken (XEP-0357), over real processes. The service that wakes it is a session of
//! another account, which has told the client that it may be asked.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proto::{Element, ns};
use tests::client::Client;
use tests::cluster::Cluster;
use tests::until;

const SERVICE: &str = "service@localhost/push";
const BOB: &str = "bob@localhost";

async fn ask(client: &mut Client, payload: &str) {
    let id = format!("{:016x}", rand::random::<u64>());
    let iq = format!("<iq type='set' id='{id}'>{payload}</iq>");
    let answer = client.request(&iq, &id).await.unwrap();
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
}

/// A session that takes requests of bob's: it has sent him its presence.
async fn service(cluster: &Cluster) -> Client {
    let mut service = cluster.client_with(0, "service", "push").await;
    service.send(&format!("<presence to='{BOB}'/>")).await;
    service.settle().await.unwrap();
    service
}

async fn enable(client: &mut Client, node: &str) {
    let enable = format!(
        "<enable xmlns='{}' jid='{SERVICE}' node='{node}'/>",
        ns::PUSH
    );
    ask(client, &enable).await;
}

/// The next push: its request, the node, and how many messages it speaks of.
async fn pushed(service: &mut Client) -> (Element, String, String) {
    loop {
        let iq = service.stanza().await.unwrap();
        let Some(pubsub) = iq.child("pubsub", ns::PUBSUB) else {
            continue;
        };
        let publish = pubsub.child("publish", ns::PUBSUB).expect("IM-103");
        let node = publish.attr("node").unwrap_or_default().to_owned();
        let notification = publish
            .child("item", ns::PUBSUB)
            .and_then(|item| item.child("notification", ns::PUSH));
        let form = notification.and_then(|n| n.child("x", ns::DATA_FORM));
        let form = form.unwrap_or_else(|| panic!("IM-103: {iq:?}"));
        let counted = |field: &&Element| field.attr("var") == Some("message-count");
        let field = form.elements().find(counted);
        let value = field.and_then(|field| field.child("value", ns::DATA_FORM));
        let count = value.map(Element::text);
        return (iq, node, count.unwrap_or_default());
    }
}

/// The service answers a push.
async fn answer(service: &mut Client, push: &Element, kind: &str, payload: &str) {
    let id = push.attr("id").expect("an id");
    let answer = format!("<iq type='{kind}' id='{id}' to='{BOB}'>{payload}</iq>");
    service.send(&answer).await;
    service.settle().await.unwrap();
}

#[tokio::test]
async fn im_104_im_105_a_service_is_told_while_the_client_is_away_and_until_it_wants_no_more() {
    let cluster = Cluster::start(1, &["alice", "bob", "service"], "").await;
    let mut service = service(&cluster).await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(0, "bob").await;
    enable(&mut bob, "first").await;
    alice.say(BOB, "while he is here").await;
    bob.expect(["while he is here".to_owned()]).await;
    // What he does not say that he has would count as well (SM-43).
    bob.acknowledge().await.unwrap();
    bob.check_nothing_more().await;
    bob.wire.cut();
    // Until the server has seen that he is gone he is not away; what was written then waits for him.
    alice.say(BOB, "one").await;
    let (push, node, count) = loop {
        if let Some(found) = tokio::select! {
            found = pushed(&mut service) => Some(found),
            () = tokio::time::sleep(std::time::Duration::from_secs(2)) => None,
        } {
            break found;
        }
        alice.say(BOB, "another one").await;
    };
    assert_eq!((node.as_str(), count.as_str()), ("first", "1"));
    let gone = format!(
        "<error type='cancel'><item-not-found xmlns='{}'/></error>",
        ns::STANZAS
    );
    answer(&mut service, &push, "error", &gone).await;

    bob.resume(cluster.address(0)).await;
    bob.message().await.unwrap();
    enable(&mut bob, "second").await;
    bob.close().await.unwrap();
    // Without any session too.
    alice.say(BOB, "two").await;
    let (push, node, count) = pushed(&mut service).await;
    assert_eq!((node.as_str(), count.as_str()), ("second", "1"));
    answer(&mut service, &push, "result", "").await;

    let mut bob = cluster.client(0, "bob").await;
    bob.expect(["two".to_owned()]).await;
    ask(
        &mut bob,
        &format!("<disable xmlns='{}' jid='{SERVICE}'/>", ns::PUSH),
    )
    .await;
    enable(&mut bob, "third").await;
    bob.close().await.unwrap();
    alice.say(BOB, "three").await;
    let (_, node, _) = pushed(&mut service).await;
    assert_eq!(node, "third", "the others are disabled");
}

#[tokio::test]
async fn im_d_a_stranger_s_session_is_not_asked_by_a_push() {
    let cluster = Cluster::start(1, &["alice", "bob", "service"], "").await;
    let mut stranger = cluster.client_with(0, "service", "push").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(0, "bob").await;
    enable(&mut bob, "planted").await;
    bob.close().await.unwrap();
    alice.say(BOB, "wakes whom he named").await;
    alice.settle().await.unwrap();
    until("the push is carried out", async || {
        let (_, page) = cluster.get(0, "/metrics").await.unwrap();
        page.contains("holdfast_pending_effects 0\n")
    })
    .await;
    let ping = "<iq type='get' id='more' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>";
    stranger.send(ping).await;
    loop {
        let stanza = stranger.stanza().await.unwrap();
        assert!(stanza.child("pubsub", ns::PUBSUB).is_none(), "{stanza:?}");
        if stanza.attr("id") == Some("more") {
            break;
        }
    }
}

#[tokio::test]
async fn a_client_that_nobody_writes_to_is_woken_before_its_session_expires() {
    let extra = "[sm]\nhibernation_time = \"4s\"\npush_hibernation_time = \"6s\"\n";
    let cluster = Cluster::start(3, &["bob", "service"], extra).await;
    let mut service = service(&cluster).await;
    let mut bob = cluster.client(1, "bob").await;
    enable(&mut bob, "only").await;
    bob.wire.cut();
    let (_, node, count) = pushed(&mut service).await;
    assert_eq!((node.as_str(), count.as_str()), ("only", "0"));
    bob.resume(cluster.address(2)).await;
    bob.check_nothing_more().await;
}
