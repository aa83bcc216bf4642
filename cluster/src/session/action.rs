//! What a client's stanza amounts to, decided by the edge.

use proto::BareJid;
use proto::stanza::Packet;
use serde::{Deserialize, Serialize};

use super::blocklist::BlocklistUpdate;
use super::relay::{Relay, addressee};
use crate::id::{ArchiveId, Order};

/// What a client's stanza amounts to, decided by the edge with rosters and accounts at hand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// An answer to the client itself.
    Reply(Packet),
    /// Something for an account, its own or another, of whichever shard.
    Send(Relay),
    /// The session's own presence changes (no `to`).
    Presence(PresenceUpdate),
    /// Directed presence: `to` is put on or taken off the list, the stanza is sent (IM-46).
    Directed(Packet),
    /// Carbons are switched (XEP-0280).
    Carbons(bool),
    /// The client asked for its roster and gets pushes from now on.
    Interested,
    /// The client has registered a service that can wake it, or has none any more.
    PushEnabled(bool),
    /// An answer to the client itself: this message from its archive. Once the client has acknowledged it, it
    /// gets it nowhere else (IM-63).
    Result {
        /// The archive id.
        mid: ArchiveId,
        /// The place in the archive: [`ArchiveRow::order`](super::ArchiveRow::order).
        order: Order,
        /// The stanza.
        packet: Packet,
    },
    /// The client asked whom its account has blocked and is told of changes from now on (XEP-0191).
    FollowsBlocklist,
    /// The client has changed its account's blocklist.
    Blocklist(BlocklistUpdate),
    /// The database has this state of the account's blocklist; 0 = none.
    BlocklistAt(u64),
    /// The account has said what its archive is to keep (XEP-0441): the database knows it.
    ArchiveStated,
    /// The client wants to hear of these nodes, of whomever it sees (XEP-0163).
    Interest(Vec<Box<str>>),
}

/// A presence broadcast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PresenceUpdate {
    /// The stanza, `from` the full JID, without `to`; available or unavailable.
    pub packet: Packet,
    /// Its priority, −128…127; ignored when unavailable.
    pub priority: i8,
    /// Contacts that may see it (subscription from or both), of any shard.
    pub subscribers: Vec<BareJid>,
    /// Contacts whose presence is wanted and permitted (initial presence only), of any shard.
    pub probes: Vec<BareJid>,
    /// Pending subscription requests to show to this session (initial presence only).
    pub requests: Vec<Packet>,
}

impl Action {
    /// Shows each account that it reaches beside the session's own.
    pub(crate) fn each_account(&self, show: &mut impl FnMut(&BareJid)) {
        match self {
            Self::Send(relay) => relay.each_account(show),
            Self::Directed(packet) => addressee(packet, show),
            Self::Presence(update) => {
                update.subscribers.iter().for_each(&mut *show);
                update.probes.iter().for_each(show);
            }
            Self::Blocklist(update) => {
                update.viewers.iter().for_each(|to| show(&to.bare()));
                update.probes.iter().for_each(show);
            }
            Self::Reply(_)
            | Self::Carbons(_)
            | Self::Interested
            | Self::FollowsBlocklist
            | Self::BlocklistAt(_)
            | Self::ArchiveStated
            | Self::Interest(_)
            | Self::PushEnabled(_)
            | Self::Result { .. } => {}
        }
    }

    /// The bytes of an answer to the client itself, if it is one.
    pub(crate) fn answer_size(&self) -> usize {
        match self {
            Self::Reply(packet) | Self::Result { packet, .. } => packet.size(),
            Self::Send(_)
            | Self::Presence(_)
            | Self::Directed(_)
            | Self::Carbons(_)
            | Self::Interested
            | Self::FollowsBlocklist
            | Self::Blocklist(_)
            | Self::BlocklistAt(_)
            | Self::ArchiveStated
            | Self::Interest(_)
            | Self::PushEnabled(_) => 0,
        }
    }

    /// About how many bytes it takes where it waits, but for the names of many accounts.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Send(relay) => relay.size(),
            Self::Directed(packet) => 48 + packet.size(),
            Self::Presence(update) => 48 + update.packet.size(),
            Self::Blocklist(update) => update.size(),
            Self::Reply(_)
            | Self::Carbons(_)
            | Self::Interested
            | Self::FollowsBlocklist
            | Self::BlocklistAt(_)
            | Self::ArchiveStated
            | Self::PushEnabled(_)
            | Self::Result { .. } => 0,
            Self::Interest(nodes) => nodes.iter().map(|node| 16 + node.len()).sum(),
        }
    }
}
