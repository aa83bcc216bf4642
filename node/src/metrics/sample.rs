//! What is measured only when the metrics are asked for.
//!
//! What all replicas of a shard know is told by the node that leads it, and what all nodes know of the members by the
//! one that leads the first shard, so that sums over the nodes count everything once.

use std::collections::BTreeMap;

use cluster::metrics::Counters;
use cluster::mirror::LimitCounts;
use cluster::session::Totals;
use cluster::status::{MemberState, NodeStatus, ShardStatus, Status};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use super::label::DecidedBy;
use super::process;
use crate::admin::report::Seats;

/// See the module.
#[derive(Debug)]
pub struct Sample {
    /// Whether clients should be sent here.
    pub is_ready: bool,
    /// The cluster as this node sees it.
    pub status: Status,
    /// What the shards hold that this node leads.
    pub totals: Totals,
    /// What this node has on its disk.
    pub disk: Disk,
    /// How limits were decided; none of it is there without Redis but the decisions.
    pub limits: LimitCounts,
    /// Whether there is a Redis.
    pub has_redis: bool,
    /// Hashes of other replicas that differed from those of replicas here.
    pub dissents: u64,
    /// Requests that came to this node, by the namespace of what they carry.
    pub requests: Vec<(&'static str, u64)>,
    /// When the certificate ends, in milliseconds since 1970.
    pub certificate_end: Option<u64>,
}

/// What this node has on its disk.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    /// Bytes of the log.
    pub log: u64,
    /// Bytes of the snapshots.
    pub snapshots: u64,
    /// Nothing new is accepted for want of disk space or of open files.
    pub is_short: bool,
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: impl TryInto<u64>) {
    let value = value.try_into().unwrap_or(u64::MAX);
    registry.register(name, help, ConstGauge::new(value));
}

impl Sample {
    /// Has the registry show what was measured.
    pub(super) fn register(&self, registry: &mut Registry) {
        gauge(
            registry,
            "ready",
            "Whether clients should be sent to this node",
            u64::from(self.is_ready),
        );
        self.register_totals(registry);
        self.register_disk(registry);
        self.register_shards(registry);
        self.register_lag(registry);
        self.register_limits(registry);
        self.register_requests(registry);
        if self.status.shards.first().is_some_and(|first| first.mine) {
            members(registry, &self.status.nodes);
        }
        if let Some(end) = self.certificate_end {
            gauge(
                registry,
                "certificate_expiry_timestamp_seconds",
                "When the certificate for clients ends, in seconds since 1970",
                end / 1000,
            );
        }
        process::register_allocator(registry);
    }

    fn register_totals(&self, registry: &mut Registry) {
        let totals = &self.totals;
        for (name, help, count) in [
            (
                "hibernated_sessions",
                "Sessions without a connection, in shards led here",
                totals.hibernated,
            ),
            (
                "old_sessions",
                "Ended sessions whose counts are kept, in shards led here",
                totals.old,
            ),
            (
                "queue_stanzas",
                "Unacknowledged stanzas of all sessions, in shards led here",
                totals.queued,
            ),
            (
                "queue_bytes",
                "Their bytes in memory, about",
                totals.queued_bytes,
            ),
            (
                "undelivered_messages",
                "Messages that wait for users, in shards led here",
                totals.undelivered,
            ),
            (
                "pending_effects",
                "Work for the database that is not confirmed, in shards led here",
                totals.effects,
            ),
            (
                "outbox_items",
                "What waits in shards led here for other shards to take it",
                totals.outbox,
            ),
        ] {
            gauge(registry, name, help, count);
        }
        gauge(
            registry,
            "outbox_bytes",
            "Bytes of what waits for other shards, about",
            totals.outbox_bytes,
        );
    }

    fn register_disk(&self, registry: &mut Registry) {
        gauge(
            registry,
            "log_bytes",
            "Bytes that the replicated log takes up on the disk of this node",
            self.disk.log,
        );
        gauge(
            registry,
            "snapshot_bytes",
            "Bytes of the snapshots on the disk of this node",
            self.disk.snapshots,
        );
        gauge(
            registry,
            "shortage",
            "Whether nothing new is accepted for want of disk space or of open files",
            u64::from(self.disk.is_short),
        );
    }

