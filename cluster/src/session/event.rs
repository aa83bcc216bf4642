//! What nodes of accounts tell (XEP-0060 §7.1.2), and who is told.

use std::sync::Arc;

use proto::stanza::Packet;
use proto::{BareJid, Jid};
use serde::{Deserialize, Serialize};

use super::output::{Copied, Item};

/// What a node tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeEvent {
    /// The message, `from` the bare JID of the node's account, without `to`.
    pub packet: Packet,
    /// The node.
    pub node: Box<str>,
    /// Of two events with the same key a session that hibernates holds the later one.
    pub key: u64,
}

/// Somebody who may hear of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Recipient {
    /// Of a bare JID, available sessions hear of it; of a full one, that session.
    pub jid: Jid,
    /// The sessions hear of it whether their clients have said that they want to or not.
    pub subscribed: bool,
}

/// What was published last is to be read for a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastEvents {
    /// Who gets it.
    pub session: Jid,
    /// What its client wants to hear of.
    pub nodes: Vec<Box<str>>,
    /// Only what this account has published; without, all that the session's account sees.
    pub owner: Option<BareJid>,
    /// It has got what stands up to here, in the order of accounts and nodes.
    pub after: Option<(BareJid, Box<str>)>,
}

impl LastEvents {
    /// About how many bytes it takes while it waits.
    pub(super) fn size(&self) -> usize {
        let nodes = self.nodes.iter().map(|node| 16 + node.len());
        128 + self.session.as_str().len() + nodes.sum::<usize>()
    }
}

impl NodeEvent {
    /// About how many bytes it takes while it waits.
    pub(super) fn size(&self) -> usize {
        32 + self.node.len() + self.packet.size()
    }

    /// Whose node it is.
    pub(super) fn owner(&self) -> Option<BareJid> {
        self.packet.header.from.as_ref().map(Jid::bare)
    }

    /// It as a stanza for this session.
    pub(super) fn item(&self, to: &Jid, stamp: u64) -> Arc<Item> {
        let mut packet = self.packet.clone();
        packet.header.to = Some(to.clone());
        Arc::new(Item {
            copy: Some(Copied::Event(self.key)),
            ..Item::plain(packet, stamp)
        })
    }
}
