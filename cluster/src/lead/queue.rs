//! The way into a shard's batches, from any thread and any runtime.

use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::DEADLINE;
use super::backlog::Submission;
use crate::session::{Command, Outcome};

/// Commands that may wait for the batching task. Beyond it callers wait, and lazy ones are dropped.
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
}

/// A shard's queue of proposals on this node.
#[derive(Clone, Debug)]
pub struct Queue {
    sender: mpsc::Sender<Submission>,
}

impl Queue {
    /// A queue, and the end that [`super::batch`] empties.
    pub fn new() -> (Self, mpsc::Receiver<Submission>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self { sender }, receiver)
    }

    /// Proposes a command, to whoever leads.
    pub async fn propose(&self, command: Command) -> Result<Outcome, Unavailable> {
        self.submit(command, false, false)
            .await
            .map_err(|_| Unavailable)
    }

    /// Proposes a command with the next batch or a little later, and waits for its outcome.
    pub async fn propose_along(&self, command: Command) -> Result<Outcome, Unavailable> {
        self.submit(command, true, false)
            .await
            .map_err(|_| Unavailable)
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
                Err(Unavailable) => None,
            };
            outcomes.push(answer);
        }
        outcomes
    }

    /// Hands over a command with the next batch or a little later. It may be lost.
    pub fn propose_lazily(&self, command: Command) {
        let deadline = Instant::now() + DEADLINE;
        let submission = Submission {
            command,
            deadline,
            lazy: true,
            forwarded: false,
            reply: None,
        };
        // A full queue has better things to do.
        let _ = self.sender.try_send(submission);
    }

    /// Proposes until it has worked out; for a leader's own duties, which end with its leadership.
    pub async fn insist(&self, command: Command, lazy: bool) -> Outcome {
        let mut pause = Duration::from_millis(50);
        loop {
            if let Ok(outcome) = self.submit(command.clone(), lazy, false).await {
                return outcome;
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
    ) -> Result<Answer, Unavailable> {
        let (reply, answer) = oneshot::channel();
        let deadline = Instant::now() + DEADLINE;
        let submission = Submission {
            command,
            deadline,
            lazy,
            forwarded,
            reply: Some(reply),
        };
        match self.sender.try_send(submission) {
            Ok(()) => Ok(answer),
            Err(TrySendError::Full(submission)) => {
                let sent = tokio::time::timeout_at(deadline, self.sender.send(submission)).await;
                sent.map_or(Err(Unavailable), |sent| {
                    sent.map(|()| answer).map_err(|_| Unavailable)
                })
            }
            Err(TrySendError::Closed(_)) => Err(Unavailable),
        }
    }
}

type Answer = oneshot::Receiver<Result<Outcome, Refused>>;
