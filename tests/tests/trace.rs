//! `holdfast trace`: the fate of one message, whatever node is asked.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use tests::cluster::Cluster;
use tests::{process, until};

/// The steps of a message as the node in the middle tells them: what, and in which seat.
fn steps(cluster: &Cluster, id: &str) -> Vec<(String, u64)> {
    let config = cluster.config(1).to_string_lossy().into_owned();
    let output = process::run(["trace", id, "--json", "--config", &config], "");
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("remembers"), "{said}");
        return Vec::new();
    }
    let marks: Value = serde_json::from_slice(&output.stdout).unwrap();
    let marks = marks.as_array().unwrap().iter();
    let mut steps: Vec<_> = marks
        .map(|mark| {
            let step = mark["step"].as_str().unwrap().to_owned();
            (step, mark["node"].as_u64().unwrap())
        })
        .collect();
    steps.retain(|(step, _)| step != "archived");
    steps
}

#[tokio::test]
async fn a_message_is_followed_from_node_to_node_by_either_id() {
    let cluster = Cluster::start(3, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(2, "bob").await;
    alice.say("bob@localhost", "followed").await;
    alice.settle().await.unwrap();
    let message = bob.message_element().await.unwrap();
    bob.acknowledge().await.unwrap();
    bob.settle().await.unwrap();
    let (theirs, ours) = (
        message.attr("id").unwrap(),
        message
            .child("stanza-id", proto::ns::SID)
            .and_then(|id| id.attr("id"))
            .unwrap(),
    );
    let expected = [
        ("accepted", 1),
        ("committed", 1),
        ("written", 3),
        ("acknowledged", 3),
    ];
    for id in [theirs, ours] {
        until("all steps", async || {
            let mut found = steps(&cluster, id);
            // Times come from several nodes, and the first two steps may be told after the third.
            found.sort_by_key(|(step, _)| expected.iter().position(|(name, _)| name == step));
            let found: Vec<(&str, u64)> = found.iter().map(|(s, n)| (&**s, *n)).collect();
            found == expected
        })
        .await;
    }
    assert!(steps(&cluster, "nobody-sent-this").is_empty());
}
