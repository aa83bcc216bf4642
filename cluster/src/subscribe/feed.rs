//! What a replica keeps for nodes that subscribe to it.
//!
//! # Bounds
//!
//! [`MOST`] bytes for each node and shard, which is more than the queue of a session that is resumed, and [`FORGOTTEN`]
//! for nodes that ask no more. What would be more ends the subscription: the node begins anew, and asks for what it
//! missed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::bound;
use crate::session::{Event, Output};
use crate::{BootId, NodeId};

/// The most bytes that wait for one node.
const MOST: usize = bound::WAITING;
/// The most bytes that are taken in one go, unless one output has more.
const TAKEN: usize = 1 << 20;
/// A node that has not asked for so long is no subscriber any more.
pub const FORGOTTEN: Duration = Duration::from_secs(10);
/// What an output has besides its stanza, about.
const HEAD: usize = 128;

/// A process.
type Process = (NodeId, BootId);

/// The subscribers to one shard's replica on this node.
#[derive(Debug, Default)]
pub struct Feeds(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    feeds: BTreeMap<Process, Feed>,
    /// The number of the last subscription.
    last: u64,
}

/// What waits for one process.
#[derive(Debug)]
struct Feed {
    number: u64,
    outputs: VecDeque<Output>,
    bytes: usize,
    asked: Instant,
    more: Arc<Notify>,
}

/// A process has no subscription, or none any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoFeed;

impl Feeds {
    /// Keeps outputs for a process from now on; what was kept for it before is forgotten. Returns the number of the
    /// subscription.
    pub fn begin(&self, of: Process, now: Instant) -> u64 {
        let mut kept = self.lock();
        kept.last += 1;
        let feed = Feed {
            number: kept.last,
            outputs: VecDeque::new(),
            bytes: 0,
            asked: now,
            more: Arc::default(),
        };
        // Another run of the node is gone.
        kept.feeds.retain(|(node, _), _| *node != of.0);
        kept.feeds.insert(of, feed);
        kept.last
    }

    /// Whether nobody has subscribed.
    pub fn is_empty(&self) -> bool {
        self.lock().feeds.is_empty()
    }

    /// Ends all subscriptions, because outputs were skipped.
    pub fn end(&self) {
        for (_, feed) in std::mem::take(&mut self.lock().feeds) {
            feed.more.notify_one();
        }
    }

    /// Keeps outputs for those who have subscribed, and drops the others.
    pub fn keep(&self, outputs: Vec<Output>, now: Instant) {
        let mut kept = self.lock();
        let feeds = &mut kept.feeds;
        for output in outputs {
            let process = (output.owner.node, output.owner.boot);
            let Some(feed) = feeds.get_mut(&process) else {
                continue;
            };
            feed.bytes += size(&output);
            feed.outputs.push_back(output);
            feed.more.notify_one();
            if feed.bytes > MOST || now.saturating_duration_since(feed.asked) > FORGOTTEN {
                feeds.remove(&process);
            }
        }
    }

    /// What waits in a subscription of a process, and something to wait with for more.
    pub fn take(
        &self,
        of: Process,
        number: u64,
        now: Instant,
    ) -> Result<(Vec<Output>, Arc<Notify>), NoFeed> {
        let mut kept = self.lock();
        let feed = kept.feeds.get_mut(&of);
        let feed = feed.filter(|feed| feed.number == number).ok_or(NoFeed)?;
        feed.asked = now;
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(output) = feed.outputs.pop_front() {
            bytes += size(&output);
            taken.push(output);
            if bytes >= TAKEN {
                break;
            }
        }
        feed.bytes -= bytes;
        Ok((taken, feed.more.clone()))
    }

