//! What may be proposed to a shard, and what comes back.

use proto::stanza::{Kind, MessageType, Packet};
use proto::{BareJid, Jid};
use serde::{Deserialize, Serialize};

use super::effect::{Completed, Effect};
use super::quota::Limits;
use crate::format::Version;
use crate::id::{BootId, Mid, NodeId, Owner, ShardId, SmId};

/// One log entry: commands that were waiting together, with the leader's clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// The leader's wall clock, milliseconds since 1970. The shard's time advances by clamped differences.
    pub now: u64,
    /// The commands, applied in order.
    pub commands: Vec<Command>,
}

/// Bounds that `apply` needs. A leader whose own differ from the shard's proposes them
/// ([`Command::Settings`]), so that replicas with other files agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Sessions of one account that may hibernate at a time; the oldest is ended first.
    pub max_hibernated_sessions: u32,
    /// Ended sessions of one account whose inbound count is kept.
    pub max_old_sessions: u32,
    /// Sessions of one account in all; 0 = no limit.
    pub sessions_per_account: u32,
    /// What becomes of unacknowledged messages.
    pub on_timeout: OnTimeout,
    /// How long an ended session's inbound count is kept, in milliseconds.
    pub old_session_ttl: u64,
    /// Undelivered messages that one account may have waiting.
    pub max_undelivered: u32,
    /// How long a session hibernates whose client can be woken, in milliseconds; less than without, none.
    pub push_hibernation_time: u64,
    /// Stanzas that a session holds in full; of more only what is needed to read them back. 0 = no limit.
    pub max_queue_stanzas: u32,
    /// The same in bytes.
    pub max_queue_bytes: u64,
    /// Stanzas that a session holds in any form; with more it ends. 0 = no limit.
    pub max_queue_ids: u32,
    /// Bytes that may wait for the database. A node lets in no more (see
    /// [`Cluster::admit`](crate::Cluster::admit)); `apply` takes what it is given. 0 = no limit.
    pub max_backlog_bytes: u64,
    /// Bytes that all sessions of one account hold together, before each is held to its share. 0 = no limit.
    pub max_account_queue_bytes: u64,
    /// Addresses that one session's directed presence is remembered for (T-51).
    pub max_directed: u32,
    /// Their bytes.
    pub max_directed_bytes: u64,
    /// After so many entries replicas compare hashes of their states; 0 = never.
    pub compared_after: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_hibernated_sessions: 10,
            max_old_sessions: 10,
            sessions_per_account: 20,
            on_timeout: OnTimeout::Archive,
            old_session_ttl: 24 * 3600 * 1000,
            max_undelivered: 1000,
            push_hibernation_time: 72 * 3600 * 1000,
            max_queue_stanzas: 2000,
            max_queue_bytes: 8 << 20,
            max_queue_ids: 50_000,
            max_backlog_bytes: 64 << 20,
            max_account_queue_bytes: 32 << 20,
            max_directed: 500,
            max_directed_bytes: 64 << 10,
            compared_after: 1_000,
        }
    }
}

/// The fate of unacknowledged messages when their session ends (`sm.on_timeout`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnTimeout {
    /// They go to the user's connected sessions, else they wait for the next one: the marker moves back.
    #[default]
    Archive,
    /// They return to their senders.
    Bounce,
    /// Neither.
    Silent,
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
        epoch: u64,
    },
    /// A client that is inactive (XEP-0352) has not said for long what it has: it counts as away for push (IM-105)
    /// until it does.
    Overdue {
        /// The session's full JID.
        session: Jid,
        /// The owner's epoch.
        epoch: u64,
    },
    /// The session ends now.
    End {
        /// The session's full JID.
        session: Jid,
        /// The owner's epoch; `None` = whoever owns it (an administrator's order).
        epoch: Option<u64>,
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
    /// A replica tells the hash of its state; see [`audit`](super::audit).
    Compare {
        /// Whose it is.
        node: NodeId,
        /// After so many entries.
        at: u64,
        /// The hash.
        hash: u64,
    },
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
    pub epoch: u64,
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
    pub epoch: u64,
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
    pub epoch: u64,
    /// The absolute number of the first stanza that the client does not have.
    pub upto: u64,
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EndReason {
    /// The client closed its stream.
    Closed,
    /// The connection was lost and the session could not be resumed.
    Lost,
    /// The hibernation time is over.
    Expired,
    /// Another connection claimed the resource.
    Conflict,
    /// Too many hibernated sessions; this was the oldest.
    Limit,
    /// An administrator ended it.
    Admin,
    /// The client broke the protocol.
    Violation,
    /// The account's credentials changed, or it is disabled.
    Credentials,
    /// More was queued for it than can be kept in any form.
    Overflow,
    /// The account was removed.
    Removed,
}

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
    Push(bool),
    /// An answer to the client itself: this message from its archive. Once the client has acknowledged it, it
    /// gets it nowhere else (IM-63).
    Result {
        /// The archive id.
        mid: Mid,
        /// The place in the archive: [`ArchiveRow::order`](super::ArchiveRow::order).
        order: u64,
        /// The stanza.
        packet: Packet,
    },
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
    Push {
        /// The account.
        account: BareJid,
        /// The iq, without `to`.
        packet: Packet,
    },
    /// A subscription stanza for an account's interested (or, with `available`, available) sessions.
    Notice {
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
        mids: Vec<Mid>,
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
        mid: Mid,
        /// Its stanza.
        packet: Packet,
    },
}

/// A message with what the edge found out about it in its one pass over the payload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The stanza, `from` the sender's full JID, `to` as the sender wrote it.
    pub packet: Packet,
    /// Its archive id.
    pub mid: Mid,
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

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// It took effect, and there is no more to say.
    Done,
    /// The session is bound.
    Bound {
        /// The owner's epoch.
        epoch: u64,
    },
    /// The session is taken over.
    Resumed {
        /// The session's full JID.
        session: Jid,
        /// The new owner's epoch.
        epoch: u64,
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
