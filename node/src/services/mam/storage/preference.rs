//! What a user wants the archive to keep (XEP-0441), and what that means for a row about to be written.
//!
//! The decision is made when the row is written, by what the database says at that moment: whatever node a
//! preference was set on, it is in force for every row that is written after it. What an archive does not
//! keep is no row at all if the user sent it, and a hidden one if somebody else did: it may still wait for
//! its delivery.

use std::collections::{BTreeSet, HashMap, HashSet};

use cluster::ArchiveId;
use cluster::session::ArchiveRow;
use proto::{BareJid, Jid};

use super::row::{MOST_IDS, account, key, mid};
use crate::services::mam::settings::KeepByDefault;
use crate::storage::{Storage, StorageError, Transaction, Value, assembled, numbered};

/// A user's preferences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preferences {
    /// For all that the lists do not name.
    pub fallback: KeepByDefault,
    /// Parties whose messages are kept; a bare JID stands for all its resources.
    pub always: BTreeSet<Jid>,
    /// Parties whose messages are not kept. Who is on both lists is on this one.
    pub never: BTreeSet<Jid>,
}

impl Preferences {
    fn plain(fallback: KeepByDefault) -> Self {
        Self {
            fallback,
            ..Self::default()
        }
    }

    /// Whether a message exchanged with that party is kept (IM-86).
    pub fn keep(&self, with: &Jid, is_contact: bool) -> bool {
        let bare = Jid::from(with.bare());
        let on = |list: &BTreeSet<Jid>| list.contains(with) || list.contains(&bare);
        if on(&self.never) {
            return false;
        }
        on(&self.always)
            || match self.fallback {
                KeepByDefault::Always => true,
                KeepByDefault::Roster => is_contact,
                KeepByDefault::Never => false,
            }
    }

    /// Nothing can be left out.
    fn keeps_all(&self) -> bool {
        self.fallback == KeepByDefault::Always && self.never.is_empty()
    }
}

/// What becomes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The archive shows it.
    Shown,
    /// It waits for its delivery, out of sight.
    Hidden,
    /// It is not written.
    Dropped,
}

/// What the owners of some rows prefer.
pub(super) struct Judge {
    owners: HashMap<BareJid, Preferences>,
    contacts: HashSet<(BareJid, BareJid)>,
    fallback: Preferences,
}

impl Judge {
    /// Reads what is needed to judge these rows.
    pub(super) async fn read(
        storage: &Storage,
        rows: &[&ArchiveRow],
        fallback: KeepByDefault,
    ) -> Result<Self, StorageError> {
        let shown = rows.iter().filter(|row| !row.hidden);
        let owners: HashSet<&BareJid> = shown.map(|row| &row.owner).collect();
        let owners: Vec<&BareJid> = owners.into_iter().collect();
        let mut judge = Self {
            owners: HashMap::new(),
            contacts: HashSet::new(),
            fallback: Preferences::plain(fallback),
        };
        for chunk in owners.chunks(MOST_IDS) {
            judge.owners.extend(preferences(storage, chunk).await?);
        }
        for owner in owners {
            if judge.preferences(owner).fallback == KeepByDefault::Roster {
                judge.read_contacts(storage, owner, rows).await?;
            }
        }
        Ok(judge)
    }

    fn preferences(&self, owner: &BareJid) -> &Preferences {
        if self.owners.is_empty() {
            return &self.fallback;
        }
        self.owners.get(owner).unwrap_or(&self.fallback)
    }

    async fn read_contacts(
        &mut self,
        storage: &Storage,
        owner: &BareJid,
        rows: &[&ArchiveRow],
    ) -> Result<(), StorageError> {
        let own = rows.iter().filter(|row| row.owner == *owner);
        let parties: BTreeSet<BareJid> = own.map(|row| row.with.bare()).collect();
        let parties: Vec<BareJid> = parties.into_iter().collect();
        let contacts = storage.contacts_among(owner, &parties).await?;
        let contacts = contacts.into_iter();
        let contacts = contacts.map(|contact| (owner.clone(), contact));
        self.contacts.extend(contacts);
        Ok(())
    }

    /// What becomes of a row that is not yet there.
    pub(super) fn fate(&self, row: &ArchiveRow) -> Fate {
        if row.hidden {
            return Fate::Hidden;
        }
        let preferences = self.preferences(&row.owner);
        if preferences.keeps_all() {
            return Fate::Shown;
        }
        let is_contact = || {
            let party = row.with.bare();
            // Nobody has oneself in the roster, and everybody knows oneself.
            party == row.owner || self.contacts.contains(&(row.owner.clone(), party))
        };
        match preferences.keep(&row.with, is_contact()) {
            true => Fate::Shown,
            false if is_only_sent(row) => Fate::Dropped,
            false => Fate::Hidden,
        }
    }

