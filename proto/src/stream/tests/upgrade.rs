//! Keys that an account lacks and a client gives along with its login (XEP-0480).

use super::sasl2::{AGENT, authenticate, header_from};
use super::*;
use crate::sasl::Failure;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const ROUNDS: u32 = 4096;
pub(super) const UPGRADE: &str =
    "<upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-SCRAM-SHA-512</upgrade>";
pub(super) const NEXT: &str = "<next xmlns='urn:xmpp:sasl:2' task='UPGR-SCRAM-SHA-512'/>";

pub(super) fn with_upgrade() -> Settings {
    let mut settings = Settings {
        upgrade: Some(Upgrade {
            digest: Digest::Sha512,
            iterations: ROUNDS,
        }),
        ..settings()
    };
    let is_new = |mechanism: &Mechanism| mechanism.digest() == Some(Digest::Sha512);
    settings.mechanisms.retain(|mechanism| !is_new(mechanism));
    settings
}

/// Those of an account of an older release.
pub(super) fn old() -> Credentials {
    Credentials {
        sha512: None,
        ..credentials()
    }
}

pub(super) fn task_data(hash: &str) -> String {
    format!(
        "<task-data xmlns='urn:xmpp:sasl:2'><hash xmlns='urn:xmpp:scram-upgrade:0'>{hash}</hash></task-data>"
    )
}

impl Script {
    /// Behind the last message of a login by SCRAM-SHA-256 that asks for this, to an account with these credentials.
    pub(super) fn proven(settings: Settings, inline: &str, credentials: Credentials) -> Self {
        let mut script = Self::new(Security::Tls(tls()), settings);
        script.send(&header_from("alice@example.org"));
        script.clear();
        let mechanism = Mechanism::ScramSha256;
        let mut client = ScramClient::new(mechanism, "alice", PASSWORD, "abc", None);
        let inline = format!("{AGENT}{inline}");
        script.send(&authenticate(mechanism.name(), &client.first(), &inline));
        script.stream.credentials(Some(credentials));
        script.pump();
        let last = client.respond(&script.message("challenge")).expect("legal");
        script.clear();
        let last = STANDARD.encode(last);
        script.send(&format!(
            "<response xmlns='{}'>{last}</response>",
            ns::SASL2
        ));
        if !script.output.is_empty() {
            let said = script.message("additional-data");
            assert_eq!(client.finish(&said), Ok(()), "{}", script.output);
        }
        script
    }

    /// What the client is to open, if the login has got so far.
    fn to_open(&self) -> Option<&Inline> {
        self.inputs.iter().find_map(|input| match input {
            Input::Open(inline) => Some(inline),
            _ => None,
        })
    }

    /// The salt that the client is told.
    fn salt(&self) -> Vec<u8> {
        let wrapped = "<task-data xmlns='urn:xmpp:sasl:2'><salt xmlns='urn:xmpp:scram-upgrade:0' iterations='4096'>";
        let salt = self.output.strip_prefix(wrapped);
        let salt = salt.unwrap_or_else(|| panic!("{}", self.output));
        let salt = salt.strip_suffix("</salt></task-data>").expect("closed");
        STANDARD.decode(salt).expect("Base64")
    }
}

#[test]
fn sa_12_a_client_gives_the_keys_that_the_account_lacks() {
    let mut script = Script::proven(with_upgrade(), UPGRADE, old());
    let asked = "</additional-data><tasks><task>UPGR-SCRAM-SHA-512</task></tasks></continue>";
    assert!(
        script
            .output
            .starts_with("<continue xmlns='urn:xmpp:sasl:2'>")
    );
    assert!(script.output.ends_with(asked), "{}", script.output);
    assert!(script.to_open().is_none(), "{:?}", script.inputs);
    script.clear();
    script.send(NEXT);
    let salt = script.salt();
    assert_eq!(salt.len(), 16);
    let salted = Digest::Sha512.salted_password(PASSWORD, &salt, ROUNDS);
    script.clear();
    script.send(&task_data(&STANDARD.encode(&*salted)));
    let keys = ScramKeys::derive(Digest::Sha512, PASSWORD, &salt, ROUNDS);
    let opening = script.to_open().expect("SA-6");
    assert_eq!(opening.keys, Some((Digest::Sha512, keys)));
    assert!(opening.agent.is_some(), "what was asked for is not lost");
    assert!(matches!(script.inputs[0], Input::Authenticated { .. }));
    script.stream.opened(Opened {
        session: Session::None,
        failed: None,
        token: None,
    });
    script.pump();
    let success = "<success xmlns='urn:xmpp:sasl:2'><authorization-identifier>";
    assert!(script.output.starts_with(success), "{}", script.output);
}

#[test]
fn sa_12_nobody_is_asked_who_does_not_want_or_need_it() {
    let forms = Credentials {
        sha256: old().sha256.map(|keys| keys.with_form(Digest::Sha256, "b")),
        ..old()
    };
    let other = UPGRADE.replace("512", "256");
    for (settings, inline, credentials, why) in [
        (with_upgrade(), "", old(), "not asked for"),
        (with_upgrade(), &*other, old(), "not offered"),
        (settings(), UPGRADE, old(), "nothing is offered"),
        (with_upgrade(), UPGRADE, credentials(), "it has keys"),
        (
            with_upgrade(),
            UPGRADE,
            forms,
            "another client sends another form",
        ),
    ] {
        let script = Script::proven(settings, inline, credentials);
        let opening = script
            .to_open()
            .unwrap_or_else(|| panic!("{why}: {}", script.output));
        assert_eq!(opening.keys, None, "{why}");
    }
    let unknown = Credentials {
        real: false,
        ..old()
    };
    let mut script = Script::new(Security::Tls(tls()), with_upgrade());
    script.send(HEADER);
    let offered = format!("{UPGRADE}</authentication>");
    assert!(script.output.contains(&offered), "{}", script.output);
    assert!(
        script
            .stream
            .upgrade_for(Digest::Sha256, &unknown)
            .is_none()
    );
}

#[test]
fn sa_12_what_is_no_salted_password_fails_the_login_and_gives_no_keys() {
    let short = STANDARD.encode([7; 32]);
    let long = STANDARD.encode([7; 1000]);
    for (hash, failure) in [
        ("", Failure::MalformedRequest),
        (&*short, Failure::MalformedRequest),
        (&*long, Failure::MalformedRequest),
        ("*", Failure::IncorrectEncoding),
    ] {
        let mut script = Script::proven(with_upgrade(), UPGRADE, old());
        script.send(NEXT).send(&task_data(hash));
        script.expect_login_failure(failure);
        assert!(script.to_open().is_none(), "{:?}", script.inputs);
        assert_eq!(script.stream.state(), State::Secured, "{hash}");
    }
    let mut script = Script::proven(with_upgrade(), UPGRADE, old());
    script.send(&NEXT.replace("512", "1"));
    script.expect_login_failure(Failure::MalformedRequest);
    let mut script = Script::proven(with_upgrade(), UPGRADE, old());
    script.send("<abort xmlns='urn:xmpp:sasl:2'/>");
    script.expect_login_failure(Failure::Aborted);
    let mut script = Script::proven(with_upgrade(), UPGRADE, old());
    script.send(" ");
    script.expect_failure(Condition::PolicyViolation);
}
