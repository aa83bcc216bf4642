//! Messages that an account's archive does not show, and the moment from which it may forget them.
//!
//! What a user wants archived is decided when the row is written (the preferences are in the database);
//! the shard learns of it afterwards, as [`Relay::Hidden`](super::Relay::Hidden). Until the message has been delivered, or is
//! given up, a hidden row keeps it.

use std::sync::Arc;

use proto::BareJid;

use super::effect::{ArchiveRow, Effect};
use super::output::Item;
use super::state::ShardState;
use crate::id::ArchiveId;

impl ShardState {
    /// These messages were meant for the archive, and their rows are hidden.
    pub(super) fn hidden(&mut self, account: &BareJid, mids: &[ArchiveId]) {
        let user = self.account_or_new(account.clone());
        let hidden = |mid: &ArchiveId| mids.contains(mid);
        for session in user.sessions.values_mut() {
            // Of a ticket more will be known when it is read back, or put aside.
            session.queue.change(
                |item| {
                    if item.archived && item.mid.as_ref().is_some_and(hidden) {
                        Arc::make_mut(item).archived = false;
                    }
                },
                |_| None,
            );
        }
        user.hide_all(mids);
        self.forget_delivered(account, Some(mids.to_vec()));
        self.tidy(account);
    }

    /// Writes the row that keeps a message which the archive does not show.
    pub(super) fn write_hidden(&mut self, account: &BareJid, item: &Item) {
        let Some(mid) = item.mid else { return };
        let user = self.account_or_new(account.clone());
        if !user.hide(mid) {
            return;
        }
        let from = item.packet.header.from.clone();
        self.add_effect(Effect::Archive(ArchiveRow {
            owner: account.clone(),
            mid,
            order: item.order,
            with: from.unwrap_or_else(|| account.into()),
            stamp: item.stamp,
            hidden: true,
            packet: item.packet.clone(),
        }));
    }

