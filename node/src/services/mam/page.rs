//! How a page of the archive is written: a message for each entry, then the result that ends it.

use bytes::Bytes;
use cluster::ArchiveId;
use proto::payload::{delay, rsm};
use proto::stanza::{Header, Kind, MessageType, Packet};
use proto::{BareJid, Element, Jid, ns};

use super::storage::{Entry, Page};

/// The bytes of payload that a page may hold: it travels through the shard's log like everything that is
/// written to a client, and must not hold up the chat around it.
const MAX_BYTES: usize = 96 * 1024;

/// Leaves out what is too much for one page, at the far end. One entry always stays.
pub fn bounded(mut page: Page, backwards: bool) -> Page {
    if backwards {
        page.entries.reverse();
    }
    let mut bytes = 0;
    let fits = page.entries.iter().take_while(|entry| {
        bytes += entry.stanza.size();
        bytes <= MAX_BYTES
    });
    let fits = fits.count().max(1);
    if fits < page.entries.len() {
        page.entries.truncate(fits);
        page.complete = false;
        page.stop = None;
    }
    if backwards {
        page.entries.reverse();
    }
    page
}

/// The `<fin/>` that ends a page (IM-91). Unless it is `stable`, messages may yet appear within it.
pub fn fin(page: &Page, backwards: bool, count: Option<u64>, stable: bool) -> Element {
    let set = rsm::Page {
        range: range(page, backwards).map(|(first, last)| (first.to_string(), last.to_string())),
        index: None,
        count,
    };
    let mut fin = Element::new("fin", ns::MAM);
    if page.complete {
        fin.set_attr("complete", "true");
    }
    if !stable {
        fin.set_attr("stable", "false");
    }
    fin.with_child(set.to_element())
}

/// The ends of a page. One where a search has stopped ends there, whatever it has found: who goes on from its far end
/// goes on where the search did not look (IM-94).
fn range(page: &Page, backwards: bool) -> Option<(ArchiveId, ArchiveId)> {
    let first = page.entries.first().map(|entry| entry.mid);
    let last = page.entries.last().map(|entry| entry.mid);
    match (page.stop, backwards) {
        (None, _) => first.zip(last),
        (Some(stop), true) => Some((stop, last.unwrap_or(stop))),
        (Some(stop), false) => Some((first.unwrap_or(stop), stop)),
    }
}

/// The messages that bring the entries of a page to the session that asked (IM-90).
pub struct Envelope {
    header: Header,
    /// The start tag of each result, up to the id.
    result: String,
}

impl Envelope {
    /// For the answers to one query.
    pub fn new(account: &BareJid, session: &Jid, query: Option<&str>) -> Self {
        let mut header = Header::new(Kind::Message(MessageType::Normal));
        header.from = Some(account.clone().into());
        header.to = Some(session.clone());
        let mut result = Element::new("result", ns::MAM);
        if let Some(query) = query {
            result.set_attr("queryid", query);
        }
        let mut result = result.to_xml(ns::CLIENT);
        result.truncate(result.len().saturating_sub("/>".len()));
        Self { header, result }
    }

