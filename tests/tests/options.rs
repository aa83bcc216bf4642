//! The options of stream management at their edges, and their change while the node runs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use nix::sys::signal::Signal;
use proto::{Element, ns};
use tests::client::{Client, body, numbered};
use tests::cluster::Cluster;
use tests::process::{self, tail};
use tests::until;
use tests::wire::{End, Wire};

async fn enable(wire: &mut Wire, max: &str) -> Element {
    wire.send(&format!("<enable xmlns='{}' resume='true'{max}/>", ns::SM))
        .await
        .unwrap();
    wire.next().await.unwrap()
}

/// The `max` that a client is promised which asks for this one.
async fn promised(cluster: &Cluster, max: &str) -> u64 {
    let mut wire = cluster.bound(0, "bob", "raw").await;
    let enabled = enable(&mut wire, max).await;
    enabled.attr("max").unwrap().parse().unwrap()
}

/// The number behind the first line of the metrics page that begins so.
async fn metric(cluster: &Cluster, line: &str) -> u64 {
    let (_, page) = cluster.get(0, "/metrics").await.unwrap();
    let found = page.lines().find_map(|l| l.strip_prefix(line));
    found.map_or(0, |number| number.trim().parse().unwrap())
}

#[tokio::test]
async fn sm_8_the_window_is_the_shorter_of_what_both_want_and_may_change_while_the_node_runs() {
    let cluster = Cluster::start(1, &["bob"], "[sm]\nhibernation_time = \"100s\"\n").await;
    assert_eq!(promised(&cluster, "").await, 100);
    assert_eq!(promised(&cluster, " max='7'").await, 7);
    assert_eq!(promised(&cluster, " max='100000'").await, 100);

    let text = std::fs::read_to_string(cluster.config(0)).unwrap();
    std::fs::write(cluster.config(0), text.replace("\"100s\"", "\"40s\"")).unwrap();
    cluster.signal(0, Signal::SIGHUP);
    until("a new window", async || promised(&cluster, "").await == 40).await;

    std::fs::write(cluster.config(0), text.replace("\"100s\"", "\"soon\"")).unwrap();
    cluster.signal(0, Signal::SIGHUP);
    until("a complaint", async || {
        tail(&cluster.log(0)).contains("the configuration in force stays")
    })
    .await;
    assert_eq!(
        promised(&cluster, "").await,
        40,
        "what is refused changes nothing"
    );
}

/// The elements that a client gets which answers nothing, up to the message with this body.
async fn up_to(wire: &mut Wire, last: &str) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        let element = wire.next().await.unwrap();
        match element.local() {
            "message" => seen.push(body(&element)),
            "r" => seen.push("r".to_owned()),
            _ => continue,
        }
        if seen.last().is_some_and(|seen| seen == last) {
            return seen;
        }
    }
}

/// What bob sees who never answers, while alice sends him four messages one by one.
async fn seen(limit: u32) -> Vec<String> {
    let extra = format!("[sm]\nmax_unacked_stanzas = {limit}\n");
    let cluster = Cluster::start(1, &["alice", "bob"], &extra).await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.bound(0, "bob", "raw").await;
    enable(&mut bob, "").await;
    let mut all = Vec::new();
    for text in numbered("m", 0..4) {
        alice.say("bob@localhost/raw", &text).await;
        alice.settle().await.unwrap();
        all.extend(up_to(&mut bob, &text).await);
    }
    // Whatever is asked stands before the answer to this.
    bob.send("<iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>")
        .await
        .unwrap();
    loop {
        let element = bob.next().await.unwrap();
        match element.local() {
            "iq" => return all,
            "r" => all.push("r".to_owned()),
            _ => {}
        }
    }
}

#[tokio::test]
async fn sm_32_zero_asks_at_the_first_stanza_and_not_again_before_the_answer() {
    assert_eq!(seen(0).await, ["m 0", "r", "m 1", "m 2", "m 3"]);
}

#[tokio::test]
async fn sm_32_a_limit_asks_when_more_are_in_flight() {
    assert_eq!(seen(2).await, ["m 0", "m 1", "m 2", "r", "m 3"]);
}

