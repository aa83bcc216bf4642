//! Accounts that people make, change and remove themselves (XEP-0077), on one node and on three.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use proto::ns;
use proto::payload::form::{Form, FormType};
use tests::client::{Client, PASSWORD};
use tests::cluster::Cluster;
use tests::contact::{await_presence, befriend};
use tests::login::{can_log_in, everywhere};
use tests::register::{
    FIELDS, INVITED, OPEN, account, ask, outcome, preauth, register, set, stranger,
};
use tests::web::{self, Web};
use tests::web_session::Carrier as _;
use tests::wire::Wire;
use tests::{process, until};

/// A request for an account: alice fills in the form, and everybody else the fields.
fn wanted(name: &str) -> String {
    if name != "alice" {
        return account(name, PASSWORD);
    }
    let form = Form::new(FormType::Submit, ns::REGISTER);
    let form = form.with("username", [name]).with("password", [PASSWORD]);
    set(&form.to_element().to_xml(ns::REGISTER))
}

/// `holdfast user`; what it says.
fn user(cluster: &Cluster, arguments: &[&str], input: &str) -> String {
    let config = cluster.config(0).to_string_lossy().into_owned();
    let arguments = [&["user"], arguments, &["--config", &config]].concat();
    let output = process::run(&arguments, input);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn re_1_a_stranger_makes_an_account_through_each_door_and_logs_in_on_the_same_stream() {
    let extra = format!("{OPEN}{}", web::WEB);
    let cluster = Cluster::start(1, &["taken"], &extra).await;
    // Before TLS there is nothing of it.
    let mut plain = Wire::plain(cluster.starttls(0)).await.unwrap();
    let features = plain.open().await.unwrap();
    assert!(features.child("register", ns::REGISTER_FEATURE).is_none());
    plain.send(&account("early", PASSWORD)).await.unwrap();
    assert_eq!(plain.end().await.condition(), "policy-violation");

    let direct = Wire::direct(cluster.address(0), cluster.tls()).await;
    let starttls = Wire::starttls(cluster.starttls(0), cluster.tls()).await;
    for (mut wire, name) in [(direct.unwrap(), "alice"), (starttls.unwrap(), "Bob")] {
        let features = wire.open().await.unwrap();
        for feature in [ns::REGISTER_FEATURE, ns::IBR_TOKEN] {
            assert!(
                features.child("register", feature).is_some(),
                "{features:?}"
            );
        }
        let form = ask(&mut wire, FIELDS).await.unwrap();
        let query = form.child("query", ns::REGISTER).unwrap();
        let fields: Vec<_> = query.elements().map(|field| field.local()).collect();
        assert_eq!(fields, ["instructions", "username", "password", "x"]);
        let form = query.child("x", ns::DATA_FORM).and_then(Form::parse);
        assert_eq!(form.unwrap().form_type(), Some(ns::REGISTER));
        let made = ask(&mut wire, &wanted(name)).await.unwrap();
        assert_eq!(
            (outcome(&made), made.elements().count()),
            ("result".to_owned(), 0)
        );
        let success = wire.authenticate(name, PASSWORD).await.unwrap();
        assert_eq!(success.local(), "success", "{success:?}");
        wire.open().await.unwrap();
        let jid = wire.bind("desk").await.unwrap();
        assert_eq!(jid.local(), Some(&*name.to_lowercase()));
    }

    let mut page = Web::connect(web::address(&cluster, 0), cluster.tls())
        .await
        .unwrap();
    let features = page.open().await.unwrap();
    assert!(features.child("register", ns::REGISTER_FEATURE).is_some());
    page.send(&account("carol", PASSWORD)).await.unwrap();
    assert_eq!(outcome(&page.next().await.unwrap()), "result");
    page.send(&format!(
        "<auth xmlns='{}' mechanism='PLAIN'>{}</auth>",
        ns::SASL,
        web::plain("carol")
    ))
    .await
    .unwrap();
    assert!(page.next().await.unwrap().is("success", ns::SASL));

    let taken = register(&cluster, 0, "taken").await;
    assert_eq!(outcome(&taken), "conflict");
    let (_, metrics) = cluster.get(0, "/metrics").await.unwrap();
    for line in [
        "holdfast_registrations_total{result=\"made\"} 3",
        "holdfast_registrations_total{result=\"conflict\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn re_1_what_cannot_be_an_account_is_refused_and_the_stream_goes_on() {
    let cluster = Cluster::start(1, &[], OPEN).await;
    let mut wire = stranger(&cluster, 0).await;
    for (request, expect) in [
        (account("", PASSWORD), "not-acceptable"),
        (account("alice", ""), "not-acceptable"),
        (set("<username>alice</username>"), "not-acceptable"),
        (set(""), "not-acceptable"),
        (account("a b", PASSWORD), "not-acceptable"),
        (account("alice@localhost", PASSWORD), "not-acceptable"),
        (account("alice", "\u{fff9}"), "not-acceptable"),
        (set("<remove/>"), "registration-required"),
        (
            account("alice", PASSWORD).replace("id=", "to='other.example' id="),
            "service-unavailable",
        ),
        (
            account("alice", PASSWORD).replace(" id='set'", ""),
            "bad-request",
        ),
    ] {
        let answer = ask(&mut wire, &request).await.unwrap();
        assert_eq!(outcome(&answer), expect, "{request}");
    }
    let made = ask(&mut wire, &account("alice", PASSWORD)).await.unwrap();
    assert_eq!(outcome(&made), "result");
    let success = wire.authenticate("alice", PASSWORD).await.unwrap();
    assert_eq!(success.local(), "success");
}

#[tokio::test]
async fn re_1_where_it_is_off_there_is_nothing_to_be_seen_of_it() {
    let cluster = Cluster::start(1, &["alice"], "").await;
    let mut wire = Wire::direct(cluster.address(0), cluster.tls())
        .await
        .unwrap();
    let features = wire.open().await.unwrap();
    assert!(
        features
            .elements()
            .all(|feature| feature.local() != "register")
    );
    for name in ["alice", "bob"] {
        let answer = ask(&mut wire, &account(name, PASSWORD)).await.unwrap();
        assert_eq!(outcome(&answer), "service-unavailable", "{name}");
    }
    // Whoever has an account may do with it what it says in the configuration.
    let off = "[auth]\nchange_password = false\nremove_account = false\n";
    let cluster = Cluster::start(1, &["alice"], off).await;
    let mut alice = cluster.client(0, "alice").await;
    for request in [account("alice", "battery staple"), set("<remove/>")] {
        let answer = alice.request(&request, "set").await.unwrap();
        assert_eq!(outcome(&answer), "not-allowed", "{request}");
    }
    assert!(can_log_in(&cluster, 0, "alice", PASSWORD).await);
}

/// How often names may be tried in the next test.
const TRIES: usize = 40;

/// Whether a try was one too many. Otherwise it fails for its password, which costs the server nothing.
async fn is_throttled(wire: &mut Wire) -> bool {
    let answer = ask(wire, &account("alice", "\u{fff9}")).await.unwrap();
    assert_eq!(outcome(&answer), "not-acceptable");
    let error = answer.child("error", ns::CLIENT).unwrap();
    error.attr("type") == Some("wait")
}

#[tokio::test]
async fn t_31_names_are_tried_so_often_an_hour_on_all_nodes_together() {
    let extra = format!("{OPEN}[limits]\nregistrations_per_hour = {TRIES}\n");
    let cluster = Cluster::start(3, &["alice"], &extra).await;
    let mut throttled = Vec::new();
    while throttled.len() <= TRIES {
        let mut wire = stranger(&cluster, 0).await;
        for _ in 0..15 {
            throttled.push(is_throttled(&mut wire).await);
        }
    }
    let first = throttled.iter().position(|throttled| *throttled);
    assert_eq!(first, Some(TRIES));
    assert!(throttled[TRIES..].iter().all(|throttled| *throttled));
    // Another node hears of it before it would have counted as many itself.
    let mut tried = 0;
    while !is_throttled(&mut stranger(&cluster, 1).await).await {
        tried += 1;
        assert!(tried < TRIES / 2, "the other node counts for itself");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Neither a name that is free nor one that is taken is an exception.
    for name in ["alice", "free"] {
        let answer = register(&cluster, 1, name).await;
        assert_eq!(outcome(&answer), "not-acceptable", "{name}");
    }
    assert!(!can_log_in(&cluster, 2, "free", PASSWORD).await);
    let (_, metrics) = cluster.get(1, "/metrics").await.unwrap();
    for name in [
        "registrations_total{result=\"throttled\"}",
        "throttled_total{reason=\"registration\"}",
    ] {
        let line = metrics.lines().find(|line| line.contains(name)).unwrap();
        assert!(!line.ends_with(" 0"), "{line}");
    }
    // A stream ends that goes on asking.
    let mut wire = stranger(&cluster, 0).await;
    for _ in 0..20 {
        ask(&mut wire, FIELDS).await.unwrap();
    }
    wire.send(FIELDS).await.unwrap();
    assert_eq!(wire.end().await.condition(), "policy-violation");
}

#[tokio::test]
async fn t_31_a_request_counts_without_an_invitation_too_and_an_invitation_that_is_shown_does_not()
{
    let extra = format!("{INVITED}[limits]\nregistrations_per_hour = 3\n");
    let cluster = Cluster::start(1, &[], &extra).await;
    let mut wire = stranger(&cluster, 0).await;
    for _ in 0..5 {
        let answer = ask(&mut wire, &preauth("no-such-token")).await.unwrap();
        assert_eq!(outcome(&answer), "item-not-found");
    }
    for name in ["alice", "a b", "alice"] {
        let answer = ask(&mut wire, &account(name, PASSWORD)).await.unwrap();
        assert_eq!(outcome(&answer), "not-allowed", "{name}");
    }
    assert!(is_throttled(&mut wire).await);
}

#[tokio::test]
async fn re_2_a_new_password_ends_all_sessions_but_the_one_that_has_set_it() {
    let cluster = Cluster::start(3, &[], OPEN).await;
    assert_eq!(outcome(&register(&cluster, 0, "alice").await), "result");
    let (live, mut asleep) = everywhere(&cluster, "alice").await;
    let mut own = cluster.client_with(1, "alice", "own").await;
    let told = own.request(FIELDS, "fields").await.unwrap();
    let query = told.child("query", ns::REGISTER).unwrap();
    assert!(
        query.child("registered", ns::REGISTER).is_some(),
        "{told:?}"
    );
    assert_eq!(
        query.child("username", ns::REGISTER).unwrap().text(),
        "alice"
    );
    for (request, expect) in [
        (account("alice", ""), "bad-request"),
        (set("<password>x</password>"), "bad-request"),
        (account("bob", "battery staple"), "forbidden"),
        (account("alice", "\u{fff9}"), "not-acceptable"),
    ] {
        let answer = own.request(&request, "set").await.unwrap();
        assert_eq!(outcome(&answer), expect, "{request}");
    }
    assert!(can_log_in(&cluster, 2, "alice", PASSWORD).await);

    let request =
        account("Alice", "battery staple").replace("type='set'", "type='set' to='localhost'");
    let answer = own.request(&request, "set").await.unwrap();
    assert_eq!(outcome(&answer), "result");
    assert!(!can_log_in(&cluster, 2, "alice", PASSWORD).await);
    assert!(can_log_in(&cluster, 0, "alice", "battery staple").await);
    for mut client in live {
        let end = client.wire.end().await;
        assert_eq!(end.condition(), "not-authorized", "{}: {end}", client.jid);
    }
    // The note about them is gone once all have ended, and the one session goes on.
    let sessions = async || cluster.sum("holdfast_sessions").await;
    until("one session is left", async || sessions().await == 1).await;
    own.check_nothing_more().await;
    let mut wire = stranger(&cluster, 2).await;
    wire.authenticate("alice", "battery staple").await.unwrap();
    wire.open().await.unwrap();
    let resume = format!("<resume xmlns='{}' previd='{}' h='0'/>", ns::SM, asleep.id);
    let answer = ask(&mut wire, &resume).await.unwrap();
    assert_eq!(answer.local(), "failed", "{answer:?}");
    asleep.wire.cut();
}

/// What an account keeps: asked for, with the names of what is in the answer.
const KEPT: [(&str, &str); 3] = [
    ("<query xmlns='jabber:iq:roster'/>", "item"),
    ("<vCard xmlns='vcard-temp'/>", "FN"),
    (
        "<query xmlns='jabber:iq:private'><x xmlns='urn:example:x'/></query>",
        "kept",
    ),
];

async fn kept(client: &mut Client) -> Vec<bool> {
    let mut kept = Vec::new();
    for (asked, name) in KEPT {
        let iq = format!("<iq type='get' id='kept'>{asked}</iq>");
        let answer = client.request(&iq, "kept").await.unwrap();
        let answer = answer.to_xml("");
        kept.push(answer.contains(&format!("<{name}")));
    }
    kept
}

/// Bob sees each of these sessions go, once, and then that nothing is left between the two.
async fn check_told(bob: &mut Client, mut sessions: Vec<String>) {
    let (mut gone, mut cancelled) = (Vec::new(), Vec::new());
    while cancelled.len() < 2 {
        let presence = bob.presence().await.unwrap();
        let from = presence.attr("from").unwrap().to_owned();
        match presence.attr("type") {
            Some("unavailable") => gone.push(from),
            Some(kind @ ("unsubscribe" | "unsubscribed")) => {
                assert_eq!(from, "alice@localhost");
                cancelled.push(kind.to_owned());
            }
            other => panic!("{other:?}: {presence:?}"),
        }
    }
    cancelled.sort();
    assert_eq!(cancelled, ["unsubscribe", "unsubscribed"]);
    gone.sort();
    sessions.sort();
    assert_eq!(gone, sessions);
    let roster = "<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>";
    let answer = bob.request(roster, "roster").await.unwrap();
    let query = answer.child("query", ns::ROSTER).unwrap();
    let item = query.child("item", ns::ROSTER).unwrap();
    assert_eq!(item.attr("subscription"), Some("none"), "{item:?}");
}

/// Nobody takes the name for himself; the operator may give it away, and nothing of what was is there.
async fn check_nothing_is_left(cluster: &Cluster, mut asleep: Client) {
    assert_eq!(outcome(&register(cluster, 0, "alice").await), "conflict");
    let add = ["add", "alice@localhost", "--password-stdin"];
    user(cluster, &add, &format!("{PASSWORD}\n"));
    let answer = asleep.try_resume(cluster.address(2)).await.unwrap();
    assert_eq!(answer.local(), "failed", "{answer:?}");
    let mut again = cluster.client(2, "alice").await;
    assert_eq!(kept(&mut again).await, [false; 3]);
    let archive = "<iq type='set' id='mam'><query xmlns='urn:xmpp:mam:2'/></iq>";
    let answer = again.request(archive, "mam").await.unwrap();
    let page = answer.child("fin", ns::MAM).unwrap();
    assert_eq!(page.attr("complete"), Some("true"), "{answer:?}");
    assert!(!answer.to_xml("").contains("<first"), "{answer:?}");
    again.check_nothing_more().await;
}

#[tokio::test]
async fn re_3_who_removes_his_account_is_gone_everywhere_and_for_everybody() {
    let cluster = Cluster::start(3, &["bob"], OPEN).await;
    assert_eq!(outcome(&register(&cluster, 2, "alice").await), "result");
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(1, "bob").await;
    befriend(&mut alice, &mut bob).await;
    for set in [
        "<vCard xmlns='vcard-temp'><FN>Alice</FN></vCard>",
        "<query xmlns='jabber:iq:private'><x xmlns='urn:example:x'><kept/></x></query>",
    ] {
        let iq = format!("<iq type='set' id='keep'>{set}</iq>");
        assert_eq!(
            outcome(&alice.request(&iq, "keep").await.unwrap()),
            "result"
        );
    }
    assert_eq!(kept(&mut alice).await, [true; 3]);
    alice.say("bob@localhost", "good bye").await;
    bob.expect(["good bye".to_owned()]).await;
    let (live, asleep) = everywhere(&cluster, "alice").await;
    let all = live.iter().chain([&asleep]);
    let mut sessions: Vec<String> = all.map(|client| client.jid.to_string()).collect();
    for session in &sessions {
        await_presence(&mut bob, None, session).await;
    }
    sessions.push(alice.jid.to_string());

    let more = set("<remove/><username>alice</username>");
    let answer = alice.request(&more, "set").await.unwrap();
    assert_eq!(outcome(&answer), "bad-request");
    let answer = alice.request(&set("<remove/>"), "set").await.unwrap();
    assert_eq!(outcome(&answer), "result");
    for mut client in live.into_iter().chain([alice]) {
        let end = client.wire.end().await;
        assert_eq!(end.condition(), "not-authorized", "{}: {end}", client.jid);
    }
    assert!(!can_log_in(&cluster, 1, "alice", PASSWORD).await);
    check_told(&mut bob, sessions).await;
    check_nothing_is_left(&cluster, asleep).await;
    bob.check_nothing_more().await;
    assert_eq!(bob.presences(), []);
}

#[tokio::test]
async fn re_3_who_leaves_at_once_and_who_is_removed_by_an_operator_is_gone_for_contacts_too() {
    let cluster = Cluster::start(1, &["alice", "bob", "carol"], "").await;
    let mut bob = cluster.client(0, "bob").await;
    for name in ["alice", "carol"] {
        let mut leaver = cluster.client(0, name).await;
        befriend(&mut leaver, &mut bob).await;
        drop(bob.presences());
        if name == "alice" {
            let answer = leaver.request(&set("<remove/>"), "set").await.unwrap();
            assert_eq!(outcome(&answer), "result");
            leaver.close().await.unwrap();
        } else {
            user(&cluster, &["remove", "carol@localhost", "--yes"], "");
            assert_eq!(leaver.wire.end().await.condition(), "not-authorized");
        }
        let mut seen = Vec::new();
        while seen.len() < 3 {
            let presence = bob.presence().await.unwrap();
            let from = presence.attr("from").unwrap();
            assert!(from.starts_with(name), "{presence:?}");
            seen.push(presence.attr("type").unwrap().to_owned());
        }
        assert_eq!(
            seen,
            ["unavailable", "unsubscribe", "unsubscribed"],
            "{name}"
        );
        bob.check_nothing_more().await;
        assert_eq!(bob.presences(), [], "{name}");
    }
}
