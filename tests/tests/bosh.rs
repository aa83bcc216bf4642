//! Clients that connect by BOSH (XEP-0124, XEP-0206): requests of HTTP that are lost, doubled, late and wrong.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use nix::sys::signal::Signal;
use proto::{Element, ns};
use rustls::ClientConfig;
use tests::bosh::{BOSH, Bosh, Http, post};
use tests::client::body;
use tests::cluster::Cluster;
use tests::web::{address, ask};
use tests::web_session::{Carrier, Session};
use tests::wire::{DOMAIN, End};
use tests::{process, until};

fn message(to: &str, text: &str) -> String {
    format!(
        "<message xmlns='{}' to='{to}@{DOMAIN}' type='chat'><body>{text}</body></message>",
        ns::CLIENT
    )
}

fn available() -> String {
    format!("<presence xmlns='{}'/>", ns::CLIENT)
}

async fn begin(cluster: &Cluster, terms: &str) -> Bosh {
    let begun = Bosh::begin_with(address(cluster, 0), cluster.tls(), terms).await;
    begun.unwrap()
}

/// A client that is logged in and available, and has a request that waits.
async fn online(cluster: &Cluster, user: &str) -> Bosh {
    let mut bosh = begin(cluster, "hold='1' wait='60'").await;
    bosh.login(user).await.unwrap();
    bosh.bind("browser").await.unwrap();
    bosh.send(&available()).await.unwrap();
    assert_eq!(bosh.stanza().await.unwrap().local(), "presence");
    bosh
}

/// How the session of BOSH ends, behind whatever else there is to hear.
async fn end(bosh: &mut Bosh) -> End {
    loop {
        if let Err(end) = bosh.next().await {
            return end;
        }
    }
}

async fn http(cluster: &Cluster, node: usize) -> Http {
    let tls: &Arc<ClientConfig> = cluster.tls();
    Http::connect(address(cluster, node), tls).await.unwrap()
}

async fn next_message(bosh: &mut Bosh) -> Element {
    loop {
        let stanza = bosh.stanza().await.unwrap();
        if stanza.local() == "message" {
            return stanza;
        }
    }
}

#[tokio::test]
async fn bo_1_and_bo_7_a_client_logs_in_chats_and_ends_its_session() {
    let cluster = Cluster::start(1, &["alice", "bob"], BOSH).await;
    let mut bob = cluster.client(0, "bob").await;
    let mut alice = begin(&cluster, "hold='1' wait='60' ack='1'").await;
    let terms = alice.terms.clone();
    for (name, value) in [
        ("wait", "60"),
        ("hold", "1"),
        ("requests", "2"),
        ("from", DOMAIN),
    ] {
        assert_eq!(terms.attr(name), Some(value), "{terms:?}");
    }
    let features = terms.child("features", ns::STREAM).unwrap();
    let mechanisms = features.child("mechanisms", ns::SASL).unwrap();
    let plus = mechanisms.elements().any(|it| it.text().ends_with("-PLUS"));
    assert!(!plus, "BO-6: {features:?}");
    assert!(features.child("starttls", ns::TLS).is_none());
    let features = alice.login("alice").await.unwrap();
    assert!(features.child("bind", ns::BIND).is_some());
    let jid = alice.bind("browser").await.unwrap();
    assert_eq!(jid.as_str(), "alice@localhost/browser");
    alice.send(&available()).await.unwrap();
    assert_eq!(alice.stanza().await.unwrap().local(), "presence");
    alice.send(&message("bob", "1 &lt; 2 ✓")).await.unwrap();
    bob.expect(["1 < 2 ✓".to_owned()]).await;
    bob.say(jid.as_str(), "\"so it is\" &amp; more").await;
    let heard = next_message(&mut alice).await;
    assert_eq!(body(&heard), "\"so it is\" & more");
    assert_eq!(cluster.sum("holdfast_bosh_sessions").await, 1);
    let last = message("bob", "bye");
    alice.ask("type='terminate'", &last).await.unwrap();
    bob.expect(["bye".to_owned()]).await;
    let end = alice.settle().await.unwrap_err();
    assert!(matches!(end, End::Closed), "{end}");
    let again = alice.post(alice.body(alice.rid, "", "")).await.unwrap();
    assert_eq!(again.unwrap().condition(), "item-not-found");
}

