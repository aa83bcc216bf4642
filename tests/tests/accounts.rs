//! What operators do to accounts counts at once, on every node, whether or not a node can be asked.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use proto::Element;
use tests::client::{Client, PASSWORD};
use tests::cluster::Cluster;
use tests::login::{can_log_in, everywhere};
use tests::process;
use tests::wire::Wire;

/// Sessions that no longer stand on valid credentials go on for so long at most.
const SOON: Duration = Duration::from_secs(5);

/// `holdfast user` on a machine from which no node can be asked.
fn user(cluster: &Cluster, arguments: &[&str], input: &str) {
    let config = cluster.config(0).to_string_lossy().into_owned();
    // Nobody listens there.
    let rest = ["--config", &config, "--set", "admin.listen=127.0.0.1:1"];
    let arguments = [&["user"], arguments, &rest].concat();
    let output = process::run(&arguments, input);
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
}

async fn check_ended(live: Vec<Client>, changed: Instant) {
    for mut client in live {
        let end = client.wire.end().await;
        assert_eq!(end.condition(), "not-authorized", "{}: {end}", client.jid);
        assert!(changed.elapsed() < SOON, "{:?}", changed.elapsed());
    }
}

#[tokio::test]
async fn sm_42_what_an_account_was_allowed_ends_everywhere_within_5_s() {
    let users = ["alice", "bob", "carol", "dave"];
    let cluster = Cluster::start(3, &users, "").await;
    let mut dave = cluster.client(0, "dave").await;

    let (live, mut asleep) = everywhere(&cluster, "alice").await;
    let changed = Instant::now();
    let passwd = ["passwd", "alice@localhost", "--password-stdin"];
    user(&cluster, &passwd, "correct horse\n");
    check_ended(live, changed).await;
    // The password is the same as before, but the session is over.
    let answer = asleep.try_resume(cluster.address(2)).await.unwrap();
    assert_eq!(answer.local(), "failed");

    let (live, _) = everywhere(&cluster, "bob").await;
    let changed = Instant::now();
    user(&cluster, &["disable", "bob@localhost"], "");
    check_ended(live, changed).await;
    assert!(!can_log_in(&cluster, 2, "bob", "correct horse").await);
    user(&cluster, &["enable", "bob@localhost"], "");
    assert!(can_log_in(&cluster, 2, "bob", "correct horse").await);

    let (live, _) = everywhere(&cluster, "carol").await;
    // The node remembers that there is such an account.
    dave.say("carol@localhost", "hello").await;
    let changed = Instant::now();
    user(&cluster, &["remove", "carol@localhost", "--yes"], "");
    check_ended(live, changed).await;
    assert!(!can_log_in(&cluster, 2, "carol", "correct horse").await);
    // Nobody acknowledged what was said before.
    let returned = dave.message_element().await.unwrap();
    assert_eq!(returned.attr("type"), Some("error"), "{returned:?}");
    dave.check_nothing_more().await;
    // Whoever writes to an account that is gone hears of it, from whichever node has known it.
    let is_error = |message: &Element| message.attr("type") == Some("error");
    while dave.take_messages(is_error).is_empty() {
        assert!(changed.elapsed() < SOON, "the account is taken to be there");
        dave.say("carol@localhost", "are you there?").await;
        dave.settle().await.unwrap();
    }
}

#[tokio::test]
async fn sm_64_what_waited_for_an_account_that_is_removed_goes_back_to_its_sender() {
    let cluster = Cluster::start(1, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut asleep = cluster.client(0, "bob").await;
    asleep.wire.cut();
    alice.say(asleep.jid.as_str(), "are you there?").await;
    alice.check_nothing_more().await;
    user(&cluster, &["remove", "bob@localhost", "--yes"], "");
    let answer = alice.message_element().await.unwrap();
    assert_eq!(answer.attr("type"), Some("error"), "{answer:?}");
    assert_eq!(answer.attr("from"), Some(asleep.jid.as_str()), "{answer:?}");
    alice.check_nothing_more().await;
}

#[tokio::test]
async fn sm_42_who_was_let_in_before_a_change_and_binds_after_it_is_sent_away() {
    let cluster = Cluster::start(1, &["alice"], "").await;
    let live = cluster.client(0, "alice").await;
    let mut late = Wire::direct(cluster.address(0), cluster.tls())
        .await
        .unwrap();
    late.login("alice", PASSWORD).await.unwrap();
    let changed = Instant::now();
    let passwd = ["passwd", "alice@localhost", "--password-stdin"];
    user(&cluster, &passwd, "battery staple\n");
    check_ended(vec![live], changed).await;

    let bound = Instant::now();
    late.bind("late").await.unwrap();
    let end = late.end().await;
    assert_eq!(end.condition(), "not-authorized", "{end}");
    assert!(bound.elapsed() < SOON, "{:?}", bound.elapsed());
}

#[tokio::test]
async fn sm_42_a_change_that_is_made_while_no_node_runs_counts_when_they_do() {
    let mut cluster = Cluster::start(1, &["alice"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    cluster.kill(0);
    let passwd = ["passwd", "alice@localhost", "--password-stdin"];
    user(&cluster, &passwd, "correct horse\n");
    cluster.run(0);
    cluster.ready(0).await;
    let begun = Instant::now();
    loop {
        let answer = alice.try_resume(cluster.address(0)).await;
        match answer {
            Ok(answer) if answer.local() == "failed" => return,
            // Until then it goes on.
            _ => assert!(begun.elapsed() < SOON, "{answer:?}"),
        }
        alice.wire.end().await;
    }
}
