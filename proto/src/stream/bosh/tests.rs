//! Sessions of BOSH, request by request.

mod lossy;

use std::time::Duration;

use super::outbox::QUEUE_BYTES;
use super::request::tests::read;
use super::session::{HASTE, LINGER, REQUESTS_BEFORE_AUTH};
use super::terms::{INACTIVITY, POLLING};
use super::*;
use crate::ns;
use crate::xml::Element;

const HEADER: &[u8] = b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' from='a.example' id='7' version='1.0'><stream:features/>";
const START: Duration = Duration::from_secs(100);

fn request(rid: u64, attributes: &str, payload: &str) -> Request {
    let xbosh = ns::XBOSH;
    let text = format!(
        "<body rid='{rid}' sid='s' {attributes} xmlns='{}' xmlns:xmpp='{xbosh}'>{payload}</body>",
        ns::BOSH
    );
    read(&text, text.len()).unwrap()
}

/// A session whose client has asked for it so.
fn asked(attributes: &str) -> Session {
    Session::new("s", request(10, attributes, ""), START)
}

/// All that the stream can read.
fn inward(session: &mut Session) -> String {
    let mut all = Vec::new();
    while let Ok(Some(bytes)) = session.read(3, START) {
        if bytes.is_empty() {
            break;
        }
        all.extend(bytes);
    }
    String::from_utf8(all).unwrap()
}

fn outward(session: &mut Session, bytes: &[u8]) {
    session.write(bytes, START);
    session.flush(START);
}

/// The answers that are ready.
fn answers(session: &mut Session) -> Vec<(u64, String)> {
    let ready = session.ready().into_iter();
    ready
        .map(|(rid, answer)| (rid, String::from_utf8(answer.to_vec()).unwrap()))
        .collect()
}

/// A session whose client is logged in, and has a request that waits.
fn begun() -> Session {
    let first = "to='a.example' hold='1' wait='60' xmpp:version='1.0'";
    let mut session = Session::new("s", request(9, first, ""), START);
    inward(&mut session);
    outward(&mut session, HEADER);
    outward(&mut session, b"<success xmlns='urn:xmpp:sasl:2'/>");
    session.receive(request(10, "", ""), START);
    inward(&mut session);
    session.receive(request(11, "", ""), START);
    answers(&mut session);
    session
}

fn sent(session: &mut Session, rid: u64, payload: &str) {
    let received = session.receive(request(rid, "", payload), START);
    assert_eq!(received, Received::Waits);
}

#[track_caller]
fn refused(received: Received, condition: &str) {
    let Received::Answered(answer) = received else {
        panic!("{received:?}");
    };
    let expect = format!(
        "<body xmlns='{}' type='terminate' condition='{condition}'/>",
        ns::BOSH
    );
    assert_eq!(String::from_utf8(answer.to_vec()).unwrap(), expect);
}

const MESSAGE: &str = "<message xmlns='jabber:client'><body>1</body></message>";
const EMPTY: &str = "<body xmlns='http://jabber.org/protocol/httpbind'/>";

#[test]
fn bo_1_the_first_answer_has_the_terms_and_the_features() {
    let mut session = asked(
        "to='a.example' hold='5' wait='7' ver='1.6' ack='1' xml:lang='de' xmpp:version='1.0'",
    );
    let root = "<_:stream xmlns:_='http://etherx.jabber.org/streams' to='a.example' version='1.0' xml:lang='de'>";
    assert_eq!(inward(&mut session), root);
    session.write(HEADER, START);
    assert_eq!(answers(&mut session), [], "there may be more");
    session.flush(START);
    let [(10, answer)] = &answers(&mut session)[..] else {
        panic!("no answer");
    };
    let answer = Element::parse(answer).unwrap();
    for (name, value) in [
        ("sid", "s"),
        ("wait", "7"),
        ("hold", "1"),
        ("requests", "2"),
        ("inactivity", "60"),
        ("polling", "1"),
        ("maxpause", "120"),
        ("ver", "1.6"),
        ("ack", "10"),
        ("from", "a.example"),
        ("authid", "7"),
        ("secure", "true"),
    ] {
        assert_eq!(answer.attr(name), Some(value), "{name}");
    }
    assert_eq!(answer.attr_ns("version", ns::XBOSH), Some("1.0"));
    assert!(answer.child("features", ns::STREAM).is_some());
}

