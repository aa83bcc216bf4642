//! What a node has to know about its cluster. Whoever starts the node decides where the values come from.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::format::Versions;
use crate::lead::mirror::Address;
use crate::metrics::Metrics;
use crate::session::Settings;

/// The fewest bytes of a shared secret; a shorter one could be guessed.
pub const MIN_SECRET: usize = 16;
/// What the secret in the manifests for Kubernetes begins with.
const PLACEHOLDER: &[u8] = b"replace-me";
/// The most secrets that nodes may know each other by; one at a time is needed, and two while it is changed.
pub const MAX_SECRETS: usize = 4;
/// By default, a node that was silent for so long counts as gone, and its sessions hibernate.
pub const LOST_AFTER: Duration = Duration::from_secs(10);
/// By default, a node that was away for so long is replaced.
pub const REPLACE_AFTER: Duration = Duration::from_secs(600);
/// The most shards; more cost more and gain nothing.
pub const MAX_SHARDS: u16 = 12;

/// What [`crate::Cluster`] is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Identity, log and snapshots of this node live here.
    pub data_dir: PathBuf,
    /// The number of this node's place in the cluster.
    pub seat: u64,
    /// Where other nodes are listened for.
    pub listen: SocketAddr,
    /// Host and port at which other nodes reach this one.
    pub advertise: String,
    /// The zone that this node is in; empty if it is in none. A shard's voters are in different zones if there are as
    /// many.
    pub zone: String,
    /// The seats that found the cluster. Whoever is not among them joins it.
    pub peers: Vec<Peer>,
    /// Host and port behind which every node has an address, if nodes are found by name.
    pub discovery: Option<String>,
    /// How nodes know each other.
    pub auth: LinkAuth,
    /// How many groups the accounts are divided among; fixed when the cluster is born.
    pub shards: u16,
    /// Bounds on what sessions may take.
    pub settings: Settings,
    /// Whether to wait for the disk before anything is acknowledged.
    pub fsync: bool,
    /// The size of one file of the log; it is filled with zeros when it is made.
    pub log_segment_bytes: u64,
    /// Nodes of clusters with other names are refused.
    pub cluster_name: String,
    /// The versions of the formats that this node speaks with others. Only tests set others than those that were built
    /// in.
    pub formats: Versions,
    /// The Redis that shows hibernated sessions to other programs; without one only the shards know them.
    pub redis: Option<Address>,
    /// When a node was silent for so long, the sessions of its clients hibernate. It loses its leaderships much
    /// earlier, after half a second.
    pub lost_after: Duration,
    /// When a node was away for so long, others vote in its place, and it joins anew when it comes back.
    pub replace_after: Duration,
    /// Seats above this number are given up as soon as their nodes are away. Zero: no seat is.
    pub expected_size: u64,
    /// Where this node counts what its replicas do.
    pub metrics: Metrics,
}

/// When a node that is away is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// See [`Config::replace_after`].
    pub replace_after: Duration,
    /// See [`Config::expected_size`].
    pub expected_size: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            replace_after: REPLACE_AFTER,
            expected_size: 0,
        }
    }
}

/// A place in the cluster, filled by whichever node is configured with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The number of the place.
    pub seat: u64,
    /// Host and port; the host is also the name that the peer's certificate must bear.
    pub address: String,
}

/// How nodes prove to each other that they belong together.
#[derive(Clone)]
pub enum LinkAuth {
    /// Any two nodes have one of these secrets in common, and nobody else knows any of them.
    Secrets(Vec<Vec<u8>>),
    /// All have a certificate of one authority, for the host name in [`Peer::address`].
    Certificates {
        /// The authority's certificate, PEM.
        ca: PathBuf,
        /// This node's certificate and those between it and the authority, PEM.
        certificate: PathBuf,
        /// Its key, PEM.
        key: PathBuf,
    },
}

impl LinkAuth {
    /// The secrets in a file, each on a line of its own. A file that is no text holds one.
    pub fn of_secrets(file: &[u8]) -> Self {
        let Ok(text) = std::str::from_utf8(file) else {
            return Self::Secrets(vec![file.trim_ascii().to_vec()]);
        };
        let lines = text.lines().map(|line| line.trim().as_bytes().to_vec());
        Self::Secrets(lines.filter(|line| !line.is_empty()).collect())
    }

    /// Refuses secrets that can be guessed.
    pub fn check(&self) -> Result<(), ConfigError> {
        match self {
            Self::Secrets(all) if all.len() > MAX_SECRETS => Err(ConfigError::Secrets(all.len())),
            Self::Secrets(all) if all.is_empty() || all.iter().any(|s| s.len() < MIN_SECRET) => {
                Err(ConfigError::ShortSecret)
            }
            Self::Secrets(all) if all.iter().any(|s| s.starts_with(PLACEHOLDER)) => {
                Err(ConfigError::PlaceholderSecret)
            }
            Self::Secrets(_) | Self::Certificates { .. } => Ok(()),
        }
    }
}

/// Never the secret itself (T-73).
impl fmt::Debug for LinkAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secrets(all) => write!(f, "Secrets({} of them)", all.len()),
            Self::Certificates { certificate, .. } => {
                write!(f, "Certificates({})", certificate.display())
            }
        }
    }
}

