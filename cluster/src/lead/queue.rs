//! The way into a shard's batches, from any thread and any runtime.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::DEADLINE;
use super::backlog::Submission;
use crate::bound::{self, TooLarge};
use crate::codec;
use crate::session::{Command, Outcome};

/// Commands that may wait for the batching task. Beyond it, or beyond so many bytes ([`bound::WAITING`]), callers
/// wait, and lazy ones are dropped.
const WAITING: usize = 4096;

/// A proposal came to nothing in time; whether it takes effect is open. It may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shard has no leader that can be reached")]
pub struct Unavailable;

/// Why a submission was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its time was over.
    #[error(transparent)]
    Late(#[from] Unavailable),
    /// It came from another node, and this one does not lead either.
    #[error("this node does not lead the shard")]
    NotLeader,
    /// It can never be carried out, by anyone.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

/// A proposal was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Not in time.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Nor will it ever be.
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

/// A shard's queue of proposals on this node.
#[derive(Clone, Debug)]
pub struct Queue {
    sender: mpsc::Sender<Submission>,
    /// Bytes that may still wait.
    room: Arc<Semaphore>,
}

impl Queue {
    /// A queue, and the end that [`super::batch`] empties.
    pub fn new() -> (Self, mpsc::Receiver<Submission>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let room = Arc::new(Semaphore::new(bound::WAITING));
        (Self { sender, room }, receiver)
    }

    /// Bytes of what is proposed here and not answered yet.
    pub fn waiting(&self) -> usize {
        bound::WAITING - self.room.available_permits().min(bound::WAITING)
    }

    /// Proposes a command, to whoever leads.
    pub async fn propose(&self, command: Command) -> Result<Outcome, ProposeError> {
        Ok(self.submit(command, false, false).await?)
    }

    /// Proposes a command with the next batch or a little later, and waits for its outcome.
    pub async fn propose_along(&self, command: Command) -> Result<Outcome, ProposeError> {
        Ok(self.submit(command, true, false).await?)
    }

    /// Proposes what only the leader may say. If this node does not lead, or no longer, it is dropped, and
    /// the answer is no: whoever leads next comes to its own conclusions.
    pub async fn propose_as_leader(&self, command: Command) -> bool {
        self.submit(command, false, true).await.is_ok()
    }

    /// Proposes on behalf of another node, if this one leads; in order. None: to be proposed elsewhere.
    pub async fn propose_here(&self, commands: Vec<Command>) -> Vec<Option<Outcome>> {
        let mut answers = Vec::with_capacity(commands.len());
        for command in commands {
            answers.push(self.enqueue(command, false, true).await);
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

    /// Hands over a command with the next batch or a little later. It may be lost.
    pub fn propose_lazily(&self, command: Command) {
        // A full queue has better things to do, and what is too large is lost like anything else here.
        let Ok(bytes) = size(&command) else { return };
        let Ok(room) = self.room.clone().try_acquire_many_owned(bytes) else {
            return;
        };
        let submission = Submission {
            command,
            bytes: bytes as usize,
            deadline: Instant::now() + DEADLINE,
            lazy: true,
            forwarded: false,
            reply: None,
            _room: Some(room),
        };
        let _ = self.sender.try_send(submission);
    }

    /// Proposes until it has worked out; for a leader's own duties, which end with its leadership.
    pub async fn insist(&self, command: Command, lazy: bool) -> Result<Outcome, TooLarge> {
        let mut pause = Duration::from_millis(50);
        loop {
            match self.submit(command.clone(), lazy, false).await {
                Ok(outcome) => return Ok(outcome),
                Err(Refused::TooLarge(over)) => return Err(over),
                Err(Refused::Late(_) | Refused::NotLeader) => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    async fn submit(
        &self,
        command: Command,
        lazy: bool,
        forwarded: bool,
    ) -> Result<Outcome, Refused> {
        let answer = self.enqueue(command, lazy, forwarded).await?;
        answer.await.unwrap_or(Err(Unavailable.into()))
    }

    async fn enqueue(
        &self,
        command: Command,
        lazy: bool,
        forwarded: bool,
    ) -> Result<Answer, Refused> {
        let bytes = size(&command)?;
        let deadline = Instant::now() + DEADLINE;
        let room = timeout_at(deadline, self.room(bytes)).await;
        let (reply, answer) = oneshot::channel();
        let submission = Submission {
            command,
            bytes: bytes as usize,
            deadline,
            lazy,
            forwarded,
            reply: Some(reply),
            _room: Some(room.map_err(|_| Unavailable)??),
        };
        let sent = timeout_at(deadline, self.sender.send(submission)).await;
        match sent {
            Ok(Ok(())) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(Unavailable.into()),
        }
    }

    async fn room(&self, bytes: u32) -> Result<OwnedSemaphorePermit, Unavailable> {
        let room = self.room.clone().acquire_many_owned(bytes).await;
        // Nobody closes it.
        room.map_err(|_| Unavailable)
    }
}

/// The bytes of a command, if it may be proposed at all.
fn size(command: &Command) -> Result<u32, TooLarge> {
    let bytes = codec::size(command);
    bound::check("a command", bytes, bound::COMMAND)?;
    // The bound is below.
    Ok(bytes as u32)
}

type Answer = oneshot::Receiver<Result<Outcome, Refused>>;

#[cfg(test)]
mod tests;
