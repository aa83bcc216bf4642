//! An authenticated stream: binding, resumption and what follows.

use super::{Condition, Input, State, Stream, StreamError};
use crate::jid::{self, Jid};
use crate::ns;
use crate::sm::{Enabled, Failed, SmElement};
use crate::stanza::error::{self as stanza_error, StanzaError};
use crate::stanza::{Header, IqType, Kind, Packet, ParseError, Stanza};
use crate::xml::Element;

/// How many refused bind requests a stream survives (ST-65).
const REFUSED_BINDS: u8 = 5;
/// Bytes of a resource that a client may choose (ST-99).
const RESOURCE_BYTES: usize = 512;

impl Stream {
    /// The resource is bound: stanzas may flow.
    pub fn bound(&mut self, id: &str, jid: &Jid) {
        if self.state != State::Binding {
            return;
        }
        let bound = Element::new("jid", ns::BIND).with_text(jid.as_str());
        Stanza::new(Kind::Iq(IqType::Result))
            .with_id(id)
            .with_child(Element::new("bind", ns::BIND).with_child(bound))
            .pack()
            .write(&[], &mut self.output);
        self.state = State::Bound;
    }

    /// The resource is refused; the client may ask again, but not for ever (ST-65).
    pub fn bind_failed(&mut self, id: &str, error: StanzaError) {
        if self.state != State::Binding {
            return;
        }
        self.state = State::Authenticated;
        let mut header = Header::new(Kind::Iq(IqType::Set));
        header.id = Some(id.into());
        self.refuse_bind(&header, &error);
    }

    /// The old session goes on here: stanzas may flow.
    pub fn resumed(&mut self, previd: impl Into<String>, h: u32) {
        if self.state != State::Resuming {
            return;
        }
        let previd = previd.into();
        SmElement::Resumed { previd, h }.write(&mut self.output);
        self.state = State::Managed;
    }

    /// The old session cannot go on; the client may bind a resource instead (SM-47).
    pub fn resume_failed(&mut self, failed: Failed) {
        if self.state != State::Resuming {
            return;
        }
        SmElement::Failed(failed).write(&mut self.output);
        self.state = State::Authenticated;
    }

    /// Stream Management is on: what is written from here on counts (SM-17).
    pub fn enabled(&mut self, enabled: Enabled) {
        if self.state == State::Managed {
            SmElement::Enabled(enabled).write(&mut self.output);
        }
    }

    /// Stream Management stays off; the client may try again (SM-18).
    pub fn enable_failed(&mut self, condition: stanza_error::Condition) {
        if self.state == State::Managed {
            SmElement::Failed(Failed::new(condition)).write(&mut self.output);
            self.state = State::Bound;
        }
    }

    pub(super) fn bind(&mut self, element: Element) {
        let stanza = match Stanza::parse(element) {
            Ok(stanza) => stanza,
            Err(ParseError::Refused { header, error }) => {
                return self.refuse_bind(&header, &error);
            }
            Err(ParseError::NotAStanza | ParseError::Dropped) => {
                return self.fail(StreamError::new(Condition::NotAuthorized));
            }
        };
        let (Kind::Iq(IqType::Set), Some(id)) = (stanza.header.kind, &stanza.header.id) else {
            let error = StanzaError::new(stanza_error::Condition::BadRequest);
            return self.refuse_bind(&stanza.header, &error);
        };
        let wish = stanza
            .child("bind", ns::BIND)
            .and_then(|bind| bind.child("resource", ns::BIND));
        // A wish that cannot be granted to the letter gets a generated resource (ST-63, ST-99).
        let resource = wish
            .and_then(|resource| jid::prepare_resource(&resource.text()).ok())
            .filter(|resource| resource.len() <= RESOURCE_BYTES);
        let id = id.clone();
        self.wait(State::Binding, Input::Bind { id, resource });
    }

    fn refuse_bind(&mut self, header: &Header, error: &StanzaError) {
        if let Some(reply) = answer(header, error) {
            reply.write(&[], &mut self.output);
        }
        self.refused_binds += 1;
        if self.refused_binds >= REFUSED_BINDS {
            self.fail(StreamError::new(Condition::PolicyViolation));
        }
    }

