//! The disks of two of three nodes are lost, and the one that is left goes on with all that it has.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use nix::sys::signal::Signal;
use serde_json::Value;
use tests::cluster::Cluster;
use tests::pair::Pair;
use tests::{process, until};

/// What `holdfast cluster status` shows, asked of a node.
fn status(cluster: &Cluster, node: usize) -> Value {
    let config = cluster.config(node).to_string_lossy().into_owned();
    let output = process::run(["cluster", "status", "--json", "--config", &config], "");
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// How many vote in each shard, and who.
fn voters(cluster: &Cluster, node: usize) -> Vec<Vec<String>> {
    let status = status(cluster, node);
    let shards = status["shards"].as_array().cloned().unwrap_or_default();
    let of = |shard: &Value| {
        let voters = shard["voters"].as_array().cloned().unwrap_or_default();
        let name = |voter: &Value| voter.as_str().unwrap_or_default().to_owned();
        voters.iter().map(name).collect()
    };
    shards.iter().map(of).collect()
}

/// How far each shard is on a node.
fn entries(cluster: &Cluster, node: usize, what: &str) -> Vec<u64> {
    let status = status(cluster, node);
    let shards = status["shards"].as_array().cloned().unwrap_or_default();
    let shards = shards.iter().map(|shard| shard[what].as_u64());
    shards.map(Option::unwrap_or_default).collect()
}

async fn until_three_vote(cluster: &Cluster, node: usize) {
    until("three vote in each shard", async || {
        let shards = voters(cluster, node);
        !shards.is_empty() && shards.iter().all(|voters| voters.len() == 3)
    })
    .await;
}

fn recover(cluster: &Cluster, node: usize, arguments: &[&str], input: &str) -> Output {
    let config = cluster.config(node).to_string_lossy().into_owned();
    let fixed = ["cluster", "recover", "--config", &config];
    process::run(fixed.iter().chain(arguments), input)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// All files below a directory, with what is in them.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(content(&path)),
            false => drop(all.insert(path.clone(), fs::read(&path).unwrap())),
        }
    }
    all
}

/// The node is killed, and its disk is kept elsewhere.
fn lose(cluster: &mut Cluster, node: usize) -> PathBuf {
    cluster.kill(node);
    let kept = cluster.path().join(format!("old-{node}"));
    fs::rename(cluster.data_dir(node), &kept).unwrap();
    kept
}

/// What the file of a node's identity says about something.
fn identity(dir: &Path, what: &str) -> String {
    known(dir, what).unwrap()
}

/// The same, if it says so already.
fn known(dir: &Path, what: &str) -> Option<String> {
    let text = fs::read_to_string(dir.join("identity")).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let (_, found) = lines.find(|(name, _)| *name == what)?;
    Some(found.to_owned())
}

/// The dry run says what may be lost and what to type, and changes nothing. Returns what to type.
fn check_dry_run(cluster: &Cluster, node: usize) -> String {
    let dir = cluster.data_dir(node);
    let before = content(&dir);
    let output = recover(cluster, node, &[], "");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    let disk = identity(&dir, "node");
    let cluster_id = identity(&dir, "cluster");
    let confirm = format!("To do it: holdfast cluster recover --confirm {disk}");
    for part in [
        "This is a dry run: nothing is changed.",
        &format!("cluster {cluster_id}, node {}, disk {disk}", node + 1),
        "shard 0: this node",
        "shard 1: this node",
        "shard 2: this node",
        "last entry       term ",
        "committed        up to entry ",
        "becomes true     ",
        "may be lost      what the others committed after entry ",
        "archives and all else that is in the database are not touched",
        &confirm,
    ] {
        assert!(shown.contains(part), "{part:?} is not in:\n{shown}");
    }
    assert!(!shown.contains("WARNING"), "{shown}");
    assert!(content(&dir) == before, "the dry run has changed something");
    for (typed, input) in [(vec!["--confirm", "yes"], ""), (vec!["--confirm"], "yes\n")] {
        let output = recover(cluster, node, &typed, input);
        assert_eq!(output.status.code(), Some(1));
        let said = text(&output.stderr);
        assert!(
            said.contains("nothing is changed") && said.contains(&disk),
            "{said}"
        );
    }
    assert!(content(&dir) == before, "a wrong id has changed something");
    disk
}

