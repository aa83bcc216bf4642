//! Two people who write to each other whatever happens to the nodes.

use crate::client::{Client, numbered};
use crate::cluster::Cluster;

/// Two people. Each keeps count of what came.
pub struct Pair {
    /// Their clients.
    pub ends: [Client; 2],
    said: usize,
}

impl Pair {
    /// Both log in, each at one of these nodes.
    pub async fn start(cluster: &Cluster, nodes: [usize; 2], names: [&str; 2]) -> Self {
        let a = cluster.client(nodes[0], names[0]).await;
        let b = cluster.client(nodes[1], names[1]).await;
        Self {
            ends: [a, b],
            said: 0,
        }
    }

    /// Some messages in both directions: each arrives once, in order, and nothing else does.
    pub async fn talk(&mut self) {
        let said = self.said..self.said + 5;
        self.said = said.end;
        let bodies = numbered("talk", said);
        let [a, b] = &mut self.ends;
        let (to_a, to_b) = (a.jid.to_string(), b.jid.to_string());
        for body in &bodies {
            a.say(&to_b, body).await;
            b.say(&to_a, body).await;
        }
        a.expect(bodies.clone()).await;
        b.expect(bodies).await;
    }

    /// Both resume, each at one of these nodes.
    pub async fn move_to(&mut self, cluster: &Cluster, nodes: [usize; 2]) {
        for (end, node) in self.ends.iter_mut().zip(nodes) {
            end.wire.cut();
            end.resume(cluster.address(node)).await;
        }
    }
}
