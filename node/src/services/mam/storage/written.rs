//! A message as the archive keeps it: the XML that our own writer made of it.
//!
//! It is given to clients as it is, since to read it into a tree and to write that again is most of what a page costs.
//! What is cut off or overwritten must not reach the stream of a client, which would end. So the tags are counted; a
//! single letter that a disk has changed is not noticed.

use bytes::Bytes;
use proto::stanza::{Packet, Stanza};
use proto::{Element, ns};

use crate::storage::StorageError;

const START: &str = "<message";
const END: &str = "</message>";

/// The XML of one message, in a stream whose default namespace is `jabber:client`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    xml: String,
    /// Where its payload begins; its length if it has none.
    payload: usize,
}

impl Written {
    /// What was stored, unless it is no message any more.
    pub(super) fn new(xml: String) -> Result<Self, StorageError> {
        let payload = payload(&xml).ok_or(StorageError::Damaged("a stanza"))?;
        Ok(Self { xml, payload })
    }

    /// A message, written.
    #[cfg(test)]
    pub fn of(packet: &Packet) -> Self {
        let mut xml = Vec::new();
        packet.write(&[], &mut xml);
        Self::new(String::from_utf8(xml).unwrap()).unwrap()
    }

    /// Its bytes.
    pub fn size(&self) -> usize {
        self.xml.len()
    }

    /// Writes it into an element whose default namespace is another one.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(START.as_bytes());
        out.extend_from_slice(b" xmlns='");
        out.extend_from_slice(ns::CLIENT.as_bytes());
        out.push(b'\'');
        out.extend_from_slice(&self.xml.as_bytes()[START.len()..]);
    }

    /// Reads all of it.
    pub fn read(&self) -> Result<Stanza, StorageError> {
        stanza(&self.xml)
    }

    /// Reads its attributes. The payload stays as it was written.
    pub(super) fn packet(&self) -> Result<Packet, StorageError> {
        let end = self.xml.len().saturating_sub(END.len());
        let payload = self.xml.get(self.payload..end).unwrap_or_default();
        let mut packet = header(&self.xml[..self.payload])?;
        packet.payload = Bytes::copy_from_slice(payload.as_bytes());
        Ok(packet)
    }
}

/// A message without its payload, of its start tag.
pub(super) fn header(tag: &str) -> Result<Packet, StorageError> {
    let tag = tag.trim_end_matches('>').trim_end_matches('/');
    Ok(stanza(&format!("{tag}/>"))?.pack())
}

fn stanza(xml: &str) -> Result<Stanza, StorageError> {
    let element = Element::parse_in(ns::CLIENT, xml)
        .ok()
        .and_then(|elements| elements.into_iter().next());
    let stanza = element.and_then(|element| Stanza::parse(element).ok());
    stanza.ok_or(StorageError::Damaged("a stanza"))
}

/// Where the payload of a message begins. None if its tags are not those of one whole message.
fn payload(xml: &str) -> Option<usize> {
    let name = xml.strip_prefix(START)?;
    if !name.starts_with([' ', '>', '/']) {
        return None;
    }
    let (mut depth, mut at, mut payload) = (0, 0, None);
    while at < xml.len() {
        // The writer escapes both characters wherever they do not begin or end a tag.
        let tag = &xml[at + xml[at..].find('<')?..];
        let length = tag.find('>')? + 1;
        at = xml.len() - tag.len() + length;
        payload = payload.or(Some(at));
        if tag.starts_with("</") {
            depth -= 1;
        } else if !tag[..length].ends_with("/>") {
            depth += 1;
        }
        if depth == 0 {
            break;
        }
    }
    let whole = depth == 0 && at == xml.len() && (payload == Some(at) || xml.ends_with(END));
    payload.filter(|_| whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::stanza::{Kind, MessageType};

    fn message() -> Packet {
        let body = Element::new("body", ns::CLIENT).with_text("<1> & '2'");
        let other = Element::new("x", "urn:x").with_child(Element::new("y", "urn:x"));
        let stanza = Stanza::new(Kind::Message(MessageType::Chat)).with_id("<'>");
        let mut packet = stanza.with_child(body).with_child(other).pack();
        packet.header.lang = Some("en".into());
        packet.header.from = Some("b@x/>".parse().unwrap());
        packet
    }

    #[test]
    fn a_message_is_read_and_given_as_it_was_written() {
        let mut empty = message();
        empty.payload = Bytes::new();
        for packet in [message(), empty] {
            let written = Written::of(&packet);
            assert_eq!(written.packet().unwrap(), packet);
            assert_eq!(written.read().unwrap().pack(), packet);
            let mut out = Vec::new();
            written.write(&mut out);
            let element = Element::parse(String::from_utf8(out).unwrap()).unwrap();
            assert_eq!(element, packet.unpack().unwrap().to_element());
        }
    }

    #[test]
    fn what_is_no_whole_message_is_damaged() {
        let whole = Written::of(&message()).xml;
        for end in 0..whole.len() {
            if let Some(part) = whole.get(..end) {
                assert!(Written::new(part.to_owned()).is_err(), "{part}");
            }
        }
        let check = |xml: &str| Written::new(xml.to_owned()).is_ok();
        assert!(check("<message/>") && check("<message id='1'><a><b/></a></message>"));
        for damaged in [
            "<message/><message/>",
            "<message/>x",
            "<messages/>",
            "<iq/>",
            "x<message/>",
            "<message><a></message>",
            "<message></a></message>",
            "<message><a></a></b></message>",
            "<message></message></message>",
            "<message><a></a></messages>",
        ] {
            assert!(!check(damaged), "{damaged}");
        }
    }
}
