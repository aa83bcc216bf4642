//! How sessions begin, change hands, sleep and end.

use std::collections::BTreeMap;

use proto::{BareJid, Jid};

use super::command::*;
use super::state::{Fetching, Hibernation, Session, ShardState, Sm};
use crate::id::{BootId, NodeId, Owner, SmId};

impl ShardState {
    pub(super) fn bind(&mut self, bind: Bind, out: &mut Vec<Output>) -> Outcome {
        if let Some(held) = self.session(&bind.session) {
            if held.owner == Some(bind.owner) {
                return Outcome::Bound { epoch: held.epoch };
            }
            self.end(&bind.session, EndReason::Conflict, out);
        }
        let (account, Some(resource)) = (bind.session.bare(), bind.session.resource()) else {
            return Outcome::Stale;
        };
        let limit = self.settings.sessions_per_account as usize;
        let count = self.users.get(&account).map_or(0, |u| u.sessions.len());
        if limit != 0 && count >= limit {
            return Outcome::TooManySessions;
        }
        let epoch = self.take_epoch();
        let user = self.users.entry(account).or_default();
        user.sessions
            .insert(resource.into(), Session::new(bind.owner, epoch));
        out.push(Output {
            owner: bind.owner,
            session: bind.session,
            epoch,
            event: Event::Bound,
        });
        Outcome::Bound { epoch }
    }

    pub(super) fn enable(&mut self, enable: Enable, out: &mut Vec<Output>) -> Outcome {
        let Some(session) = self.owned(&enable.session, enable.epoch) else {
            return Outcome::Stale;
        };
        if session.sm.is_some() {
            return Outcome::Done;
        }
        let start = session.next_out();
        session.sm = Some(Sm {
            smid: enable.smid.clone(),
            after: enable.after,
            start,
            seed: enable.seed,
            max: enable.max,
        });
        let event = Event::Enabled {
            smid: enable.smid,
            max: enable.max,
            next: start,
            seed: enable.seed,
        };
        out.extend(session.owner.map(|owner| Output {
            owner,
            session: enable.session,
            epoch: enable.epoch,
            event,
        }));
        Outcome::Done
    }

