//! XEP-0049: Private XML Storage. One element for each name and namespace, for its owner only.

mod bookmarks;
mod element;
mod port;
mod settings;

use proto::stanza::error::{Condition, StanzaError};
use proto::{BareJid, Element, ns};

use self::element::{MAX_BYTES, key};
use self::settings::Quotas;
use crate::hooks::{Payload, Reply, Request, Scope, Service, Setup, Xep, fail, failure};
use crate::storage::{Step, Storage, StorageError, Stored};

/// The service.
pub const SERVICE: Service = Service::new(
    "private",
    &[Xep(48, "1.2"), Xep(49, "1.2"), Xep(402, "1.2.0")],
    register,
);

const STORED: Stored = Stored {
    steps: &[Step::new(
        1,
        "CREATE TABLE private_xml (
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    xml TEXT NOT NULL,
    PRIMARY KEY (account, name)
);",
    )],
    removals: &["DELETE FROM private_xml WHERE account = $1"],
};

/// What an account has as much of as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Full {
    /// Elements.
    #[error("at most {0} elements are stored")]
    Elements(u64),
    /// All of them.
    #[error("stored elements take at most {0} bytes together")]
    Bytes(u64),
}

impl From<Full> for StorageError {
    fn from(full: Full) -> Self {
        Self::Full(full.to_string())
    }
}

fn register(setup: &mut Setup<'_>) {
    let quotas: Quotas = setup.config();
    setup.stored(&STORED);
    setup.portable(port::Elements { quotas });
    setup.iq_get(&[Scope::Account], read);
    setup.iq_set(&[Scope::Account], move |request| write(request, quotas));
    setup.feature(&[Scope::Host], ns::PRIVATE);
    setup.feature(&[Scope::Account], "urn:xmpp:bookmarks:1#compat");
}

/// What is not stored reads as the element that was asked for.
async fn read(request: Request<Private>) -> Result<Element, StanzaError> {
    let Private(wanted) = request.payload;
    let key = key(&wanted);
    let stored = request.edge.storage.private(&request.account, &key).await;
    let stored = stored.map_err(|error| failure(&error))?;
    let mut found = stored.and_then(|xml| Element::parse(xml.as_bytes()).ok());
    if bookmarks::are_in(&wanted) {
        found = Some(bookmarks::read(&request.edge, &request.account, found).await?);
    }
    Ok(Element::new("query", ns::PRIVATE).with_child(found.unwrap_or(wanted)))
}

async fn write(request: Request<Private>, quotas: Quotas) -> Result<Reply, StanzaError> {
    let Private(mut element) = request.payload;
    let mut actions = Vec::new();
    if bookmarks::are_in(&element) {
        (element, actions) = bookmarks::write(&request.edge, &request.account, element).await?;
    }
    let mut xml = String::new();
    element.write("", &mut xml);
    if xml.len() > MAX_BYTES {
        return fail(Condition::ResourceConstraint);
    }
    let stored = request
        .edge
        .storage
        .set_private(&quotas, &request.account, &key(&element), &xml)
        .await;
    stored.map_err(|error| failure(&error))?;
    Ok(Reply::empty().then_all(actions))
}

/// The element that is stored or asked for.
pub struct Private(Element);

impl Payload for Private {
    const NS: &'static str = ns::PRIVATE;
    const NAME: &'static str = "query";

    fn decode(element: &Element) -> Result<Self, StanzaError> {
        let mut children = element.elements();
        match (children.next(), children.next()) {
            // Its own namespace, and not one that the protocol itself uses.
            (Some(child), None) if !matches!(child.ns(), ns::CLIENT | ns::PRIVATE | "") => {
                Ok(Self(child.clone()))
            }
            _ => fail(Condition::BadRequest),
        }
    }
}

impl Storage {
    /// A private element of the account by its key, written (XEP-0049).
    async fn private(&self, account: &BareJid, key: &str) -> Result<Option<String>, StorageError> {
        let sql = "SELECT xml FROM private_xml WHERE account = $1 AND name = $2";
        let row = self
            .database
            .row(sql, vec![account.as_str().into(), key.into()])
            .await?;
        row.map(|row| row.text(0)).transpose()
    }

