//! XEP-0398: the avatar that an account publishes (XEP-0084) is also the photo of its vCard, and its hash is in the
//! account's presence (XEP-0153), for clients that look there.
//!
//! Nothing is copied when a card is read: the photo is taken from the node, as far as whoever asks may read that. A card
//! that is written with another photo publishes it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cluster::session::Action;
use proto::payload::form::{Form, FormType};
use proto::stanza::error::StanzaError;
use proto::stanza::{Kind, PresenceType};
use proto::{BareJid, Element, ns};
use sha1::{Digest as _, Sha1};

use crate::hooks::{Edge, Presence, Replacement, Sender, Turn, at_once, later};

/// What is said of an avatar, and the node of that.
const METADATA: &str = "urn:xmpp:avatar:metadata";
/// The picture itself, and its node.
const DATA: &str = "urn:xmpp:avatar:data";
/// The type of a photo that has none.
const TYPE: &str = "image/png";

/// A picture, by its hash.
#[derive(Debug, PartialEq)]
struct Avatar {
    hash: String,
    kind: String,
}

/// What the account shows, as far as the viewer may know: a picture, none, or nothing is known of either.
async fn shown(
    edge: &Edge,
    viewer: &BareJid,
    account: &BareJid,
) -> Result<Option<Option<Avatar>>, StanzaError> {
    let metadata = edge
        .nodes
        .item(edge, viewer, account, METADATA, None)
        .await?;
    let Some((hash, metadata)) = metadata else {
        return Ok(None);
    };
    // What is elsewhere on the web is not for us to fetch.
    let mut known = metadata.elements();
    let info = known.find(|info| info.is("info", METADATA) && info.attr("url").is_none());
    Ok(Some(info.map(|info| Avatar {
        hash,
        kind: info.attr("type").unwrap_or(TYPE).to_owned(),
    })))
}

