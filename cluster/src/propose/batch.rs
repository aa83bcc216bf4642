//! The task that turns waiting commands into entries. If this node leads the shard it proposes them, else it sends them
//! to the node that does.
//!
//! An entry costs the same whatever it carries. So a leader has one entry in flight, and its next entry takes all that
//! has arrived meanwhile. Other nodes send what they have to the leader in the same way, with a few calls under way at
//! a time. The order of one caller's commands is kept, because a caller has at most one under way.
//!
//! What fails goes back to the front and is tried again until its deadline, and at once when the leader changes. If
//! only the answer was lost the command is repeated, which does no harm.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::backlog::{Backlog, Mode, Rate, Submission};
use super::proposer::{Proposer, Refused, Unavailable};
use super::{
    DEADLINE, EncodedEntry, LINGER, Leadership, Response, ShardGroup, ShardRequest, Transport,
};
use crate::bound::TooLarge;
use crate::clock;
use crate::codec;
use crate::format::Version;
use crate::metrics::Hop;
use crate::session::{Batch, Command, Outcome, ShardState};
use crate::{NodeId, ShardId};

/// How many calls to the leader may be under way.
const CALLS: usize = 4;
/// How many of the calls may carry large commands, so that there is always one free for small ones.
const LARGE_CALLS: usize = 2;
/// How many commands are taken out of the queue in advance.
const READY: usize = 2048;
/// The pause after a leader has refused.
const PAUSE: Duration = Duration::from_millis(20);
/// How often deadlines are checked.
const CHECK: Duration = Duration::from_millis(100);

/// The task that empties one shard's [`Proposer`].
pub struct Batcher<G, C> {
    group: Arc<G>,
    transport: Arc<C>,
    formats: watch::Receiver<Version>,
    clock: fn() -> u64,
    inbox: mpsc::Receiver<Submission>,
    leadership: watch::Receiver<Leadership>,
    backlog: Backlog,
    rate: Rate,
    calls: JoinSet<Vec<Submission>>,
    not_before: Instant,
    check_at: Instant,
    /// The version for which commands were last refused: the log gets one line for it, not one for each command.
    refused: Option<Version>,
}

impl<G: ShardGroup, C: Transport> Batcher<G, C> {
    /// `formats` is the newest version of the formats that every member reads; `clock` this node's wall clock,
    /// in milliseconds since 1970.
    pub fn new(
        group: Arc<G>,
        transport: Arc<C>,
        formats: watch::Receiver<Version>,
        clock: fn() -> u64,
        inbox: mpsc::Receiver<Submission>,
    ) -> Self {
        let now = clock::timer();
        Self {
            leadership: group.leadership(),
            group,
            transport,
            formats,
            clock,
            inbox,
            backlog: Backlog::default(),
            rate: Rate::new(now),
            calls: JoinSet::new(),
            not_before: now,
            check_at: now,
            refused: None,
        }
    }

    /// Runs until all proposers are gone or the group is closed.
    pub async fn run(mut self) {
        while self.gather().await.is_some() {
            let leadership = *self.leadership.borrow();
            match leadership.leader {
                Some(_) if leadership.mine => self.write().await,
                Some(node) => self.forward(node),
                None => {}
            }
        }
    }

    /// Waits until there is something to propose and someone to propose it to.
    async fn gather(&mut self) -> Option<()> {
        loop {
            let now = clock::timer();
            if self.leadership.has_changed().ok()? {
                self.not_before = now;
                self.check_at = now;
            }
            let leadership = *self.leadership.borrow_and_update();
            self.expire(now, leadership);
            let open = leadership.leader.is_some() && self.calls.len() < CALLS;
            let due = self
                .backlog
                .due(now, self.has_room_for_large())
                .filter(|_| open)
                .map(|due| due.max(self.not_before));
            if due.is_some_and(|due| due <= now) {
                return Some(());
            }
            let wake = due.unwrap_or(self.check_at);
            tokio::select! {
                received = self.inbox.recv(), if self.backlog.len() < READY => {
                    self.push(received?);
                    self.drain();
                }
                changed = self.leadership.changed() => {
                    changed.ok()?;
                    self.not_before = now;
                    self.check_at = now;
                }
                Some(left) = self.calls.join_next(), if !self.calls.is_empty() => {
                    // If a call has panicked its submissions are gone, and their callers find their channels closed.
                    self.put_back(left.unwrap_or_default());
                }
                () = sleep_until(wake), if !self.backlog.is_empty() => {}
            }
        }
    }