#[test]
fn bo_1_a_client_chooses_the_type_of_its_answers() {
    assert_eq!(
        asked("content='text/html; charset=utf-8'").content(),
        Some("text/html; charset=utf-8")
    );
    for bad in [
        "text",
        "a/b/c",
        "a/b; c d",
        "/",
        "a/&#10;b",
        "a/b; &#13;&#10;c: d",
    ] {
        assert_eq!(asked(&format!("content='{bad}'")).content(), None, "{bad}");
    }
}

#[test]
fn bo_2_payloads_are_read_in_order_and_slowly_if_the_reader_is_slow() {
    let mut session = begun();
    inward(&mut session);
    outward(&mut session, b"<presence/>");
    answers(&mut session);
    sent(&mut session, 13, "<b xmlns='x'/>");
    sent(&mut session, 12, "<a xmlns='x'/>");
    assert_eq!(answers(&mut session), [], "the next one is not taken up");
    assert_eq!(inward(&mut session), "<a xmlns='x'/><b xmlns='x'/>");
    assert_eq!(answers(&mut session), [(12, EMPTY.to_owned())]);
}

#[test]
fn bo_2_what_is_too_far_ahead_or_too_much_ends_the_session() {
    for (rids, condition) in [
        (&[14][..], "item-not-found"),
        (&[8], "item-not-found"),
        (&[12, 13], "policy-violation"),
    ] {
        let mut session = begun();
        let received: Vec<_> = rids
            .iter()
            .map(|rid| session.receive(request(*rid, "", MESSAGE), START))
            .collect();
        refused(received.into_iter().next_back().unwrap(), condition);
        assert!(session.is_over());
        assert_eq!(
            session.read(9, START).unwrap(),
            Some(Vec::new()),
            "the connection is lost"
        );
        assert!(
            answers(&mut session)
                .iter()
                .all(|(_, answer)| answer.contains("type='terminate'"))
        );
    }
}

#[test]
fn bo_2_empty_requests_may_not_come_too_often() {
    let mut session = begun();
    let mut rid = 12;
    let refusal = loop {
        inward(&mut session);
        match session.receive(request(rid, "", ""), START) {
            Received::Waits => rid += 1,
            refusal => break refusal,
        }
    };
    refused(refusal, "policy-violation");
    assert_eq!(
        rid,
        13 + u64::from(HASTE),
        "the answer before 12 said something"
    );
    // Who hears something asks again at once.
    let mut session = begun();
    for rid in 12..300 {
        inward(&mut session);
        outward(&mut session, b"<presence/>");
        sent(&mut session, rid, "");
    }
    // Before a login, not even with something in them.
    let mut session = asked("to='a.example'");
    outward(&mut session, HEADER);
    let last = (11..).find(|rid| {
        inward(&mut session);
        session.receive(request(*rid, "", "<a xmlns='x'/>"), START) != Received::Waits
    });
    assert_eq!(last, Some(11 + u64::from(REQUESTS_BEFORE_AUTH)));
}

#[test]
fn bo_3_a_request_waits_for_news_and_hears_the_same_again() {
    let mut session = begun();
    assert_eq!(answers(&mut session), []);
    outward(&mut session, MESSAGE.as_bytes());
    let expect = format!("<body xmlns='{}'>{MESSAGE}</body>", ns::BOSH);
    assert_eq!(answers(&mut session), [(11, expect.clone())]);
    for _ in 0..2 {
        let again = session.receive(request(11, "", ""), START);
        assert_eq!(again, Received::Answered(expect.as_bytes().into()));
    }
    // What comes while nobody waits is in the next answer, once.
    outward(&mut session, b"<presence/>");
    sent(&mut session, 12, "");
    inward(&mut session);
    let expect = format!(
        "<body xmlns='{}'><presence xmlns='jabber:client'/></body>",
        ns::BOSH
    );
    assert_eq!(answers(&mut session), [(12, expect)]);
}

