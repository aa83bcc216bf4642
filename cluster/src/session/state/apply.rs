//! The one way into a shard: an entry goes in, what follows from it comes out.

use super::ShardState;
use crate::format::Version;
use crate::session::audit::Claim;
use crate::session::command::{Batch, Command, Outcome};
use crate::session::reason::EndReason;
use crate::session::step::{Applied, SLICE, Step};

impl ShardState {
    /// Applies one entry. Deterministic: equal states and entries give equal states and results.
    pub fn apply(&mut self, batch: Batch) -> Applied {
        self.clock.advance(batch.now);
        let mut step = Step::new(batch.now);
        self.fan.begin();
        self.fan_on(&mut step);
        self.expire(&mut step);
        self.revise(&mut step);
        self.resume_farewells();
        self.end_overflown(&mut step);
        let mut outcomes = Vec::with_capacity(batch.commands.len());
        for command in batch.commands {
            outcomes.push(self.command(command, &mut step));
            self.end_overflown(&mut step);
        }
        self.fan.end();
        step.applied(outcomes)
    }

    /// Applies an entry that was written in this version.
    pub(crate) fn apply_as(&mut self, version: Version, batch: Batch) -> Applied {
        self.format = self.format.max(version);
        let applied = self.apply(batch);
        if version >= Version::V2 {
            self.hash(&applied);
        }
        applied
    }

    fn command(&mut self, command: Command, step: &mut Step) -> Outcome {
        match command {
            Command::Bind(bind) => self.bind(bind, step),
            Command::Enable(enable) => self.enable(enable, step),
            Command::Resume(resume) => self.resume(resume, step),
            Command::Inbound(inbound) => self.inbound(inbound, step),
            Command::Acknowledge(ack) => self.acknowledge(&ack, step),
            Command::Lost { session, epoch } => self.lost(&session, epoch, step),
            Command::Overdue { session, epoch } => self.overdue(&session, epoch),
            Command::End {
                session,
                epoch,
                reason,
            } => self.end_by(&session, epoch, reason, step),
            Command::NodeLost { node, alive } => self.node_lost(node, alive, step),
            Command::Relay { from, first, items } => self.relayed(from, first, items, step),
            Command::SetLimits { account, limits } => self.set_limits(&account, limits, step),
            Command::Trim { to, upto } => {
                self.outboxes.trim(to, upto);
                Outcome::Done
            }
            Command::Done(completed) => {
                for completed in completed {
                    self.completed(completed, step);
                }
                Outcome::Done
            }
            Command::Tick => Outcome::Done,
            Command::Settings(settings) => self.set_settings(settings, step),
            Command::DoneInPart { part, rest } => {
                self.completed_in_part(part, rest, step);
                Outcome::Done
            }
            Command::ReadBlocklist { account } => {
                self.read_blocklist(&account);
                Outcome::Done
            }
            Command::ArchiveStated { account } => {
                self.account_or_new(account).archive_stated = true;
                Outcome::Done
            }
            Command::Open(open) => self.open(open, step),
            Command::Send { relays } => self.send_all(relays, step),
            Command::Forget { account } => self.forget_account(&account, step),
            Command::Broadcast { id, packet } => {
                self.spread_broadcast(id, &packet, step);
                Outcome::Done
            }
            Command::Retire { node } => {
                self.retired.note(node);
                Outcome::Done
            }
            Command::Compare { node, at, hash } => match self.audit.claim(node, at, hash) {
                Claim::Unknown => Outcome::Stale,
                Claim::Same => Outcome::Done,
                Claim::Different(dissent) => {
                    step.dissent(dissent);
                    Outcome::Done
                }
            },
        }
    }

    /// Ends what is over by the shard's time, a slice of it. While the first deadline has passed the leader
    /// proposes the next entry at once.
    fn expire(&mut self, step: &mut Step) {
        let time = self.clock.time();
        for _ in 0..SLICE {
            let Some((until, jid)) = self.deadlines.due(time) else {
                break;
            };
            if self.wake_patient(&jid) {
                continue;
            }
            self.deadlines.cancel(until, jid.clone());
            self.end(&jid, EndReason::Expired, step);
        }
        for _ in 0..SLICE {
            let Some((until, account)) = self.forgets.due(time) else {
                break;
            };
            self.forgets.cancel(until, account.clone());
            self.change_old(&account, |old| old.forget_until(time));
            self.tidy(&account);
        }
    }

    /// Takes into the hash what an entry has brought about.
    fn hash(&mut self, applied: &Applied) {
        let every = u64::from(self.settings.compared_after);
        if every == 0 {
            return;
        }
        let numbers = [
            self.clock.now(),
            self.clock.time().millis(),
            self.users.len() as u64,
            self.deadlines.len() as u64,
            self.effects.len() as u64,
            self.backlog(),
        ];
        let numbers = numbers.into_iter().chain(self.numbers.all());
        let is_due = self
            .audit
            .add(every, numbers, &applied.outcomes, &applied.outputs);
        if is_due {
            self.audit.add_checkpoint(&self.users);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::id::{NodeId, ShardId};

    #[test]
    fn m_13_a_node_that_is_given_up_stays_so_however_often_that_is_said() {
        let mut state = ShardState::new(ShardId(0), 3);
        for now in 1..3 {
            let commands = vec![Command::Retire { node: NodeId(7) }];
            let applied = state.apply(Batch { now, commands });
            assert_eq!(applied.outcomes, [Outcome::Done]);
            assert_eq!(state.retired(), BTreeSet::from([NodeId(7)]));
        }
    }
}
