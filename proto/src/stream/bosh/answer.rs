//! What is sent to a client: `<body/>` around the elements that waited for it.

use std::sync::Arc;

use super::condition::Condition;
use crate::ns;
use crate::xml::{Element, attribute};

/// An answer in the making.
#[derive(Debug)]
pub struct Answer {
    head: Vec<u8>,
    payload: Vec<u8>,
}

impl Answer {
    /// Without anything in it.
    pub fn new() -> Self {
        let mut head = b"<body".to_vec();
        attribute("xmlns", ns::BOSH, &mut head);
        Self {
            head,
            payload: Vec::new(),
        }
    }

    /// The last one, and why it is.
    pub fn last(condition: Option<Condition>) -> Self {
        let mut answer = Self::new();
        answer.end(condition);
        answer
    }

    /// Makes it the last one.
    pub fn end(&mut self, condition: Option<Condition>) {
        self.attribute("type", "terminate");
        if let Some(condition) = condition {
            self.attribute("condition", &condition.to_string());
        }
    }

    pub fn attribute(&mut self, name: &str, value: &str) {
        attribute(name, value, &mut self.head);
    }

    /// Adds an element that declares its namespaces.
    pub fn push(&mut self, element: &str) {
        self.payload.extend_from_slice(element.as_bytes());
    }

    /// Adds what is in a stream error (XEP-0206 §6).
    pub fn push_content(&mut self, error: &Element) {
        for part in error.elements() {
            part.write_to(ns::BOSH, &mut self.payload);
        }
    }

    /// As it is sent.
    pub fn finish(self) -> Arc<[u8]> {
        let Self { mut head, payload } = self;
        if payload.is_empty() {
            head.extend_from_slice(b"/>");
            return head.into();
        }
        head.push(b'>');
        head.extend_from_slice(&payload);
        head.extend_from_slice(b"</body>");
        head.into()
    }
}

/// The answer to a request of a session that is over, or that never was.
pub fn terminal(condition: Condition) -> Arc<[u8]> {
    Answer::last(Some(condition)).finish()
}