#[tokio::test]
async fn bo_3_a_lost_answer_is_given_again_and_what_was_said_counts_once() {
    let cluster = Cluster::start(1, &["alice", "bob"], BOSH).await;
    let mut bob = cluster.client(0, "bob").await;
    let mut alice = online(&cluster, "alice").await;
    alice.settle().await.unwrap();
    // A request that waits, and comes again by another connection, is answered there.
    let waits = alice.body(alice.rid, "", "");
    alice.rid += 1;
    let both = [alice.post(waits.clone()), alice.post(waits.clone())];
    bob.say("alice@localhost/browser", "news").await;
    let mut answers = Vec::new();
    for one in both {
        answers.extend(one.await.unwrap());
    }
    answers.push(alice.post(waits).await.unwrap().unwrap());
    for answer in &answers {
        assert!(answer.body.contains("<body>news</body>"), "{answer:?}");
        assert_eq!(answer.body, answers[0].body);
    }
    // The answer to this is lost twice, and the client cannot know whether the request was.
    let said = alice.body(alice.rid, "", &message("bob", "once"));
    alice.rid += 1;
    bob.say("alice@localhost/browser", "more").await;
    let first = alice.post(said.clone()).await.unwrap().unwrap();
    for _ in 0..2 {
        let again = alice.post(said.clone()).await.unwrap().unwrap();
        assert_eq!(again.body, first.body);
    }
    bob.expect(["once".to_owned()]).await;
    alice.send(&message("bob", "twice")).await.unwrap();
    bob.expect(["twice".to_owned()]).await;
    bob.check_nothing_more().await;
}

#[tokio::test]
async fn bo_2_requests_are_taken_in_order_and_no_further_ahead_than_the_window() {
    let cluster = Cluster::start(1, &["alice", "bob"], BOSH).await;
    let mut bob = cluster.client(0, "bob").await;
    let mut alice = online(&cluster, "alice").await;
    alice.settle().await.unwrap();
    let rid = alice.rid;
    let mut early = http(&cluster, 0).await;
    let second = alice.body(rid + 1, "", &message("bob", "second"));
    early.send(&post(&second)).await.unwrap();
    let first = alice.post(alice.body(rid, "", &message("bob", "first")));
    bob.expect(["first".to_owned(), "second".to_owned()]).await;
    assert_eq!(first.await.unwrap().unwrap().element().attr("type"), None);
    let far = alice.post(alice.body(rid + 4, "", &message("bob", "far")));
    assert_eq!(far.await.unwrap().unwrap().condition(), "item-not-found");
    let held = early.answer().await.unwrap();
    assert_eq!(held.condition(), "item-not-found");
    bob.check_nothing_more().await;
    let mut alice = online(&cluster, "alice").await;
    alice.settle().await.unwrap();
    let rid = alice.rid;
    let [one, two] =
        [rid + 1, rid].map(|rid| alice.post(alice.body(rid, "", &message("bob", "m"))));
    two.await.unwrap().unwrap();
    bob.expect(["m".to_owned(), "m".to_owned()]).await;
    drop(one);
}

#[tokio::test]
async fn bo_2_a_request_too_far_ahead_ends_the_session_before_a_login_too() {
    let cluster = Cluster::start(1, &["alice"], BOSH).await;
    let alice = begin(&cluster, "hold='1' wait='60'").await;
    let late = alice.post(alice.body(alice.rid + 1, "", ""));
    let far = alice.post(alice.body(alice.rid + 2, "", ""));
    assert_eq!(far.await.unwrap().unwrap().condition(), "item-not-found");
    // It came too late, or the one before it never did, so that it was never taken up.
    if let Ok(answer) = late.await.unwrap() {
        assert_eq!(answer.condition(), "item-not-found");
    }
}

#[tokio::test]
async fn bo_8_a_session_goes_on_at_another_node_when_its_own_is_killed() {
    let mut cluster = Cluster::start(3, &["alice", "bob"], BOSH).await;
    let mut bob = cluster.client(1, "bob").await;
    let mut alice = Session::<Bosh>::start(&cluster, 0, "alice").await;
    alice.web.send(&message("bob", "first")).await.unwrap();
    bob.expect(["first".to_owned()]).await;
    bob.say("alice@localhost", "one").await;
    assert_eq!(alice.message().await, "one");
    // Another node does not know the session of BOSH, and says so.
    let mut other = http(&cluster, 2).await;
    let elsewhere = alice.web.body(alice.web.rid, "", "");
    let answer = other.post(&elsewhere).await.unwrap();
    assert_eq!(answer.condition(), "item-not-found");
    cluster.kill(0);
    bob.say("alice@localhost", "two").await;
    bob.say("alice@localhost", "three").await;
    assert_eq!(
        alice.resume(&cluster, 2, "alice").await,
        2,
        "presence and a message"
    );
    assert_eq!(alice.message().await, "two");
    assert_eq!(alice.message().await, "three");
    alice.web.send(&message("bob", "second")).await.unwrap();
    bob.expect(["second".to_owned()]).await;
    bob.check_nothing_more().await;
}

