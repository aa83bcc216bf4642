//! The numbers that rows have in place of names: of their owner, and of the party that they were exchanged with.

use std::collections::{BTreeSet, HashMap};

use cluster::session::ArchiveRow;
use proto::BareJid;

use super::preference::Fate;
use super::row::account;
use crate::storage::{Names, Numbers, StorageError, Transaction, Value, assembled};

/// Names in one statement. Chunks are powers of two, so that few statements are prepared.
const MOST_NAMES: usize = 64;

/// A name that has a number: an owner's, or that of a party of its.
pub(super) type Name = (BareJid, Option<BareJid>);

/// The number of the owner whose name is `$1`.
pub(super) const OWNER: &str = "(SELECT id FROM archive_name WHERE owner = $1 AND party = '')";

/// A row with the numbers that it needs.
pub(super) struct Numbered<'a> {
    pub(super) row: &'a ArchiveRow,
    /// Its owner's.
    pub(super) owner: i64,
    /// The other party's. What waits out of sight is not found by its party, and so nothing tells of it later.
    pub(super) party: Option<i64>,
    pub(super) hidden: bool,
}

/// What a transaction has found out about numbers, to be remembered once it is committed.
#[derive(Debug, Default)]
pub(super) struct Learnt {
    version: i64,
    numbers: Vec<(Name, i64)>,
}

impl Learnt {
    pub(super) fn remember(self, names: &Names) {
        let numbers = self.numbers.into_iter();
        let numbers = numbers.map(|((owner, party), number)| (owner, party, number));
        names.remember(self.version, numbers);
    }
}

