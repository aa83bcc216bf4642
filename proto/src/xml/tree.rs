//! Builds elements from pieces.

use super::element::Element;
use super::error::{Measured, ReadError, Shape};
use super::tag::Scope;
use super::text;
use super::token::{Budget, Piece, Tokenizer};
use crate::limit::Limits;

/// The elements that are open, and the scope that they stand in.
#[derive(Debug)]
pub(super) struct Tree {
    scope: Scope,
    /// The names of open elements as written, one behind the other, and where each begins.
    names: String,
    begins: Vec<usize>,
    open: Vec<Element>,
    elements: usize,
    /// Bytes of namespaces that the writer would have to spell out for the first-level element.
    spelled: usize,
}

impl Tree {
    /// A tree where `default` is the default namespace.
    pub(super) fn new(default: &str) -> Self {
        Self {
            scope: Scope::new(default),
            names: String::new(),
            begins: Vec::new(),
            open: Vec::new(),
            elements: 0,
            spelled: 0,
        }
    }

    /// Whether no element is being built.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// The default namespace of the innermost open element.
    pub(super) fn default_ns(&self) -> &str {
        self.scope.default_ns()
    }

    /// Opens an element that has no tree of its own: the root of a stream.
    pub(super) fn enter(&mut self, tag: &str, limits: &Limits) -> Result<Element, ReadError> {
        let (name, element) = self.scope.enter(tag, limits)?;
        self.begins.push(self.names.len());
        self.names.push_str(name);
        Ok(element)
    }

    /// Closes the innermost open element, whose name must be the same as written.
    pub(super) fn leave(&mut self, tag: &str) -> Result<(), ReadError> {
        let name = tag.trim_end_matches([' ', '\t', '\r', '\n']);
        let begin = self.begins.pop().ok_or(ReadError::NotWellFormed)?;
        if self.names[begin..] != *name {
            return Err(ReadError::NotWellFormed);
        }
        self.names.truncate(begin);
        self.scope.leave();
        Ok(())
    }

    /// Takes a piece of a first-level element; the element when it is complete.
    pub(super) fn accept(
        &mut self,
        piece: Piece,
        content: &str,
        limits: &Limits,
    ) -> Result<Option<Element>, ReadError> {
        match piece {
            Piece::Start | Piece::Empty => self.start(piece, content, limits),
            Piece::End => {
                let element = self.open.pop().ok_or(ReadError::NotWellFormed)?;
                self.leave(content)?;
                Ok(self.attach(element))
            }
            Piece::Text | Piece::CData => {
                let parent = self.open.last_mut().ok_or(ReadError::NotWellFormed)?;
                let text = match piece {
                    Piece::CData => text::cdata(content)?,
                    _ => text::text(content)?,
                };
                parent.push_text(&text);
                Ok(None)
            }
            Piece::Declaration => Err(ReadError::NotWellFormed),
        }
    }

    fn start(
        &mut self,
        piece: Piece,
        tag: &str,
        limits: &Limits,
    ) -> Result<Option<Element>, ReadError> {
        if self.open.len() >= limits.depth {
            return Err(ReadError::PolicyViolation(Shape::Depth));
        }
        let element = self.enter(tag, limits)?;
        self.begin(piece, element, limits)
    }

    /// Takes an element whose tag was [entered](Self::enter); the first-level element if it is complete.
    pub(super) fn begin(
        &mut self,
        piece: Piece,
        element: Element,
        limits: &Limits,
    ) -> Result<Option<Element>, ReadError> {
        if self.open.is_empty() {
            self.elements = 0;
            self.spelled = 0;
        }
        self.elements += 1;
        if self.elements > limits.elements {
            return Err(ReadError::PolicyViolation(Shape::Elements));
        }
        self.spell(&element, limits)?;
        if piece == Piece::Start {
            self.open.push(element);
            return Ok(None);
        }
        self.forget();
        Ok(self.attach(element))
    }

    /// Closes the innermost element, which is an empty one and has no end tag.
    pub(super) fn forget(&mut self) {
        let name = self.begins.pop().unwrap_or(0);
        self.names.truncate(name);
        self.scope.leave();
    }

