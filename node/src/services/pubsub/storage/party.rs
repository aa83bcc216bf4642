//! Who may and may not read a node, and who has subscribed to it by themselves.

use proto::{BareJid, Jid};

use super::super::settings::Quotas;
use super::row::{Full, find, names};
use crate::storage::{Storage, StorageError, Transaction};

/// What somebody is to a node. The account itself owns all of its nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affiliation {
    /// May read it, also if only those on the list may.
    Member,
    /// May not read it.
    Outcast,
}

impl Affiliation {
    /// Its name; nobody has the others.
    pub fn name(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Outcast => "outcast",
        }
    }

    /// The one with this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Member, Self::Outcast]
            .into_iter()
            .find(|known| known.name() == name)
    }
}

/// Everybody who has to do with a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parties {
    /// What they are, in the order of their addresses.
    pub affiliations: Vec<(BareJid, Affiliation)>,
    /// Who has subscribed.
    pub subscriptions: Vec<Jid>,
}

fn jid(text: &str) -> Result<Jid, StorageError> {
    Jid::new(text).map_err(|_| StorageError::Damaged("an address of a node"))
}

fn affiliation(name: &str) -> Result<Affiliation, StorageError> {
    Affiliation::named(name).ok_or(StorageError::Damaged("an affiliation"))
}

/// Refuses more of them than there may be.
async fn check(
    transaction: &mut Transaction,
    quotas: &Quotas,
    (account, node): (&BareJid, &str),
    sql: &'static str,
) -> Result<(), StorageError> {
    let row = transaction.row(sql, names(account, node)).await?;
    match row.map_or(Ok(0), |row| row.count(0))? > quotas.pubsub_parties {
        true => Err(Full::Parties(quotas.pubsub_parties).into()),
        false => Ok(()),
    }
}

impl Storage {
    /// Everybody who has to do with a node.
    pub(in super::super) async fn parties(
        &self,
        account: &BareJid,
        node: &str,
    ) -> Result<Parties, StorageError> {
        let sql = "SELECT jid, affiliation FROM pubsub_affiliation \
                   WHERE account = $1 AND node = $2 \
                   UNION ALL SELECT jid, '' FROM pubsub_subscription \
                   WHERE account = $1 AND node = $2 ORDER BY 1";
        let rows = self.database.rows(sql, names(account, node)).await?;
        let mut parties = Parties::default();
        for row in &rows {
            let (jid, name) = (jid(&row.text(0)?)?, row.text(1)?);
            match name.is_empty() {
                true => parties.subscriptions.push(jid),
                false => parties.affiliations.push((jid.bare(), affiliation(&name)?)),
            }
        }
        Ok(parties)
    }

    /// What somebody is to the nodes of an account, where it is anything.
    pub(in super::super) async fn affiliations(
        &self,
        account: &BareJid,
        viewer: &BareJid,
    ) -> Result<Vec<(String, Affiliation)>, StorageError> {
        let sql = "SELECT node, affiliation FROM pubsub_affiliation \
                   WHERE account = $1 AND jid = $2 ORDER BY node";
        let values = vec![account.as_str().into(), viewer.as_str().into()];
        let rows = self.database.rows(sql, values).await?;
        let one = |row: &crate::storage::Row| Ok((row.text(0)?, affiliation(&row.text(1)?)?));
        rows.iter().map(one).collect()
    }

    /// Somebody must not read a node that others may.
    pub(in super::super) async fn has_outcasts(
        &self,
        account: &BareJid,
        node: &str,
    ) -> Result<bool, StorageError> {
        let sql = "SELECT jid FROM pubsub_affiliation \
                   WHERE account = $1 AND node = $2 AND affiliation = 'outcast' LIMIT 1";
        let row = self.database.row(sql, names(account, node)).await?;
        Ok(row.is_some())
    }

    /// To which nodes of an account an account or its sessions have subscribed.
    pub(in super::super) async fn subscriptions_by(
        &self,
        account: &BareJid,
        by: &BareJid,
    ) -> Result<Vec<(String, Jid)>, StorageError> {
        let sql = "SELECT node, jid FROM pubsub_subscription \
                   WHERE account = $1 AND (jid = $2 OR (jid >= $3 AND jid < $4)) ORDER BY node, jid";
        // Behind the slash, and before the character that follows it.
        let (first, last) = (format!("{by}/"), format!("{by}0"));
        let values = vec![
            account.as_str().into(),
            by.as_str().into(),
            first.into(),
            last.into(),
        ];
        let rows = self.database.rows(sql, values).await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            let jid = jid(&row.text(1)?)?;
            // Engines do not agree on what stands between the two.
            if jid.belongs_to(by) {
                found.push((row.text(0)?, jid));
            }
        }
        Ok(found)
    }

    /// Says what some are to a node; returns whether it is there.
    pub(in super::super) async fn affiliate(
        &self,
        quotas: &Quotas,
        (account, node): (&BareJid, &str),
        changes: &[(BareJid, Option<Affiliation>)],
    ) -> Result<bool, StorageError> {
        let mut transaction = self.database.begin().await?;
        if find(&mut transaction, account, node).await?.is_none() {
            return Ok(false);
        }
        for (jid, affiliation) in changes {
            let mut values = names(account, node);
            values.push(jid.as_str().into());
            let sql = match affiliation {
                None => {
                    "DELETE FROM pubsub_affiliation \
                     WHERE account = $1 AND node = $2 AND jid = $3"
                }
                Some(affiliation) => {
                    values.push(affiliation.name().into());
                    "INSERT INTO pubsub_affiliation (account, node, jid, affiliation) \
                     VALUES ($1, $2, $3, $4) ON CONFLICT (account, node, jid) \
                     DO UPDATE SET affiliation = excluded.affiliation"
                }
            };
            transaction.execute(sql, values).await?;
        }
        let sql = "SELECT COUNT(*) FROM pubsub_affiliation WHERE account = $1 AND node = $2";
        check(&mut transaction, quotas, (account, node), sql).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Somebody subscribes; returns whether the node is there.
    pub(in super::super) async fn subscribe(
        &self,
        quotas: &Quotas,
        (account, node): (&BareJid, &str),
        jid: &Jid,
    ) -> Result<bool, StorageError> {
        let mut transaction = self.database.begin().await?;
        if find(&mut transaction, account, node).await?.is_none() {
            return Ok(false);
        }
        let sql = "INSERT INTO pubsub_subscription (account, node, jid) VALUES ($1, $2, $3) \
                   ON CONFLICT (account, node, jid) DO NOTHING";
        let mut values = names(account, node);
        values.push(jid.as_str().into());
        transaction.execute(sql, values).await?;
        let sql = "SELECT COUNT(*) FROM pubsub_subscription WHERE account = $1 AND node = $2";
        check(&mut transaction, quotas, (account, node), sql).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Somebody is subscribed no longer; returns whether they were.
    pub(in super::super) async fn unsubscribe(
        &self,
        account: &BareJid,
        node: &str,
        jid: &Jid,
    ) -> Result<bool, StorageError> {
        let sql = "DELETE FROM pubsub_subscription WHERE account = $1 AND node = $2 AND jid = $3";
        let mut values = names(account, node);
        values.push(jid.as_str().into());
        Ok(self.database.execute(sql, values).await? > 0)
    }
}
