//! Runs real nodes as child processes, in a directory of their own, on loopback.
//!
//! Every port stays reserved for its node while the node is down, by a socket that is bound and does not
//! listen: a restarted node finds its old addresses free, whatever else the machine does meanwhile.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustls::pki_types::CertificateDer;
use socket2::{Domain, Socket, Type};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{sleep, timeout};

use super::balancer::Backend;
use crate::admin::request::{Answer, Method, request};
use crate::admin::token::{self, Token};
use crate::clock;

/// How often a starting node's readiness is checked.
const POLL: Duration = Duration::from_millis(20);
/// How many lines of a failed node's log are shown.
const TAIL: usize = 15;
/// The domain that the nodes serve.
pub const DOMAIN: &str = "localhost";
/// The database that the nodes share.
const DATABASE: &str = "holdfast.db";

/// Why nodes do not run.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A file or a port.
    #[error("cannot prepare the nodes: {0}")]
    Prepare(#[source] io::Error),
    /// The nodes' certificate.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The process cannot be started.
    #[error("cannot start node {seat}: {source}")]
    Start {
        /// The seat of the node.
        seat: usize,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The process ended by itself.
    #[error("node {seat} has stopped by itself ({status}); its log ends with:\n{tail}")]
    Stopped {
        /// The seat of the node.
        seat: usize,
        /// The exit status.
        status: String,
        /// The last lines of its log.
        tail: String,
    },
    /// The node was told to stop and does not do it as it should.
    #[error("node {seat} does not leave ({reason}); its log ends with:\n{tail}")]
    Stays {
        /// The seat of the node.
        seat: usize,
        /// What it does instead.
        reason: String,
        /// The last lines of its log.
        tail: String,
    },
    /// The node runs and does not become ready.
    #[error("node {seat} is not ready ({reason}); its log ends with:\n{tail}")]
    NotReady {
        /// The seat of the node.
        seat: usize,
        /// What `/readyz` says.
        reason: String,
        /// The last lines of its log.
        tail: String,
    },
}

/// Some nodes, running or not. They are killed when this is dropped.
pub struct Nodes {
    dir: PathBuf,
    binary: PathBuf,
    nodes: Vec<Node>,
    /// So many found the cluster; the others join it.
    founders: usize,
    certificate: CertificateDer<'static>,
    /// Whether nodes remove the directory if their parent is killed.
    remove: bool,
}

struct Node {
    ports: Ports,
    /// Whether it belongs to the cluster: it was started and has not left.
    member: bool,
    child: Option<Child>,
    /// The other end of the child's standard input. It ends when this is closed, and to wait for a child closes it.
    input: Option<ChildStdin>,
}

/// The addresses of one node, and the sockets that keep them reserved.
struct Ports {
    clients: SocketAddr,
    admin: SocketAddr,
    cluster: SocketAddr,
    _reserved: [Socket; 3],
}

impl Ports {
    fn reserve() -> io::Result<Self> {
        let [clients, admin, cluster] = [reserve()?, reserve()?, reserve()?];
        Ok(Self {
            clients: clients.1,
            admin: admin.1,
            cluster: cluster.1,
            _reserved: [clients.0, admin.0, cluster.0],
        })
    }
}

/// Binds a port without listening on it. A node can bind it as well, as its listener sets the same option, and the
/// system gives it to nobody else by itself.
fn reserve() -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    let address = socket.local_addr()?.as_socket();
    let address = address.ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((socket, address))
}

impl Nodes {
    /// Writes what `count` nodes need into `dir`: configurations, a certificate, the cluster's secret.
    /// `binary` is the `holdfast` to run; `extra` is added to every configuration, behind the keys of `[c2s]`.
    pub fn prepare(
        dir: &Path,
        binary: &Path,
        count: usize,
        extra: &str,
    ) -> Result<Self, NodeError> {
        Self::prepare_to_grow(dir, binary, (count, count), extra)
    }

