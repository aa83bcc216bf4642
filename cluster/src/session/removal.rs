//! What an account that is removed leaves behind in its shard: nothing, once others have heard of it.

use proto::BareJid;

use super::clients::Clients;
use super::command::Outcome;
use super::reason::EndReason;
use super::relay::Relay;
use super::state::ShardState;
use super::step::Step;

impl ShardState {
    /// Sends what the server says in the name of an account of this shard, which may be gone.
    pub(super) fn send_all(&mut self, relays: Vec<Relay>, step: &mut Step) -> Outcome {
        for relay in relays {
            self.send(relay, step);
        }
        Outcome::Done
    }

    /// The account is gone: its sessions end, and whoever gets its name later finds nothing of it. How much its
    /// clients had said is remembered as long as for any other session that has ended, so that they know it.
    pub(super) fn forget_account(&mut self, account: &BareJid, step: &mut Step) -> Outcome {
        // What a session holds as well goes back to its sender with that session.
        if let Some(user) = self.account_mut(account) {
            user.forget_waiting(false);
        }
        for jid in self.account(account).sessions_where(account, |_| true) {
            self.end(&jid, EndReason::Removed, step);
        }
        self.set_limits(account, None, step);
        let Some(user) = self.account_mut(account) else {
            return Outcome::Done;
        };
        user.forget_waiting(false);
        user.push = Clients::default();
        user.archive_stated = false;
        self.forget_delivered(account, None);
        self.tidy(account);
        Outcome::Done
    }
}

#[cfg(test)]
mod tests {
    use proto::stanza::{Kind, MessageType, PresenceType};

    use super::super::stage::{Stage, jid, message, packet, stanzas};
    use super::*;
    use crate::session::*;

    const ALICE: &str = "alice@example.org/a";
    const BOB: &str = "bob@example.org/b";

    fn bare(name: &str) -> BareJid {
        BareJid::new(name).expect("valid")
    }

    #[test]
    fn re_3_nothing_of_a_removed_account_is_left_for_the_next_of_its_name() {
        let mut stage = Stage::new();
        let account = bare("alice@example.org");
        stage.bind(BOB, Some(0));
        stage.send([message(MessageType::Chat, BOB, "alice@example.org", 1)]);
        assert_eq!(stage.undelivered("alice@example.org"), 1);
        stage.bind(ALICE, None);
        stage.act(ALICE, Action::PushEnabled(true));
        stage.act(ALICE, Action::ArchiveStated);
        let limits = Some(Limits {
            hibernated: Some(1),
            old: None,
        });
        stage.apply(Command::SetLimits {
            account: account.clone(),
            limits,
        });
        for _ in 0..2 {
            stage.apply(Command::Forget {
                account: account.clone(),
            });
            assert_eq!(stage.undelivered("alice@example.org"), 0);
            assert!(stage.state.session(&jid(ALICE)).is_none());
            assert!(!stage.state.archive_is_stated(&account));
            assert_eq!(stage.state.override_of(&account).limits, Limits::default());
            assert!(stage.state.users().get(&account).is_none());
        }
    }

    #[test]
    fn re_3_contacts_hear_what_the_server_says_for_an_account() {
        let mut stage = Stage::new();
        stage.bind(BOB, Some(0));
        let gone = packet(Kind::Presence(PresenceType::Unavailable), ALICE, Some(BOB));
        let (_, outputs) = stage.apply(Command::Send {
            relays: vec![Relay::Presence {
                packet: gone,
                to: vec![jid("bob@example.org")],
            }],
        });
        let heard = (BOB.to_owned(), Kind::Presence(PresenceType::Unavailable));
        assert!(stanzas(&outputs).contains(&heard));
    }
}
