//! The message archive: what MAM shows, and what waits, hidden, for a user who is away.
//!
//! A row is named by its owner, or the number of its ([`name`]), and its archive id; its `place` is the order of delivery to the account,
//! which pages follow whatever the stamps say (IM-83). A stanza is kept as the XML it is.

mod expiry;
mod name;
mod port;
mod preference;
mod query;
mod row;
mod search;
mod written;

pub use expiry::Expired;
pub use preference::Preferences;
pub use query::{Filter, Page, Place};
pub use row::Entry;
pub use search::Bounds;
#[cfg(test)]
pub use written::Written;

use std::collections::HashSet;

use bytes::Bytes;
use cluster::ArchiveId;
use cluster::session::{ArchiveRow, Fetched};
use proto::BareJid;

use self::name::{Numbered, OWNER, numbered};
use self::preference::{Fate, Judge, hidden_among};
use self::row::{FRONT, MOST_IDS, key, keyed, mid};
use super::settings::KeepByDefault;
use crate::storage::{
    Row, Step, Storage, StorageError, Stored, Transaction, Value, assembled, numbered as numbers,
};

/// Rows in one statement. Chunks are powers of two, so that few statements are prepared.
const MOST_ROWS: usize = 64;
/// Messages that are read back by one statement. They are in memory at once, each of up to a stanza's bytes.
const MOST_READ: usize = 32;

/// The tables.
pub const STORED: Stored = Stored {
    steps: &[
        Step::of_each(
            1,
            include_str!("../schema/1.sqlite.sql"),
            include_str!("../schema/1.postgres.sql"),
        ),
        Step::new(2, include_str!("../schema/2.sql")),
        Step::of_each(
            7,
            include_str!("../schema/7.sqlite.sql"),
            include_str!("../schema/7.postgres.sql"),
        ),
    ],
    removals: &[
        // Who remembers numbers of this account asks for them again, and whoever uses them now is waited for.
        "UPDATE archive_names SET version = version + 1 WHERE EXISTS (SELECT 1 FROM archive_name WHERE owner = $1)",
        "DELETE FROM archive WHERE hidden = 0 AND owner IN (SELECT id FROM archive_name WHERE owner = $1 AND party = '')",
        "DELETE FROM archive WHERE hidden = 1 AND owner IN (SELECT id FROM archive_name WHERE owner = $1 AND party = '')",
        "DELETE FROM archive_name WHERE owner = $1",
        "DELETE FROM archive_preference WHERE account = $1",
        "DELETE FROM archive_exception WHERE account = $1",
    ],
};

impl Storage {
    /// Adds rows, all or none, as far as their owners want them kept. Rows that are there already stay as
    /// they are. Returns those that were to be shown and are hidden.
    pub(in crate::services) async fn archive(
        &self,
        rows: &[&ArchiveRow],
        fallback: KeepByDefault,
    ) -> Result<HashSet<(BareJid, ArchiveId)>, StorageError> {
        let judge = Judge::read(self, rows, fallback).await?;
        let judged = rows.iter().map(|row| (*row, judge.fate(row)));
        let wanted: Vec<_> = judged.filter(|(_, fate)| *fate != Fate::Dropped).collect();
        let uncertain = wanted.iter().map(|(row, _)| *row);
        let uncertain: Vec<_> = uncertain.filter(|row| judge.is_uncertain(row)).collect();
        self.write(&wanted, &uncertain).await
    }

    /// Adds those of the rows that the archive is going to show, and returns those that were meant to be and
    /// are not. For who wants to read them before their turn: a hidden one may have been delivered and
    /// deleted meanwhile.
    pub(in crate::services) async fn archive_shown(
        &self,
        rows: &[&ArchiveRow],
        fallback: KeepByDefault,
    ) -> Result<HashSet<(BareJid, ArchiveId)>, StorageError> {
        let judge = Judge::read(self, rows, fallback).await?;
        let judged = rows.iter().map(|row| (*row, judge.fate(row)));
        let wanted = judged.filter(|(_, fate)| *fate != Fate::Dropped);
        let (shown, hidden): (Vec<_>, Vec<_>) = wanted.partition(|(_, fate)| *fate == Fate::Shown);
        let mut missing = HashSet::new();
        if !shown.is_empty() {
            let rows: Vec<_> = shown.iter().map(|(row, _)| *row).collect();
            missing = self.write(&shown, &rows).await?;
        }
        let hidden = hidden.into_iter().filter(|(row, _)| !row.hidden);
        missing.extend(hidden.map(|(row, _)| (row.owner.clone(), row.mid)));
        Ok(missing)
    }

