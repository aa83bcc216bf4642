//! Small inputs that went wrong once, each from a report about a server of this kind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proto::{Element, ns};
use tests::archive::{self, all_behind, stanza_id};
use tests::client::{Client, body, numbered};
use tests::cluster::Cluster;
use tests::contact::befriend;
use tests::wire::{DOMAIN, Wire};
use tests::{process, until};

const BOB: &str = "bob@localhost";
/// Behind the configuration of every node: windows end soon.
const SHORT: &str = "[sm]\nhibernation_time = \"2s\"\n";

/// A session that can be resumed and has not said that it is available.
async fn silent(cluster: &Cluster, user: &str, resource: &str) -> Client {
    let address = cluster.address(0);
    let client = Client::connected(address, cluster.tls(), user, resource, 0).await;
    client.unwrap_or_else(|end| panic!("{user}/{resource} cannot connect: {end}"))
}

/// The same, available with a priority.
async fn ready(cluster: &Cluster, user: &str, resource: &str, priority: i8) -> Client {
    let mut client = silent(cluster, user, resource).await;
    let presence = format!("<presence><priority>{priority}</priority></presence>");
    client.send(&presence).await;
    client.settle().await.unwrap();
    client
}

async fn ask(client: &mut Client, payload: &str) {
    let id = format!("{:016x}", rand::random::<u64>());
    let iq = format!("<iq type='set' id='{id}'>{payload}</iq>");
    let answer = client.request(&iq, &id).await.unwrap();
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
}

/// Everything that the client has got is acknowledged.
async fn acknowledge(client: &mut Client) {
    client.settle().await.unwrap();
    client.acknowledge().await.unwrap();
    // The answer to this comes behind the acknowledgement.
    client.check_nothing_more().await;
}

/// Waits until another session is seen to end.
async fn await_end(client: &mut Client, of: &str) {
    loop {
        let presence = client.presence().await.unwrap();
        if presence.attr("from") == Some(of) && presence.attr("type") == Some("unavailable") {
            return;
        }
    }
}

async fn await_hibernated(cluster: &Cluster, count: usize) {
    let line = format!("holdfast_hibernated_sessions {count}");
    until(&line, async || {
        let page = cluster.get(0, "/metrics").await.map(|(_, page)| page);
        page.is_ok_and(|page| page.lines().any(|found| found == line))
    })
    .await;
}

/// Alice has written so many messages to bob, who is away.
async fn eight_wait(cluster: &Cluster) -> Client {
    let mut alice = cluster.client(0, "alice").await;
    for text in numbered("chat", 0..8) {
        alice.say(BOB, &text).await;
    }
    alice.settle().await.unwrap();
    alice
}

/// Bob asks for a page before his presence: what it holds comes once more nowhere, the rest comes.
async fn check_page(cluster: &Cluster, fields: &[(&str, &str)], set: &str, given: &[usize]) {
    let mut alice = eight_wait(cluster).await;
    let mut bob = silent(cluster, "bob", "desk").await;
    let page = archive::page(&mut bob, fields, set).await.unwrap();
    let found: Vec<_> = page.entries.into_iter().map(|entry| entry.body).collect();
    let all = numbered("chat", 0..8);
    let expect: Vec<_> = given.iter().map(|n| all[*n].clone()).collect();
    assert_eq!(found, expect, "{fields:?} {set}");
    bob.become_available().await.unwrap();
    let rest = (0..8).filter(|n| !given.contains(n));
    bob.expect(rest.map(|n| all[n].clone())).await;
    bob.check_nothing_more().await;
    bob.close().await.unwrap();
    // And now it has all of them.
    let mut bob = cluster.client(0, "bob").await;
    bob.check_nothing_more().await;
    alice.check_nothing_more().await;
}

#[tokio::test]
async fn im_63_only_what_the_archive_has_given_is_spared_the_offline_copy() {
    for (fields, set, given) in [
        (&[][..], "<max>3</max><before/>", &[5, 6, 7][..]),
        (&[], "<max>1</max><before/>", &[7]),
        (&[], "<max>3</max>", &[0, 1, 2]),
        (&[("with", "alice@localhost")], "<max>2</max>", &[0, 1]),
        (&[("with", "carol@localhost")], "", &[]),
        (&[], "", &[0, 1, 2, 3, 4, 5, 6, 7]),
    ] {
        let cluster = Cluster::start(1, &["alice", "bob"], "").await;
        check_page(&cluster, fields, set, given).await;
    }
}

