//! What the replicas of a node count and measure, for whoever shows it to operators, and counters by the values of a
//! label.

use std::marker::PhantomData;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The values that a label may have.
pub trait Label: Copy + 'static {
    /// The name of the label.
    const NAME: &'static str;
    /// All of its values.
    const ALL: &'static [Self];

    /// The value as it is shown, in small letters.
    fn value(self) -> &'static str;
}

/// A label and its value.
pub type Labels = [(&'static str, &'static str); 1];

/// A counter for each value of a label. All of them are there from the start: the first event of a kind would be no
/// change otherwise, and so be missed by whoever looks at rates.
#[derive(Clone, Debug)]
pub struct Counters<L> {
    family: Family<Labels, Counter>,
    of: PhantomData<fn(L)>,
}

impl<L: Label> Default for Counters<L> {
    fn default() -> Self {
        let family = Family::default();
        for label in L::ALL {
            drop(family.get_or_create(&[(L::NAME, label.value())]));
        }
        Self {
            family,
            of: PhantomData,
        }
    }
}

impl<L: Label> Counters<L> {
    /// Counts one.
    pub fn inc(&self, label: L) {
        self.inc_by(label, 1);
    }

    /// Counts some at once.
    pub fn inc_by(&self, label: L, count: u64) {
        let labels = [(L::NAME, label.value())];
        self.family.get_or_create(&labels).inc_by(count);
    }

    /// The counters, to be registered.
    pub fn family(&self) -> Family<Labels, Counter> {
        self.family.clone()
    }
}

/// A step by which a replica moves from one member to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveStep {
    /// A member gets the log of a shard.
    Join,
    /// Other members vote in a shard.
    Vote,
    /// A member is forgotten by a shard.
    Leave,
}

impl Label for MoveStep {
    const NAME: &'static str = "step";
    const ALL: &'static [Self] = &[Self::Join, Self::Vote, Self::Leave];

    fn value(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Vote => "vote",
            Self::Leave => "leave",
        }
    }
}

/// Where a message waits on its way through the shards that a node leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// From the arrival of a command until its entry is made.
    Batch,
    /// From the look at an outbox until the other shard has what was there.
    Relay,
    /// The host carries out what follows from entries: rows of archives above all.
    Effects,
}

impl Label for Hop {
    const NAME: &'static str = "hop";
    const ALL: &'static [Self] = &[Self::Batch, Self::Relay, Self::Effects];

    fn value(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Relay => "relay",
            Self::Effects => "effects",
        }
    }
}

/// A histogram of seconds for each value of a label.
#[derive(Clone, Debug)]
pub struct Waits<L> {
    family: Family<Labels, Histogram, fn() -> Histogram>,
    of: PhantomData<fn(L)>,
}

impl<L: Label> Default for Waits<L> {
    fn default() -> Self {
        let family: Family<Labels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.0005, 2.0, 16)));
        for label in L::ALL {
            drop(family.get_or_create(&[(L::NAME, label.value())]));
        }
        Self {
            family,
            of: PhantomData,
        }
    }
}

impl<L: Label> Waits<L> {
    /// Notes how long something took.
    pub fn observe(&self, label: L, took: Duration) {
        let labels = [(L::NAME, label.value())];
        self.family
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }
}

/// What the replicas of one node count. Clones share the counters.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Seconds from the proposal of an entry, by this node as the leader, until it is committed and applied here.
    pub commit: Histogram,
    /// Seconds that a sync of the log takes.
    pub fsync: Histogram,
    /// Seconds at each step between the entries.
    pub hops: Waits<Hop>,
    /// Leaderships that this node has taken because the leader was lost.
    pub failovers: Counter,
    /// Leaderships that this node has taken from a leader that was there.
    pub handovers: Counter,
    /// Steps of moves that this node has taken as a leader.
    pub moves: Counters<MoveStep>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            commit: Histogram::new(exponential_buckets(0.0005, 2.0, 16)),
            fsync: Histogram::new(exponential_buckets(0.0001, 2.0, 16)),
            hops: Waits::default(),
            failovers: Counter::default(),
            handovers: Counter::default(),
            moves: Counters::default(),
        }
    }
}

impl Metrics {
    /// Has the registry show them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "commit_seconds",
            "From the proposal of an entry by a leader until it is committed and applied there",
            self.commit.clone(),
        );
        registry.register(
            "fsync_seconds",
            "How long a sync of the replicated log takes",
            self.fsync.clone(),
        );
        registry.register(
            "hop_seconds",
            "How long what clients said waits at each step of the shards led here, batch by batch",
            self.hops.family.clone(),
        );
        registry.register(
            "failovers",
            "Leaderships that this node has taken because the leader was lost",
            self.failovers.clone(),
        );
        registry.register(
            "leader_handovers",
            "Leaderships that this node has taken from a leader that was there",
            self.handovers.clone(),
        );
        registry.register(
            "replica_moves",
            "Steps by which replicas move between members, counted by the leader of the shard",
            self.moves.family(),
        );
    }
}
