//! The metrics, in Prometheus' text format. No label contains a JID (T-64).

use std::sync::atomic::Ordering;

use cluster::mirror::LimitCounts;
use cluster::session::Totals;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// How an attempt to resume ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum ResumeResult {
    /// The session went on.
    Resumed,
    /// The session is unknown or over.
    NotFound,
    /// The client claimed more than it was sent.
    CountTooHigh,
    /// The cluster could not decide in time.
    Unavailable,
}

/// Labels of [`Metrics::resumes`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResumeLabels {
    /// How it ended.
    pub result: ResumeResult,
}

/// Which way a stanza went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Direction {
    /// From a client.
    In,
    /// To a client.
    Out,
}

/// Labels of [`Metrics::stanzas`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StanzaLabels {
    /// Which way.
    pub direction: Direction,
}

/// How a login ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum LoginResult {
    /// Authenticated.
    Ok,
    /// Wrong credentials.
    Failed,
    /// Too many failures before it.
    Throttled,
    /// The accounts could not be read.
    Unavailable,
}

/// Labels of [`Metrics::logins`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LoginLabels {
    /// How it ended.
    pub result: LoginResult,
}

/// An event of a session, counted by the node that leads its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum CountedEvent {
    HibernationStart,
    ResumedHere,
    ResumedElsewhere,
    StanzaQueued,
    AckDelayed,
    MarkerBack,
    MarkerForward,
    EndedClosed,
    EndedLost,
    EndedExpired,
    EndedConflict,
    EndedLimit,
    EndedAdmin,
    EndedViolation,
    EndedCredentials,
    EndedOverflow,
    EndedRemoved,
}

/// Labels of [`Metrics::session_events`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SessionEventLabels {
    /// What happened.
    pub event: CountedEvent,
}

/// Who decided that a session may hibernate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "they are the values of the label")]
pub enum DecidedBy {
    /// The shard, with Redis' answer.
    redis,
    /// The shard alone.
    shard,
}

/// Labels of [`Metrics::limit_decisions`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DecisionLabels {
    /// The underlying error.
    pub source: DecidedBy,
}

/// Everything that this process counts.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Sockets that are open.
    pub connections: Gauge,
    /// Bound or resumed sessions with a connection here.
    pub sessions: Gauge,
    /// Resumable sessions without a connection, in the shards that this node holds.
    pub hibernated: Gauge,
    /// Ended sessions whose counts are kept, in the shards that this node holds.
    pub old: Gauge,
    /// Stanzas in queues of sessions, likewise.
    pub queued: Gauge,
    /// Their bytes in memory, about.
    pub queued_bytes: Gauge,
    /// Messages that wait for users, likewise.
    pub undelivered: Gauge,
    /// Work for the database that is not confirmed, likewise.
    pub effects: Gauge,
    /// Bytes of the log on disk; set only when the text is asked for.
    pub log_bytes: Gauge,
    /// 1 while nothing new is accepted for want of disk space or of open files, likewise.
    pub shortage: Gauge,
    /// Shards that commit nothing although something waits.
    pub stalled: Gauge,
    /// Hashes of other replicas that differed from those of replicas here.
    pub dissents: Gauge,
    /// Connections refused by a limit.
    pub refused: Counter,
    /// Shards for which this node reaches no leader or no majority.
    pub cut_off: Gauge,
    /// Logins by result.
    pub logins: Family<LoginLabels, Counter>,
    /// Attempts to resume by result.
    pub resumes: Family<ResumeLabels, Counter>,
    /// What happened to sessions of shards that this node leads.
    pub session_events: Family<SessionEventLabels, Counter>,
    /// Sessions that fell asleep in shards that this node leads.
    pub limit_decisions: Family<DecisionLabels, Counter>,
    /// Calls to Redis that came to nothing.
    pub redis_errors: Counter,
    /// 1 while Redis answers.
    pub redis_up: Gauge,
    /// 1 while the database answers.
    pub database_up: Gauge,
    /// Stanzas by direction.
    pub stanzas: Family<StanzaLabels, Counter>,
    /// Seconds from a proposal to its outcome.
    pub proposals: Histogram,
    /// Seconds from a question to the acknowledgement.
    pub ack_delay: Histogram,
    /// Times that a slow reader's queue was held back.
    pub held_back: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            connections: Gauge::default(),
            sessions: Gauge::default(),
            hibernated: Gauge::default(),
            old: Gauge::default(),
            queued: Gauge::default(),
            queued_bytes: Gauge::default(),
            undelivered: Gauge::default(),
            effects: Gauge::default(),
            log_bytes: Gauge::default(),
            shortage: Gauge::default(),
            stalled: Gauge::default(),
            dissents: Gauge::default(),
            refused: Counter::default(),
            cut_off: Gauge::default(),
            logins: Family::default(),
            resumes: Family::default(),
            session_events: Family::default(),
            limit_decisions: Family::default(),
            redis_errors: Counter::default(),
            redis_up: Gauge::default(),
            database_up: Gauge::default(),
            stanzas: Family::default(),
            proposals: Histogram::new(exponential_buckets(0.0005, 2.0, 16)),
            ack_delay: Histogram::new(exponential_buckets(0.001, 2.0, 18)),
            held_back: Counter::default(),
            registry: Registry::with_prefix("holdfast"),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let r = &mut self.registry;
        r.register(
            "c2s_connections",
            "Open client sockets",
            self.connections.clone(),
        );
        r.register(
            "sessions",
            "Sessions with a connection here",
            self.sessions.clone(),
        );
        r.register(
            "hibernated_sessions",
            "Sessions without a connection",
            self.hibernated.clone(),
        );
        r.register(
            "refused_connections",
            "Connections refused by a limit",
            self.refused.clone(),
        );
        r.register("logins", "Logins by result", self.logins.clone());
        r.register(
            "resumes",
            "Attempts to resume by result",
            self.resumes.clone(),
        );
        r.register("stanzas", "Stanzas by direction", self.stanzas.clone());
        r.register(
            "proposal_seconds",
            "From a proposal to its outcome",
            self.proposals.clone(),
        );
        r.register(
            "ack_delay_seconds",
            "From a question to the acknowledgement",
            self.ack_delay.clone(),
        );
        r.register(
            "held_back",
            "Times a slow reader was held back",
            self.held_back.clone(),
        );
        r.register(
            "shards_cut_off",
            "Shards without a leader or a majority, as seen from here",
            self.cut_off.clone(),
        );
        self.register_sessions();
        self.register_totals();
    }
}

