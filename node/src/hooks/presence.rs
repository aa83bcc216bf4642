//! What services do with presence before it goes to the shard.

use cluster::session::Action;
use proto::BareJid;
use proto::stanza::error::StanzaError;
use proto::stanza::{Packet, Stanza};

use super::sender::Sender;
use super::turn::Turn;

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
        }
    }
}

/// Has a turn with each broadcast and each request. A function that takes the same is one, too.
pub trait PresenceHook: Send + Sync + 'static {
    /// Looks at presence; an error refuses it.
    fn presence<'a>(
        &'a self,
        sender: Sender<'a>,
        presence: &'a mut Presence,
    ) -> Turn<'a, Result<(), StanzaError>>;
}

impl<F> PresenceHook for F
where
    F: Send + Sync + 'static,
    F: for<'a> Fn(Sender<'a>, &'a mut Presence) -> Turn<'a, Result<(), StanzaError>>,
{
    fn presence<'a>(
        &'a self,
        sender: Sender<'a>,
        presence: &'a mut Presence,
    ) -> Turn<'a, Result<(), StanzaError>> {
        self(sender, presence)
    }
}
