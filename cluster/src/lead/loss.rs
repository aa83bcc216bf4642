//! Tells a shard of processes that are gone, so that their sessions hibernate.
//!
//! To take its leaderships from a node is cheap and harmless, so half a second of silence is enough for that. To give
//! its sessions up cuts off all of its clients, so that takes more: the process is known to be gone, because its
//! address refuses connections or another run fills its place, or it was silent for long. A client that resumes its
//! session meanwhile takes it over all the same.
//!
//! A leader that was paused finds all others silent when it wakes up, although the silence was its own. So the time in
//! which it was paused does not count as silence, and it may say who is gone only after a majority has confirmed that
//! it still leads. No other node says it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock;
use crate::peers::Peers;
use crate::propose::{Proposer, ShardGroup};
use crate::session::Command;
use crate::{BootId, NodeId};

/// The pause before a leader that was not confirmed asks again.
const SOON: Duration = Duration::from_millis(50);
/// How often owners are compared with processes while anything is unsettled.
const OFTEN: Duration = Duration::from_secs(2);
/// After a change, proposals of a process that is gone may still be committed for so long.
const UNSETTLED: Duration = Duration::from_secs(15);
/// A task that wakes up so much later than planned was paused.
const OVERSLEPT: Duration = Duration::from_millis(500);

/// What is needed to decide which processes are gone.
#[derive(Clone, Debug)]
pub struct PeerWatch {
    /// This process.
    pub me: (NodeId, BootId),
    /// The others.
    pub peers: watch::Receiver<Peers>,
    /// How long one of them may be silent.
    pub lost_after: Duration,
}

impl PeerWatch {
    /// Watches the others on behalf of this process, `me`.
    pub fn new(me: (NodeId, BootId), peers: &watch::Receiver<Peers>, lost_after: Duration) -> Self {
        let peers = peers.clone();
        Self {
            me,
            peers,
            lost_after,
        }
    }
}

/// Runs for as long as this node leads.
pub async fn run<G: ShardGroup>(group: Arc<G>, proposer: Proposer, mut watch: PeerWatch) {
    let mut changed = clock::timer();
    let mut silence = Silence::new(changed);
    let look = |silence: &mut Silence, peers: &Peers| {
        let owners = group.read(|state| state.owners());
        silence.judge(&owners, watch.me, peers, watch.lost_after, clock::timer())
    };
    loop {
        let now = watch.peers.borrow_and_update().clone();
        let (gone, due) = look(&mut silence, &now);
        if !gone.is_empty() {
            let confirmed = group.read_index().await.is_ok();
            // The process may have come back meanwhile.
            let (gone, _) = look(&mut silence, &watch.peers.borrow().clone());
            let mut said = confirmed;
            for command in gone.into_iter().filter(|_| confirmed) {
                if let Command::NodeLost { node, .. } = &command {
                    tracing::info!(shard = %group.shard(), %node, "sessions of a process that is gone");
                }
                said &= proposer.propose_as_leader(command).await;
            }
            if !said {
                tokio::time::sleep(SOON).await;
            }
            // One entry gives up a bounded number of sessions, so there may be more.
            continue;
        }
        let settled = clock::timer() - changed > UNSETTLED && now.up.len() >= now.expected;
        tokio::select! {
            event = watch.peers.changed() => match event {
                Ok(()) => changed = clock::timer(),
                Err(_) => return,
            },
            () = tokio::time::sleep(due.min(OFTEN)), if !settled => {}
        }
    }
}

/// Decides since when owners of sessions are silent. Pure.
#[derive(Debug)]
struct Silence {
    /// When each owner that this node was never connected with was first found.
    unknown: BTreeMap<(NodeId, BootId), Instant>,
    looked: Instant,
    /// When this process last woke up from a pause. Before that it could hear nobody.
    awake: Instant,
}

impl Silence {
    fn new(now: Instant) -> Self {
        Self {
            unknown: BTreeMap::new(),
            looked: now,
            awake: now,
        }
    }