#[tokio::test]
async fn im_63_a_page_that_was_lost_on_its_way_has_given_nothing() {
    let cluster = Cluster::start(1, &["alice", "bob"], SHORT).await;
    let _alice = eight_wait(&cluster).await;
    let mut bob = silent(&cluster, "bob", "desk").await;
    let query = format!("<iq type='set' id='q'><query xmlns='{}'/></iq>", ns::MAM);
    bob.wire.send(&query).await.unwrap();
    bob.wire.send("<presence/>").await.unwrap();
    // All is written, and nothing of it acknowledged.
    while bob.wire.next().await.unwrap().local() != "presence" {}
    bob.wire.cut();
    await_hibernated(&cluster, 1).await;
    await_hibernated(&cluster, 0).await;
    let mut bob = cluster.client_with(0, "bob", "other").await;
    bob.expect(numbered("chat", 0..8)).await;
    bob.check_nothing_more().await;
}

/// Bob's phone does not answer any more, and his desk is there.
async fn frozen_phone(cluster: &Cluster) -> (Client, Client, Client) {
    let alice = cluster.client(0, "alice").await;
    let mut phone = ready(cluster, "bob", "phone", 5).await;
    let desk = ready(cluster, "bob", "desk", 0).await;
    acknowledge(&mut phone).await;
    phone.wire.cut();
    await_hibernated(cluster, 1).await;
    (alice, phone, desk)
}

#[tokio::test]
async fn sm_63_what_an_ended_session_did_not_take_goes_to_who_is_online() {
    let cluster = Cluster::start(1, &["alice", "bob"], SHORT).await;
    let mut alice = cluster.client(0, "alice").await;
    let mut phone = ready(&cluster, "bob", "phone", 5).await;
    let mut desk = ready(&cluster, "bob", "desk", 0).await;
    acknowledge(&mut phone).await;
    // It freezes: until the server sees that, it is the one with the highest priority.
    alice.say(BOB, "to bob").await;
    alice.say("bob@localhost/phone", "to his phone").await;
    alice.settle().await.unwrap();
    phone.wire.cut();
    let mut ids = Vec::new();
    for text in ["to bob", "to his phone"] {
        let message = desk.message_element().await.unwrap();
        assert_eq!(body(&message), text);
        assert!(message.child("delay", ns::DELAY).is_some(), "{message:?}");
        ids.extend(stanza_id(&message, BOB));
    }
    desk.check_nothing_more().await;
    let archived = all_behind(&mut desk, None).await.unwrap();
    let archived: Vec<_> = archived.into_iter().map(|entry| entry.id).collect();
    assert_eq!(archived, ids, "each is there once, under the same id");
    desk.close().await.unwrap();
    let mut desk = ready(&cluster, "bob", "desk", 0).await;
    desk.check_nothing_more().await;
}

#[tokio::test]
async fn sm_63_who_acknowledged_a_copy_has_the_message() {
    let cluster = Cluster::start(1, &["alice", "bob"], SHORT).await;
    let (mut alice, phone, mut desk) = frozen_phone(&cluster).await;
    ask(&mut desk, &format!("<enable xmlns='{}'/>", ns::CARBONS)).await;
    alice.say("bob@localhost/phone", "to his phone").await;
    let copy = desk.message_element().await.unwrap();
    assert!(copy.child("received", ns::CARBONS).is_some(), "{copy:?}");
    acknowledge(&mut desk).await;
    await_end(&mut desk, phone.jid.as_str()).await;
    desk.check_nothing_more().await;
    desk.close().await.unwrap();
    let mut desk = ready(&cluster, "bob", "desk", 0).await;
    desk.check_nothing_more().await;
}

