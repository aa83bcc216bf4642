//! Connections in the simulation: what a node does for one of them, which is to carry the machines that decide.
//!
//! A stream is abstracted to what goes over it: [`Up`] in the one direction, elements as they are written in the other.

mod opening;

use std::collections::{BTreeSet, VecDeque};

use proto::{BareJid, Element, ns};

use super::client::{Down, SEED, Up};
use super::mutant::Mutant;
use super::shards::Shard;
use super::stanzas::{is_numbered, read, resolve, said};
use super::world::sources::source;
use crate::connection::liveness::Times;
use crate::connection::negotiation::{self, Proposal, Step};
use crate::connection::{Connection, Failure, Moment, Reason, Request, Settings, Stop};
use crate::id::{Owner, ShardId};
use crate::session::{Command, Event, Outcome, Output, ShardState};

/// Hibernation time in the simulation, in seconds.
pub(super) const MAX: u32 = 60;

/// So many stanzas are as much as one command carries.
const BATCH: usize = 4;

const SETTINGS: Settings = Settings {
    times: Times {
        idle: 300_000,
        patience: 30_000,
        delay: 20_000,
        timeout: 60_000,
        unacked: 100,
    },
    hibernation: MAX,
    first_count: SEED,
};

/// What a node can look at.
pub(super) struct Around<'a> {
    pub(super) now: u64,
    pub(super) mutant: Mutant,
    pub(super) shards: &'a [Shard],
    pub(super) sources: &'a [usize],
    pub(super) accounts: &'a [BareJid],
}

/// The wire between a client and its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// It holds.
    Whole,
    /// The client's end is gone, and the node does not know yet.
    Cut,
    /// The node knows.
    Gone,
}

/// How far a connection has come.
enum Phase {
    /// Its client is to say what it wants.
    Greeted,
    /// It has to find something out.
    Negotiating(Step),
    /// What it needs is proposed.
    Proposed(Proposal),
    /// It acts for a session since that time.
    Live(u64, Box<Connection>),
    /// It does nothing any more.
    Over {
        /// When it was lost or given up, if it was: its session may hibernate since then.
        lost: Option<u64>,
    },
}

/// One connection.
pub(super) struct Conn {
    pub(super) owner: Owner,
    pub(super) client: usize,
    pub(super) account: BareJid,
    pub(super) shard: ShardId,
    pub(super) link: Link,
    pub(super) up: VecDeque<Up>,
    pub(super) down: VecDeque<Down>,
    /// What is to be proposed.
    pub(super) commands: Vec<Command>,
    /// An honest client's count was refused.
    pub(super) refused: Option<String>,
    phase: Phase,
    mail: VecDeque<Output>,
    /// The number of the next stanza that is written.
    next: u64,
    /// The numbers of those that waited somewhere before they came.
    late: BTreeSet<u64>,
    /// Outputs may have been skipped before there was a session.
    skipped: bool,
}

impl Conn {
    pub(super) fn new(
        owner: Owner,
        client: usize,
        (account, shard): (BareJid, ShardId),
        up: Vec<Up>,
    ) -> Self {
        Self {
            owner,
            client,
            account,
            shard,
            link: Link::Whole,
            up: up.into(),
            down: VecDeque::new(),
            commands: Vec::new(),
            refused: None,
            phase: Phase::Greeted,
            mail: VecDeque::new(),
            next: 1,
            late: BTreeSet::new(),
            skipped: false,
        }
    }

