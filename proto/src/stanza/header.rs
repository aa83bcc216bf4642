//! The attributes of a stanza, parsed or written.

use serde::{Deserialize, Serialize};

use super::kind::Kind;
use crate::jid::Jid;

/// The attributes of a stanza.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Element name and type.
    pub kind: Kind,
    /// The sender; the server stamps it, whatever the client wrote (ST-67).
    pub from: Option<Jid>,
    /// The addressee.
    pub to: Option<Jid>,
    /// Opaque, unique per sender only (ST-74).
    pub id: Option<Box<str>>,
    /// `xml:lang`.
    pub lang: Option<Box<str>>,
}

impl Header {
    /// A header without addresses and id.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            from: None,
            to: None,
            id: None,
            lang: None,
        }
    }

    /// The header of an answer: addresses swapped, the same id.
    pub fn reply(&self, kind: Kind) -> Self {
        Self {
            kind,
            from: self.to.clone(),
            to: self.from.clone(),
            id: self.id.clone(),
            lang: None,
        }
    }
}
