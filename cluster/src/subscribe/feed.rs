//! What a replica keeps for nodes that subscribe to it.
//!
//! # Bounds
//!
//! [`MOST`] bytes for each node and shard, and [`FORGOTTEN`] for nodes that ask no more. What would be more ends the
//! subscription: the node begins anew, and reads what it missed from the state.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::session::{Event, Output};
use crate::{BootId, NodeId};

/// The most bytes that wait for one node.
const MOST: usize = 8 << 20;
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
pub struct Feeds(Mutex<BTreeMap<Process, Feed>>);

/// What waits for one process.
#[derive(Debug)]
struct Feed {
    outputs: VecDeque<Output>,
    bytes: usize,
    asked: Instant,
    more: Arc<Notify>,
}

/// A process has no subscription, or none any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoFeed;

impl Feeds {
    /// Keeps outputs for a process from now on; what was kept for it before is forgotten.
    pub fn begin(&self, of: Process, now: Instant) {
        let feed = Feed {
            outputs: VecDeque::new(),
            bytes: 0,
            asked: now,
            more: Arc::default(),
        };
        let mut feeds = self.lock();
        // Another run of the node is gone.
        feeds.retain(|(node, _), _| *node != of.0);
        feeds.insert(of, feed);
    }

    /// Ends all subscriptions, because outputs were skipped.
    pub fn end(&self) {
        for (_, feed) in std::mem::take(&mut *self.lock()) {
            feed.more.notify_one();
        }
    }

    /// Keeps outputs for those who have subscribed, and drops the others.
    pub fn keep(&self, outputs: Vec<Output>, now: Instant) {
        if outputs.is_empty() {
            return;
        }
        let mut feeds = self.lock();
        if feeds.is_empty() {
            return;
        }
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

    /// What waits for a process. If nothing does, also something to wait with.
    pub fn take(&self, of: Process, now: Instant) -> Result<(Vec<Output>, Arc<Notify>), NoFeed> {
        let mut feeds = self.lock();
        let feed = feeds.get_mut(&of).ok_or(NoFeed)?;
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
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Process, Feed>> {
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

    fn numbers(feeds: &Feeds, of: Process) -> Option<Vec<u64>> {
        let (outputs, _) = feeds.take(of, clock::timer()).ok()?;
        let number = |output: &Output| match output.event {
            Event::Stanza { seq, .. } => seq,
            _ => 0,
        };
        Some(outputs.iter().map(number).collect())
    }

    #[test]
    fn a_process_gets_its_outputs_in_order_and_each_once() {
        let feeds = Feeds::default();
        feeds.begin(ONE, clock::timer());
        let all = vec![output(ONE, 1, 10), output(TWO, 1, 10), output(ONE, 2, 10)];
        feeds.keep(all, clock::timer());
        assert_eq!(numbers(&feeds, ONE), Some(vec![1, 2]));
        assert_eq!(numbers(&feeds, ONE), Some(vec![]));
        assert_eq!(numbers(&feeds, TWO), None);
    }

    #[test]
    fn what_is_too_much_ends_the_subscription() {
        let feeds = Feeds::default();
        feeds.begin(ONE, clock::timer());
        let outputs = (1..=9).map(|n| output(ONE, n, 1 << 20));
        feeds.keep(outputs.collect(), clock::timer());
        assert_eq!(numbers(&feeds, ONE), None);
        feeds.begin(ONE, clock::timer());
        feeds.keep(
            vec![output(ONE, 10, 2 << 20), output(ONE, 11, 10)],
            clock::timer(),
        );
        assert_eq!(numbers(&feeds, ONE), Some(vec![10]), "no more at a time");
        assert_eq!(numbers(&feeds, ONE), Some(vec![11]));
    }

    #[test]
    fn a_new_run_of_a_node_takes_the_place_of_the_old_one() {
        let feeds = Feeds::default();
        feeds.begin(ONE, clock::timer());
        let next = (NodeId(1), BootId(2));
        feeds.begin(next, clock::timer());
        feeds.keep(
            vec![output(ONE, 1, 10), output(next, 1, 10)],
            clock::timer(),
        );
        assert_eq!(numbers(&feeds, ONE), None);
        assert_eq!(numbers(&feeds, next), Some(vec![1]));
    }

    #[test]
    fn who_asks_no_more_is_forgotten() {
        let feeds = Feeds::default();
        feeds.begin(ONE, clock::timer());
        let late = clock::timer() + FORGOTTEN + Duration::from_secs(1);
        feeds.keep(vec![output(ONE, 1, 10)], late);
        assert_eq!(numbers(&feeds, ONE), None);
    }
}
