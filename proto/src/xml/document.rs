//! Reads a document of any length of which the outer elements only hold others together, as bytes come in.
//!
//! Whoever reads it says of each outer element whether it is opened: then it is given out without its children, which
//! follow one by one. All others are given out whole, and each is bounded like a stanza. Documents come from operators
//! and not from the network; they are read by the same strict rules, so comments, processing instructions and entities
//! of their own are refused.

use super::element::Element;
use super::error::{Measured, ReadError, Shape};
use super::tag::check_declaration;
use super::token::{Budget, Piece, Tokenizer};
use super::tree::{Tree, utf8};
use crate::limit::Limits;

/// How deep elements may be opened.
const MOST_OPEN: usize = 16;

/// What a document consists of.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// An element was opened; it is the last one of [`Document::path`].
    Open,
    /// A complete element, whose parent is the last one of [`Document::path`].
    Element(Element),
    /// The innermost open element has ended, and is the last one of [`Document::path`] no more.
    Close,
}

/// The reader of a document.
#[derive(Debug)]
pub struct Document {
    limits: Limits,
    tokens: Tokenizer,
    tree: Tree,
    path: Vec<Element>,
    /// Its declaration was read, or something that it cannot stand behind.
    declared: bool,
    /// An element was read.
    begun: bool,
    /// The innermost open element was an empty one, whose end is still to be given out.
    ending: bool,
    /// Bytes of the present element that came in complete pieces.
    used: usize,
}

impl Document {
    /// A reader at the start of a document; `limits` hold for each element that is given out.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            tokens: Tokenizer::new(),
            tree: Tree::new(""),
            path: Vec::new(),
            declared: false,
            begun: false,
            ending: false,
            used: 0,
        }
    }

    /// Appends bytes. The caller takes all parts before it feeds more.
    pub fn feed(&mut self, input: &[u8]) {
        self.tokens.feed(input);
    }

    /// The elements that are open, the outermost first, without their children.
    pub fn path(&self) -> &[Element] {
        &self.path
    }

    /// Whether the document is complete.
    pub fn has_ended(&self) -> bool {
        self.begun && self.path.is_empty() && self.tree.is_idle() && self.tokens.rest().is_empty()
    }

    /// The next part, if its last byte came. `opens` says whether an element is opened of which the path is given; the
    /// outermost one always is. An error is final.
    pub fn next(
        &mut self,
        opens: impl Fn(&[Element], &Element) -> bool,
    ) -> Result<Option<Part>, ReadError> {
        if self.ending {
            self.ending = false;
            self.path.pop();
            return Ok(Some(Part::Close));
        }
        loop {
            if self.tree.is_idle() && !self.tokens.in_piece() {
                self.used = 0;
                self.tokens.skip_space();
                match self.tokens.rest().first() {
                    None => return Ok(None),
                    Some(b'<') if !self.path.is_empty() || !self.begun => {}
                    // Text between elements, or something behind the end.
                    Some(_) => return Err(ReadError::BadFormat),
                }
            }
            let budget = Budget {
                bytes: self.limits.stanza_bytes.saturating_sub(self.used),
                of: Measured::Stanza,
            };
            let Some((piece, range, length)) = self.tokens.next(budget)? else {
                return Ok(None);
            };
            self.used += length;
            let content = utf8(self.tokens.bytes(range))?;
            let outer = Outer {
                tree: &mut self.tree,
                path: &mut self.path,
                limits: &self.limits,
            };
            let part = match piece {
                Piece::Declaration if !self.declared => {
                    check_declaration(content)?;
                    None
                }
                _ if outer.tree.is_idle() => outer.take(piece, content, &opens)?,
                _ => outer.inner(piece, content)?,
            };
            self.ending = piece == Piece::Empty && part == Some(Part::Open);
            self.declared = true;
            self.begun |= piece != Piece::Declaration;
            self.tokens.release();
            if part.is_some() {
                return Ok(part);
            }
        }
    }
}

/// What pieces between elements that are given out change.
struct Outer<'a> {
    tree: &'a mut Tree,
    path: &'a mut Vec<Element>,
    limits: &'a Limits,
}