#[test]
fn bo_3_news_do_not_go_where_nobody_waits() {
    let mut session = begun();
    session.detach(11, START);
    outward(&mut session, MESSAGE.as_bytes());
    assert_eq!(answers(&mut session), []);
    sent(&mut session, 11, "");
    assert!(answers(&mut session)[0].1.contains(MESSAGE));
}

#[test]
fn bo_4_a_request_waits_as_long_as_it_may() {
    let mut session = begun();
    assert_eq!(session.due(), Some(START + WAIT));
    session.tick(START + WAIT - POLLING);
    assert_eq!(answers(&mut session), []);
    session.tick(START + WAIT);
    assert_eq!(answers(&mut session), [(11, EMPTY.to_owned())]);
}

#[test]
fn bo_4_a_client_without_a_request_is_lost_after_a_while() {
    for (pause, patience) in [
        ("", INACTIVITY),
        ("pause='100'", Duration::from_secs(100)),
        ("pause='121'", INACTIVITY),
    ] {
        let mut session = begun();
        session.write(b"<presence/>", START);
        inward(&mut session);
        session.receive(request(12, pause, ""), START);
        inward(&mut session);
        let told: Vec<_> = answers(&mut session)
            .into_iter()
            .map(|(rid, answer)| (rid, answer == EMPTY))
            .collect();
        if pause == "pause='100'" {
            assert_eq!(
                told,
                [(11, false), (12, true)],
                "nothing is in the answer to a pause"
            );
        } else {
            assert_eq!(told, [(11, false)]);
            session.detach(12, START);
        }
        let end = START + patience;
        assert_eq!(session.due().unwrap().max(end), end);
        session.tick(end - POLLING);
        assert!(!session.is_over(), "{pause}");
        session.tick(end);
        assert!(session.is_over(), "{pause}");
        refused(session.receive(request(13, "", ""), end), "item-not-found");
        assert!(!session.is_gone(end) && session.is_gone(end + LINGER));
    }
}

#[test]
fn bo_4_nothing_is_in_the_answer_to_a_pause() {
    let mut session = begun();
    inward(&mut session);
    outward(&mut session, b"<presence/>");
    outward(&mut session, MESSAGE.as_bytes());
    answers(&mut session);
    session.receive(request(12, "pause='100'", ""), START);
    assert_eq!(answers(&mut session), [(12, EMPTY.to_owned())]);
    inward(&mut session);
    sent(&mut session, 13, "");
    assert!(answers(&mut session)[0].1.contains(MESSAGE));
}

#[test]
fn bo_5_what_waits_is_bounded() {
    let mut session = begun();
    session.detach(11, START);
    let mut written = 0;
    while session.room() > 0 {
        session.write(MESSAGE.as_bytes(), START);
        written += MESSAGE.len();
    }
    assert!((QUEUE_BYTES..QUEUE_BYTES + MESSAGE.len()).contains(&written));
    sent(&mut session, 11, "");
    assert_eq!(
        answers(&mut session)[0].1.matches(MESSAGE).count(),
        written / MESSAGE.len()
    );
    assert_eq!(session.room(), QUEUE_BYTES);
}

#[test]
fn bo_6_a_stream_begins_anew_when_it_is_asked_to_and_at_no_other_time() {
    let mut session = asked("to='a.example' xmpp:version='1.0'");
    outward(&mut session, HEADER);
    outward(
        &mut session,
        b"<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
    );
    assert!(session.is_authenticated());
    inward(&mut session);
    sent(&mut session, 11, "");
    sent(&mut session, 12, "");
    assert_eq!(
        inward(&mut session),
        "",
        "no sign of life where none may be"
    );
    let restart = session.receive(request(13, "to='a.example' xmpp:restart='true'", ""), START);
    assert_eq!(restart, Received::Waits);
    let root = inward(&mut session);
    assert!(
        root.starts_with("<_:stream ") && root.contains(" version='1.0'"),
        "{root}"
    );
    for (begin, bad) in [
        ("", "xmpp:restart='true'"),
        ("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>", ""),
    ] {
        let mut session = begun();
        inward(&mut session);
        outward(&mut session, begin.as_bytes());
        session.receive(request(12, bad, "<a xmlns='x'/>"), START);
        let fault = session.read(9, START).unwrap_err();
        assert_eq!(fault.condition, crate::stream::Condition::BadFormat);
    }
}