    /// The message that brings this entry. What is archived is written as it is stored: a page has many of them.
    pub fn around(&self, entry: &Entry) -> Packet {
        let mut payload = Vec::with_capacity(self.result.len() + entry.stanza.size() + 256);
        payload.extend_from_slice(self.result.as_bytes());
        let start = format!(
            " id='{}'><forwarded xmlns='{}'><delay xmlns='{}' stamp='{}'/>",
            entry.mid,
            ns::FORWARD,
            ns::DELAY,
            delay::stamp(entry.stamp)
        );
        payload.extend_from_slice(start.as_bytes());
        entry.stanza.write(&mut payload);
        payload.extend_from_slice(b"</forwarded></result>");
        Packet {
            header: self.header.clone(),
            payload: Bytes::from(payload.into_boxed_slice()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::storage::Written;
    use super::*;
    use proto::stanza::Stanza;

    fn entry(n: u128, body: usize) -> Entry {
        let body = Element::new("body", ns::CLIENT).with_text(&"x".repeat(body));
        let stanza = Stanza::new(Kind::Message(MessageType::Chat)).with_child(body);
        Entry {
            mid: ArchiveId(n),
            stamp: 1500,
            order: cluster::Order::default(),
            stanza: Written::of(&stanza.with_from("b@x/r".parse().unwrap()).pack()),
        }
    }

    #[track_caller]
    fn check(backwards: bool, bodies: &[usize], kept: &[u128]) {
        let entries = (0..).zip(bodies).map(|(n, body)| entry(n, *body)).collect();
        let page = bounded(
            Page {
                entries,
                complete: true,
                stop: None,
            },
            backwards,
        );
        let mids: Vec<u128> = page.entries.iter().map(|entry| entry.mid.0).collect();
        assert_eq!(mids, kept);
        assert_eq!(page.complete, kept.len() == bodies.len());
    }

    #[test]
    fn t_55_a_page_is_cut_at_its_far_end_but_never_to_nothing() {
        check(false, &[10, 10], &[0, 1]);
        check(
            false,
            &[MAX_BYTES / 2, MAX_BYTES / 3, MAX_BYTES / 3],
            &[0, 1],
        );
        check(
            true,
            &[MAX_BYTES / 2, MAX_BYTES / 3, MAX_BYTES / 3],
            &[1, 2],
        );
        check(false, &[MAX_BYTES * 2, 1], &[0]);
        check(true, &[1, MAX_BYTES * 2], &[1]);
    }

    #[test]
    fn im_91_the_end_names_the_range_and_says_when_there_is_no_more() {
        let page = Page {
            entries: vec![entry(1, 1), entry(2, 1)],
            complete: true,
            stop: None,
        };
        let xml = fin(&page, false, None, true).to_xml(ns::CLIENT);
        assert!(xml.contains("complete='true'"), "{xml}");
        assert!(
            xml.contains(&format!("<first>{}</first>", ArchiveId(1))),
            "{xml}"
        );
        assert!(
            xml.contains(&format!("<last>{}</last>", ArchiveId(2))),
            "{xml}"
        );
        let xml = fin(&Page::default(), false, Some(7), true).to_xml(ns::CLIENT);
        assert!(
            xml.contains("<count>7</count>") && !xml.contains("first") && !xml.contains("complete"),
            "{xml}"
        );
    }

    #[test]
    fn im_94_a_page_of_a_search_that_has_stopped_reaches_to_where_it_did() {
        let check = |entries: Vec<Entry>, backwards, expect: (u128, u128)| {
            let stop = Some(ArchiveId(5));
            let page = Page {
                entries,
                complete: false,
                stop,
            };
            let expect = (ArchiveId(expect.0), ArchiveId(expect.1));
            assert_eq!(range(&page, backwards), Some(expect));
        };
        check(vec![entry(1, 1), entry(2, 1)], false, (1, 5));
        check(vec![entry(7, 1), entry(8, 1)], true, (5, 8));
        check(vec![], false, (5, 5));
        check(vec![], true, (5, 5));
        // What is cut off has been found and not been sent.
        let cut = Page {
            entries: vec![entry(1, MAX_BYTES), entry(2, MAX_BYTES)],
            complete: false,
            stop: Some(ArchiveId(5)),
        };
        let cut = range(&bounded(cut, false), false);
        assert_eq!(cut, Some((ArchiveId(1), ArchiveId(1))));
    }

    #[test]
    fn im_90_a_result_wraps_the_message_with_its_time() {
        let session: Jid = "a@x/r".parse().unwrap();
        let packet = Envelope::new(&session.bare(), &session, Some("q'")).around(&entry(10, 1));
        let mut out = Vec::new();
        packet.write(&[], &mut out);
        let xml = String::from_utf8(out).unwrap();
        let expect = format!(
            "<message to='a@x/r' from='a@x'><result xmlns='urn:xmpp:mam:2' queryid='q&apos;' id='{}'>\
             <forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='1970-01-01T00:00:01.500Z'/>\
             <message xmlns='jabber:client' from='b@x/r' type='chat'><body>x</body></message></forwarded></result></message>",
            ArchiveId(10)
        );
        assert_eq!(xml, expect);
    }
}
