//! One node or several, in a directory of their own, on loopback.
//!
//! The ports of a node stay bound by a socket of ours that does not listen, so that a node which is
//! started again finds its addresses free.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::net::TcpSocket;
use tokio::time::Instant;

use crate::PATIENCE;
use crate::client::{Client, PASSWORD};
use crate::process::{self, Process};
use crate::wire::{DOMAIN, Wire};

/// Some nodes with their clients' accounts.
pub struct Cluster {
    nodes: Vec<Node>,
    tls: Arc<ClientConfig>,
    dir: TempDir,
    first_count: u32,
    /// So many nodes found the cluster; the others join it.
    founders: usize,
}

struct Node {
    clients: Reserved,
    starttls: Reserved,
    admin: Reserved,
    peers: Reserved,
    process: Option<Process>,
    environment: Vec<(&'static str, PathBuf)>,
}

/// An address that is ours whether someone listens or not.
struct Reserved {
    address: SocketAddr,
    _socket: TcpSocket,
}

impl Reserved {
    fn new() -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        Ok(Self {
            address: socket.local_addr()?,
            _socket: socket,
        })
    }
}

impl Cluster {
    /// Starts so many nodes and waits until they are ready. `users` get accounts. `extra` is added to
    /// every configuration.
    pub async fn start(count: usize, users: &[&str], extra: &str) -> Self {
        Self::prepare(count, extra)
            .expect("a place for the nodes")
            .started(users)
            .await
    }

    /// The same for nodes that were prepared.
    pub async fn started(mut self, users: &[&str]) -> Self {
        self.accounts(users);
        for node in 0..self.count() {
            self.run(node);
        }
        for node in 0..self.count() {
            self.ready(node).await;
        }
        self
    }

    /// Writes what the nodes need, and starts none.
    pub fn prepare(count: usize, extra: &str) -> io::Result<Self> {
        Self::prepare_to_grow(count, count, extra)
    }

