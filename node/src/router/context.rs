//! The session whose stanzas are resolved.

use std::sync::Arc;

use proto::{BareJid, Jid};

use crate::hooks::{Edge, Memory, Registry, Sender};

/// The session whose stanza is resolved.
#[derive(Clone)]
pub struct SessionContext {
    /// What it shares with the others of the node.
    pub edge: Arc<Edge>,
    /// What services have attached.
    pub services: Arc<Registry>,
    /// Its full JID.
    pub session: Jid,
    /// Its account.
    pub account: BareJid,
    /// Its last presence without an address was an available one.
    pub available: bool,
    /// What services remember of its connection.
    pub memory: Memory,
}

impl SessionContext {
    /// What services see of it.
    pub fn sender(&self) -> Sender<'_> {
        Sender {
            edge: &self.edge,
            session: &self.session,
            account: &self.account,
            memory: &self.memory,
        }
    }
}
