//! The handle with which any thread, on any runtime, proposes commands to a shard.
//!
//! A handle is one end of a bounded queue; [`super::batch`] empties the other end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout_at;

use super::DEADLINE;
use super::backlog::{Mode, Submission};
use crate::bound::{self, TooLarge};
use crate::clock;
use crate::codec;
use crate::session::{Command, Outcome};

/// How many commands may wait for the batching task. When so many wait, or [`bound::WAITING`] bytes of them, callers are
/// held up, and lazy commands that nobody waits for are dropped.
const WAITING: usize = 4096;

/// A proposal was not answered in time. It may have taken effect all the same, and may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shard has no leader that can be reached")]
pub struct Unavailable;

/// Why a submission was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its deadline passed.
    #[error(transparent)]
    Late(#[from] Unavailable),
    /// Only the leader was to propose it, and this node does not lead.
    #[error("this node does not lead the shard")]
    NotLeader,
    /// It can never be carried out, by anyone.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

/// A proposal was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Nobody answered in time; the command may have taken effect all the same.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The command is larger than any entry may be, so that to repeat it is of no use.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

impl From<Refused> for ProposeError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Late(_) | Refused::NotLeader => Self::Unavailable(Unavailable),
            Refused::TooLarge(over) => Self::TooLarge(over),
        }
    }
}

/// What a command takes of its shard's queue until it is answered.
#[derive(Debug)]
pub struct Share {
    _bytes: OwnedSemaphorePermit,
    carried_out: Arc<AtomicU64>,
}

impl Share {
    /// Counts the command as carried out.
    pub fn count(&self) {
        self.carried_out.fetch_add(1, Ordering::Relaxed);
    }
}

/// Proposes commands to one shard. Clones share its queue.
#[derive(Clone, Debug)]
pub struct Proposer {
    sender: mpsc::Sender<Submission>,
    /// One permit for each byte that may still wait.
    room: Arc<Semaphore>,
    /// How many commands were carried out, wherever that was decided.
    carried_out: Arc<AtomicU64>,
}

impl Proposer {
    /// A proposer, and the other end of its queue, for [`super::batch`].
    pub fn new() -> (Self, mpsc::Receiver<Submission>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let proposer = Self {
            sender,
            room: Arc::new(Semaphore::new(bound::WAITING)),
            carried_out: Arc::default(),
        };
        (proposer, receiver)
    }

    /// How many bytes of commands were proposed here and are not answered yet.
    pub fn waiting(&self) -> usize {
        bound::WAITING - self.room.available_permits().min(bound::WAITING)
    }

    /// How many of the commands that were proposed here have been carried out since the node started.
    pub fn carried_out(&self) -> u64 {
        self.carried_out.load(Ordering::Relaxed)
    }

    fn share(&self, bytes: OwnedSemaphorePermit) -> Option<Share> {
        Some(Share {
            _bytes: bytes,
            carried_out: self.carried_out.clone(),
        })
    }

    /// Proposes a command to the leader, wherever it is, and waits for the outcome.
    pub async fn propose(&self, command: Command) -> Result<Outcome, ProposeError> {
        Ok(self.submit(command, Mode::Urgent).await?)
    }

    /// The same for a command that may wait for company: it goes with the next batch, or a little later by itself.
    pub async fn propose_along(&self, command: Command) -> Result<Outcome, ProposeError> {
        Ok(self.submit(command, Mode::Lazy).await?)
    }

    /// Proposes a command that only the leader may propose, and returns whether it was carried out. If this node does
    /// not lead (any longer) the command is dropped: the next leader comes to its own conclusions.
    pub async fn propose_as_leader(&self, command: Command) -> bool {
        self.submit(command, Mode::LeaderOnly).await.is_ok()
    }

    /// Proposes commands of another node in their order, provided that this node leads. An outcome is `None` if the other
    /// node has to propose the command elsewhere.
    pub async fn propose_here(&self, commands: Vec<Command>) -> Vec<Option<Outcome>> {
        let mut answers = Vec::with_capacity(commands.len());
        for command in commands {
            answers.push(self.enqueue(command, Mode::LeaderOnly).await);
        }
        let mut outcomes = Vec::with_capacity(answers.len());
        for answer in answers {
            let answer = match answer {
                Ok(answer) => answer.await.ok().and_then(Result::ok),
                Err(_) => None,
            };
            outcomes.push(answer);
        }
        outcomes
    }

    /// Proposes a command with the next batch, or a little later, and does not wait for it. It may be lost.
    pub fn propose_lazily(&self, command: Command) {
        // When the queue is full, others matter more. A command that is too large is lost like any other here.
        let Ok(bytes) = size(&command) else { return };
        let Ok(room) = self.room.clone().try_acquire_many_owned(bytes) else {
            return;
        };
        let submission = Submission {
            command,
            bytes: bytes as usize,
            deadline: clock::timer() + DEADLINE,
            mode: Mode::Lazy,
            reply: None,
            share: self.share(room),
        };
        let _ = self.sender.try_send(submission);
    }

    /// Proposes again and again until the command is carried out; for a leader's own duties, which end with its
    /// leadership.
    pub async fn insist(&self, command: Command) -> Result<Outcome, TooLarge> {
        self.insist_as(command, Mode::Urgent).await
    }

    /// The same, but each attempt may wait for company ([`Mode::Lazy`]).
    pub async fn insist_lazily(&self, command: Command) -> Result<Outcome, TooLarge> {
        self.insist_as(command, Mode::Lazy).await
    }

    async fn insist_as(&self, command: Command, mode: Mode) -> Result<Outcome, TooLarge> {
        let mut pause = Duration::from_millis(50);
        loop {
            match self.submit(command.clone(), mode).await {
                Ok(outcome) => return Ok(outcome),
                Err(Refused::TooLarge(over)) => return Err(over),
                Err(Refused::Late(_) | Refused::NotLeader) => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    async fn submit(&self, command: Command, mode: Mode) -> Result<Outcome, Refused> {
        let answer = self.enqueue(command, mode).await?;
        answer.await.unwrap_or(Err(Unavailable.into()))
    }

    async fn enqueue(&self, command: Command, mode: Mode) -> Result<Answer, Refused> {
        let bytes = size(&command)?;
        let deadline = clock::timer() + DEADLINE;
        let room = timeout_at(deadline, self.room(bytes)).await;
        let (reply, answer) = oneshot::channel();
        let submission = Submission {
            command,
            bytes: bytes as usize,
            deadline,
            mode,
            reply: Some(reply),
            share: self.share(room.map_err(|_| Unavailable)??),
        };
        let sent = timeout_at(deadline, self.sender.send(submission)).await;
        match sent {
            Ok(Ok(())) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(Unavailable.into()),
        }
    }

    async fn room(&self, bytes: u32) -> Result<OwnedSemaphorePermit, Unavailable> {
        let room = self.room.clone().acquire_many_owned(bytes).await;
        // The semaphore is never closed.
        room.map_err(|_| Unavailable)
    }
}

/// How many bytes a command takes when it is encoded; an error if it is too large to be proposed at all.
fn size(command: &Command) -> Result<u32, TooLarge> {
    let bytes = codec::size(command);
    bound::check("a command", bytes, bound::COMMAND)?;
    // `bound::COMMAND`, which was just checked, is less than what a u32 holds.
    Ok(bytes as u32)
}

type Answer = oneshot::Receiver<Result<Outcome, Refused>>;

#[cfg(test)]
mod tests;