impl Metrics {
    fn register_sessions(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "session_events",
            "What happened to sessions of shards led here",
            self.session_events.clone(),
        );
        registry.register(
            "limit_decisions",
            "Sessions that fell asleep in shards led here, by who decided",
            self.limit_decisions.clone(),
        );
        registry.register(
            "redis_errors",
            "Calls to Redis that came to nothing",
            self.redis_errors.clone(),
        );
        registry.register(
            "redis_up",
            "Whether Redis answers a node that leads",
            self.redis_up.clone(),
        );
        registry.register(
            "database_up",
            "Whether the database answers this node",
            self.database_up.clone(),
        );
    }

    /// What is counted only when it is asked for.
    fn register_totals(&mut self) {
        let r = &mut self.registry;
        let kept = "Ended sessions whose counts are kept";
        r.register("old_sessions", kept, self.old.clone());
        let queued = "Unacknowledged stanzas of all sessions";
        r.register("queue_stanzas", queued, self.queued.clone());
        let bytes = "Their bytes in memory, about";
        r.register("queue_bytes", bytes, self.queued_bytes.clone());
        let waiting = "Messages that wait for users";
        r.register("undelivered_messages", waiting, self.undelivered.clone());
        let effects = "Work for the database that is not confirmed";
        r.register("pending_effects", effects, self.effects.clone());
        let log = "Bytes that the replicated log takes up on disk";
        r.register("log_bytes", log, self.log_bytes.clone());
        let short = "Whether nothing new is accepted for want of disk space or of open files";
        r.register("shortage", short, self.shortage.clone());
        let stalled = "Shards that commit nothing although something waits";
        r.register("stalled_shards", stalled, self.stalled.clone());
        let dissents = "Times that a replica elsewhere had another state than the one here";
        r.register("replica_dissents", dissents, self.dissents.clone());
    }

    /// Sets the values that are summed up over all shards.
    pub fn set_totals(&self, totals: Totals) {
        let set = |gauge: &Gauge, count: usize| {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        };
        set(&self.hibernated, totals.hibernated);
        set(&self.old, totals.old);
        set(&self.queued, totals.queued);
        set(&self.queued_bytes, totals.queued_bytes);
        set(&self.undelivered, totals.undelivered);
        set(&self.effects, totals.effects);
        let dissents = ::cluster::raft::dissent::seen();
        self.dissents
            .set(i64::try_from(dissents).unwrap_or(i64::MAX));
    }

    /// Sets the size of the log, and whether it lacks room.
    pub fn set_disk(&self, log_bytes: u64, short: bool) {
        self.log_bytes
            .set(i64::try_from(log_bytes).unwrap_or(i64::MAX));
        self.shortage.set(short.into());
    }

    /// The text that a scrape gets.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail; a metric that could not be written would only be absent.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// Counts one attempt to resume.
    pub fn resume(&self, result: ResumeResult) {
        self.resumes.get_or_create(&ResumeLabels { result }).inc();
    }

    /// Counts something that happened to a session.
    pub fn session_event(&self, event: CountedEvent) {
        self.session_events
            .get_or_create(&SessionEventLabels { event })
            .inc();
    }

    /// Takes over what the cluster has counted of limits.
    pub fn limits(&self, counts: LimitCounts) {
        let set = |counter: &Counter, to| counter.inner().store(to, Ordering::Relaxed);
        for (source, count) in [
            (DecidedBy::redis, counts.by_redis),
            (DecidedBy::shard, counts.by_shard),
        ] {
            let labels = DecisionLabels { source };
            set(&self.limit_decisions.get_or_create(&labels), count);
        }
        set(&self.redis_errors, counts.errors);
        self.redis_up.set(i64::from(counts.up == Some(true)));
    }

    /// Counts one login.
    pub fn login(&self, result: LoginResult) {
        self.logins.get_or_create(&LoginLabels { result }).inc();
    }

    /// Counts stanzas.
    pub fn stanzas(&self, direction: Direction, count: usize) {
        self.stanzas
            .get_or_create(&StanzaLabels { direction })
            .inc_by(count as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_in_the_text() {
        let metrics = Metrics::default();
        metrics.resume(ResumeResult::Resumed);
        metrics.connections.set(3);
        let text = metrics.text();
        assert!(
            text.contains("holdfast_resumes_total{result=\"Resumed\"} 1"),
            "{text}"
        );
        assert!(text.contains("holdfast_c2s_connections 3"), "{text}");
    }
}
