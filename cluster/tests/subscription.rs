//! Nodes that have no replica of a shard serve its sessions all the same.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use cluster::session::query;
use cluster::{Epoch, NodeId, ShardId};
use proto::Jid;
use tempfile::TempDir;

use self::support::*;

/// What the connection of a session does: it takes outputs in order, and looks for what may have been skipped.
struct Client {
    session: Jid,
    epoch: Epoch,
    taken: Vec<u64>,
    next: u64,
    outputs: usize,
    skipped: usize,
}

impl Client {
    fn new((session, epoch): (Jid, Epoch)) -> Self {
        Self {
            session,
            epoch,
            taken: Vec::new(),
            next: 1,
            outputs: 0,
            skipped: 0,
        }
    }

    async fn look(&mut self, node: &Node) {
        let skipped = node.edge.skipped.load(Ordering::SeqCst);
        let stanzas = node.edge.stanzas(&self.session);
        for (seq, item) in &stanzas[self.outputs..] {
            if *seq > self.next {
                self.skipped = usize::MAX;
                break;
            }
            self.outputs += 1;
            self.take(*seq, number(item));
        }
        if self.skipped != skipped {
            let missed = query::Missed {
                session: self.session.clone(),
                epoch: self.epoch,
                from: self.next,
            };
            let missed = node.cluster.query(&self.session.bare(), missed).await;
            let missed = missed.expect("answers").expect("it is ours");
            for (seq, item) in missed.stanzas {
                assert!(seq <= self.next, "a hole");
                self.take(seq, number(&item));
            }
            self.skipped = skipped;
        }
    }

    fn take(&mut self, seq: u64, number: Option<u64>) {
        if seq == self.next {
            self.next += 1;
            self.taken.extend(number);
        }
    }
}

/// The replicas of a shard.
fn voters(node: &Node, shard: ShardId) -> Vec<NodeId> {
    let shards = node.cluster.status().shards;
    shards[usize::from(shard.0)].voters.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_replica_delivers_and_goes_on_when_its_source_dies() {
    let dir = TempDir::new().expect("makes");
    let mut nodes = several(&dir, 5).await;
    ready(&nodes).await;
    // The account's shard has three replicas, so two nodes have none. Its client is at one of them.
    let bob = account(0);
    let shard = ShardId(0);
    until("three nodes vote", || voters(&nodes[0], shard).len() == 3).await;
    let replicas = voters(&nodes[0], shard);
    let outside = |node: &Node| !replicas.contains(&node.cluster.node());
    let place = nodes.iter().position(outside).expect("one has none");
    let home = nodes.remove(place);
    assert!(
        home.cluster
            .read_all(|of, _| of)
            .iter()
            .all(|of| *of != shard)
    );
    let mut client = Client::new(log_in(&home, &bob).await);
    let sender = log_in(&nodes[0], &account(1)).await;
    for n in 0..200 {
        // One of the three replicas stops. It may be the source, and has led a third of the shards.
        if n == 60 {
            let of = |node: &Node| replicas.contains(&node.cluster.node());
            let victim = nodes[1..].iter().position(of).expect("one of them");
            nodes.remove(victim + 1).cluster.shutdown().await;
        }
        send(&nodes[0], &sender, &bob, n).await;
        client.look(&home).await;
    }
    let rest = async {
        while client.taken.len() < 200 {
            client.look(&home).await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    // What is missing then is told below.
    drop(tokio::time::timeout(Duration::from_secs(20), rest).await);
    assert_eq!(client.taken, Vec::from_iter(0..200));
    for node in nodes.iter().chain([&home]) {
        node.cluster.shutdown().await;
    }
}
