//! What the stream has written and no answer has taken.

use std::collections::VecDeque;

use super::answer::Answer;
use super::condition::Condition;
use crate::ns;
use crate::stream::written::{Piece, Progress, Written};
use crate::xml::Element;

/// Bytes of whole elements that wait for a request.
pub const QUEUE_BYTES: usize = 64 * 1024;

/// Elements in their order, and what else the stream has said.
#[derive(Debug, Default)]
pub struct Outbox {
    written: Written,
    header: Option<Element>,
    queue: VecDeque<String>,
    queued: usize,
    flushed: bool,
    error: Option<Element>,
    closed: bool,
}

impl Outbox {
    /// Takes what the stream has written.
    pub fn write(&mut self, bytes: &[u8], progress: &mut Progress) {
        self.flushed = false;
        for piece in self.written.take(bytes) {
            match piece {
                Piece::Open(attributes) => {
                    self.header = Element::parse(format!("<open{attributes}/>")).ok();
                }
                Piece::Close => self.closed = true,
                Piece::Element(element) if element.starts_with("<stream:error") => {
                    self.error = Element::parse(element).ok();
                }
                Piece::Element(element) => {
                    progress.note(&element);
                    self.queued += element.len();
                    self.queue.push_back(element);
                }
            }
        }
    }

    /// What was written shall leave.
    pub fn flush(&mut self) {
        self.flushed = true;
    }

    /// How many bytes the stream may write now.
    pub fn room(&self) -> usize {
        QUEUE_BYTES.saturating_sub(self.queued)
    }

    /// Something is there that shall leave.
    pub fn has_news(&self) -> bool {
        !self.is_empty() && (self.flushed || self.room() == 0)
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Our header, as an element with its attributes.
    pub fn header(&self) -> Option<&Element> {
        self.header.as_ref()
    }

    /// Puts all that waits into an answer.
    pub fn empty_into(&mut self, answer: &mut Answer) {
        for element in &self.queue {
            answer.push(element);
        }
        self.clear();
    }

    /// Forgets all that waits.
    pub fn clear(&mut self) {
        // An idle session should cost little.
        self.queue = VecDeque::new();
        self.queued = 0;
    }

    /// Puts all that waits into the last answer, and why it is the last one: `unended` if the stream did not end. What is
    /// wrong with the first request, which has asked for the domain `to`, has conditions of its own.
    pub fn end_with(
        &mut self,
        answer: &mut Answer,
        is_first: bool,
        to: Option<&str>,
        unended: Condition,
    ) {
        let condition = match &self.error {
            Some(error) if is_first => Some(of_first(error, to)),
            Some(_) => Some(Condition::RemoteStreamError),
            None => (!self.closed).then_some(unended),
        };
        answer.end(condition);
        self.empty_into(answer);
        if let (Some(Condition::RemoteStreamError), Some(error)) = (condition, &self.error) {
            answer.push_content(error);
        }
    }
}

/// How an error of the stream is told in answer to the first request.
fn of_first(error: &Element, to: Option<&str>) -> Condition {
    let condition = error.elements().find(|part| part.ns() == ns::STREAMS);
    match (condition.map(Element::local), to) {
        (Some("host-unknown"), Some(_)) => Condition::HostUnknown,
        (Some("host-unknown"), None) => Condition::ImproperAddressing,
        (Some("policy-violation"), _) => Condition::PolicyViolation,
        _ => Condition::RemoteStreamError,
    }
}
