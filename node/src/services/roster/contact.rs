//! One contact of one roster: what requests and edits make of it, and whom the roster lets see what.
//!
//! The database keeps the rows; here is what they mean. A change that may be asked for twice, because its
//! node died before the shard heard of it, carries a name: while no other change has come between, the
//! row still knows what it was before, and the same outcome is found again.

use std::collections::HashMap;

use cluster::session::Relay;
use proto::stanza::error::StanzaError;
use proto::stanza::{Packet, Stanza};
use proto::{BareJid, Element, ns};

use super::entry::Entry;
use super::item::{element, pushed, removal};
use super::settings::Quotas;
use super::storage::{Change, RosterItem, Subscription, Updated};
use super::subscription::{Request, State};
use crate::hooks::{Edge, failure};
use crate::storage::StorageError;

/// What a stored subscription request may measure; of a bigger one its wording is dropped (IM-32).
const MAX_REQUEST: usize = 1024;

/// What follows from a request of the user's own client.
pub struct Sent {
    /// The contact is to hear of it.
    pub route: bool,
    /// The contact may see the user no longer.
    pub hides: bool,
    /// The push, if clients see a change.
    pub push: Option<Relay>,
}

/// Carries out a request of the user's own client. `repeat` names it.
pub async fn sent(
    edge: &Edge,
    quotas: Quotas,
    account: &BareJid,
    peer: &BareJid,
    request: Request,
    repeat: &str,
) -> Result<Sent, StorageError> {
    let update = edge
        .storage
        .update_contact(quotas, account, peer, Some(repeat), |item| {
            let (after, _) = entry(item).sent(request);
            stored(peer, item, after, None)
        });
    let update = update.await?;
    let before = entry(update.before.as_ref());
    let (after, sent) = before.clone().sent(request);
    Ok(Sent {
        route: sent.route,
        hides: before.state.from() && !after.state.from(),
        push: push(edge, account, peer, &update),
    })
}

/// What follows from a request of the contact.
pub struct Received {
    /// Clients hear of it.
    pub deliver: bool,
    /// What the server answers in the user's name.
    pub answer: Option<Request>,
    /// The contact may see the user no longer.
    pub hides: bool,
    /// The user may see the contact from now on.
    pub reveals: bool,
    /// The push, if clients see a change.
    pub push: Option<Relay>,
}

/// Carries out a request of the contact, which is kept if it awaits an answer (IM-32). `repeat` names it.
pub async fn received(
    edge: &Edge,
    quotas: Quotas,
    account: &BareJid,
    peer: &BareJid,
    request: Request,
    packet: &Packet,
    repeat: &str,
) -> Result<Received, StorageError> {
    let update = edge
        .storage
        .update_contact(quotas, account, peer, Some(repeat), |item| {
            let (after, _) = entry(item).received(request);
            let asked = (request == Request::Subscribe).then(|| written(packet));
            stored(peer, item, after, asked)
        });
    let update = update.await?;
    let before = entry(update.before.as_ref());
    let (after, received) = before.clone().received(request);
    Ok(Received {
        deliver: received.deliver,
        answer: received.answer,
        hides: before.state.from() && !after.state.from(),
        reveals: after.state.to() && !before.state.to(),
        push: push(edge, account, peer, &update),
    })
}

/// What follows from a request of the contact that shows an invitation of the user.
pub struct Introduced {
    /// The user asks as well.
    pub asks: bool,
    /// The push, if clients see a change.
    pub push: Option<Relay>,
}

/// Grants a request of the contact that shows an invitation of the user, and asks in return. `repeat` names it.
pub async fn introduced(
    edge: &Edge,
    quotas: Quotas,
    account: &BareJid,
    peer: &BareJid,
    repeat: &str,
) -> Result<Introduced, StorageError> {
    let update = edge
        .storage
        .update_contact(quotas, account, peer, Some(repeat), |item| {
            stored(peer, item, entry(item).introduced(), None)
        });
    let update = update.await?;
    Ok(Introduced {
        asks: entry(update.after.as_ref()).state.ask(),
        push: push(edge, account, peer, &update),
    })
}

/// Names and sorts a contact, who is put into the roster if need be (IM-21). The push, if there is a change. `repeat`
/// names the request, and what it says.
pub async fn put(
    edge: &Edge,
    quotas: Quotas,
    account: &BareJid,
    peer: &BareJid,
    (name, groups): (Option<String>, Vec<String>),
    repeat: &str,
) -> Result<Option<Relay>, StanzaError> {
    let update = edge
        .storage
        .update_contact(quotas, account, peer, Some(repeat), |item| {
            stored(
                peer,
                item,
                Entry {
                    listed: true,
                    name,
                    groups,
                    ..entry(item)
                },
                None,
            )
        });
    let update = update.await.map_err(|error| failure(&error))?;
    Ok(push(edge, account, peer, &update))
}

