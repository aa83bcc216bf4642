//! Services that wake users' devices (XEP-0357): one row for each node of each service.

use proto::{BareJid, Jid};

use super::settings::Quotas;
use crate::storage::{Row, Step, Storage, StorageError, Stored, Value};

/// The table.
pub const STORED: Stored = Stored {
    steps: &[Step::new(2, include_str!("schema/2.sql"))],
    removals: &["DELETE FROM push WHERE account = $1"],
};

/// What an account has as much of as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Full {
    /// Registrations.
    #[error("at most {0} push registrations are kept")]
    Number(u64),
    /// All of them.
    #[error("push registrations take at most {0} bytes together")]
    Bytes(u64),
}

impl From<Full> for StorageError {
    fn from(full: Full) -> Self {
        Self::Full(full.to_string())
    }
}

/// A registration: the client `resource` of an account is woken through a node of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The service.
    pub service: Jid,
    /// Its node; empty if none was named.
    pub node: String,
    /// The client that asked for it.
    pub resource: String,
    /// The form of publish options to send along, written.
    pub options: Option<String>,
}

impl Registration {
    /// What it takes of the account's room.
    fn size(&self) -> usize {
        let options = self.options.as_ref().map_or(0, String::len);
        self.service.as_str().len() + self.node.len() + self.resource.len() + options
    }
}

impl Storage {
    /// Adds a registration, or replaces the one of the same service and node, if there is room for it. Says
    /// which client has none any more because of that.
    pub(super) async fn enable_push(
        &self,
        quotas: &Quotas,
        account: &BareJid,
        registration: &Registration,
    ) -> Result<Option<String>, StorageError> {
        let Registration {
            service,
            node,
            resource,
            options,
        } = registration;
        let mut transaction = self.database.begin().await?;
        transaction.lock(account.as_str()).await?;
        let sql = "SELECT service, node, resource, options FROM push WHERE account = $1";
        let rows = transaction.rows(sql, vec![account.as_str().into()]).await?;
        let mut others = Vec::with_capacity(rows.len());
        let mut replaced = None;
        for row in &rows {
            let known = self::registration(row)?;
            match known.service == *service && known.node == *node {
                true => replaced = Some(known),
                false => others.push(known),
            }
        }
        if replaced.is_none() && others.len() as u64 >= quotas.push_registrations {
            return Err(Full::Number(quotas.push_registrations).into());
        }
        let taken: usize = others.iter().map(Registration::size).sum();
        if (taken + registration.size()) as u64 > quotas.push_bytes {
            return Err(Full::Bytes(quotas.push_bytes).into());
        }
        let sql = "INSERT INTO push (account, service, node, resource, options) \
                   VALUES ($1, $2, $3, $4, $5) ON CONFLICT (account, service, node) \
                   DO UPDATE SET resource = excluded.resource, options = excluded.options";
        let values = vec![
            account.as_str().into(),
            service.as_str().into(),
            node.as_str().into(),
            resource.as_str().into(),
            options.clone().into(),
        ];
        transaction.execute(sql, values).await?;
        transaction.commit().await?;
        let left = replaced.map(|replaced| replaced.resource);
        Ok(left.filter(|left| left != resource && others.iter().all(|r| r.resource != *left)))
    }

    /// Removes the registration of a node of a service, or those of all its nodes.
    pub(super) async fn disable_push(
        &self,
        account: &BareJid,
        service: &Jid,
        node: Option<&str>,
    ) -> Result<(), StorageError> {
        let mut values: Vec<Value> = vec![account.as_str().into(), service.as_str().into()];
        let sql = match node {
            None => "DELETE FROM push WHERE account = $1 AND service = $2",
            Some(node) => {
                values.push(node.into());
                "DELETE FROM push WHERE account = $1 AND service = $2 AND node = $3"
            }
        };
        self.database.execute(sql, values).await.map(drop)
    }

    /// The account's registrations.
    pub(super) async fn push_registrations(
        &self,
        account: &BareJid,
    ) -> Result<Vec<Registration>, StorageError> {
        let sql = "SELECT service, node, resource, options FROM push WHERE account = $1 ORDER BY service, node";
        let rows = self.database.rows(sql, vec![account.as_str().into()]);
        rows.await?.iter().map(registration).collect()
    }
}

fn registration(row: &Row) -> Result<Registration, StorageError> {
    let service = Jid::new(&row.text(0)?);
    Ok(Registration {
        service: service.map_err(|_| StorageError::Damaged("a service's address"))?,
        node: row.text(1)?,
        resource: row.text(2)?,
        options: row.text_or_none(3)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::testing;

    fn of(service: &str, node: &str, resource: &str) -> Registration {
        Registration {
            service: Jid::new(service).unwrap(),
            node: node.to_owned(),
            resource: resource.to_owned(),
            options: (resource == "b").then(|| "<x/>".to_owned()),
        }
    }

    #[tokio::test]
    async fn im_102_a_repeat_replaces_and_a_service_is_disabled_as_a_whole_or_by_node() {
        testing::each(async |storage| {
            let alice = BareJid::new("alice@x").unwrap();
            let quotas = Quotas {
                push_registrations: 3,
                ..Quotas::default()
            };
            let enable = async |registration: Registration| {
                storage.enable_push(&quotas, &alice, &registration).await
            };
            for (service, node) in [("p@x", "1"), ("p@x", "2"), ("q@x", "")] {
                assert_eq!(enable(of(service, node, "a")).await.unwrap(), None);
            }
            let fourth = enable(of("r@x", "", "a")).await;
            let expect = Full::Number(3).to_string();
            assert!(matches!(fourth, Err(StorageError::Full(full)) if full == expect));
            assert_eq!(enable(of("p@x", "2", "b")).await.unwrap(), None);
            let all = async || storage.push_registrations(&alice).await.unwrap();
            let expect = [of("p@x", "1", "a"), of("p@x", "2", "b"), of("q@x", "", "a")];
            assert_eq!(all().await, expect);
            let disable = async |service: &str, node: Option<&str>| {
                let service = Jid::new(service).unwrap();
                let disabled = storage.disable_push(&alice, &service, node);
                disabled.await.unwrap();
            };
            disable("q@x", Some("other")).await;
            assert_eq!(all().await.len(), 3);
            disable("q@x", Some("")).await;
            disable("p@x", None).await;
            assert_eq!(all().await, []);
        })
        .await;
    }
    #[tokio::test]
    async fn im_102_registrations_are_bounded_in_bytes_and_a_replaced_client_is_named() {
        let one = of("p@x", "1", "a");
        for (bytes, fits) in [(9, false), (10, true), (11, true)] {
            testing::each(async |storage| {
                let alice = BareJid::new("alice@x").unwrap();
                let quotas = Quotas {
                    push_bytes: bytes,
                    ..Quotas::default()
                };
                let first = storage.enable_push(&quotas, &alice, &one).await;
                assert_eq!(first.unwrap(), None);
                let second = storage
                    .enable_push(&quotas, &alice, &of("p@x", "2", "c"))
                    .await;
                assert_eq!(second.is_ok(), fits, "{bytes}");
                // Another client takes the first one's place.
                let other = storage
                    .enable_push(&quotas, &alice, &of("p@x", "1", "d"))
                    .await;
                assert_eq!(other.unwrap().as_deref(), Some("a"));
            })
            .await;
        }
    }
}
