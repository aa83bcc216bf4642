//! What crosses from shard to shard.

use proto::stanza::{Kind, MessageType, Packet};
use proto::{BareJid, Jid};
use serde::{Deserialize, Serialize};

use super::event::{LastEvents, NodeEvent, Recipient};
use super::reason::EndReason;
use crate::id::ArchiveId;

/// What an account is to receive. Crosses from shard to shard through outboxes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Relay {
    /// A message to `packet.header.to`.
    Message(Message),
    /// An iq to a full JID (those to bare JIDs are answered by the edge).
    Iq {
        /// The stanza.
        packet: Packet,
        /// The recipient's roster lets the sender see its presence (IM-D).
        permitted: bool,
    },
    /// Available or unavailable presence, an error about one, or a subscription stanza that is to be
    /// delivered as it is. `packet.header.to` is replaced by each of `to` unless it is among them.
    Presence {
        /// The stanza.
        packet: Packet,
        /// Bare JIDs reach all available sessions, full ones that session.
        to: Vec<Jid>,
    },
    /// The accounts `to` show their present state to `from` (a full JID), which may see it.
    Probe {
        /// Who gets the answers.
        from: Jid,
        /// Whose presence is asked for.
        to: Vec<BareJid>,
    },
    /// Subscribe, subscribed, unsubscribe or unsubscribed for a local contact: becomes an effect there.
    Subscription(Packet),
    /// A roster push (or other stanza without sender) for all interested sessions of an account.
    RosterPush {
        /// The account.
        account: BareJid,
        /// The iq, without `to`.
        packet: Packet,
    },
    /// A subscription stanza for an account's interested (or, with `available`, available) sessions.
    Announcement {
        /// The account.
        account: BareJid,
        /// The stanza.
        packet: Packet,
        /// To available sessions rather than interested ones (IM-29).
        available: bool,
    },
    /// Messages that the account's archive was to show, and whose rows are hidden.
    Hidden {
        /// The account.
        account: BareJid,
        /// The messages.
        mids: Vec<ArchiveId>,
    },
    /// No service is registered that would wake this client.
    NoPush {
        /// The account.
        account: BareJid,
        /// The client.
        resource: Box<str>,
    },
    /// An account's sessions end (its credentials changed, or it was removed).
    EndAll {
        /// The account.
        account: BareJid,
        /// Why.
        reason: EndReason,
    },
    /// A message that the account's archive was to keep, and never will.
    Unkept {
        /// The account.
        account: BareJid,
        /// The message.
        mid: ArchiveId,
        /// Its stanza.
        packet: Packet,
    },
    /// Whom the account has blocked, as the database has it.
    Blocklist {
        /// The account.
        account: BareJid,
        /// The state of the list; 0 = there is none.
        revision: u64,
        /// All of them.
        jids: Vec<Jid>,
    },
    /// What a node of an account tells: one of them for each shard.
    Event {
        /// What.
        event: NodeEvent,
        /// Who may hear of it.
        to: Vec<Recipient>,
    },
    /// What was published last, for a session that begins to hear of it.
    LastEvents {
        /// The session.
        session: Jid,
        /// In the order of accounts and nodes.
        events: Vec<NodeEvent>,
        /// What is to be read yet.
        rest: Option<LastEvents>,
    },
    /// The account may see another one from now on.
    Revealed {
        /// The account.
        account: BareJid,
        /// Whom.
        peer: BareJid,
    },
    /// A message of the server for every available session of a shard; `packet.header.to` is replaced by each.
    Broadcast {
        /// Which one: a shard shows it once.
        id: ArchiveId,
        /// The stanza, without `to`.
        packet: Packet,
        /// Accounts up to here, in the order of their addresses, have it.
        after: Option<BareJid>,
    },
    /// A session ends.
    End {
        /// Its full JID.
        session: Jid,
        /// Why.
        reason: EndReason,
    },
}