#[test]
fn bo_7_both_ends_are_told_in_the_answer_to_the_first_that_waits() {
    let mut session = begun();
    inward(&mut session);
    session.receive(
        request(12, "type='terminate'", "<presence type='unavailable'/>"),
        START,
    );
    assert_eq!(
        inward(&mut session),
        "<presence xmlns='jabber:client' type='unavailable'/></_:stream>"
    );
    session.write(MESSAGE.as_bytes(), START);
    session.write(b"</stream:stream>", START);
    assert_eq!(answers(&mut session), []);
    session.shut_down(START);
    let expect = format!("<body xmlns='{}' type='terminate'", ns::BOSH);
    let last = [
        (11, format!("{expect}>{MESSAGE}</body>")),
        (12, format!("{expect}/>")),
    ];
    assert_eq!(answers(&mut session), last);
    assert_eq!(
        session.receive(request(11, "", ""), START),
        Received::Answered(last[0].1.as_bytes().into())
    );
    refused(
        session.receive(request(13, "", ""), START),
        "item-not-found",
    );
}

#[test]
fn bo_7_an_end_that_nobody_waited_for_is_told_to_the_next_request() {
    let error = "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>";
    let told = "condition='remote-stream-error'><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></body>";
    for (written, expect) in [
        (error, told),
        ("", "condition='remote-connection-failed'/>"),
        ("</stream:stream>", "'terminate'/>"),
    ] {
        let mut session = begun();
        session.tick(START + WAIT);
        answers(&mut session);
        session.write(written.as_bytes(), START);
        session.shut_down(START);
        for rid in [12, 12] {
            let Received::Answered(answer) = session.receive(request(rid, "", ""), START) else {
                panic!("it is over");
            };
            let answer = String::from_utf8(answer.to_vec()).unwrap();
            assert!(answer.ends_with(expect), "{answer}");
        }
    }
    // A node that stops says so, and what waited is heard before.
    let mut session = begun();
    answers(&mut session);
    session.write(MESSAGE.as_bytes(), START);
    session.node_leaves();
    session.shut_down(START);
    let [(_, last), ..] = &answers(&mut session)[..] else {
        panic!("a request waits");
    };
    let expect = format!(" type='terminate' condition='system-shutdown'>{MESSAGE}</body>");
    assert!(last.ends_with(&expect), "{last}");
    // Where the session is taken over by another connection, nothing that waited may leave.
    let mut session = begun();
    session.write(MESSAGE.as_bytes(), START);
    session.abandon(START);
    assert!(!answers(&mut session)[0].1.contains("message"));
}

#[test]
fn bo_7_what_is_wrong_with_the_first_request_has_its_own_conditions() {
    let host = "host-unknown";
    for (attributes, error, expect) in [
        ("to='b.example'", host, host),
        ("", host, "improper-addressing"),
        (
            "to='a.example'",
            "unsupported-version",
            "remote-stream-error",
        ),
    ] {
        let mut session = asked(attributes);
        inward(&mut session);
        let error = format!(
            "<stream:error><{error} xmlns='{}'/></stream:error></stream:stream>",
            ns::STREAMS
        );
        session.write(&HEADER[..HEADER.len() - "<stream:features/>".len()], START);
        session.write(error.as_bytes(), START);
        session.shut_down(START);
        let answer = &answers(&mut session)[0].1;
        assert!(
            answer.contains(&format!("type='terminate' condition='{expect}'")),
            "{answer}"
        );
    }
}
