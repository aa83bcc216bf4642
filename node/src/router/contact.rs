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

use super::subscription::{self, Request, State};
use crate::hooks::{Edge, failure};
use crate::services::roster::{self, element, removal};
use crate::storage::{Change, RosterItem, StorageError, Subscription, Updated};

/// What a stored subscription request may measure; of a bigger one its wording is dropped (IM-32).
const MAX_REQUEST: usize = 1024;

/// A contact as one user's roster has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// How the two stand to each other.
    pub state: State,
    /// A request of the contact is granted in advance.
    pub approved: bool,
    /// The user has it in the roster; else it is but a request that awaits an answer.
    pub listed: bool,
    /// What the user calls it.
    pub name: Option<String>,
    /// Where the user sorts it.
    pub groups: Vec<String>,
}

impl Entry {
    /// The entry after a request of the user's own client, and what else follows.
    fn sent(mut self, request: Request) -> (Self, subscription::Sent) {
        let sent = subscription::sent(self.state, request);
        self.listed |= match request {
            Request::Subscribe | Request::Subscribed => true,
            Request::Unsubscribe | Request::Unsubscribed => false,
        };
        self.state = sent.state;
        // An approval in advance lasts until it is taken back (IM-35).
        self.approved = match request {
            Request::Unsubscribed => false,
            _ => sent.approve.unwrap_or(self.approved),
        };
        (self, sent)
    }

    /// The entry after a request of the contact, and what else follows.
    fn received(mut self, request: Request) -> (Self, subscription::Received) {
        let received = subscription::received(self.state, self.approved, request);
        self.state = received.state;
        self.listed |= self.state.from() || self.state.to();
        (self, received)
    }

    /// Nobody needs to remember it.
    fn is_void(&self) -> bool {
        !self.listed && !self.state.pending()
    }
}

impl From<&RosterItem> for Entry {
    fn from(item: &RosterItem) -> Self {
        let (to, from) = (item.subscription.to(), item.subscription.from());
        Self {
            state: State::new(to, from, item.ask, item.request.is_some()),
            approved: item.approved,
            listed: item.listed,
            name: item.name.clone(),
            groups: item.groups.clone(),
        }
    }
}

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
    account: &BareJid,
    peer: &BareJid,
    request: Request,
    repeat: &str,
) -> Result<Sent, StorageError> {
    let update = edge
        .storage
        .update_contact(account, peer, Some(repeat), |item| {
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
    account: &BareJid,
    peer: &BareJid,
    request: Request,
    packet: &Packet,
    repeat: &str,
) -> Result<Received, StorageError> {
    let update = edge
        .storage
        .update_contact(account, peer, Some(repeat), |item| {
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

/// Names and sorts a contact, who is put into the roster if need be (IM-21). The push, if there is a change.
pub async fn put(
    edge: &Edge,
    account: &BareJid,
    peer: &BareJid,
    name: Option<String>,
    groups: Vec<String>,
) -> Result<Option<Relay>, StanzaError> {
    let update = edge.storage.update_contact(account, peer, None, |item| {
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
    account: &BareJid,
    peer: &BareJid,
    repeat: &str,
) -> Result<Option<Removed>, StanzaError> {
    let update = edge
        .storage
        .update_contact(account, peer, Some(repeat), |item| match item {
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

/// `viewer` may see the presence of `account`.
pub async fn sees(edge: &Edge, viewer: &BareJid, account: &BareJid) -> Result<bool, StanzaError> {
    let seen = try_sees(edge, viewer, account).await;
    seen.map_err(|error| failure(&error))
}

async fn try_sees(edge: &Edge, viewer: &BareJid, account: &BareJid) -> Result<bool, StorageError> {
    let item = edge.storage.contact(account, viewer).await?;
    Ok(item.is_some_and(|item| item.subscription.from()))
}

/// A request of `account`, or of the server in its name, on its way to a session of somebody: it carries
/// what the rosters say about it, so that none is sent without (IM-D).
pub async fn request(
    edge: &Edge,
    account: &BareJid,
    to: &BareJid,
    packet: Packet,
) -> Result<Relay, StorageError> {
    let permitted = to == account || try_sees(edge, account, to).await?;
    Ok(Relay::Iq { packet, permitted })
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

/// Whom the account may see, both rosters agreeing, as far as they can be reached.
pub async fn visible(edge: &Edge, account: &BareJid) -> Result<Vec<BareJid>, StorageError> {
    let all = edge.storage.subscriptions(account).await?;
    let seen = all
        .into_iter()
        .filter(|contact| contact.permitted && edge.serves(contact.jid.domain()));
    Ok(seen.map(|contact| contact.jid).collect())
}

/// The subscription requests that await the user's answer.
pub async fn requests(edge: &Edge, account: &BareJid) -> Result<Vec<Packet>, StorageError> {
    let all = edge.storage.pending_in(account).await?;
    Ok(all.iter().filter_map(|(_, xml)| read(xml)).collect())
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
fn written(packet: &Packet) -> String {
    let mut packet = packet.clone();
    if packet.payload_len() > MAX_REQUEST {
        packet.payload = bytes::Bytes::new();
    }
    let mut xml = Vec::new();
    packet.write(&[], &mut xml);
    String::from_utf8_lossy(&xml).into_owned()
}

/// A stored request. One that cannot be read is not shown: nothing else depends on it.
fn read(xml: &str) -> Option<Packet> {
    let element = Element::parse_in(ns::CLIENT, xml).ok()?.pop()?;
    Stanza::parse(element).ok().map(|stanza| stanza.pack())
}

fn push(edge: &Edge, account: &BareJid, peer: &BareJid, update: &Updated) -> Option<Relay> {
    let item = match &update.after {
        Some(item) if item.listed => element(peer, &Entry::from(item)),
        _ => removal(peer),
    };
    let push = || Relay::Push {
        account: account.clone(),
        packet: roster::push(edge, &update.version, item),
    };
    update.pushed.then(push)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(state: State, listed: bool) -> Entry {
        Entry {
            state,
            listed,
            ..Entry::default()
        }
    }

    #[test]
    fn im_29_a_stranger_s_request_changes_nothing_that_clients_see() {
        let (asked, outcome) = Entry::default().received(Request::Subscribe);
        assert!(outcome.deliver && !asked.listed && !asked.is_void());
        let (refused, outcome) = asked.sent(Request::Unsubscribed);
        assert!(outcome.route && !refused.listed && refused.is_void());
    }

    #[test]
    fn im_35_approval_in_advance_makes_an_item_and_lasts_until_it_is_taken_back() {
        let (approved, outcome) = Entry::default().sent(Request::Subscribed);
        assert!(!outcome.route && approved.approved && approved.listed);
        // Nothing else is granted without the user (IM-34).
        let (granted, outcome) = approved.received(Request::Subscribe);
        assert_eq!(outcome.answer, Some(Request::Subscribed));
        assert!(granted.approved && granted.state == State::From);
        let (refused, _) = granted.sent(Request::Unsubscribed);
        assert!(!refused.approved && refused.state == State::None && refused.listed);
    }

    #[test]
    fn im_17_a_request_of_one_s_own_lists_the_contact() {
        let (asked, _) = entry(State::NoneIn, false).sent(Request::Subscribe);
        assert_eq!(asked.state, State::NoneOutIn);
        assert!(asked.listed);
        let (granted, _) = entry(State::NoneIn, false).sent(Request::Subscribed);
        assert!(granted.listed && granted.state == State::From);
    }
}