    fn has_room_for_large(&self) -> bool {
        self.calls.len() < LARGE_CALLS
    }

    fn push(&mut self, submission: Submission) {
        let now = clock::timer();
        let since = submission.command.since();
        if !self.is_common(since) {
            return submission.answer(Ok(Outcome::NotYet { since }));
        }
        self.rate.note(now, 1);
        self.backlog.push(submission, now);
    }

    /// Whether every member reads entries of this version, because all have said so or because the shard has such
    /// entries already.
    fn is_common(&mut self, since: Version) -> bool {
        let common = *self.formats.borrow();
        if !self.leadership.borrow().mine {
            // Who leads decides, and may know more.
            return true;
        }
        if since <= common || since <= self.group.read(ShardState::format) {
            return true;
        }
        if self.refused != Some(since) {
            self.refused = Some(since);
            tracing::warn!(
                shard = %self.group.shard(),
                "commands of format {since} are refused as long as some member reads no more than {common}, \
                 or was not met since this node started"
            );
        }
        false
    }

    fn drain(&mut self) {
        while self.backlog.len() < READY {
            match self.inbox.try_recv() {
                Ok(submission) => self.push(submission),
                Err(_) => return,
            }
        }
    }

    fn put_back(&mut self, submissions: Vec<Submission>) {
        if !submissions.is_empty() {
            self.backlog.put_back(submissions);
            self.not_before = clock::timer() + PAUSE;
        }
    }

    /// Answers submissions that are too late, or that only a leader may propose.
    fn expire(&mut self, now: Instant, leadership: Leadership) {
        if now < self.check_at {
            return;
        }
        self.check_at = now + CHECK;
        for submission in self
            .backlog
            .expire(now, |s| s.mode == Mode::LeaderOnly && !leadership.mine)
        {
            let answer = match submission.mode {
                Mode::LeaderOnly => Refused::NotLeader,
                Mode::Urgent | Mode::Lazy => Refused::Late(Unavailable),
            };
            submission.answer(Err(answer));
        }
    }

    /// Proposes one batch and waits for it.
    async fn write(&mut self) {
        if self.rate.is_high(clock::timer()) && !self.backlog.is_full() {
            sleep(LINGER).await;
            self.drain();
        }
        let mut taken = self.backlog.take(true);
        if let Some(waited) = longest_wait(&taken, clock::timer()) {
            self.group.note(Hop::Batch, waited);
        }
        let batch = Batch {
            now: (self.clock)(),
            commands: commands_of(&mut taken),
        };
        let needed = batch.commands.iter().map(Command::since).max();
        let version = needed.max(Some(*self.formats.borrow()));
        let size = taken.iter().map(|submission| submission.bytes).sum();
        let entry = match EncodedEntry::new(batch, version.unwrap_or(Version::CURRENT), size) {
            Ok(entry) => entry,
            Err(over) => return self.refuse(taken, over),
        };
        let bytes = entry.bytes();
        let mut leadership = self.leadership.clone();
        let outcomes = tokio::select! {
            outcomes = self.group.write(entry) => outcomes.unwrap_or_default(),
            _ = leadership.wait_for(|l| !l.mine) => Vec::new(),
            () = sleep_until(first_deadline(&taken)) => Vec::new(),
        };
        if outcomes.len() != taken.len() {
            return self.try_again(taken, &bytes);
        }
        for (submission, outcome) in taken.into_iter().zip(outcomes) {
            submission.answer(Ok(outcome));
        }
    }

    /// Has submissions tried again whose commands are in this entry, which may yet be committed.
    fn try_again(&mut self, mut taken: Vec<Submission>, entry: &[u8]) {
        match Batch::read(entry) {
            Ok((_, batch)) => {
                restore(&mut taken, batch.commands);
                self.put_back(taken);
            }
            Err(error) => {
                tracing::error!(shard = %self.group.shard(), %error, "an own entry cannot be read");
                for submission in taken {
                    submission.answer(Err(Refused::Late(Unavailable)));
                }
            }
        }
    }

