//! `[cluster]`: the other nodes.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use cluster::config::Patience;
use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::error::{ConfigError, Rule};
use super::value;

/// The longest `lost_after`, in seconds: a day.
const LONGEST_SILENCE: u64 = 24 * 3600;
/// The longest `replace_after`, in seconds: a year.
const LONGEST_ABSENCE: u64 = 365 * 24 * 3600;

/// The longest name of a zone.
const LONGEST_ZONE: usize = 63;

/// `[cluster]`: which node this is, and how it finds and recognises the others.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cluster {
    /// The seat. Always set in a loaded configuration.
    pub node_id: Option<u64>,
    /// The seat is the ordinal at the end of the host name, plus one.
    pub node_id_from_hostname: bool,
    /// The address on which other nodes connect.
    pub listen: SocketAddr,
    /// The address that they are told, `host:port`. Absent: as in `peers`, else `listen`.
    pub advertise: Option<String>,
    /// The zone that the node is in: what may fail as a whole. Empty: none.
    pub zone: String,
    /// The nodes that found the cluster. Others join it.
    #[serde(deserialize_with = "value::one_or_many")]
    pub peers: Vec<PeerAddress>,
    /// Finds the nodes instead of `peers`, by a name that has an address for each: `dns:NAME:PORT`.
    pub discovery: Option<DnsName>,
    /// A file with a secret that all nodes share; with several, each on its line, while it is changed.
    pub secret_file: Option<PathBuf>,
    /// Instead of a secret: the authority that signs the nodes' certificates, PEM.
    pub ca: Option<PathBuf>,
    /// This node's certificate, PEM.
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM.
    pub key: Option<PathBuf>,
    /// Raft groups. Fixed when the cluster is born.
    pub shards: u16,
    /// Silence after which a node's sessions are given up.
    #[serde(deserialize_with = "value::duration")]
    pub lost_after: Duration,
    /// Absence after which others vote in a node's place.
    #[serde(deserialize_with = "value::duration")]
    pub replace_after: Duration,
    /// Seats above this number are given up as soon as their nodes are away. Zero: none is.
    pub expected_size: u64,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            node_id: None,
            node_id_from_hostname: false,
            listen: SocketAddr::from(([0, 0, 0, 0], 7400)),
            advertise: None,
            zone: String::new(),
            peers: Vec::new(),
            discovery: None,
            secret_file: None,
            ca: None,
            certificate: None,
            key: None,
            shards: 3,
            lost_after: cluster::config::LOST_AFTER,
            replace_after: cluster::config::REPLACE_AFTER,
            expected_size: 0,
        }
    }
}

impl Cluster {
    /// This node's seat.
    pub fn seat(&self) -> u64 {
        self.node_id.unwrap_or(1)
    }

    /// The address that other nodes are told.
    pub fn advertised(&self) -> String {
        let own = self
            .peers
            .iter()
            .find(|peer| Some(peer.seat) == self.node_id);
        let listed = || own.map(|peer| peer.address.clone());
        let of_the_pod = || {
            let name = self
                .discovery
                .as_ref()
                .filter(|_| self.node_id_from_hostname);
            name.map(|name| format!("{}.{name}", short(&hostname())))
        };
        self.advertise
            .clone()
            .or_else(listed)
            .or_else(of_the_pod)
            .unwrap_or_else(|| self.listen.to_string())
    }

    /// When a node that is away is given up.
    pub fn patience(&self) -> Patience {
        Patience {
            replace_after: self.replace_after,
            expected_size: self.expected_size,
        }
    }

    /// Whether no address reaches beyond this machine.
    pub fn is_loopback(&self) -> bool {
        let addresses = self
            .peers
            .iter()
            .map(|peer| peer.address.as_str())
            .chain(self.advertise.as_deref());
        self.discovery.is_none()
            && self.listen.ip().is_loopback()
            && addresses.into_iter().all(is_loopback)
    }