    fn register_shards(&self, registry: &mut Registry) {
        let shards = &self.status.shards;
        let count = |is: fn(&ShardStatus) -> bool| shards.iter().filter(|shard| is(shard)).count();
        gauge(registry, "shards", "Shards of the cluster", shards.len());
        gauge(
            registry,
            "shards_led",
            "Shards that this node leads",
            count(|shard| shard.mine),
        );
        gauge(
            registry,
            "stalled_shards",
            "Shards that commit nothing although something waits, as seen from here",
            count(|shard| shard.stalled.is_some()),
        );
        registry.register(
            "replica_dissents",
            "Times that a replica elsewhere had another state than the one here",
            ConstCounter::new(self.dissents),
        );
    }

    fn register_requests(&self, registry: &mut Registry) {
        let requests: Family<[(&str, &str); 1], Counter> = Family::default();
        for (ns, count) in &self.requests {
            requests.get_or_create(&[("namespace", *ns)]).inc_by(*count);
        }
        registry.register(
            "requests",
            "Requests of clients that services of this server answer, by namespace",
            requests,
        );
    }

    /// By shard what this replica has yet to apply, and for shards that are led here what others have yet to get.
    fn register_lag(&self, registry: &mut Registry) {
        let seats = Seats::of(&self.status.nodes);
        let apply: Family<[(&str, String); 1], Gauge> = Family::default();
        let replicas: Family<[(&str, String); 2], Gauge> = Family::default();
        let entries = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        for shard in &self.status.shards {
            let name = || ("shard", shard.shard.to_string());
            let behind = shard.committed.saturating_sub(shard.applied);
            apply.get_or_create(&[name()]).set(entries(behind));
            for replica in &shard.replicas {
                // One that has not answered yet has nothing, as far as its leader knows.
                let lag = replica.lag.unwrap_or(shard.last_log);
                let labels = [name(), ("node", seats.name(replica.node))];
                replicas.get_or_create(&labels).set(entries(lag));
            }
        }
        registry.register(
            "apply_lag_entries",
            "Entries that are committed and that this node has not applied",
            apply,
        );
        registry.register(
            "replica_lag_entries",
            "Entries of shards led here that another replica lacks",
            replicas,
        );
    }

    fn register_limits(&self, registry: &mut Registry) {
        let decisions = Counters::default();
        decisions.inc_by(DecidedBy::Redis, self.limits.by_redis);
        decisions.inc_by(DecidedBy::Shard, self.limits.by_shard);
        registry.register(
            "limit_decisions",
            "Sessions that fell asleep in shards led here, by who decided",
            decisions.family(),
        );
        if !self.has_redis {
            return;
        }
        registry.register(
            "redis_errors",
            "Calls to Redis that came to nothing",
            ConstCounter::new(self.limits.errors),
        );
        // A node that leads nothing asks nothing of it, and what it found before is old.
        let asks = self.status.shards.iter().any(|shard| shard.mine);
        if let Some(up) = self.limits.up.filter(|_| asks) {
            gauge(
                registry,
                "redis_up",
                "Whether Redis answers this node",
                u64::from(up),
            );
        }
    }
}

/// How many members are how.
fn members(registry: &mut Registry, nodes: &[NodeStatus]) {
    let mut counts: BTreeMap<MemberState, i64> = MemberState::ALL
        .into_iter()
        .map(|state| (state, 0))
        .collect();
    for state in nodes.iter().filter_map(|node| node.state) {
        *counts.entry(state).or_default() += 1;
    }
    let family: Family<[(&str, &str); 1], Gauge> = Family::default();
    for (state, count) in counts {
        let labels = [("state", state.name())];
        family.get_or_create(&labels).set(count);
    }
    registry.register(
        "members",
        "Members of the cluster by their state, as the leader of the first shard sees them",
        family,
    );
}
