//! What people say of themselves, with a client that others wrote: slixmpp, with its plugins for moods, avatars,
//! bookmarks in both forms and what was displayed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tests::client::PASSWORD;
use tests::cluster::Cluster;
use tests::slixmpp;

#[tokio::test]
async fn slixmpp_publishes_hears_and_finds_its_bookmarks() {
    let cluster = Cluster::start(3, &["alice", "bob"], "").await;
    slixmpp::run(
        &cluster,
        "pep.py",
        &["alice@localhost", PASSWORD, "bob@localhost", PASSWORD],
    )
    .await;
}
