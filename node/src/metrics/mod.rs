//! The metrics, in OpenMetrics' text format. No label contains a JID (T-64).
//!
//! - here is what this node counts as it goes; `label` has the values of its labels;
//! - `sample` is what is measured when somebody asks, `process` what the system tells of the process;
//! - what replicas count is in [`cluster::metrics`].
//!
//! Names and labels are an interface: alerts, dashboards and people's own rules are made of them.

use cluster::metrics::Counters;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub use self::label::{
    CountedEvent, Direction, Distance, LoginResult, Refused, RegistrationResult, ResumeResult,
    Throttled,
};
pub use self::sample::{Disk, Sample};

mod label;
mod process;
mod sample;

/// Before the names of all metrics that are not the same for every program.
const PREFIX: &str = "holdfast";

/// Everything that this process counts.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// When the process began, in milliseconds since 1970.
    started: u64,
    /// Sockets that are open.
    pub connections: Gauge,
    /// Sessions of BOSH that are remembered here.
    pub bosh_sessions: Gauge,
    /// Bound or resumed sessions with a connection here.
    pub sessions: Gauge,
    /// Connections refused, or closed before they had a session.
    pub refused: Counters<Refused>,
    /// Clients that had to wait.
    pub throttled: Counters<Throttled>,
    /// Messages refused since the database has been away for long.
    pub refused_messages: Counter,
    /// Shards for which this node reaches no leader or no majority.
    pub cut_off: Gauge,
    /// Logins by result.
    pub logins: Counters<LoginResult>,
    /// Wishes for accounts by result.
    pub registrations: Counters<RegistrationResult>,
    /// Attempts to resume by result.
    pub resumes: Counters<ResumeResult>,
    /// Sessions resumed here by where they were before.
    pub resumed: Counters<Distance>,
    /// What happened to sessions of shards that this node leads.
    pub session_events: Counters<CountedEvent>,
    /// 1 while the database answers.
    pub database_up: Gauge,
    /// Stanzas by direction.
    pub stanzas: Counters<Direction>,
    /// Seconds from a proposal to its outcome.
    pub proposals: Histogram,
    /// Seconds from a question to the acknowledgement.
    pub ack_delay: Histogram,
}

impl Metrics {
    /// Nothing is counted yet. What `replicas` count is shown besides; the process began at `started`, in milliseconds
    /// since 1970.
    pub fn new(replicas: &cluster::metrics::Metrics, started: u64) -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            started,
            connections: Gauge::default(),
            bosh_sessions: Gauge::default(),
            sessions: Gauge::default(),
            refused: Counters::default(),
            throttled: Counters::default(),
            refused_messages: Counter::default(),
            cut_off: Gauge::default(),
            logins: Counters::default(),
            registrations: Counters::default(),
            resumes: Counters::default(),
            resumed: Counters::default(),
            session_events: Counters::default(),
            database_up: Gauge::default(),
            stanzas: Counters::default(),
            proposals: Histogram::new(exponential_buckets(0.0005, 2.0, 16)),
            ack_delay: Histogram::new(exponential_buckets(0.001, 2.0, 18)),
        };
        let mut registry = Registry::default();
        let ours = registry.sub_registry_with_prefix(PREFIX);
        let build = [
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("format", cluster::format::Version::CURRENT.to_string()),
        ];
        ours.register("build", "The build that runs", Info::new(build));
        metrics.register_clients(ours);
        metrics.register_sessions(ours);
        replicas.register(ours);
        metrics.registry = registry;
        metrics
    }

    fn register_clients(&self, registry: &mut Registry) {
        registry.register(
            "c2s_connections",
            "Open client sockets",
            self.connections.clone(),
        );
        registry.register(
            "bosh_sessions",
            "Sessions of BOSH, each with any number of client sockets",
            self.bosh_sessions.clone(),
        );
        registry.register(
            "refused_connections",
            "Connections refused, or closed before they had a session, by reason",
            self.refused.family(),
        );
        registry.register(
            "throttled",
            "Clients that had to wait or were told to try later, by reason",
            self.throttled.family(),
        );
        registry.register(
            "refused_messages",
            "Messages refused since the database has been away for long",
            self.refused_messages.clone(),
        );
        registry.register("logins", "Logins by result", self.logins.family());
        registry.register(
            "registrations",
            "Accounts that people wanted to make for themselves, by result",
            self.registrations.family(),
        );
        registry.register("stanzas", "Stanzas by direction", self.stanzas.family());
        registry.register(
            "ack_delay_seconds",
            "From a question to the acknowledgement",
            self.ack_delay.clone(),
        );
    }

    fn register_sessions(&self, registry: &mut Registry) {
        registry.register(
            "sessions",
            "Sessions with a connection here",
            self.sessions.clone(),
        );
        registry.register(
            "resumes",
            "Attempts to resume by result",
            self.resumes.family(),
        );
        registry.register(
            "resumed_sessions",
            "Sessions resumed here, by where they were before",
            self.resumed.family(),
        );
        registry.register(
            "session_events",
            "What happened to sessions of shards led here",
            self.session_events.family(),
        );
        registry.register(
            "proposal_seconds",
            "From the proposal of what a client said to its outcome, wherever the leader is",
            self.proposals.clone(),
        );
        registry.register(
            "shards_cut_off",
            "Shards without a leader or a majority, as seen from here",
            self.cut_off.clone(),
        );
        registry.register(
            "database_up",
            "Whether the database answers this node",
            self.database_up.clone(),
        );
    }

    /// The text that a scrape gets.
    pub fn text(&self, sample: &Sample) -> String {
        let mut measured = Registry::default();
        sample.register(measured.sub_registry_with_prefix(PREFIX));
        process::register(&mut measured, self.started);
        self.written(Some(&measured))
    }

    /// What was counted so far, and what was measured besides.
    fn written(&self, measured: Option<&Registry>) -> String {
        let mut text = String::new();
        for registry in [&self.registry].into_iter().chain(measured) {
            // Writing to a string cannot fail; a metric that could not be written would only be absent.
            let _ = encode_registry(&mut text, registry);
        }
        let _ = encode_eof(&mut text);
        text
    }

    /// The counters alone.
    #[cfg(test)]
    pub(crate) fn counted(&self) -> String {
        self.written(None)
    }
}

#[cfg(test)]
impl Default for Metrics {
    fn default() -> Self {
        Self::new(&cluster::metrics::Metrics::default(), 0)
    }
}

#[cfg(test)]
mod tests;