/// The hash of a picture, if it is one that can be read.
fn hash(base64: &str) -> Option<String> {
    let text: String = base64.split_whitespace().collect();
    let picture = STANDARD
        .decode(text)
        .ok()
        .filter(|picture| !picture.is_empty())?;
    let digest = Sha1::digest(picture);
    Some(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn without_photo(mut card: Element) -> Element {
    card.retain(|child| !child.is("PHOTO", ns::VCARD));
    card
}

/// The card with the photo that the account shows (VC-4, VC-6).
pub async fn into_card(
    edge: &Edge,
    viewer: &BareJid,
    account: &BareJid,
    card: Option<Element>,
) -> Result<Option<Element>, StanzaError> {
    let avatar = match shown(edge, viewer, account).await? {
        None => return Ok(card),
        Some(None) => return Ok(card.map(without_photo)),
        Some(Some(avatar)) => avatar,
    };
    let data = edge
        .nodes
        .item(edge, viewer, account, DATA, Some(&avatar.hash));
    let data = data.await?.map(|(_, data)| data.text());
    let Some(data) = data.filter(|data| hash(data).as_ref() == Some(&avatar.hash)) else {
        return Ok(card);
    };
    let card = card.unwrap_or_else(|| Element::new("vCard", ns::VCARD));
    let text = |name, text: &str| Element::new(name, ns::VCARD).with_text(text);
    let photo = Element::new("PHOTO", ns::VCARD)
        .with_child(text("TYPE", &avatar.kind))
        .with_child(text("BINVAL", &data));
    Ok(Some(without_photo(card).with_child(photo)))
}

/// The account has written its card: another photo than it shows is published, the picture before what is said of it.
pub async fn publish(
    edge: &Edge,
    account: &BareJid,
    card: &Element,
) -> Result<Vec<Action>, StanzaError> {
    let photo = card.child("PHOTO", ns::VCARD);
    let part = |name| Some(photo?.child(name, ns::VCARD)?.text());
    let picture = part("BINVAL");
    let found = picture.as_deref().and_then(hash);
    let shown = shown(edge, account, account).await?.flatten();
    let (Some(hash), Some(picture)) = (found, picture) else {
        // Who shows none, shows none.
        return match shown {
            None => Ok(Vec::new()),
            Some(_) => {
                put(
                    edge,
                    account,
                    METADATA,
                    "none",
                    Element::new("metadata", METADATA),
                )
                .await
            }
        };
    };
    if shown.is_some_and(|shown| shown.hash == hash) {
        return Ok(Vec::new());
    }
    let picture: String = picture.split_whitespace().collect();
    let bytes = STANDARD.decode(&picture).map_or(0, |picture| picture.len());
    let data = Element::new("data", DATA).with_text(&picture);
    let mut actions = put(edge, account, DATA, &hash, data).await?;
    let info = Element::new("info", METADATA)
        .with_attr("id", &hash)
        .with_attr("type", part("TYPE").unwrap_or_else(|| TYPE.to_owned()))
        .with_attr("bytes", bytes.to_string());
    let metadata = Element::new("metadata", METADATA).with_child(info);
    actions.extend(put(edge, account, METADATA, &hash, metadata).await?);
    Ok(actions)
}

async fn put(
    edge: &Edge,
    account: &BareJid,
    node: &str,
    id: &str,
    payload: Element,
) -> Result<Vec<Action>, StanzaError> {
    // Whoever reads cards reads photos.
    let options = Form::new(FormType::Submit, ns::PUBSUB_PUBLISH_OPTIONS)
        .with("pubsub#access_model", ["open"]);
    let replacement = Replacement {
        put: vec![(id.to_owned(), payload)],
        removed: Vec::new(),
        options,
    };
    edge.nodes.replace(edge, account, node, replacement).await
}

/// The hash goes into what the account's clients broadcast (VC-5).
pub fn into_presence<'a>(
    sender: Sender<'a>,
    presence: &'a mut Presence,
) -> Turn<'a, Result<(), StanzaError>> {
    let stanza = &presence.stanza;
    let is_broadcast = stanza.header.to.is_none();
    if stanza.header.kind != Kind::Presence(PresenceType::Available) || !is_broadcast {
        return at_once(Ok(()));
    }
    let update = stanza.child("x", ns::VCARD_UPDATE);
    let photo = update.and_then(|update| update.child("photo", ns::VCARD_UPDATE));
    // This client says that there is no picture.
    if photo.is_some_and(|photo| photo.text().trim().is_empty()) {
        return at_once(Ok(()));
    }
    let has_update = update.is_some();
    later(async move {
        let shown = shown(sender.edge, sender.account, sender.account).await?;
        let hash = match shown {
            Some(Some(avatar)) => avatar.hash,
            // One that does not say it yet is not made to say anything.
            Some(None) | None if has_update => String::new(),
            Some(None) | None => return Ok(()),
        };
        let photo = Element::new("photo", ns::VCARD_UPDATE).with_text(&hash);
        let update = Element::new("x", ns::VCARD_UPDATE).with_child(photo);
        let payload = &mut presence.stanza.payload;
        payload.retain(|child| !child.is("x", ns::VCARD_UPDATE));
        payload.push(update);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::SessionContext;
    use crate::router::testing::{edge, says, session};

    const PUBSUB: &str = "http://jabber.org/protocol/pubsub";
    /// A picture, and its hash.
    const PICTURE: &str = "cGljdHVyZQ==";

    fn number() -> String {
        hash(PICTURE).unwrap()
    }

    async fn card(ctx: &SessionContext, to: &str) -> String {
        says(
            ctx,
            &format!("<iq type='get' id='v'{to}><vCard xmlns='vcard-temp'/></iq>"),
        )
        .await
        .concat()
    }

    async fn write(ctx: &SessionContext, photo: &str) -> Vec<String> {
        let card = format!("<vCard xmlns='vcard-temp'><FN>Al</FN>{photo}</vCard>");
        says(ctx, &format!("<iq type='set' id='v'>{card}</iq>")).await
    }

    async fn publish(ctx: &SessionContext, node: &str, payload: &str) {
        let publish = format!(
            "<publish node='{node}'><item id='{}'>{payload}</item></publish>",
            number()
        );
        says(
            ctx,
            &format!("<iq type='set' id='p'><pubsub xmlns='{PUBSUB}'>{publish}</pubsub></iq>"),
        )
        .await;
    }

    async fn broadcast(ctx: &SessionContext, child: &str) -> String {
        says(ctx, &format!("<presence>{child}</presence>"))
            .await
            .concat()
    }

    #[tokio::test]
    async fn vc_4_vc_6_what_is_published_is_the_photo_of_the_card_for_those_who_may_read_it() {
        let node = edge().await;
        let alice = session(&node, "alice@example.org/desk");
        let carol = session(&node, "carol@example.org/x");
        write(&alice, "").await;
        publish(
            &alice,
            DATA,
            &format!("<data xmlns='{DATA}'>{PICTURE}</data>"),
        )
        .await;
        let info = format!("<info id='{}' type='image/gif' bytes='7'/>", number());
        publish(
            &alice,
            METADATA,
            &format!("<metadata xmlns='{METADATA}'>{info}</metadata>"),
        )
        .await;
        let own = card(&alice, "").await;
        let photo = format!("<PHOTO><TYPE>image/gif</TYPE><BINVAL>{PICTURE}</BINVAL></PHOTO>");
        assert!(own.contains("<FN>Al</FN>") && own.contains(&photo), "{own}");
        // Both nodes are for contacts.
        let other = card(&carol, " to='alice@example.org'").await;
        assert!(
            other.contains("<FN>Al</FN>") && !other.contains("PHOTO"),
            "{other}"
        );
        publish(&alice, METADATA, &format!("<metadata xmlns='{METADATA}'/>")).await;
        assert!(!card(&alice, "").await.contains("PHOTO"));
    }

    #[tokio::test]
    async fn vc_4_the_photo_of_a_card_is_published_once_and_what_is_no_picture_is_not() {
        let alice = session(&edge().await, "alice@example.org/desk");
        let photo = format!("<PHOTO><TYPE>image/gif</TYPE><BINVAL>{PICTURE}</BINVAL></PHOTO>");
        let said = write(&alice, &photo).await;
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(
            said[1].contains(DATA) && said[2].contains(METADATA),
            "{said:?}"
        );
        assert!(
            said[2].contains(&format!("id='{}' type='image/gif' bytes='7'", number())),
            "{said:?}"
        );
        assert_eq!(write(&alice, &photo).await.len(), 1);
        let said = write(&alice, "<PHOTO><BINVAL>*</BINVAL></PHOTO>")
            .await
            .concat();
        assert!(
            said.contains("<metadata ") && !said.contains("<info "),
            "{said}"
        );
        assert_eq!(write(&alice, "").await.len(), 1);
    }

    #[tokio::test]
    async fn vc_5_the_hash_is_in_what_clients_broadcast_unless_they_say_that_there_is_none() {
        let alice = session(&edge().await, "alice@example.org/desk");
        let update = |photo: &str| format!("<x xmlns='vcard-temp:x:update'>{photo}</x>");
        assert!(!broadcast(&alice, "").await.contains("photo"));
        assert!(broadcast(&alice, &update("")).await.contains("<photo/>"));
        write(
            &alice,
            &format!("<PHOTO><BINVAL>{PICTURE}</BINVAL></PHOTO>"),
        )
        .await;
        let hash = format!("<photo>{}</photo>", number());
        for said in [String::new(), update(""), update("<photo>0123</photo>")] {
            let presence = broadcast(&alice, &said).await;
            assert!(
                presence.contains(&hash) && !presence.contains("0123"),
                "{presence}"
            );
        }
        assert!(
            broadcast(&alice, &update("<photo/>"))
                .await
                .contains("<photo/>")
        );
    }
}
