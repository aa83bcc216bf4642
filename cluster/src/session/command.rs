//! What may be proposed to a shard, and what comes back.

use proto::stanza::Packet;
use proto::{BareJid, Jid};
use serde::{Deserialize, Serialize};

use super::action::Action;
use super::effect::{Completed, Effect};
use super::limits::Limits;
use super::reason::EndReason;
use super::relay::Relay;
use super::settings::Settings;
use crate::format::Version;
use crate::id::{ArchiveId, BootId, Epoch, NodeId, Owner, ShardId, SmId};

/// One log entry: commands that were waiting together, with the leader's clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// The leader's wall clock, milliseconds since 1970. The shard's time advances by clamped differences.
    pub now: u64,
    /// The commands, applied in order.
    pub commands: Vec<Command>,
}

/// What may be proposed. All of them may be repeated: a repeat changes nothing and answers the same or
/// [`Outcome::Stale`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// A resource is claimed (RFC 6120 §7).
    Bind(Bind),
    /// Stream management is switched on.
    Enable(Enable),
    /// A hibernated session, or one whose old connection still lives, is taken over.
    Resume(Resume),
    /// Stanzas from a client, resolved to actions by the edge.
    Inbound(Inbound),
    /// The client has everything below `upto`.
    Acknowledge(Acknowledge),
    /// The connection is gone without a close; a resumable session hibernates, another ends.
    Lost {
        /// The session's full JID.
        session: Jid,
        /// The owner's epoch.
        epoch: Epoch,
    },
    /// A client that is inactive (XEP-0352) has not said for long what it has: it counts as away for push (IM-105)
    /// until it does.
    Overdue {
        /// The session's full JID.
        session: Jid,
        /// The owner's epoch.
        epoch: Epoch,
    },
    /// The session ends now.
    End {
        /// The session's full JID.
        session: Jid,
        /// The owner's epoch; `None` = whoever owns it (an administrator's order).
        epoch: Option<Epoch>,
        /// Why, for events and metrics.
        reason: EndReason,
    },
    /// A process is gone: its sessions hibernate or end, a slice of them with each repeat.
    NodeLost {
        /// The node.
        node: NodeId,
        /// The run that is still alive, if the node came back: its sessions stay.
        alive: Option<BootId>,
    },
    /// Stanzas from another shard's outbox.
    Relay {
        /// The sending shard.
        from: ShardId,
        /// The number of the first item; what the cursor covers is skipped, a gap is refused.
        first: u64,
        /// The items, numbered from `first` without gaps.
        items: Vec<Relay>,
    },
    /// The receiver has confirmed everything below `upto`.
    Trim {
        /// The receiving shard.
        to: ShardId,
        /// The first number that is not confirmed.
        upto: u64,
    },
    /// An operator sets the limits of one account; `None` = as configured.
    SetLimits {
        /// The account.
        account: BareJid,
        /// Its limits.
        limits: Option<Limits>,
    },
    /// Pending effects have been carried out.
    Done(Vec<Completed>),
    /// Time passes: deadlines are looked at.
    Tick,
    /// The leader's settings are in force from now on.
    Settings(Settings),
    /// A pending effect has been carried out, and more follows from it than goes into one entry.
    DoneInPart {
        /// The effect, with what goes into this one.
        part: Completed,
        /// What is still to be done: an effect of its own from now on.
        rest: Effect,
    },
    /// A replica tells the hash of its state; all of them compare it with theirs.
    Compare {
        /// Whose it is.
        node: NodeId,
        /// After so many entries.
        at: u64,
        /// The hash.
        hash: u64,
    },
    /// The account's blocklist has changed in the database by itself, and is to be read anew.
    ReadBlocklist {
        /// The account.
        account: BareJid,
    },
    /// The account has said what its archive is to keep: the database knows it.
    ArchiveStated {
        /// The account.
        account: BareJid,
    },
    /// A session begins with all that its client asked for along with its login.
    Open(Open),
    /// The server says this in the name of an account of the shard, whose client has not asked for it. A repeat says it
    /// again.
    Send {
        /// What, and to whom.
        relays: Vec<Relay>,
    },
    /// The account is removed: its sessions end, and nothing is kept for the next one of its name.
    Forget {
        /// The account.
        account: BareJid,
    },
    /// A message of the server for everybody who is there.
    Broadcast {
        /// Which one: each shard shows it once.
        id: ArchiveId,
        /// The stanza, without `to`.
        packet: Packet,
    },
    /// A node is no longer a member of the cluster, for good.
    Retire {
        /// Its id: another disk in its seat is another node.
        node: NodeId,
    },
}

