//! Services that wake users' devices (XEP-0357): one row for each node of each service.

use proto::{BareJid, Jid};

use super::Storage;
use super::database::{Row, Value};
use super::error::StorageError;

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

impl Storage {
    /// Adds a registration, or replaces the one of the same service and node. Says whether the account had
    /// room for it.
    pub async fn enable_push(
        &self,
        account: &BareJid,
        registration: &Registration,
        most: u64,
    ) -> Result<bool, StorageError> {
        let Registration {
            service,
            node,
            resource,
            options,
        } = registration;
        let sql = "INSERT INTO push (account, service, node, resource, options) \
                   SELECT $1, $2, $3, $4, $5 WHERE (SELECT count(*) FROM push WHERE account = $1 \
                   AND (service <> $2 OR node <> $3)) < $6 \
                   ON CONFLICT (account, service, node) \
                   DO UPDATE SET resource = excluded.resource, options = excluded.options";
        let values = vec![
            account.as_str().into(),
            service.as_str().into(),
            node.as_str().into(),
            resource.as_str().into(),
            options.clone().into(),
            most.into(),
        ];
        Ok(self.database.execute(sql, values).await? > 0)
    }

    /// Removes the registration of a node of a service, or those of all its nodes.
    pub async fn disable_push(
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
    pub async fn push_registrations(
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
            let enable = async |registration: Registration| {
                let enabled = storage.enable_push(&alice, &registration, 3);
                enabled.await.unwrap()
            };
            for (service, node) in [("p@x", "1"), ("p@x", "2"), ("q@x", "")] {
                assert!(enable(of(service, node, "a")).await);
            }
            assert!(
                !enable(of("r@x", "", "a")).await,
                "there is no room for a fourth"
            );
            assert!(enable(of("p@x", "2", "b")).await);
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
}