    /// Adds rows, all or none, and says which of those that are uncertain are there hidden.
    async fn write(
        &self,
        rows: &[(&ArchiveRow, Fate)],
        uncertain: &[&ArchiveRow],
    ) -> Result<HashSet<(BareJid, ArchiveId)>, StorageError> {
        let mut transaction = self.database.begin().await?;
        let (rows, learnt) = numbered(&self.names, &mut transaction, rows).await?;
        insert(&mut transaction, rows).await?;
        let hidden = hidden_among(&mut transaction, uncertain).await?;
        transaction.commit().await?;
        learnt.remember(&self.names);
        Ok(hidden)
    }

    /// Reads messages of an account back, hidden ones too. What is gone, or damaged, is left out.
    pub(in crate::services) async fn fetch(
        &self,
        owner: &BareJid,
        mids: &[ArchiveId],
    ) -> Result<Vec<Fetched>, StorageError> {
        self.read(owner, mids, "stanza", row::fetched).await
    }

    /// The same without what the messages say, which may be nearly all of their bytes.
    pub(in crate::services) async fn fetch_headers(
        &self,
        owner: &BareJid,
        mids: &[ArchiveId],
    ) -> Result<Vec<Fetched>, StorageError> {
        let mut found = self.read(owner, mids, FRONT, row::header).await?;
        let is_found = |mid: &ArchiveId| found.iter().any(|fetched| fetched.mid == *mid);
        let rest = mids.iter().copied().filter(|mid| !is_found(mid));
        let rest: Vec<ArchiveId> = rest.collect();
        for mut fetched in self.fetch(owner, &rest).await? {
            fetched.packet.payload = Bytes::new();
            found.push(fetched);
        }
        Ok(found)
    }

    async fn read(
        &self,
        owner: &BareJid,
        mids: &[ArchiveId],
        stanza: &'static str,
        parse: fn(&Row) -> Result<Option<Fetched>, StorageError>,
    ) -> Result<Vec<Fetched>, StorageError> {
        let mut found = Vec::with_capacity(mids.len());
        for chunk in mids.chunks(MOST_READ) {
            let sql = format!(
                "SELECT mid, stamp, {stanza}, place, hidden FROM archive WHERE owner = {OWNER} AND mid IN ({}) ORDER BY place",
                numbers(chunk.len(), 2)
            );
            let rows = self.database.rows(assembled(sql), keyed(owner, chunk));
            for row in rows.await? {
                match parse(&row) {
                    Ok(message) => found.extend(message),
                    // One that is damaged must not take the others with it.
                    Err(error) => {
                        tracing::error!(%owner, mid = %mid(&row, 0)?, %error, "a message is lost");
                    }
                }
                // A full queue is megabytes, and others wait for this thread.
                tokio::task::yield_now().await;
            }
        }
        Ok(found)
    }

    /// Deletes those of the messages that are hidden: they have been delivered.
    pub(in crate::services) async fn forget(
        &self,
        owner: &BareJid,
        mids: &[ArchiveId],
    ) -> Result<(), StorageError> {
        for chunk in mids.chunks(MOST_IDS) {
            let ids = numbers(chunk.len(), 2);
            let sql = format!(
                "DELETE FROM archive WHERE owner = {OWNER} AND hidden = 1 AND mid IN ({ids})"
            );
            self.database
                .execute(assembled(sql), keyed(owner, chunk))
                .await?;
        }
        Ok(())
    }
}

