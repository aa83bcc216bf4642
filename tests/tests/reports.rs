//! Small inputs that went wrong once, each from a report about a server of this kind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proto::ns;
use tests::archive;
use tests::client::{Client, numbered};
use tests::cluster::Cluster;
use tests::wire::{DOMAIN, Wire};
use tests::{process, until};

const BOB: &str = "bob@localhost";

/// A session that can be resumed and has not said that it is available.
async fn silent(cluster: &Cluster, user: &str, resource: &str) -> Client {
    let address = cluster.address(0);
    let client = Client::connected(address, cluster.tls(), user, resource, 0).await;
    client.unwrap_or_else(|end| panic!("{user}/{resource} cannot connect: {end}"))
}

/// Everything that the client has got is acknowledged.
async fn acknowledge(client: &mut Client) {
    client.settle().await.unwrap();
    client.acknowledge().await.unwrap();
    // The answer to this comes behind the acknowledgement.
    client.check_nothing_more().await;
}

async fn await_hibernated(cluster: &Cluster, count: usize) {
    let line = format!("holdfast_hibernated_sessions {count}");
    until(&line, async || {
        let page = cluster.get(0, "/metrics").await.map(|(_, page)| page);
        page.is_ok_and(|page| page.lines().any(|found| found == line))
    })
    .await;
}

/// Alice has written so many messages to bob, who is away.
async fn eight_wait(cluster: &Cluster) -> Client {
    let mut alice = cluster.client(0, "alice").await;
    for text in numbered("chat", 0..8) {
        alice.say(BOB, &text).await;
    }
    alice.settle().await.unwrap();
    alice
}

#[tokio::test]
async fn xep_0082_an_archive_may_be_asked_for_up_to_the_end_of_time() {
    let cluster = Cluster::start(1, &["alice", "bob"], "").await;
    let _alice = eight_wait(&cluster).await;
    let mut bob = silent(&cluster, "bob", "desk").await;
    for end in [
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59.999-14:00",
        "9999-12-31T24:00:00Z",
    ] {
        let fields = [("start", "0000-01-01T00:00:00+14:00"), ("end", end)];
        let page = archive::page(&mut bob, &fields, "").await.unwrap();
        assert_eq!(page.entries.len(), 8, "{end}");
    }
}

#[tokio::test]
async fn t_44_to_bind_the_name_of_one_s_own_hibernated_session_is_no_conflict() {
    let cluster = Cluster::start(1, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    for round in 0..12 {
        let mut bob = cluster.client_with(0, "bob", "phone").await;
        assert_eq!(bob.jid.as_str(), "bob@localhost/phone", "round {round}");
        if round > 0 {
            bob.expect([format!("{round}")]).await;
        }
        acknowledge(&mut bob).await;
        alice.say(bob.jid.as_str(), &format!("{}", round + 1)).await;
        alice.settle().await.unwrap();
        bob.wire.cut();
        await_hibernated(&cluster, 1).await;
    }
}

/// Makes an account with a password of its own.
fn account(cluster: &Cluster, user: &str, password: &str) {
    let (jid, config) = (format!("{user}@{DOMAIN}"), cluster.config(0));
    let config = config.to_string_lossy();
    let add = ["user", "add", &jid, "--password-stdin", "--config", &config];
    let output = process::run(add, &format!("{password}\n"));
    assert!(output.status.success(), "{output:?}");
}

async fn logs_in(cluster: &Cluster, user: &str, password: &str) -> bool {
    let wire = Wire::direct(cluster.address(0), cluster.tls()).await;
    let mut wire = wire.unwrap();
    wire.open().await.unwrap();
    let outcome = wire.authenticate(user, password).await.unwrap();
    outcome.is("success", ns::SASL)
}

#[tokio::test]
async fn st_42_a_password_is_accepted_in_each_form_that_clients_send() {
    let cluster = Cluster::start(1, &[], "").await;
    for (user, password, prepared) in [
        ("square", "m²µª ½pass", "m2μa 1⁄2pass"),
        ("fish", "ﬁsh①", "fish1"),
        ("plain", "correct horse", "correct horse"),
    ] {
        account(&cluster, user, password);
        for form in [password, prepared] {
            assert!(logs_in(&cluster, user, form).await, "{user} with {form}");
        }
        assert!(!logs_in(&cluster, user, "another one").await);
    }
}
