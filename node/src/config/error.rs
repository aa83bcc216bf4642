//! Why a configuration is refused, and what `holdfast check` says about one that is not.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line of the file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A variable of the environment.
    Variable(String),
    /// A `--set` on the command line.
    Flag,
    /// Nowhere: a default, or something that is missing.
    Absent,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{} line {line}: ", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}: "),
            Self::Flag => f.write_str("--set: "),
            Self::Absent => Ok(()),
        }
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{origin}not valid TOML: {message}")]
    Syntax {
        /// The place.
        origin: Origin,
        /// What the parser says.
        message: String,
    },
    /// There is no such section or key.
    #[error("{origin}unknown key `{key}`{}", suggestion(nearest.as_deref()))]
    UnknownKey {
        /// The place.
        origin: Origin,
        /// The key with its section.
        key: String,
        /// A key that is spelt nearly like it.
        nearest: Option<String>,
    },
    /// The value does not fit the key.
    #[error("{origin}`{key}`: {reason}")]
    Value {
        /// The place.
        origin: Origin,
        /// The key with its section.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A variable of the environment that looks like ours and names no key.
    #[error(transparent)]
    Variable(UnknownVariable),
    /// A `--set` without `=` or without a key.
    #[error("--set {0:?} is not of the form section.key=value")]
    Set(String),
    /// Values that cannot work, or not together.
    #[error("`{key}`: {rule}")]
    Broken {
        /// The key with its section.
        key: &'static str,
        /// What is asked for.
        rule: Rule,
    },
}

/// See [`ConfigError::Variable`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the environment variable {name} names no key{}", variables(nearest.as_deref()))]
pub struct UnknownVariable {
    /// The variable.
    pub name: String,
    /// The variable of a key that is spelt nearly like it.
    pub nearest: Option<String>,
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest
        .map(|key| format!(", did you mean `{key}`?"))
        .unwrap_or_default()
}

/// Lists what a variable may be called, if none is spelt alike.
fn variables(nearest: Option<&str>) -> String {
    match nearest {
        Some(_) => suggestion(nearest),
        None => String::from(
            ": keys are HOLDFAST_DOMAIN, HOLDFAST_DATA_DIR and HOLDFAST_SECTION__KEY with two underscores, \
             e.g. HOLDFAST_LOG__LEVEL",
        ),
    }
}