#[cfg(test)]
impl Storage {
    /// How many of these messages are there.
    pub(crate) async fn count_archived(&self, owner: &BareJid, mids: &[ArchiveId]) -> usize {
        self.fetch(owner, mids).await.unwrap().len()
    }

    /// Has every statement about the archive fail.
    pub(crate) async fn break_archive(&self) {
        let sql = "ALTER TABLE archive RENAME TO elsewhere".to_owned();
        self.database.raw(sql).await.unwrap();
    }

    /// Makes a message unreadable.
    pub(crate) async fn damage_message(&self, mid: ArchiveId) {
        let sql = "UPDATE archive SET stanza = '<' WHERE mid = $1";
        let damaged = self.database.execute(sql, vec![key(mid)]).await;
        assert_eq!(damaged.unwrap(), 1);
    }
}

async fn insert(
    transaction: &mut Transaction,
    rows: Vec<Numbered<'_>>,
) -> Result<(), StorageError> {
    let mut lines = written(rows)?;
    // What an account gets at a time is read together, too.
    lines.sort_by_key(|(row, _)| row.owner);
    let mut lines = lines.into_iter();
    while lines.len() > 0 {
        let fits = 1 << lines.len().min(MOST_ROWS).ilog2();
        let sql = transaction.insertion(
            "archive (owner, mid, place, stamp, party, resource, hidden, stanza)",
            (fits, 8),
        );
        let mut values = Vec::with_capacity(fits * 8);
        for (row, stanza) in lines.by_ref().take(fits) {
            values.extend(columns(&row, stanza));
        }
        transaction.execute(assembled(sql), values).await?;
    }
    Ok(())
}

