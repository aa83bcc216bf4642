//! What nodes tell (PE-8), and whom (PE-7).

use std::collections::HashSet;

use cluster::bound;
use cluster::session::{Action, NodeEvent, Recipient, Relay};
use proto::payload::delay;
use proto::stanza::{Kind, MessageType, Stanza};
use proto::{BareJid, Element, Jid, ns};
use sha1::{Digest as _, Sha1};

use super::access::Readers;
use super::config::Config;
use super::storage::Item;
use crate::hooks::Edge;
use crate::storage::StorageError;

/// The most bytes of events together with the addresses that they go to. One command has room for that, and for the
/// answer to whoever has published.
const MOST_BYTES: usize = bound::COMMAND - (32 << 10);

/// A number for some words: the same on every node and in every version. It guards nothing.
fn number(words: &[&str]) -> u64 {
    let digest = Sha1::digest(words.join("\n"));
    let first: [u8; 8] = std::array::from_fn(|n| digest[n]);
    u64::from_be_bytes(first)
}

/// The event around what a node tells. Of events with the same `about` only the last one says anything.
fn event(account: &BareJid, node: &str, told: Element, about: &[&str]) -> NodeEvent {
    let event = Element::new("event", ns::PUBSUB_EVENT).with_child(told);
    let stanza = Stanza::new(Kind::Message(MessageType::Headline)).with_child(event);
    NodeEvent {
        packet: stanza.with_from(account.clone().into()).pack(),
        node: node.into(),
        key: number(&[&[node], about].concat()),
    }
}

fn about_node(name: &'static str, node: &str) -> Element {
    Element::new(name, ns::PUBSUB_EVENT).with_attr("node", node)
}

/// What concerns one item of a node, or all that there is in it.
fn about<'a>(config: &Config, id: &'a str) -> Vec<&'a str> {
    match config.is_single() {
        true => Vec::new(),
        false => vec!["item", id],
    }
}

/// An item, as it is told.
fn item(config: &Config, item: &Item) -> Element {
    let mut element = Element::new("item", ns::PUBSUB_EVENT).with_attr("id", &item.id);
    if let Some(payload) = item.payload.clone().filter(|_| config.payloads) {
        element.push(payload);
    }
    element
}

/// Something was published.
pub fn published(account: &BareJid, node: &str, config: &Config, published: &Item) -> NodeEvent {
    let told = about_node("items", node).with_child(item(config, published));
    event(account, node, told, &about(config, &published.id))
}

/// The same for somebody who was not there when it was published.
pub fn last(account: &BareJid, node: &str, config: &Config, published: &Item) -> NodeEvent {
    let told = about_node("items", node).with_child(item(config, published));
    let mut last = event(account, node, told, &about(config, &published.id));
    let stamp = delay::stamp(published.stamp);
    let mut payload = Vec::from(&*last.packet.payload);
    let delay = delay::delay(account.as_str(), &stamp).to_xml("");
    payload.extend_from_slice(delay.as_bytes());
    last.packet.payload = payload.into();
    last
}

/// An item is not there any more.
pub fn retracted(account: &BareJid, node: &str, config: &Config, id: &str) -> NodeEvent {
    let retract = Element::new("retract", ns::PUBSUB_EVENT).with_attr("id", id);
    let told = about_node("items", node).with_child(retract);
    event(account, node, told, &about(config, id))
}

/// All items are not there any more.
pub fn purged(account: &BareJid, node: &str, config: &Config) -> NodeEvent {
    event(account, node, about_node("purge", node), &about(config, ""))
}

/// The node is not there any more.
pub fn deleted(account: &BareJid, node: &str, config: &Config) -> NodeEvent {
    event(
        account,
        node,
        about_node("delete", node),
        &about(config, ""),
    )
}

/// The node is another one than it was.
pub fn configured(account: &BareJid, node: &str) -> NodeEvent {
    event(
        account,
        node,
        about_node("configuration", node),
        &["configuration"],
    )
}

/// Everybody who hears of a node: the account itself, its contacts as far as they want to and may, and who has
/// subscribed, as far as they still may.
pub async fn recipients(
    edge: &Edge,
    account: &BareJid,
    node: &str,
    config: &Config,
) -> Result<Vec<Recipient>, StorageError> {
    let parties = edge.storage.parties(account, node).await?;
    let readers = Readers::new(edge, account, config, &parties).await?;
    let mut subscribers = parties.subscriptions;
    subscribers.retain(|jid| {
        let bare = jid.bare();
        edge.serves(jid.domain()) && (bare == *account || readers.contain(&bare))
    });
    // All sessions of these hear of it anyway.
    let whole: HashSet<&str> = subscribers
        .iter()
        .filter(|jid| jid.is_bare())
        .map(Jid::as_str)
        .collect();
    let mut contacts = readers.contacts();
    contacts.retain(|contact| edge.serves(contact.domain()) && *contact != account);
    let unsubscribed = std::iter::once(account)
        .chain(contacts)
        .filter(|jid| !whole.contains(jid.as_str()));
    let unsubscribed = unsubscribed.map(|jid| Recipient {
        jid: jid.into(),
        subscribed: false,
    });
    let mut all: Vec<Recipient> = unsubscribed.collect();
    all.extend(subscribers.into_iter().map(|jid| Recipient {
        jid,
        subscribed: true,
    }));
    Ok(all)
}

/// About how many bytes the addresses take.
fn size(to: &[Recipient]) -> usize {
    to.iter().map(|to| 8 + to.jid.as_str().len()).sum()
}

/// Whether one command has room for an event and for all addresses that it goes to.
pub fn fits(event: &NodeEvent, to: &[Recipient]) -> bool {
    size(to) + event.packet.size() <= MOST_BYTES
}

/// Sends events to all of them, as far as one command has room.
pub fn send(events: impl IntoIterator<Item = NodeEvent>, to: &[Recipient]) -> Vec<Action> {
    let mut bytes = 0;
    let mut actions = Vec::new();
    for event in events {
        bytes += size(to) + event.packet.size();
        // Of many items that go at once the last ones go silently.
        if bytes > MOST_BYTES {
            break;
        }
        let to = to.to_vec();
        actions.push(Action::Send(Relay::Event { event, to }));
    }
    actions
}
