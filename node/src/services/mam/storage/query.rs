//! Pages of an archive (XEP-0313, XEP-0059).

use cluster::ArchiveId;
use proto::{BareJid, Jid};

use super::name::OWNER;
use super::row::{Entry, MOST_IDS, entry, key, keyed, mid};
use crate::storage::{Storage, StorageError, Value, assembled, numbered};

/// The largest page (IM-93).
const MOST_ENTRIES: u32 = 250;

/// Which messages are asked for; every part that is given must hold (IM-88).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// The other party; a bare JID stands for all its resources.
    pub with: Option<Jid>,
    /// No older than this, milliseconds since 1970.
    pub start: Option<u64>,
    /// No newer than this.
    pub end: Option<u64>,
    /// Behind this one.
    pub after: Option<ArchiveId>,
    /// Before this one.
    pub before: Option<ArchiveId>,
    /// One of these.
    pub ids: Option<Vec<ArchiveId>>,
}

/// Where a page lies among the messages that match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// At the beginning.
    #[default]
    First,
    /// Right behind this one.
    After(ArchiveId),
    /// Right before this one.
    Before(ArchiveId),
    /// At the end.
    Last,
}

impl Place {
    /// Whether pages go towards the beginning.
    pub fn is_backwards(self) -> bool {
        matches!(self, Self::Before(_) | Self::Last)
    }
}

/// Messages in the order of the archive, whatever the direction of paging (IM-92).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The messages.
    pub entries: Vec<Entry>,
    /// Nothing that matches is left beyond this page in the direction of paging (IM-91).
    pub complete: bool,
    /// How far a search has come that was to look no further at once: what lies behind, in the direction of paging, has
    /// not been looked at.
    pub stop: Option<ArchiveId>,
}

impl Storage {
    /// A page of at most `max` messages. `None` if the archive lacks a message that the filter's `after`,
    /// `before` or `ids`, or the place, name (IM-89).
    pub(in crate::services) async fn archive_page(
        &self,
        owner: &BareJid,
        filter: &Filter,
        place: Place,
        max: u32,
    ) -> Result<Option<Page>, StorageError> {
        let Some(clause) = self.clause_at(owner, filter, place).await? else {
            return Ok(None);
        };
        let backwards = place.is_backwards();
        let max = max.min(MOST_ENTRIES);
        let order = if backwards { "DESC" } else { "ASC" };
        let sql = format!(
            "SELECT mid, stamp, stanza, place FROM archive WHERE {}{} ORDER BY place {order} LIMIT {}",
            clause.sql,
            clause.each,
            max + 1
        );
        let rows = self.database.rows(assembled(sql), clause.values).await?;
        let complete = rows.len() <= max as usize;
        let mut entries = Vec::with_capacity(rows.len());
        for row in rows.iter().take(max as usize) {
            match entry(row) {
                Ok(entry) => entries.push(entry),
                // One that is damaged must not hide all others.
                Err(error) => {
                    tracing::error!(%owner, mid = %mid(row, 0)?, %error, "an archived message cannot be read");
                }
            }
            // A page may be megabytes, and others wait for this thread.
            tokio::task::yield_now().await;
        }
        if backwards {
            entries.reverse();
        }
        Ok(Some(Page {
            entries,
            complete,
            stop: None,
        }))
    }

    /// How many messages match; 0 if the filter names one that the archive lacks.
    pub(in crate::services) async fn archive_count(
        &self,
        owner: &BareJid,
        filter: &Filter,
    ) -> Result<u64, StorageError> {
        let Some(clause) = self.clause(owner, filter).await? else {
            return Ok(0);
        };
        let sql = format!(
            "SELECT count(*) FROM archive WHERE {}{}",
            clause.sql, clause.each
        );
        let row = self.database.row(assembled(sql), clause.values).await?;
        row.map_or(Ok(0), |row| row.count(0))
    }

