//! Has snapshots written in time, so that the log can be shortened.
//!
//! A group takes a snapshot when enough has changed ([`SnapshotPolicy`]). If the log takes up too much, it does not
//! wait for that: the groups whose entries hold its oldest files take snapshots until it is well below its bound. One
//! snapshot is written at a time ([`Turn`]), so that they need the room of one and do not compete for the disk.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::groups::group_of;
use super::log::{Log, Pin, Pressure};
use super::replica::ShardReplica;
use super::snapshot::{SnapshotPolicy, Turn};
use super::types::{GroupStopped, LogId};
use crate::NodeId;

/// How often the policy is asked.
const CHECK: Duration = Duration::from_secs(1);
/// How often while much changes.
const OFTEN: Duration = Duration::from_millis(100);
/// How long to wait for a snapshot before the next group may begin its own. The first one goes on in any case.
const WRITING: Duration = Duration::from_secs(10);
/// How long to wait for a long log to become shorter after groups have released entries.
const FREEING: Duration = Duration::from_millis(100);

/// Runs until a group stops.
pub(super) async fn run(groups: Vec<Arc<ShardReplica>>, log: Log, turn: Turn, node: NodeId) {
    let mut pressure = log.pressure();
    let mut pause = CHECK;
    loop {
        let high = pressure.wait_for(|now| *now != Pressure::Low);
        let is_high = timeout(pause, high).await.is_ok();
        let done = match is_high {
            true => shorten(&groups, &log, &turn).await.map(|()| pause),
            false => take_turns(&groups, &turn, node).await,
        };
        pause = match done {
            Ok(pause) => pause,
            Err(stopped) => {
                tracing::debug!("a group has stopped: {stopped}");
                return;
            }
        };
    }
}

/// Takes the snapshots that the policy asks for. Returns when to ask it again.
async fn take_turns(
    groups: &[Arc<ShardReplica>],
    turn: &Turn,
    node: NodeId,
) -> Result<Duration, GroupStopped> {
    let mut pause = CHECK;
    for group in groups {
        let policy = SnapshotPolicy::of(node, group.shard);
        let _turn = turn.lock().await;
        let before = group.metrics().snapshot;
        if group.machine.snapshot_if_due(&group.raft, &policy).await? {
            written(group, before).await;
            pause = OFTEN;
        }
        if group.machine.snapshot_nears(&policy) {
            pause = OFTEN;
        }
    }
    Ok(pause)
}

/// Takes the snapshots without which the oldest files of the log cannot go.
async fn shorten(groups: &[Arc<ShardReplica>], log: &Log, turn: &Turn) -> Result<(), GroupStopped> {
    let usage = log.usage();
    for pin in &usage.pinned_by {
        if let Some(group) = groups.iter().find(|g| group_of(g.shard) == pin.group) {
            let_go(group, *pin, turn).await?;
        }
    }
    let changed = async {
        while log.usage() == usage {
            sleep(FREEING / 10).await;
        }
    };
    // If nothing could go, the next attempt deals with it.
    drop(timeout(FREEING, changed).await);
    Ok(())
}

/// Takes a snapshot of a group and releases its entries up to a certain one, however few they are.
async fn let_go(group: &ShardReplica, pin: Pin, turn: &Turn) -> Result<(), GroupStopped> {
    let known = group.metrics();
    let covered = |id: Option<LogId>| id.map(|id| id.index);
    let can_grow = known.last_applied > known.snapshot && !group.machine.snapshot_rests();
    if covered(known.snapshot) < Some(pin.upto) && can_grow {
        let _turn = turn.lock().await;
        group.raft.trigger().snapshot().await?;
        written(group, known.snapshot).await;
    }
    let known = group.metrics();
    let Some(most) = covered(known.snapshot) else {
        return Ok(());
    };
    let upto = pin.upto.min(most);
    match covered(known.purged) < Some(upto) {
        true => group.raft.trigger().purge_log(upto).await,
        false => Ok(()),
    }
}

/// Waits for a snapshot that covers more than the one before.
async fn written(group: &ShardReplica, before: Option<LogId>) {
    let wait = group.raft.wait(Some(WRITING));
    let taken = wait.metrics(
        |now| now.snapshot > before || group.machine.snapshot_rests(),
        "a snapshot is written",
    );
    if let Err(late) = taken.await {
        tracing::debug!("shard {}: {late}", group.shard);
    }
}
