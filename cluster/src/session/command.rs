//! What may be proposed to a shard, and what comes back.

use std::sync::Arc;

use proto::stanza::Packet;
use proto::{BareJid, Jid};
use serde::{Deserialize, Serialize};

use crate::id::{BootId, EffectId, Mid, NodeId, Owner, ShardId, SmId};

/// One log entry: commands that were waiting together, with the leader's clock and settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// The leader's wall clock, milliseconds since 1970. The shard's time advances by clamped differences.
    pub now: u64,
    /// The leader's settings, so that replicas with other files agree.
    pub settings: Settings,
    /// The commands, applied in order.
    pub commands: Vec<Command>,
}

/// Bounds that `apply` needs.
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
        }
    }
}

/// The fate of unacknowledged messages when their session ends (`sm.on_timeout`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnTimeout {
    /// They wait for the user's next session; the marker moves back.
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
    /// The session ends now.
    End {
        /// The session's full JID.
        session: Jid,
        /// The owner's epoch; `None` = whoever owns it (an administrator's order).
        epoch: Option<u64>,
        /// Why, for events and metrics.
        reason: EndReason,
    },
    /// A process is gone: its sessions hibernate or end.
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
    /// Pending effects have been carried out.
    Done(Vec<Completed>),
    /// Time passes: deadlines are looked at.
    Tick,
}

/// See [`Command::Bind`]. Answered by [`Outcome::Bound`], after [`Event::Bound`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bind {
    /// The full JID that is claimed. A holder of the same resource is ended with a conflict.
    pub session: Jid,
    /// The connection.
    pub owner: Owner,
}

/// See [`Command::Enable`]. Answered by [`Outcome::Done`], after [`Event::Enabled`].
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

/// See [`Command::Resume`]. Answered by [`Outcome::Resumed`] (after [`Event::Resumed`]) or
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
    /// The account's credentials changed or it is gone.
    Credentials,
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
    /// The client fetches its archive by itself: no offline messages for it.
    ArchiveAware,
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
        /// The recipient's roster lets the sender see its presence (IM table D).
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
    /// An account's sessions end (its credentials changed, or it was removed).
    EndAll {
        /// The account.
        account: BareJid,
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
    pub mid: Mid,
    /// What may be kept and copied.
    pub traits: Traits,
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
}

/// An entry of a session's outbound queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The stanza as the client gets it, without stanza-id and delay.
    pub packet: Packet,
    /// When it was queued, milliseconds since 1970 by the leader's clock; of an offline message, when it was sent.
    pub stamp: u64,
    /// Its archive id: written as `<stanza-id by='account'/>` if `archived`.
    pub mid: Option<Mid>,
    /// The account's archive holds it under `mid`.
    pub archived: bool,
    /// It was kept while the user was away: it carries a delay (IM-61).
    pub offline: bool,
    /// It waits for the user's next session if this one ends without it (IM-60).
    pub keep: bool,
    /// Other sessions of the account got it too.
    pub shared: bool,
    /// Its place among the account's messages.
    pub order: u64,
}

/// What the owner of a session is told, by the replica on its own node, in order.
#[derive(Clone, Debug)]
pub struct Output {
    /// The connection that it is for.
    pub owner: Owner,
    /// The session's full JID.
    pub session: Jid,
    /// The owner's epoch.
    pub epoch: u64,
    /// What.
    pub event: Event,
}

/// See [`Output`].
#[derive(Clone, Debug)]
pub enum Event {
    /// The resource is bound.
    Bound,
    /// Stream management is on; stanzas with numbers from `next` on count.
    Enabled {
        /// The identifier, if resumable.
        smid: Option<SmId>,
        /// Hibernation time in seconds.
        max: u32,
        /// The number of the next stanza to the client.
        next: u64,
        /// Where both counters start.
        seed: u32,
    },
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

/// See [`Event::Resumed`].
#[derive(Clone, Debug, PartialEq)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detached {
    /// Another connection resumed it: close with `conflict`.
    Resumed,
    /// The session is over.
    Ended(EndReason),
    /// The cluster took this node for dead: close, the client may resume.
    Fenced,
}

/// Work outside of the shard that follows from an entry. Whoever leads the shard carries it out, again
/// after a change of leader if need be, and proposes [`Command::Done`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Effect {
    /// A row for the archive, keyed by (owner, mid).
    Archive(ArchiveRow),
    /// Hidden rows whose message has been delivered.
    Forget {
        /// The account.
        account: BareJid,
        /// The messages.
        mids: Vec<Mid>,
    },
    /// Messages that waited for the user are to be read back. Completed with [`Completed::messages`].
    Fetch {
        /// The session that gets them.
        session: Jid,
        /// Which, oldest first.
        mids: Vec<Mid>,
    },
    /// A subscription stanza has reached a local contact; completed with what follows from the roster.
    Subscription(Packet),
    /// A session is gone: its subscribers are to be told. Completed with [`Relay::Presence`] items.
    Unavailable {
        /// The stanza, `from` the full JID, without `to`.
        packet: Packet,
    },
}

/// A message for an account's archive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArchiveRow {
    /// Whose archive.
    pub owner: BareJid,
    /// The archive id; with `owner` the key.
    pub mid: Mid,
    /// The order in the archive: rises with each row of the shard.
    pub order: u64,
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
    pub mid: Mid,
    /// When it was handled, milliseconds since 1970.
    pub stamp: u64,
    /// It is in the archive to stay; hidden rows are not.
    pub archived: bool,
    /// The stanza.
    pub packet: Packet,
}
