//! Searches of an archive for words (XEP-0431).
//!
//! There is no index of words: it would cost each message more than its row does, for searches that are rare. A search
//! reads the messages of the one archive, in the order of paging and from where the page begins, and looks at a bounded
//! number of them (T-59). One that ends before it has looked at all says how far it has come; the next page goes on
//! there.

use std::time::Instant;

use cluster::Order;
use proto::BareJid;

use super::super::words::Words;
use super::query::{Clause, Filter, Page, Place};
use super::row::{Entry, mid};
use super::written::Written;
use crate::clock;
use crate::storage::{Row, Storage, StorageError, assembled};

/// Messages that are read by one statement. They are in memory at once, each of up to a stanza's bytes.
const CHUNK: u32 = 100;
/// A page that has so many bytes has no room for more.
const MOST_BYTES: usize = 128 << 10;
/// Messages that are looked at before others have a turn on this thread.
const TURN: usize = 16;

/// How much a search may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Messages on the page; 0 counts what there is.
    pub max: u32,
    /// Messages that are looked at.
    pub rows: u32,
    /// It begins to read no more after this.
    pub until: Instant,
}

impl Storage {
    /// The messages that match and contain the words, with their number if all were looked at. `None` if the archive
    /// lacks a message that the filter or the place name (IM-89).
    pub(in crate::services) async fn archive_search(
        &self,
        owner: &BareJid,
        filter: &Filter,
        words: &Words,
        place: Place,
        bounds: Bounds,
    ) -> Result<Option<(Page, Option<u64>)>, StorageError> {
        let Some(clause) = self.clause_at(owner, filter, place).await? else {
            return Ok(None);
        };
        let backwards = place.is_backwards();
        let mut search = Search {
            words,
            max: bounds.max as usize,
            found: Page::default(),
            bytes: 0,
            number: 0,
        };
        let (mut looked, mut at) = (0, None);
        loop {
            let chunk = CHUNK.min(bounds.rows - looked);
            let rows = self.archive_chunk(&clause, at, backwards, chunk).await?;
            let Some(last) = rows.last() else {
                search.found.complete = true;
                break;
            };
            at = Some(last.number(3)?);
            looked += rows.len() as u32;
            if search.look(&rows).await? {
                break;
            }
            if (rows.len() as u32) < chunk {
                search.found.complete = true;
                break;
            }
            if looked >= bounds.rows || clock::instant() >= bounds.until {
                search.found.stop = Some(mid(last, 0)?);
                break;
            }
        }
        let (mut page, number) = (search.found, search.number);
        if backwards {
            page.entries.reverse();
        }
        let counts = bounds.max == 0 && page.complete;
        Ok(Some((page, counts.then_some(number))))
    }

    /// The next messages that an index finds, beyond a position: `mid, stamp, stanza, place`. Those that do not match
    /// have no stanza; so the database looks at no more than it is told, and all that it has looked at is counted.
    async fn archive_chunk(
        &self,
        clause: &Clause,
        at: Option<i64>,
        backwards: bool,
        chunk: u32,
    ) -> Result<Vec<Row>, StorageError> {
        let mut clause = clause.clone();
        if let Some(at) = at {
            clause.beyond(at, backwards);
        }
        let order = if backwards { "DESC" } else { "ASC" };
        let sql = format!(
            "SELECT mid, stamp, CASE WHEN 1 = 1{} THEN stanza END, place FROM archive WHERE {} \
             ORDER BY place {order} LIMIT {chunk}",
            clause.each, clause.sql
        );
        self.database.rows(assembled(sql), clause.values).await
    }
}

/// A search and what it has found, in the order of paging.
struct Search<'a> {
    words: &'a Words,
    max: usize,
    found: Page,
    bytes: usize,
    number: u64,
}