#[tokio::test]
async fn sm_33_a_late_answer_is_an_event_and_a_later_one_the_end_of_the_connection() {
    let extra = "[sm]\nmax_ack_delay = \"1s\"\nack_timeout = \"2s\"\n";
    let cluster = Cluster::start(1, &["alice", "bob"], extra).await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(0, "bob").await;
    alice.say("bob@localhost/desk", "unanswered").await;
    alice.settle().await.unwrap();
    let end = bob.wire.end().await;
    assert!(
        matches!(&end, End::Error(condition, _) if condition == "connection-timeout"),
        "{end}"
    );
    let late = metric(
        &cluster,
        "holdfast_session_events_total{event=\"ack_delayed\"}",
    )
    .await;
    assert_eq!(late, 1);
    bob.resume(cluster.address(0)).await;
    bob.expect(["unanswered".to_owned()]).await;
}

/// How many entries the shards have.
async fn entries(cluster: &Cluster) -> u64 {
    let config = cluster.config(0).to_string_lossy().into_owned();
    let arguments = ["cluster", "status", "--json", "--config", &config];
    let output = tests::process::run(arguments, "");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let shards = report["shards"].as_array().unwrap();
    shards
        .iter()
        .map(|shard| shard["applied"].as_u64().unwrap())
        .sum()
}

#[tokio::test]
async fn t_40_a_resume_that_is_refused_writes_nothing_and_says_the_count_again_and_again() {
    let extra = "[sm]\nhibernation_time = \"1s\"\n";
    let cluster = Cluster::start(1, &["bob"], extra).await;
    let mut bob = cluster.client(0, "bob").await;
    bob.wire.cut();
    until("his session is over", async || {
        let config = cluster.config(0).to_string_lossy().into_owned();
        let output = process::run(["session", "list", "--json", "--config", &config], "");
        output.stdout.trim_ascii() == b"[]"
    })
    .await;
    let mut before = 0;
    for round in 0..4 {
        let (mut wire, answer) = bob.take_over(cluster.address(0)).await.unwrap();
        assert!(answer.is("failed", ns::SM), "{answer:?}");
        assert_eq!(answer.attr("h"), Some("1"), "the presence was handled");
        // The stream goes on: another try is heard.
        wire.send("<resume xmlns='urn:xmpp:sm:3' previd='nobody' h='0'/>")
            .await
            .unwrap();
        let answer = wire.next().await.unwrap();
        assert_eq!((answer.local(), answer.attr("h")), ("failed", None));
        // What followed from the end itself may still have been on its way in the first round.
        if round > 0 {
            assert_eq!(entries(&cluster).await, before, "round {round}");
        }
        before = entries(&cluster).await;
    }
}

#[tokio::test]
async fn a_cable_that_is_cut_loses_nothing_for_a_client_that_does_not_count() {
    let extra = "[sm]\nack_timeout = \"2s\"\n";
    let cluster = Cluster::start(1, &["alice", "bob"], extra).await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.bound(0, "bob", "raw").await;
    bob.send("<presence/>").await.unwrap();
    for text in numbered("read", 0..6) {
        alice.say("bob@localhost", &text).await;
    }
    // He answers pings as far as he reads.
    let mut read = Vec::new();
    let mut answered = false;
    while read.len() < 6 || !answered {
        let element = bob.next().await.unwrap();
        match (element.local(), element.attr("type")) {
            ("message", _) => read.push(body(&element)),
            ("iq", Some("get")) => {
                let id = element.attr("id").unwrap();
                let pong = format!("<iq type='result' id='{id}' to='localhost'/>");
                bob.send(&pong).await.unwrap();
                answered = read.len() == 6;
            }
            _ => {}
        }
    }
    assert_eq!(read, numbered("read", 0..6));
    // From here on he is gone, and nothing says so: the socket stays open.
    for text in numbered("unread", 0..20) {
        alice.say("bob@localhost", &text).await;
    }
    alice.settle().await.unwrap();
    let gone = "holdfast_session_events_total{event=\"ended_lost\"}";
    until("his connection is dead", async || {
        metric(&cluster, gone).await == 1
    })
    .await;
    let mut next = Client::start(cluster.address(0), cluster.tls(), "bob", "new", 0)
        .await
        .unwrap();
    next.expect(numbered("unread", 0..20)).await;
    next.check_nothing_more().await;
    drop(bob);
}
