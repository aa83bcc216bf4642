//! A session's window ends while the node that leads its shard dies: at each step once.
//!
//! Whoever comes next takes over what was begun: the request that waited is answered once, contacts see
//! one unavailable, and each message is in the archive once and waits for the user.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proto::ns;
use tests::client::{Client, body};
use tests::cluster::Cluster;
use tests::until;

/// Alice, who sees bob's presence from now on.
async fn befriend(cluster: &Cluster) -> Client {
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client_with(1, "bob", "first").await;
    bob.send("<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>")
        .await;
    bob.settle().await.unwrap();
    alice
        .send("<presence type='subscribe' to='bob@localhost'/>")
        .await;
    while bob.presence().await.unwrap().attr("type") != Some("subscribe") {}
    bob.send("<presence type='subscribed' to='alice@localhost'/>")
        .await;
    let desk = bob.jid.to_string();
    loop {
        let presence = alice.presence().await.unwrap();
        if presence.attr("from") == Some(&*desk) {
            break;
        }
    }
    bob.wire.send("</stream:stream>").await.unwrap();
    bob.wire.end().await;
    alice
}

/// Waits until the node that was to die has died, and starts it again.
async fn revive(cluster: &mut Cluster, point: &str) {
    until(&format!("somebody reaches {point}"), async || {
        !cluster.is_armed()
    })
    .await;
    for node in 0..cluster.count() {
        // The one that took the file away is about to end.
        if cluster.get(node, "/livez").await.is_err() {
            cluster.process(node).end().await;
            cluster.run(node);
            cluster.ready(node).await;
            return;
        }
    }
    panic!("nobody died at {point}");
}

/// What alice gets: the kinds and senders of presence, and the answers to her request.
async fn answers(alice: &mut Client, desk: &str, id: &str) -> (usize, usize) {
    let (mut unavailable, mut errors) = (0, 0);
    while unavailable == 0 || errors == 0 {
        let stanza = alice.stanza().await.unwrap();
        let from = stanza.attr("from").unwrap_or_default();
        match (stanza.local(), stanza.attr("type")) {
            ("presence", Some("unavailable")) if from == desk => unavailable += 1,
            ("iq", Some("error")) if stanza.attr("id") == Some(id) => errors += 1,
            ("presence", _) => {}
            _ => panic!("{stanza:?}"),
        }
    }
    (unavailable, errors)
}

/// Nothing of it comes a second time, up to the answer to a ping.
async fn check_no_more(alice: &mut Client, desk: &str, id: &str) {
    let ping = format!(
        "<iq type='get' id='more' to='localhost'><ping xmlns='{}'/></iq>",
        ns::PING
    );
    alice.send(&ping).await;
    loop {
        let stanza = alice.stanza().await.unwrap();
        if stanza.attr("id") == Some("more") {
            return;
        }
        let again = stanza.attr("from") == Some(desk) && stanza.attr("type").is_some();
        assert!(!again && stanza.attr("id") != Some(id), "twice: {stanza:?}");
    }
}

/// How often bob's archive holds each of these bodies.
async fn archived(bob: &mut Client, bodies: &[String]) -> Vec<usize> {
    let query = format!("<iq type='set' id='mam'><query xmlns='{}'/></iq>", ns::MAM);
    bob.send(&query).await;
    let mut found: Vec<String> = Vec::new();
    loop {
        let stanza = bob.stanza().await.unwrap();
        if stanza.local() == "iq" && stanza.attr("id") == Some("mam") {
            let count = |body: &String| found.iter().filter(|b| *b == body).count();
            return bodies.iter().map(count).collect();
        }
        let forwarded = stanza
            .child("result", ns::MAM)
            .and_then(|result| result.child("forwarded", ns::FORWARD))
            .and_then(|forwarded| forwarded.child("message", ns::CLIENT));
        found.extend(forwarded.map(body));
    }
}

async fn check(cluster: &mut Cluster, alice: &mut Client, round: usize, point: &str) {
    let resource = format!("r{round}");
    let mut bob = cluster.client_with(1, "bob", &resource).await;
    bob.settle().await.unwrap();
    bob.acknowledge().await.unwrap();
    bob.wire.cut();
    let desk = bob.jid.to_string();
    let bodies: Vec<String> = (0..3).map(|n| format!("{point} {n}")).collect();
    for text in &bodies {
        alice.say(&desk, text).await;
    }
    let hidden = format!("{point} hidden");
    alice
        .send(&format!(
            "<message to='{desk}' type='chat'><body>{hidden}</body>\
             <no-permanent-store xmlns='urn:xmpp:hints'/></message>"
        ))
        .await;
    let id = format!("ask-{round}");
    alice
        .send(&format!(
            "<iq type='get' id='{id}' to='{desk}'><ping xmlns='{}'/></iq>",
            ns::PING
        ))
        .await;
    alice.settle().await.unwrap();
    cluster.arm(point);
    revive(cluster, point).await;
    assert_eq!(answers(alice, &desk, &id).await, (1, 1), "{point}");

    let mut next = Client::start(cluster.address(1), cluster.tls(), "bob", "next", 0)
        .await
        .unwrap();
    let mut expected = bodies.clone();
    expected.push(hidden.clone());
    next.expect(expected).await;
    next.check_nothing_more().await;
    let mut all = bodies;
    all.push(hidden);
    assert_eq!(archived(&mut next, &all).await, [1, 1, 1, 0], "{point}");
    next.wire.send("</stream:stream>").await.unwrap();
    next.wire.end().await;
    check_no_more(alice, &desk, &id).await;
}

#[tokio::test]
async fn sm_62_f_3_an_expiry_is_carried_out_once_wherever_the_leader_dies() {
    let mut cluster =
        Cluster::start(3, &["alice", "bob"], "[sm]\nhibernation_time = \"2s\"\n").await;
    let mut alice = befriend(&cluster).await;
    let points = [
        "expiry-proposed",
        "effects-begun",
        "effects-halfway",
        "effects-done",
    ];
    for (round, point) in points.into_iter().enumerate() {
        check(&mut cluster, &mut alice, round, point).await;
    }
}
