//! Logins by SASL2, and what is asked for along with them.

use super::*;
use crate::sasl::Failure;
use crate::sasl::ht::{Initiator, Method, Token};
use crate::sm::{Enabled, Failed};
use crate::stanza::error::Condition as Stanza;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub(super) const AGENT: &str = "<user-agent id='9c1f6c1e-6a52-4d3f-9a3c-0d6a2f0f1b11'/>";
pub(super) const FAST: &str = "<fast xmlns='urn:xmpp:fast:0'/>";
pub(super) const TOKEN: &str = "tok-abc";
const ALICE: &str = "alice@example.org/App/1";
pub(super) const BIND2: &str = "<bind xmlns='urn:xmpp:bind:0'><tag>App</tag>\
    <enable xmlns='urn:xmpp:sm:3' resume='true'/></bind>";
const RESUME: &str = "<resume xmlns='urn:xmpp:sm:3' previd='old' h='7'/>";

pub(super) fn header_from(from: &str) -> String {
    HEADER.replace(" to=", &format!(" from='{from}' to="))
}

pub(super) fn authenticate(mechanism: &str, message: &[u8], inline: &str) -> String {
    let message = STANDARD.encode(message);
    format!(
        "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='{mechanism}'>\
         <initial-response>{message}</initial-response>{inline}</authenticate>"
    )
}

fn response(message: &[u8]) -> String {
    let message = STANDARD.encode(message);
    format!("<response xmlns='urn:xmpp:sasl:2'>{message}</response>")
}

fn plain(inline: &str) -> String {
    authenticate("PLAIN", b"\0alice\0correct horse", inline)
}

pub(super) fn fast(token: &str, inline: &str) -> String {
    let message = Initiator::message("alice", token, &[]);
    authenticate("HT-SHA-256-NONE", &message, inline)
}

fn jid() -> Jid {
    Jid::new(ALICE).expect("legal")
}

fn opened(session: Session, failed: Option<Failed>) -> Opened {
    Opened {
        session,
        failed,
        token: None,
    }
}

pub(super) fn bound(sm: Option<Result<Enabled, Stanza>>) -> Session {
    Session::Bound {
        jid: jid(),
        sm,
        about: Vec::new(),
    }
}

fn enabled() -> Option<Result<Enabled, Stanza>> {
    Some(Ok(Enabled {
        id: Some("new".to_owned()),
        max: Some(600),
    }))
}

impl Script {
    /// Behind a login by PLAIN that asks for this, and a header from alice.
    fn opening(inline: &str) -> Self {
        let mut script = Self::tls();
        script.send(&header_from("alice@example.org"));
        script.clear();
        script.send(&plain(inline));
        script.answer_plain(true);
        script
    }

    pub(super) fn open(&mut self, opened: Opened) -> &mut Self {
        self.stream.opened(opened);
        self.pump()
    }

    #[track_caller]
    pub(super) fn expect_login_failure(&self, failure: Failure) {
        let expect = format!(
            "<failure xmlns='urn:xmpp:sasl:2'><{} xmlns='{}'/></failure>",
            failure.name(),
            ns::SASL
        );
        assert!(self.output.contains(&expect), "{}", self.output);
        let told =
            |input: &Input| matches!(input, Input::AuthFailed { failure: f, .. } if *f == failure);
        assert!(self.inputs.iter().any(told), "{:?}", self.inputs);
    }
}

#[test]
fn sa_1_and_bi_1_and_fa_1_what_is_offered_beside_the_first_profile() {
    let mut script = Script::tls();
    script.send(HEADER);
    let inline = "<inline><sm xmlns='urn:xmpp:sm:3'/><bind xmlns='urn:xmpp:bind:0'><inline>\
        <feature var='urn:xmpp:carbons:2'/><feature var='urn:xmpp:csi:0'/>\
        <feature var='urn:xmpp:sm:3'/></inline></bind><fast xmlns='urn:xmpp:fast:0'>\
        <mechanism>HT-SHA-256-EXPR</mechanism><mechanism>HT-SHA-256-ENDP</mechanism>\
        <mechanism>HT-SHA-256-NONE</mechanism></fast></inline></authentication>";
    let first = "<authentication xmlns='urn:xmpp:sasl:2'><mechanism>SCRAM-SHA-512-PLUS</mechanism>";
    assert!(script.output.contains(inline), "{}", script.output);
    assert!(script.output.contains(first), "{}", script.output);
    assert!(
        script
            .output
            .contains("<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>")
    );
    let without = Settings {
        sm: false,
        tokens: false,
        ..settings()
    };
    let mut script = Script::new(Security::Tls(TlsInfo::default()), without);
    script.send(HEADER);
    let authentication = script
        .output
        .split("<authentication ")
        .nth(1)
        .expect("offered");
    for absent in ["urn:xmpp:sm:3", "urn:xmpp:fast:0", "PLUS", "HT-"] {
        assert!(
            !authentication.contains(absent),
            "{absent}: {authentication}"
        );
    }
}

