//! What contacts see of a session that is cut, resumed, and ends at last (P4).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use proto::ns;
use tests::client::Client;
use tests::cluster::Cluster;
use tests::contact::befriend;

async fn friends(cluster: &Cluster) -> (Client, Client) {
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(1, "bob").await;
    befriend(&mut alice, &mut bob).await;
    (alice, bob)
}

/// What the one says next comes with no presence before it.
async fn check_no_flap(from: &mut Client, to: &mut Client) {
    let address = to.jid.to_string();
    from.say(&address, "still here").await;
    from.settle().await.unwrap();
    to.expect(["still here".to_owned()]).await;
    assert_eq!(to.presences(), [], "I-15");
}

#[tokio::test]
async fn p4_contacts_see_nothing_of_a_cut_a_kill_and_a_resume() {
    let mut cluster = Cluster::start(3, &["alice", "bob"], "").await;
    let (mut alice, mut bob) = friends(&cluster).await;
    drop(alice.presences());
    bob.wire.cut();
    bob.resume(cluster.address(2)).await;
    check_no_flap(&mut bob, &mut alice).await;
    cluster.kill(2);
    bob.resume(cluster.address(1)).await;
    check_no_flap(&mut bob, &mut alice).await;
}

#[tokio::test]
async fn p4_a_hibernated_session_is_still_available_to_who_asks() {
    // A first presence asks for that of the others (IM-39), and is shown it (IM-43).
    let cluster = Cluster::start(3, &["alice", "bob"], "").await;
    let (alice, mut bob) = friends(&cluster).await;
    bob.wire.cut();
    let mut phone = cluster.client_with(2, "alice", "phone").await;
    let (desk, other) = (bob.jid.to_string(), alice.jid.to_string());
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.push(
            phone
                .presence()
                .await
                .unwrap()
                .attr("from")
                .map(str::to_owned),
        );
    }
    seen.sort();
    assert_eq!(seen, [Some(other), Some(desk)]);
}

/// Bob is seen to leave once, and then to come back in a new session.
async fn check_leaves_once(cluster: &Cluster, alice: &mut Client, bob: &Client) {
    let desk = bob.jid.to_string();
    let left = alice.presence().await.unwrap();
    assert_eq!(
        (left.attr("type"), left.attr("from")),
        (Some("unavailable"), Some(&*desk))
    );
    let mut again = cluster.client_with(0, "bob", "again").await;
    let address = alice.jid.to_string();
    again.say(&address, "new").await;
    again.settle().await.unwrap();
    alice.expect(["new".to_owned()]).await;
    let seen: Vec<_> = alice
        .presences()
        .iter()
        .map(|p| p.attr("type").map(str::to_owned))
        .collect();
    assert_eq!(
        seen,
        [None],
        "exactly one unavailable, and then the new session"
    );
}

#[tokio::test]
async fn p4_contacts_see_one_unavailable_when_the_window_is_over() {
    let cluster = Cluster::start(3, &["alice", "bob"], "[sm]\nhibernation_time = \"2s\"\n").await;
    let (mut alice, mut bob) = friends(&cluster).await;
    drop(alice.presences());
    assert_eq!(bob.max, 2, "SM-8");
    bob.wire.cut();
    check_leaves_once(&cluster, &mut alice, &bob).await;
    let answer = bob.try_resume(cluster.address(2)).await.unwrap();
    assert!(
        answer.is("failed", ns::SM) && answer.attr("h").is_some(),
        "{answer:?}"
    );
}

#[tokio::test]
async fn p4_contacts_see_one_unavailable_after_a_crash_too() {
    let mut cluster =
        Cluster::start(3, &["alice", "bob"], "[sm]\nhibernation_time = \"2s\"\n").await;
    let (mut alice, bob) = friends(&cluster).await;
    drop(alice.presences());
    cluster.kill(1);
    check_leaves_once(&cluster, &mut alice, &bob).await;
}

#[tokio::test]
async fn p2_what_an_ended_session_did_not_take_is_kept_for_the_user() {
    let cluster = Cluster::start(3, &["alice", "bob"], "[sm]\nhibernation_time = \"1s\"\n").await;
    let (mut alice, mut bob) = friends(&cluster).await;
    drop(alice.presences());
    bob.wire.cut();
    let (address, account) = (bob.jid.to_string(), bob.jid.bare().to_string());
    alice.say(&address, "kept 0").await;
    alice.settle().await.unwrap();
    let left = alice.presence().await.unwrap();
    assert_eq!(left.attr("type"), Some("unavailable"));
    alice.say(&account, "kept 1").await;
    alice.settle().await.unwrap();
    // A plain client, without stream management: it gets what was missed, once.
    let mut wire = cluster.bound(0, "bob", "plain").await;
    wire.send("<presence/>").await.unwrap();
    let mut bodies = Vec::new();
    while bodies.len() < 2 {
        let stanza = wire
            .next()
            .await
            .unwrap_or_else(|end| panic!("after {bodies:?}: {end}"));
        if stanza.local() == "message" {
            assert!(stanza.child("delay", ns::DELAY).is_some(), "{stanza:?}");
            bodies.push(tests::client::body(&stanza));
        }
    }
    assert_eq!(bodies, ["kept 0", "kept 1"]);
    assert!(
        wire.next_within(Duration::from_millis(300))
            .await
            .is_none_or(|more| { more.is_ok_and(|stanza| stanza.local() != "message") })
    );
}