    /// Whether the archive shows all of these messages (IM-89).
    pub(in crate::services) async fn archive_holds(
        &self,
        owner: &BareJid,
        mids: &[ArchiveId],
    ) -> Result<bool, StorageError> {
        let mut wanted = mids.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        for chunk in wanted.chunks(MOST_IDS) {
            let ids = numbered(chunk.len(), 2);
            let sql = format!(
                "SELECT count(*) FROM archive WHERE owner = {OWNER} AND hidden = 0 AND mid IN ({ids})"
            );
            let row = self
                .database
                .row(assembled(sql), keyed(owner, chunk))
                .await?;
            if row.map(|row| row.count(0)).transpose()? != Some(chunk.len() as u64) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The first and the last message with their times, for `<metadata/>` (IM-95).
    pub(in crate::services) async fn archive_ends(
        &self,
        owner: &BareJid,
    ) -> Result<Option<[(ArchiveId, u64); 2]>, StorageError> {
        let mut ends = Vec::with_capacity(2);
        for order in ["ASC", "DESC"] {
            let sql = format!(
                "SELECT mid, stamp FROM archive WHERE owner = {OWNER} AND hidden = 0 ORDER BY place {order} LIMIT 1"
            );
            let row = self
                .database
                .row(assembled(sql), vec![owner.as_str().into()])
                .await?;
            let Some(row) = row else { return Ok(None) };
            ends.push((mid(&row, 0)?, row.count(1)?));
        }
        Ok(ends.try_into().ok())
    }

    async fn position(&self, owner: &BareJid, mid: ArchiveId) -> Result<Option<i64>, StorageError> {
        let sql =
            format!("SELECT place FROM archive WHERE owner = {OWNER} AND hidden = 0 AND mid = $2");
        let row = self.database.row(assembled(sql), keyed(owner, &[mid]));
        let row = row.await?;
        row.map(|row| row.number(0)).transpose()
    }

    /// What matches beyond a place. `None` if the archive lacks a message that is named.
    pub(super) async fn clause_at(
        &self,
        owner: &BareJid,
        filter: &Filter,
        place: Place,
    ) -> Result<Option<Clause>, StorageError> {
        let Some(mut clause) = self.clause(owner, filter).await? else {
            return Ok(None);
        };
        if let Place::After(mid) | Place::Before(mid) = place {
            let Some(at) = self.position(owner, mid).await? else {
                return Ok(None);
            };
            clause.beyond(at, place.is_backwards());
        }
        Ok(Some(clause))
    }

    async fn clause(
        &self,
        owner: &BareJid,
        filter: &Filter,
    ) -> Result<Option<Clause>, StorageError> {
        let mut clause = Clause {
            sql: "hidden = 0".to_owned(),
            each: String::new(),
            values: vec![owner.as_str().into()],
        };
        match &filter.with {
            // A party's number is of one owner alone.
            Some(with) => {
                clause.values.push(with.bare().as_str().into());
                clause.sql +=
                    " AND party = (SELECT id FROM archive_name WHERE owner = $1 AND party = $2)";
                if let Some(resource) = with.resource() {
                    clause.of_each("resource =", resource.into());
                }
            }
            None => {
                clause.sql += " AND owner = ";
                clause.sql += OWNER;
            }
        }
        if let Some(start) = filter.start {
            clause.of_each("stamp >=", start.into());
        }
        if let Some(end) = filter.end {
            clause.of_each("stamp <=", end.into());
        }
        for (mid, comparison) in [(filter.after, "place >"), (filter.before, "place <")] {
            let Some(mid) = mid else { continue };
            let Some(place) = self.position(owner, mid).await? else {
                return Ok(None);
            };
            clause.and(comparison, place.into());
        }
        if let Some(ids) = &filter.ids {
            if !self.archive_holds(owner, ids).await? {
                return Ok(None);
            }
            let list = numbered(ids.len(), clause.values.len() + 1);
            // An empty list of names matches nothing.
            clause.sql += if ids.is_empty() {
                " AND 1 = 0"
            } else {
                " AND mid IN ("
            };
            if !ids.is_empty() {
                clause.sql += &list;
                clause.sql.push(')');
            }
            clause.values.extend(ids.iter().map(|mid| key(*mid)));
        }
        Ok(Some(clause))
    }
}

/// Conditions and the values they need.
#[derive(Clone)]
pub(super) struct Clause {
    /// Those by which an index finds the rows.
    pub(super) sql: String,
    /// Those that each row has to be looked at for.
    pub(super) each: String,
    /// The values of both.
    pub(super) values: Vec<Value>,
}

impl Clause {
    fn condition(&mut self, comparison: &'static str, value: Value) -> String {
        self.values.push(value);
        format!(" AND {comparison} ${}", self.values.len())
    }

    fn and(&mut self, comparison: &'static str, value: Value) {
        let condition = self.condition(comparison, value);
        self.sql += &condition;
    }

    fn of_each(&mut self, comparison: &'static str, value: Value) {
        let condition = self.condition(comparison, value);
        self.each += &condition;
    }

    /// Only what lies beyond a position.
    pub(super) fn beyond(&mut self, position: i64, backwards: bool) {
        let comparison = if backwards { "place <" } else { "place >" };
        self.and(comparison, position.into());
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{alice, row};
    use super::*;
    use crate::services::mam::settings::KeepByDefault;
    use crate::storage::testing;
    use cluster::session::ArchiveRow;

    fn m(n: u64) -> ArchiveId {
        ArchiveId::new(n, u128::from(n))
    }

    /// Nine messages: odd ones with bob on his phone, even ones with bob at his desk, the ninth with carol.
    async fn fill(storage: &Storage) {
        let with = |n| match n {
            9 => "carol@example.org/x",
            n if n % 2 == 1 => "bob@example.org/phone",
            _ => "bob@example.org/desk",
        };
        let rows: Vec<_> = (1..=9).map(|n| row(n, with(n))).collect();
        storage
            .archive(&rows.iter().collect::<Vec<_>>(), KeepByDefault::Always)
            .await
            .unwrap();
        let hidden = ArchiveRow {
            hidden: true,
            mid: m(77),
            ..row(5, "bob@example.org/phone")
        };
        let other = ArchiveRow {
            owner: "eve@example.org".parse().unwrap(),
            mid: m(88),
            ..row(5, "bob@example.org/x")
        };
        storage
            .archive(&[&hidden, &other], KeepByDefault::Always)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn im_91_im_92_pages_are_in_order_in_both_directions_and_say_when_they_are_the_last() {
        testing::each(async |storage| {
            fill(&storage).await;
            let check = async |place, max, expect: &[u64], complete| {
                let page = storage
                    .archive_page(&alice(), &Filter::default(), place, max)
                    .await
                    .unwrap()
                    .unwrap();
                let mids: Vec<_> = page.entries.iter().map(|entry| entry.mid).collect();
                assert_eq!(
                    mids,
                    expect.iter().map(|n| m(*n)).collect::<Vec<_>>(),
                    "{place:?}"
                );
                assert_eq!(page.complete, complete, "{place:?}");
            };
            check(Place::First, 4, &[1, 2, 3, 4], false).await;
            check(Place::After(m(4)), 5, &[5, 6, 7, 8, 9], true).await;
            check(Place::Last, 2, &[8, 9], false).await;
            check(Place::Before(m(3)), 2, &[1, 2], true).await;
            check(Place::Before(m(4)), 2, &[2, 3], false).await;
            check(Place::Before(m(1)), 2, &[], true).await;
            check(Place::First, 0, &[], false).await;
        })
        .await;
    }

    #[tokio::test]
    async fn im_88_every_part_of_a_filter_must_hold() {
        testing::each(async |storage| {
            fill(&storage).await;
            let check = async |filter: Filter, expect: &[u64]| {
                let page = storage
                    .archive_page(&alice(), &filter, Place::First, 50)
                    .await
                    .unwrap()
                    .unwrap();
                let mids: Vec<_> = page.entries.iter().map(|entry| entry.mid).collect();
                assert_eq!(
                    mids,
                    expect.iter().map(|n| m(*n)).collect::<Vec<_>>(),
                    "{filter:?}"
                );
                assert_eq!(
                    storage.archive_count(&alice(), &filter).await.unwrap(),
                    expect.len() as u64
                );
            };
            let with = |jid: &str| Filter {
                with: Some(Jid::new(jid).unwrap()),
                ..Filter::default()
            };
            check(with("bob@example.org/desk"), &[2, 4, 6, 8]).await;
            check(with("carol@example.org"), &[9]).await;
            check(
                Filter {
                    start: Some(3000),
                    end: Some(5000),
                    ..with("bob@example.org")
                },
                &[3, 4, 5],
            )
            .await;
            check(
                Filter {
                    after: Some(m(2)),
                    before: Some(m(6)),
                    ..with("bob@example.org")
                },
                &[3, 4, 5],
            )
            .await;
            let ids = |ids: &[u64]| Filter {
                ids: Some(ids.iter().map(|n| m(*n)).collect()),
                ..Filter::default()
            };
            check(ids(&[8, 2]), &[2, 8]).await;
            check(ids(&[]), &[]).await;
            check(with("_ob@example.org"), &[]).await;
        })
        .await;
    }

    #[tokio::test]
    async fn im_89_a_name_that_is_not_in_the_archive_is_not_found() {
        testing::each(async |storage| {
            fill(&storage).await;
            // Hidden, somebody else's, nobody's.
            for wrong in [m(77), m(88), m(99)] {
                let page = |filter, place| {
                    let storage = storage.clone();
                    async move {
                        storage
                            .archive_page(&alice(), &filter, place, 5)
                            .await
                            .unwrap()
                    }
                };
                let none = Filter::default();
                assert_eq!(page(none.clone(), Place::After(wrong)).await, None);
                assert_eq!(page(none.clone(), Place::Before(wrong)).await, None);
                assert_eq!(
                    page(
                        Filter {
                            after: Some(wrong),
                            ..none.clone()
                        },
                        Place::First
                    )
                    .await,
                    None
                );
                assert_eq!(
                    page(
                        Filter {
                            ids: Some(vec![m(1), wrong]),
                            ..none
                        },
                        Place::First
                    )
                    .await,
                    None
                );
                assert!(
                    !storage
                        .archive_holds(&alice(), &[m(1), wrong])
                        .await
                        .unwrap()
                );
            }
            assert!(
                storage
                    .archive_holds(&alice(), &[m(1), m(2), m(1)])
                    .await
                    .unwrap()
            );
        })
        .await;
    }

    #[tokio::test]
    async fn im_95_the_ends_of_an_archive() {
        testing::each(async |storage| {
            assert_eq!(storage.archive_ends(&alice()).await.unwrap(), None);
            fill(&storage).await;
            assert_eq!(
                storage.archive_ends(&alice()).await.unwrap(),
                Some([(m(1), 1000), (m(9), 9000)])
            );
        })
        .await;
    }
}
