//! A shard that commits nothing although every node of it can be reached.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;

use cluster::ShardId;
use proto::BareJid;
use serde_json::Value;
use tests::cluster::Cluster;
use tests::wire::DOMAIN;
use tests::{process, shim, until};

/// Accounts of several shards.
const USERS: [&str; 6] = ["alice", "bob", "carol", "dave", "erin", "frank"];

/// The shards that they are in.
fn shards() -> BTreeSet<ShardId> {
    let account = |user| BareJid::new(&format!("{user}@{DOMAIN}")).unwrap();
    USERS
        .map(|user| cluster::shard_of(&account(user), 3))
        .into()
}

/// Why shards stand still, as `holdfast cluster status` tells it: one line for each of them.
fn told(cluster: &Cluster) -> Vec<String> {
    let config = cluster.config(0).to_string_lossy().into_owned();
    let output = process::run(["cluster", "status", "--json", "--config", &config], "");
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    let shards = shown["shards"].as_array().unwrap().iter();
    let stalled = shards.filter_map(|shard| shard["stalled"].as_str());
    stalled.map(str::to_owned).collect()
}

/// A line of the metrics page.
async fn counts(cluster: &Cluster, line: &str) -> bool {
    let (_, page) = cluster.get(0, "/metrics").await.unwrap();
    page.lines().any(|found| found == line)
}

#[tokio::test]
async fn a_shard_that_stands_still_is_unready_and_says_why() {
    let mut cluster = Cluster::prepare(3, "").unwrap();
    let Some(shim) = shim::compile(cluster.path(), "sync_waits.c") else {
        return;
    };
    // The disks of two nodes stop. Both answer all the same, so that nobody misses them.
    let stopped = cluster.path().join("stopped");
    for node in [1, 2] {
        let waits = ("HF_SYNC_WAITS", stopped.clone());
        cluster.environment(node, &[("LD_PRELOAD", shim.clone()), waits]);
    }
    cluster = cluster.started(&USERS).await;
    let mut clients = Vec::new();
    for user in USERS {
        clients.push(cluster.client(0, user).await);
    }
    assert_eq!(told(&cluster), [] as [String; 0]);
    assert!(counts(&cluster, "holdfast_stalled_shards 0").await);
    fs::write(&stopped, "").unwrap();
    for client in &mut clients {
        let own = client.jid.to_string();
        client.say(&own, "stopped").await;
    }
    until("it is not ready, and says why", async || {
        let (status, why) = cluster.get(0, "/readyz").await.unwrap();
        status == 503 && why.contains("has committed nothing for")
    })
    .await;
    until("the status tells of all of them", async || {
        let told = told(&cluster);
        told.len() == shards().len() && told.iter().any(|why| why.contains("confirms entry"))
    })
    .await;
    let stalled = format!("holdfast_stalled_shards {}", shards().len());
    until("the metrics count them", async || {
        counts(&cluster, &stalled).await
    })
    .await;
    fs::remove_file(&stopped).unwrap();
    cluster.ready(0).await;
    until("nothing stands still", async || {
        counts(&cluster, "holdfast_stalled_shards 0").await && told(&cluster).is_empty()
    })
    .await;
    for client in &mut clients {
        client.resume(cluster.address(0)).await;
        client.expect(["stopped".to_owned()]).await;
        client.check_nothing_more().await;
    }
    let log = fs::read_to_string(cluster.log(0)).unwrap();
    for shard in shards() {
        let said = format!("shard {shard} has committed nothing for");
        let said = log
            .lines()
            .filter(|line| line.contains("ERROR") && line.contains(&said));
        assert_eq!(said.count(), 1, "{log}");
        assert!(
            log.contains(&format!("shard {shard} commits again")),
            "{log}"
        );
    }
}