    /// The keys of all private elements of the account, in order.
    async fn private_names(&self, account: &BareJid) -> Result<Vec<String>, StorageError> {
        let sql = "SELECT name FROM private_xml WHERE account = $1 ORDER BY name";
        let rows = self.database.rows(sql, vec![account.as_str().into()]);
        rows.await?.iter().map(|row| row.text(0)).collect()
    }

    /// Replaces a private element of the account, if there is room for it. One that takes no more than the
    /// one before always has room.
    async fn set_private(
        &self,
        quotas: &Quotas,
        account: &BareJid,
        key: &str,
        xml: &str,
    ) -> Result<(), StorageError> {
        let mut transaction = self.database.begin().await?;
        transaction.lock(account.as_str()).await?;
        // Their sizes are compared as they are counted: keys are texts of the client's as well.
        let sql = "SELECT name, CAST(octet_length(name) + octet_length(xml) AS BIGINT) \
                   FROM private_xml WHERE account = $1";
        let rows = transaction.rows(sql, vec![account.as_str().into()]).await?;
        let (mut elements, mut bytes, mut own) = (0, 0, None);
        for row in &rows {
            let size = row.count(1)?;
            match row.text(0)? == key {
                true => own = Some(size),
                false => (elements, bytes) = (elements + 1, bytes + size),
            }
        }
        let size = (key.len() + xml.len()) as u64;
        if own.is_none() && elements >= quotas.private_elements {
            return Err(Full::Elements(quotas.private_elements).into());
        }
        if own.is_none_or(|own| size > own) && bytes + size > quotas.private_bytes {
            return Err(Full::Bytes(quotas.private_bytes).into());
        }
        let sql = "INSERT INTO private_xml (account, name, xml) VALUES ($1, $2, $3) \
                   ON CONFLICT (account, name) DO UPDATE SET xml = excluded.xml";
        let values = vec![account.as_str().into(), key.into(), xml.into()];
        transaction.execute(sql, values).await?;
        transaction.commit().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::testing;

    fn alice() -> BareJid {
        BareJid::new("alice@example.org").unwrap()
    }

    #[tokio::test]
    async fn t_72_a_hostile_key_is_only_a_key() {
        testing::each(async |storage| {
            let hostile = "'; DROP TABLE account; -- %_\u{1F600}";
            storage
                .set_private(&Quotas::default(), &alice(), hostile, "<x/>")
                .await
                .unwrap();
            storage
                .set_private(&Quotas::default(), &alice(), "other", "<y/>")
                .await
                .unwrap();
            assert_eq!(
                storage.private(&alice(), hostile).await.unwrap().as_deref(),
                Some("<x/>")
            );
            assert_eq!(storage.private(&alice(), "%").await.unwrap(), None);
        })
        .await;
    }

    #[tokio::test]
    async fn t_54_private_elements_are_bounded_in_number_and_bytes() {
        for (bytes, fits) in [(9, false), (10, true), (11, true)] {
            testing::each(async |storage| {
                let quotas = Quotas {
                    private_bytes: bytes,
                    private_elements: 2,
                };
                let set = async |key: &str, xml: &str| match storage
                    .set_private(&quotas, &alice(), key, xml)
                    .await
                {
                    Ok(()) => None,
                    Err(StorageError::Full(full)) => Some(full),
                    Err(other) => panic!("{other}"),
                };
                assert_eq!(set("1", "<a/>").await, None);
                let refused = (!fits).then(|| Full::Bytes(bytes).to_string());
                assert_eq!(set("2", "<b/>").await, refused);
                // What takes no more than what was there.
                assert_eq!(set("1", "<c/>").await, None);
                if fits {
                    assert_eq!(set("3", "").await, Some(Full::Elements(2).to_string()));
                }
            })
            .await;
        }
    }

    #[test]
    fn exactly_one_element_of_a_foreign_namespace_is_stored() {
        let query = || Element::new("query", ns::PRIVATE);
        let child = || Element::new("storage", "storage:bookmarks");
        assert!(Private::decode(&query().with_child(child())).is_ok());
        assert!(Private::decode(&query()).is_err());
        assert!(Private::decode(&query().with_child(child()).with_child(child())).is_err());
        assert!(Private::decode(&query().with_child(Element::new("x", ns::PRIVATE))).is_err());
    }
}
