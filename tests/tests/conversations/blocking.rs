//! Blocked contacts: what was blocked is blocked whoever dies, and those who asked are told once.

use proto::{Element, ns};
use tests::archive::all_behind;
use tests::client::Client;

use crate::talk::{Talk, answered, granted, id, iq, so_far, with_child};

const EVE: &str = "eve@example.net";

fn change(name: &str, jid: &str) -> String {
    format!(
        "<{name} xmlns='{}'><item jid='{jid}'/></{name}>",
        ns::BLOCKING
    )
}

fn jids(list: &Element) -> Vec<String> {
    let items = list.elements();
    items
        .map(|item| item.attr("jid").unwrap().to_owned())
        .collect()
}

async fn list(client: &mut Client) -> Vec<String> {
    let asked = format!("<blocklist xmlns='{}'/>", ns::BLOCKING);
    let answer = granted(client, "get", "", &asked).await;
    jids(answer.child("blocklist", ns::BLOCKING).unwrap())
}

/// So many of the friend's messages come back, as from an account that is not there (IM-69).
async fn are_refused(friend: &mut Client, count: usize) {
    for _ in 0..count {
        let refused = friend.message_element().await.unwrap();
        let error = refused.child("error", ns::CLIENT);
        let error = error.unwrap_or_else(|| panic!("{refused:?}"));
        let condition = error.child("service-unavailable", ns::STANZAS);
        assert!(condition.is_some(), "{refused:?}");
    }
}

pub async fn conversation(talk: Talk<'_>) {
    let mut me = talk.client("desk").await;
    let mut phone = talk.second("phone").await;
    let mut friend = talk.friend().await;
    let (own, other) = (talk.own(), talk.other());
    assert!(list(&mut phone).await.is_empty());
    granted(&mut me, "set", "", &change("block", &other)).await;
    friend.say(&own, "before").await;
    are_refused(&mut friend, 1).await;
    let told = so_far(&mut phone).await;
    let told: Vec<_> = with_child(&told, "block", ns::BLOCKING);
    assert_eq!(
        told.into_iter().flat_map(jids).collect::<Vec<_>>(),
        [other.as_str()]
    );

    talk.middle().await;
    let block = id();
    me.send(&iq("set", "", &block, &change("block", EVE))).await;
    for body in ["during 0", "during 1"] {
        friend.say(&own, body).await;
    }
    talk.checkpoint(&mut [&mut me]).await;
    let (answer, _) = answered(&mut me, &block).await;
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
    are_refused(&mut friend, 2).await;
    friend.say(&own, "after").await;
    are_refused(&mut friend, 1).await;
    friend.check_nothing_more().await;
    let told = so_far(&mut phone).await;
    let told: Vec<_> = with_child(&told, "block", ns::BLOCKING);
    assert_eq!(
        told.into_iter().flat_map(jids).collect::<Vec<_>>(),
        [EVE],
        "IM-66"
    );
    let mut blocked = list(&mut me).await;
    blocked.sort();
    let mut expect = [EVE.to_owned(), other.clone()];
    expect.sort();
    assert_eq!(blocked, expect, "IM-65");
    for client in [&mut me, &mut phone] {
        client.check_nothing_more().await;
    }
    assert_eq!(all_behind(&mut me, None).await.unwrap(), []);

    granted(&mut phone, "set", "", &change("unblock", &other)).await;
    friend.say(me.jid.as_str(), "free").await;
    me.expect(["free".to_owned()]).await;
}
