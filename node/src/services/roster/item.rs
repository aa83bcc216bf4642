//! How clients are shown one contact.

use proto::stanza::{IqType, Kind, Packet, Stanza};
use proto::{BareJid, Element, ns};

use super::entry::Entry;
use super::storage::{Roster, RosterVersion, Subscription};
use crate::hooks::Edge;

/// One contact, as the roster shows it (IM-24).
pub fn element(jid: &BareJid, entry: &Entry) -> Element {
    let state = entry.state;
    let mut item = Element::new("item", ns::ROSTER)
        .with_attr("jid", jid.as_str())
        .with_attr(
            "subscription",
            Subscription::new(state.to(), state.from()).name(),
        );
    if let Some(name) = &entry.name {
        item.set_attr("name", name.clone());
    }
    if state.ask() {
        item.set_attr("ask", "subscribe");
    }
    if entry.approved {
        item.set_attr("approved", "true");
    }
    for group in &entry.groups {
        item.push(Element::new("group", ns::ROSTER).with_text(group));
    }
    item
}

/// All that is shown of a roster.
pub fn roster(roster: &Roster) -> Element {
    let mut query = Element::new("query", ns::ROSTER).with_attr("ver", roster.version.to_string());
    for item in roster.items.iter().filter(|item| item.listed) {
        query.push(element(&item.jid, &Entry::from(item)));
    }
    query
}

/// One contact that is no longer there.
pub fn removal(jid: &BareJid) -> Element {
    Element::new("item", ns::ROSTER)
        .with_attr("jid", jid.as_str())
        .with_attr("subscription", "remove")
}

/// Tells a client about one contact.
pub fn pushed(edge: &Edge, version: &RosterVersion, item: Element) -> Packet {
    let query = Element::new("query", ns::ROSTER)
        .with_attr("ver", version.to_string())
        .with_child(item);
    Stanza::new(Kind::Iq(IqType::Set))
        .with_id(edge.stanza_id())
        .with_child(query)
        .pack()
}

#[cfg(test)]
mod tests {
    use super::super::subscription::State;
    use super::*;

    #[test]
    fn im_24_an_item_shows_the_state_but_not_the_pending_request() {
        let entry = Entry {
            state: State::NoneOutIn,
            approved: true,
            listed: true,
            name: Some("B".to_owned()),
            groups: vec!["A".to_owned()],
        };
        assert_eq!(
            element(&"b@x".parse().unwrap(), &entry).to_xml(ns::ROSTER),
            "<item jid='b@x' subscription='none' name='B' ask='subscribe' approved='true'><group>A</group></item>"
        );
    }
}