#[tokio::test]
async fn sm_63_a_copy_that_nobody_acknowledged_is_no_delivery() {
    let cluster = Cluster::start(1, &["alice", "bob"], SHORT).await;
    let (mut alice, phone, mut desk) = frozen_phone(&cluster).await;
    ask(&mut desk, &format!("<enable xmlns='{}'/>", ns::CARBONS)).await;
    acknowledge(&mut desk).await;
    alice.say("bob@localhost/phone", "to his phone").await;
    loop {
        let next = desk.wire.next().await.unwrap();
        if next.local() == "message" {
            break;
        }
    }
    desk.wire.cut();
    // Both windows end.
    await_hibernated(&cluster, 0).await;
    drop((phone, desk));
    let mut desk = ready(&cluster, "bob", "desk", 0).await;
    desk.expect(["to his phone".to_owned()]).await;
    desk.check_nothing_more().await;
}

/// What alice sees of bob's session until somebody else says the last word.
async fn unavailables(alice: &mut Client, carol: &mut Client, of: &str) -> usize {
    await_end(alice, of).await;
    let to = alice.jid.to_string();
    carol.say(&to, "the last word").await;
    alice.expect(["the last word".to_owned()]).await;
    let more = alice.presences();
    let more = more
        .iter()
        .filter(|presence| presence.attr("from") == Some(of));
    1 + more.count()
}

#[tokio::test]
async fn i_15_one_unavailable_reaches_who_is_a_subscriber_and_got_directed_presence_too() {
    let cluster = Cluster::start(1, &["alice", "bob", "carol"], SHORT).await;
    let mut alice = cluster.client(0, "alice").await;
    let mut other = cluster.client_with(0, "alice", "other").await;
    let mut carol = cluster.client(0, "carol").await;
    let mut bob = cluster.client(0, "bob").await;
    befriend(&mut alice, &mut bob).await;
    for close in [true, false] {
        for to in ["alice@localhost", alice.jid.as_str()] {
            bob.send(&format!("<presence to='{to}'><show>chat</show></presence>"))
                .await;
        }
        acknowledge(&mut bob).await;
        let session = bob.jid.to_string();
        if close {
            bob.close().await.unwrap();
        } else {
            bob.wire.cut();
        }
        for alice in [&mut alice, &mut other] {
            assert_eq!(unavailables(alice, &mut carol, &session).await, 1);
        }
        bob = cluster.client_with(0, "bob", "again").await;
    }
    // The same when he says so himself.
    let session = bob.jid.to_string();
    bob.send(&format!("<presence to='{}'/>", alice.jid)).await;
    bob.send("<presence to='alice@localhost'/>").await;
    bob.send("<presence type='unavailable'/>").await;
    for alice in [&mut alice, &mut other] {
        assert_eq!(unavailables(alice, &mut carol, &session).await, 1);
    }
}

#[tokio::test]
async fn xep_0082_an_archive_may_be_asked_for_up_to_the_end_of_time() {
    let cluster = Cluster::start(1, &["alice", "bob"], "").await;
    let _alice = eight_wait(&cluster).await;
    let mut bob = silent(&cluster, "bob", "desk").await;
    for end in [
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59.999-14:00",
        "9999-12-31T24:00:00Z",
    ] {
        let fields = [("start", "0000-01-01T00:00:00+14:00"), ("end", end)];
        let page = archive::page(&mut bob, &fields, "").await.unwrap();
        assert_eq!(page.entries.len(), 8, "{end}");
    }
}

