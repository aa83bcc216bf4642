//! Cuts bytes into pieces: it finds where each tag and each run of text ends.
//!
//! It looks at every byte once, however the input is cut, and refuses at the first byte that proves a
//! violation. What a piece means is for [`super::tag`] and [`super::tree`] to say.

use std::ops::Range;

use super::error::{Measured, ReadError};
use super::grammar::is_space;

/// The kind of a complete piece, with what its range covers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Piece {
    /// Text up to the next `<`.
    Text,
    /// What stands within a CDATA section.
    CData,
    /// A start tag without its brackets.
    Start,
    /// A tag of an empty element, without brackets and slash.
    Empty,
    /// An end tag without brackets and slash.
    End,
    /// The XML declaration between `<?` and `?>`.
    Declaration,
}

/// What the bytes from `start` to `scan` have turned out to be.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Idle,
    Text,
    /// `<`
    Markup,
    /// `<!` and so many bytes of `[CDATA[`.
    Bang(usize),
    CData,
    /// `<?` and so many bytes of `xml`.
    Instruction(usize),
    Declaration(Within),
    Tag(Within),
    End,
}

/// Where in a tag or declaration.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Within {
    Names,
    Value(u8),
    /// Right behind a value, where a space or the end must follow.
    AfterValue,
}

const CDATA: &[u8] = b"[CDATA[";
const XML: &[u8] = b"xml";

/// How many more bytes may be read, and what is too big otherwise.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    pub(super) bytes: usize,
    pub(super) of: Measured,
}

/// The bytes that came and were not consumed, and how far they were looked at.
#[derive(Debug)]
pub(super) struct Tokenizer {
    buffer: Vec<u8>,
    start: usize,
    scan: usize,
    state: State,
}

/// An empty buffer that is larger than this is given back: an idle stream should cost little.
const KEPT_CAPACITY: usize = 256;

impl Tokenizer {
    pub(super) fn new() -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            scan: 0,
            state: State::Idle,
        }
    }

    /// Appends input. Moving the rest to the front costs no more than what was consumed before.
    pub(super) fn feed(&mut self, input: &[u8]) {
        if self.start * 2 >= self.buffer.len() {
            self.buffer.drain(..self.start);
            self.scan -= self.start;
            self.start = 0;
        }
        self.buffer.extend_from_slice(input);
    }

    /// The bytes that no piece has taken.
    pub(super) fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Whether a piece has begun and not ended.
    pub(super) fn in_piece(&self) -> bool {
        self.state != State::Idle
    }

    /// The bytes of a piece.
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.buffer[range]
    }

    /// Forgets all input; what was not consumed.
    pub(super) fn take_rest(&mut self) -> Vec<u8> {
        let rest = self.buffer.split_off(self.start);
        *self = Self::new();
        rest
    }

    /// Consumes white space between pieces; how much.
    pub(super) fn skip_space(&mut self) -> usize {
        let rest = self.rest();
        let other = rest.iter().position(|b| !is_space(*b));
        let count = other.unwrap_or(rest.len());
        self.start += count;
        self.scan = self.start;
        self.release();
        count
    }

    /// The next complete piece with its range and its whole length, if it came already.
    pub(super) fn next(
        &mut self,
        budget: Budget,
    ) -> Result<Option<(Piece, Range<usize>, usize)>, ReadError> {
        let end = self.start.saturating_add(budget.bytes);
        while self.scan < end.min(self.buffer.len()) {
            let step = match self.state {
                State::Text => self.text(end.min(self.buffer.len()))?,
                _ => self.step(self.buffer[self.scan])?,
            };
            if let Some((piece, range)) = step {
                let length = self.scan - self.start;
                self.start = self.scan;
                self.state = State::Idle;
                return Ok(Some((piece, range, length)));
            }
        }
        match self.scan >= end {
            true => Err(ReadError::TooBig(budget.of)),
            false => Ok(None),
        }
    }

    /// Gives a large buffer back once all of it is consumed and its pieces are no longer needed.
    pub(super) fn release(&mut self) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            (self.start, self.scan) = (0, 0);
            if self.buffer.capacity() > KEPT_CAPACITY {
                self.buffer = Vec::new();
            }
        }
    }

    /// Goes on in text to its end or to `end`.
    fn text(&mut self, end: usize) -> Result<Option<(Piece, Range<usize>)>, ReadError> {
        let run = &self.buffer[self.scan..end];
        let stop = |b: &u8| *b == b'<' || is_control(*b);
        let Some(at) = run.iter().position(stop) else {
            self.scan = end;
            return Ok(None);
        };
        self.scan += at;
        match self.buffer[self.scan] {
            b'<' => Ok(Some((Piece::Text, self.start..self.scan))),
            _ => Err(ReadError::NotWellFormed),
        }
    }

    /// Takes one byte outside of text.
    fn step(&mut self, byte: u8) -> Result<Option<(Piece, Range<usize>)>, ReadError> {
        if is_control(byte) {
            return Err(ReadError::NotWellFormed);
        }
        if self.state == State::Idle && byte != b'<' {
            self.state = State::Text;
            return Ok(None);
        }
        self.scan += 1;
        self.state = match self.state {
            State::Idle => State::Markup,
            State::Markup => markup(byte)?,
            State::Bang(matched) => bang(matched, byte)?,
            State::Instruction(matched) => instruction(matched, byte)?,
            State::Tag(within) if byte == b'>' && !matches!(within, Within::Value(_)) => {
                return Ok(Some(self.tag()));
            }
            State::Tag(within) => State::Tag(in_tag(within, byte)?),
            State::End if byte == b'>' => {
                return Ok(Some((Piece::End, self.start + 2..self.scan - 1)));
            }
            State::End if byte == b'<' => return Err(ReadError::NotWellFormed),
            State::CData if self.ends_with(b"]]>", 9) => {
                return Ok(Some((Piece::CData, self.start + 9..self.scan - 3)));
            }
            State::Declaration(_) if self.ends_with(b"?>", 5) => {
                return Ok(Some((Piece::Declaration, self.start + 2..self.scan - 2)));
            }
            State::Declaration(within) => State::Declaration(in_tag(within, byte)?),
            // Text never comes here; the others stay what they are.
            same => same,
        };
        Ok(None)
    }

    /// A complete start tag.
    fn tag(&self) -> (Piece, Range<usize>) {
        let (from, to) = (self.start + 1, self.scan - 1);
        match self.buffer[to - 1] {
            b'/' => (Piece::Empty, from..to - 1),
            _ => (Piece::Start, from..to),
        }
    }

    /// Whether what was scanned ends so, behind an opening of `opening` bytes.
    fn ends_with(&self, end: &[u8], opening: usize) -> bool {
        let content = self.start + opening;
        let content = self.buffer.get(content..self.scan);
        content.is_some_and(|content| content.ends_with(end))
    }
}