#[test]
fn sa_6_and_sa_7_a_login_goes_on_in_the_same_stream() {
    let mut script = Script::tls();
    script.send(HEADER);
    script.clear();
    let binding = Some((BindingType::Exporter, &[7; 32][..]));
    let mechanism = Mechanism::ScramSha512Plus;
    let mut client = ScramClient::new(mechanism, "alice", PASSWORD, "abc", binding);
    script.send(&authenticate(mechanism.name(), &client.first(), BIND2));
    script.stream.credentials(Some(credentials()));
    script.pump();
    let challenge = script.message("challenge");
    assert!(
        script
            .output
            .starts_with("<challenge xmlns='urn:xmpp:sasl:2'>")
    );
    let last = client.respond(&challenge).expect("an honest server");
    script.clear();
    script.send(&response(&last));
    // Nobody hears of it before all is done.
    assert_eq!(script.output, "");
    let [
        Input::Authenticated {
            account,
            mechanism: method,
        },
        Input::Open(inline),
    ] = &script.inputs[..]
    else {
        panic!("{:?}", script.inputs);
    };
    assert_eq!(account.as_str(), "alice@example.org");
    assert_eq!(*method, Method::Password(mechanism));
    let wish = inline.bind.as_ref().expect("asked for");
    assert_eq!(
        (wish.tag.as_deref(), wish.enable),
        (Some("App"), Some((true, None)))
    );
    script.open(opened(bound(enabled()), None));
    client
        .finish(&script.message("additional-data"))
        .expect("the server knows alice");
    let rest = script
        .output
        .split("</additional-data>")
        .nth(1)
        .expect("more");
    let expect = "<authorization-identifier>alice@example.org/App/1</authorization-identifier>\
        <bound xmlns='urn:xmpp:bind:0'><enabled xmlns='urn:xmpp:sm:3' id='new' resume='true' max='600'/>\
        </bound></success><stream:features><csi xmlns='urn:xmpp:csi:0'/>";
    assert!(rest.starts_with(expect), "{rest}");
    assert!(
        !rest.contains("xmpp-bind") && !rest.contains("<sm "),
        "{rest}"
    );
    check_goes_on(script);
}

/// There is no new header, and stanzas count from here (SM-72).
#[track_caller]
fn check_goes_on(mut script: Script) {
    script.clear();
    script.send("<message to='bob@example.org'/><r xmlns='urn:xmpp:sm:3'/>");
    assert!(matches!(
        script.inputs[..],
        [Input::Stanza(_), Input::AckRequest]
    ));
    assert_eq!(
        script.stream.account().map(BareJid::as_str),
        Some("alice@example.org")
    );
}

#[test]
fn sa_7_without_a_session_the_classic_features_follow() {
    let mut script = Script::opening("");
    script.open(opened(Session::None, None));
    let expect = "<success xmlns='urn:xmpp:sasl:2'><authorization-identifier>alice@example.org\
        </authorization-identifier></success><stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>";
    assert!(script.output.starts_with(expect), "{}", script.output);
    script.send(BIND);
    assert!(matches!(script.last(), Input::Bind { .. }));
    let mut script = Script::opening(BIND2);
    script.open(opened(bound(None), None));
    let expect =
        "<bound xmlns='urn:xmpp:bind:0'/></success><stream:features><sm xmlns='urn:xmpp:sm:3'/>";
    assert!(script.output.contains(expect), "{}", script.output);
    script.send("<enable xmlns='urn:xmpp:sm:3'/>");
    assert!(matches!(script.last(), Input::Enable { .. }));
}