#[tokio::test]
async fn bo_7_a_node_that_stops_or_is_taken_out_of_service_says_so() {
    let cluster = Cluster::start(1, &["alice"], BOSH).await;
    let mut alice = online(&cluster, "alice").await;
    alice.send("").await.unwrap();
    cluster.signal(0, Signal::SIGTERM);
    let end = self::end(&mut alice).await;
    assert_eq!(end.condition(), "system-shutdown", "{end}");
    let cluster = Cluster::start(3, &["alice"], BOSH).await;
    let mut alice = online(&cluster, "alice").await;
    alice.send("").await.unwrap();
    let config = cluster.config(1).to_string_lossy().into_owned();
    let drained = process::run(["cluster", "drain", "1", "--config", &config], "");
    assert!(drained.status.success(), "{drained:?}");
    let end = self::end(&mut alice).await;
    assert_eq!(end.condition(), "system-shutdown", "{end}");
}

#[tokio::test]
async fn bo_4_a_client_that_pauses_for_too_long_hibernates() {
    let cluster = Cluster::start(1, &["alice", "bob"], BOSH).await;
    let mut bob = cluster.client(0, "bob").await;
    let mut alice = Session::<Bosh>::start(&cluster, 0, "alice").await;
    bob.say("alice@localhost", "one").await;
    assert_eq!(alice.message().await, "one");
    // All requests are answered at once, and the client is away for as long as it says.
    alice.web.ask("pause='1'", "").await.unwrap();
    alice.web.settle().await.unwrap();
    until("it hibernates", async || {
        cluster.sum("holdfast_hibernated_sessions").await == 1
    })
    .await;
    bob.say("alice@localhost", "two").await;
    assert_eq!(alice.resume(&cluster, 0, "alice").await, 1);
    assert_eq!(alice.message().await, "two");
}

#[tokio::test]
async fn bo_7_errors_of_the_stream_are_in_the_last_answer() {
    let cluster = Cluster::start(1, &["alice"], BOSH).await;
    let mut alice = online(&cluster, "alice").await;
    alice
        .send("<nonsense xmlns='jabber:client'/>")
        .await
        .unwrap();
    let end = alice.settle().await.unwrap_err();
    let End::Error(condition, body) = end else {
        panic!("{end}");
    };
    assert_eq!(condition, "remote-stream-error");
    assert!(
        body.child("unsupported-stanza-type", ns::STREAMS).is_some(),
        "{body:?}"
    );
    // A session that is taken over by another one hears of it, too.
    let mut first = online(&cluster, "alice").await;
    let _second = online(&cluster, "alice").await;
    let end = loop {
        if let Err(end) = first.next().await {
            break end;
        }
    };
    let End::Error(_, body) = end else {
        panic!("{end}");
    };
    assert!(body.child("conflict", ns::STREAMS).is_some(), "{body:?}");
    let mut http = http(&cluster, 0).await;
    let unknown = "<body xmlns='http://jabber.org/protocol/httpbind' rid='1' to='other.example' \
                   xmlns:x='urn:xmpp:xbosh' x:version='1.0'/>";
    let answer = http.post(unknown).await.unwrap();
    assert_eq!(answer.condition(), "host-unknown");
}

#[tokio::test]
async fn bo_5_and_bo_9_what_is_no_request_or_too_large_is_refused() {
    let cluster = Cluster::start(1, &["alice"], BOSH).await;
    let alice = online(&cluster, "alice").await;
    let large = "x".repeat(20_000);
    let huge = "x".repeat(300_000);
    let ns = "xmlns='http://jabber.org/protocol/httpbind'";
    for (body, condition) in [
        ("nonsense".to_owned(), "bad-request"),
        (
            format!("<body {ns} rid='1'><!-- a --></body>"),
            "bad-request",
        ),
        (
            format!("<!DOCTYPE a [<!ENTITY b 'bb'>]><body {ns} rid='1' to='&b;'/>"),
            "bad-request",
        ),
        (format!("<body {ns} rid='1'><a></body>"), "bad-request"),
        (format!("<body {ns} sid='{}'/>", alice.sid), "bad-request"),
        (format!("<body {ns} rid='1' sid='no'/>"), "item-not-found"),
        (
            format!("<body {ns} rid='1' to='{DOMAIN}'>{large}</body>"),
            "policy-violation",
        ),
        (
            format!("<body {ns} rid='1' sid='no'><a>{large}</a></body>"),
            "policy-violation",
        ),
        (
            alice.body(alice.rid, "", &format!("<a>{huge}</a>")),
            "policy-violation",
        ),
    ] {
        let mut http = http(&cluster, 0).await;
        let answer = http.post(&body).await.unwrap();
        let told: String = body.chars().take(200).collect();
        assert_eq!(answer.condition(), condition, "{told}");
        assert!(
            answer.head.contains("\r\nconnection: close\r\n"),
            "{answer:?}"
        );
    }
    // None of that has touched the session.
    let mut alice = alice;
    let large = message("alice", &large);
    alice.send(&large).await.unwrap();
    assert_eq!(body(&next_message(&mut alice).await).len(), 20_000);
}

