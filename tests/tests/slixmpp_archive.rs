//! The archive as a client sees it that others wrote: slixmpp, with its plugins for XEP-0313 and XEP-0441.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tests::client::PASSWORD;
use tests::cluster::Cluster;
use tests::slixmpp;

/// More than two of its pages.
const MESSAGES: usize = 25;

#[tokio::test]
async fn slixmpp_reads_its_archive_both_ways_and_sets_its_preferences() {
    let cluster = Cluster::start(1, &["alice", "bob", "carol"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut carol = cluster.client(0, "carol").await;
    for number in 0..MESSAGES {
        alice.say("bob@localhost", &number.to_string()).await;
    }
    carol.say("bob@localhost", "not wanted").await;
    alice.settle().await.unwrap();
    carol.settle().await.unwrap();

    let text = slixmpp::run(
        &cluster,
        "archive.py",
        &["bob@localhost", PASSWORD, "alice@localhost"],
    )
    .await;
    let said = |name: &str| -> Vec<Vec<&str>> {
        let lines = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        lines
            .filter(|words| words[0] == name)
            .map(|words| words[1..].to_vec())
            .collect()
    };
    let mut bodies: Vec<Vec<String>> = (0..MESSAGES).map(|n| vec![n.to_string()]).collect();
    assert_eq!(said("forwards"), bodies);
    bodies.reverse();
    assert_eq!(said("backwards"), bodies);
    let fields = &said("fields")[0];
    for field in ["with", "start", "end", "before-id", "after-id", "ids"] {
        assert!(fields.contains(&field), "IM-87: {fields:?}");
    }
    let ids = said("id").concat();
    assert_eq!(ids.len(), MESSAGES + 1);
    let ends = [ids[0], ids[MESSAGES]];
    assert_eq!(said("ends"), [ends], "IM-95");
    assert_eq!(said("prefs"), [["roster", "alice@localhost"]]);
}
