//! What services do with a message before it goes to the shard.

use cluster::session::{Action, Traits};
use proto::BareJid;
use proto::stanza::Stanza;

use super::content::Content;

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

/// Says what a message of this content may be used for. What is not said is not so.
pub type Classify = fn(Content, &mut Traits);
