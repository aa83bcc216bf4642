//! Distributes what follows from applied entries: outputs and notices to the host, and wake-ups to the tasks that wait
//! for progress.

use std::sync::{Arc, OnceLock};

use tokio::sync::{broadcast, watch};

use super::{Leadership, Notices};
use crate::cluster::Host;
use crate::raft::machine::Observer;
use crate::session::{Notice, Output};
use crate::subscribe::feed::Feeds;
use crate::subscribe::source::Source;
use crate::{BootId, NodeId, ShardId, clock};

/// How many entries a subscriber to notices may be behind. One that is further behind learns that it has missed some.
const BEHIND: usize = 1024;

/// The subscribers to the state machines of all shards on this node.
pub struct Subscribers {
    me: (NodeId, BootId),
    host: Arc<dyn Host>,
    shards: Vec<Arc<Listeners>>,
}

/// The subscribers to one shard.
pub struct Listeners {
    /// Changes whenever entries were applied, or news came from the replica on another node.
    pub applied: watch::Sender<()>,
    /// The notices of entries.
    pub notices: broadcast::Sender<Notices>,
    /// Where the outputs for this node's connections come from.
    pub source: watch::Sender<Source>,
    /// Other nodes that have no replica.
    pub feeds: Feeds,
    /// Set once the groups run. They may apply entries before that.
    leadership: OnceLock<watch::Receiver<Leadership>>,
}

impl Listeners {
    fn new(source: Source) -> Self {
        Self {
            applied: watch::Sender::new(()),
            notices: broadcast::Sender::new(BEHIND),
            source: watch::Sender::new(source),
            feeds: Feeds::default(),
            leadership: OnceLock::new(),
        }
    }

    /// Sets from where the shard's leader is known.
    pub fn watch(&self, leadership: watch::Receiver<Leadership>) {
        // It can be set once only, which is enough, as a shard has one group.
        drop(self.leadership.set(leadership));
    }
}

impl Subscribers {
    /// Has no subscribers yet. `me` is this process, whose connections get outputs from `source` until another one is
    /// found.
    pub fn new(me: (NodeId, BootId), host: Arc<dyn Host>, shards: u16, source: Source) -> Self {
        let shards = (0..shards).map(|_| Arc::new(Listeners::new(source)));
        Self {
            me,
            host,
            shards: shards.collect(),
        }
    }

    /// The subscribers to a shard; none if there is no such shard.
    pub fn of(&self, shard: ShardId) -> Option<&Arc<Listeners>> {
        self.shards.get(usize::from(shard.0))
    }

    fn wake(&self, shard: ShardId) {
        if let Some(listeners) = self.of(shard) {
            listeners.applied.send_replace(());
        }
    }
}

impl Observer for Subscribers {
    fn outputs(&self, shard: ShardId, mut outputs: Vec<Output>) {
        let Some(listeners) = self.of(shard).filter(|_| !outputs.is_empty()) else {
            return;
        };
        let ours = |output: &Output| (output.owner.node, output.owner.boot) == self.me;
        if !listeners.feeds.is_empty() {
            let others;
            (outputs, others) = outputs.into_iter().partition(ours);
            listeners.feeds.keep(others, clock::timer());
        }
        if *listeners.source.borrow() == Source::Here {
            outputs.retain(ours);
            if !outputs.is_empty() {
                self.host.outputs(outputs);
            }
        }
    }

    fn notices(&self, shard: ShardId, notices: Vec<Notice>) {
        let Some(listeners) = self.of(shard).filter(|_| !notices.is_empty()) else {
            return;
        };
        let leadership = listeners.leadership.get();
        let leads = leadership.is_some_and(|leadership| leadership.borrow().mine);
        self.host.notices(shard, leads, &notices);
        // It is normal that nobody has subscribed: only a leader's tasks do.
        drop(listeners.notices.send(notices.into()));
    }

    fn applied(&self, shard: ShardId, _: u64) {
        self.wake(shard);
    }

    fn installed(&self, shard: ShardId) {
        self.wake(shard);
        if let Some(listeners) = self.of(shard) {
            listeners.feeds.end();
            if *listeners.source.borrow() == Source::Here {
                self.host.resync(shard);
            }
        }
    }
}
