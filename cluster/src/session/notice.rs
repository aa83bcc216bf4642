//! What happens to sessions, told to whoever watches: metrics, logs, limits, services.
//!
//! Every replica hears of it when it applies the entry, and again when it applies it anew after a restart;
//! one that is brought up to date by a snapshot does not hear of it. What must happen exactly once is an
//! [`Effect`](super::Effect), not a notice.

use proto::Jid;

use super::reason::EndReason;
use crate::id::{ArchiveId, SmId};

/// Something happened to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The session's full JID; of [`SessionEvent::LimitsSet`], the account.
    pub session: Jid,
    /// The SM-ID, if the session may be resumed.
    pub smid: Option<SmId>,
    /// When, by the leader's clock: milliseconds since 1970.
    pub at: u64,
    /// What.
    pub what: SessionEvent,
}

/// See [`Notice`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// The connection is lost; the session waits for its client.
    HibernationStart {
        /// Until then at least, milliseconds since 1970.
        until: u64,
    },
    /// The client is back.
    HibernationEnd {
        /// On another node than the one that it was connected to.
        across: bool,
    },
    /// Something waits for the client of a hibernated session.
    StanzaQueued {
        /// The archive id, of a message.
        mid: Option<ArchiveId>,
        /// It is worth a push notification (IM-105).
        important: bool,
    },
    /// The client has not answered for long what it has of so many stanzas (`sm.max_ack_delay`). Only the node
    /// of its connection tells of it.
    AckDelayed {
        /// How many are in flight.
        stanzas: u32,
    },
    /// The session is over.
    Ended(EndReason),
    /// Messages wait for the account's next session that did not before, or a session has begun to read those that
    /// waited. The notice's session is the one that ended, or reads.
    MarkerMoved {
        /// Messages wait again.
        back: bool,
        /// How many.
        messages: u32,
    },
    /// The account has limits of its own from now on, or no longer.
    LimitsSet,
}

#[cfg(test)]
mod tests {
    use proto::stanza::MessageType;

    use super::super::stage::{Stage, message, owner};
    use super::*;
    use crate::id::{NodeId, Owner};
    use crate::session::{Action, Command, Relay, Resume};

    const ALICE: &str = "alice@example.org/a";
    const BOB: &str = "bob@example.org/b";

    fn pair() -> Stage {
        let mut stage = Stage::new();
        stage.bind(ALICE, None);
        stage.resumable(BOB, Some(0));
        stage.notices.clear();
        stage
    }

    #[track_caller]
    fn told(stage: &mut Stage, expect: &[SessionEvent]) {
        let told: Vec<_> = stage.notices.drain(..).map(|n| n.what).collect();
        assert_eq!(told, expect);
    }

    #[test]
    fn a_session_that_sleeps_and_wakes_is_told_of_with_the_node_it_wakes_on() {
        for (node, across) in [(1, false), (2, true)] {
            let mut stage = pair();
            stage.lose(BOB);
            let until = stage.now + 300_000;
            told(&mut stage, &[SessionEvent::HibernationStart { until }]);
            let resume = Resume {
                account: super::super::stage::jid(BOB).bare(),
                smid: SmId(BOB.into()),
                h: 0,
                owner: Owner {
                    node: NodeId(node),
                    ..owner(9)
                },
            };
            stage.apply(Command::Resume(resume.clone()));
            stage.apply(Command::Resume(resume));
            told(&mut stage, &[SessionEvent::HibernationEnd { across }]);
        }
    }

    #[test]
    fn what_is_queued_is_told_only_of_sessions_that_sleep() {
        let mut stage = pair();
        let sent = |mid| {
            let sent = message(MessageType::Chat, ALICE, "bob@example.org", mid);
            (sent.mid, Action::Send(Relay::Message(sent)))
        };
        stage.act(ALICE, sent(1).1);
        told(&mut stage, &[]);
        stage.lose(BOB);
        stage.notices.clear();
        let (mid, send) = sent(2);
        stage.act(ALICE, send);
        let queued = SessionEvent::StanzaQueued {
            mid: Some(mid),
            important: true,
        };
        told(&mut stage, &[queued]);
    }

    #[test]
    fn an_end_is_told_of_with_its_reason_and_never_twice() {
        let mut stage = pair();
        let end = Command::End {
            session: super::super::stage::jid(BOB),
            epoch: None,
            reason: EndReason::Admin,
        };
        stage.apply(end.clone());
        stage.apply(end);
        told(&mut stage, &[SessionEvent::Ended(EndReason::Admin)]);
    }
}
