//! What the server keeps for an account: private XML, the vCard, and the avatar that is in both.

use proto::{Element, ns};
use tests::client::Client;
use tests::contact::{await_presence, befriend};
use tests::pep;

use crate::talk::{Talk, answered, ask, granted, id, iq};

const METADATA: &str = "urn:xmpp:avatar:metadata";
/// Two photos, and the hashes (SHA-1) of their bytes `one` and `two`.
const PHOTOS: [(&str, &str); 2] = [
    ("b25l", "fe05bcdcdc4928012781a5f1a2a77cbb5398e106"),
    ("dHdv", "ad782ecdac770fc6eb9a62e44f90873fb97fb26b"),
];

fn stored(text: &str) -> String {
    let content = match text {
        "" => "<storage xmlns='urn:talk'/>".to_owned(),
        text => format!("<storage xmlns='urn:talk'>{text}</storage>"),
    };
    format!("<query xmlns='{}'>{content}</query>", ns::PRIVATE)
}

async fn kept(client: &mut Client) -> String {
    let answer = granted(client, "get", "", &stored("")).await;
    let query = answer.child("query", ns::PRIVATE).unwrap();
    query.child("storage", "urn:talk").unwrap().text()
}

pub async fn conversation(talk: Talk<'_>) {
    let mut me = talk.client("desk").await;
    let mut friend = talk.friend().await;
    granted(&mut me, "set", "", &stored("before")).await;
    assert_eq!(kept(&mut me).await, "before");

    talk.middle().await;
    let ids = [id(), id(), id()];
    for (n, id) in ids.iter().enumerate() {
        let text = format!("during {n}");
        me.send(&iq("set", "", id, &stored(&text))).await;
    }
    talk.checkpoint(&mut [&mut me]).await;
    for id in &ids {
        let (answer, before) = answered(&mut me, id).await;
        assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
        assert!(before.is_empty(), "{before:?}");
    }
    // They took effect in their order.
    assert_eq!(kept(&mut me).await, "during 2");
    let mut phone = talk.second("phone").await;
    assert_eq!(kept(&mut phone).await, "during 2");
    let own = talk.own();
    let refused = ask(&mut friend, "get", &own, &stored("")).await;
    assert_eq!(refused.attr("type"), Some("error"), "{refused:?}");
}

fn card(photo: &str) -> String {
    format!(
        "<vCard xmlns='{}'><FN>Talk</FN><PHOTO><TYPE>image/png</TYPE><BINVAL>{photo}</BINVAL></PHOTO></vCard>",
        ns::VCARD
    )
}

/// The photo of somebody's card.
async fn photo(client: &mut Client, of: &str) -> String {
    let asked = format!("<vCard xmlns='{}'/>", ns::VCARD);
    let answer = granted(client, "get", of, &asked).await;
    let card = answer.child("vCard", ns::VCARD).unwrap();
    let photo = card.child("PHOTO", ns::VCARD).unwrap();
    photo.child("BINVAL", ns::VCARD).unwrap().text()
}

/// The hash of the avatar that somebody publishes.
async fn published(client: &mut Client, of: &str) -> String {
    let what = format!("<items node='{METADATA}'/>");
    let answer = pep::ask(client, "get", of, ns::PUBSUB, &what).await;
    let pubsub = answer.child("pubsub", ns::PUBSUB).unwrap();
    let items = pubsub.child("items", ns::PUBSUB).unwrap();
    let items: Vec<&Element> = items.elements().collect();
    assert_eq!(items.len(), 1, "{answer:?}");
    items[0].attr("id").unwrap().to_owned()
}

/// The hash in a presence.
fn shown(presence: &Element) -> String {
    let update = presence.child("x", ns::VCARD_UPDATE);
    let update = update.unwrap_or_else(|| panic!("VC-5: {presence:?}"));
    update.child("photo", ns::VCARD_UPDATE).unwrap().text()
}

