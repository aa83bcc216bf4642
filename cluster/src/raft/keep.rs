//! Has snapshots written, and the log behind them go.
//!
//! Each group takes its snapshot when it is worth its while ([`SnapshotPolicy`]). A log that takes up more than it
//! should does not wait for that: whoever holds its oldest files has to let go of them, and they are as many as
//! bring it well below its bound. One snapshot is written at a time, so that they need the room of one ([`Turn`])
//! and do not compete for the disk.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::groups::{Group, group_of};
use super::log::{Log, Pin, Pressure};
use super::snapshot::{SnapshotPolicy, Turn};
use super::types::{GroupStopped, LogId};
use crate::NodeId;

/// How often snapshots are considered.
const CHECK: Duration = Duration::from_secs(1);
/// How long one is waited for before the next group's may begin. It goes on in any case.
const WRITING: Duration = Duration::from_secs(10);
/// How long a log that is too long is waited for to become shorter, after groups have let go of it.
const FREEING: Duration = Duration::from_millis(100);

/// Runs until a group stops.
pub(super) async fn run(groups: Vec<Arc<Group>>, log: Log, turn: Turn, node: NodeId) {
    let mut pressure = log.pressure();
    loop {
        let high = pressure.wait_for(|now| *now != Pressure::Low);
        let is_high = timeout(CHECK, high).await.is_ok();
        let done = match is_high {
            true => shorten(&groups, &log, &turn).await,
            false => take_turns(&groups, &turn, node).await,
        };
        if let Err(stopped) = done {
            tracing::debug!("a group has stopped: {stopped}");
            return;
        }
    }
}

/// The snapshots that are worth their while.
async fn take_turns(groups: &[Arc<Group>], turn: &Turn, node: NodeId) -> Result<(), GroupStopped> {
    for group in groups {
        let policy = SnapshotPolicy::of(node, group.shard);
        let _turn = turn.lock().await;
        let before = group.metrics().snapshot;
        if group.machine.snapshot_if_due(&group.raft, &policy).await? {
            written(group, before).await;
        }
    }
    Ok(())
}

/// Those without which the oldest files of the log cannot go.
async fn shorten(groups: &[Arc<Group>], log: &Log, turn: &Turn) -> Result<(), GroupStopped> {
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
    // If nothing could go, the next attempt finds out why.
    drop(timeout(FREEING, changed).await);
    Ok(())
}

/// Gives up a group's entries up to a certain one, however few they are, as far as a snapshot can cover them.
async fn let_go(group: &Group, pin: Pin, turn: &Turn) -> Result<(), GroupStopped> {
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
async fn written(group: &Group, before: Option<LogId>) {
    let wait = group.raft.wait(Some(WRITING));
    let taken = wait.metrics(
        |now| now.snapshot > before || group.machine.snapshot_rests(),
        "a snapshot is written",
    );
    if let Err(late) = taken.await {
        tracing::debug!("shard {}: {late}", group.shard);
    }
}
