//! Reads the header and the first-level elements of a stream, as bytes come in.
//!
//! The same bytes give the same tokens however they are cut, but for [`Token::Whitespace`], which is
//! given out as soon as any came. An error is final: nothing behind it is read.

use super::element::Element;
use super::error::{Measured, ReadError};
use super::tag::check_declaration;
use super::token::{Budget, Piece, Tokenizer};
use super::tree::{Tree, utf8};
use crate::limit::Limits;

/// What a stream consists of.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// The stream header: an element with attributes and no children.
    Open(Element),
    /// A complete first-level element.
    Element(Element),
    /// The end of the stream.
    Close,
    /// White space between first-level elements: a sign of life (ST-21).
    Whitespace,
}

/// Where in a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Before the header is complete.
    Prolog,
    /// Between header and end.
    Open,
    /// The header was an empty element, so its end is still to be given out.
    Ending,
    /// Behind the end.
    Closed,
    /// Behind an error.
    Failed(ReadError),
}

/// The reader of one direction of a stream.
#[derive(Debug)]
pub struct Reader {
    limits: Limits,
    tokens: Tokenizer,
    tree: Tree,
    phase: Phase,
    /// Bytes of the header or of the first-level element that came in complete pieces.
    used: usize,
}

impl Reader {
    /// A reader at the start of a stream.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            tokens: Tokenizer::new(),
            tree: Tree::new(""),
            phase: Phase::Prolog,
            used: 0,
        }
    }

    /// Appends received bytes. The caller takes all tokens before it feeds more, or bounds what waits.
    pub fn feed(&mut self, input: &[u8]) {
        if !matches!(self.phase, Phase::Failed(_)) {
            self.tokens.feed(input);
        }
    }

    /// The next token, if its last byte came. An error is returned again and again.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator would end for good"
    )]
    pub fn next(&mut self) -> Result<Option<Token>, ReadError> {
        let result = match self.phase {
            Phase::Failed(error) => return Err(error),
            _ => self.read(),
        };
        if let Err(error) = result {
            self.phase = Phase::Failed(error);
            self.tokens.take_rest();
        }
        result
    }

    /// Changes the limits, from the next byte that is looked at.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The default namespace of the stream header; the content namespace in the usual form (ST-8).
    pub fn content_ns(&self) -> &str {
        self.tree.default_ns()
    }

    /// Starts a new stream and forgets all of the old one but the bytes behind it (ST-11).
    pub fn reset(&mut self) {
        self.tree = Tree::new("");
        self.phase = Phase::Prolog;
        self.used = 0;
    }

    /// Whether bytes wait that no token has taken (T-19).
    pub fn has_rest(&self) -> bool {
        !self.tokens.rest().is_empty()
    }

    /// How many bytes wait that no token has taken.
    pub fn rest_len(&self) -> usize {
        self.tokens.rest().len()
    }

    /// Takes the bytes that no token has taken.
    pub fn take_rest(&mut self) -> Vec<u8> {
        self.tokens.take_rest()
    }

    fn read(&mut self) -> Result<Option<Token>, ReadError> {
        if self.phase == Phase::Ending {
            self.phase = Phase::Closed;
            return Ok(Some(Token::Close));
        }
        loop {
            if let Some(token) = self.between()? {
                return Ok(Some(token));
            }
            if self.tree.is_idle() && !self.has_rest() {
                return Ok(None);
            }
            let Some((piece, range, length)) = self.tokens.next(self.budget())? else {
                return Ok(None);
            };
            let first = self.used == 0;
            self.used += length;
            let content = utf8(self.tokens.bytes(range))?;
            let token = match self.phase {
                Phase::Open => Self::content(&mut self.tree, piece, content, &self.limits)?,
                _ => Self::prolog(&mut self.tree, piece, content, &self.limits, first)?,
            };
            self.tokens.release();
            match &token {
                None => continue,
                Some(Token::Open(_)) if piece == Piece::Empty => self.phase = Phase::Ending,
                Some(Token::Open(_)) => self.phase = Phase::Open,
                Some(Token::Close) => self.phase = Phase::Closed,
                Some(Token::Element(_) | Token::Whitespace) => {}
            }
            self.used = 0;
            return Ok(token);
        }
    }

    /// What stands between first-level elements and before the header: white space at most.
    fn between(&mut self) -> Result<Option<Token>, ReadError> {
        if !self.tree.is_idle() || self.tokens.in_piece() {
            return Ok(None);
        }
        let skipped = self.tokens.skip_space();
        if self.phase == Phase::Prolog {
            self.used += skipped;
            if self.used >= self.limits.header_bytes {
                return Err(ReadError::TooBig(Measured::Header));
            }
        } else if skipped > 0 {
            return Ok(Some(Token::Whitespace));
        }
        match (self.tokens.rest().first(), self.phase) {
            (None, _) | (Some(b'<'), Phase::Prolog | Phase::Open) => Ok(None),
            (Some(_), Phase::Open) => Err(ReadError::BadFormat),
            (Some(_), _) => Err(ReadError::NotWellFormed),
        }
    }

    fn budget(&self) -> Budget {
        let (limit, of) = match self.phase {
            Phase::Prolog => (self.limits.header_bytes, Measured::Header),
            _ => (self.limits.stanza_bytes, Measured::Stanza),
        };
        Budget {
            bytes: limit.saturating_sub(self.used),
            of,
        }
    }

    /// A piece before the header is complete. Only the very first may be an XML declaration.
    fn prolog(
        tree: &mut Tree,
        piece: Piece,
        content: &str,
        limits: &Limits,
        first: bool,
    ) -> Result<Option<Token>, ReadError> {
        match piece {
            Piece::Declaration if first => check_declaration(content).map(|()| None),
            Piece::Start | Piece::Empty => Ok(Some(Token::Open(tree.enter(content, limits)?))),
            _ => Err(ReadError::NotWellFormed),
        }
    }

    /// A piece behind the header.
    fn content(
        tree: &mut Tree,
        piece: Piece,
        content: &str,
        limits: &Limits,
    ) -> Result<Option<Token>, ReadError> {
        match piece {
            Piece::End if tree.is_idle() => {
                tree.leave(content)?;
                Ok(Some(Token::Close))
            }
            Piece::CData if tree.is_idle() => Err(ReadError::BadFormat),
            _ => Ok(tree.accept(piece, content, limits)?.map(Token::Element)),
        }
    }
}