/// The rows with their stanzas as they are stored. One of the sender's archive and one of the recipient's are often the
/// same stanza, and follow each other.
fn written(rows: Vec<Numbered<'_>>) -> Result<Vec<(Numbered<'_>, String)>, StorageError> {
    let mut lines: Vec<(Numbered<'_>, String)> = Vec::with_capacity(rows.len());
    for row in rows {
        let packet = &row.row.packet;
        let same = lines.last().filter(|(last, _)| last.row.packet == *packet);
        let stanza = match same {
            Some((_, stanza)) => stanza.clone(),
            None => {
                let mut stanza = Vec::new();
                packet.write(&[], &mut stanza);
                String::from_utf8(stanza).map_err(|_| StorageError::Damaged("a stanza"))?
            }
        };
        lines.push((row, stanza));
    }
    Ok(lines)
}

fn columns(numbered: &Numbered<'_>, stanza: String) -> [Value; 8] {
    let row = numbered.row;
    [
        numbered.owner.into(),
        key(row.mid),
        row.order.0.into(),
        row.stamp.into(),
        numbered.party.into(),
        row.with.resource().unwrap_or_default().into(),
        numbered.hidden.into(),
        stanza.into(),
    ]
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::storage::{AccountKeys, Ends, testing};
    use proto::stanza::{Kind, MessageType, Packet, Stanza};
    use proto::{Element, Jid, ns};

    pub(super) fn alice() -> BareJid {
        BareJid::new("alice@example.org").unwrap()
    }

    /// A message from `with`, number `n` in the archive and in time.
    pub(crate) fn row(n: u64, with: &str) -> ArchiveRow {
        let with = Jid::new(with).unwrap();
        let body = Element::new("body", ns::CLIENT).with_text(&format!("<{n}> & 'ü'"));
        let stanza = Stanza::new(Kind::Message(MessageType::Chat))
            .with_child(body)
            .with_id("i");
        let packet = stanza
            .with_from(with.clone())
            .with_to(alice().into())
            .pack();
        let mid = ArchiveId::new(n, u128::from(n));
        ArchiveRow {
            owner: alice(),
            mid,
            order: cluster::Order(n),
            with,
            stamp: n * 1000,
            hidden: false,
            packet,
        }
    }

    #[tokio::test]
    async fn a_stanza_is_read_back_as_it_was_and_repeats_change_nothing() {
        testing::each(async |storage| {
            let rows: Vec<_> = (1..=100).map(|n| row(n, "bob@example.org/x")).collect();
            let all: Vec<_> = rows.iter().collect();
            storage.archive(&all, KeepByDefault::Always).await.unwrap();
            storage
                .archive(&all[50..], KeepByDefault::Always)
                .await
                .unwrap();
            let mids = [rows[98].mid, rows[3].mid, ArchiveId(9)];
            let found = storage.fetch(&alice(), &mids).await.unwrap();
            let expect = [&rows[3], &rows[98]].map(|row| Fetched {
                mid: row.mid,
                stamp: row.stamp,
                archived: true,
                packet: row.packet.clone(),
            });
            assert_eq!(found, expect);
            assert_eq!(
                storage
                    .archive_count(&alice(), &Filter::default())
                    .await
                    .unwrap(),
                100
            );
        })
        .await;
    }

    #[tokio::test]
    async fn a_header_is_read_without_what_the_message_says() {
        testing::each(async |storage| {
            let mut empty = row(2, "bob@example.org/>&'x'");
            empty.packet.payload = Bytes::new();
            // What its sender calls it is longer than its front.
            let mut long = row(3, "bob@example.org/x");
            long.packet.header.id = Some("i".repeat(20_000).into());
            let rows = [row(1, "bob@example.org/x"), empty, long];
            let all: Vec<_> = rows.iter().collect();
            storage.archive(&all, KeepByDefault::Always).await.unwrap();
            let mids = rows.each_ref().map(|row| row.mid);
            let found = storage.fetch_headers(&alice(), &mids).await.unwrap();
            let expect = rows.map(|row| Fetched {
                mid: row.mid,
                stamp: row.stamp,
                archived: true,
                packet: Packet {
                    header: row.packet.header,
                    payload: Bytes::new(),
                },
            });
            assert_eq!(found, expect);
        })
        .await;
    }

    #[tokio::test]
    async fn a_hidden_message_waits_and_is_forgotten() {
        testing::each(async |storage| {
            let hidden = ArchiveRow {
                hidden: true,
                ..row(1, "bob@example.org/x")
            };
            let shown = row(2, "bob@example.org/x");
            storage
                .archive(&[&hidden, &shown], KeepByDefault::Always)
                .await
                .unwrap();
            let mids = [hidden.mid, shown.mid];
            assert!(!storage.fetch(&alice(), &mids).await.unwrap()[0].archived);
            assert_eq!(
                storage
                    .archive_count(&alice(), &Filter::default())
                    .await
                    .unwrap(),
                1
            );
            storage.forget(&alice(), &mids).await.unwrap();
            let left = storage.fetch(&alice(), &mids).await.unwrap();
            assert_eq!(
                left.iter().map(|found| found.mid).collect::<Vec<_>>(),
                [shown.mid]
            );
        })
        .await;
    }

    #[tokio::test]
    async fn whoever_gets_the_name_of_a_removed_account_gets_nothing_else_of_it() {
        testing::each(async |storage| {
            let alice = alice();
            let late = row(1, "bob@example.org/x");
            storage
                .create_account(&alice, &AccountKeys::default(), 5)
                .await
                .unwrap();
            assert!(storage.remove_account(&alice, 7, Ends::ALL).await.unwrap());
            // It was on its way.
            storage
                .archive(&[&late], KeepByDefault::Always)
                .await
                .unwrap();
            let kept = || storage.archive_ends(&alice);
            assert!(kept().await.unwrap().is_some());
            assert!(
                storage
                    .create_account(&alice, &AccountKeys::default(), 6)
                    .await
                    .unwrap()
            );
            assert!(kept().await.unwrap().is_none());
            storage
                .archive(&[&late], KeepByDefault::Always)
                .await
                .unwrap();
            assert!(
                !storage
                    .create_account(&alice, &AccountKeys::default(), 7)
                    .await
                    .unwrap()
            );
            assert!(
                kept().await.unwrap().is_some(),
                "an account that is there keeps its own"
            );
        })
        .await;
    }
}
