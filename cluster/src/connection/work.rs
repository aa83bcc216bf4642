//! The jobs of a connection, one at a time, and what comes of them.

use std::time::Duration;

use super::Connection;
use super::inbox::{Job as Next, Work};
use super::request::{Failure, Request};
use super::state::{Handling, Job, State};
use crate::id::SmId;
use crate::session::{Action, Command, Enable, EndReason, Inbound, Outcome};

/// How often a proposal is made before the connection is given up; each try waits as long as it may.
const TRIES: u32 = 3;

impl Connection {
    /// What was asked by [`Request::Resolve`] is found out. These stanzas are left over, as those before them are
    /// enough for one command: they go first in the next one.
    pub fn resolved(&mut self, left: impl DoubleEndedIterator<Item = Work>) {
        if let Some(job @ Job::Resolving) = self.state.job_mut() {
            *job = Job::Held;
            self.inbox.put_back(left);
        }
    }

    /// There is room for what follows from the stanzas. To be proposed at once; the outcome goes to
    /// [`Connection::handled`].
    pub fn admitted(&mut self, stanzas: Vec<Vec<Action>>) -> Option<Command> {
        let inbound = Inbound {
            session: self.session.clone(),
            epoch: self.epoch,
            first: self.incoming.next(),
            stanzas,
        };
        let job = self.state.job_mut();
        let job = job.filter(|job| matches!(job, Job::Held))?;
        let actions = inbound.stanzas.iter().flatten();
        let answered = actions.map(Action::answer_size).sum();
        let command = Command::Inbound(inbound.clone());
        *job = Job::Handling(Handling {
            inbound,
            tries: 1,
            answered,
        });
        Some(command)
    }

    /// What became of stanzas. Returns what is to be proposed again: a repeat does nothing twice.
    pub fn handled(&mut self, now: u64, outcome: Result<Outcome, Failure>) -> Option<Command> {
        let job = self.state.job_mut()?;
        let Job::Handling(handling) = job else {
            return None;
        };
        if outcome == Err(Failure::Unavailable) && handling.tries < TRIES {
            handling.tries += 1;
            return Some(Command::Inbound(handling.inbound.clone()));
        }
        let answered = handling.answered;
        let pause = self.answers.spend(answered, Duration::from_millis(now));
        *job = pause.map_or(Job::None, |pause| Job::Resting(now + ceil(pause)));
        // What it sent while it was held is read only from now on.
        self.liveness.heard(now);
        match outcome {
            Ok(Outcome::Handled { next }) => self.incoming.handled(next),
            Ok(Outcome::Stale) => self.stale(now),
            // A gap means that a stanza of ours is missing in the shard: the client has to send it again.
            _ => self.give_up(),
        }
        None
    }

    /// What became of `<enable/>`.
    pub fn enable_decided(&mut self, now: u64, outcome: Result<Outcome, Failure>) {
        match outcome {
            // The rest follows when the output comes: until then `<r/>` and stanzas wait.
            Ok(Outcome::Done) => {}
            Ok(Outcome::Stale) => self.stale(now),
            _ => {
                // Its output may have come before: then it took effect, whatever the answer says.
                if let Some(job @ Job::Enabling { .. }) = self.state.job_mut() {
                    *job = Job::None;
                    self.request(Request::EnableFailed);
                }
            }
        }
    }

    /// Begins the next job, and all that needs no waiting.
    pub(super) fn work(&mut self) {
        while let Some(Job::None) = self.state.job() {
            if let State::Leaving(_) = self.state {
                self.go();
                break;
            }
            let Some(next) = self.inbox.job() else {
                break;
            };
            match next {
                Next::Stanzas(stanzas) => {
                    self.begin(Job::Resolving);
                    self.request(Request::Resolve(stanzas));
                }
                Next::One(Work::Enable { resume, max }) => self.enable(resume, max),
                Next::One(Work::AckRequest(_)) => self.answer(),
                Next::One(Work::Closed) => self.close(),
                Next::One(Work::Violation) => self.end(EndReason::Violation),
                Next::One(Work::Lost) => self.lost(),
                Next::One(Work::Nothing | Work::Stanza(_) | Work::Answer(_)) => {}
            }
        }
        let taken = self.inbox.taken();
        if taken > 0 {
            self.request(Request::Taken(taken));
        }
    }

    fn begin(&mut self, job: Job) {
        if let Some(now) = self.state.job_mut() {
            *now = job;
        }
    }

    fn enable(&mut self, resume: bool, max: Option<u32>) {
        let cap = self.settings.hibernation;
        let after = self.incoming.next() - 1;
        self.begin(Job::Enabling { after });
        let smid = (resume && cap > 0).then(|| SmId((self.names)(128).into()));
        self.request(Request::Enable(Enable {
            session: self.session.clone(),
            epoch: self.epoch,
            after,
            smid,
            max: max.map_or(cap, |wish| wish.min(cap)),
            seed: self.settings.first_count,
        }));
    }

    /// `<enabled/>` was written.
    pub(super) fn enabled(&mut self, seed: u32) {
        if let Some(job @ Job::Enabling { .. }) = self.state.job_mut()
            && let Job::Enabling { after } = std::mem::replace(job, Job::None)
        {
            self.incoming.enable(after, seed);
            self.work();
        }
    }
}

/// Whole milliseconds, and no less.
fn ceil(pause: Duration) -> u64 {
    let millis = pause.as_nanos().div_ceil(1_000_000);
    u64::try_from(millis).unwrap_or(u64::MAX)
}
