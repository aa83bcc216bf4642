//! What a cluster tells of its health, while all is well and when it is not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use cluster::format::Versions;
use serde_json::Value;
use tests::cluster::Cluster;
use tests::{process, until};

/// `holdfast cluster status`, asked of a node: the exit code, and what it prints.
fn status(cluster: &Cluster, node: usize, form: &[&str]) -> (Option<i32>, String) {
    let config = cluster.config(node).to_string_lossy().into_owned();
    let arguments = [&["cluster", "status", "--config", &config], form].concat();
    let output = process::run(arguments, "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), text)
}

fn report(cluster: &Cluster, node: usize) -> Value {
    let (_, text) = status(cluster, node, &["--json"]);
    serde_json::from_str(&text).unwrap_or_default()
}

fn list<'a>(of: &'a Value, name: &str) -> &'a [Value] {
    of[name].as_array().map_or(&[], Vec::as_slice)
}

/// The values of a field, in order.
fn each<'a>(of: &'a Value, list_name: &str, field: &str) -> Vec<&'a Value> {
    let of = list(of, list_name).iter();
    of.map(|one| &one[field]).collect()
}

/// Of each shard its leader has told how far both others are.
fn is_informed(report: &Value) -> bool {
    let shards = list(report, "shards");
    let told = |shard: &Value| {
        let behind = shard["behind"].as_object();
        behind.is_some_and(|behind| behind.len() == 2 && behind.values().all(Value::is_u64))
    };
    !shards.is_empty() && shards.iter().all(told)
}

/// Three members with everything that they should have.
fn check_well(well: &Value) {
    let formats = Versions::SPOKEN.to_string();
    let formats = formats.as_str();
    assert_eq!(well["majority"], true);
    assert_eq!(well["can_lose"], 1);
    assert_eq!(well["warnings"], Value::Array(Vec::new()), "{well:#}");
    assert_eq!(each(well, "nodes", "state"), ["active"; 3]);
    assert_eq!(each(well, "nodes", "votes"), [3; 3]);
    assert_eq!(each(well, "nodes", "formats"), [formats; 3]);
    assert_eq!(each(well, "shards", "reached"), [3; 3]);
    assert_eq!(well["moves"], Value::Array(Vec::new()));
    let committed = each(well, "shards", "last_commit_ms");
    assert!(
        committed
            .iter()
            .any(|age| age.as_u64().is_some_and(|age| age < 60_000))
    );
}

