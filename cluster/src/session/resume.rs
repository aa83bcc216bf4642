//! A session changes hands (XEP-0198 §5).

use proto::sm::CountTooHigh;
use proto::{BareJid, Jid};
use serde::{Deserialize, Serialize};

use super::command::{Outcome, Resume};
use super::output::{Detached, Event};
use super::reason::EndReason;
use super::session::Session;
use super::state::ShardState;
use super::step::Step;
use crate::id::{Epoch, SmId};

/// There is nothing to resume under an identifier (SM-47).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("there is no such session")]
pub struct NotResumable {
    /// The inbound count of the session that was there, if it is still known.
    pub h: Option<u32>,
}

impl ShardState {
    /// Checks everything first; a refusal changes nothing.
    pub(super) fn resume(&mut self, resume: Resume, step: &mut Step) -> Outcome {
        let jid = match self.resumable(&resume.account, &resume.smid) {
            Ok(jid) => jid,
            Err(NotResumable { h }) => return Outcome::NotResumed { h },
        };
        let Some(session) = self.session_mut(&jid) else {
            return Outcome::NotResumed { h: None };
        };
        if session.owner() == Some(resume.owner) {
            return Outcome::Resumed {
                session: jid,
                epoch: session.epoch(),
            };
        }
        let upto = match session.covered(resume.h) {
            Ok(upto) => upto,
            // From a connection that another has overtaken meanwhile: no reason to end what that one holds.
            Err(CountTooHigh { h, sent }) if session.is_behind(resume.h) => {
                return Outcome::CountTooHigh { h, sent };
            }
            Err(CountTooHigh { h, sent }) => {
                self.end(&jid, EndReason::Violation, step);
                return Outcome::CountTooHigh { h, sent };
            }
        };
        self.trim_queue(&jid, upto, step);
        let epoch = self.take_epoch();
        self.take_over(&jid, epoch, &resume, step);
        // What other sessions did not take may wait since nobody else was there.
        if self.session(&jid).is_some_and(Session::is_non_negative) {
            self.take_undelivered(&jid, step);
        }
        self.refill(&jid, step);
        Outcome::Resumed {
            session: jid,
            epoch,
        }
    }

    /// The session of this account that may be resumed under the identifier.
    ///
    /// # Errors
    ///
    /// There is none (SM-47).
    pub fn resumable(&self, account: &BareJid, smid: &SmId) -> Result<Jid, NotResumable> {
        let known = self.account(account);
        known.resumable(account, smid).ok_or_else(|| NotResumable {
            h: known.old.h(smid, self.time()),
        })
    }

    /// The session changes hands: the old owner hears of it, the new one gets what is unacknowledged.
    fn take_over(&mut self, jid: &Jid, epoch: Epoch, resume: &Resume, step: &mut Step) {
        if let Some(session) = self.session(jid) {
            step.tell_owner(jid, session, Event::Detached(Detached::Resumed));
        }
        let slept = self.attach(jid, resume.owner);
        let Some(session) = self.session_mut(jid) else {
            return;
        };
        session.begin(epoch);
        session.queue.hand_over();
        let mut tell = |event| step.tell(resume.owner, jid, epoch, event);
        if let Some(resumed) = session.resumed() {
            tell(Event::Resumed(resumed));
        }
        for (seq, item) in session.queue.numbered() {
            tell(Event::Stanza {
                seq,
                item: item.clone(),
            });
        }
        self.note_here(jid);
        let before = slept.map(|slept| slept.node);
        step.notice_wake(jid, &resume.smid, (before, resume.owner.node));
    }
}
