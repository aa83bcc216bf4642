//! A session changes hands (XEP-0198 §5).

use proto::{BareJid, Jid};

use super::state::{Session, ShardState};
use super::{Detached, EndReason, Event, Outcome, Output, Resume, Resumed};
use crate::id::SmId;

impl ShardState {
    /// Checks everything first; a refusal changes nothing.
    pub(super) fn resume(&mut self, resume: Resume, out: &mut Vec<Output>) -> Outcome {
        let Some(jid) = self.resumable(&resume.account, &resume.smid) else {
            return Outcome::NotResumed {
                h: self.old_h(&resume.account, &resume.smid),
            };
        };
        let Some(session) = self.session_mut(&jid) else {
            return Outcome::NotResumed { h: None };
        };
        if session.owner == Some(resume.owner) {
            return Outcome::Resumed {
                session: jid,
                epoch: session.epoch,
            };
        }
        let upto = match session.covered(resume.h) {
            Ok(upto) => upto,
            // From a connection that another has overtaken meanwhile: no reason to end what that one holds.
            Err(sent) if session.is_behind(resume.h) => {
                return Outcome::CountTooHigh { h: resume.h, sent };
            }
            Err(sent) => {
                self.end(&jid, EndReason::Violation, out);
                return Outcome::CountTooHigh { h: resume.h, sent };
            }
        };
        self.trim_queue(&jid, upto);
        let epoch = self.take_epoch();
        self.take_over(&jid, epoch, &resume, out);
        // What other sessions did not take may wait since nobody else was there.
        if self.session(&jid).is_some_and(Session::is_non_negative) {
            self.take_undelivered(&jid, out);
        }
        self.refill(&jid, out);
        Outcome::Resumed {
            session: jid,
            epoch,
        }
    }

    pub(super) fn resumable(&self, account: &BareJid, smid: &SmId) -> Option<Jid> {
        let user = self.users.get(account)?;
        let (resource, _) = user
            .sessions
            .iter()
            .find(|(_, s)| s.sm.as_ref().and_then(|sm| sm.smid.as_ref()) == Some(smid))?;
        Some(account.with_prepared_resource(resource))
    }

    pub(super) fn old_h(&self, account: &BareJid, smid: &SmId) -> Option<u32> {
        let user = self.users.get(account)?;
        user.old
            .iter()
            .find(|old| old.smid == *smid && old.until > self.time)
            .map(|old| old.h)
    }

    /// The session changes hands: the old owner hears of it, the new one gets what is unacknowledged.
    fn take_over(&mut self, jid: &Jid, epoch: u64, resume: &Resume, out: &mut Vec<Output>) {
        let Some(session) = self.session_mut(jid) else {
            return;
        };
        out.extend(session.owner.map(|owner| Output {
            owner,
            session: jid.clone(),
            epoch: session.epoch,
            event: Event::Detached(Detached::Resumed),
        }));
        session.epoch = epoch;
        session.owner = Some(resume.owner);
        session.sent = session.next_out();
        let slept = session.hibernation.take();
        let mut tell = |event| {
            out.push(Output {
                owner: resume.owner,
                session: jid.clone(),
                epoch,
                event,
            });
        };
        tell(Event::Resumed(Resumed {
            smid: resume.smid.clone(),
            h: session.h(),
            next_in: session.next_in,
            next_out: session.base,
            acked: resume.h,
            late: session.sent,
        }));
        for (seq, item) in (session.base..).zip(&session.queue) {
            tell(Event::Stanza {
                seq,
                item: item.clone(),
            });
        }
        self.note_here(jid);
        if let Some(slept) = slept {
            self.deadlines.remove(&(slept.until, jid.clone()));
        }
        let before = slept.map(|slept| slept.node);
        self.notice_wake(jid, &resume.smid, before, resume.owner.node);
    }
}

impl Session {
    /// The client has acknowledged more than `h` already.
    fn is_behind(&self, h: u32) -> bool {
        self.sm.as_ref().is_some_and(|sm| {
            let first = self.base.max(sm.start);
            let acknowledged = sm.seed.wrapping_add((first - sm.start) as u32);
            let lead = acknowledged.wrapping_sub(h);
            lead != 0 && u64::from(lead) <= first - sm.start
        })
    }

    /// The number below which everything is covered by the client's count `h`, or what was sent (SM-28).
    pub(super) fn covered(&self, h: u32) -> Result<u64, u32> {
        let Some(sm) = &self.sm else {
            return Err(0);
        };
        // What preceded `<enabled/>` on the stream was received if `<enabled/>` was.
        let first = self.base.max(sm.start);
        let acknowledged = sm.seed.wrapping_add((first - sm.start) as u32);
        let flight = self.sent.saturating_sub(first);
        let claimed = u64::from(h.wrapping_sub(acknowledged));
        if claimed > flight {
            return Err(acknowledged.wrapping_add(flight as u32));
        }
        Ok(first + claimed)
    }
}
