//! From the first byte to `<success/>`.

use super::*;

#[test]
fn st_13_a_plain_stream_offers_tls_only() {
    let mut script = Script::plain();
    script.send(HEADER);
    // Nobody said who comes, and so nobody is named (ST-3, ST-9).
    assert_eq!(
        script.output,
        "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
         xmlns:stream='http://etherx.jabber.org/streams' from='example.org' \
         id='01010101010101010101010101010101' version='1.0' xml:lang='en'><stream:features>\
         <starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>"
    );
}

#[test]
fn st_52_features_over_tls_name_mechanisms_and_bindings() {
    let mut script = Script::tls();
    script.send(HEADER);
    // The order is ours (ST-39), and the limits are told (ST-89).
    let names = "<mechanism>SCRAM-SHA-512-PLUS</mechanism><mechanism>SCRAM-SHA-256-PLUS</mechanism>\
                 <mechanism>SCRAM-SHA-1-PLUS</mechanism><mechanism>SCRAM-SHA-512</mechanism>\
                 <mechanism>SCRAM-SHA-256</mechanism><mechanism>SCRAM-SHA-1</mechanism>\
                 <mechanism>PLAIN</mechanism>";
    assert!(script.output.contains(names), "{}", script.output);
    assert!(
        script
            .output
            .contains("<channel-binding type='tls-exporter'/>"),
        "{}",
        script.output
    );
    assert!(
        script.output.contains("<max-bytes>10000</max-bytes>"),
        "{}",
        script.output
    );
    assert!(!script.output.contains("xmpp-bind"), "{}", script.output);
}

