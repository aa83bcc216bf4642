//! What is counted, in Prometheus' text format. No label carries a JID (T-64).

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

/// What happens to sessions; counted by the node that leads their shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(missing_docs, reason = "each says what happened")]
pub enum SessionEvent {
    HibernationStart,
    ResumedHere,
    ResumedElsewhere,
    StanzaQueued,
    EndedClosed,
    EndedLost,
    EndedExpired,
    EndedConflict,
    EndedLimit,
    EndedAdmin,
    EndedViolation,
    EndedCredentials,
}

/// Labels of [`Metrics::session_events`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SessionEventLabels {
    /// What happened.
    pub event: SessionEvent,
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
    /// Connections refused by a limit.
    pub refused: Counter,
    /// Logins by result.
    pub logins: Family<LoginLabels, Counter>,
    /// Attempts to resume by result.
    pub resumes: Family<ResumeLabels, Counter>,
    /// What happened to sessions of shards that this node leads.
    pub session_events: Family<SessionEventLabels, Counter>,
    /// Stanzas by direction.
    pub stanzas: Family<StanzaLabels, Counter>,
    /// Seconds from a proposal to its outcome.
    pub proposals: Histogram,
    /// Times that a slow reader's queue was held back.
    pub held_back: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("holdfast");
        let metrics = Self {
            connections: Gauge::default(),
            sessions: Gauge::default(),
            hibernated: Gauge::default(),
            refused: Counter::default(),
            logins: Family::default(),
            resumes: Family::default(),
            session_events: Family::default(),
            stanzas: Family::default(),
            proposals: Histogram::new(exponential_buckets(0.0005, 2.0, 16)),
            held_back: Counter::default(),
            registry: Registry::default(),
        };
        registry.register(
            "c2s_connections",
            "Open client sockets",
            metrics.connections.clone(),
        );
        registry.register(
            "sessions",
            "Sessions with a connection here",
            metrics.sessions.clone(),
        );
        registry.register(
            "hibernated_sessions",
            "Sessions without a connection",
            metrics.hibernated.clone(),
        );
        registry.register(
            "refused_connections",
            "Connections refused by a limit",
            metrics.refused.clone(),
        );
        registry.register("logins", "Logins by result", metrics.logins.clone());
        registry.register(
            "resumes",
            "Attempts to resume by result",
            metrics.resumes.clone(),
        );
        registry.register(
            "session_events",
            "What happened to sessions of shards led here",
            metrics.session_events.clone(),
        );
        registry.register("stanzas", "Stanzas by direction", metrics.stanzas.clone());
        registry.register(
            "proposal_seconds",
            "From a proposal to its outcome",
            metrics.proposals.clone(),
        );
        registry.register(
            "held_back",
            "Times a slow reader was held back",
            metrics.held_back.clone(),
        );
        Self {
            registry,
            ..metrics
        }
    }
}

impl Metrics {
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
    pub fn session_event(&self, event: SessionEvent) {
        self.session_events
            .get_or_create(&SessionEventLabels { event })
            .inc();
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