impl Search<'_> {
    /// Looks at some more. Says whether the page is full.
    async fn look(&mut self, rows: &[Row]) -> Result<bool, StorageError> {
        for (number, row) in rows.iter().enumerate() {
            if number % TURN == TURN - 1 {
                tokio::task::yield_now().await;
            }
            let Some(xml) = row.text_or_none(2)? else {
                continue;
            };
            let written = Written::new(xml);
            let stanza = written.and_then(|written| Ok((written.read()?, written)));
            match stanza {
                Ok((stanza, written)) if self.words.are_in(&stanza) => self.add(row, written)?,
                Ok(_) => {}
                // One that is damaged must not hide the others.
                Err(error) => {
                    tracing::error!(mid = %mid(row, 0)?, %error, "an archived message cannot be read");
                }
            }
            let full = self.found.entries.len() == self.max || self.bytes >= MOST_BYTES;
            if self.max > 0 && full {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn add(&mut self, row: &Row, stanza: Written) -> Result<(), StorageError> {
        self.number += 1;
        if self.max > 0 {
            self.bytes += stanza.size();
            self.found.entries.push(Entry {
                mid: mid(row, 0)?,
                stamp: row.count(1)?,
                order: Order(row.count(3)?),
                stanza,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{alice, row};
    use super::*;
    use crate::services::mam::settings::KeepByDefault;
    use crate::storage::testing;
    use cluster::ArchiveId;
    use cluster::session::ArchiveRow;
    use proto::stanza::{Kind, MessageType, Stanza};
    use proto::{Element, Jid, ns};
    use std::time::Duration;

    fn m(n: u64) -> ArchiveId {
        ArchiveId::new(n, u128::from(n))
    }

    fn says(n: u64, with: &str, body: &str) -> ArchiveRow {
        let body = Element::new("body", ns::CLIENT).with_text(body);
        let stanza = Stanza::new(Kind::Message(MessageType::Chat)).with_child(body);
        ArchiveRow {
            packet: stanza.with_from(Jid::new(with).unwrap()).pack(),
            ..row(n, with)
        }
    }

    /// Twenty messages. Each seventh is a needle, from bob at his desk; the others are hay, on his phone. There are
    /// needles that nobody may find: one that is hidden, and one of somebody else.
    async fn fill(storage: &Storage) {
        let rows = (1..=20).map(|n| match n % 7 {
            0 => says(n, "bob@example.org/desk", "Eine NÄDEL"),
            _ => says(n, "bob@example.org/phone", "Heu"),
        });
        let hidden = ArchiveRow {
            hidden: true,
            mid: m(777),
            ..says(5, "bob@example.org/desk", "nadel")
        };
        let other = ArchiveRow {
            owner: "eve@example.org".parse().unwrap(),
            mid: m(88),
            ..says(5, "bob@example.org/desk", "nadel")
        };
        let rows: Vec<_> = rows.chain([hidden, other]).collect();
        let rows: Vec<_> = rows.iter().collect();
        storage.archive(&rows, KeepByDefault::Always).await.unwrap();
    }

    fn bounds(max: u32, rows: u32) -> Bounds {
        Bounds {
            max,
            rows,
            until: clock::instant() + Duration::from_secs(600),
        }
    }

    async fn search(
        storage: &Storage,
        filter: &Filter,
        words: &str,
        place: Place,
        bounds: Bounds,
    ) -> (Page, Option<u64>) {
        let words = Words::new(words).unwrap().unwrap();
        let alice = alice();
        let found = storage.archive_search(&alice, filter, &words, place, bounds);
        found.await.unwrap().unwrap()
    }

    fn mids(page: &Page) -> Vec<ArchiveId> {
        page.entries.iter().map(|entry| entry.mid).collect()
    }

    #[tokio::test]
    async fn im_94_a_search_goes_through_the_archive_page_by_page_in_both_directions() {
        testing::each(async |storage| {
            fill(&storage).await;
            for (max, rows) in [(1, 50), (1, 3), (5, 4), (5, 1), (5, 50)] {
                for backwards in [false, true] {
                    let mut place = if backwards { Place::Last } else { Place::First };
                    let mut found = Vec::new();
                    let mut pages = 0;
                    loop {
                        let bounds = bounds(max, rows);
                        let none = Filter::default();
                        let (page, _) = search(&storage, &none, "nadel", place, bounds).await;
                        found.extend(mids(&page));
                        pages += 1;
                        assert!(pages < 30, "it does not end");
                        if page.complete {
                            break;
                        }
                        let far = if backwards {
                            page.entries.first()
                        } else {
                            page.entries.last()
                        };
                        let far = page.stop.or(far.map(|entry| entry.mid)).unwrap();
                        place = if backwards {
                            Place::Before(far)
                        } else {
                            Place::After(far)
                        };
                    }
                    let expect = if backwards {
                        [m(14), m(7)]
                    } else {
                        [m(7), m(14)]
                    };
                    found.sort_by_key(|mid| expect.iter().position(|one| one == mid));
                    assert_eq!(found, expect, "{max} of {rows}");
                }
            }
            // A page is chronological whatever its direction (IM-92).
            let none = Filter::default();
            let (page, _) = search(&storage, &none, "nadel", Place::Last, bounds(5, 50)).await;
            assert_eq!(mids(&page), [m(7), m(14)]);
        })
        .await;
    }

    #[tokio::test]
    async fn im_94_a_search_is_one_part_of_a_filter() {
        testing::each(async |storage| {
            fill(&storage).await;
            let with = |jid: &str| Filter {
                with: Some(Jid::new(jid).unwrap()),
                ..Filter::default()
            };
            let (start, end) = (Some(8000), Some(13_000));
            let late = Filter {
                start,
                ..with("bob@example.org")
            };
            let early = Filter {
                end,
                ..with("bob@example.org/desk")
            };
            let between = Filter {
                start,
                end,
                ..Filter::default()
            };
            let ids = Filter {
                ids: Some(vec![m(7), m(8)]),
                ..Filter::default()
            };
            let behind = Filter {
                after: Some(m(7)),
                ..Filter::default()
            };
            let before = Filter {
                before: Some(m(14)),
                ..Filter::default()
            };
            for (filter, expect) in [
                (with("bob@example.org"), vec![7, 14]),
                (with("bob@example.org/desk"), vec![7, 14]),
                (with("bob@example.org/phone"), vec![]),
                (with("carol@example.org"), vec![]),
                (late, vec![14]),
                (early, vec![7]),
                (between, vec![]),
                (ids, vec![7]),
                (behind, vec![14]),
                (before, vec![7]),
            ] {
                let expect: Vec<_> = expect.into_iter().map(m).collect();
                for place in [Place::First, Place::Last] {
                    let (page, _) =
                        search(&storage, &filter, "nadel eine", place, bounds(5, 50)).await;
                    assert_eq!(mids(&page), expect, "{filter:?}");
                    assert!(page.complete);
                }
                let counted = search(&storage, &filter, "nadel eine", Place::First, bounds(0, 50));
                assert_eq!(counted.await.1, Some(expect.len() as u64), "{filter:?}");
            }
        })
        .await;
    }

    #[tokio::test]
    async fn im_94_a_search_behind_an_id_that_is_not_there_finds_no_page() {
        testing::each(async |storage| {
            fill(&storage).await;
            let unknown = Filter {
                after: Some(m(99)),
                ..Filter::default()
            };
            let (words, alice) = (Words::new("nadel").unwrap().unwrap(), alice());
            let found =
                storage.archive_search(&alice, &unknown, &words, Place::First, bounds(5, 50));
            assert_eq!(found.await.unwrap(), None);
        })
        .await;
    }

    #[tokio::test]
    async fn t_59_a_search_looks_at_so_many_messages_and_reads_for_so_long() {
        testing::each(async |storage| {
            fill(&storage).await;
            let none = Filter::default();
            let (page, _) = search(&storage, &none, "nadel", Place::First, bounds(5, 6)).await;
            assert_eq!(
                (page.entries.len(), page.stop, page.complete),
                (0, Some(m(6)), false)
            );
            // Those of which a stamp excludes them have been looked at too.
            let late = Filter {
                start: Some(15_000),
                ..none.clone()
            };
            let (page, _) = search(&storage, &late, "nadel", Place::First, bounds(5, 6)).await;
            assert_eq!((page.stop, page.complete), (Some(m(6)), false));
            let (page, count) = search(&storage, &none, "nadel", Place::First, bounds(0, 10)).await;
            assert_eq!((page.complete, count), (false, None));

            let rows: Vec<_> = (21..=600)
                .map(|n| says(n, "bob@example.org/x", "Heu"))
                .collect();
            let rows: Vec<_> = rows.iter().collect();
            storage.archive(&rows, KeepByDefault::Always).await.unwrap();
            let over = Bounds {
                until: clock::instant(),
                ..bounds(5, 5000)
            };
            let (page, _) = search(&storage, &none, "nadel", Place::First, over).await;
            assert_eq!(page.stop, Some(m(u64::from(CHUNK))));
            assert_eq!(mids(&page), [m(7), m(14)]);
        })
        .await;
    }

    #[tokio::test]
    async fn t_55_a_page_of_a_search_is_bounded_in_bytes() {
        testing::each(async |storage| {
            let long = format!("nadel {}", "x".repeat(MOST_BYTES / 2));
            let rows: Vec<_> = (1..=5)
                .map(|n| says(n, "bob@example.org/x", &long))
                .collect();
            let rows: Vec<_> = rows.iter().collect();
            storage.archive(&rows, KeepByDefault::Always).await.unwrap();
            let none = Filter::default();
            let (page, _) = search(&storage, &none, "nadel", Place::First, bounds(5, 50)).await;
            assert_eq!(mids(&page), [m(1), m(2)]);
            assert!(!page.complete);
        })
        .await;
    }

    #[tokio::test]
    async fn a_damaged_message_does_not_hide_the_others_from_a_search() {
        testing::each(async |storage| {
            fill(&storage).await;
            storage.damage_message(m(7)).await;
            let none = Filter::default();
            let (page, _) = search(&storage, &none, "nadel", Place::First, bounds(5, 50)).await;
            assert_eq!(mids(&page), [m(14)]);
        })
        .await;
    }
}