    /// The same for nodes of which only the first are in everybody's configuration: how many those are, and how many
    /// there are in all.
    pub fn prepare_to_grow(
        dir: &Path,
        binary: &Path,
        (founders, count): (usize, usize),
        extra: &str,
    ) -> Result<Self, NodeError> {
        let made = rcgen::generate_simple_self_signed([DOMAIN.to_owned()])?;
        let secret = clock::hex::<32>();
        let nodes = (0..count).map(|index| {
            Ok(Node {
                ports: Ports::reserve()?,
                member: index < founders,
                child: None,
                input: None,
            })
        });
        let nodes: io::Result<Vec<Node>> = nodes.collect();
        let nodes = Self {
            dir: dir.to_owned(),
            binary: binary.to_owned(),
            nodes: nodes.map_err(NodeError::Prepare)?,
            founders,
            certificate: made.cert.der().clone(),
            remove: false,
        };
        let write = || {
            std::fs::write(dir.join("cluster.secret"), secret)?;
            std::fs::write(dir.join("certificate.pem"), made.cert.pem())?;
            std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem())?;
            for index in 0..count {
                std::fs::write(
                    nodes.file(index, "toml"),
                    nodes.configuration(index) + extra,
                )?;
            }
            Ok(())
        };
        write().map_err(NodeError::Prepare)?;
        Ok(nodes)
    }

    /// Makes the configuration of a node. Paths are relative to the file, so that none needs quoting.
    fn configuration(&self, index: usize) -> String {
        let (
            seat,
            Ports {
                clients,
                admin,
                cluster,
                ..
            },
        ) = (index + 1, &self.nodes[index].ports);
        let mut text = format!(
            "domain = \"{DOMAIN}\"\n\
             data_dir = \"node-{seat}\"\n\
             [tls]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"\n\
             [storage]\nurl = \"sqlite:{DATABASE}\"\n\
             [admin]\nlisten = \"{admin}\"\n"
        );
        if self.nodes.len() > 1 {
            let peer =
                |(index, node): (usize, &Node)| format!("\"{}@{}\"", index + 1, node.ports.cluster);
            let founders = self.nodes.iter().enumerate().take(self.founders);
            let peers: Vec<_> = founders.map(peer).collect();
            text += &format!(
                "[cluster]\nnode_id = {seat}\nlisten = \"{cluster}\"\nadvertise = \"{cluster}\"\n\
                 peers = [{}]\nsecret_file = \"cluster.secret\"\n",
                peers.join(", ")
            );
        }
        text + &format!("[c2s]\nlisten = []\nlisten_tls = [\"{clients}\"]\n")
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Those that belong to the cluster.
    pub fn members(&self) -> Vec<usize> {
        let all = self.nodes.iter().enumerate();
        all.filter(|(_, node)| node.member)
            .map(|(index, _)| index)
            .collect()
    }

    /// How many founded the cluster.
    pub fn founders(&self) -> usize {
        self.founders
    }

    /// Those that have not joined yet, or have left.
    pub fn strangers(&self) -> Vec<usize> {
        let all = self.nodes.iter().enumerate();
        all.filter(|(_, node)| !node.member)
            .map(|(index, _)| index)
            .collect()
    }

    /// The database that they share.
    pub fn database(&self) -> PathBuf {
        self.dir.join(DATABASE)
    }

    /// The certificate that all of them show.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    /// The nodes' addresses, for a balancer.
    pub fn backends(&self) -> Vec<Backend> {
        let backend = |node: &Node| Backend {
            clients: node.ports.clients,
            admin: node.ports.admin,
        };
        self.nodes.iter().map(backend).collect()
    }

    /// The configuration file of a node.
    pub fn config(&self, index: usize) -> PathBuf {
        self.file(index, "toml")
    }

    /// The process of a node, if it runs.
    pub fn pid(&self, index: usize) -> Option<u32> {
        self.nodes.get(index)?.child.as_ref()?.id()
    }

    /// Has the nodes that are started from now on remove all their files if this process is killed.
    pub fn remove_with_us(&mut self) {
        self.remove = true;
    }

    /// Starts a node. Its log goes on where it ended.
    pub fn start(&mut self, index: usize) -> Result<(), NodeError> {
        let seat = index + 1;
        let start = || {
            let log = File::options()
                .create(true)
                .append(true)
                .open(self.file(index, "log"))?;
            let mut command = Command::new(&self.binary);
            // Our own variables must not configure the nodes.
            for (name, _) in std::env::vars_os() {
                if name.to_string_lossy().starts_with("HOLDFAST_") {
                    command.env_remove(name);
                }
            }
            command
                .arg("serve")
                .arg("--config")
                .arg(self.file(index, "toml"));
            command.arg("--until-input-ends");
            if self.remove {
                command.arg(&self.dir);
            }
            command
                .stdin(Stdio::piped())
                .stdout(log.try_clone()?)
                .stderr(log);
            // They must not get signals that are sent to our process group: the demo decides when a node dies.
            command.process_group(0).kill_on_drop(true).spawn()
        };
        let mut child = start().map_err(|source| NodeError::Start { seat, source })?;
        let node = &mut self.nodes[index];
        node.input = child.stdin.take();
        (node.child, node.member) = (Some(child), true);
        Ok(())
    }

    /// Starts those that belong to the cluster and do not run.
    pub fn start_all(&mut self) -> Result<(), NodeError> {
        let members = self.members().into_iter();
        let down = members.filter(|index| self.nodes[*index].child.is_none());
        let down: Vec<usize> = down.collect();
        down.into_iter().try_for_each(|index| self.start(index))
    }

    /// Kills all that run, and waits until they are gone: then nothing writes into the directory any more.
    pub async fn stop(&mut self) {
        for index in 0..self.len() {
            // This fails if the node is gone already.
            drop(self.kill(index).await);
        }
    }

    /// Has nodes leave the cluster, all at the same moment: they hand over what they have and stop.
    pub async fn leave(&mut self, leaving: &[usize], patience: Duration) -> Result<(), NodeError> {
        for index in leaving {
            self.nodes[*index].member = false;
            let pid = self.pid(*index).and_then(|pid| i32::try_from(pid).ok());
            // One that has stopped by itself is found out below.
            let _ = pid.map(|pid| kill(Pid::from_raw(pid), Signal::SIGTERM));
        }
        for index in leaving {
            let Some(child) = &mut self.nodes[*index].child else {
                continue;
            };
            let reason = match timeout(patience, child.wait()).await {
                Ok(Ok(status)) if status.success() => {
                    self.nodes[*index].child = None;
                    continue;
                }
                Ok(Ok(status)) => status.to_string(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it is still there".to_owned(),
            };
            let (seat, tail) = (index + 1, self.tail(*index));
            return Err(NodeError::Stays { seat, reason, tail });
        }
        Ok(())
    }

    /// Asks a node that runs, as an operator does.
    pub async fn ask(&self, index: usize, method: Method, path: &str) -> io::Result<Answer> {
        let file = self
            .dir
            .join(format!("node-{}", index + 1))
            .join(token::FILE);
        let token = Token::read(&file).map_err(io::Error::other)?;
        let admin = self.nodes[index].ports.admin.to_string();
        request(&admin, method, path, Some(&token)).await
    }

    /// Kills a node with SIGKILL and waits until it is gone; when the signal was sent.
    pub async fn kill(&mut self, index: usize) -> Result<std::time::Instant, NodeError> {
        let killed = clock::instant();
        if let Some(mut child) = self.nodes[index].child.take() {
            let stop = |source| NodeError::Start {
                seat: index + 1,
                source,
            };
            child.kill().await.map_err(stop)?;
        }
        Ok(killed)
    }

    /// Waits until a node is ready; how long that took.
    pub async fn ready(&mut self, index: usize, patience: Duration) -> Result<Duration, NodeError> {
        let seat = index + 1;
        let started = clock::timer();
        let admin = self.nodes[index].ports.admin.to_string();
        loop {
            let reason = match request(&admin, Method::Get, "/readyz", None).await {
                Ok(answer) if answer.status == 200 => return Ok(clock::timer() - started),
                Ok(answer) => String::from_utf8_lossy(&answer.body).trim().to_owned(),
                Err(error) => error.to_string(),
            };
            let child = self.nodes[index].child.as_mut();
            let status = child.and_then(|child| child.try_wait().ok().flatten());
            if let Some(status) = status {
                let (status, tail) = (status.to_string(), self.tail(index));
                return Err(NodeError::Stopped { seat, status, tail });
            }
            if clock::timer() - started > patience {
                return Err(NodeError::NotReady {
                    seat,
                    reason,
                    tail: self.tail(index),
                });
            }
            sleep(POLL).await;
        }
    }

    fn file(&self, index: usize, extension: &str) -> PathBuf {
        self.dir.join(format!("node-{}.{extension}", index + 1))
    }

    fn tail(&self, index: usize) -> String {
        let bytes = std::fs::read(self.file(index, "log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::services;

    #[test]
    fn the_configurations_are_ones() {
        for (founders, count) in [(1, 1), (3, 3), (3, 5)] {
            let dir = tempfile::tempdir().unwrap();
            let nodes = Nodes::prepare_to_grow(
                dir.path(),
                Path::new("none"),
                (founders, count),
                "[sm]\nfirst_count = 7\n",
            )
            .unwrap();
            for index in 0..count {
                let config = Config::load(
                    &services::needs().tables,
                    Some(&nodes.config(index)),
                    &[],
                    [],
                )
                .unwrap();
                assert_eq!(config.cluster.is_some(), count > 1);
                let peers = config
                    .cluster
                    .as_ref()
                    .map_or(1, |cluster| cluster.peers.len());
                assert_eq!(peers, founders);
                assert_eq!(config.sm.first_count, 7);
                assert!(config.check().iter().all(|problem| !problem.is_serious()));
                assert_eq!(config.c2s.listen_tls, [nodes.backends()[index].clients]);
            }
        }
    }

    #[test]
    fn a_reserved_port_is_free_for_its_node_and_nobody_else() {
        let (socket, address) = reserve().unwrap();
        let node = std::net::TcpListener::bind(address).unwrap();
        drop(node);
        let again = std::net::TcpListener::bind(address).unwrap();
        drop((socket, again));
    }

    #[tokio::test]
    async fn a_node_that_stops_is_told_with_its_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let mut nodes = Nodes::prepare(dir.path(), Path::new("/bin/ls"), 1, "").unwrap();
        nodes.start(0).unwrap();
        let error = nodes.ready(0, Duration::from_secs(10)).await.unwrap_err();
        assert!(
            matches!(&error, NodeError::Stopped { seat: 1, tail, .. } if tail.contains("--config")),
            "{error}"
        );
    }
}