/// Bob is away, and what alice says waits for him, when the disks of the first two nodes are lost.
async fn lose_two(cluster: &mut Cluster, pair: &mut Pair) -> [PathBuf; 2] {
    // What was acknowledged is everywhere before that.
    let [alice, bob] = &mut pair.ends;
    bob.wire.cut();
    let to = bob.jid.to_string();
    for n in 0..5 {
        alice.say(&to, &format!("waits {n}")).await;
    }
    alice.settle().await.unwrap();
    let had = [0, 1].map(|node| entries(cluster, node, "committed"));
    until("the third has everything", async || {
        let has = entries(cluster, 2, "applied");
        let mut all = had.iter().flat_map(|had| had.iter().zip(&has));
        !has.is_empty() && all.all(|(had, has)| has >= had)
    })
    .await;
    [lose(cluster, 0), lose(cluster, 1)]
}

/// The second node comes back with its old disk, and finds nobody who takes it in.
async fn check_old_member(
    cluster: &mut Cluster,
    pair: &mut Pair,
    old: &Path,
    [before, now]: [&String; 2],
) {
    fs::rename(old, cluster.data_dir(1)).unwrap();
    cluster.run(1);
    let refusal = format!("the peer belongs to cluster {before}");
    until("the old member is refused", async || {
        let log = fs::read_to_string(cluster.log(2)).unwrap();
        log.contains(&refusal)
    })
    .await;
    let own = format!("the peer belongs to cluster {now}");
    until("the old member says why", async || {
        fs::read_to_string(cluster.log(1)).unwrap().contains(&own)
    })
    .await;
    pair.talk().await;
    // It draws no newcomer to itself either.
    cluster.run(0);
    cluster.ready(0).await;
    // It serves clients while it still writes where it belongs.
    until("it belongs to the new cluster", async || {
        known(&cluster.data_dir(0), "cluster").as_ref() == Some(now)
    })
    .await;
    pair.talk().await;
    let (ready, _) = cluster.get(1, "/readyz").await.unwrap();
    assert_eq!(ready, 503, "it serves nobody");
    cluster.kill(1);
    let log = fs::read_to_string(cluster.log(1)).unwrap();
    assert!(!log.contains("joining cluster"), "{log}");
}

#[tokio::test]
async fn a_survivor_of_three_goes_on_alone_and_becomes_three_again() {
    let mut cluster = Cluster::start(3, &["alice", "bob", "carol", "dave"], "").await;
    let mut pair = Pair::start(&cluster, [0, 2], ["alice", "bob"]).await;
    pair.talk().await;
    let refused = recover(&cluster, 2, &[], "");
    assert_eq!(refused.status.code(), Some(1));
    let process = format!("in use by process {}", cluster.process(2).id());
    assert!(text(&refused.stderr).contains(&process), "{refused:?}");
    let old = lose_two(&mut cluster, &mut pair).await;
    until("it has no majority", async || {
        status(&cluster, 2)["majority"] == Value::Bool(false)
    })
    .await;
    cluster.signal(2, Signal::SIGTERM);
    cluster.process(2).end().await;

    let before = identity(&cluster.data_dir(2), "cluster");
    let disk = check_dry_run(&cluster, 2);
    let output = recover(&cluster, 2, &["--confirm"], &format!("{disk}\n"));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let now = identity(&cluster.data_dir(2), "cluster");
    assert_ne!(now, before);
    assert!(text(&output.stdout).contains(&format!("This node is cluster {now} now")));

    cluster.run(2);
    cluster.ready(2).await;
    assert_eq!(status(&cluster, 2)["majority"], Value::Bool(true));
    let [alice, bob] = &mut pair.ends;
    bob.resume(cluster.address(2)).await;
    bob.expect((0..5).map(|n| format!("waits {n}"))).await;
    alice.wire.cut();
    alice.resume(cluster.address(2)).await;
    pair.talk().await;

    check_old_member(&mut cluster, &mut pair, &old[1], [&before, &now]).await;

    // Emptied, it is welcome.
    fs::remove_dir_all(cluster.data_dir(1)).unwrap();
    cluster.run(1);
    cluster.ready(1).await;
    until_three_vote(&cluster, 2).await;
    pair.move_to(&cluster, [0, 1]).await;
    pair.talk().await;
    let mut fresh = Pair::start(&cluster, [1, 0], ["carol", "dave"]).await;
    fresh.talk().await;
    // It is a cluster as any other: it survives the loss of the one that was recovered.
    cluster.kill(2);
    pair.talk().await;
    fresh.talk().await;
}
