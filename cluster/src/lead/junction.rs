//! What applied entries set off on this node: outputs and notices go to the host, waiting tasks wake up.

use std::sync::{Arc, OnceLock};

use tokio::sync::{broadcast, watch};

use super::{Leadership, News};
use crate::cluster::Host;
use crate::raft::machine::Sink;
use crate::session::{Notice, Output};
use crate::{BootId, NodeId, ShardId};

/// Entries' worth of notices that a listener may be behind; then it is told that it missed some.
const BEHIND: usize = 1024;

/// Stands between the state machines and whoever listens to them.
pub struct Junction {
    me: (NodeId, BootId),
    host: Arc<dyn Host>,
    shards: Vec<Listeners>,
}

/// Who listens to one shard.
struct Listeners {
    applied: watch::Sender<()>,
    news: broadcast::Sender<News>,
    /// Known as soon as the groups are, which may apply entries before.
    leadership: OnceLock<watch::Receiver<Leadership>>,
}

impl Listeners {
    fn new() -> Self {
        Self {
            applied: watch::Sender::new(()),
            news: broadcast::Sender::new(BEHIND),
            leadership: OnceLock::new(),
        }
    }
}

impl Junction {
    /// For `shards` shards.
    pub fn new(me: (NodeId, BootId), host: Arc<dyn Host>, shards: u16) -> Self {
        let shards = (0..shards).map(|_| Listeners::new()).collect();
        Self { me, host, shards }
    }

    /// Changes whenever entries were applied; closed for a shard that there is not.
    pub fn progress(&self, shard: ShardId) -> watch::Receiver<()> {
        match self.listeners(shard) {
            Some(listeners) => listeners.applied.subscribe(),
            None => watch::channel(()).1,
        }
    }

    /// Where a shard's notices can be heard.
    pub fn news(&self, shard: ShardId) -> broadcast::Sender<News> {
        match self.listeners(shard) {
            Some(listeners) => listeners.news.clone(),
            None => broadcast::Sender::new(1),
        }
    }

    /// Who leads the shard, from now on.
    pub fn watch(&self, shard: ShardId, leadership: watch::Receiver<Leadership>) {
        if let Some(listeners) = self.listeners(shard) {
            // A shard has one group; a second would be the same.
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

impl Sink for Junction {
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
        // That nobody listens is usual: only a leader does.
        drop(listeners.news.send(notices.into()));
    }

    fn applied(&self, shard: ShardId, _: u64) {
        self.wake(shard);
    }

    fn installed(&self, shard: ShardId) {
        self.wake(shard);
        self.host.resync(shard);
    }
}
