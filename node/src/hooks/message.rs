//! What services do with a message before it goes to the shard.

use cluster::session::{Action, Traits};
use proto::BareJid;
use proto::stanza::Stanza;
use proto::stanza::error::StanzaError;

use super::content::Content;
use super::sender::Sender;
use super::turn::Turn;

/// A message that is about to go to an account of ours, which exists.
pub struct Message {
    /// The message, without what only a server may say.
    pub stanza: Stanza,
    /// Whose it is to be.
    pub account: BareJid,
    /// What it may be used for besides delivery.
    pub traits: Traits,
    /// What happens before it is delivered.
    pub before: Vec<Action>,
}

/// Has a turn with each message. A function that takes the same is one, too.
///
/// Every message of every client comes here: what is no concern of the hook should be over without a wait.
pub trait MessageHook: Send + Sync + 'static {
    /// Looks at a message; an error refuses it.
    fn message<'a>(
        &'a self,
        sender: Sender<'a>,
        message: &'a mut Message,
    ) -> Turn<'a, Result<(), StanzaError>>;
}

impl<F> MessageHook for F
where
    F: Send + Sync + 'static,
    F: for<'a> Fn(Sender<'a>, &'a mut Message) -> Turn<'a, Result<(), StanzaError>>,
{
    fn message<'a>(
        &'a self,
        sender: Sender<'a>,
        message: &'a mut Message,
    ) -> Turn<'a, Result<(), StanzaError>> {
        self(sender, message)
    }
}

/// Says what a message of this content may be used for. What is not said is not so.
pub type Classify = fn(Content, &mut Traits);
