//! Properties that must hold for any input, one per parser; fuzz targets and property tests share them.
//!
//! Each function panics if its property does not hold. None is called outside of tests.

mod conversation;

pub use conversation::conversation;

use crate::jid::{Jid, prepare_local, prepare_resource};
use crate::limit::Limits;
use crate::stream::bosh;
use crate::xml::{Document, Element, Part, ReadError, Reader, Token};

/// Reads a stream in pieces of `size` bytes. White space is left out: it depends on the pieces.
pub fn tokens(input: &[u8], size: usize, limits: Limits) -> (Vec<Token>, Option<ReadError>) {
    let mut reader = Reader::new(limits);
    let mut tokens = Vec::new();
    for piece in input.chunks(size.max(1)) {
        reader.feed(piece);
        loop {
            match reader.next() {
                Ok(Some(Token::Whitespace)) => {}
                Ok(Some(token)) => tokens.push(token),
                Ok(None) => break,
                Err(error) => return (tokens, Some(error)),
            }
        }
    }
    (tokens, None)
}

/// The same tokens come out however the input is cut, and what was read is read again from what we write.
pub fn reader(input: &[u8]) {
    let whole = tokens(input, input.len(), Limits::before_auth());
    let size = input.first().map_or(2, |byte| usize::from(*byte % 32) + 2);
    for size in [1, size] {
        assert_eq!(tokens(input, size, Limits::before_auth()), whole);
    }
    for token in &whole.0 {
        if let Token::Element(element) | Token::Open(element) = token {
            round_trip(element);
        }
    }
}

/// Reading what was written gives the same element, whatever the default namespace is (T-3).
pub fn round_trip(element: &Element) {
    for parent in ["", crate::ns::CLIENT] {
        let written = element.to_xml(parent);
        let read = Element::parse_in(parent, &written);
        assert_eq!(
            read.as_deref(),
            Ok(std::slice::from_ref(element)),
            "{written}"
        );
    }
}

/// One complete element, read at once.
pub fn element(input: &[u8]) {
    if let Ok(element) = Element::parse_within("", input, &Limits::after_auth()) {
        round_trip(&element);
    }
}

/// Reads a request of BOSH in pieces of `size` bytes, the way a connection does that knows one session.
fn request(input: &[u8], size: usize) -> Result<bosh::Request, bosh::Condition> {
    let mut reader = bosh::RequestReader::default();
    for piece in input.chunks(size.max(1)) {
        let was_begun = reader.is_begun();
        reader.feed(piece)?;
        if !was_begun && reader.is_begun() {
            let is_known = reader.sid() == Some("known");
            reader.proceed(is_known.then_some(crate::limit::STANZA_BYTES))?;
        }
    }
    reader.finish()
}

/// A request of BOSH is the same however it is cut, and its payloads are read again from what is kept of them (BO-1, T-3).
pub fn bosh_request(input: &[u8]) {
    let whole = request(input, input.len());
    for size in [1, 7] {
        assert_eq!(request(input, size), whole);
    }
    let Ok(request) = whole else {
        return;
    };
    let payloads = Element::parse_in("", request.payload());
    for element in payloads.expect("it was read from elements") {
        round_trip(&element);
    }
}

/// Reads a document in pieces of `size` bytes, and opens elements of some names. Its parts with how deep each lies, and
/// how the reading ended: with an error, or with the end of the document or before it.
fn parts(input: &[u8], size: usize) -> (Vec<(usize, Part)>, Result<bool, ReadError>) {
    let mut document = Document::new(Limits::after_auth());
    let opens = |_: &[Element], element: &Element| element.local().starts_with(['a', 's']);
    let mut parts = Vec::new();
    for piece in input.chunks(size.max(1)) {
        document.feed(piece);
        loop {
            match document.next(opens) {
                Ok(Some(part)) => parts.push((document.path().len(), part)),
                Ok(None) => break,
                Err(error) => return (parts, Err(error)),
            }
        }
    }
    (parts, Ok(document.has_ended()))
}

