//! What services do with presence before it goes to the shard.

use cluster::session::Action;
use proto::BareJid;
use proto::stanza::{Packet, Stanza};

/// A broadcast, or a request about a subscription.
pub struct Presence {
    /// The stanza, without what only a server may say.
    pub stanza: Stanza,
    /// It makes the session available, which was not.
    pub initial: bool,
    /// Who may see a broadcast.
    pub subscribers: Vec<BareJid>,
    /// Whose presence its session is to be shown.
    pub probes: Vec<BareJid>,
    /// What its session is to be asked.
    pub requests: Vec<Packet>,
    /// What else follows. Of a request nothing follows but this.
    pub follow: Vec<Action>,
    /// It is dropped: those who have their turn later do not get it, and nothing follows but what does already.
    pub dropped: bool,
}

impl Presence {
    /// A stanza of which nothing is known yet.
    pub(crate) fn new(stanza: Stanza, initial: bool) -> Self {
        Self {
            stanza,
            initial,
            subscribers: Vec::new(),
            probes: Vec::new(),
            requests: Vec::new(),
            follow: Vec::new(),
            dropped: false,
        }
    }
}
