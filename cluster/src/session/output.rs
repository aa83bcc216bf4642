//! What the owner of a session is told, by the replica on its own node.

use std::sync::Arc;

use proto::Jid;
use proto::stanza::Packet;
use serde::{Deserialize, Serialize};

use super::reason::EndReason;
use crate::id::{ArchiveId, Epoch, Order, Owner, SmId};

/// An entry of a session's outbound queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The stanza as the client gets it, without stanza-id and delay; of a carbon, the message that was copied.
    pub packet: Packet,
    /// When it was queued, milliseconds since 1970 by the leader's clock; of an offline message, when it was sent.
    pub stamp: u64,
    /// Its archive id: written as `<stanza-id by='account'/>` if `archived`.
    pub mid: Option<ArchiveId>,
    /// The account's archive holds it under `mid`.
    pub archived: bool,
    /// It was read back from the archive, where it was kept while the user was away or busy: it carries
    /// a delay (IM-61).
    pub offline: bool,
    /// It waits for the user's next session if this one ends without it (IM-60).
    pub keep: bool,
    /// Other sessions of the account got it too.
    pub shared: bool,
    /// Its place among the account's messages.
    pub order: Order,
    /// It repeats a message that went elsewhere.
    pub copy: Option<Copied>,
}

/// How a stanza repeats a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Copied {
    /// A carbon copy (XEP-0280): the wrapper is put around it when it is written.
    Carbon(Direction),
    /// A result from the client's archive (XEP-0313): this message, in the stanza as it is.
    Result(ArchiveId),
    /// What a node tells, in the stanza as it is. A session that hibernates holds the newest with this key.
    Event(u64),
}

/// Which way a message went of which there is a carbon copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// Another session of the account sent it.
    Sent,
    /// Another session of the account received it.
    Received,
}

impl Item {
    /// A stanza that nobody keeps.
    pub(crate) fn plain(packet: Packet, stamp: u64) -> Self {
        Self {
            packet,
            stamp,
            mid: None,
            archived: false,
            offline: false,
            keep: false,
            shared: false,
            order: Order::default(),
            copy: None,
        }
    }

    /// The message of which this is the stanza itself, and no copy.
    pub(crate) fn original(&self) -> Option<ArchiveId> {
        self.mid.filter(|_| self.copy.is_none())
    }
}

/// What the owner of a session is told, by the replica on its own node, in order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Output {
    /// The connection that it is for.
    pub owner: Owner,
    /// The session's full JID.
    pub session: Jid,
    /// The owner's epoch.
    pub epoch: Epoch,
    /// What.
    pub event: Event,
}

/// See [`Output`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Event {
    /// The resource is bound.
    Bound,
    /// Stream management is on.
    Enabled(Enabled),
    /// The session was taken over; what is unacknowledged follows as [`Event::Stanza`]s from `next`.
    Resumed(Resumed),
    /// A stanza for the client.
    Stanza {
        /// Its absolute number; consecutive.
        seq: u64,
        /// The stanza.
        item: Arc<Item>,
    },
    /// The connection no longer acts for the session.
    Detached(Detached),
}

/// See [`Event::Enabled`]. Stanzas with numbers from `next` on count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Enabled {
    /// The identifier, if resumable.
    pub smid: Option<SmId>,
    /// Hibernation time in seconds.
    pub max: u32,
    /// The number of the next stanza to the client.
    pub next: u64,
    /// Where both counters start.
    pub seed: u32,
}

/// What a connection may not have heard of its session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Unheard {
    /// Stream management, if it is on.
    pub enabled: Option<Enabled>,
    /// What is to be written, with numbers.
    pub stanzas: Vec<(u64, Arc<Item>)>,
}

/// See [`Event::Resumed`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resumed {
    /// The identifier.
    pub smid: SmId,
    /// Our inbound count, for `<resumed h=…/>`.
    pub h: u32,
    /// The absolute number of the next stanza from the client.
    pub next_in: u64,
    /// The absolute number of the next stanza to the client.
    pub next_out: u64,
    /// What the client's `h` says of `next_out`: stanza `n` counts as `h + (n - next_out) + 1`.
    pub acked: u32,
    /// Stanzas below this number were queued before the resume: they carry a delay.
    pub late: u64,
}

/// Why a connection no longer acts for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Detached {
    /// Another connection resumed it: close with `conflict`.
    Resumed,
    /// The session is over.
    Ended(EndReason),
    /// The cluster took this node for dead: close, the client may resume.
    Fenced,
}
