//! Clients in browsers: XMPP over WebSocket (RFC 7395), and where they learn of it (XEP-0156).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proto::{Element, ns};
use tests::client::body;
use tests::cluster::Cluster;
use tests::until;
use tests::web::{WEB, Web, address, ask, plain};
use tests::web_session::{Carrier, Session};
use tests::wire::{DOMAIN, End};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

const CLOSE: &str = "<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>";

async fn connect(cluster: &Cluster, node: usize) -> Web {
    let web = Web::connect(address(cluster, node), cluster.tls()).await;
    web.unwrap()
}

fn message(to: &str, text: &str) -> String {
    format!(
        "<message xmlns='{}' to='{to}@{DOMAIN}' type='chat'><body>{text}</body></message>",
        ns::CLIENT
    )
}

#[tokio::test]
async fn ws_2_a_web_client_logs_in_chats_and_closes() {
    let cluster = Cluster::start(1, &["alice", "bob"], WEB).await;
    let mut bob = cluster.client(0, "bob").await;
    let mut alice = connect(&cluster, 0).await;
    let features = alice.open().await.unwrap();
    assert!(features.child("mechanisms", ns::SASL).is_some());
    assert!(features.child("starttls", ns::TLS).is_none(), "WS-2");
    drop(alice);
    let mut alice = connect(&cluster, 0).await;
    let features = alice.login("alice").await.unwrap();
    assert!(features.child("bind", ns::BIND).is_some());
    let jid = alice.bind("browser").await.unwrap();
    assert_eq!(jid.as_str(), "alice@localhost/browser");
    let presence = format!("<presence xmlns='{}'/>", ns::CLIENT);
    alice.send(&presence).await.unwrap();
    assert_eq!(alice.next().await.unwrap().local(), "presence");
    alice.send(&message("bob", "1 &lt; 2 ✓")).await.unwrap();
    bob.expect(["1 < 2 ✓".to_owned()]).await;
    bob.say(jid.as_str(), "\"so it is\" &amp; more").await;
    // Without Stream Management the server pings, to learn what has come.
    let mut text = alice.text().await.unwrap();
    while text.starts_with("<iq xmlns='jabber:client' ") {
        text = alice.text().await.unwrap();
    }
    assert!(
        text.starts_with("<message xmlns='jabber:client' "),
        "{text}"
    );
    let heard = Element::parse(&text).unwrap();
    assert_eq!(body(&heard), "\"so it is\" & more");
    alice.send(CLOSE).await.unwrap();
    let end = loop {
        if let Err(end) = alice.next().await {
            break end;
        }
    };
    assert!(matches!(end, End::Closed), "{end}");
    assert_eq!(alice.close_code().await, 1000);
}

#[tokio::test]
async fn ws_2_a_login_by_sasl2_opens_nothing_anew() {
    let cluster = Cluster::start(1, &["alice"], WEB).await;
    let mut alice = connect(&cluster, 0).await;
    let features = alice.open().await.unwrap();
    assert!(features.child("authentication", ns::SASL2).is_some());
    alice
        .send(&format!(
            "<authenticate xmlns='{}' mechanism='PLAIN'><initial-response>{}</initial-response>\
             <bind xmlns='{}'><tag>web</tag><enable xmlns='{}' resume='true'/></bind></authenticate>",
            ns::SASL2,
            plain("alice"),
            ns::BIND2,
            ns::SM
        ))
        .await
        .unwrap();
    let success = alice.next().await.unwrap();
    assert!(success.is("success", ns::SASL2), "{success:?}");
    let bound = success.child("bound", ns::BIND2).expect("a session");
    assert!(bound.child("enabled", ns::SM).is_some(), "{bound:?}");
    let features = alice.next().await.unwrap();
    assert!(features.is("features", ns::STREAM), "{features:?}");
    let ping = format!(
        "<iq xmlns='{}' type='get' id='p' to='{DOMAIN}'><ping xmlns='{}'/></iq>",
        ns::CLIENT,
        ns::PING
    );
    alice.send(&ping).await.unwrap();
    let pong = alice.stanza().await.unwrap();
    assert_eq!(pong.attr("id"), Some("p"), "{pong:?}");
    let again = format!(
        "<open xmlns='{}' to='{DOMAIN}' version='1.0'/>",
        ns::FRAMING
    );
    alice.send(&again).await.unwrap();
    assert_eq!(alice.failure().await, ("bad-format".to_owned(), 1008));
}

