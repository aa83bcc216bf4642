//! The README and the operators' pages are tried out: their configurations load, and the README's three nodes
//! with PostgreSQL and HAProxy do what it promises.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use node::config::Config;
use node::demo::tally::{InFlight, Report, Times};
use tests::PATIENCE;
use tests::client::{Client, numbered};
use tests::cluster::Cluster;
use tests::wire::{DOMAIN, Wire};
use tokio::time::{Instant, sleep};

/// Messages of one burst in each direction.
const BURST: usize = 20;

const README: &str = "README.md";
/// The page about limits, which has a configuration too.
const LIMITS: &str = "node/docs/limits.md";
/// The page about web clients, too.
const WEB: &str = "node/docs/web.md";

/// A document's code blocks of one kind.
fn blocks(document: &str, kind: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(root.join(document)).unwrap();
    let mut blocks = Vec::new();
    let mut parts = text.split("```");
    while let (Some(_), Some(block)) = (parts.next(), parts.next()) {
        if let Some(text) = block.strip_prefix(&format!("{kind}\n")) {
            blocks.push(text.to_owned());
        }
    }
    blocks
}

#[test]
fn each_extension_is_named_with_its_version() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(root.join(README)).unwrap();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for (number, version, service) in node::extensions() {
        let named = format!("XEP-{number:04} {version}");
        assert!(text.contains(&named), "{named}, of the service {service}");
    }
}

#[test]
fn the_configurations_load() {
    let dir = tempfile::tempdir().unwrap();
    let mut blocks = blocks(README, "toml");
    blocks.extend(self::blocks(LIMITS, "toml"));
    blocks.extend(self::blocks(WEB, "toml"));
    assert_eq!(blocks.len(), 4);
    for (block, nodes) in blocks.iter().zip([0, 3, 0, 0]) {
        let file = dir.path().join("holdfast.toml");
        std::fs::write(&file, block).unwrap();
        let config = Config::load(&node::needs().tables, Some(&file), &[], [])
            .unwrap_or_else(|error| panic!("{error}:\n{block}"));
        // The balancer, which is on another machine, asks whether the nodes are ready.
        let asked = config.admin.listen.ip();
        assert!(nodes == 0 || !asked.is_loopback(), "{block}");
        let peers = config
            .cluster
            .map(|cluster| cluster.peers.len())
            .unwrap_or_default();
        assert_eq!(peers, nodes, "{block}");
    }
}

#[test]
fn the_tally_looks_as_the_demo_prints_it() {
    let (sent, time) = (12, Some(1.5));
    let report = Report {
        sent,
        acknowledged: sent,
        delivered: sent,
        lost: 0,
        duplicated: 0,
        reordered: 0,
        bounced: 0,
        presence_flaps: 0,
        joined: 0,
        left: 0,
        kills: 3,
        resumes: 4,
        failed_resumes: 0,
        resume_ms: Times {
            p50: time,
            p99: time,
            max: time,
        },
        in_flight_min: InFlight {
            directions: 2,
            messages: 6,
        },
    };
    let words = |text: &str| {
        let is_number = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
        let words = text.split_whitespace().filter(|word| !is_number(word));
        words.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        words(&blocks(README, "console")[0]),
        words(&report.to_string())
    );
}

/// A schema of our own in the PostgreSQL that `tests/run` has started.
fn postgres() -> String {
    let server = std::env::var("HOLDFAST_TEST_POSTGRES");
    let server = server.expect("HOLDFAST_TEST_POSTGRES names a server: run tests/run");
    let schema = format!("test_{:016x}", rand::random::<u64>());
    let made = Command::new("psql")
        .args([&server, "-qc", &format!("CREATE SCHEMA {schema}")])
        .status();
    assert!(
        made.is_ok_and(|status| status.success()),
        "{server} does not take a schema"
    );
    format!("{server}?options=-c%20search_path%3D{schema}")
}

/// The README's HAProxy, before these nodes.
struct HaProxy {
    child: Child,
    address: SocketAddr,
}

impl HaProxy {
    fn start(cluster: &Cluster) -> Self {
        let [mut text] = <[String; 1]>::try_from(blocks(README, "text")).expect("one HAProxy");
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        text = text.replace("bind :5222", &format!("bind {address}"));
        for node in 0..cluster.count() {
            let named = format!("node{}.example.org:5222 check port 9090", node + 1);
            assert!(text.contains(&named), "{text}");
            let (clients, admin) = (cluster.address(node), cluster.admin(node).port());
            text = text.replace(&named, &format!("{clients} check port {admin}"));
        }
        let file: PathBuf = cluster.path().join("haproxy.cfg");
        std::fs::write(&file, text).unwrap();
        drop(free);
        let mut command = Command::new("haproxy");
        command
            .arg("-q")
            .arg("-db")
            .arg("-f")
            .arg(&file)
            .stdin(Stdio::null());
        let child = command
            .spawn()
            .expect("HAProxy is installed: run tests/run");
        Self { child, address }
    }

