//! Sessions on all nodes, and whether somebody gets one.

use crate::client::Client;
use crate::cluster::Cluster;
use crate::wire::Wire;

/// A session of the account on each of three nodes, and one that is asleep.
pub async fn everywhere(cluster: &Cluster, name: &str) -> (Vec<Client>, Client) {
    let mut live = Vec::new();
    for node in 0..3 {
        let resource = format!("at{node}");
        live.push(cluster.client_with(node, name, &resource).await);
    }
    let mut asleep = cluster.client_with(1, name, "asleep").await;
    asleep.wire.cut();
    (live, asleep)
}

/// Whether a node lets somebody in with this password.
pub async fn can_log_in(cluster: &Cluster, node: usize, name: &str, password: &str) -> bool {
    let mut wire = Wire::direct(cluster.address(node), cluster.tls())
        .await
        .expect("connects");
    wire.open().await.expect("opens");
    let answer = wire.authenticate(name, password).await.expect("answers");
    answer.local() == "success"
}
