//! A whole stream, with a driver that answers whatever it is asked.

use std::sync::{Arc, OnceLock};

use crate::Jid;
use crate::payload::register::Request;
use crate::sasl::ht::Token;
use crate::sasl::{Credentials, Digest, Failure, ScramKeys};
use crate::sm::{Enabled, Failed};
use crate::stanza;
use crate::stream::{
    GivenToken, Inline, Input, Opened, Security, Session, Settings, Stream, TlsInfo,
};

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
    let settings = Arc::new(Settings {
        registration: true,
        ..Settings::default()
    });
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
        Input::LookupTokens { account, .. } => {
            let name = account.local().unwrap_or_default();
            stream.tokens(&[Token::new("tok-abc".to_owned(), name == "old")]);
        }
        Input::Open(inline) => open(stream, inline),
        Input::Register(Request::Account { username, .. }) if username == "taken" => {
            let conflict = stanza::error::Condition::Conflict;
            stream.registration(Err(conflict.into()));
        }
        Input::Register(_) => stream.registration(Ok(None)),
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

/// Does what was asked for along with a login.
fn open(stream: &mut Stream, inline: &Inline) {
    let Ok(jid) = Jid::new("a@localhost/x") else {
        return;
    };
    let (mut session, mut failed) = (Session::None, None);
    let resume = inline.resume.as_ref();
    if let Some(resume) = resume.filter(|resume| resume.h % 2 == 0) {
        let (previd, h) = (resume.previd.clone(), resume.h);
        session = Session::Resumed { jid, previd, h };
    } else if let Some(bind) = &inline.bind {
        if bind.tag.as_deref() == Some("taken") {
            return stream.open_failed(Failure::TemporaryAuthFailure);
        }
        let sm = bind.enable.map(|_| Ok(Enabled::default()));
        let about = Vec::new();
        session = Session::Bound { jid, sm, about };
        failed = resume.map(|_| Failed::new(stanza::error::Condition::ItemNotFound));
    }
    let token = inline.token.map(|_| GivenToken {
        secret: "tok-abc".to_owned(),
        expiry: "2030-01-01T00:00:00Z".to_owned(),
    });
    stream.opened(Opened {
        session,
        failed,
        token,
    });
}

/// Keys of `b`, derived once: that is slow on purpose.
fn credentials(real: bool) -> Credentials {
    static KEYS: OnceLock<[ScramKeys; 3]> = OnceLock::new();
    let derive = |digest| ScramKeys::derive(digest, "b", b"salt and pepper", 16);
    let [sha1, sha256, sha512] = KEYS.get_or_init(|| Digest::ALL.map(derive)).clone();
    Credentials {
        sha1: Some(sha1),
        sha256: Some(sha256),
        sha512: Some(sha512),
        stand_ins: Vec::new(),
        real,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What clients say, in order and out of it.
    const PHRASES: [&str; 34] = [
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
        "<stream:stream to='localhost' from='a@localhost' version='1.0' xmlns='jabber:client' \
         xmlns:stream='http://etherx.jabber.org/streams'>",
        "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'>\
         <initial-response>AGEAYg==</initial-response></authenticate>",
        "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'>\
         <initial-response>AGEAYg==</initial-response><resume xmlns='urn:xmpp:sm:3' previd='x' h='1'/>\
         <bind xmlns='urn:xmpp:bind:0'><tag>t</tag><enable xmlns='urn:xmpp:sm:3'/>\
         <inactive xmlns='urn:xmpp:csi:0'/></bind>\
         <request-token xmlns='urn:xmpp:fast:0' mechanism='HT-SHA-256-NONE'/></authenticate>",
        "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'><initial-response>AGEAYg==</initial-response>\
         <bind xmlns='urn:xmpp:bind:0'><tag>taken</tag></bind></authenticate>",
        "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='HT-SHA-256-NONE'><initial-response>\
         YQBp3AEwLfQyb1q0eR/4niySqOvPWc8cCTaRRmhP6x4sKg==</initial-response>\
         <user-agent id='9c1f6c1e-6a52-4d3f-9a3c-0d6a2f0f1b11'/><fast xmlns='urn:xmpp:fast:0'/>\
         <resume xmlns='urn:xmpp:sm:3' previd='x' h='2'/></authenticate>",
        "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='SCRAM-SHA-512'/>",
        "<response xmlns='urn:xmpp:sasl:2'>biwsbj1hLHI9eHl6</response>",
        "<abort xmlns='urn:xmpp:sasl:2'/>",
        " ",
        "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
        "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
         <resource>taken</resource></bind></iq>",
        "<iq type='set' id='s'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>",
        "<iq type='get' id='f'><query xmlns='jabber:iq:register'/></iq>",
        "<iq type='set' id='t'><preauth xmlns='urn:xmpp:pars:0' token='x'/></iq>",
        "<iq type='set' id='n'><query xmlns='jabber:iq:register'><username>taken</username>\
         <password>b</password></query></iq>",
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
