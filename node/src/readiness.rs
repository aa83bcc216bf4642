//! Whether a node is ready and why not, for people: what `/readyz?verbose` shows, and a line in the log when a node
//! stops being ready and when it is ready again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cluster::NodeId;
use cluster::status::{NotReady, ShardStatus};

use crate::admin::ready::{Check, Verdict};
use crate::admin::report::Seats;
use crate::admin::warning::Reach;
use crate::app::{App, Unready};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// How many checks in a row must differ from what was logged last. Leaders move in less time.
const HELD: u32 = 2;

/// Runs from the moment when the node was ready first, until it is stopped.
pub async fn watch(app: Arc<App>) {
    let mut spell = Spell::default();
    loop {
        cluster::beat(LOOK).await;
        let found = app.ready();
        if matches!(found, Err(Unready::Draining)) {
            return;
        }
        match spell.look(found.is_ok()) {
            Some(true) => tracing::info!("ready again"),
            Some(false) => {
                let reason = found.err().map(|unready| unready.to_string());
                tracing::warn!(reason, "not ready: balancers send clients elsewhere");
            }
            None => {}
        }
    }
}

/// What keeps the node itself from serving, and not one of its shards.
fn node_obstacles(app: &App, obstacles: &[NotReady]) -> Vec<String> {
    let node = obstacles
        .iter()
        .filter(|obstacle| obstacle.shard().is_none());
    let mut node: Vec<String> = node.map(NotReady::to_string).collect();
    if app.draining.load(Ordering::Relaxed) {
        node.insert(0, Unready::Draining.to_string());
    }
    if app.maintenance.is_on() {
        node.insert(0, Unready::Drained.to_string());
    }
    node
}

/// Everything that decides whether clients are sent here, and what else an operator should see to.
pub fn checks(app: &App) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut add = |verdict, subject: &str, found: String| {
        checks.push(Check {
            verdict,
            subject: subject.to_owned(),
            found,
        });
    };
    let obstacles = app.cluster.obstacles();
    let node = node_obstacles(app, &obstacles);
    match node.is_empty() {
        true => add(Verdict::Ok, "node", "takes part".to_owned()),
        false => node
            .into_iter()
            .for_each(|why| add(Verdict::Fail, "node", why)),
    }
    let status = app.cluster.status();
    let seats = Seats::of(&status.nodes);
    let up = status.nodes.iter().filter(|node| node.up);
    let up: BTreeSet<NodeId> = up.filter_map(|node| node.node).collect();
    for shard in &status.shards {
        let subject = format!("shard {}", shard.shard);
        let of = |obstacle: &&NotReady| obstacle.shard() == Some(shard.shard);
        match obstacles.iter().find(of) {
            Some(obstacle) => add(Verdict::Fail, &subject, obstacle.to_string()),
            None => add(Verdict::Ok, &subject, well(shard, &seats, &up)),
        }
    }
    match app.edge.storage.is_away() {
        true => {
            let found = "does not answer: chat goes on; logins of accounts that this node does not know wait";
            add(Verdict::Warn, "database", found.to_owned());
        }
        false => add(Verdict::Ok, "database", "answers".to_owned()),
    }
    match app
        .cluster
        .limit_counts()
        .up
        .filter(|_| app.config.redis.is_some())
    {
        Some(true) => add(Verdict::Ok, "redis", "answers".to_owned()),
        Some(false) => add(
            Verdict::Warn,
            "redis",
            "does not answer: shards decide alone".to_owned(),
        ),
        None => {}
    }
    let certificate = app.certificates.current();
    for fault in &certificate.verdict().faults {
        add(Verdict::Warn, "certificate", fault.to_string());
    }
    checks
}

fn well(shard: &ShardStatus, seats: &Seats, up: &BTreeSet<NodeId>) -> String {
    let leader = shard.leader.map(|leader| seats.name(leader));
    format!(
        "led by node {}, {} of {} voters can be reached, {} entries to apply",
        leader.unwrap_or_default(),
        Reach::of(shard, up).voters,
        shard.voters.len(),
        shard.committed.saturating_sub(shard.applied)
    )
}

/// Remembers what was logged last, and for how many checks it was different. Pure.
#[derive(Debug, Default)]
struct Spell {
    is_unready: bool,
    otherwise: u32,
}

impl Spell {
    /// Takes the result of a check. Returns it if it has to be logged.
    fn look(&mut self, is_ready: bool) -> Option<bool> {
        if is_ready != self.is_unready {
            self.otherwise = 0;
            return None;
        }
        self.otherwise += 1;
        if self.otherwise < HELD {
            return None;
        }
        self.otherwise = 0;
        self.is_unready = !is_ready;
        Some(is_ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_told_once_and_what_passes_is_not() {
        let mut spell = Spell::default();
        let mut looks = |is_ready, times: u32| -> Vec<bool> {
            (0..times).filter_map(|_| spell.look(is_ready)).collect()
        };
        assert_eq!(looks(true, 9), [true; 0]);
        assert_eq!(looks(false, HELD - 1), [true; 0]);
        assert_eq!(looks(true, 1), [true; 0]);
        assert_eq!(looks(false, 3 * HELD), [false]);
        assert_eq!(looks(true, HELD - 1), [true; 0]);
        assert_eq!(looks(true, 2 * HELD), [true]);
    }
}