    /// Refuses submissions whose entry is too large: to try them again would change nothing.
    fn refuse(&self, taken: Vec<Submission>, over: TooLarge) {
        let commands = taken.len();
        tracing::error!(shard = %self.group.shard(), %over, commands, "an entry is not proposed");
        for submission in taken {
            submission.answer(Err(over.into()));
        }
    }

    /// Sends one batch to the node that leads.
    fn forward(&mut self, to: NodeId) {
        let taken = self.backlog.take(self.has_room_for_large());
        let (transport, shard) = (self.transport.clone(), self.group.shard());
        self.calls.spawn(forwarded(
            transport,
            shard,
            to,
            self.leadership.clone(),
            taken,
        ));
    }
}

/// How long the one has waited that waited longest, of those that somebody waits for.
fn longest_wait(submissions: &[Submission], now: Instant) -> Option<Duration> {
    let urgent = submissions.iter().filter(|one| one.mode != Mode::Lazy);
    let deadline = urgent.map(|one| one.deadline).min()?;
    Some(DEADLINE.saturating_sub(deadline.saturating_duration_since(now)))
}

/// The earliest deadline of these submissions. At that time the others are tried again.
fn first_deadline(submissions: &[Submission]) -> Instant {
    let deadlines = submissions.iter().map(|submission| submission.deadline);
    deadlines.min().unwrap_or_else(clock::timer)
}

/// Takes the commands out of their submissions; [`restore`] puts them back.
fn commands_of(submissions: &mut [Submission]) -> Vec<Command> {
    let commands = submissions.iter_mut();
    commands
        .map(|submission| std::mem::replace(&mut submission.command, Command::Tick))
        .collect()
}

fn restore(submissions: &mut [Submission], commands: Vec<Command>) {
    for (submission, command) in submissions.iter_mut().zip(commands) {
        submission.command = command;
    }
}

/// Has another node propose these. Returns what is still to be proposed.
async fn forwarded<C: Transport>(
    transport: Arc<C>,
    shard: ShardId,
    to: NodeId,
    mut leadership: watch::Receiver<Leadership>,
    mut submissions: Vec<Submission>,
) -> Vec<Submission> {
    let commands = commands_of(&mut submissions);
    let payload = Bytes::from(codec::encode(&commands));
    restore(&mut submissions, commands);
    let answer = tokio::select! {
        answer = transport.call(to, shard, ShardRequest::Propose, payload) => answer.ok(),
        _ = leadership.wait_for(|l| l.leader != Some(to)) => None,
        () = sleep_until(first_deadline(&submissions)) => None,
    };
    let outcomes = match answer.map(|bytes| codec::decode::<Response>(&bytes)) {
        Some(Ok(Response::Outcomes(outcomes))) => outcomes,
        Some(Ok(Response::Index(_) | Response::NotLeader)) | None => Vec::new(),
        Some(Err(error)) => {
            tracing::warn!(%shard, node = %to, %error, "unreadable answer to a proposal");
            Vec::new()
        }
    };
    let mut left = Vec::new();
    let mut outcomes = outcomes.into_iter();
    for submission in submissions {
        match outcomes.next().flatten() {
            Some(outcome) => submission.answer(Ok(outcome)),
            None => left.push(submission),
        }
    }
    left
}

/// Answers the request of another node.
pub async fn answer<G: ShardGroup>(
    group: &G,
    proposer: &Proposer,
    asked: ShardRequest,
    payload: &[u8],
) -> Bytes {
    let response = match asked {
        ShardRequest::ReadIndex => group
            .read_index()
            .await
            .map_or(Response::NotLeader, Response::Index),
        ShardRequest::Propose if !group.leadership().borrow().mine => Response::NotLeader,
        ShardRequest::Propose => match codec::decode::<Vec<Command>>(payload) {
            Ok(commands) => Response::Outcomes(proposer.propose_here(commands).await),
            Err(error) => {
                tracing::warn!(shard = %group.shard(), %error, "unreadable proposal from another node");
                Response::NotLeader
            }
        },
    };
    codec::encode(&response).into()
}