    /// Whether a row like this may be there otherwise than it is wanted: it was written before, by other
    /// preferences.
    pub(super) fn is_uncertain(&self, row: &ArchiveRow) -> bool {
        !row.hidden && (self.owners.contains_key(&row.owner) || !self.fallback.keeps_all())
    }
}

/// The owner sent it, to somebody else: nobody waits for it here.
fn is_only_sent(row: &ArchiveRow) -> bool {
    let header = &row.packet.header;
    let own = |jid: &Option<Jid>| jid.as_ref().is_some_and(|jid| jid.belongs_to(&row.owner));
    own(&header.from) && !own(&header.to)
}

/// The preferences of those accounts that have stated some.
async fn preferences(
    storage: &Storage,
    accounts: &[&BareJid],
) -> Result<HashMap<BareJid, Preferences>, StorageError> {
    // As long as a power of two, so that few statements are prepared.
    let length = accounts.len().next_power_of_two();
    let padding = accounts.last().into_iter().cycle();
    let padded: Vec<_> = accounts.iter().chain(padding).take(length).collect();
    let names = || padded.iter().map(|a| Value::from(a.as_str())).collect();
    let ids = numbered(padded.len(), 1);
    let sql = format!("SELECT account, fallback FROM archive_preference WHERE account IN ({ids})");
    let mut found = HashMap::new();
    for row in storage.database.rows(assembled(sql), names()).await? {
        let fallback = parse(&row.text(1)?)?;
        found.insert(account(&row.text(0)?)?, Preferences::plain(fallback));
    }
    if found.is_empty() {
        return Ok(found);
    }
    let sql =
        format!("SELECT account, party, keep FROM archive_exception WHERE account IN ({ids})");
    for row in storage.database.rows(assembled(sql), names()).await? {
        let party = Jid::new(&row.text(1)?).map_err(|_| StorageError::Damaged("a party"))?;
        if let Some(preferences) = found.get_mut(&account(&row.text(0)?)?) {
            match row.truth(2)? {
                true => preferences.always.insert(party),
                false => preferences.never.insert(party),
            };
        }
    }
    Ok(found)
}

fn name(fallback: KeepByDefault) -> &'static str {
    match fallback {
        KeepByDefault::Always => "always",
        KeepByDefault::Roster => "roster",
        KeepByDefault::Never => "never",
    }
}

fn parse(text: &str) -> Result<KeepByDefault, StorageError> {
    match text {
        "always" => Ok(KeepByDefault::Always),
        "roster" => Ok(KeepByDefault::Roster),
        "never" => Ok(KeepByDefault::Never),
        _ => Err(StorageError::Damaged("a preference")),
    }
}

impl Storage {
    /// What an account has stated that it prefers, if it has.
    pub(in crate::services) async fn archive_preferences(
        &self,
        account: &BareJid,
    ) -> Result<Option<Preferences>, StorageError> {
        let mut found = preferences(self, &[account]).await?;
        Ok(found.remove(account))
    }

    /// Accounts that have stated what they prefer, in order, behind one of them; at most `max`.
    pub(in crate::services) async fn archive_statements(
        &self,
        behind: Option<&BareJid>,
        max: u32,
    ) -> Result<Vec<BareJid>, StorageError> {
        let sql = format!(
            "SELECT account FROM archive_preference WHERE account > $1 ORDER BY account LIMIT {max}"
        );
        let behind = behind.map_or("", BareJid::as_str);
        let rows = self
            .database
            .rows(assembled(sql), vec![behind.into()])
            .await?;
        rows.iter().map(|row| account(&row.text(0)?)).collect()
    }

    /// Replaces what an account prefers; from now on it is in force.
    pub(in crate::services) async fn set_archive_preferences(
        &self,
        account: &BareJid,
        preferences: &Preferences,
    ) -> Result<(), StorageError> {
        let mut transaction = self.database.begin().await?;
        // It never vanishes again, so that rows written by older wishes can be told (see `Judge`).
        let sql = "INSERT INTO archive_preference (account, fallback) VALUES ($1, $2) \
                   ON CONFLICT (account) DO UPDATE SET fallback = excluded.fallback";
        let values = vec![account.as_str().into(), name(preferences.fallback).into()];
        transaction.execute(sql, values).await?;
        let sql = "DELETE FROM archive_exception WHERE account = $1";
        transaction
            .execute(sql, vec![account.as_str().into()])
            .await?;
        let always = preferences.always.difference(&preferences.never);
        let named = always.map(|party| (party, true));
        for (party, keep) in named.chain(preferences.never.iter().map(|party| (party, false))) {
            let sql = "INSERT INTO archive_exception (account, party, keep) VALUES ($1, $2, $3)";
            let values = vec![account.as_str().into(), party.as_str().into(), keep.into()];
            transaction.execute(sql, values).await?;
        }
        transaction.commit().await
    }