#[tokio::test]
async fn ws_4_a_session_goes_on_at_another_node_when_its_own_is_killed() {
    let mut cluster = Cluster::start(3, &["alice", "bob"], WEB).await;
    let mut bob = cluster.client(1, "bob").await;
    let mut alice = Session::<Web>::start(&cluster, 0, "alice").await;
    alice.web.send(&message("bob", "first")).await.unwrap();
    bob.expect(["first".to_owned()]).await;
    bob.say("alice@localhost", "one").await;
    assert_eq!(alice.message().await, "one");
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
async fn ws_4_a_websocket_that_is_closed_without_a_word_leaves_its_session() {
    let cluster = Cluster::start(1, &["alice", "bob"], WEB).await;
    let mut bob = cluster.client(0, "bob").await;
    let mut alice = Session::<Web>::start(&cluster, 0, "alice").await;
    bob.say("alice@localhost", "one").await;
    assert_eq!(alice.message().await, "one");
    alice.web.send_message(Message::Close(None)).await.unwrap();
    // She may have been asked for an acknowledgement before.
    while !alice.web.message().await.expect("a close").is_close() {}
    until("it hibernates", async || {
        cluster.sum("holdfast_hibernated_sessions").await == 1
    })
    .await;
    bob.say("alice@localhost", "two").await;
    assert_eq!(alice.resume(&cluster, 0, "alice").await, 1);
    assert_eq!(alice.message().await, "two");
}

#[tokio::test]
async fn ws_1_and_ws_3_what_is_no_framing_ends_the_stream_with_an_error() {
    let cluster = Cluster::start(1, &["alice"], WEB).await;
    let ack = "<r xmlns='urn:xmpp:sm:3'/>";
    let text = |text: &str| Message::text(text.to_owned());
    let large = format!(
        "<message xmlns='jabber:client'><body>{}",
        "x".repeat(300_000)
    );
    let faults = [
        (text(&format!("{ack}{ack}")), "bad-format", 1008),
        (text(&format!(" {ack}")), "bad-format", 1008),
        (text(&format!("{ack}\n")), "bad-format", 1008),
        (text(" "), "bad-format", 1008),
        (
            text("<?xml version='1.0'?><presence xmlns='jabber:client'/>"),
            "bad-format",
            1008,
        ),
        (
            text("<presence xmlns='jabber:client'>"),
            "not-well-formed",
            1008,
        ),
        (text("<presence/>"), "unsupported-stanza-type", 1000),
        (Message::binary(ack), "bad-format", 1003),
        (text(&large), "policy-violation", 1009),
    ];
    for (fault, condition, code) in faults {
        let mut alice = connect(&cluster, 0).await;
        alice.login("alice").await.unwrap();
        alice.bind("browser").await.unwrap();
        let told = format!("{condition}: {fault:?}")
            .chars()
            .take(200)
            .collect::<String>();
        alice.send_message(fault).await.unwrap();
        assert_eq!(
            alice.failure().await,
            (condition.to_owned(), code),
            "{told}"
        );
    }
    // Before it is logged in, a client may say less at a time, and has our `<open/>` before an error.
    for (fault, condition) in [
        (ack.to_owned(), "bad-format"),
        (
            format!(
                "<open xmlns='{}' to='{}'/>",
                ns::FRAMING,
                "x".repeat(11_000)
            ),
            "policy-violation",
        ),
    ] {
        let mut stranger = connect(&cluster, 0).await;
        stranger.send(&fault).await.unwrap();
        let open = stranger.next().await.unwrap();
        assert!(open.is("open", ns::FRAMING), "{open:?}");
        assert_eq!(stranger.failure().await.0, condition);
    }
}

#[tokio::test]
async fn ws_4_fragments_are_one_message_and_pings_are_answered() {
    let cluster = Cluster::start(1, &["alice"], WEB).await;
    let mut alice = connect(&cluster, 0).await;
    alice.login("alice").await.unwrap();
    alice.bind("browser").await.unwrap();
    alice
        .send_message(Message::Ping("still there?".into()))
        .await
        .unwrap();
    let pong = alice.message().await.unwrap();
    assert_eq!(pong, Message::Pong("still there?".into()));
    let ping = format!(
        "<iq xmlns='{}' type='get' id='p' to='{DOMAIN}'><ping xmlns='{}'/></iq>",
        ns::CLIENT,
        ns::PING
    );
    let (begin, end) = ping.split_at(20);
    let begin = Frame::message(begin.to_owned(), OpCode::Data(Data::Text), false);
    let end = Frame::message(end.to_owned(), OpCode::Data(Data::Continue), true);
    for frame in [begin, end] {
        alice.send_message(Message::Frame(frame)).await.unwrap();
    }
    let pong = alice.next().await.unwrap();
    assert_eq!(pong.attr("id"), Some("p"), "{pong:?}");
}

#[tokio::test]
async fn ws_1_and_wd_1_other_requests_have_answers_of_http() {
    let cluster = Cluster::start(1, &[], WEB).await;
    let get = async |path: &str, headers: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {DOMAIN}\r\n{headers}\r\n");
        ask(address(&cluster, 0), cluster.tls(), &request)
            .await
            .unwrap()
    };
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let wrong = format!("{upgrade}Sec-WebSocket-Protocol: chat\r\n");
    for headers in [upgrade, &wrong] {
        let answer = get("/ws", headers).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "WS-1: {answer}");
    }
    assert!(get("/ws", "").await.starts_with("HTTP/1.1 426 "));
    assert!(get("/", "").await.starts_with("HTTP/1.1 404 "));
    for (page, kind) in [
        ("/.well-known/host-meta", "application/xrd+xml"),
        ("/.well-known/host-meta.json", "application/json"),
    ] {
        let answer = get(page, "Origin: https://any.example\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(
            answer.contains("\r\naccess-control-allow-origin: *\r\n"),
            "{answer}"
        );
        assert!(
            answer.contains(&format!("content-type: {kind}\r\n")),
            "{answer}"
        );
        for part in ["urn:xmpp:alt-connections:websocket", "wss://web.example/ws"] {
            assert!(answer.contains(part), "{answer}");
        }
    }
    let log = std::fs::read_to_string(cluster.log(0)).unwrap();
    assert!(
        !log.contains("disconnected before it had a session"),
        "{log}"
    );
}
