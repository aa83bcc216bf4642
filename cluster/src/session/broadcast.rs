//! A message of the server for everybody who is there.
//!
//! It is for those of the domain that says it. It goes to each shard once, and there to a slice of its accounts with
//! each entry ([`super::fan`]): one stanza for each available session, also for those that hibernate. Nobody else gets
//! it later: it is about now. A shard that takes nothing is left out.
//!
//! It may be asked for again, by whoever does not know whether it has happened, and each shard remembers the last ones
//! by their ids: nobody gets it twice.

use proto::stanza::Packet;
use proto::{BareJid, Jid};

use super::relay::Relay;
use super::state::ShardState;
use super::step::Step;
use crate::id::{ArchiveId, ShardId};

impl ShardState {
    /// To each shard that takes anything.
    pub(super) fn spread_broadcast(&mut self, id: ArchiveId, packet: &Packet, step: &mut Step) {
        for shard in (0..self.shards()).map(ShardId) {
            if shard != self.id() && self.outboxes().is_full(shard) {
                continue;
            }
            let relay = Relay::Broadcast {
                id,
                packet: packet.clone(),
                after: None,
            };
            self.send_to_shard(shard, relay, step);
        }
    }

    /// Shows it to accounts behind `after` until it has reached so many accounts or sessions; returns how many it has
    /// reached, and the last account if there may be more.
    pub(super) fn show_broadcast(
        &mut self,
        packet: &Packet,
        after: Option<&BareJid>,
        most: usize,
        step: &mut Step,
    ) -> (usize, Option<BareJid>) {
        let accounts = self.users().after(after).take(most);
        let accounts: Vec<BareJid> = accounts.map(|(account, _)| account.clone()).collect();
        // A blocked domain is that of its users: its server cannot be blocked by them (IM-71).
        let from = packet.header.from.as_ref().map(Jid::domain);
        let mut reached = 0;
        for account in &accounts {
            let concerned = from == Some(account.domain());
            let there = self.account(account);
            let sessions = there.sessions_where(account, |one| concerned && one.is_available());
            // Each has to be looked at, whether anybody is there or not.
            reached += sessions.len().max(1);
            for session in sessions {
                let mut copy = packet.clone();
                copy.header.to = Some(session.clone());
                self.enqueue_plain(&session, copy, step);
            }
            if reached >= most {
                return (reached, Some(account.clone()));
            }
        }
        (reached, None)
    }
}

#[cfg(test)]
mod tests {
    use proto::stanza::{Kind, MessageType};

    use super::super::stage::{Stage, packet, stanzas};
    use super::super::step::SLICE;
    use super::*;
    use crate::session::*;

    const ALICE: &str = "alice@example.org/a";

    fn says(id: u128) -> Relay {
        let headline = Kind::Message(MessageType::Headline);
        Relay::Broadcast {
            id: ArchiveId(id),
            packet: packet(headline, "example.org", None),
            after: None,
        }
    }

    fn heard(outputs: &[Output]) -> Vec<String> {
        stanzas(outputs).into_iter().map(|(to, _)| to).collect()
    }

    #[test]
    fn ad_2_each_available_session_hears_it_once_whether_it_is_connected_or_not() {
        let mut stage = Stage::new();
        stage.bind(ALICE, Some(0));
        stage.bind("bob@example.org/one", Some(-1));
        stage.bind("bob@example.org/two", Some(5));
        stage.bind("bob@example.org/silent", None);
        stage.resumable("carol@example.org/away", Some(0));
        stage.lose("carol@example.org/away");
        stage.bind("dora@example.org/x", Some(0));
        stage.bind("erik@example.net/elsewhere", Some(0));
        stage.block("dora@example.org/x", &["example.org"], &[]);
        let outputs = stage.act(ALICE, Action::Send(says(1)));
        let to = [
            "alice@example.org/a",
            "bob@example.org/one",
            "bob@example.org/two",
            "dora@example.org/x",
        ];
        assert_eq!(heard(&outputs), to);
        let (_, resumed) = stage.resume("carol@example.org/away", 0);
        let kinds: Vec<Kind> = stanzas(&resumed)
            .into_iter()
            .map(|(_, kind)| kind)
            .collect();
        assert!(
            kinds.contains(&Kind::Message(MessageType::Headline)),
            "{kinds:?}"
        );
        // Whoever asks again, by whichever way, asks for nothing.
        let command = || Command::Broadcast {
            id: ArchiveId(1),
            packet: packet(Kind::Message(MessageType::Headline), "example.org", None),
        };
        assert!(heard(&stage.apply(command()).1).is_empty());
        assert!(heard(&stage.act(ALICE, Action::Send(says(1)))).is_empty());
        assert_eq!(heard(&stage.act(ALICE, Action::Send(says(2)))).len(), 5);
    }

    #[test]
    fn it_is_shown_to_a_slice_of_the_accounts_with_each_entry_also_by_another_leader() {
        let mut stage = Stage::new();
        for n in 0..10 {
            stage.bind(&format!("user{n}@example.org/x"), Some(0));
        }
        let batch = |command| Batch {
            now: 1_000_000,
            commands: vec![command],
        };
        let Relay::Broadcast { id, packet, .. } = says(1) else {
            panic!("another relay");
        };
        let begun = Command::Broadcast { id, packet };
        let mut told = heard(&stage.state.apply(batch(begun)).outputs);
        assert!(told.len() <= SLICE, "{told:?}");
        let records = stage.state.records().map(Ok::<_, Disorder>);
        let mut state = ShardState::restore(records).unwrap();
        assert_eq!(state, stage.state);
        while state.next_deadline() == Some(0) {
            let more = heard(&state.apply(batch(Command::Tick)).outputs);
            assert!(more.len() <= SLICE, "{more:?}");
            told.extend(more);
        }
        let expect: Vec<String> = (0..10).map(|n| format!("user{n}@example.org/x")).collect();
        assert_eq!(told, expect);
    }

    #[test]
    fn a_slice_ends_with_the_account_whose_sessions_fill_it() {
        let mut stage = Stage::new();
        for name in ["alice", "bob", "carol"] {
            for resource in ["a", "b"] {
                stage.bind(&format!("{name}@example.org/{resource}"), Some(0));
            }
        }
        let Relay::Broadcast { packet, .. } = says(1) else {
            panic!("another relay");
        };
        let mut step = Step::default();
        let bob = BareJid::new("bob@example.org").unwrap();
        let shown = stage.state.show_broadcast(&packet, None, 3, &mut step);
        assert_eq!(shown, (4, Some(bob.clone())));
        let rest = stage
            .state
            .show_broadcast(&packet, Some(&bob), 3, &mut step);
        assert_eq!(rest, (2, None));
    }
}
