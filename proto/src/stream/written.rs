//! What the machine wrote, taken apart again: the two tags of the root, and one complete element after the other.
//!
//! Over WebSocket and over BOSH a stream has no root, and each element stands alone (RFC 7395, XEP-0206). So that the
//! machine need not know, its bytes are cut here, and each element is given the namespaces that the root declared.
//!
//! # Invariants
//!
//! 1. Each piece is one complete element or one tag of the root, whatever the bytes were cut into.
//! 2. The pieces have the order of the bytes, and nothing but XML declarations is left out.

use crate::ns;

/// How the machine begins its header.
const HEADER: &str = "<stream:stream";

/// A part of what was written.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Our header; its attributes, but for the namespaces that it declares.
    Open(String),
    /// The end of our half.
    Close,
    /// An element that declares its namespaces.
    Element(String),
}

/// Where the client's half of the stream stands, as far as what carries it must know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    open: bool,
    authenticated: bool,
}

impl Progress {
    /// The root has come, and none is awaited.
    pub fn is_open(self) -> bool {
        self.open
    }

    /// The client is logged in, so that it may send more at a time.
    pub fn is_authenticated(self) -> bool {
        self.authenticated
    }

    /// Stanzas may flow, and white space between them is a sign of life (ST-21).
    pub fn is_live(self) -> bool {
        self.authenticated && self.open
    }

    /// The root has come.
    pub fn opened(&mut self) {
        self.open = true;
    }

    /// Looks at an element of ours: after a login of RFC 6120 another root must come; with SASL2 the same stream goes
    /// on.
    pub fn note(&mut self, element: &str) {
        let Some(rest) = element.strip_prefix("<success") else {
            return;
        };
        if !rest.starts_with(is_of_name) {
            self.authenticated = true;
            self.open &= !rest.starts_with(&format!(" xmlns='{}'", ns::SASL));
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Written {
    /// What is no complete piece yet.
    pending: Vec<u8>,
    /// How far it was looked at.
    scanned: usize,
    /// Where the last tag began.
    tag: usize,
    depth: usize,
}

impl Written {
    /// The pieces that these bytes complete.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<Piece> {
        self.pending.extend_from_slice(bytes);
        let (mut pieces, mut from) = (Vec::new(), 0);
        while let Some(end) = self.complete() {
            let text = String::from_utf8_lossy(&self.pending[from..end]).into_owned();
            from = end;
            pieces.extend(piece(text));
        }
        self.pending.drain(..from);
        self.scanned -= from;
        self.tag = self.tag.saturating_sub(from);
        if self.pending.is_empty() {
            // An idle stream should cost little.
            self.pending = Vec::new();
        }
        pieces
    }

    /// Where the next piece ends. Our own writer escapes both brackets in text and in attributes (T-3), so they are
    /// nothing but the ends of tags.
    fn complete(&mut self) -> Option<usize> {
        while self.scanned < self.pending.len() {
            let byte = self.pending[self.scanned];
            self.scanned += 1;
            match byte {
                b'<' => self.tag = self.scanned - 1,
                b'>' if self.ends_piece() => return Some(self.scanned),
                _ => {}
            }
        }
        None
    }

    /// Takes a tag; whether a piece is complete with it.
    fn ends_piece(&mut self) -> bool {
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
}

/// None for the XML declaration.
fn piece(text: String) -> Option<Piece> {
    if text.starts_with("<?") {
        return None;
    }
    if text.starts_with("</") {
        return Some(Piece::Close);
    }
    if let Some(header) = text.strip_prefix(HEADER) {
        return Some(Piece::Open(attributes(header)));
    }
    let name = text.len() - text[1..].trim_start_matches(is_of_name).len();
    let (begin, rest) = text.split_at(name);
    Some(Piece::Element(match begin.starts_with("<stream:") {
        true => format!(
            "{begin} xmlns='{}' xmlns:stream='{}'{rest}",
            ns::CLIENT,
            ns::STREAM
        ),
        false if rest.starts_with(" xmlns='") => text,
        false => format!("{begin} xmlns='{}'{rest}", ns::CLIENT),
    }))
}

/// Whether a character may stand in the name of one of our tags.
fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.')
}

/// The attributes of our header, but for the namespaces that it declares.
fn attributes(header: &str) -> String {
    let declared = [("xmlns", ns::CLIENT), ("xmlns:stream", ns::STREAM)];
    let mut attributes = header.trim_end_matches('>');
    for (name, uri) in declared {
        let declaration = format!(" {name}='{uri}'");
        attributes = attributes.strip_prefix(&declaration).unwrap_or(attributes);
    }
    attributes.to_owned()
}