    /// Whether the archive of `account` would keep what is exchanged with `with`.
    pub(in crate::services) async fn archive_keeps(
        &self,
        account: &BareJid,
        with: &Jid,
        fallback: KeepByDefault,
    ) -> Result<bool, StorageError> {
        let stated = self.archive_preferences(account).await?;
        let preferences = stated.unwrap_or_else(|| Preferences::plain(fallback));
        let contact = match preferences.fallback {
            KeepByDefault::Roster => self.contact(account, &with.bare()).await?,
            KeepByDefault::Always | KeepByDefault::Never => None,
        };
        Ok(preferences.keep(with, contact.is_some_and(|item| item.listed)))
    }
}

/// Those of the rows that are there hidden although they were meant to be shown.
pub(super) async fn hidden_among(
    transaction: &mut Transaction,
    rows: &[&ArchiveRow],
) -> Result<HashSet<(BareJid, ArchiveId)>, StorageError> {
    let mut hidden = HashSet::new();
    for chunk in rows.chunks(MOST_IDS) {
        let sql = format!(
            "SELECT name.owner, mid FROM archive JOIN archive_name AS name ON name.id = archive.owner \
             WHERE hidden = 1 AND mid IN {}",
            transaction.placeholders(1, chunk.len())
        );
        let mids = chunk.iter().map(|row| key(row.mid)).collect();
        for row in transaction.rows(assembled(sql), mids).await? {
            hidden.insert((account(&row.text(0)?)?, mid(&row, 1)?));
        }
    }
    // Another owner's row of the same message says nothing about this one.
    hidden.retain(|(owner, mid)| {
        rows.iter()
            .any(|row| row.owner == *owner && row.mid == *mid)
    });
    Ok(hidden)
}

#[cfg(test)]
mod tests {
    use super::super::Filter;
    use super::super::tests::{alice, row};
    use super::*;
    use crate::services::roster::settings::Quotas;
    use crate::services::roster::storage::{Change, RosterItem};
    use crate::storage::testing;
    use proto::stanza::{Kind, MessageType, Stanza};

    const ALWAYS: KeepByDefault = KeepByDefault::Always;

    fn jids(list: &[&str]) -> BTreeSet<Jid> {
        list.iter().map(|jid| Jid::new(jid).unwrap()).collect()
    }

    fn prefers(fallback: KeepByDefault, always: &[&str], never: &[&str]) -> Preferences {
        Preferences {
            fallback,
            always: jids(always),
            never: jids(never),
        }
    }

    #[test]
    fn im_86_a_name_beats_the_default_and_never_beats_always() {
        use KeepByDefault::{Always, Never, Roster};
        let check = |preferences: Preferences, with: &str, contact, keep| {
            let found = preferences.keep(&Jid::new(with).unwrap(), contact);
            assert_eq!(found, keep, "{preferences:?} {with} {contact}");
        };
        check(prefers(Always, &[], &[]), "b@x/r", false, true);
        check(prefers(Never, &[], &[]), "b@x/r", true, false);
        check(prefers(Roster, &[], &[]), "b@x/r", true, true);
        check(prefers(Roster, &[], &[]), "b@x/r", false, false);
        check(prefers(Never, &["b@x"], &[]), "b@x/r", false, true);
        check(prefers(Never, &["b@x/r"], &[]), "b@x/r", false, true);
        check(prefers(Never, &["b@x/r"], &[]), "b@x/s", false, false);
        check(prefers(Always, &[], &["b@x"]), "b@x/r", true, false);
        check(prefers(Always, &["b@x/r"], &["b@x"]), "b@x/r", true, false);
        check(prefers(Roster, &["c@x"], &[]), "b@x", false, false);
    }

    async fn shown(storage: &Storage) -> u64 {
        let all = Filter::default();
        storage.archive_count(&alice(), &all).await.unwrap()
    }

