//! Why input is refused.

use std::fmt;

/// Why input was refused. The stream ends in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Not well-formed, or not with regard to namespaces, or not UTF-8 (ST-86).
    #[error("the XML is not well-formed")]
    NotWellFormed,
    /// A comment, processing instruction, DTD or entity (ST-84).
    #[error("the XML uses what XMPP forbids")]
    RestrictedXml,
    /// Another encoding than UTF-8 is declared (ST-85).
    #[error("the encoding is not UTF-8")]
    UnsupportedEncoding,
    /// Well-formed, yet no XMPP: text between first-level elements (ST-21).
    #[error("text stands between first-level elements")]
    BadFormat,
    /// More bytes than the limit (ST-88).
    #[error("the {0} is too big")]
    TooBig(Measured),
    /// Another limit is passed (T-7).
    #[error("too many or too long {0}")]
    PolicyViolation(Shape),
}

/// What is limited in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measured {
    /// The stream header.
    Header,
    /// A first-level element.
    Stanza,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "stream header",
            Self::Stanza => "first-level element",
        })
    }
}

/// What is limited by other counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Levels of elements.
    Depth,
    /// Attributes of an element.
    Attributes,
    /// Namespace declarations.
    Declarations,
    /// Elements in a first-level element.
    Elements,
    /// Bytes of a name.
    Name,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Depth => "levels",
            Self::Attributes => "attributes",
            Self::Declarations => "namespace declarations",
            Self::Elements => "elements",
            Self::Name => "names",
        })
    }
}
