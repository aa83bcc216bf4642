//! XEP-0054: vcard-temp. Anybody may read the card of an account, its owner writes it.

use proto::stanza::error::{Condition, StanzaError};
use proto::{BareJid, Element, ns};

use crate::empty_payload;
use crate::hooks::{Empty, Payload, Request, Scope, Service, Setup, Xep, fail, failure};

/// The service.
pub const SERVICE: Service = Service::new("vcard", &[Xep(54, "1.3.0")], register);

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
    let (account, storage): (&BareJid, _) = (&request.account, &request.edge.storage);
    let Card(xml) = &request.payload;
    if xml.len() as u64 > storage.quotas().vcard_bytes {
        return fail(Condition::ResourceConstraint);
    }
    let stored = storage.set_vcard(account, xml).await;
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
        Ok(Self(xml))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Quotas;
    use crate::router::testing::{edge_with, says, session};

    #[tokio::test]
    async fn t_54_a_card_may_be_as_large_as_the_quota_and_no_larger() {
        let card = |bytes: usize| {
            let around = "<vCard xmlns='vcard-temp'><FN></FN></vCard>".len();
            let name = "x".repeat(bytes - around);
            format!("<vCard xmlns='vcard-temp'><FN>{name}</FN></vCard>")
        };
        let quotas = Quotas {
            vcard_bytes: 1_000,
            ..Quotas::default()
        };
        let ctx = session(&edge_with(&quotas).await, "alice@example.org/desk");
        for (bytes, fits) in [(999, true), (1_000, true), (1_001, false)] {
            let set = format!("<iq type='set' id='1'>{}</iq>", card(bytes));
            let answer = says(&ctx, &set).await.concat();
            assert_eq!(!answer.contains("<resource-constraint"), fits, "{answer}");
        }
    }
}
