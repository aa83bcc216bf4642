//! What clients read in their archives themselves (XEP-0313), and need not be sent once more (IM-63).
//!
//! Each result of a query is a stanza like any other, and names the message that it holds. Only one that the
//! client has acknowledged counts: then the message waits for the account no longer, and who holds it and
//! ends without it leaves it to nobody. What the client has read before it is available counts from then on,
//! because before that nothing is delivered to it; who only looks into the archive and leaves changes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use proto::Jid;
use proto::stanza::Packet;

use super::account::Account;
use super::output::{Copied, Item};
use super::queue::{Body, Later, Ticket};
use super::session::Session;
use super::state::ShardState;
use super::step::Step;
use crate::id::{ArchiveId, Order};

/// Messages that are remembered as read by a client that is not available: 24 bytes each. What it read
/// beyond that it may get once more.
const MOST: usize = 10_000;

impl ShardState {
    /// A result of a query for this session.
    pub(super) fn enqueue_result(
        &mut self,
        jid: &Jid,
        (mid, order): (ArchiveId, Order),
        packet: Packet,
        step: &mut Step,
    ) {
        let item = Item {
            order,
            copy: Some(Copied::Result(mid)),
            ..Item::plain(packet, self.now())
        };
        self.enqueue(jid, Arc::new(item), step);
        self.notice_queued(jid, None, false, step);
    }

    /// The client has acknowledged results: orders and ids of messages.
    pub(super) fn note_read(&mut self, jid: &Jid, read: Vec<(Order, ArchiveId)>, step: &mut Step) {
        let Some(session) = self.session_mut(jid).filter(|_| !read.is_empty()) else {
            return;
        };
        if session.is_non_negative() {
            return self.have_read(jid, &read, step);
        }
        let room = MOST.saturating_sub(session.rare.read.len());
        session.rare.read.extend(read.into_iter().take(room));
    }

    /// The client has become available: what it has read the account has.
    pub(super) fn settle_read(&mut self, jid: &Jid, step: &mut Step) {
        let Some(session) = self.session_mut(jid) else {
            return;
        };
        if session.rare.read.is_empty() {
            return;
        }
        let read = std::mem::take(&mut session.rare.read);
        session.rare.shrink();
        self.have_read(jid, &Vec::from_iter(read), step);
    }

    fn have_read(&mut self, jid: &Jid, read: &[(Order, ArchiveId)], step: &mut Step) {
        if let Some(user) = self.account_mut(jid.bare_str()) {
            let waited = user.have_read(read);
            step.notice_marker(jid, false, waited);
        }
    }
}

impl Account {
    /// Returns how many of the messages waited.
    fn have_read(&mut self, read: &[(Order, ArchiveId)]) -> usize {
        let (mut waited, mut rest) = (0, BTreeSet::new());
        for (order, mid) in read {
            if self.no_longer_waits(*order, *mid) {
                waited += 1;
            } else if !self.shared.acknowledge(*mid) {
                rest.insert(*mid);
            }
        }
        // One session may hold it alone, and is not alone with it any more.
        for session in self.sessions.values_mut() {
            for mid in session.share(&rest) {
                self.shared.hold_acknowledged(mid);
            }
        }
        waited
    }
}

impl Session {
    /// Messages in results that the client has not acknowledged.
    pub(super) fn results(&self) -> BTreeSet<ArchiveId> {
        let results = self.queue.whole().filter_map(|item| match item.copy {
            Some(Copied::Result(mid)) => Some(mid),
            Some(Copied::Carbon(_) | Copied::Event(_)) | None => None,
        });
        results.collect()
    }

    /// Has those of the messages shared that it holds alone, and says which.
    fn share(&mut self, mids: &BTreeSet<ArchiveId>) -> Vec<ArchiveId> {
        let mut found = Vec::new();
        if mids.is_empty() {
            return found;
        }
        let mut tickets = Vec::new();
        self.queue.change(
            |item| found.extend(share(item, mids)),
            |ticket| {
                let alone = matches!(ticket.body(), Body::Kept | Body::Waited);
                let (mid, order, size) = (ticket.archive_id(), ticket.order(), ticket.size());
                (alone && mids.contains(&mid)).then(|| {
                    tickets.push(mid);
                    Later::Ticket(Ticket::new(mid, order, size, Body::Shared))
                })
            },
        );
        found.append(&mut tickets);
        found
    }
}

/// Marks one of the messages as shared, if this is one that is held alone.
fn share(item: &mut Arc<Item>, mids: &BTreeSet<ArchiveId>) -> Option<ArchiveId> {
    let alone = item.keep && !item.shared && item.copy.is_none();
    let mid = item.mid.filter(|mid| alone && mids.contains(mid))?;
    Arc::make_mut(item).shared = true;
    Some(mid)
}

#[cfg(test)]
mod tests {
    use proto::stanza::MessageType;

    use super::super::stage::{Stage, jid, message, packet};
    use super::*;
    use crate::session::*;