#[tokio::test]
async fn the_status_tells_who_is_missing_and_what_can_be_lost() {
    let mut cluster = Cluster::start(3, &["alice"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    alice
        .say("alice@localhost", "so that there is an entry")
        .await;
    alice.settle().await.unwrap();
    for node in 0..3 {
        until("every leader is heard", async || {
            is_informed(&report(&cluster, node))
        })
        .await;
    }
    check_well(&report(&cluster, 1));
    cluster.kill(2);
    until("it is away", async || {
        let one_away = report(&cluster, 0);
        each(&one_away, "nodes", "state") == ["active", "active", "away"]
            && one_away["can_lose"] == 0
            && one_away["majority"] == true
    })
    .await;
    let (code, text) = status(&cluster, 0, &[]);
    assert_eq!(code, Some(0), "{text}");
    let missing = "WARNING: node 3 cannot be reached (away) and votes in shards 0, 1, 2\n";
    assert!(text.starts_with(missing), "{text}");
    assert!(text.contains("members that can be lost: 0\n"), "{text}");

    cluster.kill(1);
    until("there is no majority", async || {
        report(&cluster, 0)["majority"] == false
    })
    .await;
    let (code, text) = status(&cluster, 0, &[]);
    assert_eq!(code, Some(1), "{text}");
    let none = "WARNING: no majority for shards 0, 1, 2: ";
    assert!(text.starts_with(none), "{text}");
    let (status, page) = cluster.get(0, "/readyz?verbose").await.unwrap();
    assert_eq!(status, 503);
    assert!(page.starts_with("not ready\nok    node "), "{page}");
    for shard in 0..3 {
        let line = format!(
            "fail  shard {shard}      fewer than half of the voters of shard {shard} can be reached\n"
        );
        assert!(page.contains(&line), "{page}");
    }
    assert!(page.contains("ok    database     answers\n"), "{page}");
    let (alive, _) = cluster.get(0, "/livez").await.unwrap();
    assert_eq!(alive, 200);
}

#[tokio::test]
async fn a_member_that_does_not_come_back_is_replaced_and_that_is_shown() {
    let mut cluster = Cluster::prepare_to_grow(3, 4, "").unwrap();
    cluster.add_to("[cluster]", "replace_after = \"2s\"");
    cluster.accounts(&["alice"]);
    for node in 0..4 {
        cluster.run(node);
    }
    for node in 0..4 {
        cluster.ready(node).await;
    }
    let state = |report: &Value, seat: usize| {
        list(report, "nodes").get(seat)?["state"]
            .as_str()
            .map(str::to_owned)
    };
    until("all four are members", async || {
        cluster.sum("holdfast_members{state=\"active\"}").await == 4
    })
    .await;
    let seats = report(&cluster, 0);
    let votes = each(&seats, "nodes", "votes");
    let voter = (1..3).find(|seat| votes[*seat].as_u64() > Some(0));
    let voter = voter.expect("two of them vote in something");
    let shards = votes[voter].as_u64();
    let before = cluster
        .sum("holdfast_replica_moves_total{step=\"vote\"}")
        .await;
    cluster.kill(voter);
    let mut seen = Vec::new();
    until("others vote in its place", async || {
        let now = report(&cluster, 0);
        seen.extend(state(&now, voter));
        seen.dedup();
        let votes = each(&now, "nodes", "votes");
        let was_away = seen.iter().any(|state| state == "away");
        let votes = votes.get(voter).is_some_and(|votes| **votes == 0);
        was_away && votes && now["majority"] == true
    })
    .await;
    let moved = cluster
        .sum("holdfast_replica_moves_total{step=\"vote\"}")
        .await;
    assert!(moved > before, "{moved}");
    until("it is forgotten", async || {
        cluster
            .sum("holdfast_replica_moves_total{step=\"leave\"}")
            .await
            >= shards.unwrap_or_default()
            && cluster.sum("holdfast_members").await == 3
    })
    .await;
    assert_eq!(report(&cluster, 0)["can_lose"], 1);
}

#[tokio::test]
async fn sums_over_the_nodes_count_everything_once() {
    let mut cluster = Cluster::start(3, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(1, "bob").await;
    alice.wire.cut();
    until("one hibernates", async || {
        cluster.sum("holdfast_hibernated_sessions").await == 1
    })
    .await;
    bob.say("alice@localhost", "while she is away").await;
    bob.settle().await.unwrap();
    until("one stanza is queued", async || {
        cluster.sum("holdfast_queue_stanzas").await == 1
    })
    .await;
    assert_eq!(cluster.sum("holdfast_sessions").await, 1);
    assert_eq!(cluster.sum("holdfast_shards_led").await, 3);
    until("all are members", async || {
        cluster.sum("holdfast_members{state=\"active\"}").await == 3
    })
    .await;
    assert_eq!(cluster.sum("holdfast_members").await, 3);
    // Each of three shards has two replicas that its leader follows.
    let page = cluster.get(0, "/metrics").await.unwrap().1;
    assert!(!page.contains("holdfast_redis_up"), "{page}");

    alice.resume(cluster.address(0)).await;
    alice.wire.cut();
    alice.resume(cluster.address(2)).await;
    let from = |from: &str| format!("holdfast_resumed_sessions_total{{from=\"{from}\"}}");
    assert_eq!(cluster.sum(&from("same_node")).await, 1);
    assert_eq!(cluster.sum(&from("other_node")).await, 1);
    let resumed = "holdfast_resumes_total{result=\"resumed\"}";
    assert_eq!(cluster.sum(resumed).await, 2);

    let led = |report: &Value, seat: usize| list(report, "nodes")[seat]["leads"].as_u64();
    until("a node leads something", async || {
        led(&report(&cluster, 0), 1).is_some_and(|led| led > 0)
    })
    .await;
    let before = cluster.sum("holdfast_failovers_total").await;
    cluster.kill(1);
    until("others lead it", async || {
        cluster.sum("holdfast_failovers_total").await > before
            && cluster.sum("holdfast_shards_led").await == 3
    })
    .await;
}
