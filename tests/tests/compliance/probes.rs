//! What the domain, an account and a stream announce is tried out once, as far as no other test is about it; and what
//! they do not announce is refused.

use proto::{Element, ns};
use tests::archive::page;
use tests::client::Client;
use tests::cluster::Cluster;
use tests::contact::befriend;
use tests::wire::{DOMAIN, Wire};

use super::{ask_info, disco};

const ALICE: &str = "alice@localhost";

async fn ask(client: &mut Client, kind: &str, to: &str, payload: &str) -> Element {
    let id = format!("{:016x}", rand::random::<u64>());
    let iq = format!("<iq type='{kind}' id='{id}' to='{to}'>{payload}</iq>");
    client.request(&iq, &id).await.unwrap()
}

fn is_result(answer: &Element) -> bool {
    answer.attr("type") == Some("result")
}

/// Requests of which their namespace says that they are answered, and to whom they are made.
const ANSWERED: [(&str, &str, &str, &str); 15] = [
    (
        DOMAIN,
        "get",
        "http://jabber.org/protocol/disco#info",
        "query",
    ),
    (
        DOMAIN,
        "get",
        "http://jabber.org/protocol/disco#items",
        "query",
    ),
    (DOMAIN, "get", "jabber:iq:last", "query"),
    (DOMAIN, "get", "jabber:iq:version", "query"),
    (DOMAIN, "get", "urn:xmpp:ping", "ping"),
    (DOMAIN, "get", "urn:xmpp:time", "time"),
    (
        ALICE,
        "get",
        "http://jabber.org/protocol/disco#info",
        "query",
    ),
    (
        ALICE,
        "get",
        "http://jabber.org/protocol/disco#items",
        "query",
    ),
    (ALICE, "get", "jabber:iq:last", "query"),
    (ALICE, "get", "urn:xmpp:ping", "ping"),
    (ALICE, "get", "vcard-temp", "vCard"),
    (ALICE, "set", "vcard-temp", "vCard"),
    (ALICE, "get", "urn:xmpp:mam:2", "query"),
    (ALICE, "get", "urn:xmpp:blocking", "blocklist"),
    (ALICE, "set", "urn:xmpp:carbons:2", "enable"),
];

/// Requests that others answer, and this server does not.
const REFUSED: [(&str, &str, &str); 8] = [
    (DOMAIN, "jabber:iq:search", "query"),
    (DOMAIN, "urn:xmpp:extdisco:2", "services"),
    (DOMAIN, "urn:xmpp:http:upload:0", "request"),
    (DOMAIN, "http://jabber.org/protocol/muc#owner", "query"),
    (DOMAIN, "http://jabber.org/protocol/pubsub", "pubsub"),
    (DOMAIN, "urn:xmpp:mam:2", "query"),
    (ALICE, "jabber:iq:privacy", "query"),
    (ALICE, "jabber:iq:version", "query"),
];

