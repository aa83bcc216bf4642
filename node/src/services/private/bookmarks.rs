//! Bookmarks, which older clients keep in private storage (XEP-0048, XEP-0049) and others as items of a node (XEP-0402):
//! both find the same (BM-2).
//!
//! The rooms are in the node alone. What the older form has besides, such as pages of the web, stays in private storage,
//! and what only the newer one has survives when an older client writes.

use cluster::session::Action;
use proto::payload::form::{Form, FormType};
use proto::stanza::error::StanzaError;
use proto::{BareJid, Element, ns};

use crate::hooks::{Edge, Replacement};

/// The older form.
const STORAGE: &str = "storage:bookmarks";
/// The newer one, and its node.
const NODE: &str = "urn:xmpp:bookmarks:1";
/// What both forms say in the same words.
const ATTRIBUTES: [&str; 2] = ["name", "autojoin"];
const CHILDREN: [&str; 2] = ["nick", "password"];
/// Rooms that one list names.
const MAX_ROOMS: usize = 1_000;

/// The element holds all bookmarks in the older form.
pub fn are_in(element: &Element) -> bool {
    element.is("storage", STORAGE)
}

/// A room with what both forms say of it, in another namespace.
fn room(from: &Element, ns: &'static str) -> Element {
    let mut room = Element::new("conference", ns);
    for name in ATTRIBUTES {
        if let Some(value) = from.attr(name) {
            room.set_attr(name, value);
        }
    }
    for name in CHILDREN {
        if let Some(child) = from.child(name, from.ns()) {
            room.push(Element::new(name, ns).with_text(&child.text()));
        }
    }
    room
}

/// How the node is made if it is not there (BM-1).
fn options() -> Form {
    Form::new(FormType::Submit, ns::PUBSUB_PUBLISH_OPTIONS)
        .with("pubsub#access_model", ["whitelist"])
        .with("pubsub#persist_items", ["true"])
        .with("pubsub#max_items", ["max"])
        .with("pubsub#send_last_published_item", ["never"])
        .with("pubsub#notify_retract", ["true"])
}

/// All bookmarks in the older form; `stored` is what private storage has of them.
pub async fn read(
    edge: &Edge,
    account: &BareJid,
    stored: Option<Element>,
) -> Result<Element, StanzaError> {
    let mut storage = stored.unwrap_or_else(|| Element::new("storage", STORAGE));
    storage.retain(|child| !child.is("conference", STORAGE));
    for (jid, payload) in edge.nodes.items(edge, account, NODE).await? {
        storage.push(room(&payload, STORAGE).with_attr("jid", jid));
    }
    Ok(storage)
}

/// An older client has written all bookmarks: those of its rooms that are other ones than before are published, and
/// those that it does not name any more are taken out. Returns what is left for private storage, and what follows.
pub async fn write(
    edge: &Edge,
    account: &BareJid,
    mut storage: Element,
) -> Result<(Element, Vec<Action>), StanzaError> {
    let before = edge.nodes.items(edge, account, NODE).await?;
    let mut put = Vec::new();
    let mut named = Vec::new();
    let rooms = storage
        .elements()
        .filter(|child| child.is("conference", STORAGE));
    for conference in rooms.take(MAX_ROOMS) {
        let jid = conference
            .attr("jid")
            .and_then(|jid| BareJid::new(jid).ok());
        let Some(id) = jid
            .map(|jid| jid.to_string())
            .filter(|id| !named.contains(id))
        else {
            continue;
        };
        let mut payload = room(conference, NODE);
        let known = before.iter().find(|(known, _)| *known == id);
        let known = known.map(|(_, known)| known);
        if known.is_none_or(|known| room(known, NODE) != payload) {
            let extensions = known.and_then(|known| known.child("extensions", NODE));
            extensions
                .into_iter()
                .for_each(|one| payload.push(one.clone()));
            put.push((id.clone(), payload));
        }
        named.push(id);
    }
    let gone = before.into_iter().map(|(id, _)| id);
    let replacement = Replacement {
        put,
        removed: gone.filter(|id| !named.contains(id)).collect(),
        options: options(),
    };
    let actions = edge.nodes.replace(edge, account, NODE, replacement).await?;
    storage.retain(|child| !child.is("conference", STORAGE));
    Ok((storage, actions))
}

#[cfg(test)]
mod tests {
    use crate::router::SessionContext;
    use crate::router::testing::{edge, says, session};

    async fn old(ctx: &SessionContext, storage: Option<&str>) -> Vec<String> {
        let kind = storage.map_or("get", |_| "set");
        let storage = storage.unwrap_or_default();
        says(
            ctx,
            &format!(
                "<iq type='{kind}' id='o'><query xmlns='jabber:iq:private'>\
                 <storage xmlns='storage:bookmarks'>{storage}</storage></query></iq>"
            ),
        )
        .await
    }

    async fn new(ctx: &SessionContext, kind: &str, what: &str) -> Vec<String> {
        let pubsub = "http://jabber.org/protocol/pubsub";
        says(
            ctx,
            &format!("<iq type='{kind}' id='n'><pubsub xmlns='{pubsub}'>{what}</pubsub></iq>"),
        )
        .await
    }

    const ROOM: &str =
        "<conference name='A' autojoin='true' jid='a@rooms.example'><nick>al</nick></conference>";
    const URL: &str = "<url name='page' url='https://example.org/'/>";
    const ITEMS: &str = "<items node='urn:xmpp:bookmarks:1'/>";

    #[tokio::test]
    async fn bm_1_bm_2_what_an_older_client_writes_the_newer_ones_read_and_hear() {
        let alice = session(&edge().await, "alice@example.org/desk");
        let said = old(&alice, Some(&format!("{ROOM}{URL}"))).await;
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(
            said[1].starts_with("event to [alice@example.org]"),
            "{said:?}"
        );
        let items = new(&alice, "get", ITEMS).await.concat();
        let expect = "<item id='a@rooms.example'><conference xmlns='urn:xmpp:bookmarks:1' name='A' autojoin='true'>\
                      <nick>al</nick></conference></item>";
        assert!(items.contains(expect), "{items}");
        let read = old(&alice, None).await.concat();
        assert!(
            read.contains("jid='a@rooms.example'") && read.contains("<url "),
            "{read}"
        );
        // What is the same as before is not told again, and what is gone is.
        assert_eq!(old(&alice, Some(ROOM)).await.len(), 1);
        let said = old(&alice, Some("")).await;
        assert!(
            said[1].contains("<retract id='a@rooms.example'/>"),
            "{said:?}"
        );
        assert!(!old(&alice, None).await.concat().contains("conference"));
    }

    #[tokio::test]
    async fn bm_2_what_a_newer_client_publishes_survives_an_older_one() {
        let alice = session(&edge().await, "alice@example.org/desk");
        let publish = "<publish node='urn:xmpp:bookmarks:1'><item id='a@rooms.example'>\
                       <conference xmlns='urn:xmpp:bookmarks:1' name='A'><extensions><x xmlns='urn:x'/></extensions>\
                       </conference></item></publish>";
        new(&alice, "set", publish).await;
        let read = old(&alice, None).await.concat();
        assert!(
            read.contains("<conference name='A' jid='a@rooms.example'/>"),
            "{read}"
        );
        old(&alice, Some(&ROOM.replace("'A'", "'B'"))).await;
        let items = new(&alice, "get", ITEMS).await.concat();
        assert!(
            items.contains("name='B'") && items.contains("<x xmlns='urn:x'/>"),
            "{items}"
        );
    }
}
