//! Distributes what follows from applied entries: outputs and notices to the host, and wake-ups to the tasks that wait
//! for progress.

use std::sync::{Arc, OnceLock};

use tokio::sync::{broadcast, watch};

use super::{Leadership, Notices};
use crate::cluster::Host;
use crate::raft::machine::Observer;
use crate::session::{Notice, Output};
use crate::{BootId, NodeId, ShardId};

/// How many entries a subscriber to notices may be behind. One that is further behind learns that it has missed some.
const BEHIND: usize = 1024;

/// The subscribers to the state machines of all shards on this node.
pub struct Subscribers {
    me: (NodeId, BootId),
    host: Arc<dyn Host>,
    shards: Vec<Listeners>,
}

/// The subscribers to one shard.
struct Listeners {
    applied: watch::Sender<()>,
    notices: broadcast::Sender<Notices>,
    /// Set once the groups run. They may apply entries before that.
    leadership: OnceLock<watch::Receiver<Leadership>>,
}

impl Listeners {
    fn new() -> Self {
        Self {
            applied: watch::Sender::new(()),
            notices: broadcast::Sender::new(BEHIND),
            leadership: OnceLock::new(),
        }
    }
}

impl Subscribers {
    /// Has no subscribers yet. `me` is this process, whose connections get outputs.
    pub fn new(me: (NodeId, BootId), host: Arc<dyn Host>, shards: u16) -> Self {
        let shards = (0..shards).map(|_| Listeners::new()).collect();
        Self { me, host, shards }
    }

    /// Changes whenever entries were applied. For an unknown shard the channel is closed.
    pub fn progress(&self, shard: ShardId) -> watch::Receiver<()> {
        match self.listeners(shard) {
            Some(listeners) => listeners.applied.subscribe(),
            None => watch::channel(()).1,
        }
    }

    /// The channel of a shard's notices.
    pub fn notices(&self, shard: ShardId) -> broadcast::Sender<Notices> {
        match self.listeners(shard) {
            Some(listeners) => listeners.notices.clone(),
            None => broadcast::Sender::new(1),
        }
    }

    /// Sets from where the shard's leader is known.
    pub fn watch(&self, shard: ShardId, leadership: watch::Receiver<Leadership>) {
        if let Some(listeners) = self.listeners(shard) {
            // It can be set once only, which is enough, as a shard has one group.
            drop(listeners.leadership.set(leadership));
        }
    }

    fn listeners(&self, shard: ShardId) -> Option<&Listeners> {
        self.shards.get(usize::from(shard.0))
    }

    fn wake(&self, shard: ShardId) {
        if let Some(listeners) = self.listeners(shard) {
            listeners.applied.send_replace(());
        }
    }
}

impl Observer for Subscribers {
    fn outputs(&self, _: ShardId, mut outputs: Vec<Output>) {
        outputs.retain(|output| (output.owner.node, output.owner.boot) == self.me);
        if !outputs.is_empty() {
            self.host.outputs(outputs);
        }
    }

    fn notices(&self, shard: ShardId, notices: Vec<Notice>) {
        let Some(listeners) = self.listeners(shard).filter(|_| !notices.is_empty()) else {
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
        self.host.resync(shard);
    }
}