    /// Checks everything first; a refusal changes nothing (design §5).
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
            Err(sent) => {
                self.end(&jid, EndReason::Violation, out);
                return Outcome::CountTooHigh { h: resume.h, sent };
            }
        };
        self.trim_queue(&jid, upto);
        let epoch = self.take_epoch();
        self.take_over(&jid, epoch, &resume, out);
        Outcome::Resumed {
            session: jid,
            epoch,
        }
    }

    fn resumable(&self, account: &BareJid, smid: &SmId) -> Option<Jid> {
        let user = self.users.get(account)?;
        let (resource, _) = user
            .sessions
            .iter()
            .find(|(_, s)| s.sm.as_ref().and_then(|sm| sm.smid.as_ref()) == Some(smid))?;
        Some(account.with_prepared_resource(resource))
    }

    fn old_h(&self, account: &BareJid, smid: &SmId) -> Option<u32> {
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
        if let Some(slept) = slept {
            self.deadlines.remove(&(slept.until, jid.clone()));
        }
    }

    pub(super) fn acknowledge(&mut self, ack: &Acknowledge) -> Outcome {
        let Some(session) = self.owned(&ack.session, ack.epoch) else {
            return Outcome::Stale;
        };
        let upto = ack.upto.min(session.sent);
        self.trim_queue(&ack.session, upto);
        Outcome::Done
    }

    pub(super) fn lost(&mut self, jid: &Jid, epoch: u64, out: &mut Vec<Output>) -> Outcome {
        if self.owned(jid, epoch).is_none() {
            return Outcome::Stale;
        }
        self.drop_owner(jid, out);
        Outcome::Done
    }

    pub(super) fn end_by(
        &mut self,
        jid: &Jid,
        epoch: Option<u64>,
        reason: EndReason,
        out: &mut Vec<Output>,
    ) -> Outcome {
        match self.session(jid) {
            Some(session) if epoch.is_none_or(|epoch| epoch == session.epoch) => {
                self.end(jid, reason, out);
                Outcome::Done
            }
            _ => Outcome::Stale,
        }
    }

    pub(super) fn node_lost(
        &mut self,
        node: NodeId,
        alive: Option<BootId>,
        out: &mut Vec<Output>,
    ) -> Outcome {
        let gone = |owner: Owner| owner.node == node && Some(owner.boot) != alive;
        let mut lost = Vec::new();
        for (account, user) in &self.users {
            for (resource, session) in &user.sessions {
                if session.owner.is_some_and(gone) {
                    lost.push(account.with_prepared_resource(resource));
                }
            }
        }
        for jid in lost {
            if let Some((owner, epoch)) = self.session(&jid).and_then(|s| Some((s.owner?, s.epoch)))
            {
                out.push(Output {
                    owner,
                    session: jid.clone(),
                    epoch,
                    event: Event::Detached(Detached::Fenced),
                });
            }
            self.drop_owner(&jid, out);
        }
        Outcome::Done
    }

    /// The connection is gone: the session hibernates if it may be resumed, else it is over.
    fn drop_owner(&mut self, jid: &Jid, out: &mut Vec<Output>) {
        let (epoch, time) = (self.take_epoch(), self.time);
        let Some(session) = self.session_mut(jid) else {
            return;
        };
        session.owner = None;
        session.epoch = epoch;
        let seconds = session.sm.as_ref().map_or(0, |sm| u64::from(sm.max));
        if !session.is_resumable() {
            self.end(jid, EndReason::Lost, out);
            return;
        }
        let until = time + seconds * 1000;
        session.hibernation = Some(Hibernation { since: time, until });
        self.deadlines.insert((until, jid.clone()));
        self.enforce_limit(&jid.bare(), out);
    }

    /// Ends the account's oldest hibernated sessions beyond the limit, in full.
    fn enforce_limit(&mut self, account: &BareJid, out: &mut Vec<Output>) {
        let limit = self.settings.max_hibernated_sessions as usize;
        while let Some(user) = self.users.get(account) {
            let sleeping = user
                .sessions
                .iter()
                .filter_map(|(r, s)| Some((s.hibernation?.since, s.epoch, r)));
            if sleeping.clone().count() <= limit {
                return;
            }
            let Some(jid) = sleeping
                .min()
                .map(|(_, _, r)| account.with_prepared_resource(r))
            else {
                return;
            };
            self.end(&jid, EndReason::Limit, out);
        }
    }

    /// Forgets stanzas below `upto`, which the client has.
    pub(super) fn trim_queue(&mut self, jid: &Jid, upto: u64) {
        let Some(session) = self.session_mut(jid) else {
            return;
        };
        let mut received = Vec::new();
        while session.base < upto {
            let Some(item) = session.queue.pop_front() else {
                break;
            };
            session.base += 1;
            if item.mid.is_some() && (item.shared || (item.offline && !item.archived)) {
                received.push(item);
            }
        }
        let account = jid.bare();
        let mut hidden = Vec::new();
        for item in received {
            let Some(mid) = item.mid else { continue };
            if item.offline && !item.archived {
                hidden.push(mid);
            }
            if item.shared {
                self.release_shared(&account, mid, true);
            }
        }
        if !hidden.is_empty() {
            self.add_effect(Effect::Forget {
                account,
                mids: hidden,
            });
        }
    }

    /// Starts reading back what waited for the account, for this session (IM-61).
    pub(super) fn fetch_undelivered(&mut self, jid: &Jid) {
        let account = jid.bare();
        let Some(user) = self.users.get_mut(&account) else {
            return;
        };
        let aware = jid
            .resource()
            .and_then(|r| user.sessions.get(r))
            .is_some_and(|s| s.archive_aware);
        let mut waiting: BTreeMap<u64, _> = std::mem::take(&mut user.undelivered);
        if aware {
            waiting.retain(|_, w| w.hidden);
        }
        if waiting.is_empty() {
            return;
        }
        let mids = waiting.values().map(|w| w.mid).collect();
        let effect = self.add_effect(Effect::Fetch {
            session: jid.clone(),
            mids,
        });
        if let Some(session) = self.session_mut(jid) {
            session.fetching = Some(Fetching {
                effect,
                waiting,
                held: Default::default(),
            });
        }
    }
}

impl Session {
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
