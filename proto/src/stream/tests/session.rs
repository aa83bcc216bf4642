//! After `<success/>`: binding, stream management, the end.

use super::*;
use crate::sm::{Enabled, Failed};
use crate::stanza::error::{Condition as Refusal, StanzaError};
use crate::stanza::{Kind, MessageType};

const RESUME: &str = "<resume xmlns='urn:xmpp:sm:3' previd='old' h='7'/>";
const ENABLE: &str = "<enable xmlns='urn:xmpp:sm:3' resume='true' max='900'/>";
const REQUEST: &str = "<r xmlns='urn:xmpp:sm:3'/>";
const MESSAGE: &str = "<message to='bob@example.org' type='chat'><body>hi</body></message>";
const REFUSED: &str = "<failed xmlns='urn:xmpp:sm:3'>\
    <unexpected-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>";

#[test]
fn st_61_a_resource_is_bound_and_stanzas_flow() {
    let mut script = Script::authenticated();
    script.send(BIND);
    let Input::Bind { id, resource } = script.last() else {
        panic!("{:?}", script.inputs)
    };
    assert_eq!((&**id, resource.as_deref()), ("b1", Some("phone")));
    script.bind();
    assert_eq!(
        script.output,
        "<iq id='b1' type='result'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
         <jid>alice@example.org/phone</jid></bind></iq>"
    );
    script.send(MESSAGE);
    let Input::Stanza(stanza) = script.last() else {
        panic!("{:?}", script.inputs)
    };
    assert_eq!(stanza.header.kind, Kind::Message(MessageType::Chat));
    assert_eq!(stanza.header.lang, None);
}

#[test]
fn st_63_a_resource_that_cannot_be_granted_is_generated() {
    // One byte too many (ST-99).
    let long = "x".repeat(513);
    for wish in [
        "",
        "<resource/>",
        "<resource>&#x7f;</resource>",
        &format!("<resource>{long}</resource>"),
    ] {
        let mut script = Script::authenticated();
        script.send(&BIND.replace("<resource>phone</resource>", wish));
        assert!(
            matches!(script.last(), Input::Bind { resource: None, .. }),
            "{wish}"
        );
    }
}

#[test]
fn st_65_the_fifth_refused_bind_ends_the_stream() {
    let mut script = Script::authenticated();
    for _ in 0..4 {
        script.send(BIND);
        script
            .stream
            .bind_failed("b1", StanzaError::new(Refusal::ResourceConstraint));
        script.pump();
    }
    assert!(
        script
            .output
            .contains("<iq id='b1' type='error'><error type='wait' code='500'>"),
        "{}",
        script.output
    );
    script.send(&BIND.replace("'set'", "'get'"));
    script.expect_failure(Condition::PolicyViolation);
    assert!(script.output.contains("<bad-request "), "{}", script.output);
}

#[test]
fn st_65_a_second_bind_is_refused_and_counts_as_handled() {
    // It is answered (SM-19) on this stream, whoever it says that it is from (ST-66).
    let mut script = Script::bound();
    script.send(&BIND.replace("id='b1'", "id='b2' from='bob@example.org/x'"));
    let Input::Invalid { reply: Some(reply) } = script.last() else {
        panic!("{:?}", script.inputs)
    };
    assert_eq!(
        (reply.header.id.as_deref(), &reply.header.to),
        (Some("b2"), &None)
    );
    let stanza = reply.unpack().expect("our own");
    assert_eq!(
        StanzaError::parse(&stanza.payload[0]).condition,
        Refusal::NotAllowed
    );
}

#[test]
fn st_16_the_legacy_session_request_is_answered_everywhere() {
    let session =
        "<iq type='set' id='s1'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>";
    let mut script = Script::authenticated();
    script.send(session);
    assert_eq!(script.output, "<iq id='s1' type='result'/>");
    let mut script = Script::managed();
    script.send(session);
    assert!(matches!(script.last(), Input::Invalid { reply: Some(_) }));
}

#[test]
fn st_15_no_stanza_before_the_resource() {
    let mut script = Script::authenticated();
    script.send(MESSAGE);
    script.expect_failure(Condition::NotAuthorized);
    let mut script = Script::tls();
    script.send(HEADER).send(BIND);
    script.expect_failure(Condition::NotAuthorized);
}

#[test]
fn st_72_a_broken_stanza_is_answered_and_one_in_a_wrong_namespace_ends_the_stream() {
    let mut script = Script::bound();
    script.send("<message to='@' id='1'/><iq type='result' to='@'/>");
    assert!(matches!(
        script.inputs[0],
        Input::Invalid { reply: Some(_) }
    ));
    assert!(matches!(script.inputs[1], Input::Invalid { reply: None }));
    script.send("<message xmlns='jabber:server'/>");
    script.expect_failure(Condition::UnsupportedStanzaType);
}

