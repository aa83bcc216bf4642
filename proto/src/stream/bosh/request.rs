//! What a client sends by one request of HTTP: `<body/>`, its attributes and its payloads (XEP-0124 §6).
//!
//! [`RequestReader`] reads it piece by piece with the reader of all streams, so that the same limits hold. Whose request
//! it is shows in its first tag, and until somebody has said that its session is logged in, it may be as small as what
//! a stranger may say.

use super::condition::Condition;
use crate::limit::Limits;
use crate::ns;
use crate::xml::{Element, Name, ReadError, Reader, Token};

/// The greatest number that a request may have: what every client can count to (XEP-0124 §14.1).
pub const MAX_RID: u64 = (1 << 53) - 1;

/// A request of a client.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Its number.
    pub rid: u64,
    pub(super) head: Element,
    /// Elements, each with all its namespaces, one behind the other.
    pub(super) payload: Vec<u8>,
}

impl Request {
    /// The session that it belongs to; none if it begins one.
    pub fn sid(&self) -> Option<&str> {
        self.head.attr("sid")
    }

    /// Elements, each with all its namespaces, one behind the other.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The number that is given as an attribute, if one is.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.head.attr(name).and_then(|text| text.parse().ok())
    }

    /// The client ends its session with it.
    pub(super) fn is_last(&self) -> bool {
        self.head.attr("type") == Some("terminate")
    }

    /// The stream shall begin anew (XEP-0206 §5).
    pub(super) fn is_restart(&self) -> bool {
        let restart = self.head.attr_ns("restart", ns::XBOSH);
        restart.is_some_and(|it| matches!(it, "true" | "1"))
    }

    /// Nothing is in it, and nothing is asked for but what waits for the client.
    pub(super) fn is_empty(&self) -> bool {
        self.payload.is_empty()
            && !self.is_last()
            && !self.is_restart()
            && self.head.attr("pause").is_none()
    }
}

/// Reads one request.
#[derive(Debug)]
pub struct RequestReader {
    reader: Reader,
    head: Option<Element>,
    payload: Vec<u8>,
    /// It is known whose it is.
    judged: bool,
    ended: bool,
}

impl Default for RequestReader {
    fn default() -> Self {
        Self {
            reader: Reader::new(Limits::before_auth()),
            head: None,
            payload: Vec::new(),
            judged: false,
            ended: false,
        }
    }
}

impl RequestReader {
    /// Takes bytes.
    ///
    /// # Errors
    ///
    /// They cannot belong to a request. Nothing behind them is read.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Condition> {
        self.reader.feed(bytes);
        self.read()
    }

    /// The first tag is complete.
    pub fn is_begun(&self) -> bool {
        self.head.is_some()
    }

    /// The session that it belongs to, once the first tag is complete.
    pub fn sid(&self) -> Option<&str> {
        self.head.as_ref().and_then(|head| head.attr("sid"))
    }

    /// Goes on behind the first tag. If its session is logged in, each element may be as large as it says.
    ///
    /// # Errors
    ///
    /// As those of [`RequestReader::feed`].
    pub fn proceed(&mut self, max_stanza_bytes: Option<usize>) -> Result<(), Condition> {
        self.judged = true;
        if let Some(bytes) = max_stanza_bytes {
            let limits = Limits::after_auth().with_stanza_bytes(bytes);
            self.reader.set_limits(limits);
        }
        self.read()
    }

    /// The request, of which all bytes have come.
    ///
    /// # Errors
    ///
    /// It is not complete, or has no number.
    pub fn finish(self) -> Result<Request, Condition> {
        let rid = self.head.as_ref().and_then(|head| head.attr("rid"));
        let rid = rid.and_then(|rid| rid.parse().ok());
        let rid = rid.filter(|rid| (1..=MAX_RID).contains(rid));
        match (self.head, rid) {
            (Some(head), Some(rid)) if self.ended && !self.reader.has_rest() => Ok(Request {
                rid,
                head,
                payload: self.payload,
            }),
            _ => Err(Condition::BadRequest),
        }
    }

    /// Reads what there is; behind the first tag only when the limits are right.
    fn read(&mut self) -> Result<(), Condition> {
        while self.head.is_none() || self.judged {
            match self.reader.next().map_err(refusal)? {
                None => return Ok(()),
                Some(Token::Whitespace) => {}
                Some(Token::Open(head)) if head.is("body", ns::BOSH) => {
                    self.head = Some(head);
                }
                Some(Token::Open(_)) => return Err(Condition::BadRequest),
                Some(Token::Element(mut element)) => {
                    // Some clients leave it to the server to know what a stanza is.
                    element.move_ns(ns::BOSH, &Name::from(ns::CLIENT));
                    element.write_to("", &mut self.payload);
                }
                Some(Token::Close) => self.ended = true,
            }
        }
        Ok(())
    }
}

