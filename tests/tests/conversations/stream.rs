//! Streams: what is offered, what the server answers by itself, and the end.

use proto::ns;
use tests::wire::{DOMAIN, End, Wire};

use crate::talk::{Talk, answered, ask, id, iq, so_far};

/// A request to the server, and the element that it answers with.
const ASKED: [(&str, &str); 5] = [
    ("query", ns::DISCO_INFO),
    ("query", ns::DISCO_ITEMS),
    ("query", ns::VERSION),
    ("query", ns::LAST),
    ("time", ns::TIME),
];

pub async fn conversation(talk: Talk<'_>) {
    offers(&talk, talk.home()).await;
    let mut client = talk.client("desk").await;
    for (name, namespace) in ASKED {
        let asked = format!("<{name} xmlns='{namespace}'/>");
        let answer = ask(&mut client, "get", DOMAIN, &asked).await;
        assert!(answer.child(name, namespace).is_some(), "{answer:?}");
    }
    client.check_nothing_more().await;
    let smid = client.id.clone();

    talk.middle().await;
    let ids: Vec<String> = (0..5).map(|_| id()).collect();
    for id in &ids {
        let ping = format!("<ping xmlns='{}'/>", ns::PING);
        client.send(&iq("get", DOMAIN, id, &ping)).await;
    }
    talk.checkpoint(&mut [&mut client]).await;
    // Each is answered once, in order (ST-73).
    for id in &ids {
        let (answer, before) = answered(&mut client, id).await;
        assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
        assert!(before.is_empty(), "{before:?}");
    }
    assert!(so_far(&mut client).await.is_empty());
    assert_eq!(client.id, smid, "SM-46");
    client.settle().await.unwrap();

    offers(&talk, talk.elsewhere()).await;
    // Whoever ends the session ends it on all nodes (SM-37).
    client.wire.send("</stream:stream>").await.unwrap();
    let end = client.wire.end().await;
    assert!(matches!(end, End::Closed), "{end}");
    let away = talk.cluster().address(talk.away());
    let gone = client.try_resume(away).await.unwrap();
    assert!(gone.is("failed", ns::SM), "{gone:?}");
}

/// What a node offers before and behind the login.
async fn offers(talk: &Talk<'_>, node: usize) {
    let cluster = talk.cluster();
    let wire = Wire::starttls(cluster.starttls(node), cluster.tls());
    let mut wire = wire.await.unwrap();
    let features = wire.login(talk.account, tests::client::PASSWORD).await;
    let features = features.unwrap();
    for (name, namespace) in [
        ("bind", ns::BIND),
        ("sm", ns::SM),
        ("csi", ns::CSI),
        ("limits", ns::LIMITS),
    ] {
        assert!(features.child(name, namespace).is_some(), "{features:?}");
    }
    let jid = wire.bind("passing").await.unwrap();
    assert_eq!(jid.as_str(), format!("{}/passing", talk.own()));
    wire.ping("there").await.unwrap();
    wire.close().await;
}
