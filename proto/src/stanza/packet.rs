//! A written stanza: between the two forms, and from the written one to the wire.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::header::Header;
use super::tree::Stanza;
use crate::jid::Jid;
use crate::limit::WRITTEN_BYTES;
use crate::ns;
use crate::xml::{Element, ReadError, attribute};

/// Most payloads have no more bytes.
const USUAL: usize = 512;

/// A header, and bytes of our own writer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// The attributes.
    pub header: Header,
    /// The children, serialised for a parent whose default namespace is `jabber:client`.
    pub payload: Bytes,
}

impl Stanza {
    /// Writes the payload, once for every copy.
    pub fn pack(&self) -> Packet {
        let mut payload = Vec::with_capacity(USUAL);
        for child in &self.payload {
            child.write_to(ns::CLIENT, &mut payload);
        }
        Packet {
            header: self.header.clone(),
            // Exactly as large as it is, since it may be kept for long.
            payload: Bytes::copy_from_slice(&payload),
        }
    }

    /// The stanza as an element, to be put into another one.
    pub fn to_element(&self) -> Element {
        let header = &self.header;
        let mut element = Element::new(header.kind.name(), ns::CLIENT);
        for (name, value) in header.attributes() {
            match name {
                "xml:lang" => element.set_attr_ns("lang", ns::XML, value),
                name => element.set_attr(name, value),
            }
        }
        for child in &self.payload {
            element.push(child.clone());
        }
        element
    }
}

impl Packet {
    /// Reads the payload again. Our own writer made it, so an error means that memory or disk is damaged.
    pub fn unpack(&self) -> Result<Stanza, ReadError> {
        Ok(Stanza {
            header: self.header.clone(),
            payload: Element::parse_in(ns::CLIENT, &self.payload)?,
        })
    }

    /// Writes the stanza for a stream of `jabber:client`, with `extra` children behind its own.
    pub fn write(&self, extra: &[Element], out: &mut Vec<u8>) {
        let name = self.header.kind.name();
        out.reserve(self.size());
        out.push(b'<');
        out.extend_from_slice(name.as_bytes());
        self.header.write(out);
        if self.payload.is_empty() && extra.is_empty() {
            out.extend_from_slice(b"/>");
            return;
        }
        out.push(b'>');
        out.extend_from_slice(&self.payload);
        for element in extra {
            element.write_to(ns::CLIENT, out);
        }
        out.extend_from_slice(b"</");
        out.extend_from_slice(name.as_bytes());
        out.push(b'>');
    }

    /// The bytes of the payload.
    pub fn payload_len(&self) -> usize {
        self.payload.len()
    }

    /// Whether the stanza, as it is written, is larger than a server keeps ([`WRITTEN_BYTES`]).
    pub fn is_oversize(&self) -> bool {
        // The payload is written already; of the header, escapes make six bytes of one at most.
        let header = self.size() - self.payload.len();
        if self.payload.len() + 6 * header <= WRITTEN_BYTES {
            return false;
        }
        let mut written = Vec::new();
        self.write(&[], &mut written);
        written.len() > WRITTEN_BYTES
    }

    /// About the bytes of the written stanza without extra children: what queues account for it.
    pub fn size(&self) -> usize {
        let header = &self.header;
        let jids = [&header.from, &header.to].into_iter().flatten();
        let jids: usize = jids.map(|jid| jid.as_str().len()).sum();
        let texts = [&header.id, &header.lang].into_iter().flatten();
        let texts: usize = texts.map(|text| text.len()).sum();
        // The names, quotes and brackets of a stanza with all attributes.
        self.payload.len() + jids + texts + 80
    }
}

impl Header {
    /// Writes the attributes.
    fn write(&self, out: &mut Vec<u8>) {
        for (name, value) in self.attributes() {
            attribute(name, value, out);
        }
    }

    /// The attributes that are present, with their names as written.
    fn attributes(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let attributes = [
            ("to", self.to.as_ref().map(Jid::as_str)),
            ("from", self.from.as_ref().map(Jid::as_str)),
            ("id", self.id.as_deref()),
            ("type", self.kind.type_name()),
            ("xml:lang", self.lang.as_deref()),
        ];
        let present = attributes.into_iter();
        present.filter_map(|(name, value)| Some((name, value?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stanza::{Kind, MessageType};

    fn message() -> Stanza {
        let body = Element::new("body", ns::CLIENT).with_text("a<b");
        let mut stanza = Stanza::new(Kind::Message(MessageType::Chat))
            .with_to("b@x".parse().unwrap())
            .with_id("1'")
            .with_child(body)
            .with_child(Element::new("active", ns::CHATSTATES));
        stanza.header.lang = Some("en".into());
        stanza
    }

    fn written(packet: &Packet, extra: &[Element]) -> String {
        let mut out = Vec::new();
        packet.write(extra, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn t_3_what_was_packed_is_unpacked_unchanged() {
        assert_eq!(message().pack().unpack(), Ok(message()));
    }

    #[test]
    fn t_3_attributes_are_escaped_and_extra_children_come_last() {
        let packet = message().pack();
        assert_eq!(
            written(&packet, &[Element::new("e", "u")]),
            "<message to='b@x' id='1&apos;' type='chat' xml:lang='en'><body>a&lt;b</body>\
             <active xmlns='http://jabber.org/protocol/chatstates'/><e xmlns='u'/></message>"
        );
    }

    #[test]
    fn an_empty_stanza_is_one_tag() {
        let presence = Stanza::new(Kind::Presence(crate::stanza::PresenceType::Available));
        assert_eq!(written(&presence.pack(), &[]), "<presence/>");
    }

    #[test]
    fn st_79_a_stanza_as_an_element_is_the_same_stanza() {
        assert_eq!(Stanza::parse(message().to_element()), Ok(message()));
    }

    #[test]
    fn t_41_the_size_covers_what_is_written() {
        let packet = message().pack();
        assert!(packet.size() >= written(&packet, &[]).len());
    }

    #[test]
    fn t_41_what_grows_when_it_is_written_counts_as_it_is_written() {
        let oversize = |body: &str, id: &str| {
            let body = Element::new("body", ns::CLIENT).with_text(body);
            let stanza = Stanza::new(Kind::Message(MessageType::Chat)).with_id(id);
            stanza.with_child(body).pack().is_oversize()
        };
        assert!(!oversize(&"x".repeat(WRITTEN_BYTES - 200), "1"));
        assert!(oversize(&"x".repeat(WRITTEN_BYTES), "1"));
        assert!(oversize(&"&".repeat(100_000), "1"));
        assert!(!oversize("x", &"'".repeat(70_000)));
        assert!(oversize("x", &"'".repeat(80_000)));
    }
}