    /// It does nothing any more.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over { .. })
    }

    /// Nothing is on its way between the two.
    pub(super) fn is_quiet(&self) -> bool {
        self.up.is_empty() && self.down.is_empty()
    }

    /// When it was lost or given up, if it was.
    pub(super) fn lost(&self) -> Option<u64> {
        match self.phase {
            Phase::Over { lost } => lost,
            _ => None,
        }
    }

    /// It wants to be woken at that time.
    pub(super) fn wake(&self) -> Option<u64> {
        match &self.phase {
            Phase::Live(since, connection) => Some(since + connection.wake()?),
            _ => None,
        }
    }

    /// The machine and its time, once there is a session.
    fn live(&mut self, now: u64) -> Option<(&mut Connection, Moment)> {
        match &mut self.phase {
            Phase::Live(since, connection) => {
                let (now, pauses) = (now - *since, 0);
                Some((connection, Moment { now, pauses }))
            }
            _ => None,
        }
    }

    /// Reads what has come, and does what is due.
    pub(super) fn work(&mut self, around: &Around<'_>) -> Result<(), String> {
        while let Some(up) = self.up.pop_front() {
            match (&mut self.phase, up) {
                (Phase::Greeted, Up::Bind(jid)) => {
                    let wish = jid.resource().map(String::from);
                    let step = negotiation::bind(&self.account, wish, "spare");
                    self.phase = Phase::Negotiating(step);
                }
                (Phase::Greeted, Up::Resume { smid, h }) => {
                    let step = negotiation::resume(&self.account, smid, h);
                    self.phase = Phase::Negotiating(step);
                }
                (Phase::Live(since, connection), up) => {
                    let now = around.now - *since;
                    connection.heard(now);
                    let input = said(up).ok_or("a second session on one stream")?;
                    connection.input(now, input);
                }
                (Phase::Over { .. }, _) => {}
                (Phase::Greeted | Phase::Negotiating(_) | Phase::Proposed(_), up) => {
                    self.up.push_front(up);
                    break;
                }
            }
        }
        self.go_on(around)
    }

    /// The answer to a proposal.
    pub(super) fn decided(
        &mut self,
        command: &Command,
        outcome: Outcome,
        around: &Around<'_>,
    ) -> Result<(), String> {
        match (command, &outcome) {
            (Command::Bind(_) | Command::Resume(_), _) => self.opened(outcome),
            (Command::Inbound(_), Outcome::Handled { .. } | Outcome::Stale) => {
                let live = self.live(around.now);
                let again = live.and_then(|(machine, at)| machine.handled(at.now, Ok(outcome)));
                self.commands.extend(again);
            }
            (Command::Enable(_), Outcome::Done | Outcome::Stale) => {
                if let Some((connection, at)) = self.live(around.now) {
                    connection.enable_decided(at.now, Ok(outcome));
                }
            }
            (Command::Acknowledge(_) | Command::Lost { .. } | Command::End { .. }, _) => {}
            _ => return Err(format!("unexpected answer {outcome:?}")),
        }
        self.go_on(around)
    }

    /// Nobody answers what was proposed, in the time that there is.
    pub(super) fn unanswered(&mut self, around: &Around<'_>) -> Result<(), String> {
        let lost = Err(Failure::Unavailable);
        let live = self.live(around.now);
        let again = live.and_then(|(connection, at)| connection.handled(at.now, lost));
        self.commands.extend(again);
        self.go_on(around)
    }

    /// What the replica on this node says, in order.
    pub(super) fn output(&mut self, output: Output, around: &Around<'_>) -> Result<(), String> {
        if let Event::Stanza { seq, item } = &output.event
            && item.offline
        {
            self.late.insert(*seq);
        }
        match self.live(around.now) {
            Some((connection, moment)) => {
                connection.output(moment, output);
                self.carry_out(around)?;
            }
            None => self.mail.push_back(output),
        }
        self.go_on(around)
    }

    /// Outputs may have been skipped, as they come from another replica now.
    pub(super) fn resync(&mut self, around: &Around<'_>) -> Result<(), String> {
        match self.live(around.now) {
            Some((connection, _)) => connection.resync(),
            None => self.skipped = true,
        }
        self.go_on(around)
    }

    /// The replica from which its node hears of the shard.
    fn replica<'a>(&self, around: &Around<'a>) -> &'a ShardState {
        let node = self.owner.node.0 as usize;
        let shard = &around.shards[usize::from(self.shard.0)];
        shard.replica(source(around.sources, node, self.shard))
    }

    /// The node notices that the client is gone. Before there is a session it gives up, whatever is proposed.
    pub(super) fn gone(&mut self, around: &Around<'_>) -> Result<(), String> {
        match &mut self.phase {
            Phase::Live(_, connection) => connection.gone(),
            Phase::Over { .. } => {}
            phase => *phase = Phase::Over { lost: None },
        }
        self.go_on(around)
    }

    fn go_on(&mut self, around: &Around<'_>) -> Result<(), String> {
        self.negotiate(around)?;
        while let Some((connection, moment)) = self.live(around.now) {
            connection.settle(moment);
            if !self.carry_out(around)? {
                break;
            }
        }
        Ok(())
    }

    /// Carries out what the machine wants. True, if it was told something.
    fn carry_out(&mut self, around: &Around<'_>) -> Result<bool, String> {
        let mut told = false;
        while let Some((connection, _)) = self.live(around.now)
            && let Some(request) = connection.poll()
        {
            match request {
                Request::Write(bytes) => self.write(&bytes)?,
                Request::Report => {
                    connection.drained();
                    told = true;
                }
                Request::Taken(_) | Request::Note(_) => {}
                Request::Resolve(stanzas) => {
                    let mut left = stanzas.into_iter();
                    let session = connection.session().clone();
                    let first = left.by_ref().take(BATCH);
                    let actions = first.map(|work| resolve(&work, &session, around.accounts));
                    let actions = actions.collect();
                    connection.resolved(left);
                    let command = connection.admitted(actions);
                    if around.mutant == Mutant::EarlyAck {
                        connection.acknowledge_early();
                    }
                    self.commands.extend(command);
                    told = true;
                }
                Request::Read(from) => {
                    let (session, epoch) = (connection.session().clone(), connection.epoch());
                    let missed = self.replica(around).missed(&session, epoch, from);
                    let stanzas = missed.iter().flat_map(|missed| &missed.stanzas);
                    let offline = stanzas.filter(|(_, item)| item.offline);
                    self.late.extend(offline.map(|(seq, _)| *seq));
                    if let Some((connection, _)) = self.live(around.now) {
                        connection.missed(missed);
                    }
                    told = true;
                }
                Request::Enable(enable) => self.commands.push(Command::Enable(enable)),
                Request::Acknowledge(acknowledge) => {
                    self.commands.push(Command::Acknowledge(acknowledge));
                }
                Request::Propose(command) => self.commands.push(command),
                Request::Depart(farewell) => {
                    let acknowledge = Command::Acknowledge(farewell.acknowledge);
                    self.commands.extend([acknowledge, farewell.last]);
                }
                Request::Stop(stop) => self.stop(&stop),
                Request::Over(reason) => {
                    let lost = (reason == Reason::Lost).then_some(around.now);
                    self.phase = Phase::Over { lost };
                }
                other => return Err(format!("unexpected request {other:?}")),
            }
        }
        Ok(told)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let elements = Element::parse_in(ns::CLIENT, bytes);
        for element in elements.map_err(|error| format!("{error} in what is written"))? {
            let mut late = false;
            if is_numbered(&element) {
                late = self.late.remove(&self.next);
                self.next += 1;
            }
            self.down.push_back(read(&element, late)?);
        }
        Ok(())
    }

    fn stop(&mut self, stop: &Stop) {
        if let Stop::Fail(error) = stop {
            let judged = error.application.as_ref().and_then(judge_count);
            self.refused = self.refused.take().or(judged);
        }
    }
}

/// What is broken if an honest client's count is refused: it got what it was not sent, so something came twice, or it
/// is said to have what it did not get.
fn judge_count(application: &Element) -> Option<String> {
    let count = |name| application.attr(name)?.parse::<u32>().ok();
    let (h, sent) = (count("h")?, count("send-count")?);
    let ahead = h.wrapping_sub(sent);
    let broken = match ahead <= u32::MAX / 2 {
        true => "I-3",
        false => "I-1",
    };
    let what = format!("an honest client's {h} is refused, {sent} were sent ({broken})");
    Some(what)
}
