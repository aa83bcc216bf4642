//! Does what the cluster asks of this node: passes outputs to connections, and carries out effects in the database.

use std::sync::Arc;

use bytes::Bytes;
use cluster::session::{Completed, Notice, Output, Pending};
use cluster::shard_of;
use cluster::{Host, ShardId};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::app::LocalPresences;
use crate::auth::Failures;
use crate::hooks::{Edge, Heard, Registry};
use crate::inquiry::Known;
use crate::maintenance::Maintenance;
use crate::metrics::Metrics;
use crate::router::effects;
use crate::session::Directory;

/// Implements [`Host`]. It is called on the cluster's own threads, so it never blocks.
pub struct NodeHost {
    /// The connections of this process.
    pub directory: Arc<Directory>,
    /// What effects need.
    pub edge: Arc<Edge>,
    /// What services have attached.
    pub services: Arc<Registry>,
    /// What failed here and elsewhere.
    pub failures: Arc<Failures>,
    /// Whether this node is in service.
    pub maintenance: Arc<Maintenance>,
    /// The cluster, once it has started.
    pub presences: Arc<LocalPresences>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// How many shards there are.
    pub shards: u16,
}

impl Host for NodeHost {
    fn outputs(&self, outputs: Vec<Output>) {
        self.directory.deliver(outputs);
    }

    fn notices(&self, _: ShardId, leads: bool, notices: &[Notice]) {
        for notice in notices {
            self.services.heard(&Heard {
                notice,
                leads,
                metrics: &self.metrics,
            });
        }
    }

    fn answer(&self, question: Bytes) -> Bytes {
        let own = |conn| self.presences.owner(conn);
        let known = Known {
            trail: &self.edge.trail,
            directory: &self.directory,
            failures: &self.failures,
            led: &|| self.presences.led(),
            maintenance: &self.maintenance,
        };
        known.answer(&question, own).into()
    }

    fn resync(&self, shard: ShardId) {
        self.directory
            .resync(shard, |account| shard_of(account, self.shards));
    }

    fn perform(&self, shard: ShardId, pending: Vec<Pending>) -> BoxFuture<'static, Vec<Completed>> {
        let (services, edge) = (self.services.clone(), self.edge.clone());
        async move { effects::perform(&services, &edge, shard, pending).await }.boxed()
    }
}