/// A document has the same parts however it is cut. They lie in each other as it says, and the elements among them are
/// read again from what we write.
pub fn document(input: &[u8]) {
    let whole = parts(input, input.len());
    for size in [1, 7] {
        assert_eq!(parts(input, size), whole);
    }
    let (parts, end) = whole;
    let mut depth = 0;
    for (path, part) in &parts {
        match part {
            Part::Open => depth += 1,
            Part::Close => depth -= 1,
            Part::Element(element) => round_trip(element),
        }
        assert_eq!(*path, depth);
    }
    if end == Ok(true) {
        assert!(depth == 0 && !parts.is_empty());
    }
}

/// A prepared address is prepared, and is made of its parts (T-46).
pub fn jid(text: &str) {
    let Ok(jid) = Jid::new(text) else {
        return;
    };
    assert_eq!(Jid::new(jid.as_str()).as_ref(), Ok(&jid), "idempotence");
    let mut joined = String::new();
    if let Some(local) = jid.local() {
        assert_eq!(prepare_local(local).as_deref(), Ok(local));
        joined = format!("{local}@");
    }
    joined += jid.domain();
    assert_eq!(jid.bare().as_str(), joined);
    if let Some(resource) = jid.resource() {
        assert_eq!(prepare_resource(resource).as_deref(), Ok(resource));
        joined = format!("{joined}/{resource}");
    }
    assert_eq!(jid.as_str(), joined);
}

/// A stanza that is read survives being packed and unpacked.
pub fn stanza(input: &[u8]) {
    let parsed = Element::parse_within(crate::ns::CLIENT, input, &Limits::after_auth());
    if let Ok(Ok(stanza)) = parsed.map(crate::stanza::Stanza::parse) {
        assert_eq!(stanza.pack().unpack(), Ok(stanza));
    }
}

/// A moment that is read is written as the same moment (XEP-0082).
pub fn stamp(text: &str) {
    use crate::payload::delay;
    if let Some(millis) = delay::parse_stamp(text) {
        assert_eq!(delay::parse_stamp(&delay::stamp(millis)), Some(millis));
    }
}

/// An element of Stream Management that is understood is written so that it is understood the same.
pub fn sm(input: &[u8]) {
    use crate::sm::SmElement;
    let Ok(element) = Element::parse_within(crate::ns::CLIENT, input, &Limits::after_auth()) else {
        return;
    };
    let Ok(understood) = SmElement::parse(&element) else {
        return;
    };
    let mut written = Vec::new();
    understood.write(&mut written);
    let read = Element::parse_within(crate::ns::CLIENT, &written, &Limits::after_auth());
    let again = read.map(|element| SmElement::parse(&element));
    assert_eq!(again, Ok(Ok(understood)));
}