fn refusal(error: ReadError) -> Condition {
    match error {
        ReadError::TooBig(_) | ReadError::PolicyViolation(_) => Condition::PolicyViolation,
        ReadError::NotWellFormed
        | ReadError::RestrictedXml
        | ReadError::UnsupportedEncoding
        | ReadError::BadFormat => Condition::BadRequest,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::limit::STANZA_BYTES_BEFORE_AUTH;

    /// A request as it is read when it comes in pieces of so many bytes.
    pub fn read(text: &str, size: usize) -> Result<Request, Condition> {
        let mut reader = RequestReader::default();
        for piece in text.as_bytes().chunks(size) {
            let begun = reader.is_begun();
            reader.feed(piece)?;
            if !begun && reader.is_begun() {
                let is_known = reader.sid() == Some("in");
                reader.proceed(is_known.then_some(100_000))?;
            }
        }
        reader.finish()
    }

    const ALL: &str = "<?xml version='1.0'?> <body rid='7' sid='a' xmlns='http://jabber.org/protocol/httpbind' \
         xmlns:x='urn:xmpp:xbosh' x:restart='1' xmlns:o='o'>\n<message xmlns='jabber:client' to='b'><o:x>1 &lt; 2</o:x></message> \
         <presence><show>away</show></presence></body> ";

    #[test]
    fn bo_1_payloads_have_all_their_namespaces_however_the_bytes_are_cut() {
        for size in [1, 2, 7, ALL.len()] {
            let request = read(ALL, size).unwrap();
            assert_eq!((request.rid, request.sid()), (7, Some("a")));
            assert!(request.is_restart() && !request.is_last() && !request.is_empty());
            let payload = String::from_utf8(request.payload).unwrap();
            let expect = "<message xmlns='jabber:client' to='b'><x xmlns='o'>1 &lt; 2</x></message>\
                          <presence xmlns='jabber:client'><show>away</show></presence>";
            assert_eq!(payload, expect, "{size}");
        }
    }

    #[test]
    fn bo_1_what_is_no_request_is_refused() {
        let ns = "xmlns='http://jabber.org/protocol/httpbind'";
        for bad in [
            String::new(),
            "nonsense".to_owned(),
            "<body rid='1'/>".to_owned(),
            format!("<bodies rid='1' {ns}/>"),
            format!("<body {ns}/>"),
            format!("<body rid='0' {ns}/>"),
            format!("<body rid='-1' {ns}/>"),
            format!("<body rid='9007199254740992' {ns}/>"),
            format!("<body rid='1' {ns}>"),
            format!("<body rid='1' {ns}>text</body>"),
            format!("<body rid='1' {ns}><a></body>"),
            format!("<body rid='1' {ns}><!-- --></body>"),
            format!("<body rid='1' {ns}/><body rid='2' {ns}/>"),
            format!("<!DOCTYPE a [<!ENTITY b 'c'>]><body rid='1' {ns}>&b;</body>"),
            format!("<body rid='1' rid='2' {ns}/>"),
        ] {
            for size in [1, 1000] {
                assert_eq!(
                    read(&bad, size).unwrap_err(),
                    Condition::BadRequest,
                    "{bad}"
                );
            }
        }
        assert!(read(&format!("<body rid='9007199254740991' {ns}/>"), 9).is_ok());
    }

    #[test]
    fn bo_5_a_stranger_may_say_less_at_a_time() {
        let large = "x".repeat(STANZA_BYTES_BEFORE_AUTH);
        let ask = |sid: &str| {
            let text = format!(
                "<body rid='1' sid='{sid}' xmlns='{}'><a>{large}</a></body>",
                ns::BOSH
            );
            read(&text, text.len()).map(|request| request.payload.len())
        };
        assert_eq!(ask("out"), Err(Condition::PolicyViolation));
        assert!(ask("in").is_ok());
    }
}
