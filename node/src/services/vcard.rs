//! XEP-0054: vcard-temp. Anybody may read the card of an account, its owner writes it.

mod avatar;
mod port;

use proto::stanza::error::{Condition, StanzaError};
use proto::{BareJid, Element, ns};
use serde::Deserialize;

use crate::config::{ConfigError, Table, within};
use crate::empty_payload;
use crate::hooks::{Payload, Phase, Reply, Request, Scope, Service, Setup, Xep, fail, failure};
use crate::storage::{Step, Storage, StorageError, Stored};

/// The service.
pub const SERVICE: Service = Service::new(
    "vcard",
    &[
        Xep(54, "1.3.0"),
        Xep(84, "1.1.4"),
        Xep(153, "1.1.1"),
        Xep(398, "1.0.0"),
    ],
    register,
);

const STORED: Stored = Stored {
    steps: &[Step::new(
        1,
        "CREATE TABLE vcard (
    account TEXT NOT NULL PRIMARY KEY,
    xml TEXT NOT NULL
);",
    )],
    removals: &["DELETE FROM vcard WHERE account = $1"],
};

/// Of `[quotas]`: what a card may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Quotas {
    /// The most bytes of a vCard.
    vcard_bytes: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            vcard_bytes: 128 << 10,
        }
    }
}

impl Table for Quotas {
    const SECTION: &'static str = "quotas";

    fn check(&self) -> Result<(), ConfigError> {
        within(&[("quotas.vcard_bytes", self.vcard_bytes, 1_000..=256 << 10)])
    }
}

fn register(setup: &mut Setup<'_>) {
    let quotas: Quotas = setup.config();
    setup.stored(&STORED);
    let most = quotas.vcard_bytes;
    setup.portable(port::Cards { most });
    setup.iq_get(&[Scope::Account, Scope::Contact], read);
    setup.iq_set(&[Scope::Account], move |request| write(request, quotas));
    // Clients look for the feature at the server.
    setup.feature(&[Scope::Host], ns::VCARD);
    setup.feature(&[Scope::Account], "urn:xmpp:pep-vcard-conversion:0");
    setup.presence(Phase::Follow, avatar::into_presence);
}

async fn read(request: Request<Read>) -> Result<Element, StanzaError> {
    let stored = request
        .edge
        .storage
        .vcard(&request.target)
        .await
        .map_err(|error| failure(&error))?;
    let card = stored.and_then(|xml| Element::parse(xml.as_bytes()).ok());
    let (edge, viewer) = (&*request.edge, &request.account);
    let card = avatar::into_card(edge, viewer, &request.target, card).await?;
    match (card, request.scope) {
        (Some(card), _) => Ok(card),
        // Of an account that does not exist, a stranger hears the same (ST-81).
        (None, Scope::Contact) => fail(Condition::ServiceUnavailable),
        (None, _) => fail(Condition::ItemNotFound),
    }
}

async fn write(request: Request<Card>, quotas: Quotas) -> Result<Reply, StanzaError> {
    let (account, storage): (&BareJid, _) = (&request.account, &request.edge.storage);
    let Card(card) = &request.payload;
    let xml = card.to_xml("");
    if xml.len() as u64 > quotas.vcard_bytes {
        return fail(Condition::ResourceConstraint);
    }
    let stored = storage.set_vcard(account, &xml).await;
    stored.map_err(|error| failure(&error))?;
    let actions = avatar::publish(&request.edge, account, card).await?;
    Ok(Reply::empty().then_all(actions))
}

empty_payload! {
    /// Asks for a card.
    Read, ns::VCARD, "vCard"
}

/// A card.
pub struct Card(Element);

impl Payload for Card {
    const NS: &'static str = ns::VCARD;
    const NAME: &'static str = "vCard";

    fn decode(element: &Element) -> Result<Self, StanzaError> {
        Ok(Self(element.clone()))
    }
}

impl Storage {
    /// The account's vCard, written (XEP-0054).
    async fn vcard(&self, account: &BareJid) -> Result<Option<String>, StorageError> {
        let sql = "SELECT xml FROM vcard WHERE account = $1";
        let row = self
            .database
            .row(sql, vec![account.as_str().into()])
            .await?;
        row.map(|row| row.text(0)).transpose()
    }

    /// Replaces the account's vCard.
    async fn set_vcard(&self, account: &BareJid, xml: &str) -> Result<(), StorageError> {
        let sql = "INSERT INTO vcard (account, xml) VALUES ($1, $2) \
                   ON CONFLICT (account) DO UPDATE SET xml = excluded.xml";
        self.database
            .execute(sql, vec![account.as_str().into(), xml.into()])
            .await
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::testing::{edge_with, says, session};
    use crate::storage::testing;

    fn alice() -> BareJid {
        BareJid::new("alice@example.org").unwrap()
    }

    #[tokio::test]
    async fn a_vcard_is_replaced() {
        testing::each(async |storage| {
            assert_eq!(storage.vcard(&alice()).await.unwrap(), None);
            for xml in ["<a/>", "<b/>"] {
                storage.set_vcard(&alice(), xml).await.unwrap();
                assert_eq!(storage.vcard(&alice()).await.unwrap().as_deref(), Some(xml));
            }
        })
        .await;
    }

    #[tokio::test]
    async fn t_54_a_card_may_be_as_large_as_the_quota_and_no_larger() {
        let card = |bytes: usize| {
            let around = "<vCard xmlns='vcard-temp'><FN></FN></vCard>".len();
            let name = "x".repeat(bytes - around);
            format!("<vCard xmlns='vcard-temp'><FN>{name}</FN></vCard>")
        };
        let edge = edge_with(&["quotas.vcard_bytes=1000"]).await;
        let ctx = session(&edge, "alice@example.org/desk");
        for (bytes, fits) in [(999, true), (1_000, true), (1_001, false)] {
            let set = format!("<iq type='set' id='1'>{}</iq>", card(bytes));
            let answer = says(&ctx, &set).await.concat();
            assert_eq!(!answer.contains("<resource-constraint"), fits, "{answer}");
        }
    }
}
