//! XEP-0012: Last Activity. Of the server its uptime; of an account how long ago its last session ended,
//! told to those who see its presence (T-50).

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use proto::payload::delay;
use proto::stanza::error::{Condition, StanzaError};
use proto::{BareJid, Element, ns};

use crate::empty_payload;
use crate::hooks::portable::{Export, ExportError, Import, ImportError, OWN, Portable, Reading};
use crate::hooks::{Request, Scope, Service, Setup, Xep, fail, failure, permission};
use crate::storage::{Step, Storage, StorageError, Stored, assembled};

/// The service.
pub const SERVICE: Service = Service::new("last", &[Xep(12, "2.0")], register);

/// Rows in one statement.
const MOST_ROWS: usize = 64;

const STORED: Stored = Stored {
    steps: &[Step::new(
        1,
        "CREATE TABLE last_activity (
    account TEXT NOT NULL PRIMARY KEY,
    stamp BIGINT NOT NULL,
    status TEXT
);",
    )],
    removals: &["DELETE FROM last_activity WHERE account = $1"],
};

fn register(setup: &mut Setup<'_>) {
    setup.stored(&STORED);
    setup.portable(Endings);
    setup.iq_get(&[Scope::Host, Scope::Account, Scope::Contact], last);
}

async fn last(request: Request<Last>) -> Result<Element, StanzaError> {
    let edge = &request.edge;
    let now = (edge.now)();
    let answer = |since: u64| {
        let seconds = now.saturating_sub(since) / 1000;
        Element::new("query", ns::LAST).with_attr("seconds", seconds.to_string())
    };
    match request.scope {
        Scope::Host => return Ok(answer(edge.started)),
        Scope::Account => {}
        Scope::Contact if permission::sees(edge, &request.account, &request.target).await? => {}
        // As for an account that does not exist: `forbidden` would tell them apart (ST-81).
        Scope::Contact => return fail(Condition::ServiceUnavailable),
    }
    let available = edge.presences.available(&request.target).await;
    if !available.is_empty() {
        return Ok(answer(now));
    }
    let stored = edge
        .storage
        .last_activity(&request.target)
        .await
        .map_err(|error| failure(&error))?;
    match stored {
        Some(last) => Ok(answer(last.stamp).with_text(last.status.as_deref().unwrap_or_default())),
        None => fail(Condition::ItemNotFound),
    }
}

empty_payload! {
    /// The question.
    Last, ns::LAST, "query"
}

/// The ends of last sessions, where accounts leave the server and come back. No specification has a form for them.
struct Endings;

impl Portable for Endings {
    fn tables(&self) -> &'static [&'static str] {
        &["last_activity"]
    }

    fn export<'a>(
        &'a self,
        storage: &'a Storage,
        account: &'a BareJid,
        out: &'a mut Export<'_>,
    ) -> BoxFuture<'a, Result<(), ExportError>> {
        async move {
            let Some(last) = storage.last_activity(account).await? else {
                return Ok(());
            };
            let stamp = delay::stamp(last.stamp);
            let element = Element::new("last-activity", OWN).with_attr("stamp", stamp);
            Ok(out.element(&element.with_text(last.status.as_deref().unwrap_or_default()))?)
        }
        .boxed()
    }

    fn reads(&self, path: &[Element], element: &Element) -> Reading {
        match path.is_empty() && element.is("last-activity", OWN) {
            true => Reading::Take,
            false => Reading::Foreign,
        }
    }

    fn import<'a>(&'a self, import: Import<'a>) -> BoxFuture<'a, Result<(), ImportError>> {
        async move {
            for element in import.elements {
                let stamp = element.attr("stamp").and_then(delay::parse_stamp);
                let wrong = || ImportError::Skipped("a last activity has no time".to_owned());
                let stamp = stamp.ok_or_else(wrong)?;
                let status = Some(element.text()).filter(|status| !status.is_empty());
                let ends = [(import.account, status)];
                import.storage.set_last_activity(stamp, &ends).await?;
            }
            Ok(())
        }
        .boxed()
    }
}

/// When an account's last session ended, and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastActivity {
    /// Milliseconds since 1970.
    pub stamp: u64,
    /// The text of its last presence.
    pub status: Option<String>,
}

impl Storage {
    /// When the account's last session ended, if one ever has (XEP-0012).
    pub(in crate::services) async fn last_activity(
        &self,
        account: &BareJid,
    ) -> Result<Option<LastActivity>, StorageError> {
        let sql = "SELECT stamp, status FROM last_activity WHERE account = $1";
        let row = self
            .database
            .row(sql, vec![account.as_str().into()])
            .await?;
        row.map(|row| {
            Ok(LastActivity {
                stamp: row.count(0)?,
                status: row.text_or_none(1)?,
            })
        })
        .transpose()
    }

    /// Notes that sessions of these accounts have ended, of each account once, and what they said. An older
    /// time than the one noted changes nothing.
    pub(in crate::services) async fn set_last_activity(
        &self,
        stamp: u64,
        accounts: &[(&BareJid, Option<String>)],
    ) -> Result<(), StorageError> {
        let mut transaction = self.database.begin().await?;
        for chunk in accounts.chunks(MOST_ROWS) {
            let sql = format!(
                "INSERT INTO last_activity (account, stamp, status) VALUES {} \
                 ON CONFLICT (account) DO UPDATE SET stamp = excluded.stamp, status = excluded.status \
                 WHERE last_activity.stamp <= excluded.stamp",
                transaction.placeholders(chunk.len(), 3)
            );
            let values = chunk.iter().flat_map(|(account, status)| {
                [account.as_str().into(), stamp.into(), status.clone().into()]
            });
            transaction
                .execute(assembled(sql), values.collect())
                .await?;
        }
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
    async fn the_latest_logout_counts() {
        testing::each(async |storage| {
            let alice = alice();
            let said = [(&alice, Some("bye".to_owned()))];
            storage.set_last_activity(20, &said).await.unwrap();
            let nothing = [(&alice, None)];
            storage.set_last_activity(10, &nothing).await.unwrap();
            let expect = LastActivity {
                stamp: 20,
                status: Some("bye".to_owned()),
            };
            assert_eq!(storage.last_activity(&alice).await.unwrap(), Some(expect));
        })
        .await;
    }
}
