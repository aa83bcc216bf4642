//! What leaves the shard with an entry, collected in one place while the entry is applied.

use proto::{BareJid, Jid};

use super::audit::Dissent;
use super::command::Outcome;
use super::notice::{Notice, SessionEvent};
use super::output::{Event, Output};
use super::session::{Session, Sm};
use crate::id::{Epoch, NodeId, Owner, SmId};

/// Sessions that an entry ends or gives up at most, because their time is over or their node is gone. The
/// next entries do the rest, so that no other waits for a mass of them. In tests each entry leaves a rest.
pub(super) const SLICE: usize = if cfg!(test) { 1 } else { 500 };

/// What follows from one entry.
#[derive(Debug, Default)]
pub struct Applied {
    /// One for each command, in order.
    pub outcomes: Vec<Outcome>,
    /// For the owners of sessions, in order.
    pub outputs: Vec<Output>,
    /// What happened to sessions, in order.
    pub notices: Vec<Notice>,
    /// Replicas whose hash differs from that of this one.
    pub dissents: Vec<Dissent>,
}

/// Collects what follows from the entry that is being applied.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// When the entry was made, by its leader's clock.
    now: u64,
    outputs: Vec<Output>,
    notices: Vec<Notice>,
    dissents: Vec<Dissent>,
    /// Sessions that the command which is being applied has given too much.
    overflown: Vec<Jid>,
}

impl Step {
    /// Nothing has followed yet from an entry that was made at `now`.
    pub(super) fn new(now: u64) -> Self {
        Self {
            now,
            ..Self::default()
        }
    }

    pub(super) fn applied(self, outcomes: Vec<Outcome>) -> Applied {
        Applied {
            outcomes,
            outputs: self.outputs,
            notices: self.notices,
            dissents: self.dissents,
        }
    }

    /// Tells the connection that acts for a session in this epoch.
    pub(super) fn tell(&mut self, owner: Owner, session: &Jid, epoch: Epoch, event: Event) {
        self.outputs.push(Output {
            owner,
            session: session.clone(),
            epoch,
            event,
        });
    }

    /// Tells whoever acts for the session, if anybody does.
    pub(super) fn tell_owner(&mut self, jid: &Jid, session: &Session, event: Event) {
        if let Some(owner) = session.owner() {
            self.tell(owner, jid, session.epoch(), event);
        }
    }

    pub(super) fn dissent(&mut self, dissent: Dissent) {
        self.dissents.push(dissent);
    }

    /// A session holds more than anything can stand for: it ends after the command that is being applied, because
    /// others are in the middle of it.
    pub(super) fn overflow(&mut self, session: &Jid) {
        if !self.overflown.contains(session) {
            self.overflown.push(session.clone());
        }
    }

    /// Takes one of the sessions that are to end.
    pub(super) fn take_overflown(&mut self) -> Option<Jid> {
        self.overflown.pop()
    }

    /// Tells of something that happened to a session.
    pub(super) fn notice(&mut self, session: &Jid, smid: Option<SmId>, what: SessionEvent) {
        self.notices.push(Notice {
            session: session.clone(),
            smid,
            at: self.now,
            what,
        });
    }

    /// Tells of a marker that has moved by so many messages, if it has.
    pub(super) fn notice_marker(&mut self, session: &Jid, back: bool, messages: usize) {
        if messages > 0 {
            let messages = u32::try_from(messages).unwrap_or(u32::MAX);
            self.notice(session, None, SessionEvent::MarkerMoved { back, messages });
        }
    }

    /// Tells of a session that has just lost its connection.
    pub(super) fn notice_sleep(&mut self, session: &Jid, sm: &Sm) {
        let until = self.now + sm.hibernation();
        let what = SessionEvent::HibernationStart { until };
        self.notice(session, sm.smid.clone(), what);
    }

    /// Tells of a session that goes on at `node`; `before` is where it was, if it hibernated.
    pub(super) fn notice_wake(
        &mut self,
        session: &Jid,
        smid: &SmId,
        (before, node): (Option<NodeId>, NodeId),
    ) {
        if let Some(before) = before {
            let across = before != node;
            let what = SessionEvent::HibernationEnd { across };
            self.notice(session, Some(smid.clone()), what);
        }
    }

    /// Tells of an account whose limits have changed.
    pub(super) fn notice_limits(&mut self, account: &BareJid) {
        self.notice(&account.into(), None, SessionEvent::LimitsSet);
    }
}