/// A rule that values must keep, beyond having the right type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// `domain` and `domains` exclude each other.
    #[error("give either `domain` or `domains`, not both")]
    OneDomainKey,
    /// The domain is missing, and cannot be guessed.
    #[error("name the domain that this cluster serves")]
    NoDomain,
    /// The text is not a domain.
    #[error("{0:?} is not a domain name")]
    NotADomain(String),
    /// A certificate without a key or the other way round.
    #[error("`certificate` and `key` belong together: give both or neither")]
    CertificateWithKey,
    /// No mechanism is allowed, so nobody could log in.
    #[error("at least one mechanism is needed")]
    NoMechanism,
    /// No address is given, so nobody could connect.
    #[error("at least one address is needed in `listen` or `listen_tls`")]
    NoListener,
    /// PROXY headers are trusted only if it is known who sends them.
    #[error("`proxy_protocol` needs `trusted_proxies`, e.g. [\"10.0.0.0/8\"]")]
    ProxiesUnknown,
    /// Balancers are named, but their headers would not be read.
    #[error("does nothing without `proxy_protocol = true`: set that, or leave this out")]
    ProxiesUnread,
    /// Not an address of a WebSocket with TLS.
    #[error(
        "{0:?} is not what a web client can connect to, such as wss://xmpp.example.org:5443/ws"
    )]
    NotAWebSocket(String),
    /// Not an address of HTTP with TLS.
    #[error(
        "{0:?} is not what a client of BOSH can ask, such as https://xmpp.example.org:5443/http-bind"
    )]
    NotForBosh(String),
    /// Clients would be told where to connect, but nobody tells them.
    #[error("does nothing without `listen`: give an address, or leave this out")]
    UrlUntold,
    /// Nobody who logs in here has this address.
    #[error("{0} is not an account of a domain that is served here, such as alice@example.org")]
    NotOurAccount(String),
    /// Not an address of the kind that is asked for.
    #[error("{0:?} is not a URI such as {1}")]
    NotAUri(String, &'static str),
    /// Not the name of a host, a type or a transport.
    #[error("{0:?} is not one word")]
    NotAWord(String),
    /// Clients could not use a relay without credentials.
    #[error("needs `secret_file`: a relay such as {0} is for those only who have credentials")]
    NoRelaySecret(String),
    /// A time is too short.
    #[error("must be at least 1s")]
    TooShort,
    /// Not a level of the log, nor modules with levels.
    #[error(
        "{0:?} is not a level: off, error, warn, info, debug or trace, or e.g. info,node::session=debug"
    )]
    NotALevel(String),
    /// A bound on a number.
    #[error("must be between {0} and {1}")]
    Between(u64, u64),
    /// SQLite cannot be shared by machines.
    #[error(
        "a cluster whose nodes are on several machines needs PostgreSQL (postgres://…): \
         an SQLite file cannot be shared by machines"
    )]
    ClusterNeedsPostgres,
    /// Each node would have a database that the others do not know.
    #[error(
        "all nodes of a cluster share one database, and {0:?} is this node's alone: name one of PostgreSQL \
         (postgres://…), or for nodes on one machine a file outside `data_dir`"
    )]
    DatabaseOfOneNode(PathBuf),
    /// An empty path would be the working directory.
    #[error("is empty: give a path, or leave it out")]
    EmptyPath,
    /// The node does not know which one it is.
    #[error("give `node_id`, or set `node_id_from_hostname = true` in a StatefulSet")]
    NoNodeId,
    /// The host name has no ordinal at its end.
    #[error("the host name {0:?} does not end in an ordinal such as `-0`; give `node_id` instead")]
    NoOrdinal(String),
    /// Not the name of a zone, as Kubernetes labels nodes with.
    #[error("{0:?} is not a zone: up to 63 letters, digits, `-`, `_` and `.`")]
    NotAZone(String),
    /// There are no other nodes to form a cluster with.
    #[error("give either `peers` (`[\"1@host:port\", …]`) or `discovery` (`\"dns:NAME:PORT\"`)")]
    NoPeers,
    /// The other nodes would look for this one at another address.
    #[error("{advertised} is not this node's address in `peers`, {listed}")]
    AdvertisedElsewhere {
        /// `advertise`.
        advertised: String,
        /// In `peers`.
        listed: String,
    },
    /// Two listeners cannot share a port.
    #[error("{0} is listened on twice")]
    PortTwice(SocketAddr),
    /// Two peers with one number.
    #[error("the peer {0} appears twice")]
    PeerTwice(u64),
    /// Nobody would know where this node is.
    #[error(
        "{seat} is none of the nodes in `peers` ({known}): give the number of the one that this is, or, if it joins \
         them, the address at which they reach it as `advertise`"
    )]
    NotReachable {
        /// The node's id.
        seat: u64,
        /// Those of its peers.
        known: String,
    },
    /// The node's id or its address is another one's.
    #[error("{seat} is not the node at {address}, which is {other} in `peers`")]
    AddressOfAnother {
        /// The node's id.
        seat: u64,
        /// Its address.
        address: String,
        /// Whose that is.
        other: u64,
    },
    /// Nodes have no means to authenticate each other.
    #[error("nodes must know each other: give `secret_file`, or `ca`, `certificate` and `key`")]
    NoLinkAuthentication,
}

impl Rule {
    /// The error that this rule is broken by that key.
    pub fn broken(self, key: &'static str) -> ConfigError {
        ConfigError::Broken { key, rule: self }
    }
}

/// What `holdfast check` tells about a configuration that would be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Clients would refuse the certificate.
    #[error(
        "`tls.certificate` is absent: the self-signed one that is made instead serves localhost only; name the domain's, and \
         its key as `tls.key`"
    )]
    NoCertificate,
    /// Anybody may read a file with a secret.
    #[error("{} holds a secret and may be read by anybody (mode {mode:o}): chmod 600 it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A service lacks a secret.
    #[error("the secret {} cannot be used: {reason}; write it there, for the user of this process to read", path.display())]
    NoSecret {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The cluster has two nodes, and needs both of them for a majority.
    #[error(
        "`cluster.peers` names two nodes: neither goes on without the other, so that three are safer and one is as safe"
    )]
    TwoSeats,
    /// Web clients have to be configured.
    #[error(
        "`web.url` and `web.bosh_url` are absent: web clients do not find this server by its domain"
    )]
    NoWebUrl,
    /// Anybody may make accounts.
    #[error(
        "`auth.registration` is open: anybody may make accounts; with \"invited\" only those who were given an invitation"
    )]
    OpenRegistration,
    /// Anybody may make any number of accounts.
    #[error(
        "`limits.registrations_per_hour` is 0: nothing bounds how many accounts one address makes"
    )]
    UnlimitedRegistration,
    /// Worth knowing, not wrong.
    #[error(
        "`redis.url` is absent: limits of users are held by the shards and cannot be adjusted from outside"
    )]
    NoRedis,
}

impl Problem {
    /// Whether the server would not work as intended; otherwise it is only worth knowing.
    pub fn is_serious(&self) -> bool {
        match self {
            Self::NoCertificate | Self::NoSecret { .. } => true,
            Self::NoRedis
            | Self::NoWebUrl
            | Self::TwoSeats
            | Self::OpenRegistration
            | Self::UnlimitedRegistration
            | Self::Exposed { .. } => false,
        }
    }
}