impl Outer<'_> {
    /// Takes a piece that does not belong to an element which is read as a whole.
    fn take(
        self,
        piece: Piece,
        content: &str,
        opens: &impl Fn(&[Element], &Element) -> bool,
    ) -> Result<Option<Part>, ReadError> {
        match piece {
            Piece::End => {
                self.tree.leave(content)?;
                self.path.pop();
                Ok(Some(Part::Close))
            }
            Piece::Start | Piece::Empty => {
                let element = self.tree.enter(content, self.limits)?;
                if !self.path.is_empty() && !opens(self.path, &element) {
                    let whole = self.tree.begin(piece, element, self.limits)?;
                    return Ok(whole.map(Part::Element));
                }
                if self.path.len() == MOST_OPEN {
                    return Err(ReadError::PolicyViolation(Shape::Depth));
                }
                self.path.push(element);
                if piece == Piece::Empty {
                    self.tree.forget();
                }
                Ok(Some(Part::Open))
            }
            // Neither text nor a section of it stands between elements.
            Piece::Text | Piece::CData => Err(ReadError::BadFormat),
            Piece::Declaration => Err(ReadError::NotWellFormed),
        }
    }

    /// Takes a piece of an element that is read as a whole.
    fn inner(self, piece: Piece, content: &str) -> Result<Option<Part>, ReadError> {
        let element = self.tree.accept(piece, content, self.limits)?;
        Ok(element.map(Part::Element))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a document consists of, in short: `+name`, the element, `-`. It is fed in pieces of so many bytes.
    fn read(xml: &str, step: usize) -> Result<Vec<String>, ReadError> {
        let mut document = Document::new(Limits::after_auth());
        let opens =
            |path: &[Element], element: &Element| path.len() < 3 && element.local() != "whole";
        let mut parts = Vec::new();
        for bytes in xml.as_bytes().chunks(step) {
            document.feed(bytes);
            while let Some(part) = document.next(opens)? {
                parts.push(match part {
                    Part::Open => format!("+{}", document.path().last().unwrap().local()),
                    Part::Element(element) => element.to_xml("u"),
                    Part::Close => "-".to_owned(),
                });
            }
        }
        match document.has_ended() {
            true => Ok(parts),
            false => Err(ReadError::NotWellFormed),
        }
    }

    #[track_caller]
    fn check(xml: &str, expect: &[&str]) {
        for step in [1, 7, xml.len()] {
            assert_eq!(read(xml, step).unwrap(), expect, "{step}");
        }
    }

    #[test]
    fn outer_elements_are_opened_and_inner_ones_are_whole() {
        check(
            "<?xml version='1.0'?>\n<a xmlns='u'>\n <b>\n<c n='1'> <d>text<e/></d> <d/> </c> <c/></b>\n</a>\n",
            &[
                "+a",
                "+b",
                "+c",
                "<d>text<e/></d>",
                "<d/>",
                "-",
                "+c",
                "-",
                "-",
                "-",
            ],
        );
        check(
            "<a xmlns='u' xmlns:p='v'><p:whole><b/></p:whole><whole/><b/></a>",
            &[
                "+a",
                "<whole xmlns='v'><b xmlns='u'/></whole>",
                "<whole/>",
                "+b",
                "-",
                "-",
            ],
        );
        check("<whole xmlns='u'/>", &["+whole", "-"]);
    }

    #[test]
    fn what_is_no_document_is_refused() {
        for wrong in [
            "",
            "<a>",
            "<a></b>",
            "<a/><a/>",
            "<a>text</a>",
            "<a><b>text</b></a>",
            "<a><![CDATA[text]]></a>",
            "<a/>text",
            "text",
            "<a><!-- a comment --></a>",
            "<!DOCTYPE a [<!ENTITY b 'c'>]><a/>",
            "<a><?xml version='1.0'?></a>",
            "<a xmlns:x='y'><b/></a><x:c/>",
        ] {
            assert!(read(wrong, 3).is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_element_is_bounded_and_the_document_is_not() {
        let part = format!("<whole>{}</whole>", "x".repeat(1000));
        let long = format!("<a xmlns='u'>{}</a>", part.repeat(1000));
        assert_eq!(read(&long, 4096).unwrap().len(), 1002);
        let part = format!("<whole>{}</whole>", "x".repeat(crate::limit::STANZA_BYTES));
        let large = format!("<a xmlns='u'>{part}</a>");
        assert_eq!(read(&large, 4096), Err(ReadError::TooBig(Measured::Stanza)));
        let deep = "<a>".repeat(1000);
        assert!(read(&deep, 4096).is_err());
    }
}
