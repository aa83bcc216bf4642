//! A client that is away is woken (XEP-0357), wherever the node is at which it asked for that.

use proto::{Element, ns};
use tests::client::Client;

use crate::talk::{Talk, answered, granted, id, iq, so_far};

fn registration(name: &str, service: &str, node: &str) -> String {
    format!(
        "<{name} xmlns='{}' jid='{service}' node='{node}'/>",
        ns::PUSH
    )
}

/// The nodes of the pushes among what has come, with how many messages each speaks of.
fn pushes(stanzas: &[Element]) -> Vec<(String, String)> {
    let publishes = stanzas.iter().filter_map(|stanza| {
        let pubsub = stanza.child("pubsub", ns::PUBSUB)?;
        pubsub.child("publish", ns::PUBSUB)
    });
    let told = publishes.map(|publish| {
        let item = publish.child("item", ns::PUBSUB).expect("IM-103");
        let notification = item.child("notification", ns::PUSH).expect("IM-103");
        let form = notification.child("x", ns::DATA_FORM).expect("IM-103");
        let count = form
            .elements()
            .find(|field| field.attr("var") == Some("message-count"));
        let value = count.and_then(|field| field.child("value", ns::DATA_FORM));
        let node = publish.attr("node").unwrap_or_default();
        (
            node.to_owned(),
            value.map(Element::text).unwrap_or_default(),
        )
    });
    told.collect()
}

/// The next push, which is answered.
async fn pushed(service: &mut Client) -> (String, String) {
    loop {
        let stanza = service.stanza().await.unwrap();
        let found = pushes(std::slice::from_ref(&stanza)).pop();
        service.keep(stanza).await;
        if let Some(push) = found {
            return push;
        }
    }
}

pub async fn conversation(talk: Talk<'_>) {
    let mut me = talk.client("desk").await;
    let mut service = talk.friend().await;
    let (own, at) = (talk.own(), service.jid.to_string());
    // Only whom the service has told that it is there may be woken through it.
    service.send(&format!("<presence to='{own}'/>")).await;
    service.settle().await.unwrap();
    granted(&mut me, "set", "", &registration("enable", &at, "given up")).await;

    talk.middle().await;
    let ids = [id(), id()];
    let changes = [("disable", "given up"), ("enable", "kept")];
    for (id, (name, node)) in ids.iter().zip(changes) {
        me.send(&iq("set", "", id, &registration(name, &at, node)))
            .await;
    }
    talk.checkpoint(&mut [&mut me]).await;
    for id in &ids {
        let (answer, _) = answered(&mut me, id).await;
        assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
    }
    assert!(pushes(&so_far(&mut service).await).is_empty());
    me.close().await.unwrap();
    service.say(&own, "wake up").await;
    let push = pushed(&mut service).await;
    assert_eq!(push, ("kept".to_owned(), "1".to_owned()), "IM-104");
    let mut me = talk.second("desk").await;
    me.expect(["wake up".to_owned()]).await;
    assert!(pushes(&so_far(&mut service).await).is_empty());
}
