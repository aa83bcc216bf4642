//! Rosters, presence and messages between two people, and the copies that a third client gets.

use proto::{Element, ns};
use tests::client::{Client, body, numbered};
use tests::contact::befriend;

use crate::talk::{Talk, answered, granted, id, iq, so_far};

const COLLEAGUE: &str = "colleague@example.net";

fn roster(item: &str) -> String {
    format!("<query xmlns='{}'>{item}</query>", ns::ROSTER)
}

/// The pushes of this contact among what has come.
fn pushes(stanzas: &[Element], jid: &str) -> usize {
    let is_push = |stanza: &&Element| {
        let query = stanza.child("query", ns::ROSTER);
        let item = query.and_then(|query| query.child("item", ns::ROSTER));
        stanza.attr("type") == Some("set") && item.is_some_and(|it| it.attr("jid") == Some(jid))
    };
    stanzas.iter().filter(is_push).count()
}

/// The presence that has come from this session: its type and what it shows.
fn presence(stanzas: &[Element], from: &str) -> Vec<(Option<String>, String)> {
    let of = stanzas
        .iter()
        .filter(|stanza| stanza.local() == "presence" && stanza.attr("from") == Some(from));
    let told = of.map(|stanza| {
        let show = stanza.child("show", ns::CLIENT).map(Element::text);
        (
            stanza.attr("type").map(str::to_owned),
            show.unwrap_or_default(),
        )
    });
    told.collect()
}

/// The messages among what has come.
fn bodies(stanzas: &[Element]) -> Vec<String> {
    let messages = stanzas.iter().filter(|stanza| stanza.local() == "message");
    messages.map(body).collect()
}

/// All that comes until a message with this text has.
async fn until_said(client: &mut Client, last: &str) -> Vec<Element> {
    let mut all = Vec::new();
    loop {
        let stanza = client.stanza().await.unwrap();
        let is_last = stanza.local() == "message" && body(&stanza) == last;
        all.push(stanza);
        if is_last {
            return all;
        }
    }
}

pub async fn conversation(talk: Talk<'_>) {
    let mut me = talk.client("desk").await;
    let mut friend = talk.friend().await;
    befriend(&mut me, &mut friend).await;
    let mut phone = talk.second("phone").await;
    granted(&mut phone, "get", "", &roster("")).await;
    me.say(friend.jid.as_str(), "before").await;
    friend.expect(["before".to_owned()]).await;
    for client in [&mut me, &mut friend, &mut phone] {
        so_far(client).await;
        client.presences();
    }

    talk.middle().await;
    let set = id();
    let item = roster(&format!("<item jid='{COLLEAGUE}' name='during'/>"));
    me.send(&iq("set", "", &set, &item)).await;
    me.send("<presence><show>away</show></presence>").await;
    for body in numbered("mine", 0..10) {
        me.say(friend.jid.as_str(), &body).await;
    }
    for body in numbered("yours", 0..10) {
        friend.say(me.jid.as_str(), &body).await;
    }
    talk.checkpoint(&mut [&mut me]).await;

    let (answer, before) = answered(&mut me, &set).await;
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
    friend.say(me.jid.as_str(), "yours at last").await;
    let heard = [before, until_said(&mut me, "yours at last").await].concat();
    let mut yours = numbered("yours", 0..10);
    yours.push("yours at last".into());
    assert_eq!(bodies(&heard), yours, "P2");
    assert_eq!(pushes(&heard, COLLEAGUE), 1, "IM-23: {heard:?}");

    me.say(friend.jid.as_str(), "mine at last").await;
    let heard = until_said(&mut friend, "mine at last").await;
    let mut mine = numbered("mine", 0..10);
    mine.push("mine at last".into());
    assert_eq!(bodies(&heard), mine, "P1");
    let own = me.jid.to_string();
    assert_eq!(presence(&heard, &own), [(None, "away".into())], "I-15");

    me.settle().await.unwrap();
    let heard = so_far(&mut phone).await;
    assert_eq!(pushes(&heard, COLLEAGUE), 1, "{heard:?}");
    assert_eq!(presence(&heard, &own), [(None, "away".into())], "I-15");
    let answer = granted(&mut phone, "get", "", &roster("")).await;
    let query = answer.child("query", ns::ROSTER).unwrap();
    let item = |item: &Element| {
        let [jid, subscription] = ["jid", "subscription"].map(|name| item.attr(name));
        (jid.unwrap().to_owned(), subscription.unwrap().to_owned())
    };
    let mut items: Vec<_> = query.elements().map(item).collect();
    items.sort();
    let mut expect = [
        (COLLEAGUE.to_owned(), "none".to_owned()),
        (talk.other(), "both".to_owned()),
    ];
    expect.sort();
    assert_eq!(items, expect);
}

/// The text of a copy: how it went, and what was said.
fn copied(message: &Element) -> (String, String) {
    let copy = message.elements().find(|child| child.ns() == ns::CARBONS);
    let copy = copy.unwrap_or_else(|| panic!("IM-76: {message:?}"));
    let forwarded = copy.child("forwarded", ns::FORWARD).unwrap();
    let inner = forwarded.child("message", ns::CLIENT).unwrap();
    (copy.local().to_owned(), body(inner))
}

/// The next messages are these copies.
async fn copies_come(client: &mut Client, how: &str, texts: &[&str]) {
    for text in texts {
        let message = client.message_element().await.unwrap();
        assert_eq!(copied(&message), (how.to_owned(), (*text).to_owned()));
    }
}

pub async fn copies(talk: Talk<'_>) {
    let mut desk = talk.client("desk").await;
    let mut phone = talk.second("phone").await;
    let mut friend = talk.friend().await;
    let enable = format!("<enable xmlns='{}'/>", ns::CARBONS);
    granted(&mut desk, "set", "", &enable).await;
    let (to_phone, to_friend) = (phone.jid.to_string(), friend.jid.to_string());
    friend.say(&to_phone, "before").await;
    copies_come(&mut desk, "received", &["before"]).await;
    phone.say(&to_friend, "answer before").await;
    copies_come(&mut desk, "sent", &["answer before"]).await;

    talk.middle().await;
    for body in ["during 0", "during 1"] {
        friend.say(&to_phone, body).await;
    }
    talk.checkpoint(&mut [&mut desk]).await;
    copies_come(&mut desk, "received", &["during 0", "during 1"]).await;
    phone.say(&to_friend, "answer after").await;
    copies_come(&mut desk, "sent", &["answer after"]).await;
    friend.say(&to_phone, "after").await;
    copies_come(&mut desk, "received", &["after"]).await;
    for (client, bodies) in [
        (&mut phone, &["before", "during 0", "during 1", "after"][..]),
        (&mut friend, &["answer before", "answer after"][..]),
    ] {
        client.expect(bodies.iter().map(ToString::to_string)).await;
        client.check_nothing_more().await;
    }
    desk.check_nothing_more().await;
}
