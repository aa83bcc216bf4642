//! What clients that others wrote do with the server: slixmpp drives each of its plugins for what is there, at least once.
//! The other files about slixmpp show commands, archives, bookmarks and resumption.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tests::client::PASSWORD;
use tests::cluster::Cluster;
use tests::register::OPEN;
use tests::slixmpp;

const ALICE: [&str; 2] = ["alice@localhost", PASSWORD];
const BOB: [&str; 2] = ["bob@localhost", PASSWORD];

#[tokio::test]
async fn slixmpp_says_what_people_do_and_keeps_what_they_have() {
    let cluster = Cluster::start(3, &["alice", "bob"], "").await;
    slixmpp::run(&cluster, "people.py", &[ALICE, BOB].concat()).await;
}

#[tokio::test]
async fn slixmpp_sends_all_that_messages_may_carry() {
    let cluster = Cluster::start(3, &["alice", "bob"], "").await;
    slixmpp::run(&cluster, "messages.py", &[ALICE, ALICE, BOB].concat()).await;
}

#[tokio::test]
async fn slixmpp_asks_the_server_and_makes_accounts() {
    let contact = "[contact]\nabuse = [\"mailto:abuse@localhost\"]\noutage = [\"https://status.localhost/xmpp.json\"]\n";
    let cluster = Cluster::start(1, &["alice", "bob"], &format!("{OPEN}{contact}")).await;
    slixmpp::run(&cluster, "server.py", &[ALICE, BOB].concat()).await;
}
