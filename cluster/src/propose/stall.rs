//! Detects and reports a shard that commits nothing although something waits for it.
//!
//! Everything else may look well then: heartbeats arrive and nobody lags, but a majority does not store the entries.
//! What waits is what callers on this node have proposed and, on a leader, the entries in its log that are not
//! committed. That the shard goes on shows in what is applied here or, as a node without a replica applies nothing, in
//! proposals of this node that were carried out.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use super::group::RaftGroup;
use super::{Leadership, Proposer, ShardGroup};
use crate::clock;
use crate::peers::Peers;
use crate::{NodeId, ShardId, status};

/// A shard counts as stalled when it has committed nothing for so long.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often a shard is checked.
const CHECK: Duration = Duration::from_millis(500);

/// A shard that stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stalled {
    /// The shard.
    pub shard: ShardId,
    /// For how long, in seconds.
    pub seconds: u64,
    /// Why, as far as this node can tell.
    pub cause: Cause,
}

/// Why a shard stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// This node leads it, and no majority confirms this entry.
    Unconfirmed(u64),
    /// The node in this seat, which leads it, does not answer.
    Unanswered(u64),
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shard, seconds, .. } = self;
        write!(f, "shard {shard} has committed nothing for {seconds} s: ")?;
        match self.cause {
            Cause::Unconfirmed(entry) => {
                write!(f, "no majority of its replicas confirms entry {entry}")
            }
            Cause::Unanswered(seat) => {
                write!(
                    f,
                    "the node in seat {seat}, which leads it, does not answer"
                )
            }
        }
    }
}

/// How far a shard has come, as far as this node can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Progress {
    /// The last entry that was applied here.
    applied: u64,
    /// How many proposals of this node were carried out.
    carried_out: u64,
}

/// Measures for how long nothing was committed although something waits. Pure.
#[derive(Debug)]
struct Standstill {
    since: Instant,
    progress: Progress,
}

impl Standstill {
    /// Takes what was found now. Returns for how long nothing was committed, if that is too long.
    fn look(&mut self, now: Instant, progress: Progress, waits: bool) -> Option<Duration> {
        if progress != self.progress || !waits {
            (self.progress, self.since) = (progress, now);
        }
        Some(now.saturating_duration_since(self.since)).filter(|time| *time >= PATIENCE)
    }
}

/// Watches one shard for as long as the node runs. It logs one line when the shard stalls and one when it goes on.
pub async fn run(
    group: Arc<RaftGroup>,
    proposer: Proposer,
    me: NodeId,
    peers: watch::Receiver<Peers>,
) {
    let mut standstill = Standstill {
        since: clock::timer(),
        progress: Progress {
            applied: 0,
            carried_out: 0,
        },
    };
    let mut said = false;
    loop {
        clock::beat(CHECK).await;
        let last = group.replica().metrics().last_log_index.unwrap_or(0);
        let applied = group.applied_index();
        let mine = group.replica().leadership().mine;
        let waits = proposer.waiting() > 0 || (mine && last > applied);
        let cause = cause(&group, me, &peers.borrow(), applied);
        let progress = Progress {
            applied,
            carried_out: proposer.carried_out(),
        };
        let time = standstill.look(clock::timer(), progress, waits && cause.is_some());
        let stalled = time.zip(cause).map(|(time, cause)| Stalled {
            shard: group.shard(),
            seconds: time.as_secs(),
            cause,
        });
        match stalled {
            Some(stalled) if !said => {
                tracing::error!(
                    waiting_bytes = proposer.waiting(),
                    last_entry = last,
                    "{stalled}"
                );
            }
            None if said => tracing::info!("shard {} commits again", group.shard()),
            _ => {}
        }
        said = stalled.is_some();
        group.set_stalled(stalled);
    }
}

/// Why the shard would be stalled. A missing majority or leader and a full disk are not among the causes: they are
/// reported elsewhere, once for all shards.
fn cause(group: &RaftGroup, me: NodeId, peers: &Peers, applied: u64) -> Option<Cause> {
    if group.is_short() {
        return None;
    }
    let Leadership { leader, mine, .. } = group.replica().leadership();
    let seats = group.replica().voters();
    let voters: Vec<NodeId> = seats.values().copied().collect();
    status::reach(group.shard(), leader, &voters, me, peers).ok()?;
    match mine {
        true => Some(Cause::Unconfirmed(applied + 1)),
        false => {
            let mut seats = seats.into_iter();
            let (seat, _) = seats.find(|(_, node)| Some(*node) == leader)?;
            Some(Cause::Unanswered(seat))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_stands_still_if_something_waits_and_nothing_is_committed() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let with = |applied, carried_out| Progress {
            applied,
            carried_out,
        };
        let mut standstill = Standstill {
            since: start,
            progress: with(7, 0),
        };
        let mut look = |millis, progress, waits| standstill.look(at(millis), progress, waits);
        assert_eq!(look(9_000, with(7, 0), false), None, "nothing waits");
        assert_eq!(look(11_999, with(7, 0), true), None);
        let three = Some(Duration::from_secs(3));
        assert_eq!(look(12_000, with(7, 0), true), three);
        assert_eq!(look(12_250, with(8, 0), true), None, "it goes on");
        assert_eq!(look(15_250, with(8, 0), true), three);
        assert_eq!(look(15_500, with(8, 1), true), None, "elsewhere");
        assert_eq!(look(18_500, with(8, 1), true), three);
        assert_eq!(look(18_750, with(8, 1), false), None);
    }

    #[test]
    fn the_reason_is_said() {
        let stalled = |cause| Stalled {
            shard: ShardId(1),
            seconds: 4,
            cause,
        };
        let text = stalled(Cause::Unconfirmed(9)).to_string();
        let expect =
            "shard 1 has committed nothing for 4 s: no majority of its replicas confirms entry 9";
        assert_eq!(text, expect);
        assert!(
            stalled(Cause::Unanswered(2))
                .to_string()
                .ends_with("the node in seat 2, which leads it, does not answer")
        );
    }
}
