//! What applied entries set off on this node: outputs go to the host, waiting tasks wake up.

use std::sync::Arc;

use tokio::sync::watch;

use crate::cluster::Host;
use crate::raft::machine::Sink;
use crate::session::Output;
use crate::{BootId, NodeId, ShardId};

/// Stands between the state machines and whoever listens to them.
pub struct Junction {
    me: (NodeId, BootId),
    host: Arc<dyn Host>,
    applied: Vec<watch::Sender<()>>,
}

impl Junction {
    /// For `shards` shards.
    pub fn new(me: (NodeId, BootId), host: Arc<dyn Host>, shards: u16) -> Self {
        let applied = (0..shards).map(|_| watch::Sender::new(())).collect();
        Self { me, host, applied }
    }

    /// Changes whenever entries were applied; closed for a shard that there is not.
    pub fn progress(&self, shard: ShardId) -> watch::Receiver<()> {
        match self.applied.get(usize::from(shard.0)) {
            Some(sender) => sender.subscribe(),
            None => watch::channel(()).1,
        }
    }

    fn wake(&self, shard: ShardId) {
        if let Some(sender) = self.applied.get(usize::from(shard.0)) {
            sender.send_replace(());
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

    fn applied(&self, shard: ShardId, _: u64) {
        self.wake(shard);
    }

    fn installed(&self, shard: ShardId) {
        self.wake(shard);
        self.host.resync(shard);
    }
}
