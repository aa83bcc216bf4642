//! XEP-0334: what the sender wants to happen with a message.

use crate::ns;
use crate::stanza::Stanza;
use crate::xml::Element;

/// A hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Keep it although it has no body.
    Store,
    /// Keep it nowhere.
    NoStore,
    /// Keep it only until it is delivered.
    NoPermanentStore,
    /// No carbons of it.
    NoCopy,
}

impl Hint {
    /// Its element name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::NoStore => "no-store",
            Self::NoPermanentStore => "no-permanent-store",
            Self::NoCopy => "no-copy",
        }
    }

    /// Its element.
    pub fn to_element(self) -> Element {
        Element::new(self.name(), ns::HINTS)
    }

    /// Whether a stanza has it.
    pub fn is_in(self, stanza: &Stanza) -> bool {
        stanza.child(self.name(), ns::HINTS).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stanza::{Kind, MessageType};

    #[test]
    fn xep_0334_a_hint_is_found_by_name_and_namespace() {
        let message = Stanza::new(Kind::Message(MessageType::Chat))
            .with_child(Hint::NoStore.to_element())
            .with_child(Element::new("no-copy", "urn:x"));
        assert!(Hint::NoStore.is_in(&message));
        assert!(!Hint::NoCopy.is_in(&message));
        assert!(!Hint::Store.is_in(&message));
    }
}