    const ALICE: &str = "alice@example.org/a";
    const BOB: &str = "bob@example.org/b";
    const PHONE: &str = "bob@example.org/phone";

    fn m(n: u128) -> ArchiveId {
        ArchiveId::new(1, n)
    }

    /// Alice has sent messages 1 to `count`, with their orders.
    fn chat(stage: &mut Stage, count: u128) -> Vec<(ArchiveId, Order)> {
        stage.bind(ALICE, None);
        let sent = (1..=count).map(|n| message(MessageType::Chat, ALICE, "bob@example.org", n));
        stage.send(sent);
        let bob = jid(BOB).bare();
        let rows = stage.state.archive_tail(&bob).into_iter();
        let rows = rows.filter_map(|effect| match &*effect {
            Effect::Archive(row) => Some((row.mid, row.order)),
            _ => None,
        });
        let rows = rows.collect();
        stage.work();
        rows
    }

    /// The archive gives bob these.
    fn give(stage: &mut Stage, session: &str, rows: &[(ArchiveId, Order)]) {
        for (mid, order) in rows {
            let kind = proto::stanza::Kind::Message(MessageType::Normal);
            let result = Action::Result {
                mid: *mid,
                order: *order,
                packet: packet(kind, "bob@example.org", Some(session)),
            };
            stage.act(session, result);
        }
    }

    /// Bob becomes available; what is delivered to him.
    fn delivered(stage: &mut Stage, session: &str) -> Vec<ArchiveId> {
        let mut outputs = stage.available(session, 0);
        outputs.extend(stage.work());
        mids(&outputs, session)
    }

    fn mids(outputs: &[Output], session: &str) -> Vec<ArchiveId> {
        let mids = outputs.iter().filter_map(|o| match &o.event {
            Event::Stanza { item, .. } if o.session == jid(session) => item.mid,
            _ => None,
        });
        mids.collect()
    }

    fn end(stage: &mut Stage, session: &str) -> Vec<Output> {
        let (session, reason) = (jid(session), EndReason::Closed);
        let end = Command::End {
            session,
            epoch: None,
            reason,
        };
        stage.apply(end).1
    }

    /// Bob takes all that there is for him.
    fn drain(stage: &mut Stage) -> Vec<Output> {
        let mut outputs = Vec::new();
        while stage
            .state
            .session(&jid(BOB))
            .expect("bound")
            .queue
            .load()
            .0
            > 0
        {
            outputs.extend(stage.acknowledge(BOB, u64::MAX));
            outputs.extend(stage.work());
        }
        outputs
    }

    #[test]
    fn im_63_only_what_was_given_and_taken_is_spared() {
        for taken in [true, false] {
            let mut stage = Stage::new();
            let rows = chat(&mut stage, 4);
            stage.bind(BOB, None);
            give(&mut stage, BOB, &rows[2..]);
            if taken {
                stage.acknowledge_all(BOB);
            }
            assert_eq!(delivered(&mut stage, BOB), [m(1), m(2)]);
            // What is on its way waits until it has arrived, or the session is over without it.
            let waits = if taken { 0 } else { 2 };
            assert_eq!(stage.undelivered("bob@example.org"), waits);
            if !taken {
                end(&mut stage, BOB);
                stage.bind(BOB, None);
                assert_eq!(delivered(&mut stage, BOB), [m(1), m(2), m(3), m(4)]);
            }
            stage.acknowledge_all(BOB);
            end(&mut stage, BOB);
            assert_eq!(stage.undelivered("bob@example.org"), 0);
        }
    }

    #[test]
    fn im_63_who_only_looks_into_the_archive_takes_nothing() {
        let mut stage = Stage::new();
        let rows = chat(&mut stage, 2);
        stage.bind(BOB, Some(-1));
        give(&mut stage, BOB, &rows);
        stage.acknowledge_all(BOB);
        end(&mut stage, BOB);
        stage.bind(PHONE, None);
        assert_eq!(delivered(&mut stage, PHONE), [m(1), m(2)]);
    }

    #[test]
    fn im_63_what_a_sleeping_session_holds_and_another_has_read_is_passed_on_to_nobody() {
        // Also of what stands behind a queue as a ticket.
        for stanzas in [2000, 2] {
            let mut stage = Stage::new();
            stage.settings.max_queue_stanzas = stanzas;
            stage.resumable(PHONE, Some(5));
            stage.lose(PHONE);
            let rows = chat(&mut stage, 5);
            stage.bind(BOB, None);
            give(&mut stage, BOB, &rows[..2]);
            stage.acknowledge_all(BOB);
            stage.available(BOB, 0);
            give(&mut stage, BOB, &rows[2..4]);
            let mut outputs = drain(&mut stage);
            outputs.extend(end(&mut stage, PHONE));
            outputs.extend(stage.work());
            outputs.extend(drain(&mut stage));
            assert_eq!(mids(&outputs, BOB), [m(5)]);
        }
    }
}