#[tokio::test]
async fn t_44_to_bind_the_name_of_one_s_own_hibernated_session_is_no_conflict() {
    let cluster = Cluster::start(1, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    for round in 0..12 {
        let mut bob = cluster.client_with(0, "bob", "phone").await;
        assert_eq!(bob.jid.as_str(), "bob@localhost/phone", "round {round}");
        if round > 0 {
            bob.expect([format!("{round}")]).await;
        }
        acknowledge(&mut bob).await;
        alice.say(bob.jid.as_str(), &format!("{}", round + 1)).await;
        alice.settle().await.unwrap();
        bob.wire.cut();
        await_hibernated(&cluster, 1).await;
    }
}

#[tokio::test]
async fn im_60_what_must_not_be_stored_comes_back_when_nobody_is_there() {
    let cluster = Cluster::start(3, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let no_store = format!("<no-store xmlns='{}'/>", ns::HINTS);
    let chat = format!("<message to='{BOB}' type='chat' id='m'><body>x</body>{no_store}</message>");
    alice.send(&chat).await;
    let back = alice.message_element().await.unwrap();
    assert_eq!(
        (back.attr("type"), back.attr("id")),
        (Some("error"), Some("m"))
    );
    let error = back.child("error", ns::CLIENT).unwrap();
    let reason = error.child("service-unavailable", ns::STANZAS);
    assert!(reason.is_some(), "{back:?}");
    let mut bob = cluster.client(1, "bob").await;
    bob.check_nothing_more().await;
    alice.check_nothing_more().await;
}

/// Makes an account with a password of its own.
fn account(cluster: &Cluster, user: &str, password: &str) {
    let (jid, config) = (format!("{user}@{DOMAIN}"), cluster.config(0));
    let config = config.to_string_lossy();
    let add = ["user", "add", &jid, "--password-stdin", "--config", &config];
    let output = process::run(add, &format!("{password}\n"));
    assert!(output.status.success(), "{output:?}");
}

async fn logs_in(cluster: &Cluster, user: &str, password: &str) -> bool {
    let wire = Wire::direct(cluster.address(0), cluster.tls()).await;
    let mut wire = wire.unwrap();
    wire.open().await.unwrap();
    let outcome = wire.authenticate(user, password).await.unwrap();
    outcome.is("success", ns::SASL)
}

#[tokio::test]
async fn st_42_a_password_is_accepted_in_each_form_that_clients_send() {
    let cluster = Cluster::start(1, &[], "").await;
    for (user, password, prepared) in [
        ("square", "m²µª ½pass", "m2μa 1⁄2pass"),
        ("fish", "ﬁsh①", "fish1"),
        ("plain", "correct horse", "correct horse"),
    ] {
        account(&cluster, user, password);
        for form in [password, prepared] {
            assert!(logs_in(&cluster, user, form).await, "{user} with {form}");
        }
        assert!(!logs_in(&cluster, user, "another one").await);
    }
}

/// The body that the next push speaks of.
async fn pushed(service: &mut Client) -> String {
    loop {
        let iq = service.stanza().await.unwrap();
        let published = iq.child("pubsub", ns::PUBSUB);
        let published = published.and_then(|p| p.child("publish", ns::PUBSUB));
        let item = published.and_then(|p| p.child("item", ns::PUBSUB));
        let told = item.and_then(|item| item.child("notification", ns::PUSH));
        let Some(form) = told.and_then(|told| told.child("x", ns::DATA_FORM)) else {
            continue;
        };
        let body = form
            .elements()
            .find(|f| f.attr("var") == Some("last-message-body"));
        let body = body.and_then(|f| f.child("value", ns::DATA_FORM));
        return body.map(Element::text).unwrap_or_default();
    }
}

#[tokio::test]
async fn im_105_what_went_only_to_another_session_wakes_nobody() {
    let extra = "[push]\nwith_body = true\n";
    let cluster = Cluster::start(1, &["alice", "bob", "service"], extra).await;
    let mut service = cluster.client_with(0, "service", "push").await;
    // It takes requests of bob's.
    service.send(&format!("<presence to='{BOB}'/>")).await;
    service.settle().await.unwrap();
    let mut alice = cluster.client(0, "alice").await;
    let mut phone = ready(&cluster, "bob", "phone", 0).await;
    let mut desk = ready(&cluster, "bob", "desk", 5).await;
    let push = format!("<enable xmlns='{}' jid='{}'/>", ns::PUSH, service.jid);
    ask(&mut phone, &push).await;
    acknowledge(&mut phone).await;
    phone.wire.cut();
    await_hibernated(&cluster, 1).await;
    for to in [BOB, "bob@localhost/desk"] {
        alice.say(to, to).await;
        desk.expect([to.to_owned()]).await;
    }
    alice.say(phone.jid.as_str(), "to his phone").await;
    assert_eq!(pushed(&mut service).await, "to his phone");
}