#[tokio::test]
async fn what_is_announced_is_answered_and_nothing_else() {
    let cluster = Cluster::start(1, &["alice"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let [domain, own] = [DOMAIN, ALICE].map(str::to_owned);
    let domain = disco(&ask_info(&mut alice, &domain).await);
    let own = disco(&ask_info(&mut alice, &own).await);
    let is_announced = |to: &str, namespace: &str| {
        let announced = if to == DOMAIN { &domain } else { &own };
        announced.iter().any(|name| name == namespace)
    };
    // The card is there once it has been written.
    let card = "<vCard xmlns='vcard-temp'><FN>Alice</FN></vCard>";
    assert!(is_result(&ask(&mut alice, "set", ALICE, card).await));
    for (to, kind, namespace, name) in ANSWERED {
        let answer = ask(
            &mut alice,
            kind,
            to,
            &format!("<{name} xmlns='{namespace}'/>"),
        )
        .await;
        assert!(is_result(&answer), "{answer:?}");
        assert!(is_announced(to, namespace), "{to} answers {namespace}");
    }
    for (to, namespace, name) in REFUSED {
        for kind in ["get", "set"] {
            let payload = format!("<{name} xmlns='{namespace}'/>");
            let answer = ask(&mut alice, kind, to, &payload).await;
            let error = answer.child("error", ns::CLIENT);
            let error = error.unwrap_or_else(|| panic!("{namespace}: {answer:?}"));
            let condition = error.child("service-unavailable", ns::STANZAS);
            assert!(condition.is_some(), "{answer:?}");
            assert!(!is_announced(to, namespace), "{to} announces {namespace}");
        }
    }
}

#[tokio::test]
async fn the_archive_takes_the_fields_that_are_announced() {
    // `urn:xmpp:mam:2#extended` and `urn:xmpp:mam:2#groupchat-field` stand for fields of the form.
    for feature in ["urn:xmpp:mam:2#extended", "urn:xmpp:mam:2#groupchat-field"] {
        assert!(feature.starts_with(ns::MAM));
    }
    let cluster = Cluster::start(1, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(0, "bob").await;
    for body in ["0", "1", "2"] {
        bob.say(ALICE, body).await;
    }
    let mut named = Vec::new();
    for _ in 0..3 {
        let message = alice.message_element().await.unwrap();
        // `urn:xmpp:sid:0`: the id in the message is that in the archive.
        named.push(tests::archive::stanza_id(&message, ALICE).expect("IM-97"));
    }
    let all = page(&mut alice, &[], "").await.unwrap().entries;
    let ids: Vec<&str> = all.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(ids, named);
    for (field, value, expect) in [
        ("after-id", ids[0], &["1", "2"][..]),
        ("before-id", ids[2], &["0", "1"]),
        ("ids", ids[1], &["1"]),
        ("include-groupchat", "true", &["0", "1", "2"]),
    ] {
        let found = page(&mut alice, &[(field, value)], "").await.unwrap();
        let bodies: Vec<_> = found.entries.iter().map(|entry| &*entry.body).collect();
        assert_eq!(bodies, expect, "{field}");
    }
    let asked = format!("<query xmlns='{}'/>", ns::MAM);
    let form = ask(&mut alice, "get", ALICE, &asked).await;
    let query = form.child("query", ns::MAM).unwrap();
    let fields = query.child("x", ns::DATA_FORM).expect("IM-87");
    let names: Vec<_> = fields.elements().filter_map(|it| it.attr("var")).collect();
    for name in ["after-id", "before-id", "ids", "include-groupchat"] {
        assert!(names.contains(&name), "{names:?}");
    }
}

#[tokio::test]
async fn the_features_of_a_session_work() {
    let cluster = Cluster::start(1, &["alice", "bob"], "").await;
    let mut wire = Wire::direct(cluster.address(0), cluster.tls())
        .await
        .unwrap();
    let before = wire.open().await.unwrap();
    let bindings = before.child("sasl-channel-binding", ns::SASL_CB);
    let types = bindings.expect("ST-52").elements();
    let types: Vec<_> = types.filter_map(|it| it.attr("type")).collect();
    assert!(types.contains(&"tls-exporter"), "{types:?}");
    let max = |features: &Element| {
        let limits = features.child("limits", ns::LIMITS).expect("ST-89");
        let max = limits.child("max-bytes", ns::LIMITS).expect("ST-89");
        max.text().parse::<usize>().unwrap()
    };
    assert_eq!(max(&before), 10_000);
    drop(wire);

    let mut alice = cluster.client(0, "alice").await;
    // The legacy request (RFC 3921) does nothing, and is answered.
    let session = format!("<session xmlns='{}'/>", ns::SESSION);
    assert!(is_result(&ask(&mut alice, "set", DOMAIN, &session).await));
    // `urn:xmpp:features:rosterver`: who has the newest roster is not sent it again.
    let roster = async |alice: &mut Client, ver: &str| {
        let get = format!("<query xmlns='{}' ver='{ver}'/>", ns::ROSTER);
        let answer = ask(alice, "get", ALICE, &get).await;
        assert!(is_result(&answer), "{answer:?}");
        let query = answer.child("query", ns::ROSTER).cloned();
        query.map(|query| query.attr("ver").expect("IM-25").to_owned())
    };
    let ver = roster(&mut alice, "").await.expect("a roster");
    assert_eq!(roster(&mut alice, &ver).await, None);
    // `urn:xmpp:features:pre-approval`: whoever asks later is let in at once.
    alice
        .send("<presence type='subscribed' to='bob@localhost'/>")
        .await;
    alice.settle().await.unwrap();
    assert_ne!(roster(&mut alice, &ver).await, None);
    let mut bob = cluster.client(0, "bob").await;
    // Who has not asked for the roster hears nothing of its changes.
    let get = format!("<query xmlns='{}'/>", ns::ROSTER);
    ask(&mut bob, "get", "bob@localhost", &get).await;
    bob.send(&format!("<presence type='subscribe' to='{ALICE}'/>"))
        .await;
    let presence = bob.presence().await.unwrap();
    assert_eq!(presence.attr("type"), Some("subscribed"), "{presence:?}");
    let shown = bob.presence().await.unwrap();
    assert_eq!(shown.attr("from"), Some(alice.jid.as_str()), "{shown:?}");
}

#[tokio::test]
async fn what_is_kept_and_copied_is_as_it_is_announced() {
    let cluster = Cluster::start(1, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(0, "bob").await;
    befriend(&mut alice, &mut bob).await;
    // `jabber:iq:private` and `urn:xmpp:bookmarks:1#compat`: one set of bookmarks, in both forms.
    let bookmark = "<storage xmlns='storage:bookmarks'>\
        <conference jid='room@rooms.localhost' name='Room' autojoin='true'/></storage>";
    let set = format!("<query xmlns='{}'>{bookmark}</query>", ns::PRIVATE);
    assert!(is_result(&ask(&mut alice, "set", ALICE, &set).await));
    let items = "<pubsub xmlns='http://jabber.org/protocol/pubsub'>\
        <items node='urn:xmpp:bookmarks:1'/></pubsub>";
    let answer = ask(&mut alice, "get", ALICE, items).await;
    assert!(
        answer.to_xml("").contains("room@rooms.localhost"),
        "{answer:?}"
    );
    // `urn:xmpp:pep-vcard-conversion:0`: the photo is the avatar.
    let card = "<vCard xmlns='vcard-temp'><PHOTO><TYPE>image/png</TYPE><BINVAL>b25l</BINVAL></PHOTO></vCard>";
    assert!(is_result(&ask(&mut alice, "set", ALICE, card).await));
    let items = items.replace("urn:xmpp:bookmarks:1", "urn:xmpp:avatar:metadata");
    let answer = ask(&mut bob, "get", ALICE, &items).await;
    let hash = "fe05bcdcdc4928012781a5f1a2a77cbb5398e106";
    assert!(answer.to_xml("").contains(hash), "{answer:?}");

    // `urn:xmpp:carbons:rules:0`: any message with a text is copied.
    let mut phone = cluster.client_with(0, "alice", "phone").await;
    let enable = format!("<enable xmlns='{}'/>", ns::CARBONS);
    assert!(is_result(&ask(&mut phone, "set", ALICE, &enable).await));
    let desk = alice.jid.to_string();
    let normal = format!("<message to='{desk}'><body>normal</body></message>");
    bob.send(&normal).await;
    let copy = loop {
        let message = phone.message_element().await.unwrap();
        if message.child("event", ns::PUBSUB_EVENT).is_none() {
            break message;
        }
    };
    assert!(copy.child("received", ns::CARBONS).is_some(), "{copy:?}");
    // `msgoffline`: what is said while nobody is there waits.
    alice.close().await.unwrap();
    phone.close().await.unwrap();
    bob.say(ALICE, "waits").await;
    bob.settle().await.unwrap();
    let mut alice = cluster.client(0, "alice").await;
    alice.expect(["waits".to_owned()]).await;
}