/// The control characters that XML forbids and that are one byte.
fn is_control(byte: u8) -> bool {
    byte < b' ' && !is_space(byte)
}

/// What follows `<`.
fn markup(byte: u8) -> Result<State, ReadError> {
    match byte {
        b'/' => Ok(State::End),
        b'!' => Ok(State::Bang(0)),
        b'?' => Ok(State::Instruction(0)),
        b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => Ok(State::Tag(Within::Names)),
        _ => Err(ReadError::NotWellFormed),
    }
}

/// What follows `<!`: comments and a DTD are forbidden, CDATA is not.
fn bang(matched: usize, byte: u8) -> Result<State, ReadError> {
    match (matched, byte) {
        (0, b'-' | b'D') => Err(ReadError::RestrictedXml),
        (n, byte) if CDATA[n] == byte && n + 1 == CDATA.len() => Ok(State::CData),
        (n, byte) if CDATA[n] == byte => Ok(State::Bang(n + 1)),
        _ => Err(ReadError::NotWellFormed),
    }
}

/// What follows `<?`: only the XML declaration is allowed.
fn instruction(matched: usize, byte: u8) -> Result<State, ReadError> {
    match XML.get(matched) {
        Some(expected) if *expected == byte => Ok(State::Instruction(matched + 1)),
        None if is_space(byte) => Ok(State::Declaration(Within::Names)),
        _ => Err(ReadError::RestrictedXml),
    }
}

fn in_tag(within: Within, byte: u8) -> Result<Within, ReadError> {
    match (within, byte) {
        (_, b'<') => Err(ReadError::NotWellFormed),
        (Within::Value(quote), byte) if byte == quote => Ok(Within::AfterValue),
        (Within::Value(quote), _) => Ok(Within::Value(quote)),
        (Within::Names, b'\'' | b'"') => Ok(Within::Value(byte)),
        (Within::Names, _) => Ok(Within::Names),
        (Within::AfterValue, b'/' | b'?') => Ok(Within::Names),
        (Within::AfterValue, byte) if is_space(byte) => Ok(Within::Names),
        (Within::AfterValue, _) => Err(ReadError::NotWellFormed),
    }
}
