//! `holdfast demo --scale`: the cluster grows and shrinks again while clients chat and nodes are killed.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use super::conversation::Talk;
use super::nodes::Nodes;
use super::strike::Striker;
use super::{DemoError, GLANCE, START};
use crate::admin::members;
use crate::admin::request::Method;
use crate::clock;

/// So many nodes leave at the same moment, as when two pods are deleted at once.
const TOGETHER: usize = 2;
/// How long a node may take to leave.
const LEAVE: Duration = Duration::from_secs(120);
/// How many members vote in each shard.
const VOTERS: usize = 3;

/// The cluster does not do what it should with nodes that come or go.
#[derive(Debug, thiserror::Error)]
pub enum ScaleError {
    /// Nodes joined, and some vote nowhere or shards have too few voters.
    #[error("the nodes that joined do not get their share: the voters are {0}")]
    NoShare(String),
    /// Nodes have left, and their votes are still counted.
    #[error("the nodes that left are still counted: the voters are {0}")]
    StillThere(String),
    /// A node that has left cannot be removed.
    #[error("node {seat} cannot be removed: {reason}")]
    NotRemoved {
        /// The seat of the node.
        seat: usize,
        /// What the asked node says.
        reason: String,
    },
}

/// Has those join that do not belong to the cluster, and leave again. Nodes are killed before, meanwhile and between.
/// It is done by about four fifths of `duration`.
pub(super) async fn grow_and_shrink(
    nodes: &mut Nodes,
    talk: &Talk,
    striker: &mut Striker,
    duration: Duration,
) -> Result<(), DemoError> {
    let start = clock::timer();
    // However long growing took, a node is killed while there are most of them.
    let at = |fifth: u32, every: Duration| {
        let least = clock::timer() + every + GLANCE;
        (start + duration / 5 * fifth).max(least)
    };
    let every = striker.every();
    striker.until(at(1, Duration::ZERO), nodes, talk).await?;
    grow(nodes, talk, striker).await?;
    striker.until(at(3, every), nodes, talk).await?;
    shrink(nodes, talk).await
}

/// Starts the others, and kills a founder while they join.
async fn grow(nodes: &mut Nodes, talk: &Talk, striker: &mut Striker) -> Result<(), DemoError> {
    let (founders, joining) = (nodes.members(), nodes.strangers());
    for index in &joining {
        nodes.start(*index)?;
        talk.progress.event(&format!("node {} starts", index + 1));
    }
    if !striker.every().is_zero() {
        let victim = founders[clock::below(founders.len())];
        striker.strike(victim, nodes, talk).await?;
    }
    for index in &joining {
        nodes.ready(*index, START).await?;
        talk.tally().join();
        talk.progress
            .event(&format!("node {} has joined", index + 1));
    }
    let voters = voters_when(nodes, |voters| {
        let whole = !voters.is_empty() && voters.iter().all(|shard| shard.len() == VOTERS);
        let votes = |index: &usize| voters.iter().flatten().any(|seat| *seat == seat_of(*index));
        whole && joining.iter().all(votes)
    });
    let voters = voters.await.map_err(ScaleError::NoShare)?;
    talk.progress
        .event(&format!("the shards' voters are {voters}"));
    Ok(())
}

/// Has all but the founders leave for good.
async fn shrink(nodes: &mut Nodes, talk: &Talk) -> Result<(), DemoError> {
    let mut leaving = nodes.members();
    leaving.drain(..nodes.founders());
    for some in leaving.rchunks(TOGETHER) {
        let seats: Vec<String> = some.iter().map(|index| seat_of(*index)).collect();
        talk.progress
            .event(&format!("nodes {} are to leave", seats.join(" and ")));
        nodes.leave(some, LEAVE).await?;
        for index in some {
            remove(nodes, index + 1).await?;
            talk.tally().leave();
        }
        let gone = |voters: &[BTreeSet<String>]| {
            !voters.is_empty() && !voters.iter().flatten().any(|voter| seats.contains(voter))
        };
        let voters = voters_when(nodes, gone).await;
        let voters = voters.map_err(ScaleError::StillThere)?;
        talk.progress.event(&format!(
            "nodes {} have left, and the shards' voters are {voters}",
            seats.join(" and ")
        ));
    }
    Ok(())
}

/// Gives up a node that has left, as `holdfast cluster remove` does. The others may not know yet that it is gone.
async fn remove(nodes: &Nodes, seat: usize) -> Result<(), DemoError> {
    let deadline = clock::timer() + START;
    let path = members::path(seat as u64);
    loop {
        let answer = nodes.ask(0, Method::Delete, &path).await?;
        if answer.status == 204 {
            return Ok(());
        }
        if clock::timer() > deadline {
            let reason = String::from_utf8_lossy(&answer.body).into_owned();
            return Err(ScaleError::NotRemoved { seat, reason }.into());
        }
        sleep(GLANCE).await;
    }
}

/// Waits until the first node sees such voters, and returns them; those that it sees instead if it takes too long.
async fn voters_when(
    nodes: &Nodes,
    is_so: impl Fn(&[BTreeSet<String>]) -> bool,
) -> Result<String, String> {
    let deadline = clock::timer() + START;
    loop {
        let voters = voters(nodes).await;
        let shown: Vec<String> = voters.iter().map(show).collect();
        let shown = shown.join(", ");
        if is_so(&voters) {
            return Ok(shown);
        }
        if clock::timer() > deadline {
            return Err(shown);
        }
        sleep(GLANCE).await;
    }
}

fn show(voters: &BTreeSet<String>) -> String {
    let seats: Vec<&str> = voters.iter().map(String::as_str).collect();
    seats.join("+")
}

/// The seats that vote in each shard, as the first node sees them. Without an answer there are no shards.
async fn voters(nodes: &Nodes) -> Vec<BTreeSet<String>> {
    let answer = nodes.ask(0, Method::Get, "/api/v1/cluster").await;
    let body = answer.map(|answer| answer.body).unwrap_or_default();
    let status: Value = serde_json::from_slice(&body).unwrap_or_default();
    let shards = status["shards"].as_array().into_iter().flatten();
    let of = |shard: &Value| {
        let voters = shard["voters"].as_array().into_iter().flatten();
        voters
            .filter_map(|voter| voter.as_str().map(str::to_owned))
            .collect()
    };
    shards.map(of).collect()
}

fn seat_of(index: usize) -> String {
    (index + 1).to_string()
}