    /// A second resource on one stream is not supported (ST-65).
    pub(super) fn rebind(&mut self, element: Element) {
        self.deal_with(element, |stanza| {
            let error = StanzaError::new(stanza_error::Condition::NotAllowed);
            answer(&stanza.header, &error)
        });
    }

    /// The legacy session request has no effect (ST-16).
    pub(super) fn session(&mut self, element: Element) {
        self.deal_with(element, |stanza| match stanza.header.kind {
            Kind::Iq(IqType::Set) => {
                let mut result = Stanza::result(&stanza.header);
                result.header.to = None;
                Some(result.pack())
            }
            _ => answer(
                &stanza.header,
                &StanzaError::new(stanza_error::Condition::BadRequest),
            ),
        });
    }

    /// Answers an iq here. Once stanzas are counted the driver must know of it.
    fn deal_with(&mut self, element: Element, reply: impl FnOnce(&Stanza) -> Option<Packet>) {
        let reply = match Stanza::parse(element) {
            Ok(stanza) => reply(&stanza),
            Err(ParseError::Refused { header, error }) => answer(&header, &error),
            Err(ParseError::NotAStanza | ParseError::Dropped) => None,
        };
        if self.state.is_live() {
            return self.inputs.push_back(Input::Invalid { reply });
        }
        if let Some(reply) = reply {
            reply.write(&[], &mut self.output);
        }
        // Before it has a resource, a client has no use for more than one of these.
        self.misuse();
    }

    pub(super) fn stanza(&mut self, element: Element) {
        let input = match Stanza::parse(element) {
            Ok(mut stanza) => {
                // The recipient cannot know the language of the sender's stream (ST-6).
                if stanza.header.lang.is_none() {
                    stanza.header.lang.clone_from(&self.lang);
                }
                Input::Stanza(stanza)
            }
            Err(ParseError::Refused { header, error }) => Input::Invalid {
                reply: answer(&header, &error),
            },
            Err(ParseError::Dropped) => Input::Invalid { reply: None },
            Err(ParseError::NotAStanza) => {
                return self.fail(StreamError::new(Condition::UnsupportedStanzaType));
            }
        };
        self.inputs.push_back(input);
    }

    pub(super) fn enable(&mut self, element: &Element) {
        match SmElement::parse(element) {
            Ok(SmElement::Enable { resume, max }) if self.settings.sm => {
                self.state = State::Managed;
                self.inputs.push_back(Input::Enable { resume, max });
            }
            _ => self.not_offered(),
        }
    }

    pub(super) fn resume(&mut self, element: &Element) {
        match SmElement::parse(element) {
            _ if !self.settings.sm => self.not_offered(),
            Ok(SmElement::Resume { previd, h }) => {
                self.wait(State::Resuming, Input::Resume { previd, h });
            }
            _ => {
                let failed = Failed::new(stanza_error::Condition::BadRequest);
                SmElement::Failed(failed).write(&mut self.output);
                self.misuse();
            }
        }
    }

    fn not_offered(&mut self) {
        let failed = Failed::new(stanza_error::Condition::FeatureNotImplemented);
        SmElement::Failed(failed).write(&mut self.output);
        self.misuse();
    }

    pub(super) fn refuse_sm(&mut self) {
        let failed = Failed::new(stanza_error::Condition::UnexpectedRequest);
        SmElement::Failed(failed).write(&mut self.output);
        self.misuse();
    }

    pub(super) fn ack(&mut self, element: &Element) {
        match SmElement::parse(element) {
            Ok(SmElement::Ack(h)) => self.inputs.push_back(Input::Ack(h)),
            _ => self.fail(StreamError::new(Condition::InvalidXml)),
        }
    }
}

/// The error reply on the stream itself: what the client claims to be is no address (ST-66, ST-67).
pub(super) fn answer(header: &Header, error: &StanzaError) -> Option<Packet> {
    let header = Header {
        from: None,
        ..header.clone()
    };
    stanza_error::reply(&header, error)
}
