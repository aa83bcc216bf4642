//! What whoever leads a shard has to do, for as long as it leads.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::limits::{self, Ledger};
use super::loss::Watch;
use super::{Group, Queue, effects, loss, relay, settings, tick, wait_applied};
use crate::ShardId;
use crate::cluster::Host;
use crate::session::{Lane, Settings};

/// What a leader's tasks work with.
pub struct Duty<G> {
    group: Arc<G>,
    queues: Arc<[Queue]>,
    host: Arc<dyn Host>,
    watch: Watch,
    ledger: Ledger,
    settings: watch::Receiver<Settings>,
}

impl<G: Group> Duty<G> {
    /// The duties of one shard's leader. `queues` are those of all shards, by number; `host` carries out
    /// effects; `watch` knows which processes there are; `ledger` says where hibernated sessions are
    /// counted; `settings` are this node's.
    pub fn new(
        group: Arc<G>,
        queues: Arc<[Queue]>,
        host: Arc<dyn Host>,
        watch: Watch,
        ledger: Ledger,
        settings: watch::Receiver<Settings>,
    ) -> Self {
        Self {
            group,
            queues,
            host,
            watch,
            ledger,
            settings,
        }
    }

    /// Starts the tasks when this node becomes leader and ends them when it no longer is. Runs until the
    /// group is closed.
    pub async fn run(self) {
        let mut leadership = self.group.leadership();
        loop {
            let mine = leadership.wait_for(|l| l.mine).await.map(|l| *l);
            let Ok(mine) = mine else { return };
            let changed = leadership.wait_for(|l| *l != mine);
            // The tasks end when this future is dropped.
            let closed = tokio::select! {
                changed = changed => changed.is_err(),
                () = self.lead() => false,
            };
            if closed {
                return;
            }
        }
    }

    /// Never returns.
    async fn lead(&self) {
        self.catch_up().await;
        let mut tasks = JoinSet::new();
        let (group, queues) = (&self.group, &self.queues);
        let Some(own) = queues.get(usize::from(group.shard().0)).cloned() else {
            return std::future::pending().await;
        };
        for (to, queue) in (0..).map(ShardId).zip(queues.iter()) {
            if to != group.shard() {
                tasks.spawn(relay::run(group.clone(), to, queue.clone(), own.clone()));
            }
        }
        for lane in Lane::ALL {
            let (group, own, host) = (group.clone(), own.clone(), self.host.clone());
            tasks.spawn(effects::run(group, own, host, lane));
        }
        tasks.spawn(tick::run(group.clone(), own.clone()));
        let ledger = self.ledger.clone();
        tasks.spawn(limits::run(group.clone(), own.clone(), ledger));
        let settings = self.settings.clone();
        tasks.spawn(settings::run(group.clone(), own.clone(), settings));
        tasks.spawn(loss::run(group.clone(), own, self.watch.clone()));
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                // The others go on; a change of leader starts it anew.
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
