//! What the server tells of itself and of the services beside it: contacts, where to learn of outages, relays for calls.

use proto::payload::form::Form;
use proto::{Element, ns};
use tests::client::Client;
use tests::wire::DOMAIN;

use crate::talk::{Talk, answered, granted, id, iq};

fn relays() -> String {
    format!("<services xmlns='{}'/>", ns::EXTERNAL_SERVICES)
}

/// Checks that the relay is named with a password that the relay takes.
fn check_relay(answer: &Element) {
    let services = answer.child("services", ns::EXTERNAL_SERVICES);
    let services = services.unwrap_or_else(|| panic!("DI-6: {answer:?}"));
    let relay = services.child("service", ns::EXTERNAL_SERVICES).unwrap();
    let attr = |name| relay.attr(name).unwrap_or_default();
    assert_eq!((attr("type"), attr("host")), ("turn", "turn.localhost"));
    let expect = proto::sasl::Digest::Sha1.hmac(b"north", attr("username").as_bytes());
    assert_eq!(attr("password"), proto::sasl::encode(&expect), "DI-6");
}

/// The addresses that the server names, and where to learn of outages.
async fn named(client: &mut Client) -> [Vec<String>; 2] {
    let asked = format!("<query xmlns='{}'/>", ns::DISCO_INFO);
    let answer = granted(client, "get", DOMAIN, &asked).await;
    let info = answer.child("query", ns::DISCO_INFO).unwrap();
    let forms: Vec<Form> = info.elements().filter_map(Form::parse).collect();
    let values = |name: &str| {
        let all = forms.iter().filter_map(|form| form.values(name));
        all.flatten().cloned().collect()
    };
    [
        values("abuse-addresses"),
        values("external-status-addresses"),
    ]
}

pub async fn conversation(talk: Talk<'_>) {
    let mut me = talk.client("desk").await;
    let expect = [
        vec!["mailto:abuse@localhost".to_owned()],
        vec!["https://status.localhost/x.json".to_owned()],
    ];
    assert_eq!(named(&mut me).await, expect, "DI-6");
    check_relay(&granted(&mut me, "get", DOMAIN, &relays()).await);

    talk.middle().await;
    let asked = id();
    me.send(&iq("get", DOMAIN, &asked, &relays())).await;
    talk.checkpoint(&mut [&mut me]).await;
    let (answer, before) = answered(&mut me, &asked).await;
    assert!(before.is_empty(), "{before:?}");
    check_relay(&answer);
    assert_eq!(named(&mut me).await, expect, "DI-6");
    let mut phone = talk.second("phone").await;
    check_relay(&granted(&mut phone, "get", DOMAIN, &relays()).await);
    me.check_nothing_more().await;
}
