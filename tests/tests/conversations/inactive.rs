//! A client that nobody looks at (XEP-0352): what can wait waits, and comes in its order.

use proto::{Element, ns};
use tests::client::{Client, body};
use tests::contact::{await_presence, befriend};

use crate::talk::{Talk, so_far};

fn state(name: &str) -> String {
    format!("<{name} xmlns='{}'/>", ns::CSI)
}

/// What a stanza says, in a word.
fn word(stanza: &Element) -> String {
    let show = stanza.child("show", ns::CLIENT).map(Element::text);
    let typing = stanza.child("composing", ns::CHATSTATES);
    let typing = typing.map(|state| state.local().to_owned());
    show.or(typing).unwrap_or_else(|| body(stanza))
}

async fn next(client: &mut Client, count: usize) -> Vec<String> {
    let mut words = Vec::new();
    while words.len() < count {
        words.push(word(&client.stanza().await.unwrap()));
    }
    words
}

/// The client says this, and nothing may come before its server has counted it.
async fn nothing_comes(client: &mut Client, said: &str) {
    let request = format!("{said}<r xmlns='{}'/>", ns::SM);
    client.wire.send(&request).await.unwrap();
    loop {
        let element = client.wire.next().await.unwrap();
        match (element.local(), element.ns()) {
            ("a", ns::SM) => return,
            ("r", ns::SM) => client.acknowledge().await.unwrap(),
            _ => panic!("IM-100: {element:?}"),
        }
    }
}

/// The friend goes, types, and goes further; the shard of the account has it all when its other client has.
async fn chatter(friend: &mut Client, phone: &mut Client, desk: &str, shows: [&str; 2]) {
    let composing = format!("<composing xmlns='{}'/>", ns::CHATSTATES);
    let typing = format!("<message type='chat' to='{desk}'>{composing}</message>");
    let [first, second] = shows.map(|it| format!("<presence><show>{it}</show></presence>"));
    for stanza in [first, typing, second] {
        friend.send(&stanza).await;
    }
    let from = friend.jid.to_string();
    for _ in 0..2 {
        await_presence(phone, None, &from).await;
    }
}

pub async fn conversation(talk: Talk<'_>) {
    let mut desk = talk.client("desk").await;
    let mut friend = talk.friend().await;
    befriend(&mut desk, &mut friend).await;
    let mut phone = talk.second("phone").await;
    let (own, from) = (desk.jid.to_string(), friend.jid.to_string());
    await_presence(&mut phone, None, &from).await;
    let second = phone.jid.to_string();
    await_presence(&mut desk, None, &second).await;
    for client in [&mut desk, &mut phone] {
        so_far(client).await;
        client.settle().await.unwrap();
        client.presences();
    }
    nothing_comes(&mut desk, &state("inactive")).await;
    chatter(&mut friend, &mut phone, &own, ["away", "dnd"]).await;
    nothing_comes(&mut desk, "").await;

    talk.middle().await;
    // Who comes back is looked at (SM-56).
    if !talk.checkpoint(&mut [&mut desk]).await {
        desk.wire.send(&state("active")).await.unwrap();
    }
    assert_eq!(
        next(&mut desk, 3).await,
        ["away", "composing", "dnd"],
        "IM-101"
    );
    chatter(&mut friend, &mut phone, &own, ["xa", "chat"]).await;
    assert_eq!(next(&mut desk, 3).await, ["xa", "composing", "chat"]);
    nothing_comes(&mut desk, &state("inactive")).await;
    chatter(&mut friend, &mut phone, &own, ["away", "dnd"]).await;
    nothing_comes(&mut desk, "").await;
    friend.say(&own, "look").await;
    let expect = ["away", "composing", "dnd", "look"];
    assert_eq!(next(&mut desk, 4).await, expect, "IM-100");
    assert!(so_far(&mut desk).await.is_empty());
}
