//! Limits of hibernated sessions, counted over all nodes, whatever happens to Redis (P5).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use cluster::mirror::script::Keys;
use futures_util::future::join_all;
use nix::sys::signal::Signal;
use node::admin::request::{Method, request};
use node::admin::token::Token;
use proto::{BareJid, Jid, ns};
use serde_json::Value;
use tests::PATIENCE;
use tests::client::{Client, PASSWORD, body};
use tests::cluster::Cluster;
use tests::process;
use tests::redis::Redis;
use tests::wire::{DOMAIN, Wire};
use tokio::time::Instant;

/// Sessions of one user, on all nodes.
const SESSIONS: usize = 50;
/// How many of them may hibernate.
const LIMIT: usize = 10;
/// So many are gone when it happens to Redis.
const MIDDLE: usize = 25;
/// In so much time Redis has to agree with the shards again.
const AGREEMENT: Duration = Duration::from_secs(60);

/// A session that will sleep: bound, resumable, without presence. It reads nothing.
struct Sleeper {
    wire: Wire,
    jid: Jid,
    id: String,
}

fn resource(number: usize) -> String {
    format!("r{number:02}")
}

async fn sleeper(cluster: &Cluster, user: &str, number: usize) -> Sleeper {
    let address = cluster.address(number % cluster.count());
    let mut wire = Wire::direct(address, cluster.tls()).await.unwrap();
    wire.login(user, PASSWORD).await.unwrap();
    let jid = wire.bind(&resource(number)).await.unwrap();
    let enable = format!("<enable xmlns='{}' resume='true'/>", ns::SM);
    wire.send(&enable).await.unwrap();
    let enabled = wire.next().await.unwrap();
    let id = enabled.attr("id").expect("SM-7: an id").to_owned();
    Sleeper { wire, jid, id }
}

/// What happens to Redis while sessions fall asleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Nothing,
    Killed,
    Emptied,
    Paused,
}

impl Fault {
    fn begin(self, redis: &mut Redis) {
        match self {
            Self::Nothing => {}
            Self::Killed => redis.kill(),
            Self::Emptied => drop(redis.run(&["FLUSHALL"])),
            Self::Paused => redis.signal(Signal::SIGSTOP),
        }
    }

    fn end(self, redis: &mut Redis) {
        match self {
            Self::Nothing | Self::Emptied => {}
            Self::Killed => redis.restart(),
            Self::Paused => redis.signal(Signal::SIGCONT),
        }
    }
}

/// Asks a node's admin interface.
async fn get(cluster: &Cluster, node: usize, path: &str) -> Value {
    let token = Token::read(&cluster.data_dir(node).join("admin.token")).unwrap();
    let address = cluster.admin(node).to_string();
    let answer = request(&address, Method::Get, path, Some(&token)).await;
    serde_json::from_slice(&answer.unwrap().body).unwrap()
}

