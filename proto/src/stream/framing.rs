//! A stream in messages of WebSocket (RFC 7395): between them and the bytes that a [`Stream`](super::Stream) knows.
//!
//! Over WebSocket a stream has no root. Each message is one complete element that declares its own namespaces, and
//! `<open/>` and `<close/>` stand for the two tags of the root. That is all that differs, so [`Framing`] makes a root
//! of the one and messages of the other, and the machine behind it need not know. It does no I/O.
//!
//! # Invariants
//!
//! 1. What is handed to the machine is one complete element or one tag of the root, never a part or two of them (WS-1).
//! 2. A root is begun only where the machine awaits one: at first and after a login of RFC 6120 (WS-2).
//! 3. What the machine writes leaves in the same order, one message for each element, whatever it was cut into.

#![allow(
    clippy::result_large_err,
    reason = "an error is rare, and ends the stream"
)]

use super::error::{Condition, StreamError};
use super::written::{Piece, Progress, Written};
use crate::limit::Limits;
use crate::ns;
use crate::xml::{Element, attribute, is_one_element};

/// The end of the root that is made of `<open/>`. It declares no default namespace, so that an element without one of
/// its own has none.
pub(super) const ROOT_END: &[u8] = b"</_:stream>";

/// See the module.
#[derive(Debug, Default)]
pub struct Framing {
    progress: Progress,
    written: Written,
    closed: bool,
}

impl Framing {
    /// The client is logged in, so that it may send more at a time.
    pub fn is_authenticated(&self) -> bool {
        self.progress.is_authenticated()
    }

    /// Stanzas may flow, and white space between them is a sign of life (ST-21).
    pub fn is_live(&self) -> bool {
        self.progress.is_live()
    }

    /// Our `<close/>` is among the messages that were given out.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// What a message of the client means to the machine.
    pub fn inward(&mut self, message: &str) -> Result<Vec<u8>, StreamError> {
        if !is_one_element(message)? {
            return Err(StreamError::new(Condition::BadFormat));
        }
        // Where the word stands is for the parser to say; where it does not, none is needed.
        let element = match message.contains(ns::FRAMING) {
            true => Some(Element::parse_within(
                "",
                message.as_bytes(),
                &Limits::before_auth(),
            )),
            false => None,
        };
        let framing = element.and_then(Result::ok);
        let framing = framing.filter(|element| element.ns() == ns::FRAMING);
        let is_open = self.progress.is_open();
        match (framing.as_ref().map(Element::local), is_open) {
            (Some("open"), false) => {
                self.progress.opened();
                let open = framing.as_ref();
                Ok(open
                    .map(|open| root(open, open.attr("version")))
                    .unwrap_or_default())
            }
            (Some("close"), true) => Ok(ROOT_END.to_vec()),
            (None, true) => Ok(message.as_bytes().to_vec()),
            (Some(_), _) | (None, false) => Err(StreamError::new(Condition::BadFormat)),
        }
    }

    /// The messages that what the machine wrote completes.
    pub fn outward(&mut self, bytes: &[u8]) -> Vec<String> {
        let pieces = self.written.take(bytes);
        pieces
            .into_iter()
            .map(|piece| self.message(piece))
            .collect()
    }

    /// A piece as it is sent.
    fn message(&mut self, piece: Piece) -> String {
        match piece {
            Piece::Open(attributes) => format!("<open xmlns='{}'{attributes}/>", ns::FRAMING),
            Piece::Close => {
                self.closed = true;
                format!("<close xmlns='{}'/>", ns::FRAMING)
            }
            Piece::Element(element) => {
                self.progress.note(&element);
                element
            }
        }
    }
}

