//! The message of the day: where it is, and who is told of it when.
//!
//! Each account is told of each at most once: that it was told is noted before it is, so that a node that dies in
//! between has told nobody. Only who comes at the very moment in which it is set may be told twice, and who is online
//! beside [`MOST_NOTED`] others. What a node knows of it is a second old at most, so that a login costs nothing while there is
//! none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cluster::session::{Action, Message, Relay, Traits};
use proto::BareJid;
use proto::stanza::error::StanzaError;

use super::headline::headline;
use crate::hooks::{Edge, Hook, Presence, Sender, Turn, at_once, later};
use crate::storage::{Step, Storage, StorageError, Stored, assembled};

/// For how long a node believes what it has read, in milliseconds.
const FRESH: u64 = 1_000;

/// Of how many accounts it is noted that they are told at once when it is set: it takes time in proportion.
const MOST_NOTED: usize = 10_000;
/// How many of them one statement notes.
const AT_A_TIME: usize = 64;

/// A message of the day, by domain; and of which an account was told last.
pub const STORED: Stored = Stored {
    steps: &[Step::new(
        7,
        "CREATE TABLE motd (
    domain TEXT NOT NULL PRIMARY KEY,
    id BIGINT NOT NULL,
    text TEXT NOT NULL
);
CREATE TABLE motd_seen (
    account TEXT NOT NULL PRIMARY KEY,
    id BIGINT NOT NULL
);",
    )],
    removals: &["DELETE FROM motd_seen WHERE account = $1"],
};

/// A message of the day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Which one it is.
    pub id: u64,
    /// What it says.
    pub text: String,
}

/// What this node has read, and when.
#[derive(Default)]
pub struct Motd {
    // A lock, as all sessions of the node share it; it is held for a look-up and never across an await.
    read: Mutex<Read>,
}

/// By domain.
type Read = HashMap<String, (u64, Option<Arc<Known>>)>;

impl Motd {
    /// It has changed.
    pub fn forget(&self) {
        self.lock().clear();
    }

    /// What is known of a domain, if it is fresh.
    fn known(&self, domain: &str, now: u64) -> Option<Option<Arc<Known>>> {
        let read = self.lock();
        let (at, known) = read.get(domain)?;
        (now.abs_diff(*at) < FRESH).then(|| known.clone())
    }

    async fn read(
        &self,
        storage: &Storage,
        domain: &str,
        now: u64,
    ) -> Result<Option<Arc<Known>>, StorageError> {
        if let Some(known) = self.known(domain, now) {
            return Ok(known);
        }
        let found = storage.motd(domain).await?.map(Arc::new);
        // There are as many domains as are served.
        self.lock().insert(domain.to_owned(), (now, found.clone()));
        Ok(found)
    }

    /// The map is whole even if a holder of the lock has panicked.
    fn lock(&self) -> MutexGuard<'_, Read> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells those who log in.
pub struct Greeter(pub Arc<Motd>);

impl Hook<Presence> for Greeter {
    fn turn<'a>(
        &'a self,
        sender: Sender<'a>,
        presence: &'a mut Presence,
    ) -> Turn<'a, Result<(), StanzaError>> {
        let now = (sender.edge.now)();
        let known = self.0.known(sender.account.domain(), now);
        match presence.initial && known != Some(None) {
            true => later(self.greet(sender, presence, now)),
            false => at_once(Ok(())),
        }
    }
}

impl Greeter {
    /// Nobody's login waits for it: without the database it is told another time.
    async fn greet(
        &self,
        sender: Sender<'_>,
        presence: &mut Presence,
        now: u64,
    ) -> Result<(), StanzaError> {
        match self.due(sender, now).await {
            Ok(Some(known)) => presence.follow.push(tell(sender, &known)),
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "the message of the day is not told"),
        }
        Ok(())
    }

    async fn due(&self, sender: Sender<'_>, now: u64) -> Result<Option<Arc<Known>>, StorageError> {
        let (storage, account) = (&sender.edge.storage, sender.account);
        let known = self.0.read(storage, account.domain(), now).await?;
        let Some(known) = known else {
            return Ok(None);
        };
        let new = storage.see_motd(account, known.id).await?;
        Ok(new.then_some(known))
    }
}

/// Those who hear at once what is said to everybody.
pub async fn there(edge: &Edge, domain: &str) -> Result<Vec<BareJid>, StanzaError> {
    let online = edge.presences.online(domain, MOST_NOTED).await?;
    let mut there = Vec::new();
    for account in online.first {
        if !edge.presences.available(&account).await.is_empty() {
            there.push(account);
        }
    }
    Ok(there)
}

fn tell(sender: Sender<'_>, known: &Known) -> Action {
    let mid = sender.edge.archive_id();
    let domain = BareJid::from_parts(None, sender.account.domain());
    let domain = domain.unwrap_or_else(|_| sender.account.clone());
    let stanza = headline(&domain, &known.text).with_id(sender.edge.stanza_id());
    Action::Send(Relay::Message(Message {
        packet: stanza.with_to(sender.session.clone()).pack(),
        mid,
        traits: Traits::default(),
    }))
}