/// Numbers rows, by what is remembered and by what the table says; a name that has no number gets one.
pub(super) async fn numbered<'a>(
    names: &Names,
    transaction: &mut Transaction,
    rows: &[(&'a ArchiveRow, Fate)],
) -> Result<(Vec<Numbered<'a>>, Learnt), StorageError> {
    let version = version(transaction).await?;
    let looked = |numbers: &[_]| names.look(version, |known| look(known, numbers, rows));
    let (rows, numbers) = learn(transaction, looked).await?;
    Ok((rows, Learnt { version, numbers }))
}

/// Asks for the numbers that a look says are missing, until none is. Others may have had all forgotten between two looks;
/// what was learnt here stays.
async fn learn<T>(
    transaction: &mut Transaction,
    look: impl Fn(&[(Name, i64)]) -> Result<T, BTreeSet<Name>>,
) -> Result<(T, Vec<(Name, i64)>), StorageError> {
    let mut numbers = Vec::new();
    loop {
        match look(&numbers) {
            Ok(found) => return Ok((found, numbers)),
            Err(missing) => numbers.extend(number(transaction, missing).await?),
        }
    }
}

/// Numbers rows by what is known and what was learnt, or says which names have no number.
fn look<'a>(
    known: &HashMap<BareJid, Numbers>,
    learnt: &[(Name, i64)],
    rows: &[(&'a ArchiveRow, Fate)],
) -> Result<Vec<Numbered<'a>>, BTreeSet<Name>> {
    let learnt: HashMap<&Name, i64> = learnt.iter().map(|(name, id)| (name, *id)).collect();
    let mut numbered = Vec::with_capacity(rows.len());
    let mut missing = BTreeSet::new();
    for (row, fate) in rows {
        let hidden = *fate == Fate::Hidden;
        let known = known.get(&row.owner);
        let mut of = |number: Option<i64>, party: fn(&ArchiveRow) -> Option<BareJid>| {
            number.or_else(|| {
                let name = (row.owner.clone(), party(row));
                let number = learnt.get(&name).copied();
                if number.is_none() {
                    missing.insert(name);
                }
                number
            })
        };
        let owner = of(known.and_then(|numbers| numbers.own), |_| None);
        let party = match hidden {
            true => Some(None),
            false => {
                let party = |numbers: &Numbers| numbers.parties.get(row.with.bare_str()).copied();
                of(known.and_then(party), |row| Some(row.with.bare())).map(Some)
            }
        };
        if let (Some(owner), Some(party)) = (owner, party) {
            numbered.push(Numbered {
                row,
                owner,
                party,
                hidden,
            });
        }
    }
    match missing.is_empty() {
        true => Ok(numbered),
        false => Err(missing),
    }
}

/// The version of the table. Until the transaction ends, nobody takes a number back.
async fn version(transaction: &mut Transaction) -> Result<i64, StorageError> {
    let sql = match transaction {
        // It has the lock of the whole file.
        Transaction::Sqlite(_) => "SELECT version FROM archive_names",
        Transaction::Postgres(_) => "SELECT version FROM archive_names FOR SHARE",
    };
    let row = transaction.row(sql, Vec::new()).await?;
    let row = row.ok_or(StorageError::Damaged("the version of numbers"))?;
    row.number(0)
}

/// The numbers of names, which get one if they have none.
async fn number(
    transaction: &mut Transaction,
    names: BTreeSet<Name>,
) -> Result<Vec<(Name, i64)>, StorageError> {
    // In order, so that transactions do not wait for each other.
    let names: Vec<Name> = names.into_iter().collect();
    let mut numbers = Vec::with_capacity(names.len());
    let mut rest = &names[..];
    while !rest.is_empty() {
        let fits = rest.len().min(MOST_NAMES);
        let (chunk, later) = rest.split_at(1 << fits.ilog2());
        rest = later;
        let mut found = find(transaction, chunk).await?;
        if found.len() < chunk.len() {
            let missing = |name: &&Name| !found.iter().any(|(found, _)| found == *name);
            let missing: Vec<Name> = chunk.iter().filter(missing).cloned().collect();
            let sql = transaction.insertion("archive_name (owner, party)", (missing.len(), 2));
            transaction
                .execute(assembled(sql), values(&missing))
                .await?;
            found = find(transaction, chunk).await?;
            if found.len() < chunk.len() {
                return Err(StorageError::Damaged("a number"));
            }
        }
        numbers.extend(found);
    }
    Ok(numbers)
}

async fn find(
    transaction: &mut Transaction,
    names: &[Name],
) -> Result<Vec<(Name, i64)>, StorageError> {
    let sql = format!(
        "WITH wanted (owner, party) AS (VALUES {}) \
         SELECT name.owner, name.party, name.id FROM wanted \
         JOIN archive_name AS name ON name.owner = wanted.owner AND name.party = wanted.party",
        transaction.placeholders(names.len(), 2)
    );
    let rows = transaction.rows(assembled(sql), values(names)).await?;
    let numbers = rows.iter().map(|row| {
        let party = row.text(1)?;
        let party = (!party.is_empty()).then(|| account(&party)).transpose()?;
        Ok(((account(&row.text(0)?)?, party), row.number(2)?))
    });
    numbers.collect()
}

fn values(names: &[Name]) -> Vec<Value> {
    let values = names.iter().flat_map(|(owner, party)| {
        let party = party.as_ref().map_or("", BareJid::as_str);
        [owner.as_str().into(), party.into()]
    });
    values.collect()
}

/// Takes the numbers back of an owner's parties with whom nothing is left in the archive: so nothing tells of them
/// either.
pub(super) async fn forget_parties(
    transaction: &mut Transaction,
    owner: &BareJid,
) -> Result<(), StorageError> {
    const LEFT: &str = "owner = $1 AND party <> '' AND NOT EXISTS \
        (SELECT 1 FROM archive WHERE archive.party = archive_name.id AND archive.hidden = 0)";
    let owner = || vec![owner.as_str().into()];
    let sql = format!("SELECT 1 FROM archive_name WHERE {LEFT} LIMIT 1");
    if transaction.row(assembled(sql), owner()).await?.is_none() {
        return Ok(());
    }
    // Whoever uses numbers now is waited for, and its rows are seen.
    let sql = "UPDATE archive_names SET version = version + 1";
    transaction.execute(sql, Vec::new()).await?;
    let sql = format!("DELETE FROM archive_name WHERE {LEFT}");
    transaction.execute(assembled(sql), owner()).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{alice, row};
    use super::super::{Filter, Place};
    use super::*;
    use crate::services::mam::settings::KeepByDefault;
    use crate::storage::{AccountKeys, Ends, Storage, testing};
    use cluster::ArchiveId;
    use cluster::session::ArchiveRow;

    async fn write(storage: &Storage, row: ArchiveRow) {
        let written = storage.archive(&[&row], KeepByDefault::Always).await;
        written.unwrap();
    }

    async fn with(storage: &Storage, with: &str) -> Vec<ArchiveId> {
        let filter = Filter {
            with: Some(with.parse().unwrap()),
            ..Filter::default()
        };
        let alice = alice();
        let page = storage.archive_page(&alice, &filter, Place::First, 50);
        let page = page.await.unwrap().unwrap();
        page.entries.iter().map(|entry| entry.mid).collect()
    }

    async fn names(storage: &Storage) -> Vec<(String, String)> {
        let sql = "SELECT owner, party FROM archive_name ORDER BY owner, party";
        let rows = storage.database.rows(sql, Vec::new()).await.unwrap();
        let rows = rows.iter();
        rows.map(|row| (row.text(0).unwrap(), row.text(1).unwrap()))
            .collect()
    }

    #[tokio::test]
    async fn a_party_of_whom_nothing_is_left_is_forgotten_and_its_number_names_nobody_else() {
        testing::each(async |storage| {
            let (one, two) = (row(1, "bob@example.org/x"), row(2, "carol@example.org/x"));
            let three = row(3, "bob@example.org/y");
            write(&storage, one.clone()).await;
            let alice = alice();
            let deleted = storage.delete_archived(&alice, &[one.mid]).await;
            assert_eq!(deleted.unwrap(), 1);
            let own = (alice.to_string(), String::new());
            assert_eq!(names(&storage).await, [own]);
            write(&storage, two.clone()).await;
            write(&storage, three.clone()).await;
            assert_eq!(with(&storage, "carol@example.org").await, [two.mid]);
            assert_eq!(with(&storage, "bob@example.org").await, [three.mid]);
        })
        .await;
    }

    #[tokio::test]
    async fn the_numbers_of_a_removed_account_go_with_it() {
        testing::each(async |storage| {
            let eve = ArchiveRow {
                owner: "eve@example.org".parse().unwrap(),
                ..row(1, "bob@example.org/x")
            };
            let own = row(2, "bob@example.org/x");
            write(&storage, own.clone()).await;
            let (alice, keys) = (alice(), AccountKeys::default());
            let made = storage.create_account(&alice, &keys, 5).await;
            // It removes what its predecessor had.
            assert!(made.unwrap());
            write(&storage, eve).await;
            assert_eq!(with(&storage, "bob@example.org").await, []);
            write(&storage, own.clone()).await;
            assert_eq!(with(&storage, "bob@example.org").await, [own.mid]);
            assert!(storage.remove_account(&alice, 7, Ends::ALL).await.unwrap());
            let names = names(&storage).await;
            assert!(names.iter().all(|(owner, _)| owner == "eve@example.org"));
            assert_eq!(names.len(), 2);
        })
        .await;
    }

    #[tokio::test]
    async fn numbers_that_are_forgotten_between_two_looks_are_asked_for_again() {
        testing::each(async |storage| {
            let (one, two) = (row(1, "bob@example.org/x"), row(2, "carol@example.org/x"));
            write(&storage, one.clone()).await;
            let rows = [(&one, Fate::Shown), (&two, Fate::Shown)];
            let mut transaction = storage.database.begin().await.unwrap();
            let version = version(&mut transaction).await.unwrap();
            let names = &storage.names;
            let looked = |numbers: &[_]| {
                let looked = names.look(version, |known| look(known, numbers, &rows));
                // Another one has all forgotten while the number of carol is asked for.
                names.look(version + 1, |_| ());
                looked
            };
            let (numbered, learnt) = learn(&mut transaction, looked).await.unwrap();
            assert_eq!((numbered.len(), learnt.len()), (2, 3));
        })
        .await;
    }

    #[tokio::test]
    async fn what_waits_out_of_sight_leaves_no_name_of_its_party() {
        testing::each(async |storage| {
            let hidden = ArchiveRow {
                hidden: true,
                ..row(1, "bob@example.org/x")
            };
            write(&storage, hidden).await;
            assert_eq!(names(&storage).await.len(), 1);
        })
        .await;
    }

    #[tokio::test]
    async fn an_archive_of_an_earlier_version_is_the_same_archive() {
        testing::each(async |storage| {
            let (before, after) = match storage.engine() {
                "SQLite" => (
                    include_str!("../schema/1.sqlite.sql"),
                    include_str!("../schema/7.sqlite.sql"),
                ),
                _ => (
                    include_str!("../schema/1.postgres.sql"),
                    include_str!("../schema/7.postgres.sql"),
                ),
            };
            let mids = [1, 2, 3].map(ArchiveId);
            let rows = [
                (mids[0], "bob@example.org", "bob@example.org/x", 0),
                (mids[1], "carol@example.org", "carol@example.org", 0),
                (mids[2], "eve@example.org", "eve@example.org/x", 1),
            ];
            let rows = rows.map(|(mid, bare, full, hidden)| {
                format!(
                    "INSERT INTO archive VALUES ('{}', '{mid}', {}, 1000, '{bare}', '{full}', 0, {hidden}, '<message/>');",
                    alice(),
                    mid.0
                )
            });
            let gone = "DROP TABLE archive; DROP TABLE archive_name; DROP TABLE archive_names;";
            let script = [gone, before, &rows.concat(), after].concat();
            storage.database.raw(script).await.unwrap();
            assert_eq!(with(&storage, "bob@example.org").await, [mids[0]]);
            assert_eq!(with(&storage, "bob@example.org/x").await, [mids[0]]);
            assert_eq!(with(&storage, "bob@example.org/y").await, []);
            assert_eq!(with(&storage, "carol@example.org").await, [mids[1]]);
            let found = storage.fetch(&alice(), &mids).await.unwrap();
            let found: Vec<_> = found.iter().map(|found| (found.mid, found.archived)).collect();
            assert_eq!(found, [(mids[0], true), (mids[1], true), (mids[2], false)]);
            assert_eq!(names(&storage).await.len(), 3);
            // A repeat is still one.
            let again = ArchiveRow {
                mid: mids[0],
                ..row(1, "bob@example.org/x")
            };
            write(&storage, again).await;
            assert_eq!(with(&storage, "bob@example.org").await, [mids[0]]);
        })
        .await;
    }
}
