//! Conversations with [`Stream`]: a scripted peer and a scripted driver.

mod fast;
mod negotiation;
mod registration;
mod sasl2;
mod session;
mod table;
mod upgrade;

use super::*;
use crate::jid::Jid;
use crate::sasl::client::ScramClient;
use crate::sasl::{BindingType, Credentials, Mechanism, decode, encode};

const PASSWORD: &str = "correct horse";
const HEADER: &str = "<?xml version='1.0'?><stream:stream to='example.org' version='1.0' \
    xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
const START_TLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
const BIND: &str = "<iq type='set' id='b1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
    <resource>phone</resource></bind></iq>";
const END_TAG: &str = "</stream:stream>";

/// One stream with what it did.
struct Script {
    stream: Stream,
    output: String,
    inputs: Vec<Input>,
}

fn settings() -> Settings {
    Settings {
        domains: vec!["example.org".to_owned()],
        ..Settings::default()
    }
}

fn tls() -> TlsInfo {
    TlsInfo {
        exporter: Some([7; 32]),
        end_point: Some(vec![9; 32]),
    }
}

fn credentials() -> Credentials {
    Credentials {
        sha1: Some(ScramKeys::derive(
            Digest::Sha1,
            PASSWORD,
            b"0123456789abcdef",
            64,
        )),
        sha256: Some(ScramKeys::derive(
            Digest::Sha256,
            PASSWORD,
            b"fedcba9876543210",
            64,
        )),
        sha512: Some(ScramKeys::derive(
            Digest::Sha512,
            PASSWORD,
            b"0123456789fedcba",
            64,
        )),
        stand_ins: Vec::new(),
        real: true,
    }
}

fn auth(mechanism: Mechanism, message: &[u8]) -> String {
    format!(
        "<auth xmlns='{}' mechanism='{}'>{}</auth>",
        ns::SASL,
        mechanism.name(),
        encode(message)
    )
}

fn response(message: &[u8]) -> String {
    format!(
        "<response xmlns='{}'>{}</response>",
        ns::SASL,
        encode(message)
    )
}

fn plain() -> String {
    auth(Mechanism::Plain, b"\0alice\0correct horse")
}

impl Script {
    fn new(security: Security, settings: Settings) -> Self {
        let mut count = 0;
        let entropy = move || {
            count += 1;
            [count; 16]
        };
        Self {
            stream: Stream::new(Arc::new(settings), security, Box::new(entropy)),
            output: String::new(),
            inputs: Vec::new(),
        }
    }

    fn plain() -> Self {
        Self::new(Security::Plain, settings())
    }

    fn tls() -> Self {
        Self::new(Security::Tls(tls()), settings())
    }

    /// Authenticated, with the features of the new stream behind it.
    fn authenticated() -> Self {
        let mut script = Self::tls();
        script.send(HEADER);
        script.send(&plain());
        script.answer_plain(true);
        script.send(HEADER);
        script.clear();
        script
    }

    fn bound() -> Self {
        let mut script = Self::authenticated();
        script.send(BIND);
        script.bind();
        script.clear();
        script
    }

    fn managed() -> Self {
        let mut script = Self::bound();
        script.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
        let id = Some("smid".to_owned());
        script
            .stream
            .enabled(crate::sm::Enabled { id, max: Some(600) });
        script.pump();
        script.clear();
        script
    }

    fn send(&mut self, xml: &str) -> &mut Self {
        self.stream.feed(xml.as_bytes());
        self.pump()
    }

    fn pump(&mut self) -> &mut Self {
        while let Some(input) = self.stream.poll() {
            self.inputs.push(input);
        }
        let output = self.stream.take_output();
        self.output
            .push_str(std::str::from_utf8(&output).expect("UTF-8"));
        self
    }

    fn clear(&mut self) {
        self.output.clear();
        self.inputs.clear();
    }

    fn last(&self) -> &Input {
        self.inputs.last().expect("an input")
    }

    fn answer_plain(&mut self, right: bool) {
        self.stream.credentials(Some(credentials()));
        self.pump();
        self.stream.plain_verified(right);
        self.pump();
    }

    fn bind(&mut self) {
        let jid = Jid::new("alice@example.org/phone").expect("legal");
        self.stream.bound("b1", &jid);
        self.pump();
    }

    /// The message of the last element of that name in the output.
    fn message(&self, element: &str) -> Vec<u8> {
        let start = self.output.rfind(&format!("<{element}")).expect("sent");
        let text = &self.output[start..];
        let text = &text[text.find('>').expect("closed") + 1..];
        decode(&text[..text.find('<').expect("closed")])
            .expect("Base64")
            .expect("not empty")
    }

    #[track_caller]
    fn expect_failure(&self, condition: Condition) {
        let Some(Input::Failed(error)) = self.inputs.last() else {
            panic!("{:?}", self.inputs);
        };
        assert_eq!(error.condition, condition);
        let end = format!("</stream:error>{END_TAG}");
        assert!(self.output.ends_with(&end), "{}", self.output);
        assert!(
            self.output.contains(&format!("<{} ", condition.name())),
            "{}",
            self.output
        );
    }
}
