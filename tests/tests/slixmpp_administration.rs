//! Commands of an administrator with a client that others wrote: slixmpp, with its plugins for XEP-0050 and XEP-0133.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tests::client::PASSWORD;
use tests::cluster::Cluster;
use tests::slixmpp;

#[tokio::test]
async fn slixmpp_administers_the_server() {
    let cluster = Cluster::prepare(1, "").unwrap();
    cluster.add_to("[admin]", "jids = [\"alice@localhost\"]");
    let cluster = cluster.started(&["alice", "bob"]).await;
    slixmpp::run(
        &cluster,
        "administration.py",
        &["alice@localhost", PASSWORD, "bob@localhost", PASSWORD],
    )
    .await;
}