#[test]
fn sa_3_an_absent_message_an_empty_one_and_a_broken_one_differ() {
    let mut script = Script::tls();
    script.send(HEADER);
    script.clear();
    script.send("<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'/>");
    assert_eq!(script.output, "<challenge xmlns='urn:xmpp:sasl:2'/>");
    script.send(&response(b"\0alice\0correct horse"));
    assert!(
        matches!(script.last(), Input::Lookup { .. }),
        "{:?}",
        script.inputs
    );
    for (text, failure) in [
        ("", Failure::MalformedRequest),
        ("=", Failure::IncorrectEncoding),
        ("YQ", Failure::IncorrectEncoding),
    ] {
        let mut script = Script::tls();
        script.send(HEADER);
        script.send(&format!(
            "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'>\
             <initial-response>{text}</initial-response></authenticate>"
        ));
        script.expect_login_failure(failure);
    }
}

#[test]
fn sa_2_what_is_not_offered_fails() {
    for name in ["", "X-UNKNOWN", "EXTERNAL", "scram-sha-1"] {
        let mut script = Script::tls();
        script.send(HEADER);
        script.send(&authenticate(name, b"x", ""));
        script.expect_login_failure(Failure::InvalidMechanism);
    }
}

#[test]
fn sa_4_who_said_who_it_is_logs_in_as_nobody_else() {
    let mut script = Script::tls();
    script.send(&header_from("bob@example.org"));
    script.send(&plain(""));
    script.expect_login_failure(Failure::InvalidAuthzid);
    let mut script = Script::tls();
    script.send(&header_from("alice@example.com"));
    script.send(&plain(""));
    script.expect_failure(Condition::InvalidFrom);
    // Where nobody asked for SASL2, what the header says means nothing (ST-9).
    let mut script = Script::tls();
    script.send(&header_from("bob@example.com"));
    script.send(&super::plain());
    assert!(matches!(script.last(), Input::Lookup { .. }));
}

#[test]
fn sa_5_nothing_comes_in_between_not_even_a_space() {
    let begun = || {
        let mut script = Script::tls();
        script.send(HEADER);
        script.send("<authenticate xmlns='urn:xmpp:sasl:2' mechanism='SCRAM-SHA-1'/>");
        script
    };
    for wrong in [
        " ",
        "\n",
        "<presence/>",
        "<r xmlns='urn:xmpp:sm:3'/>",
        "<next xmlns='urn:xmpp:sasl:2' task='x'/>",
        "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYg==</auth>",
        "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='SCRAM-SHA-1'/>",
    ] {
        let mut script = begun();
        script.send(wrong);
        script.expect_failure(Condition::PolicyViolation);
    }
    let mut script = begun();
    script.send("<abort xmlns='urn:xmpp:sasl:2'/>");
    script.expect_login_failure(Failure::Aborted);
    script.clear();
    // Behind the end of it, white space is white space, and another login may follow.
    script.send(" ").send(&plain(""));
    assert!(matches!(script.last(), Input::Lookup { .. }));
}

#[test]
fn sa_8_a_failed_login_opens_nothing_and_may_be_repeated_but_not_for_ever() {
    let mut script = Script::tls();
    script.send(HEADER);
    for _ in 0..3 {
        script.clear();
        script.send(&plain(BIND2));
        script.answer_plain(false);
        script.expect_login_failure(Failure::NotAuthorized);
        let open = |input: &Input| matches!(input, Input::Open(_));
        assert!(!script.inputs.iter().any(open), "{:?}", script.inputs);
    }
    script.expect_failure(Condition::PolicyViolation);
}

#[test]
fn sa_1_a_stream_has_one_profile() {
    let mut script = Script::tls();
    script.send(HEADER);
    script.send(&plain(""));
    script.answer_plain(false);
    script.send(&super::plain());
    script.expect_failure(Condition::PolicyViolation);
    let mut script = Script::tls();
    script.send(HEADER);
    script.send(&super::plain());
    script.answer_plain(false);
    script.send(&plain(""));
    script.expect_failure(Condition::PolicyViolation);
}

#[test]
fn sa_10_nobody_logs_in_twice() {
    for session in [Session::None, bound(None), bound(enabled())] {
        let mut script = Script::opening(BIND2);
        script.open(opened(session, None));
        script.send(&plain(""));
        script.expect_failure(Condition::PolicyViolation);
    }
}