    /// Waits until it has found a node.
    async fn ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while tokio::net::TcpStream::connect(self.address).await.is_err() {
            assert_eq!(self.child.try_wait().unwrap(), None, "HAProxy has stopped");
            assert!(Instant::now() < deadline, "HAProxy does not listen");
            sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        // It may have stopped already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

async fn three_nodes(users: &[&str]) -> Cluster {
    let cluster = Cluster::prepare(3, "").unwrap();
    cluster.store_in(&postgres());
    // The README's own words, but for the balancer's address.
    let balancer = "proxy_protocol = true\ntrusted_proxies = [\"10.0.0.5/32\"]\n";
    assert!(blocks(README, "toml")[1].contains(&format!("[c2s]\n{balancer}")));
    cluster.add_to("[c2s]", &balancer.replace("10.0.0.5", "127.0.0.1"));
    cluster.started(users).await
}

async fn client(cluster: &Cluster, address: SocketAddr, user: &str) -> Client {
    let started = Client::start(address, cluster.tls(), user, "desk", 0).await;
    started.unwrap_or_else(|end| panic!("{user} cannot start: {end}"))
}

#[tokio::test]
async fn t_12_the_balancer_s_clients_are_counted_by_their_own_addresses() {
    let cluster = three_nodes(&[]).await;
    let mut haproxy = HaProxy::start(&cluster);
    haproxy.ready().await;
    let wait = async |n: u8| {
        let source = Ipv4Addr::new(127, 2, 0, n);
        let wire = Wire::direct_from(source, haproxy.address, cluster.tls()).await;
        let mut wire = wire.unwrap_or_else(|error| panic!("client {n}: {error}"));
        let features = wire.open().await;
        features.unwrap_or_else(|end| panic!("client {n}: {end}"));
        wire
    };
    // More than one address may have on its way at all nodes together, and none of them logs in.
    let mut waiting = Vec::new();
    for n in 1..=230 {
        waiting.push(wait(n).await);
    }
    // One address has its share at each node, and whoever is refused hears why.
    let mut refused = Vec::new();
    for _ in 0..3 * 64 + 1 {
        let wire = Wire::direct_from(Ipv4Addr::LOCALHOST, haproxy.address, cluster.tls());
        let mut wire = wire.await.unwrap();
        match wire.open().await {
            Ok(_) => waiting.push(wire),
            Err(end) => refused.push(end.condition().to_owned()),
        }
    }
    assert!(!refused.is_empty());
    assert!(
        refused.iter().all(|c| c == "policy-violation"),
        "{refused:?}"
    );
    let log = (0..3).map(|node| std::fs::read_to_string(cluster.log(node)).unwrap());
    assert!(log.collect::<String>().contains("a connection was refused"));
}

#[tokio::test]
async fn three_nodes_with_postgresql_behind_haproxy_hold_fast() {
    let mut cluster = three_nodes(&["alice", "bob", "carol"]).await;
    let mut haproxy = HaProxy::start(&cluster);
    haproxy.ready().await;
    let mut alice = client(&cluster, haproxy.address, "alice").await;
    let mut bob = client(&cluster, haproxy.address, "bob").await;
    let (to_alice, to_bob) = (alice.jid.to_string(), bob.jid.to_string());
    for victim in 0..3 {
        for body in numbered("to bob", 0..BURST) {
            alice.say(&to_bob, &body).await;
        }
        for body in numbered("to alice", 0..BURST) {
            bob.say(&to_alice, &body).await;
        }
        cluster.kill(victim);
        alice.resume(haproxy.address).await;
        bob.resume(haproxy.address).await;
        bob.expect(numbered("to bob", 0..BURST)).await;
        alice.expect(numbered("to alice", 0..BURST)).await;
        cluster.run(victim);
        cluster.ready(victim).await;
    }
    // Carol is not there: what is for her waits in the database.
    alice
        .say(&format!("carol@{DOMAIN}"), "when you are back")
        .await;
    alice.settle().await.unwrap();
    let mut carol = client(&cluster, haproxy.address, "carol").await;
    carol.expect(["when you are back".to_owned()]).await;
}