/// The configuration contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A seat has two addresses, or an address two seats.
    #[error("cluster.peers names seat {0} or its address twice")]
    Twice(u64),
    /// Nobody could reach this node.
    #[error(
        "cluster.peers does not name seat {0}, which this node has, and cluster.advertise does not say where it is"
    )]
    NotReachable(u64),
    /// A secret that can be guessed.
    #[error(
        "each line of the cluster's secret file is a secret, and one has fewer than {MIN_SECRET} bytes"
    )]
    ShortSecret,
    /// The secret that the manifests come with, which everybody knows.
    #[error(
        "the cluster's shared secret is the placeholder of the manifests: make one, e.g. with `openssl rand -hex 32`"
    )]
    PlaceholderSecret,
    /// More than a change of secrets needs.
    #[error(
        "each line of the cluster's secret file is a secret, and {0} are more than {MAX_SECRETS}"
    )]
    Secrets(usize),
    /// No shard or too many.
    #[error("a cluster has 1 to {MAX_SHARDS} shards, not {0}")]
    Shards(u16),
}

impl Config {
    /// One node by itself: three shards with one voter each, and no network.
    pub fn single(data_dir: PathBuf, settings: Settings) -> Self {
        Self {
            data_dir,
            seat: 1,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            advertise: String::new(),
            zone: String::new(),
            peers: Vec::new(),
            discovery: None,
            auth: LinkAuth::Secrets(Vec::new()),
            shards: 3,
            settings,
            fsync: true,
            log_segment_bytes: 64 << 20,
            cluster_name: String::from("holdfast"),
            formats: Versions::SPOKEN,
            redis: None,
            lost_after: LOST_AFTER,
            replace_after: REPLACE_AFTER,
            expected_size: 0,
            metrics: Metrics::default(),
        }
    }

    /// Whether there is no network, and so no other node.
    pub fn is_single(&self) -> bool {
        self.peers.is_empty() && self.discovery.is_none()
    }

    /// When a node that is away is given up.
    pub fn patience(&self) -> Patience {
        Patience {
            replace_after: self.replace_after,
            expected_size: self.expected_size,
        }
    }

    /// The address of a seat.
    pub fn address(&self, seat: u64) -> Option<&str> {
        self.peers
            .iter()
            .find(|peer| peer.seat == seat)
            .map(|peer| peer.address.as_str())
    }

    /// Whether this node may create the cluster: the lowest of the configured seats, or the first seat if nodes are
    /// found by name.
    pub fn may_found(&self) -> bool {
        let lowest = self.peers.iter().map(|peer| peer.seat).min();
        self.seat == lowest.unwrap_or(1)
    }

    /// Refuses what cannot work.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.shards == 0 || self.shards > MAX_SHARDS {
            return Err(ConfigError::Shards(self.shards));
        }
        let mut seats = BTreeSet::new();
        let mut addresses = BTreeSet::new();
        for peer in &self.peers {
            if !seats.insert(peer.seat) || !addresses.insert(&peer.address) {
                return Err(ConfigError::Twice(peer.seat));
            }
        }
        if self.is_single() {
            return Ok(());
        }
        if !seats.contains(&self.seat) && self.advertise.is_empty() {
            return Err(ConfigError::NotReachable(self.seat));
        }
        self.auth.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Config {
        let peers = (1..=3).map(|seat| Peer {
            seat,
            address: format!("127.0.0.1:740{seat}"),
        });
        Config {
            peers: peers.collect(),
            auth: LinkAuth::Secrets(vec![vec![7; MIN_SECRET]]),
            ..Config::single(PathBuf::from("data"), Settings::default())
        }
    }

    #[test]
    fn what_cannot_work_is_refused() {
        assert_eq!(three().check(), Ok(()));
        assert_eq!(
            Config { seat: 4, ..three() }.check(),
            Err(ConfigError::NotReachable(4))
        );
        assert_eq!(
            Config {
                shards: 0,
                ..three()
            }
            .check(),
            Err(ConfigError::Shards(0))
        );
        let mut twice = three();
        twice.peers[2].address = twice.peers[1].address.clone();
        assert_eq!(twice.check(), Err(ConfigError::Twice(3)));
    }

    #[test]
    fn t_67_a_guessable_secret_is_refused_unless_there_is_no_network() {
        let auth = LinkAuth::of_secrets(b"a long one, which nobody guesses\nshort\n");
        assert_eq!(
            Config {
                auth: auth.clone(),
                ..three()
            }
            .check(),
            Err(ConfigError::ShortSecret)
        );
        let of_the_manifests = LinkAuth::of_secrets(include_bytes!(
            "../../k8s/base/secrets/cluster.secret.example"
        ));
        assert_eq!(
            Config {
                auth: of_the_manifests,
                ..three()
            }
            .check(),
            Err(ConfigError::PlaceholderSecret)
        );
        assert_eq!(
            Config {
                auth,
                peers: Vec::new(),
                ..three()
            }
            .check(),
            Ok(())
        );
    }

    #[test]
    fn each_line_is_a_secret_unless_the_file_is_no_text() {
        let secrets = |file: &[u8]| match LinkAuth::of_secrets(file) {
            LinkAuth::Secrets(all) => all,
            other => panic!("{other:?}"),
        };
        assert_eq!(secrets(b" new \n\nold\r\n"), [&b"new"[..], b"old"]);
        assert_eq!(secrets(b"\xff\nx\n"), [b"\xff\nx"]);
        assert_eq!(
            LinkAuth::of_secrets(b"\n").check(),
            Err(ConfigError::ShortSecret)
        );
        let many = "0123456789abcdef\n".repeat(MAX_SECRETS + 1);
        let many = LinkAuth::of_secrets(many.as_bytes());
        assert_eq!(many.check(), Err(ConfigError::Secrets(MAX_SECRETS + 1)));
    }
}
