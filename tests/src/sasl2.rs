//! Logins by SASL2 (XEP-0388): with a password or a token, and whatever is asked for along with that.

use proto::sasl::client::ScramClient;
use proto::sasl::ht::{self, TokenMechanism};
use proto::sasl::{self, Digest, Mechanism};
use proto::{Element, ns};

use crate::wire::{DOMAIN, End, Wire, header};

/// One of a user's clients.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    /// The account's localpart.
    pub user: &'static str,
    /// Its id, a UUID of version 4.
    pub id: &'static str,
}

impl Device {
    /// The client as `<authenticate/>` names it.
    pub fn agent(&self) -> String {
        let id = self.id;
        format!("<user-agent id='{id}'><software>tests</software></user-agent>")
    }

    /// What opens its stream.
    pub fn header(&self) -> String {
        let from = format!(" from='{}@{DOMAIN}' to=", self.user);
        header().replace(" to=", &from)
    }

    /// Logs in with a password and this mechanism on a stream that is open; the answer to the last step.
    pub async fn authenticate(
        &self,
        wire: &mut Wire,
        mechanism: Mechanism,
        password: &str,
        inline: &str,
    ) -> Result<Element, End> {
        let nonce = format!("{:032x}", rand::random::<u128>());
        let mut scram = ScramClient::new(mechanism, self.user, password, &nonce, None);
        let inline = self.agent() + inline;
        let first = request(mechanism.name(), &scram.first(), &inline);
        wire.send(&first).await?;
        let challenge = wire.next().await?;
        if !challenge.is("challenge", ns::SASL2) {
            return Ok(challenge);
        }
        let last = scram.respond(&decoded(&challenge));
        let last = sasl::encode(&last.expect("an honest server"));
        wire.send(&format!(
            "<response xmlns='{}'>{last}</response>",
            ns::SASL2
        ))
        .await?;
        let outcome = wire.next().await?;
        if let Some(last) = outcome.child("additional-data", ns::SASL2) {
            let finished = scram.finish(&decoded(last));
            finished.expect("the server knows the account");
        }
        Ok(outcome)
    }

    /// What a login with a token sends, in one piece with what opens its stream.
    pub fn fast(
        &self,
        wire: &Wire,
        token: &str,
        mechanism: TokenMechanism,
        inline: &str,
    ) -> String {
        let binding = match mechanism {
            TokenMechanism::Exporter => exporter(wire),
            _ => Vec::new(),
        };
        let message = ht::Initiator::message(self.user, token, &binding);
        let inline = format!("{}<fast xmlns='{}'/>{inline}", self.agent(), ns::FAST);
        self.header() + &request(mechanism.name(), &message, &inline)
    }

    /// The server knows the token as well.
    pub fn check(&self, wire: &Wire, token: &str, mechanism: TokenMechanism, success: &Element) {
        let binding = match mechanism {
            TokenMechanism::Exporter => exporter(wire),
            _ => Vec::new(),
        };
        let proof = success.child("additional-data", ns::SASL2);
        let proof = decoded(proof.unwrap_or_else(|| panic!("FA-9: {success:?}")));
        assert_eq!(proof, ht::responder(token, &binding), "FA-9");
    }
}

/// Gives the keys for SCRAM-SHA-512 that `<continue/>` has asked for (XEP-0480); what comes of the login.
pub async fn upgrade(wire: &mut Wire, asked: &Element, password: &str) -> Result<Element, End> {
    let tasks = asked.child("tasks", ns::SASL2);
    let task = tasks.and_then(|tasks| tasks.child("task", ns::SASL2));
    let task = task.unwrap_or_else(|| panic!("SA-12: {asked:?}")).text();
    let sasl2 = ns::SASL2;
    wire.send(&format!("<next xmlns='{sasl2}' task='{task}'/>"))
        .await?;
    let data = wire.next().await?;
    let salt = data.child("salt", ns::SCRAM_UPGRADE);
    let salt = salt.unwrap_or_else(|| panic!("SA-12: {data:?}"));
    let iterations = salt.attr("iterations").and_then(|it| it.parse().ok());
    let salted =
        Digest::Sha512.salted_password(password, &decoded(salt), iterations.expect("a number"));
    let hash = sasl::encode(&salted);
    wire.send(&format!(
        "<task-data xmlns='{sasl2}'><hash xmlns='{}'>{hash}</hash></task-data>",
        ns::SCRAM_UPGRADE
    ))
    .await?;
    wire.next().await
}

/// `<request-token/>`
pub fn request_token(mechanism: TokenMechanism) -> String {
    let name = mechanism.name();
    format!("<request-token xmlns='{}' mechanism='{name}'/>", ns::FAST)
}

/// The token that a client was given.
pub fn token(success: &Element) -> Option<String> {
    let token = success.child("token", ns::FAST)?;
    assert!(
        token.attr("expiry").is_some_and(|at| at.ends_with('Z')),
        "{token:?}"
    );
    token.attr("token").map(str::to_owned)
}

/// Who has logged in.
pub fn identity(success: &Element) -> String {
    let who = success.child("authorization-identifier", ns::SASL2);
    who.unwrap_or_else(|| panic!("SA-6: {success:?}")).text()
}

/// The condition of a failure.
pub fn failure(answer: &Element) -> &str {
    assert!(answer.is("failure", ns::SASL2), "{answer:?}");
    let condition = answer.elements().find(|child| child.ns() == ns::SASL);
    condition.map_or("", Element::local)
}

fn request(mechanism: &str, message: &[u8], inline: &str) -> String {
    let message = sasl::encode(message);
    format!(
        "<authenticate xmlns='{}' mechanism='{mechanism}'>\
         <initial-response>{message}</initial-response>{inline}</authenticate>",
        ns::SASL2
    )
}

fn decoded(element: &Element) -> Vec<u8> {
    let decoded = sasl::decode(&element.text()).expect("Base64");
    decoded.unwrap_or_default()
}

fn exporter(wire: &Wire) -> Vec<u8> {
    let tls = wire.tls().expect("TLS");
    let key = tls.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(&[]));
    key.expect("a handshake").to_vec()
}