impl Storage {
    /// The message of the day of a domain.
    pub(super) async fn motd(&self, domain: &str) -> Result<Option<Known>, StorageError> {
        let sql = "SELECT id, text FROM motd WHERE domain = $1";
        let row = self.database.row(sql, vec![domain.into()]).await?;
        row.map(|row| {
            Ok(Known {
                id: row.count(0)?,
                text: row.text(1)?,
            })
        })
        .transpose()
    }

    /// A new one, of which these accounts are told already.
    pub(super) async fn set_motd(
        &self,
        domain: &str,
        id: u64,
        text: &str,
        told: &[BareJid],
    ) -> Result<(), StorageError> {
        let mut transaction = self.database.begin().await?;
        let sql = "INSERT INTO motd (domain, id, text) VALUES ($1, $2, $3) \
                   ON CONFLICT (domain) DO UPDATE SET id = excluded.id, text = excluded.text";
        let values = vec![domain.into(), id.into(), text.into()];
        transaction.execute(sql, values).await?;
        for some in told.chunks(AT_A_TIME) {
            let rows: Vec<_> = (2..some.len() + 2).map(|n| format!("(${n}, $1)")).collect();
            let sql = format!(
                "INSERT INTO motd_seen (account, id) VALUES {} \
                 ON CONFLICT (account) DO UPDATE SET id = excluded.id",
                rows.join(", ")
            );
            let names = some.iter().map(|account| account.as_str().into());
            let values = [id.into()].into_iter().chain(names).collect();
            transaction.execute(assembled(sql), values).await?;
        }
        transaction.commit().await
    }

    /// Other words for the one that there is; without one, a new one.
    pub(super) async fn edit_motd(
        &self,
        domain: &str,
        id: u64,
        text: &str,
    ) -> Result<(), StorageError> {
        let sql = "INSERT INTO motd (domain, id, text) VALUES ($1, $2, $3) \
                   ON CONFLICT (domain) DO UPDATE SET text = excluded.text";
        let values = vec![domain.into(), id.into(), text.into()];
        self.database.execute(sql, values).await.map(drop)
    }

    /// `false` if there was none.
    pub(super) async fn delete_motd(&self, domain: &str) -> Result<bool, StorageError> {
        let sql = "DELETE FROM motd WHERE domain = $1";
        let deleted = self.database.execute(sql, vec![domain.into()]).await?;
        Ok(deleted > 0)
    }

    /// The account is told of it; `false` if it was already.
    pub(super) async fn see_motd(&self, account: &BareJid, id: u64) -> Result<bool, StorageError> {
        let sql = "INSERT INTO motd_seen (account, id) VALUES ($1, $2) \
                   ON CONFLICT (account) DO UPDATE SET id = excluded.id \
                   WHERE motd_seen.id <> excluded.id";
        let values = vec![account.as_str().into(), id.into()];
        Ok(self.database.execute(sql, values).await? > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::testing;

    #[tokio::test]
    async fn ad_2_each_account_is_told_of_each_once() {
        testing::each(async |storage| {
            let (alice, bob) = ("alice@a.example", "bob@a.example");
            let sees = async |account: &str| {
                let known = storage.motd("a.example").await.unwrap();
                let account = BareJid::new(account).unwrap();
                let id = known.map(|known| known.id)?;
                Some(storage.see_motd(&account, id).await.unwrap())
            };
            assert_eq!(sees(alice).await, None);
            storage.set_motd("a.example", 7, "one", &[]).await.unwrap();
            assert_eq!(sees(alice).await, Some(true));
            assert_eq!(sees(alice).await, Some(false));
            storage.edit_motd("a.example", 8, "two").await.unwrap();
            let known = storage.motd("a.example").await.unwrap();
            let (id, text) = (7, "two".to_owned());
            assert_eq!(known, Some(Known { id, text }));
            assert_eq!(sees(alice).await, Some(false));
            assert_eq!(sees(bob).await, Some(true));
            storage
                .set_motd("a.example", 9, "three", &[])
                .await
                .unwrap();
            assert_eq!(sees(alice).await, Some(true));
            let told: Vec<_> = (0..AT_A_TIME).map(|n| format!("n{n}@a.example")).collect();
            let told = told.iter().map(String::as_str).chain([alice]);
            let told: Vec<_> = told.map(|jid| BareJid::new(jid).unwrap()).collect();
            storage
                .set_motd("a.example", 10, "four", &told)
                .await
                .unwrap();
            assert_eq!(sees(alice).await, Some(false));
            assert_eq!(sees("n0@a.example").await, Some(false));
            assert_eq!(sees(bob).await, Some(true));
            assert!(storage.delete_motd("a.example").await.unwrap());
            assert!(!storage.delete_motd("a.example").await.unwrap());
            assert_eq!(sees(bob).await, None);
        })
        .await;
    }
}
