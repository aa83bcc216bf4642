//! A parsed stanza.

use super::header::Header;
use super::kind::{IqType, Kind};
use crate::jid::Jid;
use crate::xml::Element;

/// A header, and the elements below it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stanza {
    /// The attributes.
    pub header: Header,
    /// The child elements, in order.
    pub payload: Vec<Element>,
}

impl Stanza {
    /// A stanza without addresses, id and payload.
    pub fn new(kind: Kind) -> Self {
        Self {
            header: Header::new(kind),
            payload: Vec::new(),
        }
    }

    /// The empty result of a request.
    pub fn result(request: &Header) -> Self {
        Self {
            header: request.reply(Kind::Iq(IqType::Result)),
            payload: Vec::new(),
        }
    }

    /// The stanza with an addressee.
    pub fn with_to(mut self, to: Jid) -> Self {
        self.header.to = Some(to);
        self
    }

    /// The stanza with a sender.
    pub fn with_from(mut self, from: Jid) -> Self {
        self.header.from = Some(from);
        self
    }

    /// The stanza with an id.
    pub fn with_id(mut self, id: impl Into<Box<str>>) -> Self {
        self.header.id = Some(id.into());
        self
    }

    /// The stanza with a child appended.
    pub fn with_child(mut self, child: Element) -> Self {
        self.payload.push(child);
        self
    }

    /// The first child of this name.
    pub fn child(&self, local: &str, ns: &str) -> Option<&Element> {
        self.payload.iter().find(|child| child.is(local, ns))
    }
}
