//! The XMPP protocol as pure code: it decides what bytes mean.
//!
//! Input and time go in, and output comes out. Nothing here opens a socket, reads a clock, draws a random number or
//! logs; the caller does. Every bound is named in [`limit`], every namespace in [`ns`].

#[doc(hidden)]
pub mod fuzzing;
pub mod jid;
pub mod limit;
pub mod ns;
pub mod payload;
pub mod rules;
pub mod sasl;
pub mod sm;
pub mod stanza;
pub mod stream;
pub mod xml;

pub use jid::{BareJid, Jid};
pub use xml::Element;
