//! A session begins with all that its client asked for along with its login (XEP-0386), in one entry.
//!
//! The last part of the resource tells which client of the user it is. So the shard finds that client's older session
//! by its name, and nothing else has to be remembered (BI-4).

use proto::{BareJid, Jid};

use super::command::{Bind, Open, Outcome};
use super::reason::EndReason;
use super::session::Sm;
use super::state::ShardState;
use super::step::Step;

/// Whether a resource is of the client that this last part names.
pub fn is_of(resource: &str, agent: &str) -> bool {
    match resource.strip_suffix(agent) {
        Some(rest) => rest.is_empty() || rest.ends_with('/'),
        None => false,
    }
}

impl ShardState {
    pub(super) fn open(&mut self, open: Open, step: &mut Step) -> Outcome {
        let held = self.session(&open.session);
        if let Some(held) = held.filter(|held| held.owner() == Some(open.owner)) {
            let epoch = held.epoch();
            return Outcome::Bound { epoch };
        }
        let account = open.session.bare();
        for older in self.older_of(&account, &open) {
            self.end(&older, EndReason::Conflict, step);
        }
        let bind = Bind {
            session: open.session.clone(),
            owner: open.owner,
        };
        let outcome = self.bind(bind, step);
        let Outcome::Bound { .. } = outcome else {
            return outcome;
        };
        if let Some(session) = self.session_mut(&open.session) {
            session.set_carbons(open.carbons);
            if let Some(sm) = open.sm {
                let start = session.queue.next();
                session.enable(Sm {
                    smid: sm.smid,
                    after: 0,
                    start,
                    seed: sm.seed,
                    max: sm.max,
                });
            }
        }
        self.leave_to_archive(&open.session, step);
        outcome
    }

    /// The sessions of the same client under other names.
    fn older_of(&self, account: &BareJid, open: &Open) -> Vec<Jid> {
        let Some(agent) = &open.agent else {
            return Vec::new();
        };
        let sessions = self.account(account).sessions.iter();
        let older = sessions.filter(|(resource, _)| is_of(resource, agent));
        let older = older.map(|(resource, _)| account.with_prepared_resource(resource));
        older.filter(|jid| *jid != open.session).collect()
    }

    /// Such a client reads in the archive what it has missed, if all of it is there (BI-2). Of a row that is still to be
    /// written nobody knows: what its user prefers may hide it, or the database refuse it.
    fn leave_to_archive(&mut self, session: &Jid, step: &mut Step) {
        let account = session.bare();
        let is_unsure = self.effects().rows_of(&account).next().is_some();
        let Some(user) = self.account_mut(&account).filter(|_| !is_unsure) else {
            return;
        };
        if user.waits_out_of_sight() {
            return;
        }
        let taken = user.forget_waiting(true);
        step.notice_marker(session, false, taken);
    }
}

#[cfg(test)]
mod tests {
    use proto::stanza::MessageType;

    use super::super::stage::{Stage, jid, message, numbers, owner};
    use super::*;
    use crate::id::SmId;
    use crate::session::*;

    const ALICE: &str = "alice@example.org/a";

    fn open(session: &str, conn: u64, agent: Option<&str>) -> Open {
        Open {
            session: jid(session),
            owner: owner(conn),
            agent: agent.map(Into::into),
            sm: Some(OpenSm {
                smid: Some(SmId(session.into())),
                max: 300,
                seed: 0,
            }),
            carbons: true,
        }
    }

    fn send(stage: &mut Stage, to: &str, mids: std::ops::Range<u128>) {
        for mid in mids {
            let sent = message(MessageType::Chat, ALICE, to, mid);
            stage.act(ALICE, Action::Send(Relay::Message(sent)));
        }
    }

    #[test]
    fn sm_72_both_counts_begin_with_the_session() {
        let mut stage = Stage::new();
        stage.bind(ALICE, None);
        let bob = "bob@example.org/App/0123456789abcdef";
        let opened = stage.apply(Command::Open(open(bob, 50, Some("0123456789abcdef"))));
        assert!(matches!(opened.0, Outcome::Bound { .. }));
        assert!(matches!(opened.1[0].event, Event::Bound));
        // A repeat changes nothing.
        let again = stage.apply(Command::Open(open(bob, 50, Some("0123456789abcdef"))));
        assert_eq!(again.0, opened.0);
        send(&mut stage, bob, 0..3);
        stage.lose(bob);
        let (outcome, outputs) = stage.resume(bob, 1);
        assert!(matches!(outcome, Outcome::Resumed { .. }));
        assert_eq!(numbers(&outputs), [2, 3]);
    }

    #[test]
    fn bi_4_the_older_sessions_of_a_client_end_and_no_others() {
        let mut stage = Stage::new();
        let agent = "0123456789abcdef";
        let names = [
            "App/0123456789abcdef",
            "0123456789abcdef",
            "x0123456789abcdef",
            "desk",
        ];
        for (conn, name) in (50..).zip(names) {
            stage.apply(Command::Open(open(
                &format!("bob@example.org/{name}"),
                conn,
                None,
            )));
        }
        stage.lose("bob@example.org/0123456789abcdef");
        let new = "bob@example.org/Other/0123456789abcdef";
        let (_, outputs) = stage.apply(Command::Open(open(new, 60, Some(agent))));
        let left: Vec<_> = stage.state.sessions(&jid(new).bare());
        let mut left: Vec<_> = left
            .iter()
            .map(|view| view.jid.resource().unwrap())
            .collect();
        left.sort_unstable();
        assert_eq!(
            left,
            ["Other/0123456789abcdef", "desk", "x0123456789abcdef"]
        );
        let told = outputs.iter().filter(|output| {
            matches!(
                output.event,
                Event::Detached(Detached::Ended(EndReason::Conflict))
            )
        });
        assert_eq!(told.count(), 1);
    }

    #[test]
    fn bi_2_what_waits_is_left_to_the_archive_unless_it_is_hidden_there() {
        for hidden in [false, true] {
            let mut stage = Stage::new();
            stage.bind(ALICE, None);
            for mid in 0..3 {
                let mut sent = message(MessageType::Chat, ALICE, "bob@example.org", mid);
                sent.traits.archive_received = !(hidden && mid == 1);
                stage.act(ALICE, Action::Send(Relay::Message(sent)));
            }
            stage.apply(Command::Open(open("bob@example.org/early", 49, None)));
            assert_eq!(stage.undelivered("bob@example.org"), 3, "no row is written");
            stage.work();
            stage.apply(Command::Open(open("bob@example.org/x", 50, None)));
            let left = if hidden { 3 } else { 0 };
            assert_eq!(stage.undelivered("bob@example.org"), left);
        }
    }

    #[test]
    fn t_44_the_limit_of_sessions_holds_here_too() {
        let mut stage = Stage::new();
        stage.settings.sessions_per_account = 1;
        let first = open("bob@example.org/a/0123456789abcdef", 50, None);
        assert!(matches!(
            stage.apply(Command::Open(first)).0,
            Outcome::Bound { .. }
        ));
        let second = open("bob@example.org/b", 51, None);
        assert_eq!(
            stage.apply(Command::Open(second)).0,
            Outcome::TooManySessions
        );
        // Its own older session makes room.
        let third = open(
            "bob@example.org/c/0123456789abcdef",
            52,
            Some("0123456789abcdef"),
        );
        assert!(matches!(
            stage.apply(Command::Open(third)).0,
            Outcome::Bound { .. }
        ));
    }
}
