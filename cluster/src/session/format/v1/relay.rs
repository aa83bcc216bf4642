//! What crosses from shard to shard, and what effects bring back.

use proto::{BareJid, Jid};
use serde::Deserialize;

use super::stanza::Packet;
use crate::id::{ArchiveId, EffectId};
use crate::session;
use crate::session::format::upgrade::{Upgrade, mirror_enum, mirror_struct};

/// By hand, because two have other names today.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::session) enum Relay {
    Message(Message),
    Iq {
        packet: Packet,
        permitted: bool,
    },
    Presence {
        packet: Packet,
        to: Vec<Jid>,
    },
    Probe {
        from: Jid,
        to: Vec<BareJid>,
    },
    Subscription(Packet),
    Push {
        account: BareJid,
        packet: Packet,
    },
    Notice {
        account: BareJid,
        packet: Packet,
        available: bool,
    },
    Hidden {
        account: BareJid,
        mids: Vec<ArchiveId>,
    },
    NoPush {
        account: BareJid,
        resource: Box<str>,
    },
    EndAll {
        account: BareJid,
        reason: EndReason,
    },
}

impl Upgrade<session::Relay> for Relay {
    fn upgrade(self) -> session::Relay {
        match self {
            Self::Message(message) => session::Relay::Message(message.upgrade()),
            Self::Iq { packet, permitted } => session::Relay::Iq {
                packet: packet.upgrade(),
                permitted,
            },
            Self::Presence { packet, to } => session::Relay::Presence {
                packet: packet.upgrade(),
                to,
            },
            Self::Probe { from, to } => session::Relay::Probe { from, to },
            Self::Subscription(packet) => session::Relay::Subscription(packet.upgrade()),
            Self::Push { account, packet } => session::Relay::RosterPush {
                account,
                packet: packet.upgrade(),
            },
            Self::Notice {
                account,
                packet,
                available,
            } => session::Relay::Announcement {
                account,
                packet: packet.upgrade(),
                available,
            },
            Self::Hidden { account, mids } => session::Relay::Hidden { account, mids },
            Self::NoPush { account, resource } => session::Relay::NoPush { account, resource },
            Self::EndAll { account, reason } => session::Relay::EndAll {
                account,
                reason: reason.upgrade(),
            },
        }
    }
}

mirror_struct!(Message => session::Message {
    packet: Packet,
    mid: ArchiveId,
    traits: Traits,
});

mirror_struct!(Traits => session::Traits {
    archive_sent: bool,
    archive_received: bool,
    offline: bool,
    carbon: bool,
    important: bool,
});

mirror_enum!(EndReason => session::EndReason {
    Closed,
    Lost,
    Expired,
    Conflict,
    Limit,
    Admin,
    Violation,
    Credentials,
    Overflow,
});

mirror_struct!(Completed => session::Completed {
    id: EffectId,
    relays: Vec<Relay>,
    messages: Vec<Fetched>,
});

mirror_struct!(Fetched => session::Fetched {
    mid: ArchiveId,
    stamp: u64,
    archived: bool,
    packet: Packet,
});

mirror_enum!(Effect => session::Effect {
    Archive(ArchiveRow),
    Forget { account: BareJid, mids: Vec<ArchiveId> },
    Fetch { session: Jid, mids: Vec<ArchiveId> },
    Return { account: BareJid, mids: Vec<ArchiveId> },
    Subscription(Packet),
    Push { account: BareJid, resource: Box<str>, count: u32, message: Option<Packet> },
    Unavailable { packet: Packet } with { directed: Vec::new(), after: None, among: session::Among::All },
});

mirror_struct!(ArchiveRow => session::ArchiveRow {
    owner: BareJid,
    mid: ArchiveId,
    order: u64,
    with: Jid,
    stamp: u64,
    hidden: bool,
    packet: Packet,
});
