//! What one account may take, asked of real nodes: N fits, N + 1 is refused with a reason and before it is
//! acknowledged, also after a restart.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proto::ns;
use tests::client::{Client, numbered};
use tests::cluster::Cluster;
use tests::until;

const QUOTAS: &str = "[quotas]\n\
    roster_contacts = 2\nroster_groups = 2\nroster_bytes = 1000\n\
    private_elements = 2\nprivate_bytes = 1000\nvcard_bytes = 1000\n\
    push_registrations = 2\npush_bytes = 1000\nqueue_bytes = 65536\n\
    directed_presence = 2\n";

/// Asks for a change: the condition of the refusal, or nothing.
async fn set(client: &mut Client, payload: &str) -> String {
    let id = format!("{:016x}", rand::random::<u64>());
    let iq = format!("<iq type='set' id='{id}'>{payload}</iq>");
    let answer = client.request(&iq, &id).await.unwrap();
    let error = answer.child("error", ns::CLIENT);
    let condition = error.and_then(|error| error.elements().find(|e| e.local() != "text"));
    condition
        .map_or("", |condition| condition.local())
        .to_owned()
}

fn contact(user: &str, name: &str, groups: usize) -> String {
    let groups: String = (0..groups).map(|n| format!("<group>{n}</group>")).collect();
    format!(
        "<query xmlns='jabber:iq:roster'><item jid='{user}@localhost' name='{name}'>{groups}</item></query>"
    )
}

fn private(name: &str, text: &str) -> String {
    format!("<query xmlns='jabber:iq:private'><x xmlns='urn:test:{name}'>{text}</x></query>")
}

fn push(node: &str, option: &str) -> String {
    let form = format!(
        "<x xmlns='jabber:x:data' type='submit'><field var='o'><value>{option}</value></field></x>"
    );
    format!("<enable xmlns='urn:xmpp:push:0' jid='push@localhost' node='{node}'>{form}</enable>")
}

/// Each request with the condition that it is refused with, in order.
async fn check(client: &mut Client, requests: &[(String, &str)]) {
    for (request, expect) in requests {
        assert_eq!(set(client, request).await, *expect, "{request}");
    }
}

#[tokio::test]
async fn t_52_t_54_what_an_account_keeps_is_bounded_and_stays_so_after_a_restart() {
    let mut cluster = Cluster::start(1, &["alice"], QUOTAS).await;
    let mut alice = cluster.client(0, "alice").await;
    let (full, long) = ("resource-constraint", "x".repeat(950));
    let card = |text: &str| format!("<vCard xmlns='vcard-temp'><FN>{text}</FN></vCard>");
    let filled = [
        (contact("a", "A", 2), ""),
        (contact("b", "B", 0), ""),
        (contact("c", "C", 0), full),
        (contact("a", "A", 3), "not-acceptable"),
        (contact("a", &long, 0), full),
        (private("a", ""), ""),
        (private("b", ""), ""),
        (private("c", ""), full),
        (private("a", &long), full),
        (card(&long), ""),
        (card(&format!("{long}{long}")), full),
        (push("a", ""), ""),
        (push("b", ""), ""),
        (push("c", ""), full),
        (push("a", &long), full),
    ];
    check(&mut alice, &filled).await;
    cluster.kill(0);
    cluster.run(0);
    cluster.ready(0).await;
    alice.resume(cluster.address(0)).await;
    check(&mut alice, &filled).await;
}

#[tokio::test]
async fn t_51_a_session_that_directs_presence_to_too_many_is_told() {
    let cluster = Cluster::start(1, &["alice", "bob"], QUOTAS).await;
    let mut alice = cluster.client(0, "alice").await;
    for n in 1..=3 {
        alice
            .send(&format!("<presence to='bob@localhost/{n}'/>"))
            .await;
    }
    let refused = loop {
        let stanza = alice.stanza().await.unwrap();
        if stanza.attr("type") == Some("error") {
            break stanza;
        }
    };
    assert_eq!(refused.attr("from"), Some("bob@localhost/3"));
    let error = refused.child("error", ns::CLIENT).unwrap();
    assert!(
        error.child("policy-violation", ns::STANZAS).is_some(),
        "{refused:?}"
    );
}

/// A number of the metrics page.
async fn metric(cluster: &Cluster, name: &str) -> usize {
    let (_, page) = cluster.get(0, "/metrics").await.unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name}"))
        .trim()
        .parse()
        .unwrap()
}

#[tokio::test]
async fn t_41_the_sessions_of_an_account_hold_so_much_together_and_lose_nothing() {
    let cluster = Cluster::start(1, &["alice", "bob"], QUOTAS).await;
    let mut alice = cluster.client(0, "alice").await;
    let mut one = cluster.client_with(0, "bob", "one").await;
    let mut two = cluster.client_with(0, "bob", "two").await;
    one.wire.cut();
    two.wire.cut();
    let bodies = numbered(&"x".repeat(4_000), 0..40);
    for body in bodies.clone() {
        alice.say("bob@localhost", &body).await;
    }
    alice.settle().await.unwrap();
    until("all of it has reached both sessions", async || {
        metric(&cluster, "holdfast_queue_stanzas").await >= 80
    })
    .await;
    // That was ten times as much. Each may be one message over its share.
    let held = metric(&cluster, "holdfast_queue_bytes").await;
    assert!((40_000..65_536 + 20_000).contains(&held), "{held}");
    for client in [&mut one, &mut two] {
        client.resume(cluster.address(0)).await;
        client.expect(bodies.clone()).await;
        client.check_nothing_more().await;
    }
}
