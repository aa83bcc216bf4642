//! Starts the tasks of a leader when this node becomes one, and stops them when it no longer leads.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::loss::PeerWatch;
use super::mirror::task::{self as limits, Mirror};
use super::{effects, loss, relay, retire, settings, tick};
use crate::ShardId;
use crate::cluster::Host;
use crate::propose::{Proposer, ShardGroup, wait_applied};
use crate::raft::retirement::Orders;
use crate::session::{Lane, Settings};

/// What the tasks of a leader need, for one shard.
pub struct LeaderTasks<G> {
    group: Arc<G>,
    proposers: Arc<[Proposer]>,
    host: (Arc<dyn Host>, Handle),
    watch: PeerWatch,
    mirror: Mirror,
    settings: watch::Receiver<Settings>,
    /// Which nodes the shards should retire. Nobody gives orders to a node that has no others.
    orders: watch::Receiver<Orders>,
}

impl<G: ShardGroup> LeaderTasks<G> {
    /// `proposers` are those of all shards, by number; `host` carries out effects, on a runtime of its own; `watch` knows the other processes;
    /// `mirror` is the Redis that is kept informed; `settings` are those of this node.
    pub fn new(
        group: Arc<G>,
        proposers: Arc<[Proposer]>,
        host: (Arc<dyn Host>, Handle),
        watch: PeerWatch,
        mirror: Mirror,
        settings: watch::Receiver<Settings>,
    ) -> Self {
        Self {
            group,
            proposers,
            host,
            watch,
            mirror,
            settings,
            orders: watch::Sender::default().subscribe(),
        }
    }

    /// The same, for a shard that is told which nodes are no longer members.
    pub fn retiring(self, orders: watch::Receiver<Orders>) -> Self {
        Self { orders, ..self }
    }

    /// Starts the tasks when this node becomes leader and ends them when it no longer is. Runs until the
    /// group is closed.
    pub async fn run(self) {
        let mut leadership = self.group.leadership();
        loop {
            let mine = leadership.wait_for(|l| l.mine).await.map(|l| *l);
            let Ok(mine) = mine else { return };
            let changed = leadership.wait_for(|l| *l != mine);
            // Dropping the future of `lead` ends the tasks.
            let closed = tokio::select! {
                changed = changed => changed.is_err(),
                () = self.lead() => false,
            };
            if closed {
                return;
            }
        }
    }

    /// Runs the tasks. It never returns.
    async fn lead(&self) {
        self.catch_up().await;
        let mut tasks = JoinSet::new();
        let (group, proposers) = (&self.group, &self.proposers);
        let Some(own) = proposers.get(usize::from(group.shard().0)).cloned() else {
            return std::future::pending().await;
        };
        for (to, proposer) in (0..).map(ShardId).zip(proposers.iter()) {
            if to != group.shard() {
                tasks.spawn(relay::run(group.clone(), to, proposer.clone(), own.clone()));
            }
        }
        for lane in Lane::ALL {
            let (group, own, host) = (group.clone(), own.clone(), self.host.clone());
            tasks.spawn(effects::run(group, own, host, lane));
        }
        tasks.spawn(tick::run(group.clone(), own.clone()));
        let mirror = self.mirror.clone();
        tasks.spawn(limits::run(group.clone(), own.clone(), mirror));
        let settings = self.settings.clone();
        tasks.spawn(settings::run(group.clone(), own.clone(), settings));
        let orders = self.orders.clone();
        tasks.spawn(retire::run(group.clone(), own.clone(), orders));
        tasks.spawn(loss::run(group.clone(), own, self.watch.clone()));
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                // The other tasks go on. The next leader starts the failed one again.
                tracing::error!(shard = %group.shard(), %error, "a leader's task has failed");
            }
        }
        std::future::pending().await
    }

    /// Waits until the state contains what earlier leaders have committed.
    async fn catch_up(&self) {
        loop {
            if let Ok(index) = self.group.read_index().await
                && wait_applied(&*self.group, index).await.is_ok()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
