//! What a service attaches to.
//!
//! A [`Service`] is one file in `services`, named in one list there. When the node starts, each service's
//! `register` is called with a [`Setup`] and says which iq payloads it answers, and for whom, and which
//! features it adds to disco. The router does the rest once, for all: finding the handler, decoding, the refusal of what
//! nobody handles, the reply. A [`Hook`] has a turn with messages or presence before they go to the
//! shard, an [`EffectHook`] carries out what follows from there, and a [`SessionHook`] hears what happens to sessions.
//! A [`Command`] is what a client may run by a form.
//! A service has its own table of the configuration ([`Setup::config`]) and its own tables of the database
//! ([`Setup::stored`]); what all of them want is known before either is read ([`Registry::needs`]).
//!
//! # Invariants
//!
//! 1. A payload has at most one handler for each verb and scope: [`Registry::new`] refuses a second.
//! 2. A feature is announced exactly where something stands behind it.
//! 3. Services import no router and routers no service; both meet here, and no files know each other in a circle.

#![allow(
    clippy::result_large_err,
    reason = "a refusal is rare, and becomes one reply at once"
)]

mod about;
mod barrier;
pub mod command;
mod contacts;
mod content;
mod edge;
mod effect;
mod iq;
mod memory;
mod message;
mod nodes;
pub mod permission;
mod phase;
pub mod portable;
mod presence;
mod refusal;
mod registry;
mod scope;
mod sender;
mod session;
mod turn;
mod visibility;

pub use about::AboutHook;
pub use barrier::{Barrier, Blocking};
pub use command::{Call, Command};
pub use contacts::Farewell;
pub use content::Content;
pub use edge::{ArchiveTail, Contacts, Edge, Nodes, Online, Presences};
pub use effect::{EffectHook, Work, completed, followed_by};
pub use iq::{AnswerHook, Empty, Payload, Reply, Request, Verb};
pub use memory::Memory;
pub use message::Message;
pub use nodes::{NodeInfo, Replacement, Told};
pub use phase::{EffectPhase, Phase};
pub use presence::Presence;
pub use refusal::refuse;
pub(crate) use refusal::{fail, failure};
pub use registry::{Clash, Needs, Registry, Service, Setup, Xep};
pub use scope::Scope;
pub use sender::{Sender, Target};
pub use session::{Heard, SessionHook};
pub use turn::{Hook, Turn, at_once, later};
pub use visibility::Visibility;