#[tokio::test]
async fn bo_9_scripts_of_all_origins_may_ask_and_connections_are_kept() {
    let cluster = Cluster::start(1, &[], BOSH).await;
    let mut http = http(&cluster, 0).await;
    let preflight = "OPTIONS /http-bind HTTP/1.1\r\nHost: a\r\nOrigin: https://any.example\r\n\
                     Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n\r\n";
    for _ in 0..2 {
        let answer = http.answer_to(preflight).await.unwrap().head;
        assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
        for header in [
            "access-control-allow-origin: *",
            "access-control-allow-methods: POST, OPTIONS",
            "access-control-allow-headers: content-type",
        ] {
            assert!(answer.contains(&format!("\r\n{header}\r\n")), "{answer}");
        }
    }
    while !http
        .answer_to(preflight)
        .await
        .unwrap()
        .head
        .contains("connection: close")
    {}
    let mut http = self::http(&cluster, 0).await;
    let begin = "<body xmlns='http://jabber.org/protocol/httpbind' rid='7' to='localhost' content='text/html' \
                 xmlns:x='urn:xmpp:xbosh' x:version='1.0'/>";
    let head = http.post(begin).await.unwrap().head;
    for header in [
        "access-control-allow-origin: *",
        "content-type: text/html",
        "x-content-type-options: nosniff",
        "content-security-policy: default-src 'none'; frame-ancestors 'none'",
    ] {
        assert!(head.contains(&format!("\r\n{header}\r\n")), "{head}");
    }
    assert!(!head.contains("connection: close"), "{head}");
    for (request, status) in [
        ("GET /http-bind HTTP/1.1\r\n\r\n", "405"),
        (
            "POST /http-bind HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "411",
        ),
        ("POST /other HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "405"),
    ] {
        let answer = ask(address(&cluster, 0), cluster.tls(), request).await;
        let answer = answer.unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn wd_1_scripts_learn_where_to_ask() {
    let cluster = Cluster::start(1, &[], BOSH).await;
    for page in ["host-meta", "host-meta.json"] {
        let request = format!("GET /.well-known/{page} HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = ask(address(&cluster, 0), cluster.tls(), &request).await;
        let answer = answer.unwrap();
        for part in [
            "urn:xmpp:alt-connections:xbosh",
            "https://web.example/http-bind",
        ] {
            assert!(answer.contains(part), "WD-1: {answer}");
        }
        assert!(!answer.contains("websocket"), "{answer}");
    }
}

#[tokio::test]
async fn bo_9_a_request_that_waits_is_answered_when_another_one_is_behind_it() {
    let cluster = Cluster::start(1, &["alice", "bob"], BOSH).await;
    let mut bob = cluster.client(0, "bob").await;
    let mut alice = online(&cluster, "alice").await;
    alice.settle().await.unwrap();
    let mut http = http(&cluster, 0).await;
    let both = [0, 1].map(|more| post(&alice.body(alice.rid + more, "", "")));
    http.send(&both.concat()).await.unwrap();
    let first = http.answer().await.unwrap();
    assert_eq!(first.element().elements().count(), 0, "{first:?}");
    bob.say("alice@localhost/browser", "news").await;
    let second = http.answer().await.unwrap();
    assert!(second.body.contains("<body>news</body>"), "{second:?}");
}

#[tokio::test]
async fn t_12_a_session_that_is_not_logged_in_has_a_place_of_its_address() {
    let limits = format!("{BOSH}\n[limits]\nconnections_per_address = 2\n");
    let cluster = Cluster::start(1, &["alice"], &limits).await;
    let mut http = http(&cluster, 0).await;
    let begin = "<body xmlns='http://jabber.org/protocol/httpbind' rid='7' to='localhost' \
                 xmlns:x='urn:xmpp:xbosh' x:version='1.0'/>";
    for _ in 0..2 {
        let begun = http.post(begin).await.unwrap();
        assert!(begun.element().attr("sid").is_some(), "{begun:?}");
    }
    let refused = http.post(begin).await.unwrap();
    assert_eq!(refused.condition(), "policy-violation");
}
