//! Commands.

use proto::{BareJid, Jid};
use serde::Deserialize;

use super::relay::{Completed, EndReason, Relay};
use super::stanza::Packet;
use crate::id::{ArchiveId, BootId, NodeId, Owner, ShardId, SmId};
use crate::session;
use crate::session::format::upgrade::{Upgrade, mirror_enum, mirror_struct};

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

#[derive(Clone, Debug, Deserialize)]
pub(in crate::session) struct Inbound {
    session: Jid,
    epoch: u64,
    first: u64,
    stanzas: Vec<Vec<Action>>,
}

impl Upgrade<session::Inbound> for Inbound {
    fn upgrade(self) -> session::Inbound {
        let actions = |stanza: Vec<Action>| stanza.into_iter().filter_map(Action::upgrade);
        let stanzas = self.stanzas.into_iter();
        session::Inbound {
            session: self.session,
            epoch: self.epoch.upgrade(),
            first: self.first,
            stanzas: stanzas.map(|stanza| actions(stanza).collect()).collect(),
        }
    }
}

mirror_struct!(Acknowledge => session::Acknowledge {
    session: Jid,
    epoch: u64,
    upto: u64,
});

mirror_struct!(Limits => session::Limits {
    hibernated: Option<u32>,
    old: Option<u32>,
});

/// By hand, because one is gone that said which part of the archive a client would read.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::session) enum Action {
    Reply(Packet),
    Send(Relay),
    Presence(PresenceUpdate),
    Directed(Packet),
    Carbons(bool),
    Interested,
    Push(bool),
    #[expect(dead_code, reason = "it is read to get past it")]
    ArchiveAware {
        from: u64,
        upto: u64,
        hidden: Vec<ArchiveId>,
    },
}

impl Upgrade<Option<session::Action>> for Action {
    fn upgrade(self) -> Option<session::Action> {
        Some(match self {
            Self::Reply(packet) => session::Action::Reply(packet.upgrade()),
            Self::Send(relay) => session::Action::Send(relay.upgrade()),
            Self::Presence(update) => session::Action::Presence(update.upgrade()),
            Self::Directed(packet) => session::Action::Directed(packet.upgrade()),
            Self::Carbons(on) => session::Action::Carbons(on),
            Self::Interested => session::Action::Interested,
            Self::Push(on) => session::Action::PushEnabled(on),
            // Some messages come once more then.
            Self::ArchiveAware { .. } => return None,
        })
    }
}

mirror_struct!(PresenceUpdate => session::PresenceUpdate {
    packet: Packet,
    priority: i8,
    subscribers: Vec<BareJid>,
    probes: Vec<BareJid>,
    requests: Vec<Packet>,
});
