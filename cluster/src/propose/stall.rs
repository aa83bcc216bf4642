//! Detects and reports a shard that commits nothing although something waits for it.
//!
//! Everything else may look well then: heartbeats arrive and nobody lags, but a majority does not store the entries.
//! What waits is what callers on this node have proposed and, on a leader, the entries in its log that are not
//! committed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::group::RaftGroup;
use super::{Leadership, Proposer, ShardGroup};
use crate::clock;
use crate::peers::Peers;
use crate::{NodeId, ShardId, status};

/// A shard counts as stalled when it has committed nothing for so long.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often a shard is checked.
const CHECK: Duration = Duration::from_millis(250);

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

/// Measures for how long nothing was committed although something waits. Pure.
#[derive(Debug)]
struct Standstill {
    since: Instant,
    applied: u64,
}

impl Standstill {
    /// Takes what was found now. Returns for how long nothing was committed, if that is too long.
    fn look(&mut self, now: Instant, applied: u64, waits: bool) -> Option<Duration> {
        if applied != self.applied || !waits {
            (self.applied, self.since) = (applied, now);
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
        applied: 0,
    };
    let mut said = false;
    loop {
        sleep(CHECK).await;
        let last = group.replica().metrics().last_log_index.unwrap_or(0);
        let applied = group.applied_index();
        let mine = group.replica().leadership().mine;
        let waits = proposer.waiting() > 0 || (mine && last > applied);
        let cause = cause(&group, me, &peers.borrow(), applied);
        let time = standstill.look(clock::timer(), applied, waits && cause.is_some());
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
        let mut standstill = Standstill {
            since: start,
            applied: 7,
        };
        assert_eq!(standstill.look(at(9_000), 7, false), None, "nothing waits");
        assert_eq!(standstill.look(at(11_999), 7, true), None);
        let three = Some(Duration::from_secs(3));
        assert_eq!(standstill.look(at(12_000), 7, true), three);
        assert_eq!(standstill.look(at(12_250), 8, true), None, "it goes on");
        assert_eq!(standstill.look(at(15_250), 8, true), three);
        assert_eq!(standstill.look(at(15_500), 8, false), None);
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