    /// The same for nodes of which only the first `founders` are in everybody's configuration.
    pub fn prepare_to_grow(founders: usize, count: usize, extra: &str) -> io::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("holdfast-test-")
            .tempdir()?;
        let made =
            rcgen::generate_simple_self_signed([DOMAIN.to_owned()]).map_err(io::Error::other)?;
        let mut roots = RootCertStore::empty();
        roots
            .add(made.cert.der().clone())
            .map_err(io::Error::other)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        std::fs::write(dir.path().join("certificate.pem"), made.cert.pem())?;
        let secret = |name: &str, text: String| {
            let mut options = File::options();
            let file = options.write(true).create_new(true).mode(0o600);
            file.open(dir.path().join(name))?.write_all(text.as_bytes())
        };
        secret("key.pem", made.signing_key.serialize_pem())?;
        secret("cluster.secret", format!("{:032x}", rand::random::<u128>()))?;
        let node = |_| {
            let [clients, starttls, admin, peers] = [
                Reserved::new()?,
                Reserved::new()?,
                Reserved::new()?,
                Reserved::new()?,
            ];
            Ok(Node {
                clients,
                starttls,
                admin,
                peers,
                process: None,
                environment: Vec::new(),
            })
        };
        let nodes: io::Result<Vec<Node>> = (0..count).map(node).collect();
        let cluster = Self {
            nodes: nodes?,
            tls: Arc::new(tls),
            dir,
            first_count: 0,
            founders,
        };
        for index in 0..count {
            std::fs::write(cluster.config(index), cluster.configuration(index) + extra)?;
        }
        Ok(cluster)
    }

    /// Has all nodes keep what they keep in this database.
    pub fn store_in(&self, url: &str) {
        for node in 0..self.count() {
            let text = std::fs::read_to_string(self.config(node)).expect("was prepared");
            let text = text.replace("sqlite:holdfast.db", url);
            std::fs::write(self.config(node), text).expect("was prepared");
        }
    }

    /// Adds keys to a section that every configuration has.
    pub fn add_to(&self, section: &str, keys: &str) {
        for node in 0..self.count() {
            let text = std::fs::read_to_string(self.config(node)).expect("was prepared");
            let text = text.replace(section, &format!("{section}\n{keys}"));
            std::fs::write(self.config(node), text).expect("was prepared");
        }
    }

    /// Replaces a part of a node's configuration.
    pub fn edit(&self, node: usize, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.config(node)).expect("was prepared");
        assert!(text.contains(from), "{text}");
        std::fs::write(self.config(node), text.replace(from, to)).expect("was prepared");
    }

    /// Counters of clients start here; for `sm.first_count`.
    pub fn counting_from(mut self, first: u32) -> Self {
        self.first_count = first;
        self
    }

    /// Paths are relative to the file.
    fn configuration(&self, index: usize) -> String {
        let Node {
            clients,
            starttls,
            admin,
            peers,
            ..
        } = &self.nodes[index];
        let mut text = format!(
            "domain = \"{DOMAIN}\"\ndata_dir = \"{index}\"\n\
             [c2s]\nlisten = [\"{}\"]\nlisten_tls = [\"{}\"]\n\
             [tls]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"\n\
             [storage]\nurl = \"sqlite:holdfast.db\"\n[admin]\nlisten = \"{}\"\n",
            starttls.address, clients.address, admin.address
        );
        if self.nodes.len() > 1 {
            let all = self.nodes.iter().enumerate().take(self.founders);
            let all: Vec<_> = all
                .map(|(n, node)| format!("\"{}@{}\"", n + 1, node.peers.address))
                .collect();
            write!(
                text,
                "[drain]\ngrace = \"0s\"\n[cluster]\nnode_id = {}\nlisten = \"{}\"\nadvertise = \"{}\"\npeers = [{}]\n\
                 secret_file = \"cluster.secret\"\n",
                index + 1,
                peers.address,
                peers.address,
                all.join(", ")
            )
            .expect("memory");
        }
        text
    }

    /// Makes accounts the way an operator does.
    pub fn accounts(&self, users: &[&str]) {
        for user in users {
            let config = self.config(0);
            let jid = format!("{user}@{DOMAIN}");
            let arguments = [
                "user",
                "add",
                &jid,
                "--password-stdin",
                "--config",
                &config.to_string_lossy(),
            ]
            .map(str::to_owned);
            let output = process::run(arguments, &format!("{PASSWORD}\n"));
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }

    /// Makes many accounts at once.
    pub fn import(&self, users: &[&str]) {
        let rows = users
            .iter()
            .map(|user| format!("{user}@{DOMAIN},{PASSWORD}\n"));
        let config = self.config(0);
        let arguments = ["user", "import", "-", "--config", &config.to_string_lossy()];
        let output = process::run(arguments, &rows.collect::<String>());
        assert!(output.status.success(), "{output:?}");
    }

    /// The node that leads a shard, by the word of another one.
    pub fn leader(&self, shard: u16, asked: usize) -> Option<usize> {
        let config = self.config(asked).to_string_lossy().into_owned();
        let output = process::run(["cluster", "status", "--json", "--config", &config], "");
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let shards = status["shards"].as_array()?;
        let shard = shards.iter().find(|it| it["shard"] == shard)?;
        usize::try_from(shard["leader"].as_u64()?.checked_sub(1)?).ok()
    }

    /// Starts a node's process.
    pub fn run(&mut self, node: usize) {
        let environment = &self.nodes[node].environment;
        let process = Process::serve(&self.config(node), &self.log(node), environment);
        self.nodes[node].process = Some(process.expect("the binary runs"));
    }

    /// Starts a node's process with these variables from now on.
    pub fn environment(&mut self, node: usize, variables: &[(&'static str, PathBuf)]) {
        self.nodes[node].environment = variables.to_vec();
    }

    /// Waits until a node says that it is ready.
    pub async fn ready(&mut self, node: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (status, page) = self.get(node, "/readyz").await.unwrap_or_default();
            if status == 200 {
                return;
            }
            let ended = self.nodes[node].process.as_mut().and_then(Process::ended);
            let log = process::tail(&self.log(node));
            assert!(
                ended.is_none(),
                "node {node} has stopped ({ended:?}):\n{log}"
            );
            assert!(
                Instant::now() < deadline,
                "node {node} is not ready ({page}):\n{log}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A page of a node's admin listener: status and text.
    pub async fn get(&self, node: usize, page: &str) -> io::Result<(u16, String)> {
        let (address, request) = (
            self.admin(node),
            format!("GET {page} HTTP/1.0\r\nHost: {DOMAIN}\r\n\r\n"),
        );
        let ask = move || {
            let mut socket = std::net::TcpStream::connect(address)?;
            socket.set_read_timeout(Some(Duration::from_secs(2)))?;
            io::Write::write_all(&mut socket, request.as_bytes())?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer)?;
            let (head, body) = answer
                .split_once("\r\n\r\n")
                .ok_or(io::ErrorKind::InvalidData)?;
            let status = head
                .split(' ')
                .nth(1)
                .and_then(|status| status.parse().ok());
            Ok((status.ok_or(io::ErrorKind::InvalidData)?, body.to_owned()))
        };
        tokio::task::spawn_blocking(ask)
            .await
            .map_err(io::Error::other)?
    }

    /// A metric of all nodes that answer, summed up over them and over the values of its labels.
    pub async fn sum(&self, name: &str) -> u64 {
        let mut sum = 0;
        for node in 0..self.count() {
            let (_, page) = self.get(node, "/metrics").await.unwrap_or_default();
            let lines = page.lines().filter_map(|line| line.strip_prefix(name));
            let values = lines.filter(|rest| rest.starts_with([' ', '{']));
            let values = values.filter_map(|rest| rest.rsplit(' ').next()?.parse::<u64>().ok());
            sum += values.sum::<u64>();
        }
        sum
    }

    /// A bound session without stream management, silent so far.
    pub async fn bound(&self, node: usize, user: &str, resource: &str) -> Wire {
        let wire = Wire::direct(self.address(node), &self.tls).await;
        let mut wire = wire.expect("a connection");
        wire.login(user, PASSWORD).await.expect("a login");
        wire.bind(resource).await.expect("a session");
        wire
    }

    /// A session that can be resumed, for that account at that node.
    pub async fn client(&self, node: usize, user: &str) -> Client {
        self.client_with(node, user, "desk").await
    }

    /// The same for an account that may have a session already.
    pub async fn client_with(&self, node: usize, user: &str, resource: &str) -> Client {
        let started = Client::start(
            self.address(node),
            &self.tls,
            user,
            resource,
            self.first_count,
        )
        .await;
        started.unwrap_or_else(|end| panic!("{user} cannot start at node {node}: {end}"))
    }

    /// `kill -9`.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].process.take().expect("it runs").kill();
    }

    /// Sends a signal to a node.
    pub fn signal(&self, node: usize, signal: Signal) {
        self.nodes[node]
            .process
            .as_ref()
            .expect("it runs")
            .signal(signal);
    }

    /// The process of a node.
    pub fn process(&mut self, node: usize) -> &mut Process {
        self.nodes[node].process.as_mut().expect("it runs")
    }

    /// How many nodes there are.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Where clients connect, with TLS first.
    pub fn address(&self, node: usize) -> SocketAddr {
        self.nodes[node].clients.address
    }

    /// Where clients connect that start TLS by themselves.
    pub fn starttls(&self, node: usize) -> SocketAddr {
        self.nodes[node].starttls.address
    }

    /// Where operators ask.
    pub fn admin(&self, node: usize) -> SocketAddr {
        self.nodes[node].admin.address
    }

    /// What clients trust.
    pub fn tls(&self) -> &Arc<ClientConfig> {
        &self.tls
    }

    /// The certificate that clients trust, as a file.
    pub fn certificate(&self) -> PathBuf {
        self.dir.path().join("certificate.pem")
    }

    /// The configuration of a node.
    pub fn config(&self, node: usize) -> PathBuf {
        self.dir.path().join(format!("{node}.toml"))
    }

    /// The data directory of a node.
    pub fn data_dir(&self, node: usize) -> PathBuf {
        self.dir.path().join(node.to_string())
    }

    /// What a node has said.
    pub fn log(&self, node: usize) -> PathBuf {
        self.dir.path().join(format!("{node}.log"))
    }

    /// The next process that reaches this point dies there (`cluster::fail`).
    pub fn arm(&self, point: &str) {
        std::fs::write(self.dir.path().join("fail-point"), point).expect("its directory");
    }

    /// Whether nobody has reached the point yet.
    pub fn is_armed(&self) -> bool {
        self.dir.path().join("fail-point").exists()
    }

    /// The directory of all this.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}
