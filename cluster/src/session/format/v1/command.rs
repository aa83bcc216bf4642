//! Commands.

use proto::{BareJid, Jid};

use super::relay::{Completed, EndReason, Relay};
use super::stanza::Packet;
use crate::id::{BootId, Mid, NodeId, Owner, ShardId, SmId};
use crate::session;
use crate::session::format::upgrade::{mirror_enum, mirror_struct};

mirror_enum!(Command => session::Command {
    Bind(Bind),
    Enable(Enable),
    Resume(Resume),
    Inbound(Inbound),
    Acknowledge(Acknowledge),
    Lost { session: Jid, epoch: u64 },
    Overdue { session: Jid, epoch: u64 },
    End { session: Jid, epoch: Option<u64>, reason: EndReason },
    NodeLost { node: NodeId, alive: Option<BootId> },
    Relay { from: ShardId, first: u64, items: Vec<Relay> },
    Trim { to: ShardId, upto: u64 },
    SetLimits { account: BareJid, limits: Option<Limits> },
    Done(Vec<Completed>),
    Tick,
});

mirror_struct!(Bind => session::Bind {
    session: Jid,
    owner: Owner,
});

mirror_struct!(Enable => session::Enable {
    session: Jid,
    epoch: u64,
    after: u64,
    smid: Option<SmId>,
    max: u32,
    seed: u32,
});

mirror_struct!(Resume => session::Resume {
    account: BareJid,
    smid: SmId,
    h: u32,
    owner: Owner,
});

mirror_struct!(Inbound => session::Inbound {
    session: Jid,
    epoch: u64,
    first: u64,
    stanzas: Vec<Vec<Action>>,
});

mirror_struct!(Acknowledge => session::Acknowledge {
    session: Jid,
    epoch: u64,
    upto: u64,
});

mirror_struct!(Limits => session::Limits {
    hibernated: Option<u32>,
    old: Option<u32>,
});

mirror_enum!(Action => session::Action {
    Reply(Packet),
    Send(Relay),
    Presence(PresenceUpdate),
    Directed(Packet),
    Carbons(bool),
    Interested,
    Push(bool),
    ArchiveAware { from: u64, upto: u64, hidden: Vec<Mid> },
});

mirror_struct!(PresenceUpdate => session::PresenceUpdate {
    packet: Packet,
    priority: i8,
    subscribers: Vec<BareJid>,
    probes: Vec<BareJid>,
    requests: Vec<Packet>,
});
