//! Requests for an account, by those who have none (XEP-0077, XEP-0445). Before the login, and over TLS only.

use super::error::{Condition, StreamError};
use super::session::answer;
use super::state::State;
use super::{Input, Stream};
use crate::payload::register::Request;
use crate::stanza::error::{self as stanza_error, StanzaError};
use crate::stanza::{Header, ParseError, Stanza};
use crate::xml::Element;

/// How many such requests a stream survives: names are not to be tried out one after another (T-31).
const REQUESTS: u8 = 20;

impl Stream {
    /// What becomes of the request: a result, perhaps with something in it, or an error. A login may follow on the
    /// same stream.
    pub fn registration(&mut self, result: Result<Option<Element>, StanzaError>) {
        if self.state != State::Registering {
            return;
        }
        self.state = State::Secured;
        let Some(header) = self.asked.take() else {
            return;
        };
        match result {
            Ok(payload) => {
                let mut result = Stanza::result(&header);
                result.header.to = None;
                result.payload.extend(payload);
                result.pack().write(&[], &mut self.output);
            }
            Err(error) => self.refuse_registration(&header, &error),
        }
    }

    pub(super) fn register(&mut self, element: Element) {
        self.registrations += 1;
        if self.registrations > REQUESTS {
            return self.fail(StreamError::new(Condition::PolicyViolation));
        }
        let stanza = match Stanza::parse(element) {
            Ok(stanza) => stanza,
            Err(ParseError::Refused { header, error }) => {
                return self.refuse_registration(&header, &error);
            }
            Err(ParseError::NotAStanza | ParseError::Dropped) => {
                return self.fail(StreamError::new(Condition::NotAuthorized));
            }
        };
        let to = stanza.header.to.as_ref();
        let is_ours = to.is_none_or(|to| to.as_str() == self.domain);
        if !(self.settings.registration && is_ours) {
            let error = StanzaError::new(stanza_error::Condition::ServiceUnavailable);
            return self.refuse_registration(&stanza.header, &error);
        }
        match Request::read(&stanza) {
            Ok(request) => {
                self.asked = Some(Box::new(stanza.header));
                self.wait(State::Registering, Input::Register(request));
            }
            Err(condition) => self.refuse_registration(&stanza.header, &condition.into()),
        }
    }

    fn refuse_registration(&mut self, header: &Header, error: &StanzaError) {
        if let Some(reply) = answer(header, error) {
            reply.write(&[], &mut self.output);
        }
    }
}
