//! Accounts that are asked for before a login (XEP-0077, XEP-0445).

use super::*;
use crate::payload::register::{self, Request};
use crate::stanza::error::{Condition as Refusal, StanzaError};

const FIELDS: &str = "<iq type='get' id='1'><query xmlns='jabber:iq:register'/></iq>";
const ACCOUNT: &str = "<iq type='set' id='2' to='example.org'><query xmlns='jabber:iq:register'>\
    <username>alice</username><password>correct horse</password></query></iq>";

fn secured(registration: bool) -> Script {
    let settings = Settings {
        registration,
        ..settings()
    };
    let mut script = Script::new(Security::Tls(tls()), settings);
    script.send(HEADER);
    script
}

#[test]
fn re_1_and_re_4_the_features_are_there_only_if_registration_is_on_and_over_tls() {
    let features = [ns::REGISTER_FEATURE, ns::IBR_TOKEN];
    for feature in features.map(|ns| format!("<register xmlns='{ns}'/>")) {
        assert!(secured(true).output.contains(&feature));
        assert!(!secured(false).output.contains(&feature));
        let settings = Settings {
            registration: true,
            ..settings()
        };
        let mut plain = Script::new(Security::Plain, settings);
        plain.send(HEADER);
        assert!(!plain.output.contains("<register"), "{}", plain.output);
        plain.send(ACCOUNT);
        plain.expect_failure(Condition::PolicyViolation);
    }
}

#[test]
fn re_1_an_account_is_asked_for_and_a_login_follows_on_the_same_stream() {
    let mut script = secured(true);
    script.clear();
    script.send(FIELDS);
    assert!(matches!(script.last(), Input::Register(Request::Fields)));
    assert!(script.stream.is_waiting());
    let form = register::fields("", None);
    let expect = format!("<iq id='1' type='result'>{}</iq>", form.to_xml(ns::CLIENT));
    script.stream.registration(Ok(Some(form)));
    script.pump();
    assert_eq!(script.output, expect);
    script.clear();
    script.send(ACCOUNT);
    assert!(matches!(
        script.last(),
        Input::Register(Request::Account { username, .. }) if username == "alice"
    ));
    script.stream.registration(Ok(None));
    script.pump();
    assert_eq!(
        script.output,
        "<iq from='example.org' id='2' type='result'/>"
    );
    script.send(&plain()).answer_plain(true);
    assert!(matches!(script.last(), Input::Authenticated { .. }));
}

#[test]
fn re_1_whatever_is_wrong_is_answered_without_what_was_said() {
    let mut script = secured(true);
    for (request, condition) in [
        (
            FIELDS.replace("id='1'", "id='1' to='example.net'"),
            "service-unavailable",
        ),
        (
            ACCOUNT.replace("<username>alice</username>", ""),
            "not-acceptable",
        ),
        (ACCOUNT.replace(" id='2'", ""), "bad-request"),
    ] {
        script.clear();
        script.send(&request);
        assert!(script.output.contains(condition), "{}", script.output);
        assert!(!script.output.contains("horse"), "{}", script.output);
        assert!(script.inputs.is_empty(), "{:?}", script.inputs);
    }
    script.clear();
    script.send(ACCOUNT);
    let conflict = StanzaError::new(Refusal::Conflict);
    script.stream.registration(Err(conflict));
    script.pump();
    assert!(script.output.contains("<conflict "), "{}", script.output);
    assert!(!script.output.contains("horse"), "{}", script.output);
}

#[test]
fn re_1_where_it_is_off_nobody_answers() {
    let mut script = secured(false);
    script.clear();
    script.send(ACCOUNT);
    assert!(
        script.output.contains("<service-unavailable "),
        "{}",
        script.output
    );
    assert!(script.inputs.is_empty(), "{:?}", script.inputs);
}

#[test]
fn t_31_a_stream_asks_so_often_and_no_more() {
    let mut script = secured(true);
    for _ in 0..20 {
        script.send(FIELDS);
        script.stream.registration(Ok(None));
        script.pump();
    }
    script.send(FIELDS);
    script.expect_failure(Condition::PolicyViolation);
}