    #[tokio::test]
    async fn im_86_preferences_are_replaced_and_read_back() {
        testing::each(async |storage| {
            let read = async || storage.archive_preferences(&alice()).await.unwrap();
            assert_eq!(read().await, None);
            let first = prefers(KeepByDefault::Never, &["b@x", "c@x/r"], &["b@x", "d@x"]);
            for _ in 0..2 {
                let set = storage.set_archive_preferences(&alice(), &first).await;
                set.unwrap();
            }
            let expect = prefers(KeepByDefault::Never, &["c@x/r"], &["b@x", "d@x"]);
            assert_eq!(read().await, Some(expect));
            let second = prefers(KeepByDefault::Roster, &[], &[]);
            let set = storage.set_archive_preferences(&alice(), &second).await;
            set.unwrap();
            assert_eq!(read().await, Some(second));
        })
        .await;
    }

    #[tokio::test]
    async fn im_86_what_is_not_kept_is_hidden_until_then_and_older_rows_stay() {
        testing::each(async |storage| {
            let (one, two) = (row(1, "bob@x/r"), row(2, "bob@x/r"));
            assert!(storage.archive(&[&one], ALWAYS).await.unwrap().is_empty());
            let never = prefers(KeepByDefault::Never, &["carol@x"], &[]);
            let set = storage.set_archive_preferences(&alice(), &never).await;
            set.unwrap();
            let three = row(3, "carol@x/r");
            let sent = Stanza::new(Kind::Message(MessageType::Chat));
            let sent = ArchiveRow {
                packet: sent.with_from(alice().into()).pack(),
                ..row(4, "bob@x/r")
            };
            // The first one again: it was written by an older wish, and a wish changes no row.
            let rows = [&one, &two, &three, &sent];
            for _ in 0..2 {
                let hidden = storage.archive(&rows, ALWAYS).await.unwrap();
                assert_eq!(hidden, HashSet::from([(alice(), two.mid)]));
            }
            assert_eq!(shown(&storage).await, 2);
            let found = storage.fetch(&alice(), &[two.mid, sent.mid]).await.unwrap();
            assert_eq!(found.len(), 1, "a sent message waits for nobody");
            let always = prefers(ALWAYS, &[], &[]);
            let set = storage.set_archive_preferences(&alice(), &always).await;
            set.unwrap();
            let hidden = storage.archive(&[&two], ALWAYS).await.unwrap();
            assert_eq!(hidden.len(), 1, "it was hidden when it was written");
            assert!(
                storage
                    .archive_keeps(&alice(), &two.with, KeepByDefault::Never)
                    .await
                    .unwrap()
            );
        })
        .await;
    }

    #[tokio::test]
    async fn im_86_by_roster_only_contacts_are_kept() {
        testing::each(async |storage| {
            let (alice, bob) = (alice(), BareJid::new("bob@x").unwrap());
            let update = storage.update_contact(Quotas::default(), &alice, &bob, None, |_| {
                let mut item = RosterItem::new(bob.clone());
                item.listed = true;
                Change::Put(item)
            });
            update.await.unwrap();
            let rows = [
                row(1, "bob@x/r"),
                row(2, "carol@x/r"),
                row(3, "alice@example.org/y"),
            ];
            let rows: Vec<_> = rows.iter().collect();
            let hidden = storage.archive(&rows, KeepByDefault::Roster).await.unwrap();
            assert_eq!(hidden, HashSet::from([(alice.clone(), rows[1].mid)]));
            for (with, keeps) in [("bob@x/r", true), ("carol@x", false)] {
                let with = Jid::new(with).unwrap();
                let found = storage.archive_keeps(&alice, &with, KeepByDefault::Roster);
                assert_eq!(found.await.unwrap(), keeps, "{with}");
            }
        })
        .await;
    }

    #[tokio::test]
    async fn who_reads_early_writes_only_what_is_shown() {
        testing::each(async |storage| {
            let never = prefers(ALWAYS, &[], &["carol@x"]);
            let set = storage.set_archive_preferences(&alice(), &never).await;
            set.unwrap();
            let rows = [row(1, "bob@x/r"), row(2, "carol@x/r")];
            let rows: Vec<_> = rows.iter().collect();
            let hidden = storage.archive_shown(&rows, ALWAYS).await.unwrap();
            assert_eq!(hidden, HashSet::from([(alice(), rows[1].mid)]));
            assert_eq!(shown(&storage).await, 1);
            let mids = [rows[0].mid, rows[1].mid];
            assert_eq!(storage.fetch(&alice(), &mids).await.unwrap().len(), 1);
            storage.archive(&rows, ALWAYS).await.unwrap();
            assert_eq!(storage.fetch(&alice(), &mids).await.unwrap().len(), 2);
        })
        .await;
    }
}
