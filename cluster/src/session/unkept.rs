//! Messages whose row the database refuses for good.
//!
//! They were acknowledged, so that they may not vanish. Who waited for one in the archive gets nothing there:
//! its sender is told. A session that is still to get it keeps the stanza in full instead of what stood for
//! it, and returns it to the sender if it ends without it.

use std::sync::Arc;

use proto::BareJid;
use proto::stanza::Packet;
use proto::stanza::error::Condition;

use super::output::Item;
use super::queue::{Later, Ticket};
use super::session::Session;
use super::state::ShardState;
use super::step::Step;
use crate::id::ArchiveId;

impl ShardState {
    /// The account's archive will never hold this message.
    pub(super) fn unkept(
        &mut self,
        account: &BareJid,
        mid: ArchiveId,
        packet: Packet,
        step: &mut Step,
    ) {
        let now = self.now();
        let Some(user) = self.account_mut(account) else {
            return;
        };
        for session in user.sessions.values_mut() {
            session.keep_whole(mid, &packet, now);
        }
        if user.lose(mid) && self.release_shared(account, mid, false) {
            self.bounce(&packet, Condition::InternalServerError, step);
        }
        self.tidy(account);
    }
}

impl Session {
    /// What the archive was to hold of this message is held here.
    fn keep_whole(&mut self, mid: ArchiveId, packet: &Packet, now: u64) {
        self.queue.change(
            |item| {
                if item.mid == Some(mid) {
                    Arc::make_mut(item).archived = false;
                }
            },
            |ticket| {
                let is_it = ticket.archive_id() == mid;
                is_it.then(|| Later::Whole(Arc::new(whole(ticket, packet, now))))
            },
        );
    }
}

/// The stanza that the ticket stands for.
fn whole(ticket: Ticket, packet: &Packet, now: u64) -> Item {
    let body = ticket.body();
    Item {
        mid: Some(ticket.archive_id()),
        keep: body.keep(),
        shared: body.is_shared(),
        order: ticket.order(),
        copy: body.copy(),
        ..Item::plain(packet.clone(), now)
    }
}

#[cfg(test)]
mod tests {
    use proto::stanza::MessageType;

    use super::super::stage::{Stage, jid, message, stanzas};
    use crate::id::EffectId;
    use crate::session::*;

    const ALICE: &str = "alice@example.org/a";
    const BOB: &str = "bob@example.org/b";

    /// The database refuses every row of bob's archive that there is.
    fn refuse_rows(stage: &mut Stage) -> Vec<Output> {
        let mut told = Vec::new();
        for pending in stage.state.pending(EffectId(0), usize::MAX) {
            let Effect::Archive(row) = &*pending.effect else {
                continue;
            };
            let word = Relay::Unkept {
                account: row.owner.clone(),
                mid: row.mid,
                packet: row.packet.clone(),
            };
            let done = Completed {
                id: pending.id,
                relays: vec![word],
                messages: Vec::new(),
            };
            told.extend(stage.apply(Command::Done(vec![done])).1);
        }
        told
    }

    /// Alice says so many things to bob.
    fn say(stage: &mut Stage, count: u128) {
        let said = (1..=count).map(|mid| message(MessageType::Chat, ALICE, "bob@example.org", mid));
        stage.send(said);
    }

    #[test]
    fn a_message_that_waits_for_nobody_s_archive_comes_back_once() {
        let mut stage = Stage::new();
        stage.bind(ALICE, None);
        say(&mut stage, 1);
        assert_eq!(stanzas(&refuse_rows(&mut stage)).len(), 1);
        assert_eq!(stage.undelivered("bob@example.org"), 0);
    }

    /// Bob's session ends when he has acknowledged what he was sent, or none of it.
    #[test]
    fn a_session_gets_what_it_was_to_get_and_what_it_does_not_take_comes_back() {
        for (acknowledges, expect) in [(true, 3), (false, 5)] {
            let mut stage = Stage::new();
            stage.settings.max_queue_stanzas = 2;
            stage.bind(ALICE, None);
            stage.resumable(BOB, Some(0));
            stage.acknowledge_all(BOB);
            say(&mut stage, 5);
            assert_eq!(stanzas(&refuse_rows(&mut stage)).len(), 0);
            if acknowledges {
                stage.acknowledge_all(BOB);
            }
            let session = stage.state.session(&jid(BOB)).expect("bound");
            let numbered = session.queue.stanzas().len();
            assert!(numbered > 0, "what stood for them has moved up");
            let end = Command::End {
                session: jid(BOB),
                epoch: None,
                reason: EndReason::Admin,
            };
            stage.apply(end);
            let left = stage.undelivered("bob@example.org");
            assert_eq!(left, expect, "until it is known what becomes of their rows");
            refuse_rows(&mut stage);
            assert_eq!(stage.undelivered("bob@example.org"), 0);
            let alice = stage.state.session(&jid(ALICE)).expect("bound");
            let back = alice.queue.load().0;
            assert_eq!(back, expect);
        }
    }
}
