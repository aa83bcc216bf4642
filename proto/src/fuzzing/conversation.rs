//! A whole stream, with a driver that answers whatever it is asked.

use std::sync::{Arc, OnceLock};

use crate::Jid;
use crate::sasl::{Credentials, Digest, ScramKeys};
use crate::sm::{Enabled, Failed};
use crate::stanza;
use crate::stream::{Input, Security, Settings, Stream, TlsInfo};

/// What a client says up to its session; a conversation may begin behind any of these.
const STEPS: [&str; 4] = [
    "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' \
     xmlns:stream='http://etherx.jabber.org/streams'>\
     <auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYg==</auth>",
    "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' \
     xmlns:stream='http://etherx.jabber.org/streams'>",
    "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
    "<enable xmlns='urn:xmpp:sm:3' resume='true'/>",
];

/// However a client's bytes are cut, it gets the same answers; and after the end there is nothing. The
/// first byte says how far the client has come before it sends the rest.
pub fn conversation(input: &[u8]) {
    let Some((first, input)) = input.split_first() else {
        return;
    };
    let steps = usize::from(*first) % (STEPS.len() + 1);
    let whole = converse(steps, input, input.len());
    for size in [1, 7] {
        assert_eq!(converse(steps, input, size), whole);
    }
}

/// What a client is answered that sends `input` in pieces of `size`, and what its driver was told.
fn converse(steps: usize, input: &[u8], size: usize) -> (String, Vec<String>) {
    let mut calls = 0;
    let entropy = move || {
        calls += 1;
        [calls; 16]
    };
    let tls = TlsInfo {
        exporter: Some([7; 32]),
        end_point: None,
    };
    let settings = Arc::new(Settings::default());
    let mut stream = Stream::new(settings, Security::Tls(tls), Box::new(entropy));
    let mut told = Vec::new();
    let start = STEPS[..steps].iter().map(|step| step.as_bytes());
    for piece in start.chain(input.chunks(size.max(1))) {
        stream.feed(piece);
        while let Some(input) = stream.poll() {
            answer(&mut stream, &input);
            told.push(format!("{input:?}"));
            let over = matches!(input, Input::Closed | Input::Failed(_));
            assert!(!over || stream.poll().is_none(), "{told:?}");
        }
    }
    let output = String::from_utf8(stream.take_output()).expect("our own writer writes UTF-8");
    (output, told)
}

/// Does for the stream what it asks for.
fn answer(stream: &mut Stream, input: &Input) {
    match input {
        Input::StartTls => stream.tls_established(TlsInfo::default()),
        Input::Lookup { username, .. } if username == "away" => stream.credentials_unavailable(),
        Input::Lookup { username, .. } => stream.credentials(Some(credentials(username == "a"))),
        Input::VerifyPlain { password, .. } => stream.plain_verified(password.as_str() == "b"),
        Input::Bind { id, resource } => match Jid::new("a@localhost/x") {
            Ok(jid) if resource.as_deref() != Some("taken") => stream.bound(id, &jid),
            _ => {
                let conflict = stanza::error::Condition::Conflict;
                stream.bind_failed(id, conflict.into());
            }
        },
        Input::Resume { previd, h } if h % 2 == 0 => stream.resumed(previd.clone(), *h),
        Input::Resume { .. } => {
            stream.resume_failed(Failed::new(stanza::error::Condition::ItemNotFound));
        }
        Input::Enable { resume, max } => {
            let id = resume.then(|| "session".to_owned());
            let max = id.as_ref().and(*max);
            stream.enabled(Enabled { id, max });
        }
        _ => {}
    }
}

/// Keys of `b`, derived once: that is slow on purpose.
fn credentials(real: bool) -> Credentials {
    static KEYS: OnceLock<[ScramKeys; 2]> = OnceLock::new();
    let derive = |digest| ScramKeys::derive(digest, "b", b"salt and pepper", 16);
    let [sha1, sha256] = KEYS
        .get_or_init(|| [Digest::Sha1, Digest::Sha256].map(derive))
        .clone();
    Credentials {
        sha1: Some(sha1),
        sha256: Some(sha256),
        real,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What clients say, in order and out of it.
    const PHRASES: [&str; 22] = [
        "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' \
         xmlns:stream='http://etherx.jabber.org/streams'>",
        "<?xml version='1.0'?>",
        "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYg==</auth>",
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYw==</auth>",
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGF3YXkAYg==</auth>",
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-256'>biwsbj1hLHI9eHl6</auth>",
        "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>Yz1iaXdz</response>",
        "<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
        "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
        "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
         <resource>taken</resource></bind></iq>",
        "<iq type='set' id='s'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>",
        "<enable xmlns='urn:xmpp:sm:3' resume='true' max='60'/>",
        "<resume xmlns='urn:xmpp:sm:3' previd='x' h='1'/>",
        "<resume xmlns='urn:xmpp:sm:3' previd='x' h='2'/>",
        "<r xmlns='urn:xmpp:sm:3'/>",
        "<a xmlns='urn:xmpp:sm:3' h='1'/>",
        "<a xmlns='urn:xmpp:sm:3' h='-1'/>",
        "<active xmlns='urn:xmpp:csi:0'/>",
        "<message to='c@localhost'><body>&lt;\u{e9}</body></message>",
        "<iq type='get' id='1'/>",
        "</stream:stream>",
    ];

    proptest! {
        #[test]
        fn t_10_any_order_of_phrases_is_answered_alike_however_it_is_cut(
            start in 0_u8..5,
            phrases in prop::collection::vec(prop::sample::select(&PHRASES[..]), 0..8),
            end in "[ -~]{0,4}",
        ) {
            let mut input = vec![start];
            input.extend(phrases.concat().bytes());
            input.extend(end.bytes());
            conversation(&input);
        }
    }

    #[test]
    fn the_steps_lead_to_a_session() {
        let (_, told) = converse(STEPS.len(), b"<r xmlns='urn:xmpp:sm:3'/>", 1);
        assert_eq!(
            told.last().map(String::as_str),
            Some("AckRequest"),
            "{told:?}"
        );
    }
}
