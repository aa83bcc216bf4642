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
use crate::limit::Limits;
use crate::ns;
use crate::xml::{Element, attribute, is_one_element};

/// The end of the root that is made of `<open/>`. It declares no default namespace, so that an element without one of
/// its own has none.
const ROOT_END: &[u8] = b"</_:stream>";
/// How the machine begins its header.
const HEADER: &str = "<stream:stream";

/// Where the client's half of the stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inward {
    /// `<open/>` must come.
    Awaited,
    /// It came.
    Open,
}

/// See the module.
#[derive(Debug)]
pub struct Framing {
    inward: Inward,
    authenticated: bool,
    closed: bool,
    /// What the machine wrote and is no complete message yet.
    pending: Vec<u8>,
    /// How far it was looked at.
    scanned: usize,
    /// Where the last tag began.
    tag: usize,
    depth: usize,
}

impl Default for Framing {
    fn default() -> Self {
        Self {
            inward: Inward::Awaited,
            authenticated: false,
            closed: false,
            pending: Vec::new(),
            scanned: 0,
            tag: 0,
            depth: 0,
        }
    }
}

impl Framing {
    /// The client is logged in, so that it may send more at a time.
    pub fn is_authenticated(&self) -> bool {
        self.authenticated
    }

    /// Stanzas may flow, and white space between them is a sign of life (ST-21).
    pub fn is_live(&self) -> bool {
        self.authenticated && self.inward == Inward::Open
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
        match (framing.as_ref().map(Element::local), self.inward) {
            (Some("open"), Inward::Awaited) => {
                self.inward = Inward::Open;
                Ok(framing.as_ref().map(root).unwrap_or_default())
            }
            (Some("close"), Inward::Open) => Ok(ROOT_END.to_vec()),
            (None, Inward::Open) => Ok(message.as_bytes().to_vec()),
            (Some(_), _) | (None, Inward::Awaited) => Err(StreamError::new(Condition::BadFormat)),
        }
    }

    /// The messages that what the machine wrote completes.
    pub fn outward(&mut self, bytes: &[u8]) -> Vec<String> {
        self.pending.extend_from_slice(bytes);
        let (mut messages, mut from) = (Vec::new(), 0);
        while let Some(end) = self.complete() {
            let piece = String::from_utf8_lossy(&self.pending[from..end]).into_owned();
            from = end;
            messages.extend(self.message(piece));
        }
        self.pending.drain(..from);
        self.scanned -= from;
        self.tag = self.tag.saturating_sub(from);
        if self.pending.is_empty() {
            // An idle stream should cost little.
            self.pending = Vec::new();
        }
        messages
    }

    /// Where the next piece ends that is a message. Our own writer escapes both brackets in text and in attributes
    /// (T-3), so they are nothing but the ends of tags.
    fn complete(&mut self) -> Option<usize> {
        while self.scanned < self.pending.len() {
            let byte = self.pending[self.scanned];
            self.scanned += 1;
            match byte {
                b'<' => self.tag = self.scanned - 1,
                b'>' if self.ends_message() => return Some(self.scanned),
                _ => {}
            }
        }
        None
    }

    /// Takes a tag; whether a message is complete with it.
    fn ends_message(&mut self) -> bool {
        let tag = &self.pending[self.tag..self.scanned];
        let is_root = self.depth == 0
            && (tag.starts_with(HEADER.as_bytes())
                || tag.starts_with(b"</")
                || tag.starts_with(b"<?"));
        if is_root {
            return true;
        }
        if tag.starts_with(b"</") {
            self.depth -= 1;
        } else if !tag.ends_with(b"/>") {
            self.depth += 1;
        }
        self.depth == 0
    }

    /// A piece as it is sent; none for the XML declaration.
    fn message(&mut self, piece: String) -> Option<String> {
        if piece.starts_with("<?") {
            return None;
        }
        if piece.starts_with("</") {
            self.closed = true;
            return Some(format!("<close xmlns='{}'/>", ns::FRAMING));
        }
        if let Some(header) = piece.strip_prefix(HEADER) {
            return Some(open(header));
        }
        let name = piece.len() - piece[1..].trim_start_matches(is_of_name).len();
        let (begin, rest) = piece.split_at(name);
        if begin == "<success" {
            self.authenticated = true;
            // With SASL2 the same stream goes on.
            if rest.starts_with(&format!(" xmlns='{}'", ns::SASL)) {
                self.inward = Inward::Awaited;
            }
        }
        Some(match begin.starts_with("<stream:") {
            true => format!(
                "{begin} xmlns='{}' xmlns:stream='{}'{rest}",
                ns::CLIENT,
                ns::STREAM
            ),
            false if rest.starts_with(" xmlns='") => piece,
            false => format!("{begin} xmlns='{}'{rest}", ns::CLIENT),
        })
    }
}

/// Whether a character may stand in the name of one of our tags.
fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.')
}

/// The root that `<open/>` stands for.
fn root(open: &Element) -> Vec<u8> {
    let mut out = b"<_:stream".to_vec();
    attribute("xmlns:_", ns::STREAM, &mut out);
    for name in ["to", "from", "version"] {
        if let Some(value) = open.attr(name) {
            attribute(name, value, &mut out);
        }
    }
    if let Some(lang) = open.attr_ns("lang", ns::XML) {
        attribute("xml:lang", lang, &mut out);
    }
    out.push(b'>');
    out
}

/// `<open/>` with the attributes of our header, but for the namespaces that it declares.
fn open(attributes: &str) -> String {
    let declared = [("xmlns", ns::CLIENT), ("xmlns:stream", ns::STREAM)];
    let mut attributes = attributes.trim_end_matches('>');
    for (name, uri) in declared {
        let declaration = format!(" {name}='{uri}'");
        attributes = attributes.strip_prefix(&declaration).unwrap_or(attributes);
    }
    format!("<open xmlns='{}'{attributes}/>", ns::FRAMING)
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