/// Has the contact in the roster, with each of the two seeing the other. The push, if there is a change.
pub async fn befriend(
    edge: &Edge,
    quotas: Quotas,
    account: &BareJid,
    peer: &BareJid,
) -> Result<Option<Relay>, StorageError> {
    let update = edge
        .storage
        .update_contact(quotas, account, peer, None, |item| {
            let after = Entry {
                listed: true,
                state: State::Both,
                ..entry(item)
            };
            stored(peer, item, after, None)
        });
    let update = update.await?;
    Ok(push(edge, account, peer, &update))
}

/// A contact that is gone from the roster.
pub struct Removed {
    /// How the two stood to each other.
    pub state: State,
    /// The push.
    pub push: Option<Relay>,
}

/// Removes a contact; `None` if the roster has no such contact (IM-19). `repeat` names the request.
pub async fn remove(
    edge: &Edge,
    quotas: Quotas,
    account: &BareJid,
    peer: &BareJid,
    repeat: &str,
) -> Result<Option<Removed>, StanzaError> {
    let update =
        edge.storage
            .update_contact(quotas, account, peer, Some(repeat), |item| match item {
                Some(item) if item.listed => Change::Remove,
                _ => Change::Keep,
            });
    let update = update.await.map_err(|error| failure(&error))?;
    let before = entry(update.before.as_ref());
    Ok(before.listed.then(|| Removed {
        state: before.state,
        push: push(edge, account, peer, &update),
    }))
}

/// Who may see the account, as far as they can be reached.
pub async fn subscribers(edge: &Edge, account: &BareJid) -> Result<Vec<BareJid>, StorageError> {
    let mut all = edge.storage.subscribers(account).await?;
    all.retain(|contact| edge.serves(contact.domain()));
    Ok(all)
}

/// The same for many accounts at a time.
pub async fn subscribers_of(
    edge: &Edge,
    accounts: &[&BareJid],
) -> Result<HashMap<BareJid, Vec<BareJid>>, StorageError> {
    let mut all = edge.storage.subscribers_of(accounts).await?;
    for contacts in all.values_mut() {
        contacts.retain(|contact| edge.serves(contact.domain()));
    }
    Ok(all)
}

/// The same, whom the account may see, and the requests that await its user's answer.
pub async fn audience(
    edge: &Edge,
    account: &BareJid,
) -> Result<(Vec<BareJid>, Vec<BareJid>, Vec<Packet>), StorageError> {
    let mut all = edge.storage.audience(account).await?;
    for reached in [&mut all.subscribers, &mut all.visible] {
        reached.retain(|contact| edge.serves(contact.domain()));
    }
    let requests = all.requests.iter().filter_map(|xml| read(xml)).collect();
    Ok((all.subscribers, all.visible, requests))
}

fn entry(item: Option<&RosterItem>) -> Entry {
    item.map(Entry::from).unwrap_or_default()
}

/// The row for `after`. A request that still awaits its answer keeps its stanza, or gets the newer one.
fn stored(
    peer: &BareJid,
    before: Option<&RosterItem>,
    after: Entry,
    asked: Option<String>,
) -> Change {
    if after.is_void() {
        return before.map_or(Change::Keep, |_| Change::Remove);
    }
    let request = match after.state.pending() {
        true => asked.or_else(|| before.and_then(|item| item.request.clone())),
        false => None,
    };
    Change::Put(RosterItem {
        jid: peer.clone(),
        listed: after.listed,
        name: after.name,
        subscription: Subscription::new(after.state.to(), after.state.from()),
        ask: after.state.ask(),
        approved: after.approved,
        groups: after.groups,
        request,
    })
}

/// The stanza of a request, without its wording if that is long.
pub fn written(packet: &Packet) -> String {
    let mut packet = packet.clone();
    if packet.payload_len() > MAX_REQUEST {
        packet.payload = bytes::Bytes::new();
    }
    let mut xml = Vec::new();
    packet.write(&[], &mut xml);
    String::from_utf8_lossy(&xml).into_owned()
}

/// A stored request. One that cannot be read is not shown: nothing else depends on it.
pub fn read(xml: &str) -> Option<Packet> {
    let element = Element::parse_in(ns::CLIENT, xml).ok()?.pop()?;
    Stanza::parse(element).ok().map(|stanza| stanza.pack())
}

fn push(edge: &Edge, account: &BareJid, peer: &BareJid, update: &Updated) -> Option<Relay> {
    let item = match &update.after {
        Some(item) if item.listed => element(peer, &Entry::from(item)),
        _ => removal(peer),
    };
    let push = || Relay::RosterPush {
        account: account.clone(),
        packet: pushed(edge, &update.version, item),
    };
    update.pushed.then(push)
}