/// The root that an element with its attributes stands for.
pub(super) fn root(open: &Element, version: Option<&str>) -> Vec<u8> {
    let mut out = b"<_:stream".to_vec();
    attribute("xmlns:_", ns::STREAM, &mut out);
    let told = [
        ("to", open.attr("to")),
        ("from", open.attr("from")),
        ("version", version),
        ("xml:lang", open.attr_ns("lang", ns::XML)),
    ];
    for (name, value) in told {
        if let Some(value) = value {
            attribute(name, value, &mut out);
        }
    }
    out.push(b'>');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: &str =
        "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='localhost' version='1.0'/>";
    const CLOSE: &str = "<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>";

    fn opened() -> Framing {
        let mut framing = Framing::default();
        framing.inward(OPEN).unwrap();
        framing
    }

    #[track_caller]
    fn refused(framing: &mut Framing, message: &str, expect: Condition) {
        let error = framing.inward(message).unwrap_err();
        assert_eq!(error.condition, expect, "{message}");
    }

    #[test]
    fn ws_1_a_message_is_one_complete_element() {
        let bad = [
            "",
            " ",
            "text",
            " <r xmlns='urn:xmpp:sm:3'/>",
            "<r xmlns='urn:xmpp:sm:3'/> ",
            "<r xmlns='urn:xmpp:sm:3'/><r xmlns='urn:xmpp:sm:3'/>",
            "<a xmlns='x'></a></_:stream>",
            "</_:stream>",
            "<?xml version='1.0'?><r xmlns='urn:xmpp:sm:3'/>",
        ];
        for message in bad {
            refused(&mut opened(), message, Condition::BadFormat);
        }
        for message in ["<a xmlns='x'>", "<a xmlns='x'><b></b>", "<a", "<a><b>"] {
            refused(&mut opened(), message, Condition::NotWellFormed);
        }
        refused(&mut opened(), "<!-- -->", Condition::RestrictedXml);
        let good = "<a xmlns='x' b='&gt;>'>1 &lt; <![CDATA[<b>]]> <c/></a>";
        assert_eq!(opened().inward(good).unwrap(), good.as_bytes());
    }

    #[test]
    fn ws_2_open_and_close_are_the_root() {
        let mut framing = Framing::default();
        refused(
            &mut framing,
            "<iq xmlns='jabber:client'/>",
            Condition::BadFormat,
        );
        refused(&mut framing, CLOSE, Condition::BadFormat);
        let root = framing.inward(OPEN).unwrap();
        let expect =
            "<_:stream xmlns:_='http://etherx.jabber.org/streams' to='localhost' version='1.0'>";
        assert_eq!(String::from_utf8(root).unwrap(), expect);
        refused(&mut framing, OPEN, Condition::BadFormat);
        assert_eq!(framing.inward(CLOSE).unwrap(), ROOT_END);
    }

    #[test]
    fn ws_2_a_stream_begins_anew_after_a_login_of_the_first_kind_only() {
        let mut framing = opened();
        framing.outward(b"<success xmlns='urn:xmpp:sasl:2'><x/></success>");
        assert!(framing.is_live());
        refused(&mut framing, OPEN, Condition::BadFormat);
        let mut framing = opened();
        framing.outward(b"<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
        assert!(framing.is_authenticated() && !framing.is_live());
        framing.inward(OPEN).unwrap();
        assert!(framing.is_live());
    }

    const WRITTEN: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
        xmlns:stream='http://etherx.jabber.org/streams' from='localhost' id='7' version='1.0' xml:lang='en'>\
        <stream:features><bind xmlns='urn:b'/></stream:features><message to='a'><body>1&gt;2</body><x xmlns='y'>\
        <message/></x></message><presence/><r xmlns='urn:xmpp:sm:3'/>\
        <stream:error><a xmlns='b'/></stream:error></stream:stream>";

    fn sent() -> [&'static str; 7] {
        [
            "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' from='localhost' id='7' version='1.0' xml:lang='en'/>",
            "<stream:features xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>\
             <bind xmlns='urn:b'/></stream:features>",
            "<message xmlns='jabber:client' to='a'><body>1&gt;2</body><x xmlns='y'><message/></x></message>",
            "<presence xmlns='jabber:client'/>",
            "<r xmlns='urn:xmpp:sm:3'/>",
            "<stream:error xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>\
             <a xmlns='b'/></stream:error>",
            CLOSE,
        ]
    }

    #[test]
    fn ws_1_each_element_is_a_message_with_its_namespaces_however_it_is_cut() {
        for size in [1, 2, 3, 7, 64, WRITTEN.len()] {
            let mut framing = Framing::default();
            let pieces = WRITTEN.as_bytes().chunks(size);
            let messages: Vec<_> = pieces.flat_map(|piece| framing.outward(piece)).collect();
            assert_eq!(messages, sent(), "{size}");
            assert!(framing.is_closed());
            for message in &messages {
                Element::parse(message).unwrap();
            }
        }
    }
}