#[test]
fn st_6_a_foreign_language_is_stamped_where_none_is_given() {
    let mut script = Script::tls();
    script.send(HEADER).send(&plain());
    script.answer_plain(true);
    script
        .send(&HEADER.replace("to=", "xml:lang='de' to="))
        .send(BIND);
    script.bind();
    script.clear();
    script.send("<message/><message xml:lang='fr'/>");
    let langs = script.inputs.iter().map(|input| match input {
        Input::Stanza(stanza) => stanza.header.lang.as_deref(),
        other => panic!("{other:?}"),
    });
    assert_eq!(langs.collect::<Vec<_>>(), [Some("de"), Some("fr")]);
}

#[test]
fn sm_16_stanzas_pipelined_behind_enable_come_after_it() {
    let mut script = Script::authenticated();
    script.send(&format!("{BIND}{ENABLE}{MESSAGE}{REQUEST}"));
    assert_eq!(
        script.inputs.len(),
        1,
        "the resource comes first: {:?}",
        script.inputs
    );
    script.bind();
    let Input::Enable {
        resume: true,
        max: Some(900),
    } = script.inputs[1]
    else {
        panic!("{:?}", script.inputs);
    };
    assert!(matches!(script.inputs[2], Input::Stanza(_)));
    assert!(matches!(script.inputs[3], Input::AckRequest));
    script.clear();
    script.stream.enabled(Enabled {
        id: Some("q".into()),
        max: Some(600),
    });
    script.pump();
    assert_eq!(
        script.output,
        "<enabled xmlns='urn:xmpp:sm:3' id='q' resume='true' max='600'/>"
    );
}

#[test]
fn sm_46_a_whole_login_with_resume_fits_into_one_segment() {
    let mut script = Script::tls();
    let ack = "<a xmlns='urn:xmpp:sm:3' h='8'/>";
    script.send(&format!(
        "{HEADER}{}{HEADER}{RESUME}{MESSAGE}{ack}",
        plain()
    ));
    script.answer_plain(true);
    let Input::Resume { previd, h: 7 } = script.last() else {
        panic!("{:?}", script.inputs)
    };
    assert_eq!(previd, "old");
    script.clear();
    script.stream.resumed("old", 31);
    script.pump();
    assert_eq!(
        script.output,
        "<resumed xmlns='urn:xmpp:sm:3' previd='old' h='31'/>"
    );
    assert!(matches!(script.inputs[0], Input::Stanza(_)));
    assert!(matches!(script.inputs[1], Input::Ack(8)));
}

#[test]
fn t_5_the_result_is_the_same_byte_by_byte() {
    let mut script = Script::tls();
    let text = format!("{HEADER}{}{HEADER}{RESUME}", plain());
    for byte in text.as_bytes() {
        script.stream.feed(&[*byte]);
        script.pump();
        match script.inputs.last() {
            Some(Input::Lookup { .. }) => script.stream.credentials(Some(credentials())),
            Some(Input::VerifyPlain { .. }) => script.stream.plain_verified(true),
            _ => {}
        }
    }
    script.pump();
    assert!(
        matches!(script.last(), Input::Resume { .. }),
        "{:?}",
        script.inputs
    );
}

#[test]
fn sm_47_a_refused_resume_leaves_the_stream_usable() {
    let mut script = Script::authenticated();
    script.send(&format!("{RESUME}{BIND}"));
    script.stream.resume_failed(Failed {
        condition: Refusal::ItemNotFound,
        h: Some(31),
    });
    script.pump();
    assert_eq!(
        script.output,
        "<failed xmlns='urn:xmpp:sm:3' h='31'>\
         <item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"
    );
    assert!(matches!(script.last(), Input::Bind { .. }));
}

#[test]
fn sm_47_a_malformed_resume_is_a_bad_request() {
    for broken in [
        RESUME.replace("h='7'", ""),
        RESUME.replace("'old'", "''"),
        RESUME.replace("'7'", "'x'"),
    ] {
        let mut script = Script::authenticated();
        script.send(&broken);
        assert!(script.output.contains("<bad-request "), "{}", script.output);
        assert_eq!(script.stream.state(), State::Authenticated);
    }
}

#[test]
fn sm_4_out_of_order_is_refused_and_the_stream_stays() {
    let mut before = Script::tls();
    before.send(HEADER).clear();
    for (mut script, xml) in [
        (before, ENABLE),
        (Script::authenticated(), ENABLE),
        (Script::bound(), RESUME),
        (Script::managed(), RESUME),
    ] {
        let state = script.stream.state();
        script.send(xml);
        assert_eq!(script.output, REFUSED);
        assert_eq!(script.stream.state(), state);
    }
}

#[test]
fn sm_9_a_second_enable_changes_nothing_and_the_fourth_ends_the_stream() {
    let mut script = Script::managed();
    script.send(&ENABLE.repeat(3));
    assert_eq!(script.output, REFUSED.repeat(3));
    assert!(script.inputs.is_empty(), "{:?}", script.inputs);
    script.send(ENABLE);
    script.expect_failure(Condition::PolicyViolation);
}