    /// Returns commands for the owners that are gone, and how long the next one may stay silent before it counts as
    /// gone.
    fn judge(
        &mut self,
        owners: &BTreeSet<(NodeId, BootId)>,
        me: (NodeId, BootId),
        peers: &Peers,
        lost_after: Duration,
        now: Instant,
    ) -> (Vec<Command>, Duration) {
        if now.saturating_duration_since(self.looked) > OFTEN + OVERSLEPT {
            self.awake = now;
        }
        self.looked = now;
        let mut gone = BTreeMap::new();
        let mut due = Duration::MAX;
        let mut unknown = BTreeMap::new();
        for owner in owners {
            let (node, boot) = *owner;
            let alive = match node == me.0 {
                true => Some(me.1),
                false => peers.up.get(&node).copied(),
            };
            if alive.is_some() {
                if alive != Some(boot) {
                    gone.insert(node, alive);
                }
                continue;
            }
            let away = peers.away.get(&node).filter(|away| away.boot == boot);
            let since = match away {
                Some(away) => away.since,
                None => *unknown
                    .entry(*owner)
                    .or_insert(self.unknown.get(owner).copied().unwrap_or(now)),
            };
            let silent = now.saturating_duration_since(since.max(self.awake));
            if away.is_some_and(|away| away.gone) || silent >= lost_after {
                gone.insert(node, None);
            } else {
                due = due.min(lost_after - silent);
            }
        }
        self.unknown = unknown;
        let lost = |(node, alive)| Command::NodeLost { node, alive };
        (gone.into_iter().map(lost).collect(), due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::Away;

    const ME: (NodeId, BootId) = (NodeId(1), BootId(10));
    const LOST_AFTER: Duration = Duration::from_secs(10);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn owners(node: u64, boot: u64) -> BTreeSet<(NodeId, BootId)> {
        BTreeSet::from([(NodeId(node), BootId(boot))])
    }

    /// Node 2 with this run is up, or away since `start`, gone or not.
    fn peers(up: Option<u64>, away: Option<(u64, Instant, bool)>) -> Peers {
        let away = away.map(|(boot, since, gone)| {
            let boot = BootId(boot);
            (NodeId(2), Away { boot, since, gone })
        });
        Peers {
            up: up
                .map(|boot| (NodeId(2), BootId(boot)))
                .into_iter()
                .collect(),
            expected: 1,
            away: away.into_iter().collect(),
        }
    }

    /// Looks every second until the owner is lost or a minute is over; after how many seconds, and what
    /// is said.
    fn watched(owner: (u64, u64), peers: impl Fn(Instant) -> Peers) -> Option<(u64, Command)> {
        let start = Instant::now();
        let (owners, peers) = (owners(owner.0, owner.1), peers(start));
        let mut silence = Silence::new(start);
        (0..60).find_map(|n| {
            let now = start + seconds(n);
            let (gone, _) = silence.judge(&owners, ME, &peers, LOST_AFTER, now);
            Some((n, gone.into_iter().next()?))
        })
    }

    #[track_caller]
    fn check(
        owner: (u64, u64),
        peers: impl Fn(Instant) -> Peers,
        expect: Option<(u64, Option<u64>)>,
    ) {
        let expect = expect.map(|(after, alive)| {
            let (node, alive) = (NodeId(owner.0), alive.map(BootId));
            (after, Command::NodeLost { node, alive })
        });
        assert_eq!(watched(owner, peers), expect);
    }

    #[test]
    fn connections_of_processes_that_run_are_left_alone() {
        check((1, 10), |_| peers(None, None), None);
        check((2, 20), |_| peers(Some(20), None), None);
    }

    #[test]
    fn a_process_that_is_known_to_be_gone_loses_its_connections_at_once() {
        check(
            (2, 20),
            |now| peers(None, Some((20, now, true))),
            Some((0, None)),
        );
        check((2, 20), |_| peers(Some(21), None), Some((0, Some(21))));
        check((1, 9), |_| peers(None, None), Some((0, Some(10))));
    }

    #[test]
    fn a_process_that_is_merely_silent_keeps_its_connections_for_long() {
        check(
            (2, 20),
            |now| peers(None, Some((20, now, false))),
            Some((10, None)),
        );
        check((2, 20), |_| peers(None, None), Some((10, None)));
        // Of a later run that this node has not met nothing is known.
        check(
            (2, 21),
            |now| peers(None, Some((20, now, true))),
            Some((10, None)),
        );
    }

    #[test]
    fn a_silence_that_was_slept_through_does_not_count() {
        let start = Instant::now();
        let (owners, peers) = (owners(2, 20), peers(None, Some((20, start, false))));
        let mut silence = Silence::new(start);
        let mut judge = |at| silence.judge(&owners, ME, &peers, LOST_AFTER, start + seconds(at));
        assert_eq!(judge(1), (Vec::new(), seconds(9)));
        assert_eq!(judge(60), (Vec::new(), seconds(10)));
        for at in (62..70).step_by(2) {
            assert_eq!(judge(at).0, Vec::new());
        }
        assert_eq!(judge(70).0.len(), 1);
    }
}
