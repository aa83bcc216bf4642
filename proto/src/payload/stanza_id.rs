//! XEP-0359: unique and stable stanza ids.

use crate::jid::Jid;
use crate::ns;
use crate::stanza::Stanza;
use crate::xml::Element;

/// The id that `by` gave to a message.
pub fn stanza_id(by: &str, id: &str) -> Element {
    Element::new("stanza-id", ns::SID)
        .with_attr("by", by)
        .with_attr("id", id)
}

/// Removes every id that claims to be by one of `ours`, at any position (T-48).
///
/// An id whose `by` is no address at all goes too: it means nothing, and somebody might read it otherwise.
pub fn strip(payload: &mut Vec<Element>, ours: impl Fn(&Jid) -> bool) {
    payload.retain(|child| {
        if !child.is("stanza-id", ns::SID) {
            return true;
        }
        let by = child.attr("by").and_then(|by| Jid::new(by).ok());
        by.is_some_and(|by| !ours(&by))
    });
}

/// The id that the sender gave to a message.
pub fn origin_id(stanza: &Stanza) -> Option<&str> {
    stanza.child("origin-id", ns::SID)?.attr("id")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t_48_every_id_in_our_name_is_stripped_however_it_is_spelt() {
        let kept = stanza_id("room@example.net", "3");
        let mut payload = vec![
            stanza_id("a@example.org", "1"),
            kept.clone(),
            stanza_id("A@EXAMPLE.org", "2"),
            stanza_id("@", "4"),
            Element::new("stanza-id", ns::SID).with_attr("id", "5"),
        ];
        let ours = Jid::new("a@example.org").unwrap();
        strip(&mut payload, |by| *by == ours);
        assert_eq!(payload, [kept]);
    }
}
