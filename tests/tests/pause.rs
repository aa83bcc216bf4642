//! A node that stands still: leaders leave it at once, clients only when it is silent for long.
//!
//! `HOLDFAST_PAUSED_CLIENTS` asks for another number of clients.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use tests::client::Client;
use tests::cluster::Cluster;
use tests::{process, until};

/// Clients of the node that stands still.
const CLIENTS: usize = 100;
/// Sessions that an account may have.
const EACH: usize = 20;
/// What a wrong cut would need to show itself: longer than owners are compared with processes anew.
const LOOK: Duration = Duration::from_secs(3);

fn clients() -> usize {
    let asked = std::env::var("HOLDFAST_PAUSED_CLIENTS");
    asked.map_or(CLIENTS, |asked| asked.parse().expect("a number"))
}

fn users() -> Vec<String> {
    (0..clients().div_ceil(EACH))
        .map(|n| format!("user{n}"))
        .collect()
}

async fn start() -> (Cluster, Vec<String>) {
    let users = users();
    let names: Vec<&str> = users.iter().map(String::as_str).collect();
    (Cluster::start(3, &names, "").await, users)
}

/// How many shards the node leads, by the word of another.
fn leads(cluster: &Cluster, node: usize, asked: usize) -> u64 {
    let config = cluster.config(asked).to_string_lossy().into_owned();
    let output = process::run(["cluster", "status", "--json", "--config", &config], "");
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    let nodes = status["nodes"].as_array().unwrap();
    nodes[node]["leads"].as_u64().unwrap()
}

#[tokio::test]
async fn f_5_a_pause_of_700_ms_moves_leaders_and_cuts_no_client() {
    let (mut cluster, users) = start().await;
    let mut wires = Vec::new();
    for n in 0..clients() {
        let (user, resource) = (&users[n / EACH], format!("{}", n % EACH));
        // Without stream management: whoever is cut is over.
        wires.push(cluster.bound(0, user, &resource).await);
    }
    until("the node leads", async || leads(&cluster, 0, 1) > 0).await;
    cluster.process(0).pause();
    tokio::time::sleep(Duration::from_millis(700)).await;
    // Long before the node is given up; how soon is for a bench to say.
    until("leaders move", async || leads(&cluster, 0, 1) == 0).await;
    cluster.signal(0, Signal::SIGCONT);
    cluster.ready(0).await;
    let looked = Instant::now();
    for turn in 0.. {
        for (n, wire) in wires.iter_mut().enumerate() {
            let alive = wire.ping(&format!("{n}-{turn}")).await;
            alive.unwrap_or_else(|end| panic!("client {n} is cut: {end}"));
        }
        if looked.elapsed() > LOOK {
            break;
        }
    }
}

#[tokio::test]
async fn f_5_who_was_on_a_node_that_stands_still_for_15_s_goes_on_elsewhere() {
    let (mut cluster, users) = start().await;
    let mut at_once = Vec::new();
    let mut later = Vec::new();
    for n in 0..clients() {
        let (user, resource) = (&users[n / EACH], format!("{}", n % EACH));
        let client = cluster.client_with(0, user, &resource).await;
        if n % 2 == 0 {
            at_once.push(client);
        } else {
            later.push(client);
        }
    }
    let paused = Instant::now();
    cluster.process(0).pause();
    // Whoever comes takes the session over, long before the node is given up.
    for client in &mut at_once {
        client.resume(cluster.address(1)).await;
    }
    let given_up =
        || async { cluster.sum("holdfast_hibernated_sessions").await == later.len() as u64 };
    until("the others hibernate", given_up).await;
    assert!(
        paused.elapsed() > Duration::from_secs(10),
        "{:?}",
        paused.elapsed()
    );
    for client in &mut later {
        client.resume(cluster.address(2)).await;
    }
    tokio::time::sleep(Duration::from_secs(15).saturating_sub(paused.elapsed())).await;
    cluster.signal(0, Signal::SIGCONT);
    cluster.ready(0).await;
    // It has nothing to say to those who left, and serves whoever comes.
    let mut back = later.pop().unwrap();
    back.resume(cluster.address(0)).await;
    let to = back.jid.to_string();
    for (n, client) in at_once.iter_mut().chain(&mut later).enumerate() {
        client.say(&to, &format!("after {n}")).await;
        settled(client).await;
        back.expect([format!("after {n}")]).await;
    }
    settled(&mut back).await;
    back.check_nothing_more().await;
}

async fn settled(client: &mut Client) {
    client
        .settle()
        .await
        .unwrap_or_else(|end| panic!("{}: {end}", client.jid));
}
