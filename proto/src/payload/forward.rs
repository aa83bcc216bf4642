//! XEP-0297: a stanza within another.

use crate::ns;
use crate::xml::Element;

/// Wraps a stanza, with a `<delay/>` that says when it was sent.
pub fn forwarded(stanza: Element, delay: Option<Element>) -> Element {
    let mut forwarded = Element::new("forwarded", ns::FORWARD);
    if let Some(delay) = delay {
        forwarded.push(delay);
    }
    forwarded.with_child(stanza)
}

/// The stanza within a `<forwarded/>`, and its delay.
pub fn content(forwarded: &Element) -> Option<(&Element, Option<&Element>)> {
    if !forwarded.is("forwarded", ns::FORWARD) {
        return None;
    }
    let stanza = forwarded.elements().find(|e| {
        matches!(e.local(), "message" | "presence" | "iq") && matches!(e.ns(), ns::CLIENT)
    });
    Some((stanza?, forwarded.child("delay", ns::DELAY)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn st_79_a_forwarded_stanza_keeps_its_own_namespace() {
        let stanza = Element::new("message", ns::CLIENT).with_attr("id", "1");
        let wrapped = forwarded(stanza.clone(), None);
        assert_eq!(
            wrapped.to_xml(ns::CLIENT),
            "<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' id='1'/></forwarded>"
        );
        assert_eq!(content(&wrapped), Some((&stanza, None)));
    }

    #[test]
    fn t_4_only_a_stanza_of_the_content_namespace_is_one() {
        let other = forwarded(Element::new("message", "urn:x"), None);
        assert_eq!(content(&other), None);
    }
}
