//! Who has sent a stanza, and whom it addresses.

use std::sync::Arc;

use proto::{BareJid, Jid};

use super::edge::Edge;
use super::memory::Memory;

/// The session whose client has sent a stanza.
#[derive(Clone, Copy)]
pub struct Sender<'a> {
    /// What it shares with the others of the node.
    pub edge: &'a Arc<Edge>,
    /// Its full JID.
    pub session: &'a Jid,
    /// Its account.
    pub account: &'a BareJid,
    /// What services remember of its connection.
    pub memory: &'a Memory,
}

impl Sender<'_> {
    /// Whom an address means.
    pub fn target(self, to: Option<&Jid>) -> Target {
        let Some(to) = to else {
            return Target::Own;
        };
        if !self.edge.serves(to.domain()) {
            return Target::Remote;
        }
        let bare = to.bare();
        match (to.local(), to.is_bare()) {
            (None, _) => Target::Host(bare),
            (Some(_), true) if bare == *self.account => Target::Own,
            (Some(_), true) => Target::Account(bare),
            (Some(_), false) => Target::Session(to.clone()),
        }
    }
}

/// Where a stanza goes.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// The sender's own bare JID, named or implied.
    Own,
    /// A domain of ours, with or without a resource.
    Host(BareJid),
    /// Another account of a domain of ours.
    Account(BareJid),
    /// A session of an account of ours, perhaps of the sender's own.
    Session(Jid),
    /// A domain that is not ours.
    Remote,
}