#[test]
fn sa_13_a_client_need_not_wait_for_anything() {
    let mut script = Script::tls();
    let header = header_from("alice@example.org");
    let inline = format!("{AGENT}{FAST}{RESUME}{BIND2}");
    let all = format!("{header}{}<presence/>", fast(TOKEN, &inline));
    script.send(&all);
    assert!(matches!(script.last(), Input::LookupTokens { .. }));
    script.stream.tokens(&[Token::new(TOKEN.to_owned(), false)]);
    script.pump();
    let session = Session::Resumed {
        jid: jid(),
        previd: "old".to_owned(),
        h: 3,
    };
    script.open(opened(session, None));
    assert!(
        matches!(script.last(), Input::Stanza(_)),
        "{:?}",
        script.inputs
    );
}

#[test]
fn sm_69_a_resumed_stream_is_live_behind_success() {
    let mut script = Script::opening(&format!("{RESUME}{BIND2}"));
    let Some(Input::Open(inline)) = script.inputs.last() else {
        panic!("{:?}", script.inputs);
    };
    let resume = inline.resume.as_ref().expect("asked for");
    assert_eq!((&*resume.previd, resume.h), ("old", 7));
    script.clear();
    script.open(opened(
        Session::Resumed {
            jid: jid(),
            previd: "old".to_owned(),
            h: 3,
        },
        None,
    ));
    let expect = format!(
        "<success xmlns='urn:xmpp:sasl:2'><authorization-identifier>{ALICE}</authorization-identifier>\
         <resumed xmlns='urn:xmpp:sm:3' previd='old' h='3'/></success>"
    );
    assert_eq!(script.output, expect);
    assert_eq!(script.stream.state(), State::Managed);
}

#[test]
fn sm_70_and_sm_71_a_failed_resumption_is_told_beside_the_new_session() {
    let mut script = Script::opening(&format!("{RESUME}{BIND2}"));
    let failed = Failed {
        condition: Stanza::ItemNotFound,
        h: Some(31),
    };
    let refused = Some(Err(Stanza::ResourceConstraint));
    script.open(opened(bound(refused), Some(failed)));
    let expect = "</authorization-identifier><failed xmlns='urn:xmpp:sm:3' h='31'>\
        <item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>\
        <bound xmlns='urn:xmpp:bind:0'><failed xmlns='urn:xmpp:sm:3'>\
        <resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed></bound></success><stream:features>";
    assert!(script.output.contains(expect), "{}", script.output);
    assert_eq!(script.stream.state(), State::Bound);
    // What names no session cannot be resumed, and need not be looked for (SM-47).
    let mut script = Script::opening("<resume xmlns='urn:xmpp:sm:3'/>");
    script.open(opened(Session::None, None));
    assert!(script.output.contains("<bad-request "), "{}", script.output);
    assert_eq!(script.stream.state(), State::Authenticated);
}

#[test]
fn bi_5_the_client_may_say_at_once_that_nobody_looks_at_it() {
    let inactive = "<bind xmlns='urn:xmpp:bind:0'><inactive xmlns='urn:xmpp:csi:0'/></bind>";
    let mut script = Script::opening(inactive);
    let about = vec![Element::new("metadata", ns::MAM)];
    let (jid, sm) = (jid(), None);
    script.open(opened(Session::Bound { jid, sm, about }, None));
    assert!(
        matches!(script.last(), Input::Csi(false)),
        "{:?}",
        script.inputs
    );
    let expect = "<bound xmlns='urn:xmpp:bind:0'><metadata xmlns='urn:xmpp:mam:2'/></bound>";
    assert!(script.output.contains(expect), "{}", script.output);
}

#[test]
fn bi_6_where_nothing_can_be_bound_the_login_fails_and_may_be_repeated() {
    let mut script = Script::opening(BIND2);
    script.stream.open_failed(Failure::TemporaryAuthFailure);
    script.pump();
    script.expect_login_failure(Failure::TemporaryAuthFailure);
    assert_eq!(script.stream.account(), None);
    script.clear();
    script.send("<presence/>");
    script.expect_failure(Condition::NotAuthorized);
}
