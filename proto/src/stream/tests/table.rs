//! Every element in every state (T-10).

use super::*;

const AUTHENTICATE: &str = "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'>\
    <initial-response>AGFsaWNlAGNvcnJlY3QgaG9yc2U=</initial-response></authenticate>";

/// One element per event, and some more.
const ELEMENTS: &[&str] = &[
    START_TLS,
    "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYg==</auth>",
    "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-1'/>",
    "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>Yz1iaXdzLHI9eCxwPUFBQUE=</response>",
    "<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
    "<auth xmlns='urn:example'/>",
    AUTHENTICATE,
    "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='HT-SHA-256-NONE'/>",
    "<response xmlns='urn:xmpp:sasl:2'>Yz1iaXdzLHI9eCxwPUFBQUE=</response>",
    "<abort xmlns='urn:xmpp:sasl:2'/>",
    "<next xmlns='urn:xmpp:sasl:2' task='x'/>",
    upgrade::NEXT,
    "<task-data xmlns='urn:xmpp:sasl:2'/>",
    BIND,
    "<iq type='get'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
    "<iq type='set' id='1'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>",
    "<iq type='get' id='1'><query xmlns='jabber:iq:register'/></iq>",
    "<iq type='set' id='1'><preauth xmlns='urn:xmpp:pars:0' token='x'/></iq>",
    "<iq type='result'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>",
    "<message to='a@b'/>",
    "<presence type='x'/>",
    "<iq/>",
    "<message xmlns='jabber:server'/>",
    "<enable xmlns='urn:xmpp:sm:3' resume='1'/>",
    "<resume xmlns='urn:xmpp:sm:3' previd='x' h='1'/>",
    "<resume xmlns='urn:xmpp:sm:3'/>",
    "<r xmlns='urn:xmpp:sm:3'/>",
    "<a xmlns='urn:xmpp:sm:3' h='3'/>",
    "<a xmlns='urn:xmpp:sm:3'/>",
    "<enabled xmlns='urn:xmpp:sm:3'/>",
    "<active xmlns='urn:xmpp:csi:0'/>",
    "<stream:stream/>",
    "<stream:error/>",
    "<stream:features/>",
    "<x/>",
    END_TAG,
    "text",
    " ",
    HEADER,
    "<!-- -->",
];

fn at(state: State) -> Script {
    let scram = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-1'/>";
    let mut script = match state {
        State::OpenPlain | State::Plain | State::Handshake => Script::plain(),
        State::Authenticated | State::Binding | State::Resuming => Script::authenticated(),
        State::Bound => Script::bound(),
        State::Managed | State::Closing | State::Closed => Script::managed(),
        State::Tasked | State::Salted => {
            Script::proven(upgrade::with_upgrade(), upgrade::UPGRADE, upgrade::old())
        }
        State::Registering => Script::new(
            Security::Tls(tls()),
            Settings {
                registration: true,
                ..settings()
            },
        ),
        _ => Script::tls(),
    };
    match state {
        State::Plain | State::Secured => script.send(HEADER),
        State::Handshake => script.send(HEADER).send(START_TLS),
        State::Lookup => script.send(HEADER).send(&plain()),
        State::Challenged => script.send(HEADER).send(scram),
        State::Proving => {
            let scram = "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='SCRAM-SHA-1'/>";
            script.send(HEADER).send(scram)
        }
        State::Opening => {
            script.send(HEADER).send(AUTHENTICATE).answer_plain(true);
            &mut script
        }
        State::Registering => {
            let query = "<iq type='get' id='1'><query xmlns='jabber:iq:register'/></iq>";
            script.send(HEADER).send(query)
        }
        State::Verifying => {
            script
                .send(HEADER)
                .send(&plain())
                .stream
                .credentials(Some(credentials()));
            script.pump()
        }
        State::OpenAuthenticated => {
            script.send(HEADER).send(&plain()).answer_plain(true);
            &mut script
        }
        State::Binding => script.send(BIND),
        State::Resuming => script.send("<resume xmlns='urn:xmpp:sm:3' previd='x' h='1'/>"),
        State::Closing => {
            script.stream.close();
            script.pump()
        }
        State::Closed => script.send(END_TAG),
        State::Salted => script.send(upgrade::NEXT),
        _ => &mut script,
    };
    assert_eq!(script.stream.state(), state);
    script.clear();
    script
}

/// Answers everything that a driver may answer, whether it was asked or not.
fn answer_all(script: &mut Script) {
    let stream = &mut script.stream;
    stream.credentials(Some(credentials()));
    stream.tokens(&[]);
    stream.plain_verified(true);
    stream.opened(Opened {
        session: Session::None,
        failed: None,
        token: None,
    });
    stream.open_failed(Failure::TemporaryAuthFailure);
    stream.bound("b1", &Jid::new("alice@example.org/phone").expect("legal"));
    stream.registration(Ok(None));
    stream.resumed("x", 1);
    stream.enabled(crate::sm::Enabled::default());
    stream.tls_established(tls());
    script.pump();
}

#[test]
fn t_10_every_element_in_every_state() {
    for state in State::ALL {
        for element in ELEMENTS {
            let mut script = at(state);
            script.send(element);
            let delivered =
                |input: &Input| matches!(input, Input::Stanza(_) | Input::Invalid { .. });
            let live = state.is_live() || state == State::Closing;
            let stanza = script.inputs.iter().any(delivered);
            assert!(live || !stanza, "{state:?} {element}: {:?}", script.inputs);
            if matches!(script.inputs.last(), Some(Input::Closed | Input::Failed(_))) {
                assert_eq!(script.stream.state(), State::Closed, "{state:?} {element}");
                script.clear();
            }
            let over = script.stream.state() == State::Closed;
            answer_all(&mut script);
            script.send(element).send(END_TAG);
            assert!(
                !over || script.inputs.is_empty(),
                "{state:?} {element}: {:?}",
                script.inputs
            );
            assert!(
                !over || script.output.is_empty(),
                "{state:?} {element}: {}",
                script.output
            );
        }
    }
}

#[test]
fn t_21_answers_that_nobody_asked_for_change_nothing() {
    for state in State::ALL.into_iter().filter(|state| !state.is_waiting()) {
        let mut script = at(state);
        answer_all(&mut script);
        assert_eq!(script.stream.state(), state);
    }
}

#[test]
fn st_19_an_error_ends_every_state() {
    for state in State::ALL {
        let mut script = at(state);
        script
            .stream
            .fail(StreamError::new(Condition::SystemShutdown));
        script.stream.fail(StreamError::new(Condition::Conflict));
        script.pump();
        let expect = usize::from(state != State::Closed);
        assert_eq!(
            script.inputs.len(),
            expect,
            "{state:?}: {:?}",
            script.inputs
        );
        let silent = matches!(state, State::Handshake | State::Closing | State::Closed);
        assert_eq!(
            script.output.is_empty(),
            silent,
            "{state:?}: {}",
            script.output
        );
        assert!(silent || script.output.ends_with("</stream:error></stream:stream>"));
    }
}
