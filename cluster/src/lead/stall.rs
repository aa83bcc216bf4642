//! Notices that a shard commits nothing although something waits for it, and says so.
//!
//! Other signs may all be good then: the leader's heartbeats pass, nobody lags, and yet a log that a majority does
//! not take stands still. What waits is what callers on this node have proposed, and on a leader what is in its log.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::group::RaftGroup;
use super::loss::Peers;
use super::{Group, Leadership, Queue};
use crate::{NodeId, ShardId, status};

/// A shard that has committed nothing for so long stands still.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often it is looked at.
const CHECK: Duration = Duration::from_millis(250);

/// A shard that stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stalled {
    /// Which.
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

/// Since when nothing has been committed that somebody waits for. Pure.
#[derive(Debug)]
struct Standstill {
    since: Instant,
    applied: u64,
}

impl Standstill {
    /// For how long by now, if it is too long.
    fn look(&mut self, now: Instant, applied: u64, waits: bool) -> Option<Duration> {
        if applied != self.applied || !waits {
            (self.applied, self.since) = (applied, now);
        }
        Some(now.saturating_duration_since(self.since)).filter(|time| *time >= PATIENCE)
    }
}

/// Watches one shard for as long as the node runs. One line says that it stands still, one that it goes on.
pub async fn run(group: Arc<RaftGroup>, queue: Queue, me: NodeId, peers: watch::Receiver<Peers>) {
    let mut standstill = Standstill {
        since: Instant::now(),
        applied: 0,
    };
    let mut said = false;
    loop {
        sleep(CHECK).await;
        let last = group.replicas().metrics().last_log_index.unwrap_or(0);
        let applied = group.applied_index();
        let mine = group.replicas().leadership().mine;
        let waits = queue.waiting() > 0 || (mine && last > applied);
        let cause = cause(&group, me, &peers.borrow(), applied);
        let time = standstill.look(Instant::now(), applied, waits && cause.is_some());
        let stalled = time.zip(cause).map(|(time, cause)| Stalled {
            shard: group.shard(),
            seconds: time.as_secs(),
            cause,
        });
        match stalled {
            Some(stalled) if !said => {
                tracing::error!(
                    waiting_bytes = queue.waiting(),
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

/// Why the shard would stand still. That no majority or no leader can be reached, or that the disk is full, is told
/// elsewhere, and for all shards at once.
fn cause(group: &RaftGroup, me: NodeId, peers: &Peers, applied: u64) -> Option<Cause> {
    if group.is_short() {
        return None;
    }
    let Leadership { leader, mine, .. } = group.replicas().leadership();
    let seats = group.replicas().voters();
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
