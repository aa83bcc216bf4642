//! How a simulated connection comes to its session: the steps of the negotiation are carried out.

use std::time::Duration;

use super::{Around, Conn, Link, Phase, SETTINGS};
use crate::connection::negotiation::{Step, Verdict};
use crate::connection::rate::Answers;
use crate::connection::{Connection, Opening};
use crate::session::simulation::client::Down;
use crate::session::simulation::mutant::Mutant;
use crate::session::{Event, Outcome};

impl Conn {
    /// Carries out the steps to a session, one after the other.
    pub(super) fn negotiate(&mut self, around: &Around<'_>) -> Result<(), String> {
        let shard = &around.shards[usize::from(self.shard.0)];
        let replica = self.replica(around);
        while let Phase::Negotiating(_) = &self.phase {
            let Phase::Negotiating(step) = std::mem::replace(&mut self.phase, Phase::Greeted)
            else {
                break;
            };
            self.phase = Phase::Negotiating(match step {
                Step::Sessions(claim) => claim.sessions(&replica.sessions(&self.account)),
                Step::TakeOver(rival) => rival.answered(true),
                Step::Look(look) => {
                    let old = replica.resumable(&self.account, look.smid());
                    look.seen(old)
                }
                Step::Confirm(confirm) => {
                    let asked = match around.mutant {
                        Mutant::ResumeFromLocalRead => replica,
                        _ => shard.state(),
                    };
                    let old = asked.resumable(&self.account, confirm.smid());
                    confirm.seen(old)
                }
                Step::Enter(enter) => enter.entered(self.owner),
                Step::Propose(proposal) => {
                    self.commands.push(proposal.command());
                    self.phase = Phase::Proposed(proposal);
                    break;
                }
                Step::Await(granted) => {
                    let (session, epoch) = granted.what();
                    let read = replica.opened(session, epoch).filter(|_| self.skipped);
                    let heard = || Some(self.mail.pop_front()?.event);
                    let Some(first) = read.or_else(heard) else {
                        self.phase = Phase::Negotiating(Step::Await(granted));
                        break;
                    };
                    self.next = first_number(&first);
                    granted.first(Some(first))
                }
                Step::Delay(delay) => delay.answered(Some(Duration::ZERO)),
                Step::Over(verdict) => {
                    self.negotiated(*verdict, around)?;
                    break;
                }
            });
        }
        Ok(())
    }

    /// What the machine of the stream and the node do about it.
    fn negotiated(&mut self, verdict: Verdict, around: &Around<'_>) -> Result<(), String> {
        match verdict {
            Verdict::Bound(opening) => {
                self.down.push_back(Down::Bound);
                self.begin(opening, around)
            }
            Verdict::Resumed { opening, h } => {
                self.down.push_back(Down::Resumed { h });
                self.begin(opening, around)
            }
            // Another has it already.
            Verdict::Unseen(last) => {
                self.commands.push(last);
                self.phase = Phase::Over {
                    lost: Some(around.now),
                };
                Ok(())
            }
            Verdict::NotResumed { failed, .. } => {
                self.down.push_back(Down::Failed { h: failed.h });
                Ok(())
            }
            // A connection that another has overtaken. That the session goes on is looked at elsewhere.
            Verdict::TooHigh(_) if self.link != Link::Whole => {
                self.phase = Phase::Over { lost: None };
                Ok(())
            }
            Verdict::TooHigh(wrong) => {
                let (h, sent) = (wrong.h, wrong.sent);
                Err(format!(
                    "an honest client's {h} is refused, {sent} were sent (I-1)"
                ))
            }
            other => Err(format!("unexpected verdict {other:?}")),
        }
    }

    fn begin(&mut self, opening: Opening, around: &Around<'_>) -> Result<(), String> {
        let (boot, conn) = (self.owner.boot.0, self.owner.conn.0);
        let mut count = 0;
        let names = Box::new(move |_| {
            count += 1;
            format!("{boot}-{conn}-{count}")
        });
        let answers = Answers::new(0, Duration::ZERO);
        let connection = Connection::new(opening, SETTINGS, answers, names, 0);
        self.phase = Phase::Live(around.now, Box::new(connection));
        if std::mem::take(&mut self.skipped) {
            self.resync(around)?;
        }
        for output in std::mem::take(&mut self.mail) {
            self.output(output, around)?;
        }
        Ok(())
    }

    /// What the shard says of what was proposed for a session.
    pub(super) fn opened(&mut self, outcome: Outcome) {
        match std::mem::replace(&mut self.phase, Phase::Greeted) {
            Phase::Proposed(proposal) => {
                self.phase = Phase::Negotiating(proposal.decided(outcome));
            }
            other => self.phase = other,
        }
    }
}

/// The number of the first stanza behind what opens a session.
fn first_number(event: &Event) -> u64 {
    match event {
        Event::Resumed(resumed) => resumed.next_out,
        _ => 1,
    }
}
