//! XEP-0054: vcard-temp. Anybody may read the card of an account, its owner writes it.

use proto::stanza::error::{Condition, StanzaError};
use proto::{BareJid, Element, ns};

use crate::empty_payload;
use crate::hooks::{Empty, Payload, Request, Scope, Service, Setup, Xep};
use crate::router::{fail, failure};

/// The service.
pub const SERVICE: Service = Service::new("vcard", &[Xep(54, "1.3.0")], register);

/// What a card may measure, written: an avatar of usual size, and text.
const MAX_BYTES: usize = 128 * 1024;

fn register(setup: &mut Setup<'_>) {
    setup.iq_get(&[Scope::Account, Scope::Contact], read);
    setup.iq_set(&[Scope::Account], write);
    // Clients look for the feature at the server.
    setup.feature(&[Scope::Host], ns::VCARD);
}

async fn read(request: Request<Read>) -> Result<Element, StanzaError> {
    let stored = request
        .edge
        .storage
        .vcard(&request.target)
        .await
        .map_err(|error| failure(&error))?;
    match (
        stored.and_then(|xml| Element::parse(xml.as_bytes()).ok()),
        request.scope,
    ) {
        (Some(card), _) => Ok(card),
        // Of an account that does not exist, a stranger hears the same (ST-81).
        (None, Scope::Contact) => fail(Condition::ServiceUnavailable),
        (None, _) => fail(Condition::ItemNotFound),
    }
}

async fn write(request: Request<Card>) -> Result<Empty, StanzaError> {
    let account: &BareJid = &request.account;
    let stored = request
        .edge
        .storage
        .set_vcard(account, &request.payload.0)
        .await;
    stored.map(|()| Empty).map_err(|error| failure(&error))
}

empty_payload! {
    /// Asks for a card.
    Read, ns::VCARD, "vCard"
}

/// A card, written.
pub struct Card(String);

impl Payload for Card {
    const NS: &'static str = ns::VCARD;
    const NAME: &'static str = "vCard";

    fn decode(element: &Element) -> Result<Self, StanzaError> {
        let mut xml = String::new();
        element.write("", &mut xml);
        if xml.len() > MAX_BYTES {
            return fail(Condition::ResourceConstraint);
        }
        Ok(Self(xml))
    }
}