    /// Has the hidden rows deleted whose messages nobody holds or waits for any more. Only of `gone`, if
    /// it is known what may have become free.
    pub(super) fn forget_delivered(&mut self, account: &BareJid, gone: Option<Vec<ArchiveId>>) {
        let Some(user) = self.account_mut(account) else {
            return;
        };
        let free = user.take_free(gone);
        if !free.is_empty() {
            self.add_effect(Effect::Forget {
                account: account.clone(),
                mids: free.into_iter().collect(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::stanza::MessageType;

    use super::super::stage::{Stage, jid, message};
    use super::*;
    use crate::id::EffectId;
    use crate::session::*;

    const ALICE: &str = "alice@example.org/a";
    const BOB: &str = "bob@example.org/b";

    fn bob() -> BareJid {
        jid(BOB).bare()
    }

    fn m(n: u128) -> ArchiveId {
        ArchiveId::new(1, n)
    }

    /// Alice sends message 1 to bob.
    fn send(stage: &mut Stage) {
        let sent = message(MessageType::Chat, ALICE, "bob@example.org", 1);
        stage.act(ALICE, Action::Send(Relay::Message(sent)));
    }

    /// The host has written all rows; those of `hidden` are out of sight.
    fn write_rows(stage: &mut Stage, hidden: &[ArchiveId]) {
        let all = stage.state.pending(EffectId(0), usize::MAX);
        let done = all.iter().filter_map(|pending| {
            let Effect::Archive(row) = &*pending.effect else {
                return None;
            };
            let kept_out = row.owner == bob() && hidden.contains(&row.mid);
            let word = Relay::Hidden {
                account: bob(),
                mids: vec![row.mid],
            };
            Some(Completed {
                id: pending.id,
                relays: kept_out.then_some(word).into_iter().collect(),
                messages: Vec::new(),
            })
        });
        let done = done.collect();
        stage.apply(Command::Done(done));
    }

    fn forgotten(stage: &Stage) -> Vec<ArchiveId> {
        let all = stage.state.pending(EffectId(0), usize::MAX);
        let mids = all.iter().filter_map(|pending| match &*pending.effect {
            Effect::Forget { mids, .. } => Some(mids.clone()),
            _ => None,
        });
        mids.flatten().collect()
    }

    fn acknowledge(stage: &mut Stage, session: &str, epoch: crate::id::Epoch) {
        let ack = Acknowledge {
            session: jid(session),
            epoch,
            upto: u64::MAX,
        };
        stage.apply(Command::Acknowledge(ack));
    }

    #[test]
    fn im_86_a_hidden_row_is_forgotten_once_its_message_is_delivered() {
        let mut stage = Stage::new();
        stage.bind(ALICE, None);
        let epoch = stage.resumable(BOB, Some(0));
        send(&mut stage);
        write_rows(&mut stage, &[m(1)]);
        assert_eq!(forgotten(&stage), []);
        acknowledge(&mut stage, BOB, epoch);
        assert_eq!(forgotten(&stage), [m(1)]);
    }

    #[test]
    fn im_86_a_message_that_was_delivered_before_its_row_is_forgotten_at_once() {
        let mut stage = Stage::new();
        stage.bind(ALICE, None);
        let epoch = stage.resumable(BOB, Some(0));
        send(&mut stage);
        acknowledge(&mut stage, BOB, epoch);
        assert_eq!(forgotten(&stage), []);
        write_rows(&mut stage, &[m(1)]);
        assert_eq!(forgotten(&stage), [m(1)]);
    }

    #[test]
    fn im_86_nobody_s_hidden_message_waits_until_one_of_two_sessions_has_it() {
        let mut stage = Stage::new();
        stage.bind(ALICE, None);
        let first = stage.resumable(BOB, Some(0));
        stage.resumable("bob@example.org/c", Some(0));
        send(&mut stage);
        write_rows(&mut stage, &[m(1)]);
        acknowledge(&mut stage, BOB, first);
        assert_eq!(forgotten(&stage), [], "the other may yet need it");
        stage.apply(Command::End {
            session: jid("bob@example.org/c"),
            epoch: None,
            reason: EndReason::Admin,
        });
        assert_eq!(forgotten(&stage), [m(1)]);
        assert_eq!(stage.undelivered("bob@example.org"), 0);
    }

    #[test]
    fn im_86_a_hidden_message_survives_the_end_of_its_session() {
        let mut stage = Stage::new();
        stage.bind(ALICE, None);
        stage.resumable(BOB, Some(0));
        send(&mut stage);
        write_rows(&mut stage, &[m(1)]);
        stage.apply(Command::End {
            session: jid(BOB),
            epoch: None,
            reason: EndReason::Admin,
        });
        assert_eq!(stage.undelivered("bob@example.org"), 1);
        assert_eq!(forgotten(&stage), []);
    }

    /// No archive keeps anything unless its user asks for it.
    fn reticent() -> Stage {
        let mut stage = Stage::new();
        stage.settings.archive_by_default = false;
        stage.bind(ALICE, None);
        stage
    }

    fn rows(stage: &Stage) -> Vec<(BareJid, bool)> {
        let all = stage.state.pending(EffectId(0), usize::MAX);
        let rows = all.iter().filter_map(|pending| match &*pending.effect {
            Effect::Archive(row) => Some((row.owner.clone(), row.hidden)),
            _ => None,
        });
        rows.collect()
    }

    #[test]
    fn im_86_the_database_never_hears_of_what_nobody_wants_kept_and_is_delivered() {
        let mut stage = reticent();
        let epoch = stage.resumable(BOB, Some(0));
        send(&mut stage);
        acknowledge(&mut stage, BOB, epoch);
        assert_eq!(rows(&stage), []);
        assert_eq!(stage.undelivered("bob@example.org"), 0);
    }

    #[test]
    fn im_86_what_nobody_wants_kept_has_a_hidden_row_while_it_waits() {
        let mut stage = reticent();
        stage.resumable(BOB, Some(0));
        send(&mut stage);
        stage.apply(Command::End {
            session: jid(BOB),
            epoch: None,
            reason: EndReason::Admin,
        });
        assert_eq!(rows(&stage), [(bob(), true)]);
        write_rows(&mut stage, &[]);
        stage.bind(BOB, None);
        assert_eq!(fetched(&mut stage, BOB), [m(1)]);
    }

    #[test]
    fn im_86_who_has_stated_a_preference_has_the_database_decide() {
        let mut stage = reticent();
        stage.resumable(BOB, Some(0));
        stage.act(BOB, Action::ArchiveStated);
        send(&mut stage);
        assert_eq!(rows(&stage), [(bob(), false)], "and not alice's");
        stage.apply(Command::ArchiveStated {
            account: jid(ALICE).bare(),
        });
        send(&mut stage);
        assert_eq!(rows(&stage).len(), 3);
    }

    /// Bob becomes available; what is read back for him.
    fn fetched(stage: &mut Stage, session: &str) -> Vec<ArchiveId> {
        stage.available(session, 0);
        let all = stage.state.pending(EffectId(0), usize::MAX);
        let mids = all.iter().filter_map(|pending| match &*pending.effect {
            Effect::Fetch { mids, .. } => Some(mids.clone()),
            _ => None,
        });
        mids.flatten().collect()
    }

    #[test]
    fn im_63_what_the_archive_does_not_show_is_delivered() {
        let mut stage = Stage::new();
        stage.bind(ALICE, None);
        send(&mut stage);
        write_rows(&mut stage, &[m(1)]);
        stage.bind(BOB, None);
        assert_eq!(fetched(&mut stage, BOB), [m(1)]);
    }
}