    /// A poisoned lock is usable: no holder leaves a feed half changed.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(output: &Output) -> usize {
    match &output.event {
        Event::Stanza { item, .. } => HEAD + item.packet.payload.len(),
        _ => HEAD,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use proto::Jid;
    use proto::stanza::{Header, Kind, MessageType, Packet};

    use super::*;
    use crate::id::{Epoch, Owner};
    use crate::session::Item;
    use crate::{BootId, ConnId, NodeId, clock};

    const ONE: Process = (NodeId(1), BootId(1));
    const TWO: Process = (NodeId(2), BootId(1));

    fn output((node, boot): Process, seq: u64, bytes: usize) -> Output {
        let header = Header {
            kind: Kind::Message(MessageType::Chat),
            from: None,
            to: None,
            id: None,
            lang: None,
        };
        let payload = Bytes::from(vec![b'x'; bytes]);
        let item = Arc::new(Item::plain(Packet { header, payload }, 0));
        Output {
            owner: Owner {
                node,
                boot,
                conn: ConnId(1),
            },
            session: Jid::new("a@b/c").expect("valid"),
            epoch: Epoch(1),
            event: Event::Stanza { seq, item },
        }
    }

    fn numbers(feeds: &Feeds, of: Process, feed: u64) -> Option<Vec<u64>> {
        let (outputs, _) = feeds.take(of, feed, clock::timer()).ok()?;
        let number = |output: &Output| match output.event {
            Event::Stanza { seq, .. } => seq,
            _ => 0,
        };
        Some(outputs.iter().map(number).collect())
    }

    #[test]
    fn a_process_gets_its_outputs_in_order_and_each_once() {
        let feeds = Feeds::default();
        let one = feeds.begin(ONE, clock::timer());
        let all = vec![output(ONE, 1, 10), output(TWO, 1, 10), output(ONE, 2, 10)];
        feeds.keep(all, clock::timer());
        assert_eq!(numbers(&feeds, ONE, one), Some(vec![1, 2]));
        assert_eq!(numbers(&feeds, ONE, one), Some(vec![]));
        assert_eq!(numbers(&feeds, TWO, one), None);
    }

    #[test]
    fn a_late_question_takes_nothing_of_the_next_subscription() {
        let feeds = Feeds::default();
        let before = feeds.begin(ONE, clock::timer());
        let now = feeds.begin(ONE, clock::timer());
        feeds.keep(vec![output(ONE, 1, 10)], clock::timer());
        assert_eq!(numbers(&feeds, ONE, before), None);
        assert_eq!(numbers(&feeds, ONE, now), Some(vec![1]));
    }

    #[test]
    fn what_is_too_much_ends_the_subscription() {
        let feeds = Feeds::default();
        let first = feeds.begin(ONE, clock::timer());
        let outputs = (0..=MOST as u64 >> 20).map(|n| output(ONE, n, 1 << 20));
        feeds.keep(outputs.collect(), clock::timer());
        assert_eq!(numbers(&feeds, ONE, first), None);
        let next = feeds.begin(ONE, clock::timer());
        let large = vec![output(ONE, 10, 2 << 20), output(ONE, 11, 10)];
        feeds.keep(large, clock::timer());
        let taken = numbers(&feeds, ONE, next);
        assert_eq!(taken, Some(vec![10]), "no more at a time");
        assert_eq!(numbers(&feeds, ONE, next), Some(vec![11]));
    }

    #[test]
    fn a_new_run_of_a_node_takes_the_place_of_the_old_one() {
        let feeds = Feeds::default();
        let old = feeds.begin(ONE, clock::timer());
        let next = (NodeId(1), BootId(2));
        let new = feeds.begin(next, clock::timer());
        let both = vec![output(ONE, 1, 10), output(next, 1, 10)];
        feeds.keep(both, clock::timer());
        assert_eq!(numbers(&feeds, ONE, old), None);
        assert_eq!(numbers(&feeds, next, new), Some(vec![1]));
    }

    #[test]
    fn who_asks_no_more_is_forgotten() {
        let feeds = Feeds::default();
        let feed = feeds.begin(ONE, clock::timer());
        let late = clock::timer() + FORGOTTEN + Duration::from_secs(1);
        feeds.keep(vec![output(ONE, 1, 10)], late);
        assert_eq!(numbers(&feeds, ONE, feed), None);
    }
}
