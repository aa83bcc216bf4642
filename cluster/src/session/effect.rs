//! Work outside of a shard that follows from its entries, and what comes back.

use std::collections::BTreeSet;
use std::sync::Arc;

use proto::stanza::Packet;
use proto::{BareJid, Jid};
use serde::{Deserialize, Serialize};

use super::event::LastEvents;
use super::relay::Relay;
use crate::id::{ArchiveId, EffectId, Order, ShardId};

/// Work outside of the shard that follows from an entry. Whoever leads the shard carries it out, again
/// after a change of leader if need be, and proposes [`Command::Done`](super::Command::Done).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Effect {
    /// A row for the archive, keyed by (owner, mid).
    Archive(ArchiveRow),
    /// Hidden rows whose message has been delivered.
    Forget {
        /// The account.
        account: BareJid,
        /// The messages.
        mids: Vec<ArchiveId>,
    },
    /// Messages that waited for the user are to be read back. Completed with [`Completed::messages`].
    Fetch {
        /// The session that gets them.
        session: Jid,
        /// Which, oldest first.
        mids: Vec<ArchiveId>,
    },
    /// Messages are to be read back and returned to their senders, because the session that was to get
    /// them is over. Completed with [`Completed::messages`].
    Return {
        /// The account that they were for.
        account: BareJid,
        /// Which.
        mids: Vec<ArchiveId>,
    },
    /// A subscription stanza has reached a local contact; completed with what follows from the roster.
    Subscription(Packet),
    /// A client that is away is to be woken (XEP-0357). Completed with what the services are sent, or with
    /// [`Relay::NoPush`].
    Push {
        /// The account.
        account: BareJid,
        /// The client.
        resource: Box<str>,
        /// How many important messages have come since it was last connected.
        count: u32,
        /// The last of them; none if it is woken only because its session is about to end.
        message: Option<Packet>,
    },
    /// A session is gone: its subscribers are to be told. Completed with a [`Relay::Presence`] to them.
    Unavailable {
        /// The stanza, `from` the full JID, without `to`.
        packet: Packet,
        /// Others who are to be told: the session had directed its presence to them.
        directed: Vec<Jid>,
        /// Those up to here, in the order of their addresses, know it already.
        after: Option<BareJid>,
        /// Those of them who live here.
        among: Among,
    },
    /// An account's blocklist is to be read from the database. Completed with [`Relay::Blocklist`].
    Blocklist(BareJid),
    /// What was published last is to be read for a session. Completed with [`Relay::LastEvents`].
    LastEvents(LastEvents),
}

impl Effect {
    /// Bytes that it takes while it is pending, about.
    pub(crate) fn size(&self) -> u64 {
        let size = match self {
            Self::Archive(row) => row.packet.size(),
            Self::Forget { mids, .. } | Self::Fetch { mids, .. } | Self::Return { mids, .. } => {
                size_of_val(mids.as_slice())
            }
            Self::Subscription(packet) => packet.size(),
            Self::Unavailable {
                packet, directed, ..
            } => {
                let directed = directed.iter().map(|to| 16 + to.as_str().len());
                packet.size() + directed.sum::<usize>()
            }
            Self::Blocklist(_) => 0,
            Self::LastEvents(wanted) => wanted.size(),
            Self::Push { message, .. } => message.as_ref().map_or(0, Packet::size),
        };
        128 + size as u64
    }
}

/// Shards in which somebody may live.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Among {
    /// All of them.
    #[default]
    All,
    /// Only this one.
    Only(ShardId),
    /// All but these, whose accounts are told by themselves.
    Without(BTreeSet<ShardId>),
}

impl Among {
    /// Whether the shard is one of them.
    pub(super) fn contains(&self, shard: ShardId) -> bool {
        match self {
            Self::All => true,
            Self::Only(only) => *only == shard,
            Self::Without(without) => !without.contains(&shard),
        }
    }
}

/// A message for an account's archive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArchiveRow {
    /// Whose archive.
    pub owner: BareJid,
    /// The archive id; with `owner` the key.
    pub mid: ArchiveId,
    /// The order in the archive: rises with each row of the shard.
    pub order: Order,
    /// The other party.
    pub with: Jid,
    /// When the message was handled, milliseconds since 1970.
    pub stamp: u64,
    /// Not shown by MAM; kept only until it is delivered.
    pub hidden: bool,
    /// The stanza.
    pub packet: Packet,
}

/// A pending effect and its number.
#[derive(Clone, Debug)]
pub struct Pending {
    /// The number.
    pub id: EffectId,
    /// The work.
    pub effect: Arc<Effect>,
}

/// An effect that has been carried out, with what follows. A number that is no longer pending is skipped,
/// so that nothing follows twice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completed {
    /// Which.
    pub id: EffectId,
    /// What it asks the shard to send on.
    pub relays: Vec<Relay>,
    /// The messages that [`Effect::Fetch`] found, in the order asked for.
    pub messages: Vec<Fetched>,
}

/// A message that was read back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fetched {
    /// Its archive id.
    pub mid: ArchiveId,
    /// When it was handled, milliseconds since 1970.
    pub stamp: u64,
    /// It is in the archive to stay; hidden rows are not.
    pub archived: bool,
    /// The stanza.
    pub packet: Packet,
}