#[test]
fn a_client_logs_in_with_starttls_and_channel_binding() {
    let mut script = Script::plain();
    script.send(HEADER).send(START_TLS);
    assert!(matches!(script.last(), Input::StartTls));
    assert!(
        script
            .output
            .ends_with("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
    );
    assert!(!script.stream.has_rest());
    script.stream.tls_established(tls());
    script.clear();
    script.send(HEADER);
    let mechanism = Mechanism::ScramSha256Plus;
    let binding = Some((BindingType::Exporter, &[7; 32][..]));
    let mechanisms = Mechanism::ALL.map(Mechanism::name);
    let mut client = ScramClient::new(mechanism, "Alice", PASSWORD, "abc", binding).expecting(
        mechanisms.into_iter(),
        ["tls-exporter", "tls-server-end-point"].into_iter(),
    );
    script.send(&auth(mechanism, &client.first()));
    let Input::Lookup { username, domain } = script.last() else {
        panic!("{:?}", script.inputs)
    };
    assert_eq!((&**username, &**domain), ("alice", "example.org"));
    script.stream.credentials(Some(credentials()));
    script.pump();
    let last = client
        .respond(&script.message("challenge"))
        .expect("an honest server");
    script.send(&response(&last));
    client
        .finish(&script.message("success"))
        .expect("an honest server");
    let Input::Authenticated { account, .. } = script.last() else {
        panic!("{:?}", script.inputs)
    };
    assert_eq!(account.as_str(), "alice@example.org");
    script.clear();
    script.send(HEADER);
    for feature in [
        "<bind ",
        "<session ",
        "<sm xmlns='urn:xmpp:sm:3'/>",
        "<csi ",
        "<ver ",
        "<sub ",
    ] {
        assert!(script.output.contains(feature), "{}", script.output);
    }
    assert!(
        script.output.contains("<max-bytes>262144</max-bytes>"),
        "{}",
        script.output
    );
}

#[test]
fn st_2_a_bad_header_gets_header_error_and_end() {
    let check = |header: &str, condition| {
        let mut script = Script::plain();
        script.send(header);
        script.expect_failure(condition);
        assert!(
            script
                .output
                .starts_with("<?xml version='1.0'?><stream:stream "),
            "{header}"
        );
        assert!(!script.output.contains("features"), "{header}");
        script.clear();
        script.send(START_TLS);
        assert!(
            script.inputs.is_empty() && script.output.is_empty(),
            "{header}"
        );
    };
    let with = |from: &str, to: &str| HEADER.replace(from, to);
    check(
        &with("etherx.jabber.org", "example.org"),
        Condition::InvalidNamespace,
    );
    check(
        &with("jabber:client", "jabber:server"),
        Condition::InvalidNamespace,
    );
    check(
        &with("<stream:stream", "<stream:flow"),
        Condition::BadFormat,
    );
    check(
        &with("to='example.org'", "to='example.com'"),
        Condition::HostUnknown,
    );
    check(&with("to='example.org'", "to='@'"), Condition::HostUnknown);
    check(
        &with("to='example.org' version='1.0'", "to='example.org'"),
        Condition::UnsupportedVersion,
    );
    check(
        &with(" version='1.0' x", " version='0.9' x"),
        Condition::UnsupportedVersion,
    );
    check("<!DOCTYPE x>", Condition::RestrictedXml);
    check("GET / HTTP/1.1\r\n", Condition::NotWellFormed);
    check(
        &format!("<a x='{}", "y".repeat(3000)),
        Condition::PolicyViolation,
    );
}

#[test]
fn st_7_a_missing_host_is_known_if_there_is_only_one() {
    let anonymous = HEADER.replace("to='example.org' ", "");
    let mut script = Script::plain();
    script.send(&anonymous);
    assert!(
        script.output.ends_with("</stream:features>"),
        "{}",
        script.output
    );
    let domains = vec!["example.org".to_owned(), "example.net".to_owned()];
    let mut script = Script::new(
        Security::Plain,
        Settings {
            domains,
            ..settings()
        },
    );
    script.send(&anonymous);
    script.expect_failure(Condition::HostUnknown);
}

#[test]
fn st_12_what_follows_starttls_in_the_clear_ends_the_stream() {
    for injected in [plain().as_str(), " ", "<"] {
        let mut script = Script::plain();
        script.send(HEADER).send(&format!("{START_TLS}{injected}"));
        script.expect_failure(Condition::PolicyViolation);
        let mut script = Script::plain();
        script.send(HEADER).send(START_TLS).send(injected);
        assert!(script.stream.has_rest(), "{injected}");
        script.clear();
        script.stream.tls_established(tls());
        script.pump();
        assert!(matches!(script.last(), Input::Failed(_)), "{injected}");
        assert_eq!(script.output, "", "{injected}");
    }
}

#[test]
fn st_24_starttls_over_tls_is_refused_and_ends_the_stream() {
    let mut script = Script::tls();
    script.send(HEADER).send(START_TLS);
    let end = format!("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>{END_TAG}");
    assert!(script.output.ends_with(&end), "{}", script.output);
    assert!(matches!(script.last(), Input::Closed));
}

#[test]
fn st_25_a_login_in_the_clear_is_refused() {
    let mut script = Script::plain();
    script.send(HEADER).send(&plain());
    assert!(
        script.output.ends_with("<encryption-required/></failure>"),
        "{}",
        script.output
    );
    assert!(script.inputs.is_empty(), "{:?}", script.inputs);
    script.send(BIND);
    script.expect_failure(Condition::PolicyViolation);
}

#[track_caller]
fn refused(script: &Script, expect: Failure) {
    let failure = format!(
        "<failure xmlns='{}'><{}/></failure>",
        ns::SASL,
        expect.name()
    );
    assert!(script.output.contains(&failure), "{}", script.output);
    let failed =
        |input: &Input| matches!(input, Input::AuthFailed { failure, .. } if *failure == expect);
    assert!(script.inputs.iter().any(failed), "{:?}", script.inputs);
}

#[test]
fn st_47_the_flags_are_checked_against_what_was_offered() {
    let plus = Mechanism::ScramSha256Plus;
    for (mechanism, first) in [
        (Mechanism::ScramSha256, "y,,n=alice,r=x"),
        (Mechanism::ScramSha256, "p=tls-exporter,,n=alice,r=x"),
        (plus, "n,,n=alice,r=x"),
        (plus, "y,,n=alice,r=x"),
        (plus, "p=tls-unique,,n=alice,r=x"),
    ] {
        let mut script = Script::tls();
        script.send(HEADER).send(&auth(mechanism, first.as_bytes()));
        refused(&script, Failure::NotAuthorized);
    }
}

#[test]
fn st_32_an_absent_message_is_asked_for_and_an_empty_one_is_wrong() {
    let mut script = Script::tls();
    script.send(HEADER);
    script.send(&format!("<auth xmlns='{}' mechanism='PLAIN'/>", ns::SASL));
    assert!(
        script
            .output
            .ends_with(&format!("<challenge xmlns='{}'/>", ns::SASL))
    );
    script.send(&response(b"\0alice\0correct horse"));
    assert!(matches!(script.last(), Input::Lookup { .. }));

    let mut script = Script::tls();
    script.send(HEADER).send(&auth(Mechanism::Plain, b""));
    refused(&script, Failure::MalformedRequest);
}

#[test]
fn st_33_a_second_auth_forgets_the_first() {
    let mut script = Script::tls();
    script.send(HEADER);
    let client = ScramClient::new(Mechanism::ScramSha1, "alice", PASSWORD, "abc", None);
    script.send(&auth(Mechanism::ScramSha1, &client.first()));
    script.stream.credentials(Some(credentials()));
    script.pump();
    script.send(&plain());
    script.answer_plain(true);
    assert!(
        matches!(script.last(), Input::Authenticated { .. }),
        "{:?}",
        script.inputs
    );
}

#[test]
fn st_31_failures_have_their_conditions() {
    let check = |xml: &str, expect| {
        let mut script = Script::tls();
        script.send(HEADER).send(xml);
        refused(&script, expect);
        assert_eq!(script.stream.state(), State::Secured);
    };
    let sasl = |name: &str, text: &str| format!("<{name} xmlns='{}'>{text}</{name}>", ns::SASL);
    check(&sasl("auth", ""), Failure::InvalidMechanism);
    check(
        &sasl("auth mechanism='X'", "").replace("</auth mechanism='X'>", "</auth>"),
        Failure::InvalidMechanism,
    );
    check(&sasl("response", ""), Failure::MalformedRequest);
    check(&sasl("abort", ""), Failure::Aborted);
    check(&plain().replace("AGFs", "AGF "), Failure::IncorrectEncoding);
    // Nobody acts for another account (ST-36).
    for authzid in [
        "bob@example.org",
        "alice",
        "alice@example.com",
        "alice@example.org/x",
        "@",
    ] {
        let message = format!("{authzid}\0alice\0p");
        check(
            &auth(Mechanism::Plain, message.as_bytes()),
            Failure::InvalidAuthzid,
        );
    }
}

#[test]
fn st_37_an_unknown_user_and_a_wrong_password_look_alike() {
    let output = |real: bool, right: bool| {
        let mut script = Script::tls();
        script.send(HEADER).send(&plain());
        script.stream.credentials(Some(Credentials {
            real,
            ..credentials()
        }));
        script.pump();
        assert!(matches!(script.last(), Input::VerifyPlain { .. }));
        script.stream.plain_verified(right);
        script.pump();
        refused(&script, Failure::NotAuthorized);
        script.output
    };
    assert_eq!(output(true, false), output(false, true));
}

#[test]
fn st_34_the_third_failure_ends_the_stream() {
    let mut script = Script::tls();
    script.send(HEADER);
    for _ in 0..2 {
        script.send(&plain());
        script.answer_plain(false);
        assert!(matches!(script.last(), Input::AuthFailed { .. }));
    }
    script.send(&plain());
    script.stream.credentials_unavailable();
    script.pump();
    refused(&script, Failure::TemporaryAuthFailure);
    script.expect_failure(Condition::PolicyViolation);
}

#[test]
fn st_34_aborted_and_forgotten_logins_are_counted() {
    let abort = format!("<abort xmlns='{}'/>", ns::SASL);
    let mut script = Script::tls();
    script.send(HEADER).send(&abort.repeat(3));
    script.expect_failure(Condition::PolicyViolation);
    let mut script = Script::tls();
    let invite = format!("<auth xmlns='{}' mechanism='PLAIN'/>", ns::SASL);
    script.send(HEADER).send(&invite.repeat(3));
    assert!(!script.output.contains("error"));
    script.send(&invite);
    script.expect_failure(Condition::PolicyViolation);
}

#[test]
fn st_11_a_restart_keeps_no_parser_state() {
    let mut script = Script::tls();
    script.send(&HEADER.replace(" xmlns=", " xmlns:old='urn:old' xmlns="));
    script.send(&plain());
    script.answer_plain(true);
    script.send(HEADER);
    script.send("<old:x/>");
    script.expect_failure(Condition::NotWellFormed);
}

#[test]
fn st_10_the_identity_is_fixed_by_the_login() {
    let check = |header: &str, expect: Option<Condition>| {
        let domains = vec!["example.org".to_owned(), "example.net".to_owned()];
        let mut script = Script::new(
            Security::Tls(tls()),
            Settings {
                domains,
                ..settings()
            },
        );
        script.send(HEADER).send(&plain());
        script.answer_plain(true);
        script.send(header);
        match expect {
            Some(condition) => script.expect_failure(condition),
            None => assert!(
                script.output.ends_with("</stream:features>"),
                "{}",
                script.output
            ),
        }
    };
    let with = |attributes: &str| HEADER.replace("to='example.org'", attributes);
    check(&with("to='example.org' from='Alice@example.org'"), None);
    check(&with(""), None);
    check(&with("to='example.net'"), Some(Condition::NotAuthorized));
    check(
        &with("to='example.org' from='bob@example.org'"),
        Some(Condition::NotAuthorized),
    );
    check(
        &with("to='example.org' from='@'"),
        Some(Condition::NotAuthorized),
    );
}