/// See [`Command::Open`]. Answered by [`Outcome::Bound`], after [`Event::Bound`](super::Event::Bound).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Open {
    /// The full JID that is claimed. A holder of the same resource is ended with a conflict.
    pub session: Jid,
    /// The connection.
    pub owner: Owner,
    /// The last part of the resources that this client has; older sessions of it are ended with a conflict as well.
    pub agent: Option<Box<str>>,
    /// Stream management is on from the beginning.
    pub sm: Option<OpenSm>,
    /// Copies of what goes to other sessions are wanted.
    pub carbons: bool,
}

/// Stream management of a session that begins with it. See [`Enable`] for the fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSm {
    /// The identifier, if the session may be resumed.
    pub smid: Option<SmId>,
    /// How long it may hibernate, in seconds.
    pub max: u32,
    /// Where both counters start.
    pub seed: u32,
}

/// See [`Command::Bind`]. Answered by [`Outcome::Bound`], after [`Event::Bound`](super::Event::Bound).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bind {
    /// The full JID that is claimed. A holder of the same resource is ended with a conflict.
    pub session: Jid,
    /// The connection.
    pub owner: Owner,
}

/// See [`Command::Enable`]. Answered by [`Outcome::Done`], after [`Event::Enabled`](super::Event::Enabled).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Enable {
    /// The session's full JID.
    pub session: Jid,
    /// The owner's epoch.
    pub epoch: Epoch,
    /// How many stanzas preceded `<enable/>` on this session: `h` counts from here (SM-16).
    pub after: u64,
    /// The identifier, if the session may be resumed.
    pub smid: Option<SmId>,
    /// How long it may hibernate, in seconds.
    pub max: u32,
    /// Where both counters start; 0 but in tests of the wrap-around.
    pub seed: u32,
}

/// See [`Command::Resume`]. Answered by [`Outcome::Resumed`] (after [`Event::Resumed`](super::Event::Resumed)) or
/// [`Outcome::NotResumed`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resume {
    /// The authenticated account: only its own sessions are looked at (SM-48).
    pub account: BareJid,
    /// The identifier.
    pub smid: SmId,
    /// How many stanzas the client handled.
    pub h: u32,
    /// The connection that takes over.
    pub owner: Owner,
}

/// See [`Command::Inbound`]. Answered by [`Outcome::Handled`] or [`Outcome::Stale`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inbound {
    /// The session's full JID.
    pub session: Jid,
    /// The owner's epoch.
    pub epoch: Epoch,
    /// The absolute number of the first stanza, from 1 for the first after binding.
    pub first: u64,
    /// For each stanza what follows from it, possibly nothing.
    pub stanzas: Vec<Vec<Action>>,
}

/// See [`Command::Acknowledge`]. Answered by [`Outcome::Done`] or [`Outcome::Stale`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Acknowledge {
    /// The session's full JID.
    pub session: Jid,
    /// The owner's epoch.
    pub epoch: Epoch,
    /// The absolute number of the first stanza that the client does not have.
    pub upto: u64,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// It took effect, and there is no more to say.
    Done,
    /// The session is bound.
    Bound {
        /// The owner's epoch.
        epoch: Epoch,
    },
    /// The session is taken over.
    Resumed {
        /// The session's full JID.
        session: Jid,
        /// The new owner's epoch.
        epoch: Epoch,
    },
    /// There is nothing to resume (SM-47).
    NotResumed {
        /// The inbound count of a session that is over, if it is still known.
        h: Option<u32>,
    },
    /// The client claims more than it was sent (SM-28); the session is ended.
    CountTooHigh {
        /// The claim.
        h: u32,
        /// What was sent.
        sent: u32,
    },
    /// All stanzas below this absolute number (exclusive) are handled.
    Handled {
        /// The number of the next stanza.
        next: u64,
    },
    /// The epoch is an older one, or there is no such session. Nothing was changed.
    Stale,
    /// A stanza or item is missing before the first of this command. Nothing was changed.
    Gap {
        /// The number that is expected.
        expected: u64,
    },
    /// The relayed items below `cursor` have taken effect.
    Relayed {
        /// The number of the next item.
        cursor: u64,
    },
    /// The account has too many sessions.
    TooManySessions,
    /// The command was not proposed, because some member of the cluster cannot apply it yet: it reads no format of
    /// this version. Once all are upgraded the same command works.
    NotYet {
        /// The version of the formats that brought the command.
        since: Version,
    },
}
