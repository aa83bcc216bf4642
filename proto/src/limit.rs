//! Every bound on what a peer may send, named once.

/// Bytes of a stream header, with the XML declaration and white space before it.
pub const HEADER_BYTES: usize = 2 * 1024;
/// Bytes of one first-level element before authentication (ST-88).
pub const STANZA_BYTES_BEFORE_AUTH: usize = 10_000;
/// Bytes of one first-level element after authentication (ST-88).
pub const STANZA_BYTES: usize = 256 * 1024;
/// Bytes of a stanza as our own writer writes it. Escapes make text up to six times longer, and what is longer
/// than this would not fit into an entry of the log or a row of the archive: it is refused before it is handled.
pub const WRITTEN_BYTES: usize = 448 * 1024;
/// Levels of elements within a first-level element, itself counted (T-7).
pub const DEPTH: usize = 64;
/// Attributes of one element, namespace declarations not counted (T-7).
pub const ATTRIBUTES: usize = 128;
/// Namespace declarations of one element (T-7).
pub const DECLARATIONS: usize = 32;
/// Namespace declarations in scope (T-7).
pub const DECLARATIONS_IN_SCOPE: usize = 128;
/// Elements in one first-level element, itself counted (T-7).
pub const ELEMENTS: usize = 4096;
/// The same before authentication (T-7).
pub const ELEMENTS_BEFORE_AUTH: usize = 32;
/// Bytes of a qualified name (T-7).
pub const NAME_BYTES: usize = 256;
/// Bytes of each part of an address (RFC 7622 §3.1).
pub const JID_PART_BYTES: usize = 1023;

/// What a [`Reader`](crate::xml::Reader) accepts at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes up to the end of the stream header.
    pub header_bytes: usize,
    /// Bytes of one first-level element.
    pub stanza_bytes: usize,
    /// Levels of elements within a first-level element.
    pub depth: usize,
    /// Attributes of one element.
    pub attributes: usize,
    /// Namespace declarations of one element.
    pub declarations: usize,
    /// Namespace declarations in scope.
    pub declarations_in_scope: usize,
    /// Elements within one first-level element.
    pub elements: usize,
    /// Bytes of a qualified name.
    pub name_bytes: usize,
}

impl Limits {
    /// For a peer that has not authenticated.
    pub const fn before_auth() -> Self {
        Self {
            stanza_bytes: STANZA_BYTES_BEFORE_AUTH,
            elements: ELEMENTS_BEFORE_AUTH,
            ..Self::after_auth()
        }
    }

    /// For a peer that has authenticated.
    pub const fn after_auth() -> Self {
        Self {
            header_bytes: HEADER_BYTES,
            stanza_bytes: STANZA_BYTES,
            depth: DEPTH,
            attributes: ATTRIBUTES,
            declarations: DECLARATIONS,
            declarations_in_scope: DECLARATIONS_IN_SCOPE,
            elements: ELEMENTS,
            name_bytes: NAME_BYTES,
        }
    }

    /// For bytes of our own writer, which wraps what it was given: a carbon of the largest and deepest
    /// stanza must be readable again. One level more per wrapper, and escapes make text six times longer.
    pub const fn own() -> Self {
        Self {
            header_bytes: HEADER_BYTES,
            stanza_bytes: 64 * STANZA_BYTES,
            depth: 2 * DEPTH,
            attributes: 2 * ATTRIBUTES,
            declarations: 2 * ATTRIBUTES,
            declarations_in_scope: usize::MAX,
            elements: 16 * ELEMENTS,
            name_bytes: 2 * NAME_BYTES,
        }
    }

    /// The same limits with another bound on the bytes of an element.
    pub const fn with_stanza_bytes(self, stanza_bytes: usize) -> Self {
        Self {
            stanza_bytes,
            ..self
        }
    }
}