#[test]
fn sm_18_after_a_failed_enable_another_may_follow() {
    let mut script = Script::bound();
    script.send(ENABLE);
    script.stream.enable_failed(Refusal::InternalServerError);
    script.send(ENABLE);
    assert_eq!(script.inputs.len(), 2, "{:?}", script.inputs);
    assert!(
        script.output.contains("<internal-server-error "),
        "{}",
        script.output
    );
}

#[test]
fn sm_29_acks_must_be_numbers_and_come_after_enable() {
    let mut script = Script::managed();
    script.send("<a xmlns='urn:xmpp:sm:3' h='4294967295'/>");
    assert!(matches!(script.last(), Input::Ack(u32::MAX)));
    script.send("<a xmlns='urn:xmpp:sm:3' h='-1'/>");
    script.expect_failure(Condition::InvalidXml);
    let mut script = Script::bound();
    script.send(&REQUEST.repeat(3));
    assert!(script.inputs.is_empty() && script.output.is_empty());
    script.send(REQUEST);
    script.expect_failure(Condition::PolicyViolation);
}

#[test]
fn sm_12_without_stream_management_nothing_is_offered_or_granted() {
    let mut script = Script::new(
        Security::Tls(tls()),
        Settings {
            sm: false,
            ..settings()
        },
    );
    script.send(HEADER).send(&plain());
    script.answer_plain(true);
    script.send(HEADER);
    assert!(!script.output.contains("urn:xmpp:sm:3"));
    script.send(RESUME);
    assert!(
        script.output.contains("<feature-not-implemented "),
        "{}",
        script.output
    );
}

#[test]
fn xep_0352_the_state_of_the_client_is_told() {
    let mut script = Script::bound();
    script.send("<inactive xmlns='urn:xmpp:csi:0'/><active xmlns='urn:xmpp:csi:0'/>");
    assert!(matches!(
        script.inputs[..],
        [Input::Csi(false), Input::Csi(true)]
    ));
}

#[test]
fn st_18_the_end_is_answered_once() {
    let mut script = Script::managed();
    script.send(&format!("{MESSAGE}{END_TAG}"));
    assert!(matches!(
        script.inputs[..],
        [Input::Stanza(_), Input::Closed]
    ));
    assert_eq!(script.output, END_TAG);
    script.stream.close();
    script.send(MESSAGE);
    assert_eq!((script.inputs.len(), &*script.output), (2, END_TAG));
}

#[test]
fn st_18_after_our_end_the_peer_may_finish() {
    let mut script = Script::managed();
    script.stream.close();
    script.send(&format!(
        "{MESSAGE}{REQUEST}<a xmlns='urn:xmpp:sm:3' h='1'/>{END_TAG}"
    ));
    assert!(matches!(
        script.inputs[..],
        [Input::Stanza(_), Input::Ack(1), Input::Closed]
    ));
    assert_eq!(script.output, END_TAG);
}

#[test]
fn sm_28_the_driver_ends_a_stream_with_an_error() {
    let mut script = Script::managed();
    script
        .stream
        .fail(crate::sm::CountTooHigh { h: 12, sent: 9 }.into());
    script.pump();
    script.expect_failure(Condition::UndefinedCondition);
    let detail = "<handled-count-too-high xmlns='urn:xmpp:sm:3' h='12' send-count='9'/>";
    assert!(script.output.contains(detail), "{}", script.output);
}

#[test]
fn sm_38_a_stream_error_of_the_client_is_a_clean_end() {
    let mut script = Script::managed();
    script.send("<stream:error><undefined-condition xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>");
    assert!(matches!(script.last(), Input::Closed));
}

#[test]
fn t_6_what_waits_for_the_driver_is_bounded() {
    let mut script = Script::authenticated();
    script.send(BIND);
    let chunk = " ".repeat(64 * 1024);
    for _ in 0..5 {
        script.send(&chunk);
    }
    assert!(
        matches!(script.last(), Input::Bind { .. }),
        "{:?}",
        script.inputs
    );
    script.send(&chunk);
    script.expect_failure(Condition::PolicyViolation);
}

#[test]
fn st_88_the_size_of_a_stanza_is_limited_as_configured() {
    let mut script = Script::bound();
    let mut stanza = |length: usize| {
        let frame = "<message><body></body></message>".len();
        script.send(&format!(
            "<message><body>{}</body></message>",
            "x".repeat(length - frame)
        ));
        matches!(script.last(), Input::Stanza(_))
    };
    assert!(stanza(crate::limit::STANZA_BYTES));
    assert!(!stanza(crate::limit::STANZA_BYTES + 1));
    script.expect_failure(Condition::PolicyViolation);
    assert!(
        script
            .output
            .contains("<stanza-too-big xmlns='urn:xmpp:errors'/>")
    );
}