    /// Counts what the writer will add: one long namespace behind a short prefix, used a thousand times,
    /// must not make us send a thousand long namespaces (T-9).
    fn spell(&mut self, element: &Element, limits: &Limits) -> Result<(), ReadError> {
        let parent = self.open.last().map_or("", Element::ns);
        if element.ns() != parent {
            self.spelled += element.ns().len();
        }
        self.spelled += element.attrs().map(|a| a.ns().len()).sum::<usize>();
        match self.spelled > limits.stanza_bytes {
            true => Err(ReadError::TooBig(Measured::Stanza)),
            false => Ok(()),
        }
    }

    /// Gives a complete element to its parent, or out if it has none.
    fn attach(&mut self, element: Element) -> Option<Element> {
        match self.open.last_mut() {
            Some(parent) => {
                parent.push(element);
                None
            }
            None => Some(element),
        }
    }
}

impl Element {
    /// Reads one complete element that declares its namespaces itself.
    pub fn parse(input: impl AsRef<[u8]>) -> Result<Self, ReadError> {
        Self::parse_within("", input.as_ref(), &Limits::own())
    }

    /// Reads one complete element that came from outside, for instance in a frame of its own.
    pub fn parse_within(ns: &str, input: &[u8], limits: &Limits) -> Result<Self, ReadError> {
        let mut elements = read_all(ns, input, limits)?;
        match (elements.pop(), elements.is_empty()) {
            (Some(element), true) => Ok(element),
            _ => Err(ReadError::NotWellFormed),
        }
    }

    /// Reads the elements that our own writer wrote for a parent whose default namespace is `ns`.
    pub fn parse_in(ns: &str, input: impl AsRef<[u8]>) -> Result<Vec<Self>, ReadError> {
        read_all(ns, input.as_ref(), &Limits::own())
    }
}

/// Reads elements with nothing but white space between them.
fn read_all(ns: &str, input: &[u8], limits: &Limits) -> Result<Vec<Element>, ReadError> {
    let mut tokens = Tokenizer::new();
    tokens.feed(input);
    let mut tree = Tree::new(ns);
    let mut elements = Vec::new();
    let mut used = 0;
    loop {
        if tree.is_idle() {
            used = 0;
            tokens.skip_space();
            match tokens.rest().first() {
                None => return Ok(elements),
                Some(b'<') => {}
                Some(_) => return Err(ReadError::NotWellFormed),
            }
        }
        let budget = Budget {
            bytes: limits.stanza_bytes.saturating_sub(used),
            of: Measured::Stanza,
        };
        let next = tokens.next(budget)?;
        let (piece, range, length) = next.ok_or(ReadError::NotWellFormed)?;
        used += length;
        let content = utf8(tokens.bytes(range))?;
        elements.extend(tree.accept(piece, content, limits)?);
    }
}

/// Whether a message is one complete element and nothing else, not even white space around it. It is not judged any
/// further: whoever reads it does that.
pub(crate) fn is_one_element(message: &str) -> Result<bool, ReadError> {
    let mut tokens = Tokenizer::new();
    tokens.feed(message.as_bytes());
    let budget = Budget {
        bytes: usize::MAX,
        of: Measured::Stanza,
    };
    let mut depth = 0_usize;
    if !message.starts_with('<') {
        return Ok(false);
    }
    loop {
        let next = tokens.next(budget)?.ok_or(ReadError::NotWellFormed)?;
        match next.0 {
            Piece::Start => depth += 1,
            Piece::End if depth > 0 => depth -= 1,
            Piece::End | Piece::Declaration => return Ok(false),
            Piece::Empty | Piece::Text | Piece::CData => {}
        }
        if depth == 0 {
            return Ok(tokens.rest().is_empty());
        }
    }
}

/// A piece as text. Pieces end at ASCII characters, so none cuts a character in two.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, ReadError> {
    std::str::from_utf8(bytes).map_err(|_| ReadError::NotWellFormed)
}
