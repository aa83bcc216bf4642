//! Message, presence and iq: a header around a payload.
//!
//! A stanza has two forms. [`Stanza`] is parsed, for code that reads or changes its payload.
//! [`Packet`] is written: its payload is bytes of our own writer, made once, shared by every copy that
//! travels, waits in a queue or is replicated. Headers stay apart, so that a copy with another address,
//! a delay or a stanza-id costs no second serialisation.

pub mod error;
mod header;
mod kind;
mod packet;
mod parse;
mod tree;

pub use error::{Condition, ErrorType, StanzaError};
pub use header::Header;
pub use kind::{IqType, Kind, MessageType, PresenceType};
pub use packet::Packet;
pub use parse::ParseError;
pub use tree::Stanza;