/// A message with what the edge found out about it in its one pass over the payload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The stanza, `from` the sender's full JID, `to` as the sender wrote it.
    pub packet: Packet,
    /// Its archive id.
    pub mid: ArchiveId,
    /// What may be kept and copied.
    pub traits: Traits,
}

impl Message {
    /// It adds to what waits for the database, and its sender can be told that it may not.
    pub fn is_refusable(&self) -> bool {
        let kept = self.traits.archive_sent || self.traits.archive_received || self.traits.offline;
        kept && self.packet.header.kind != Kind::Message(MessageType::Error)
    }
}

/// What may be done with a message besides delivering it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traits {
    /// The sender's archive keeps it.
    pub archive_sent: bool,
    /// The recipient's archive keeps it (IM-85).
    pub archive_received: bool,
    /// It waits for a recipient who is away (IM-60).
    pub offline: bool,
    /// Carbons are made of it (IM-75).
    pub carbon: bool,
    /// It is worth a push notification (IM-105).
    pub important: bool,
}

impl Relay {
    /// Shows each account that it is for.
    pub(super) fn each_account(&self, show: &mut impl FnMut(&BareJid)) {
        match self {
            Self::Message(message) => addressee(&message.packet, show),
            Self::Iq { packet, .. } | Self::Subscription(packet) => addressee(packet, show),
            Self::Presence { to, .. } => to.iter().for_each(|to| show(&to.bare())),
            Self::Probe { to, .. } => to.iter().for_each(show),
            Self::RosterPush { account, .. }
            | Self::Announcement { account, .. }
            | Self::Hidden { account, .. }
            | Self::NoPush { account, .. }
            | Self::EndAll { account, .. }
            | Self::Blocklist { account, .. }
            | Self::Revealed { account, .. }
            | Self::Unkept { account, .. } => show(account),
            Self::Event { to, .. } => to.iter().for_each(|to| show(&to.jid.bare())),
            Self::LastEvents { session, .. } | Self::End { session, .. } => show(&session.bare()),
            // Everybody: one item for each shard.
            Self::Broadcast { .. } => {}
        }
    }

    /// About how many bytes the item takes while it waits.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Message(Message { packet, .. }) | Self::Unkept { packet, .. } => {
                64 + packet.size()
            }
            Self::Iq { packet, .. }
            | Self::Subscription(packet)
            | Self::RosterPush { packet, .. }
            | Self::Announcement { packet, .. } => 48 + packet.size(),
            Self::Presence { packet, to } => {
                48 + packet.size() + to.iter().map(|to| name(to.as_str())).sum::<usize>()
            }
            Self::Probe { to, .. } => 48 + to.iter().map(|to| name(to.as_str())).sum::<usize>(),
            Self::Hidden { mids, .. } => 48 + size_of_val(mids.as_slice()),
            Self::Blocklist { jids, .. } => {
                48 + jids.iter().map(|jid| name(jid.as_str())).sum::<usize>()
            }
            Self::Event { event, to } => {
                let to = to.iter().map(|to| name(to.jid.as_str()));
                48 + event.size() + to.sum::<usize>()
            }
            Self::LastEvents { events, rest, .. } => {
                let rest = rest.as_ref().map_or(0, LastEvents::size);
                128 + rest + events.iter().map(NodeEvent::size).sum::<usize>()
            }
            Self::Broadcast { packet, .. } => 128 + packet.size(),
            Self::EndAll { .. }
            | Self::End { .. }
            | Self::NoPush { .. }
            | Self::Revealed { .. } => 48,
        }
    }
}

/// Bytes of an address among others.
fn name(text: &str) -> usize {
    16 + text.len()
}

/// Shows the account that a stanza is for.
pub(super) fn addressee(packet: &Packet, show: &mut impl FnMut(&BareJid)) {
    if let Some(to) = &packet.header.to {
        show(&to.bare());
    }
}
