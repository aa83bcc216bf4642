//! A proposer takes commands up to its bounds, and no further.

use proto::BareJid;
use tokio::time::timeout;

use super::*;
use crate::session::Relay;
use crate::{ArchiveId, ShardId};

const SOON: Duration = Duration::from_secs(10);

/// A command of so many bytes, encoded.
fn command(bytes: usize) -> Command {
    let of = |padding: usize| Command::Relay {
        from: ShardId(0),
        first: 1,
        items: vec![Relay::Hidden {
            account: BareJid::new("a@b").expect("valid"),
            // One byte each: numbers below 251 are encoded as they are.
            mids: vec![ArchiveId(0); padding],
        }],
    };
    let overhead = codec::size(&of(1 << 18)) - (1 << 18);
    let command = of(bytes - overhead);
    assert_eq!(codec::size(&command), bytes);
    command
}

#[tokio::test]
async fn a_command_fills_its_bound_and_what_is_larger_is_refused_at_once() {
    let (proposer, mut inbox) = Proposer::new();
    for fits in [bound::COMMAND - 1, bound::COMMAND] {
        let answer = proposer.enqueue(command(fits), Mode::Urgent).await;
        let submission = inbox.try_recv().expect("is taken");
        assert_eq!(submission.bytes, fits);
        drop((submission, answer));
    }
    // Nobody answers what gets through.
    let over = timeout(SOON, proposer.propose(command(bound::COMMAND + 1))).await;
    let over = over.expect("is answered at once");
    assert!(matches!(over, Err(ProposeError::TooLarge(over)) if over.bytes == bound::COMMAND + 1));
    let over = timeout(SOON, proposer.insist(command(bound::COMMAND + 1))).await;
    assert!(matches!(over, Ok(Err(_))), "it would be tried for ever");
    proposer.propose_lazily(command(bound::COMMAND + 1));
    assert!(inbox.try_recv().is_err());
}

#[tokio::test]
async fn whoever_proposes_waits_while_others_take_all_the_room() {
    let (proposer, mut inbox) = Proposer::new();
    let most = bound::WAITING / bound::COMMAND;
    let mut answers = Vec::new();
    for _ in 0..most {
        let answer = proposer
            .enqueue(command(bound::COMMAND), Mode::Urgent)
            .await;
        answers.push(answer.expect("there is room"));
    }
    let late = tokio::spawn({
        let proposer = proposer.clone();
        async move {
            proposer
                .enqueue(command(bound::COMMAND), Mode::Urgent)
                .await
        }
    });
    // Nobody else runs here: all that can come has come when this task is given its turn again.
    tokio::task::yield_now().await;
    let first = inbox.try_recv().expect("was enqueued");
    assert_eq!(inbox.len(), most - 1, "the last one waits");
    assert!(!late.is_finished());
    drop(first);
    assert!(late.await.expect("ends").is_ok());
    assert_eq!(inbox.len(), most);
}

#[tokio::test]
async fn what_was_carried_out_is_counted_whether_anybody_waits_for_it_or_not() {
    let (proposer, mut inbox) = Proposer::new();
    let waits = proposer.enqueue(command(100_000), Mode::Urgent).await;
    proposer.propose_lazily(command(100_000));
    for count in 1..=2 {
        let submission = inbox.try_recv().expect("is taken");
        submission.answer(Ok(Outcome::Done));
        assert_eq!(proposer.carried_out(), count);
    }
    drop(waits);
    let waits = proposer.enqueue(command(100_000), Mode::Urgent).await;
    let submission = inbox.try_recv().expect("is taken");
    submission.answer(Err(Unavailable.into()));
    drop(waits);
    assert_eq!(proposer.carried_out(), 2, "it may not have been");
    assert_eq!(proposer.waiting(), 0);
}
