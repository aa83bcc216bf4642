//! What waits for the next batch of one shard. Pure: time is an argument.
//!
//! Urgent commands go first, in the order of arrival. Small and large ones take turns, so that a small one waits for
//! one large entry and not for all of them. Lazy commands ride along, or go by themselves after [`LAZY`]; of several
//! that say the same, only the last is kept. They have room of their own in each batch: where urgent commands fill one
//! batch after the other, queues would else never hear that they may forget what was acknowledged.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use proto::Jid;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::proposer::{Refused, Share};
use super::{LAZY, LINGER_ABOVE, MAX_COMMANDS};
use crate::ShardId;
use crate::bound;
use crate::session::{Command, Outcome};

/// How a command is to be proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Somebody waits for it: it goes with the next batch, to the leader, wherever that is.
    Urgent,
    /// It may wait for company: it goes with the next batch that is made for others, or after [`LAZY`] by itself.
    Lazy,
    /// It goes with the next batch if this node leads, and is refused otherwise: either only the leader may propose it,
    /// or it came from another node, which has to find the leader itself.
    LeaderOnly,
}

/// A command on its way into a batch.
#[derive(Debug)]
pub struct Submission {
    /// The command.
    pub command: Command,
    /// How many bytes it takes, encoded; at most [`bound::COMMAND`].
    pub bytes: usize,
    /// When it is to be given up.
    pub deadline: Instant,
    /// How it is to be proposed.
    pub mode: Mode,
    /// The caller that waits for the outcome, if one does.
    pub reply: Option<oneshot::Sender<Result<Outcome, Refused>>>,
    /// What it takes of the queue; given back when it is answered.
    pub share: Option<Share>,
}

impl Submission {
    /// Whether it lets small ones pass. Items of another shard never do: they concern everybody, and there is one such
    /// command at a time.
    fn is_large(&self) -> bool {
        self.bytes > bound::SMALL && !matches!(self.command, Command::Relay { .. })
    }

    /// Answers the caller that waits, if one does.
    pub fn answer(self, answer: Result<Outcome, Refused>) {
        if let (Some(share), Ok(_)) = (&self.share, &answer) {
            share.count();
        }
        if let Some(reply) = self.reply {
            // The caller may be gone.
            let _ = reply.send(answer);
        }
    }
}

/// What a lazy command is about. Of several about the same topic the last one is enough.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    Acknowledge(Jid),
    Trim(ShardId),
    Other(u64),
}

/// The commands of one shard that wait for a batch; see the module.
#[derive(Debug, Default)]
pub struct Backlog {
    urgent: VecDeque<Submission>,
    large: VecDeque<Submission>,
    /// Whether it is the turn of large commands, because the last batch had small ones.
    large_next: bool,
    lazy: BTreeMap<Topic, Submission>,
    lazy_since: Option<Instant>,
    others: u64,
}

impl Backlog {
    /// Adds a command.
    pub fn push(&mut self, submission: Submission, now: Instant) {
        // A large one would find no room beside others, and hardly needs company.
        if submission.mode != Mode::Lazy || submission.is_large() {
            let queue = match submission.is_large() {
                true => &mut self.large,
                false => &mut self.urgent,
            };
            return queue.push_back(submission);
        }
        self.lazy_since.get_or_insert(now);
        let topic = match (&submission.command, &submission.reply) {
            (Command::Acknowledge(ack), None) => Topic::Acknowledge(ack.session.clone()),
            (Command::Trim { to, .. }, None) => Topic::Trim(*to),
            _ => {
                self.others += 1;
                Topic::Other(self.others)
            }
        };
        self.lazy.insert(topic, submission);
    }

