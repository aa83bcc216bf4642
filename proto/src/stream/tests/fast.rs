//! Logins with a token.

use super::sasl2::{AGENT, BIND2, FAST, TOKEN, authenticate, bound, fast, header_from};
use super::*;
use crate::sasl::Failure;
use crate::sasl::ht::{self, Initiator, Method, Token, TokenMechanism};

/// A login with this token, where these are known.
fn with_token(message: &str, known: &[Token]) -> Script {
    let mut script = Script::tls();
    script.send(&header_from("alice@example.org"));
    script.clear();
    script.send(message);
    script.stream.tokens(known);
    script.pump();
    script
}

#[test]
fn fa_3_and_fa_9_a_token_opens_a_session_in_one_message() {
    let known = ["other", TOKEN].map(|token| Token::new(token.to_owned(), false));
    let mut script = with_token(&fast(TOKEN, &format!("{AGENT}{FAST}{BIND2}")), &known);
    let expect = Method::Token {
        mechanism: TokenMechanism::Unbound,
        index: 1,
    };
    let told = |input: &Input| matches!(input, Input::Authenticated { mechanism, .. } if *mechanism == expect);
    assert!(script.inputs.iter().any(told), "{:?}", script.inputs);
    script.open(Opened {
        session: bound(None),
        failed: None,
        token: Some(GivenToken {
            secret: "next".to_owned(),
            expiry: "2030-01-01T00:00:00Z".to_owned(),
        }),
    });
    assert_eq!(
        script.message("additional-data"),
        ht::responder(TOKEN, &[]),
        "FA-9"
    );
    let token = "<token xmlns='urn:xmpp:fast:0' expiry='2030-01-01T00:00:00Z' token='next'/>";
    assert!(script.output.contains(token), "{}", script.output);
    // One that is bound to the channel.
    let message = Initiator::message("alice", TOKEN, &[7; 32]);
    let bound = authenticate("HT-SHA-256-EXPR", &message, &format!("{AGENT}{FAST}"));
    let script = with_token(&bound, &known);
    assert!(
        matches!(script.last(), Input::Open(_)),
        "{:?}",
        script.inputs
    );
    let message = Initiator::message("alice", TOKEN, &[8; 32]);
    let other = authenticate("HT-SHA-256-EXPR", &message, &format!("{AGENT}{FAST}"));
    with_token(&other, &known).expect_login_failure(Failure::NotAuthorized);
}

#[test]
fn fa_6_expired_and_unknown_tokens_are_told_apart() {
    let whole = fast(TOKEN, &format!("{AGENT}{FAST}"));
    let expired = Token::new(TOKEN.to_owned(), true);
    with_token(&whole, &[expired]).expect_login_failure(Failure::CredentialsExpired);
    let other = Token::new("other".to_owned(), true);
    with_token(&whole, &[other]).expect_login_failure(Failure::NotAuthorized);
    with_token(&whole, &[]).expect_login_failure(Failure::NotAuthorized);
}

#[test]
fn fa_3_a_login_that_does_not_say_whose_it_is_is_malformed() {
    for inline in [
        AGENT,
        FAST,
        "",
        "<user-agent/><fast xmlns='urn:xmpp:fast:0'/>",
    ] {
        with_token(&fast(TOKEN, inline), &[]).expect_login_failure(Failure::MalformedRequest);
    }
    let whole = format!("{AGENT}{FAST}");
    let empty = format!(
        "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='HT-SHA-256-NONE'>{whole}</authenticate>"
    );
    with_token(&empty, &[]).expect_login_failure(Failure::MalformedRequest);
    let mut script = Script::tls();
    script.send(HEADER);
    script.send(&fast(TOKEN, &whole));
    script.expect_login_failure(Failure::MalformedRequest);
    // It is none of the mechanisms that the first profile knows (FA-1).
    let mut script = Script::tls();
    script.send(&header_from("alice@example.org"));
    script.send(
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='HT-SHA-256-NONE'>AAAA</auth>",
    );
    assert!(
        script.output.contains("<invalid-mechanism/>"),
        "{}",
        script.output
    );
}

#[test]
fn fa_1_where_tokens_are_off_there_is_no_such_mechanism() {
    let off = Settings {
        tokens: false,
        ..settings()
    };
    let mut script = Script::new(Security::Tls(tls()), off);
    script.send(&header_from("alice@example.org"));
    script.send(&fast(TOKEN, &format!("{AGENT}{FAST}")));
    script.expect_login_failure(Failure::InvalidMechanism);
}