/// However counters stand, an `h` covers no more than what is in flight, and what it covers adds up
/// modulo 2^32 (SM-21, SM-27).
pub fn counts(last: u32, h: u32, in_flight: usize) {
    let (origin, acked) = (crate::sm::Origin::new(0, 0), u64::from(last));
    match origin.covered(h, acked, acked + in_flight as u64) {
        Ok(upto) => {
            assert!(upto - acked <= in_flight as u64);
            assert_eq!(origin.h(upto), h);
        }
        Err(refused) => assert_eq!(refused.h, h),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Elements of every shape, with all characters that XML has.
    fn elements() -> impl Strategy<Value = Element> {
        let ns = prop_oneof![
            Just(""),
            Just(crate::ns::CLIENT),
            Just(crate::ns::XML),
            Just("urn:a'<&\"")
        ];
        let text = "[\\t\\r\\n -\u{D7FF}\u{E000}-\u{FFFD}\u{10000}-\u{10FFFF}]{0,12}";
        let attributes = prop::collection::vec(("[a-c]", ns.clone(), text), 0..4);
        let leaf = ("[a-c_][a-c.-]{0,3}", ns, attributes, text);
        let leaf = leaf.prop_map(|(name, ns, attributes, text)| {
            let mut element = Element::new(name, ns).with_text(&text);
            for (name, ns, value) in attributes {
                element.set_attr_ns(name, ns, value);
            }
            element
        });
        leaf.prop_recursive(4, 24, 4, |inner| {
            let children = prop::collection::vec((inner.clone(), ".{0,3}"), 0..4);
            (inner, children).prop_map(|(element, children)| {
                let with = |element: Element, (child, text): (Element, String)| {
                    let text = text.replace(|c: char| !(' '..='\u{D7FF}').contains(&c), "");
                    element.with_child(child).with_text(&text)
                };
                children.into_iter().fold(element, with)
            })
        })
    }

    /// Bytes that are often nearly XML.
    fn nearly_xml() -> impl Strategy<Value = Vec<u8>> {
        let part = prop::sample::select(vec![
            "<a>",
            "</a>",
            "<b/>",
            "<p:b/>",
            " xmlns:p='u'",
            "<a b='c'",
            ">",
            "/>",
            "'",
            "\"",
            "&amp;",
            "&#65;",
            "&x;",
            "<![CDATA[",
            "]]>",
            "<!--",
            "<?xml version='1.0'?>",
            " ",
            "\r\n",
            "é",
            "=",
            "<a xmlns='u'>",
            "text",
            "\u{FFFE}",
            "x:",
        ]);
        let start = prop::sample::select(vec!["", "<s>", "<?xml version='1.0'?><s xmlns='u'>"]);
        let parts = prop::collection::vec(part, 0..24);
        (start, parts).prop_map(|(start, parts)| (start.to_owned() + &parts.concat()).into_bytes())
    }

    proptest! {
        #[test]
        fn t_3_what_is_written_is_read_unchanged(element in elements()) {
            round_trip(&element);
        }

        #[test]
        fn t_5_cuts_change_nothing(input in nearly_xml()) {
            reader(&input);
            super::element(&input);
            stanza(&input);
        }

        #[test]
        fn t_5_cuts_of_any_bytes_change_nothing(input: Vec<u8>) {
            reader(&[b"<s>".as_slice(), &input].concat());
        }

        #[test]
        fn t_3_requests_of_bosh_are_the_same_however_they_are_cut(
            sid in "(known)?",
            rid in "[0-9]{0,3}",
            input in nearly_xml(),
            end in "(</body>)? ?",
        ) {
            let body = format!("<body rid='{rid}' sid='{sid}' xmlns='{}'>", crate::ns::BOSH);
            bosh_request(&[body.as_bytes(), &input, end.as_bytes()].concat());
            bosh_request(&input);
        }

        #[test]
        fn t_3_payloads_of_bosh_are_read_again(element in elements()) {
            let ns = crate::ns::BOSH;
            bosh_request(format!("<body rid='1' xmlns='{ns}'>{}</body>", element.to_xml(ns)).as_bytes());
        }

        #[test]
        fn t_3_documents_are_the_same_however_they_are_cut(input in nearly_xml()) {
            document(&input);
            document(&[b"<s>".as_slice(), &input, b"</s>"].concat());
        }

        #[test]
        fn t_3_documents_are_what_was_written(element in elements()) {
            document(element.to_xml("").as_bytes());
        }

        #[test]
        fn t_46_prepared_addresses_are_prepared(text in "(\\PC{0,6}@)?\\PC{1,8}(/\\PC{0,6})?") {
            jid(&text);
        }

        #[test]
        fn t_46_plain_addresses_too(text in "([a-zA-Zßıσς.]{0,4}@)?[a-zA-Z.İü-]{1,6}(/.{0,4})?") {
            jid(&text);
        }

        #[test]
        fn sm_5_sm_47_elements_are_understood_alike(
            name in "enable|enabled|resume|resumed|failed|a|r|x",
            h in "[0-9]{0,11}| 7 |-1|",
            id in "[a-z<&']{0,3}",
            resume in "true|1|0|false|yes",
        ) {
            let element = Element::new(name, crate::ns::SM)
                .with_attr("h", h.clone())
                .with_attr("max", h)
                .with_attr("id", id.clone())
                .with_attr("previd", id)
                .with_attr("resume", resume)
                .with_child(Element::new("item-not-found", crate::ns::STANZAS));
            sm(element.to_xml(crate::ns::CLIENT).as_bytes());
        }

        #[test]
        fn sm_21_counts_add_up(last: u32, near in -5_i64..20, far: u32, in_flight in 0_usize..20) {
            counts(last, far, in_flight);
            counts(last, (i64::from(last) + near) as u32, in_flight);
        }

        #[test]
        fn xep_0082_moments_keep(millis in 0..253_000_000_000_000_u64) {
            stamp(&crate::payload::delay::stamp(millis));
        }
    }
}
