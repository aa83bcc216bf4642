//! What an operator changes in files is taken over while the nodes run: secrets, configuration, certificate.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use node::demo::client::trusting;
use proto::ns;
use rustls::ClientConfig;
use tests::client::PASSWORD;
use tests::cluster::Cluster;
use tests::pair::Pair;
use tests::process::tail;
use tests::wire::{DOMAIN, Wire};
use tests::{PATIENCE, until};
use tokio::time::{Instant, sleep};

const OLD: &str = "the secret that there was until today";
const NEW: &str = "the secret that there is from now on";
const STRANGE: &str = "a secret that nobody else knows here";

/// Writes a node's secrets, as an operator does.
fn give(cluster: &Cluster, node: usize, secrets: &[&str]) {
    let path = cluster.path().join(format!("secret-{node}"));
    let mut options = std::fs::File::options();
    let file = options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = file.open(path).unwrap();
    file.write_all(secrets.join("\n").as_bytes()).unwrap();
}

/// How often a node's log says this.
fn said(cluster: &Cluster, node: usize, what: &str) -> usize {
    let log = std::fs::read_to_string(cluster.log(node)).unwrap_or_default();
    log.matches(what).count()
}

async fn until_said(cluster: &Cluster, node: usize, what: &str) {
    until(what, async || said(cluster, node, what) > 0).await;
}

#[tokio::test]
async fn t_67_the_secret_is_changed_node_by_node_while_clients_chat() {
    let read = "secrets were read again";
    let cluster = Cluster::prepare(3, "").unwrap();
    for node in 0..3 {
        give(&cluster, node, &[OLD]);
        let own = format!("\"secret-{node}\"");
        cluster.edit(node, "\"cluster.secret\"", &own);
    }
    let mut cluster = cluster.started(&["alice", "bob"]).await;
    let mut pair = Pair::start(&cluster, [0, 1], ["alice", "bob"]).await;
    for secrets in [&[NEW, OLD][..], &[NEW]] {
        for node in 0..3 {
            let before = said(&cluster, node, read);
            give(&cluster, node, secrets);
            until(read, async || said(&cluster, node, read) > before).await;
            // One that knows other secrets than this node may have to meet it anew.
            let next = (node + 1) % 3;
            pair.move_to(&cluster, [node, (node + 2) % 3]).await;
            cluster.kill(next);
            pair.talk().await;
            cluster.run(next);
            cluster.ready(next).await;
            pair.talk().await;
        }
    }
    pair.move_to(&cluster, [0, 1]).await;
    give(&cluster, 2, &[STRANGE]);
    cluster.kill(2);
    cluster.run(2);
    until_said(&cluster, 0, "shows a secret that is not in this node's").await;
    until_said(&cluster, 0, "have both nodes a line of cluster.secret_file").await;
    pair.talk().await;
    give(&cluster, 2, &["short"]);
    until_said(&cluster, 2, "what nodes know each other by stays").await;
    give(&cluster, 2, &[NEW]);
    cluster.ready(2).await;
    pair.talk().await;
}

/// Files that Kubernetes has put in place: each is a link through `..data`, which leads to another directory from one
/// moment to the next.
struct Mounted {
    dir: PathBuf,
    versions: usize,
    files: [(&'static str, String); 3],
}

impl Mounted {
    /// Mounts what a node needs.
    fn new(cluster: &Cluster) -> Self {
        let dir = cluster.path().to_owned();
        let files = ["0.toml", "certificate.pem", "key.pem"].map(|name| {
            let file = dir.join(name);
            let text = std::fs::read_to_string(&file).unwrap();
            std::fs::remove_file(&file).unwrap();
            symlink(format!("..data/{name}"), file).unwrap();
            (name, text)
        });
        let mut mounted = Self {
            dir,
            versions: 0,
            files,
        };
        mounted.publish();
        mounted
    }

    fn publish(&mut self) {
        self.versions += 1;
        let version = format!("..{}", self.versions);
        std::fs::create_dir(self.dir.join(&version)).unwrap();
        for (name, text) in &self.files {
            std::fs::write(self.dir.join(&version).join(name), text).unwrap();
        }
        let (turning, link) = (self.dir.join("..data_tmp"), self.dir.join("..data"));
        symlink(version, &turning).unwrap();
        std::fs::rename(turning, link).unwrap();
    }

    fn configure(&mut self, from: &str, to: &str) {
        let text = &mut self.files[0].1;
        assert!(text.contains(from), "{text}");
        *text = text.replace(from, to);
        self.publish();
    }
}

/// How long a session may wait for its client, if the node shows a certificate that this client trusts.
async fn window(cluster: &Cluster, tls: &Arc<ClientConfig>) -> Option<u64> {
    let mut wire = Wire::direct(cluster.address(0), tls).await.ok()?;
    wire.login("alice", PASSWORD).await.ok()?;
    wire.bind("desk").await.ok()?;
    let enable = format!("<enable xmlns='{}' resume='true'/>", ns::SM);
    wire.send(&enable).await.ok()?;
    wire.next().await.ok()?.attr("max")?.parse().ok()
}

async fn until_window(cluster: &Cluster, tls: &Arc<ClientConfig>, wanted: u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = window(cluster, tls).await;
        if now == Some(wanted) {
            return;
        }
        let log = tail(&cluster.log(0));
        assert!(
            Instant::now() < deadline,
            "it is {now:?}, not {wanted}:\n{log}"
        );
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn what_kubernetes_changes_needs_neither_a_signal_nor_a_restart() {
    let sm = "[sm]\nhibernation_time = \"100s\"\n";
    let mut cluster = Cluster::prepare(1, sm).unwrap();
    cluster.accounts(&["alice"]);
    let mut mounted = Mounted::new(&cluster);
    let old = cluster.tls().clone();
    cluster.run(0);
    cluster.ready(0).await;
    assert_eq!(window(&cluster, &old).await, Some(100));

    mounted.configure("\"100s\"", "\"40s\"");
    until_window(&cluster, &old, 40).await;

    let made = rcgen::generate_simple_self_signed([DOMAIN.to_owned()]).unwrap();
    let new = trusting([made.cert.der().clone()]).unwrap();
    assert_eq!(window(&cluster, &new).await, None);
    mounted.files[1].1 = made.cert.pem();
    mounted.publish();
    let broken = "the certificate in use stays";
    until_said(&cluster, 0, broken).await;
    assert_eq!(
        window(&cluster, &old).await,
        Some(40),
        "the key does not fit"
    );
    mounted.files[2].1 = made.signing_key.serialize_pem();
    mounted.publish();
    until_window(&cluster, &new, 40).await;

    mounted.configure("\"40s\"", "\"soon\"");
    let stays = "the configuration in force stays";
    until_said(&cluster, 0, stays).await;
    assert_eq!(window(&cluster, &new).await, Some(40));
    mounted.configure(
        "\"soon\"",
        "\"30s\"\n[auth]\nmechanisms = [\"SCRAM-SHA-256\"]",
    );
    until_window(&cluster, &new, 30).await;
    until_said(
        &cluster,
        0,
        "something has changed here that needs a restart section=\"auth\"",
    )
    .await;
    assert_eq!(
        (said(&cluster, 0, stays), said(&cluster, 0, broken)),
        (1, 1)
    );
}