    /// The paths among the values, with their keys.
    pub(super) fn files_mut(&mut self) -> [(&'static str, Option<&mut PathBuf>); 4] {
        [
            ("cluster.secret_file", self.secret_file.as_mut()),
            ("cluster.ca", self.ca.as_mut()),
            ("cluster.certificate", self.certificate.as_mut()),
            ("cluster.key", self.key.as_mut()),
        ]
    }

    pub(super) fn settle(&mut self) -> Result<(), ConfigError> {
        if self.node_id.is_none() && self.node_id_from_hostname {
            self.node_id = Some(ordinal(&hostname())?);
        }
        let Some(seat) = self.node_id else {
            return Err(Rule::NoNodeId.broken("cluster.node_id"));
        };
        if seat == 0 || seat > u64::from(u32::MAX) {
            return Err(Rule::Between(1, u64::from(u32::MAX)).broken("cluster.node_id"));
        }
        let is_label = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.zone.len() > LONGEST_ZONE || !self.zone.chars().all(is_label) {
            return Err(Rule::NotAZone(self.zone.clone()).broken("cluster.zone"));
        }
        // Each group costs something on every node, and a few full batches are better than many small ones.
        if !(1..=12).contains(&self.shards) {
            return Err(Rule::Between(1, 12).broken("cluster.shards"));
        }
        // With less than a second, a node that is merely slow would lose its clients.
        if !(1..=LONGEST_SILENCE).contains(&self.lost_after.as_secs()) {
            return Err(Rule::Between(1, LONGEST_SILENCE).broken("cluster.lost_after"));
        }
        if !(1..=LONGEST_ABSENCE).contains(&self.replace_after.as_secs()) {
            return Err(Rule::Between(1, LONGEST_ABSENCE).broken("cluster.replace_after"));
        }
        if self.peers.is_empty() == self.discovery.is_none() {
            return Err(Rule::NoPeers.broken("cluster.peers"));
        }
        self.peers.sort_by_key(|peer| peer.seat);
        if let Some(pair) = self
            .peers
            .windows(2)
            .find(|pair| pair[0].seat == pair[1].seat)
        {
            return Err(Rule::PeerTwice(pair[0].seat).broken("cluster.peers"));
        }
        self.check_own_address(seat)?;
        let certificates = [&self.ca, &self.certificate, &self.key];
        let complete = certificates.iter().all(|file| file.is_some());
        let none = certificates.iter().all(|file| file.is_none());
        if complete == self.secret_file.is_some() || complete == none {
            return Err(Rule::NoLinkAuthentication.broken("cluster.secret_file"));
        }
        Ok(())
    }

    /// The other nodes find this one, under the address at which it is.
    fn check_own_address(&self, seat: u64) -> Result<(), ConfigError> {
        let mut peers = self.peers.iter();
        let own = peers.clone().find(|peer| peer.seat == seat);
        match (&self.advertise, own) {
            (None, None) if self.discovery.is_none() => {
                let known: Vec<_> = peers.map(|peer| peer.seat.to_string()).collect();
                let known = known.join(", ");
                Err(Rule::NotReachable { seat, known }.broken("cluster.node_id"))
            }
            (Some(advertised), Some(own)) if *advertised != own.address => {
                let (advertised, listed) = (advertised.clone(), own.address.clone());
                let rule = Rule::AdvertisedElsewhere { advertised, listed };
                Err(rule.broken("cluster.advertise"))
            }
            (Some(advertised), None) => match peers.find(|peer| peer.address == *advertised) {
                Some(peer) => {
                    let (address, other) = (advertised.clone(), peer.seat);
                    let rule = Rule::AddressOfAnother {
                        seat,
                        address,
                        other,
                    };
                    Err(rule.broken("cluster.node_id"))
                }
                None => Ok(()),
            },
            (None, _) | (Some(_), Some(_)) => Ok(()),
        }
    }
}

/// A node's seat and address, written `1@host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// The seat.
    pub seat: u64,
    /// `host:port`; the host may be a name.
    pub address: String,
}

/// The text is not `seat@host:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected SEAT@HOST:PORT such as \"1@127.0.0.1:7400\"")]
pub struct NotAPeerAddress;

impl FromStr for PeerAddress {
    type Err = NotAPeerAddress;

    fn from_str(text: &str) -> Result<Self, NotAPeerAddress> {
        let (seat, address) = text.split_once('@').ok_or(NotAPeerAddress)?;
        let seat = seat
            .parse()
            .ok()
            .filter(|seat| *seat > 0)
            .ok_or(NotAPeerAddress)?;
        let (host, port) = address.rsplit_once(':').ok_or(NotAPeerAddress)?;
        if host.is_empty() || port.parse::<u16>().is_err() {
            return Err(NotAPeerAddress);
        }
        Ok(Self {
            seat,
            address: address.to_owned(),
        })
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.seat, self.address)
    }
}

impl<'de> Deserialize<'de> for PeerAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|error| de::Error::custom(format!("{text:?}: {error}")))
    }
}

/// A host name with an address for each node, and their port; written `dns:NAME:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsName(String);

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for DnsName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let name = text.strip_prefix("dns:").filter(|name| {
            let parts = name.rsplit_once(':');
            parts.is_some_and(|(host, port)| {
                !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
            })
        });
        let wrong = || {
            de::Error::custom(format!(
                "{text:?}: expected dns:NAME:PORT such as \"dns:holdfast-headless:7400\""
            ))
        };
        name.map(|name| Self(name.to_owned())).ok_or_else(wrong)
    }
}

fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The host name, by which a StatefulSet numbers its pods.
fn hostname() -> String {
    let from_kernel = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    std::env::var("HOSTNAME")
        .unwrap_or_else(|_| from_kernel())
        .trim()
        .to_owned()
}

/// The first part of a host name, which is the name of the pod.
fn short(hostname: &str) -> &str {
    hostname.split('.').next().unwrap_or_default()
}

fn ordinal(hostname: &str) -> Result<u64, ConfigError> {
    let name = short(hostname);
    let ordinal = name
        .rsplit_once('-')
        .and_then(|(_, ordinal)| ordinal.parse::<u32>().ok());
    let none = || Rule::NoOrdinal(hostname.to_owned()).broken("cluster.node_id_from_hostname");
    ordinal
        .map(|ordinal| u64::from(ordinal) + 1)
        .ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> Cluster {
        Cluster {
            node_id: Some(1),
            peers: vec!["1@a:1".parse().unwrap(), "2@b:1".parse().unwrap()],
            secret_file: Some("secret".into()),
            ..Cluster::default()
        }
    }

    #[track_caller]
    fn broken(change: impl FnOnce(&mut Cluster), expect: Rule) {
        let mut cluster = cluster();
        change(&mut cluster);
        match cluster.settle() {
            Err(ConfigError::Broken { rule, .. }) => assert_eq!(rule, expect),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_cannot_work_is_refused() {
        assert!(cluster().settle().is_ok());
        broken(|c| c.node_id = None, Rule::NoNodeId);
        broken(
            |c| c.node_id = Some(3),
            Rule::NotReachable {
                seat: 3,
                known: "1, 2".to_owned(),
            },
        );
        broken(
            |c| (c.node_id, c.advertise) = (Some(3), Some("b:1".to_owned())),
            Rule::AddressOfAnother {
                seat: 3,
                address: "b:1".to_owned(),
                other: 2,
            },
        );
        broken(
            |c| c.node_id = Some(1 << 32),
            Rule::Between(1, u64::from(u32::MAX)),
        );
        broken(|c| c.peers.clear(), Rule::NoPeers);
        let zone = String::from("rack 7");
        broken(|c| c.zone = zone.clone(), Rule::NotAZone(zone.clone()));
        broken(
            |c| c.peers.push("2@c:1".parse().unwrap()),
            Rule::PeerTwice(2),
        );
        broken(|c| c.shards = 13, Rule::Between(1, 12));
        broken(
            |c| c.lost_after = Duration::from_millis(900),
            Rule::Between(1, LONGEST_SILENCE),
        );
        broken(
            |c| c.replace_after = Duration::ZERO,
            Rule::Between(1, LONGEST_ABSENCE),
        );
        broken(|c| c.secret_file = None, Rule::NoLinkAuthentication);
        broken(|c| c.ca = Some("ca".into()), Rule::NoLinkAuthentication);
    }

    #[test]
    fn the_seat_is_the_ordinal_plus_one() {
        assert_eq!(ordinal("holdfast-2").unwrap(), 3);
        assert_eq!(ordinal("holdfast-0.holdfast-headless.x").unwrap(), 1);
        assert!(ordinal("laptop").is_err());
    }

    #[test]
    fn a_node_is_advertised_as_its_peers_list_it() {
        assert_eq!(cluster().advertised(), "a:1");
        assert_eq!(
            Cluster {
                advertise: Some("x:2".into()),
                ..cluster()
            }
            .advertised(),
            "x:2"
        );
    }

    #[test]
    fn a_node_that_is_not_among_the_founders_joins_at_the_address_that_it_gives() {
        let mut joins = Cluster {
            node_id: Some(4),
            advertise: Some("d:1".into()),
            ..cluster()
        };
        assert!(joins.settle().is_ok());
        assert_eq!(joins.advertised(), "d:1");
    }

    #[test]
    fn a_name_to_find_nodes_by_has_a_port() {
        let parse = |text: &str| serde_json::from_value::<DnsName>(text.into());
        assert_eq!(
            parse("dns:nodes.example:7400").unwrap().to_string(),
            "nodes.example:7400"
        );
        for wrong in [
            "nodes:7400",
            "dns:nodes",
            "dns::7400",
            "dns:nodes:0",
            "dns:nodes:x",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_peer_is_a_seat_and_an_address() {
        let peer: PeerAddress = "3@[::1]:7400".parse().unwrap();
        assert_eq!((peer.seat, peer.address.as_str()), (3, "[::1]:7400"));
        for wrong in ["a:1", "0@a:1", "1@a", "1@:1", "x@a:1", "1@a:99999"] {
            assert!(wrong.parse::<PeerAddress>().is_err(), "{wrong}");
        }
    }
}