async fn until<F: Future<Output = bool>>(patience: Duration, what: &str, holds: impl Fn() -> F) {
    let deadline = Instant::now() + patience;
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The user's hibernated sessions, by resource.
async fn hibernated(cluster: &Cluster, user: &str) -> Vec<String> {
    let page = get(cluster, 0, &format!("/api/v1/sessions?jid={user}@{DOMAIN}")).await;
    let sessions = page["sessions"].as_array().unwrap().iter();
    let sleeping = sessions.filter(|session| session["state"] == "hibernated");
    let resource = |jid: &str| jid.rsplit('/').next().unwrap().to_owned();
    sleeping
        .map(|session| resource(session["jid"].as_str().unwrap()))
        .collect()
}

/// Fifty sessions with a message each lose their connections, one after another.
async fn fall_asleep(
    cluster: &Cluster,
    sender: &mut Client,
    user: &str,
    redis: &mut Redis,
    fault: Fault,
) -> Vec<Sleeper> {
    let mut sleepers = Vec::new();
    for first in (0..SESSIONS).step_by(LIMIT) {
        let some = (first..first + LIMIT).map(|number| sleeper(cluster, user, number));
        sleepers.extend(join_all(some).await);
    }
    for sleeper in &sleepers {
        let body = sleeper.jid.resource().unwrap();
        sender.say(sleeper.jid.as_str(), body).await;
    }
    sender.settle().await.unwrap();
    for (number, sleeper) in sleepers.iter_mut().enumerate() {
        if number == MIDDLE {
            fault.begin(redis);
        }
        sleeper.wire.cut();
        let asleep = || async { hibernated(cluster, user).await.contains(&resource(number)) };
        until(PATIENCE, "it does not fall asleep", asleep).await;
    }
    sleepers
}

/// One user, one fault: ten sessions stay, the messages of the forty are there at the next login.
async fn hold(
    cluster: &Cluster,
    sender: &mut Client,
    user: &str,
    redis: &mut Redis,
    fault: Fault,
    max_old: usize,
) {
    let sleepers = fall_asleep(cluster, sender, user, redis, fault).await;
    let newest: Vec<_> = (SESSIONS - LIMIT..SESSIONS).map(resource).collect();
    assert_eq!(hibernated(cluster, user).await, newest, "{fault:?}");
    for node in 0..cluster.count() {
        let limits = get(
            cluster,
            node,
            &format!("/api/v1/limits?jid={user}@{DOMAIN}"),
        )
        .await;
        assert_eq!(limits["hibernated"], LIMIT, "{limits}");
        assert_eq!(limits["old"], max_old, "{limits}");
    }
    fault.end(redis);
    let account = BareJid::new(&format!("{user}@{DOMAIN}")).unwrap();
    let [sleeping, old, _] = Keys::of(&account).0;
    let redis = &*redis;
    let agrees = || async {
        redis.run(&["ZRANGE", &sleeping, "0", "-1"]) == newest
            && redis.run(&["ZCARD", &old]) == [max_old.to_string()]
    };
    until(
        AGREEMENT,
        &format!("{fault:?}: Redis does not agree"),
        agrees,
    )
    .await;

    let mut next = cluster.client_with(1, user, "next").await;
    next.expect((0..SESSIONS - LIMIT).map(resource)).await;
    next.check_nothing_more().await;
    wake(cluster, user, sleepers.last().unwrap()).await;
}

/// The newest one is still there, with its message, on another node.
async fn wake(cluster: &Cluster, user: &str, sleeper: &Sleeper) {
    let mut wire = Wire::direct(cluster.address(0), cluster.tls())
        .await
        .unwrap();
    wire.login(user, PASSWORD).await.unwrap();
    let resume = format!("<resume xmlns='{}' previd='{}' h='0'/>", ns::SM, sleeper.id);
    wire.send(&resume).await.unwrap();
    let answer = wire.next().await.unwrap();
    assert!(answer.is("resumed", ns::SM), "{answer:?}");
    let message = wire.next().await.unwrap();
    assert_eq!(body(&message), sleeper.jid.resource().unwrap());
}

fn limits(cluster: &Cluster, arguments: &[&str]) -> (bool, String) {
    let config = cluster.config(0).to_string_lossy().into_owned();
    let arguments = [&["limits"], arguments, &["--config", &config]].concat();
    let output = process::run(arguments, "");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn i_12_of_fifty_sessions_the_newest_ten_stay_whatever_happens_to_redis() {
    let mut redis = Redis::start().unwrap();
    let extra = format!(
        "[limits]\nsessions_per_account = 0\n[redis]\nurl = \"{}\"\n",
        redis.url()
    );
    let users = ["sender", "alice", "bob", "carol", "dave"];
    let cluster = Cluster::start(3, &users, &extra).await;
    let mut sender = cluster.client(0, "sender").await;
    let (set, text) = limits(&cluster, &["set", "carol@localhost", "--old", "7"]);
    assert!(set, "{text}");
    for (user, fault, old) in [
        ("alice", Fault::Nothing, 10),
        ("bob", Fault::Killed, 10),
        ("carol", Fault::Emptied, 7),
        ("dave", Fault::Paused, 10),
    ] {
        hold(&cluster, &mut sender, user, &mut redis, fault, old).await;
    }
    let [_, _, key] = Keys::of(&BareJid::new("carol@localhost").unwrap()).0;
    assert_eq!(redis.run(&["HGET", &key, "old"]), ["7"], "told again");
    for source in ["redis", "shard"] {
        let name = format!("holdfast_limit_decisions_total{{source=\"{source}\"}}");
        assert!(cluster.sum(&name).await > 0, "{source}");
    }
}

#[tokio::test]
async fn an_operator_sees_and_sets_limits_without_redis() {
    let cluster = Cluster::start(1, &["alice"], "").await;
    let show = || {
        let (shown, text) = limits(&cluster, &["show", "alice@localhost", "--json"]);
        assert!(shown, "{text}");
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let before = show();
    assert_eq!(before["max_hibernated"], 10);
    assert_eq!(before["max_hibernated_from"], "configuration");
    let mut sleepers = Vec::new();
    for number in 0..3 {
        sleepers.push(sleeper(&cluster, "alice", number).await);
    }
    assert_eq!(show()["live"], 3);
    for sleeper in &mut sleepers {
        let wanted = sleeper.jid.resource().unwrap().to_owned();
        sleeper.wire.cut();
        let asleep = || async { hibernated(&cluster, "alice").await.contains(&wanted) };
        until(PATIENCE, "it does not fall asleep", asleep).await;
    }
    let (set, text) = limits(&cluster, &["set", "alice@localhost", "--hibernated", "1"]);
    assert!(set && text.contains("account"), "{text}");
    assert_eq!(hibernated(&cluster, "alice").await, ["r02"]);
    let after = show();
    assert_eq!(
        (&after["hibernated"], &after["old"]),
        (&1.into(), &2.into())
    );
    let (set, _) = limits(
        &cluster,
        &["set", "alice@localhost", "--hibernated", "default"],
    );
    assert!(set);
    assert_eq!(
        show(),
        serde_json::json!({ "old": 2, "hibernated": 1, "live": 0,
        "jid": "alice@localhost", "max_hibernated": 10, "max_hibernated_from": "configuration",
        "max_old": 10, "max_old_from": "configuration" })
    );
    let (shown, text) = limits(&cluster, &["show", "nobody@localhost"]);
    assert!(!shown && text.contains("nobody@localhost"), "{text}");
    let (set, text) = limits(&cluster, &["set", "nobody@localhost", "--old", "1"]);
    assert!(!set && text.contains("nobody@localhost"), "{text}");
}