    /// Puts submissions back that could not be proposed. They go first next time.
    pub fn put_back(&mut self, submissions: Vec<Submission>) {
        for submission in submissions.into_iter().rev() {
            // A lazy one that comes back has waited long enough, so it is urgent now.
            match submission.is_large() {
                true => self.large.push_front(submission),
                false => self.urgent.push_front(submission),
            }
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.urgent.len() + self.large.len() + self.lazy.len()
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When the next batch is due: now, later, or never (`None`). `large` says whether it may have large commands.
    pub fn due(&self, now: Instant, large: bool) -> Option<Instant> {
        let urgent = !self.urgent.is_empty() || (large && !self.large.is_empty());
        if urgent || self.lazy.len() >= MAX_COMMANDS {
            return Some(now);
        }
        self.lazy_since.map(|since| since + LAZY)
    }

    /// Whether what waits fills a batch.
    pub fn is_full(&self) -> bool {
        let mut room = BatchRoom::default();
        !(self.urgent.iter().chain(&self.large)).all(|submission| room.take(submission))
    }

    /// Takes the next batch: at least one command if any is due, and no more than fit. `large` says whether it may have
    /// large commands.
    pub fn take(&mut self, large: bool) -> Vec<Submission> {
        let mut room = BatchRoom::default();
        let mut taken = Vec::new();
        let is_turn = self.large_next || self.urgent.is_empty();
        let with_large = large && is_turn && !self.large.is_empty();
        self.large_next = !with_large;
        if with_large {
            room.fill(&mut taken, &mut self.large);
        }
        room.fill(&mut taken, &mut self.urgent);
        let mut room = BatchRoom::beside(&taken);
        while let Some(next) = self.lazy.first_entry() {
            if !room.take(next.get()) {
                return taken;
            }
            taken.push(next.remove());
        }
        self.lazy_since = None;
        taken
    }

    /// Removes submissions that are past their deadline, and those that `lost` picks.
    pub fn expire(&mut self, now: Instant, lost: impl Fn(&Submission) -> bool) -> Vec<Submission> {
        let gone = |submission: &Submission| submission.deadline <= now || lost(submission);
        let mut expired = Vec::new();
        for queue in [&mut self.urgent, &mut self.large] {
            let kept = queue
                .drain(..)
                .filter_map(|submission| match gone(&submission) {
                    true => {
                        expired.push(submission);
                        None
                    }
                    false => Some(submission),
                });
            *queue = kept.collect();
        }
        expired.extend(
            self.lazy
                .extract_if(.., |_, submission| gone(submission))
                .map(|(_, s)| s),
        );
        if self.lazy.is_empty() {
            self.lazy_since = None;
        }
        expired
    }
}

/// What a batch holds so far. The first command of all always fits.
#[derive(Default)]
struct BatchRoom {
    commands: usize,
    bytes: usize,
    /// The batch holds others, which do not count here.
    is_beside: bool,
}

impl BatchRoom {
    /// The room of lazy commands beside those that are `taken`.
    fn beside(taken: &[Submission]) -> Self {
        Self {
            is_beside: !taken.is_empty(),
            ..Self::default()
        }
    }

    /// Moves submissions from the front of the queue to the batch as long as they fit.
    fn fill(&mut self, taken: &mut Vec<Submission>, queue: &mut VecDeque<Submission>) {
        while queue.front().is_some_and(|next| self.take(next)) {
            taken.extend(queue.pop_front());
        }
    }

    fn take(&mut self, submission: &Submission) -> bool {
        let (weight, bytes) = (weight(&submission.command), submission.bytes);
        let fits = self.commands + weight <= MAX_COMMANDS && self.bytes + bytes <= bound::BATCH;
        if !fits && (self.commands > 0 || self.is_beside) {
            return false;
        }
        self.commands += weight;
        self.bytes += bytes;
        true
    }
}

/// How many stanzas a command counts for.
fn weight(command: &Command) -> usize {
    match command {
        Command::Inbound(inbound) => inbound.stanzas.len().max(1),
        Command::Relay { items, .. } => items.len().max(1),
        _ => 1,
    }
}

/// The rate at which commands arrive, which decides whether it is worth waiting for more.
#[derive(Debug)]
pub struct Rate {
    window: Instant,
    count: u32,
    last: u32,
}

const WINDOW: Duration = Duration::from_millis(100);

impl Rate {
    /// Begins without any commands.
    pub fn new(now: Instant) -> Self {
        Self {
            window: now,
            count: 0,
            last: 0,
        }
    }

    /// Counts commands that have arrived.
    pub fn note(&mut self, now: Instant, arrived: usize) {
        self.roll(now);
        self.count = self
            .count
            .saturating_add(u32::try_from(arrived).unwrap_or(u32::MAX));
    }

    /// Whether more than [`LINGER_ABOVE`] commands arrive per second, judged by the last full tenth of a second.
    pub fn is_high(&mut self, now: Instant) -> bool {
        self.roll(now);
        self.last.max(self.count) > LINGER_ABOVE / 10
    }

    fn roll(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.window);
        if passed >= WINDOW {
            self.last = if passed < 2 * WINDOW { self.count } else { 0 };
            self.count = 0;
            self.window = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use crate::session::{Acknowledge, Inbound};

    fn jid(text: &str) -> Jid {
        Jid::new(text).expect("valid")
    }

    fn submission(command: Command, lazy: bool) -> Submission {
        let deadline = Instant::now() + Duration::from_secs(10);
        Submission {
            bytes: codec::size(&command),
            command,
            deadline,
            mode: if lazy { Mode::Lazy } else { Mode::Urgent },
            reply: None,
            share: None,
        }
    }

    fn acknowledge(session: &str, upto: u64) -> Command {
        Command::Acknowledge(Acknowledge {
            session: jid(session),
            epoch: crate::id::Epoch(1),
            upto,
        })
    }

    fn inbound(stanzas: usize) -> Command {
        let stanzas = vec![Vec::new(); stanzas];
        Command::Inbound(Inbound {
            session: jid("a@b/c"),
            epoch: crate::id::Epoch(1),
            first: 1,
            stanzas,
        })
    }

    #[test]
    fn what_somebody_waits_for_goes_at_once_and_the_rest_rides_along() {
        let (mut backlog, now) = (Backlog::default(), Instant::now());
        assert_eq!(backlog.due(now, true), None);
        backlog.push(submission(acknowledge("a@b/c", 2), true), now);
        assert_eq!(backlog.due(now, true), Some(now + LAZY));
        backlog.push(submission(Command::Tick, false), now);
        assert_eq!(backlog.due(now, true), Some(now));
        let taken: Vec<Command> = backlog.take(true).into_iter().map(|s| s.command).collect();
        assert_eq!(taken, [Command::Tick, acknowledge("a@b/c", 2)]);
        assert_eq!((backlog.is_empty(), backlog.due(now, true)), (true, None));
    }

    #[test]
    fn of_several_acknowledgements_the_last_is_enough() {
        let (mut backlog, now) = (Backlog::default(), Instant::now());
        for upto in 1..9 {
            backlog.push(submission(acknowledge("a@b/c", upto), true), now);
            backlog.push(submission(acknowledge("a@b/d", upto), true), now);
        }
        let taken: Vec<Command> = backlog.take(true).into_iter().map(|s| s.command).collect();
        assert_eq!(taken, [acknowledge("a@b/c", 8), acknowledge("a@b/d", 8)]);
    }

    #[test]
    fn lazy_commands_go_along_with_full_batches() {
        let (mut backlog, now) = (Backlog::default(), Instant::now());
        for _ in 0..3 {
            backlog.push(submission(inbound(MAX_COMMANDS), false), now);
        }
        for session in 0..MAX_COMMANDS + 1 {
            backlog.push(
                submission(acknowledge(&format!("a@b/{session}"), 2), true),
                now,
            );
        }
        let large = Submission {
            bytes: bound::COMMAND,
            ..submission(Command::Tick, true)
        };
        backlog.push(large, now);
        // The large one has a turn of its own.
        let sizes = std::iter::from_fn(|| Some(backlog.take(true).len()).filter(|n| *n > 0));
        assert_eq!(sizes.collect::<Vec<_>>(), [1 + MAX_COMMANDS, 2, 1, 1]);
    }

    #[test]
    fn a_batch_holds_so_many_stanzas_and_at_least_one_command() {
        let (mut backlog, now) = (Backlog::default(), Instant::now());
        for stanzas in [200, 56, 1, 1000] {
            backlog.push(submission(inbound(stanzas), false), now);
        }
        assert!(backlog.is_full());
        let sizes: Vec<usize> =
            std::iter::from_fn(|| Some(backlog.take(true).len()).filter(|n| *n > 0)).collect();
        assert_eq!(sizes, [2, 1, 1]);
    }

    #[test]
    fn a_batch_is_full_at_its_bytes_and_what_is_larger_goes_alone() {
        let (mut backlog, now) = (Backlog::default(), Instant::now());
        let half = bound::BATCH / 2;
        // One that would go along would make the others too large.
        for bytes in [half, half, 1, half, half + 1, bound::COMMAND, 1] {
            let bytes = Submission {
                bytes,
                ..submission(Command::Tick, false)
            };
            backlog.push(bytes, now);
        }
        assert!(backlog.is_full());
        let batches = std::iter::from_fn(|| {
            let taken = backlog.take(true);
            let bytes = taken.iter().map(|submission| submission.bytes);
            Some(bytes.collect::<Vec<_>>()).filter(|taken| !taken.is_empty())
        });
        let expect = [
            vec![1, 1],
            vec![half, half],
            vec![half],
            vec![half + 1],
            vec![bound::COMMAND],
        ];
        assert_eq!(batches.collect::<Vec<_>>(), expect);
    }

    #[test]
    fn small_and_large_commands_take_turns() {
        let (mut backlog, now) = (Backlog::default(), Instant::now());
        let push = |backlog: &mut Backlog, bytes| {
            let bytes = Submission {
                bytes,
                ..submission(Command::Tick, false)
            };
            backlog.push(bytes, now);
        };
        let take = |backlog: &mut Backlog, large| {
            let taken = backlog.take(large);
            taken.iter().map(|taken| taken.bytes).collect::<Vec<_>>()
        };
        for _ in 0..3 {
            push(&mut backlog, bound::BATCH);
        }
        push(&mut backlog, 1);
        assert_eq!(take(&mut backlog, true), [1]);
        push(&mut backlog, 2);
        assert_eq!(take(&mut backlog, true), [bound::BATCH]);
        assert_eq!(take(&mut backlog, true), [2]);
        assert_eq!(take(&mut backlog, true), [bound::BATCH]);
        // While there is no room for large ones, small ones go on.
        assert_eq!(backlog.due(now, false), None);
        assert!(backlog.take(false).is_empty());
        push(&mut backlog, 3);
        assert_eq!(take(&mut backlog, false), [3]);
        assert_eq!(take(&mut backlog, true), [bound::BATCH]);
        assert!(backlog.is_empty());
    }

    #[test]
    fn what_comes_from_another_shard_is_not_large() {
        let (mut backlog, now) = (Backlog::default(), Instant::now());
        let relay = Command::Relay {
            from: ShardId(1),
            first: 1,
            items: Vec::new(),
        };
        for command in [Command::Tick, relay] {
            let bytes = bound::BATCH;
            backlog.push(
                Submission {
                    bytes,
                    ..submission(command, false)
                },
                now,
            );
        }
        let first = backlog.take(true).pop().map(|taken| taken.command);
        assert!(matches!(first, Some(Command::Relay { .. })));
    }

    #[test]
    fn what_is_put_back_goes_first_and_what_is_too_late_goes_out() {
        let (mut backlog, now) = (Backlog::default(), Instant::now());
        backlog.push(submission(inbound(1), false), now);
        backlog.push(submission(inbound(2), false), now);
        let taken = backlog.take(true);
        backlog.push(submission(inbound(3), false), now);
        backlog.put_back(taken);
        let order: Vec<usize> = backlog.urgent.iter().map(|s| weight(&s.command)).collect();
        assert_eq!(order, [1, 2, 3]);
        assert_eq!(backlog.expire(now, |_| false).len(), 0);
        assert_eq!(
            backlog
                .expire(now + Duration::from_secs(11), |_| false)
                .len(),
            3
        );
        assert!(backlog.is_empty());
    }

    #[test]
    fn only_a_busy_shard_lingers() {
        let now = Instant::now();
        let mut rate = Rate::new(now);
        rate.note(now, 50);
        assert!(!rate.is_high(now));
        rate.note(now, 1);
        assert!(rate.is_high(now) && rate.is_high(now + WINDOW));
        assert!(!rate.is_high(now + 3 * WINDOW));
    }
}
