//! From an element to a stanza, with the answer to what is none.

use super::error::{Condition, StanzaError};
use super::header::Header;
use super::kind::{IqType, Kind, MessageType, PresenceType};
use super::tree::Stanza;
use crate::jid::Jid;
use crate::ns;
use crate::xml::Element;

/// Why an element is not a stanza that can be handled.
#[derive(Clone, Debug, PartialEq)]
pub enum ParseError {
    /// Neither message, presence nor iq in the content namespace; ends the stream (ST-78).
    NotAStanza,
    /// A broken stanza, which counts as handled and is answered with the error.
    Refused {
        /// As much of the header as could be read.
        header: Box<Header>,
        /// The answer.
        error: Box<StanzaError>,
    },
    /// A broken answer: it counts as handled and is dropped without a word (ST-73, ST-77).
    Dropped,
}

impl Stanza {
    /// Reads a first-level element of a client stream.
    ///
    /// A `from` that is no address counts as absent: the server stamps its own in any case (ST-67).
    pub fn parse(element: Element) -> Result<Self, ParseError> {
        if element.ns() != ns::CLIENT {
            return Err(ParseError::NotAStanza);
        }
        let name = element.attr("type");
        let (kind, mut fault) = match element.local() {
            "message" => (Kind::Message(MessageType::parse(name)), None),
            "presence" => match PresenceType::parse(name) {
                Some(kind) => (Kind::Presence(kind), None),
                None => (Kind::Presence(PresenceType::Available), BAD_REQUEST),
            },
            "iq" => match IqType::parse(name) {
                Some(kind) => (Kind::Iq(kind), check_iq(kind, &element)),
                None => (Kind::Iq(IqType::Get), BAD_REQUEST),
            },
            _ => return Err(ParseError::NotAStanza),
        };
        let to = element.attr("to").map(Jid::new).transpose();
        if to.is_err() {
            fault = Some(Condition::JidMalformed);
        }
        let header = Header {
            kind,
            from: element.attr("from").and_then(|from| Jid::new(from).ok()),
            to: to.unwrap_or(None),
            id: element.attr("id").map(Box::from),
            lang: element.attr_ns("lang", ns::XML).map(Box::from),
        };
        match fault {
            None => Ok(Self {
                header,
                payload: element.into_elements().collect(),
            }),
            Some(condition) => Err(refuse(header, condition)),
        }
    }
}

const BAD_REQUEST: Option<Condition> = Some(Condition::BadRequest);

/// What an iq must have beside its type (ST-73).
fn check_iq(kind: IqType, iq: &Element) -> Option<Condition> {
    let children = iq.elements().count();
    let whole = match kind {
        IqType::Get | IqType::Set => children == 1,
        IqType::Result => children <= 1,
        IqType::Error => iq.child("error", ns::CLIENT).is_some(),
    };
    match whole && iq.attr("id").is_some() {
        true => None,
        false => BAD_REQUEST,
    }
}

fn refuse(header: Header, condition: Condition) -> ParseError {
    match header.kind {
        Kind::Iq(IqType::Result | IqType::Error)
        | Kind::Message(MessageType::Error)
        | Kind::Presence(PresenceType::Error) => ParseError::Dropped,
        _ => ParseError::Refused {
            header: Box::new(header),
            error: Box::new(StanzaError::new(condition)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn parse(xml: &str) -> Result<Stanza, ParseError> {
        let mut elements = Element::parse_in(ns::CLIENT, xml.as_bytes()).unwrap();
        Stanza::parse(elements.remove(0))
    }

    #[track_caller]
    fn refused(xml: &str) -> Condition {
        match parse(xml) {
            Err(ParseError::Refused { error, .. }) => error.condition,
            other => panic!("{xml}: {other:?}"),
        }
    }

    #[test]
    fn st_72_a_bad_addressee_is_answered() {
        assert_eq!(refused("<message to='a@@'/>"), Condition::JidMalformed);
        assert_eq!(
            refused("<iq to='@' type='get' id='1'><q xmlns='u'/></iq>"),
            Condition::JidMalformed
        );
    }

    #[test]
    fn st_73_broken_requests_are_bad() {
        for xml in [
            "<iq type='get'><q xmlns='u'/></iq>",
            "<iq id='1'><q xmlns='u'/></iq>",
            "<iq id='1' type='got'><q xmlns='u'/></iq>",
            "<iq id='1' type='get'/>",
            "<iq id='1' type='set'><a xmlns='u'/><b xmlns='u'/></iq>",
            "<presence type='here'/>",
        ] {
            assert_eq!(refused(xml), Condition::BadRequest, "{xml}");
        }
    }

    #[test]
    fn st_73_broken_answers_are_dropped() {
        for xml in [
            "<iq type='result'/>",
            "<iq id='1' type='error'/>",
            "<iq id='1' type='result'><a xmlns='u'/><b xmlns='u'/></iq>",
            "<message type='error' to='@'/>",
        ] {
            assert_eq!(parse(xml), Err(ParseError::Dropped), "{xml}");
        }
    }

    #[test]
    fn st_73_an_unknown_message_type_is_normal() {
        let stanza = parse("<message type='new' from='@'/>").unwrap();
        assert_eq!(stanza.header.kind, Kind::Message(MessageType::Normal));
        assert_eq!(stanza.header.from, None);
    }

    #[test]
    fn st_78_other_elements_are_no_stanzas() {
        for xml in [
            "<message xmlns='u'/>",
            "<body/>",
            "<iq xmlns='jabber:server'/>",
        ] {
            assert_eq!(parse(xml), Err(ParseError::NotAStanza), "{xml}");
        }
    }
}