pub async fn avatar(talk: Talk<'_>) {
    let [(before, first), (after, second)] = PHOTOS;
    let mut me = talk.client("desk").await;
    let mut friend = talk.friend().await;
    befriend(&mut me, &mut friend).await;
    let (own, full) = (talk.own(), me.jid.to_string());
    granted(&mut me, "set", "", &card(before)).await;
    assert_eq!(photo(&mut friend, &own).await, before);
    assert_eq!(published(&mut friend, &own).await, first, "VC-4");
    me.send("<presence><show>away</show></presence>").await;
    let presence = await_presence(&mut friend, None, &full).await;
    assert_eq!(shown(&presence), first, "VC-5");

    talk.middle().await;
    let set = id();
    me.send(&iq("set", "", &set, &card(after))).await;
    talk.checkpoint(&mut [&mut me]).await;
    let (answer, _) = answered(&mut me, &set).await;
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
    assert_eq!(photo(&mut friend, &own).await, after);
    assert_eq!(published(&mut friend, &own).await, second, "VC-4");
    me.send("<presence><show>dnd</show></presence>").await;
    let presence = await_presence(&mut friend, None, &full).await;
    assert_eq!(shown(&presence), second, "VC-5");
}

const BOOKMARKS: &str = "urn:xmpp:bookmarks:1";

/// The rooms that a client of the older kind sees, with what it calls each.
async fn rooms(client: &mut Client) -> Vec<(String, String)> {
    let asked = format!(
        "<query xmlns='{}'><storage xmlns='storage:bookmarks'/></query>",
        ns::PRIVATE
    );
    let answer = granted(client, "get", "", &asked).await;
    let query = answer.child("query", ns::PRIVATE).unwrap();
    let storage = query.child("storage", "storage:bookmarks").unwrap();
    let attr = |room: &Element, name| room.attr(name).unwrap_or_default().to_owned();
    let rooms = storage
        .elements()
        .map(|room| (attr(room, "jid"), attr(room, "name")));
    let mut rooms: Vec<_> = rooms.collect();
    rooms.sort();
    rooms
}

pub async fn bookmarks(talk: Talk<'_>) {
    let room = |jid: &str, name: &str| (jid.to_owned(), name.to_owned());
    let mut me = talk.client("desk").await;
    let old = |rooms: &str| {
        format!(
            "<query xmlns='{}'><storage xmlns='storage:bookmarks'>{rooms}</storage></query>",
            ns::PRIVATE
        )
    };
    let first = "<conference jid='one@rooms.example' name='before'/>";
    granted(&mut me, "set", "", &old(first)).await;

    talk.middle().await;
    let ids = [id(), id()];
    // One client writes all bookmarks, and a newer one adds a room.
    let both = format!("{first}<conference jid='two@rooms.example' name='during'/>");
    me.send(&iq("set", "", &ids[0], &old(&both))).await;
    let publish = format!(
        "<pubsub xmlns='{}'><publish node='{BOOKMARKS}'><item id='three@rooms.example'>\
         <conference xmlns='{BOOKMARKS}' name='newer'/></item></publish></pubsub>",
        ns::PUBSUB
    );
    me.send(&iq("set", "", &ids[1], &publish)).await;
    talk.checkpoint(&mut [&mut me]).await;
    for id in &ids {
        let (answer, _) = answered(&mut me, id).await;
        assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
    }
    let expect = [
        room("one@rooms.example", "before"),
        room("three@rooms.example", "newer"),
        room("two@rooms.example", "during"),
    ];
    let mut phone = talk.second("phone").await;
    for client in [&mut me, &mut phone] {
        assert_eq!(rooms(client).await, expect, "BM-2");
    }
    // Whoever leaves a room out of the older form has taken it out of the newer one, for all clients.
    granted(&mut phone, "set", "", &old(first)).await;
    let own = talk.own();
    let what = format!("<items node='{BOOKMARKS}'/>");
    let answer = pep::ask(&mut me, "get", &own, ns::PUBSUB, &what).await;
    let pubsub = answer.child("pubsub", ns::PUBSUB).unwrap();
    let items = pubsub.child("items", ns::PUBSUB).unwrap();
    let ids: Vec<_> = items.elements().map(|item| item.attr("id")).collect();
    assert_eq!(ids, [Some("one@rooms.example")], "BM-2");
}
