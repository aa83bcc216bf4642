//! The sections of the configuration that need hardly any code.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use cluster::session::OnTimeout;
use proto::BareJid;
use proto::limit::WRITTEN_BYTES;
use proto::sasl::Mechanism;
use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::error::{ConfigError, Rule};
use super::value::{self, Network};

/// `[c2s]`: clients' connections.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct C2s {
    /// The addresses where clients connect and negotiate TLS (STARTTLS).
    #[serde(deserialize_with = "value::one_or_many")]
    pub listen: Vec<SocketAddr>,
    /// The addresses where clients begin with TLS.
    #[serde(deserialize_with = "value::one_or_many")]
    pub listen_tls: Vec<SocketAddr>,
    /// Connections from `trusted_proxies` begin with a PROXY header, version 1 or 2.
    pub proxy_protocol: bool,
    /// The load balancers whose PROXY headers are trusted.
    #[serde(deserialize_with = "value::one_or_many")]
    pub trusted_proxies: Vec<Network>,
    /// Silence before a client is pinged.
    #[serde(deserialize_with = "value::duration")]
    pub idle_timeout: Duration,
    /// Silence after the ping before the connection counts as dead.
    #[serde(deserialize_with = "value::duration")]
    pub ping_timeout: Duration,
    /// The largest stanza of an authenticated client.
    #[serde(deserialize_with = "value::size")]
    pub max_stanza_bytes: usize,
}

impl Default for C2s {
    fn default() -> Self {
        let any = std::net::Ipv6Addr::UNSPECIFIED;
        Self {
            listen: vec![SocketAddr::from((any, 5222))],
            listen_tls: vec![SocketAddr::from((any, 5223))],
            proxy_protocol: false,
            trusted_proxies: Vec::new(),
            idle_timeout: Duration::from_secs(300),
            ping_timeout: Duration::from_secs(30),
            max_stanza_bytes: 262_144,
        }
    }
}

/// The smallest and the largest `max_stanza_bytes`. RFC 6120 §13.12 demands at least 10 000, and the largest stanza
/// must fit into an entry of the log as the server writes it.
const STANZA_BYTES: (usize, usize) = (10_000, WRITTEN_BYTES - (64 << 10));

impl C2s {
    pub(super) fn settle(&self) -> Result<(), ConfigError> {
        if self.listen.is_empty() && self.listen_tls.is_empty() {
            return Err(Rule::NoListener.broken("c2s.listen"));
        }
        if self.proxy_protocol && self.trusted_proxies.is_empty() {
            return Err(Rule::ProxiesUnknown.broken("c2s.proxy_protocol"));
        }
        if !self.proxy_protocol && !self.trusted_proxies.is_empty() {
            return Err(Rule::ProxiesUnread.broken("c2s.trusted_proxies"));
        }
        at_least_a_second(self.idle_timeout, "c2s.idle_timeout")?;
        at_least_a_second(self.ping_timeout, "c2s.ping_timeout")?;
        let (least, most) = STANZA_BYTES;
        if !(least..=most).contains(&self.max_stanza_bytes) {
            let rule = Rule::Between(least as u64, most as u64);
            return Err(rule.broken("c2s.max_stanza_bytes"));
        }
        Ok(())
    }
}

/// `[tls]`: the certificate for clients.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The chain, PEM; read again when it changes. Absent: a self-signed one is made, for localhost only.
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM.
    pub key: Option<PathBuf>,
}

impl Tls {
    pub(super) fn settle(&self) -> Result<(), ConfigError> {
        if self.certificate.is_some() == self.key.is_some() {
            return Ok(());
        }
        Err(Rule::CertificateWithKey.broken("tls.certificate"))
    }
}

/// `[auth]`: how clients prove who they are.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// The mechanisms that are offered.
    #[serde(deserialize_with = "mechanisms")]
    pub mechanisms: Vec<Mechanism>,
    /// How long a client may log in with a token that it was given instead of the password (XEP-0484). Each use renews
    /// it; zero: none are given.
    #[serde(deserialize_with = "value::duration")]
    pub token_lifetime: Duration,
    /// A file with a key, the same on all nodes, without which no token can be computed from the database.
    pub token_key_file: Option<PathBuf>,
    /// Which strangers may make accounts (XEP-0077).
    pub registration: Registration,
}

/// Which strangers may make accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Registration {
    /// None; also `false`.
    #[default]
    Off,
    /// Those who have an invitation (XEP-0445).
    Invited,
    /// All of them; also `true`.
    Open,
}

impl<'de> Deserialize<'de> for Registration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Truth(bool),
            Word(String),
        }
        let unknown = || de::Error::custom("must be \"off\", \"invited\" or \"open\"");
        match Written::deserialize(deserializer).map_err(|_| unknown())? {
            Written::Truth(false) => Ok(Self::Off),
            Written::Truth(true) => Ok(Self::Open),
            Written::Word(word) => match word.as_str() {
                "off" => Ok(Self::Off),
                "invited" => Ok(Self::Invited),
                "open" => Ok(Self::Open),
                _ => Err(unknown()),
            },
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            mechanisms: Mechanism::ALL.to_vec(),
            token_lifetime: Duration::from_secs(21 * 86_400),
            token_key_file: None,
            registration: Registration::Off,
        }
    }
}

impl Auth {
    pub(super) fn settle(&self) -> Result<(), ConfigError> {
        if self.mechanisms.is_empty() {
            return Err(Rule::NoMechanism.broken("auth.mechanisms"));
        }
        Ok(())
    }
}

fn mechanisms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Mechanism>, D::Error> {
    let names: Vec<String> = value::one_or_many(deserializer)?;
    let known = |name: &String| {
        let all = Mechanism::ALL.map(Mechanism::name).join(", ");
        let unknown = || de::Error::custom(format!("unknown mechanism {name:?}; there are {all}"));
        Mechanism::parse(name).ok_or_else(unknown)
    };
    names.iter().map(known).collect()
}

/// `[sm]`: stream management. Each key continues an option of Prosody's mod_smacks, named beside it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sm {
    /// How long a session waits for its client to come back (`smacks_hibernation_time`).
    #[serde(deserialize_with = "value::duration")]
    pub hibernation_time: Duration,
    /// How long one waits whose client can be woken (XEP-0357): until it is, and then as long as any other.
    #[serde(deserialize_with = "value::duration")]
    pub push_hibernation_time: Duration,
    /// How many sessions of one account may wait (`smacks_max_hibernated_sessions`).
    pub max_hibernated_sessions: u32,
    /// How many ended sessions of one account are remembered (`smacks_max_old_sessions`).
    pub max_old_sessions: u32,
    /// An acknowledgement is asked for when more are outstanding (`smacks_max_unacked_stanzas`).
    pub max_unacked_stanzas: u32,
    /// How late one may be before the client counts as delayed (`smacks_max_ack_delay`).
    #[serde(deserialize_with = "value::duration")]
    pub max_ack_delay: Duration,
    /// How long a question about what is in flight may stay unanswered before the connection counts as dead (SM-33).
    #[serde(deserialize_with = "value::duration")]
    pub ack_timeout: Duration,
    /// Between servers too (`smacks_enabled_s2s`).
    pub s2s: bool,
    /// What becomes of unacknowledged messages when a session ends.
    pub on_timeout: OnTimeout,
    /// How many stanzas of one session are held in full. Of more only the ids are; they are read back when
    /// the client has caught up.
    pub max_queue_stanzas: u32,
    /// The same in bytes.
    pub max_queue_bytes: u64,
    /// How many stanzas of one session are held in any form. With more it ends.
    pub max_queue_ids: u32,
    /// Where both counters start. Only for tests of their wrap-around: clients expect 0.
    pub first_count: u32,
}

impl Default for Sm {
    fn default() -> Self {
        Self {
            hibernation_time: Duration::from_secs(300),
            push_hibernation_time: Duration::from_secs(72 * 3600),
            max_hibernated_sessions: 10,
            max_old_sessions: 10,
            max_unacked_stanzas: 0,
            max_ack_delay: Duration::from_secs(60),
            ack_timeout: Duration::from_secs(90),
            s2s: false,
            on_timeout: OnTimeout::Archive,
            max_queue_stanzas: 2000,
            max_queue_bytes: 8 << 20,
            max_queue_ids: 50_000,
            first_count: 0,
        }
    }
}

impl Sm {
    pub(super) fn settle(&self) -> Result<(), ConfigError> {
        const LONGEST: u64 = 30 * 86_400;
        if !(1..=LONGEST).contains(&self.hibernation_time.as_secs()) {
            return Err(Rule::Between(1, LONGEST).broken("sm.hibernation_time"));
        }
        if self.push_hibernation_time.as_secs() > LONGEST {
            return Err(Rule::Between(0, LONGEST).broken("sm.push_hibernation_time"));
        }
        at_least_a_second(self.max_ack_delay, "sm.max_ack_delay")?;
        at_least_a_second(self.ack_timeout, "sm.ack_timeout")
    }
}

/// Refuses a time below a second: it would end every connection at once, and none of these checks can be turned off.
fn at_least_a_second(time: Duration, key: &'static str) -> Result<(), ConfigError> {
    match time >= Duration::from_secs(1) {
        true => Ok(()),
        false => Err(Rule::TooShort.broken(key)),
    }
}

/// `[limits]`: rates and counts; zero turns one off.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Per session; bursts of five times as many pass (T-15, T-53).
    pub stanzas_per_second: u32,
    /// Per session, of what it sends, and as many of what it is answered with (T-15).
    pub bytes_per_second: u32,
    /// Failed logins, per account and per block of addresses (T-26).
    pub logins_per_minute: u32,
    /// Tries to make an account, per block of addresses (T-31).
    pub registrations_per_hour: u32,
    /// Connections without a session, from one address (T-12).
    pub connections_per_address: u32,
    /// Failed attempts to resume, per account (T-40).
    pub failed_resumes_per_minute: u32,
    /// Sessions that an account may have at a time (T-44).
    pub sessions_per_account: u32,
    /// Per shard, waiting for the database. While it takes something an eighth may wait, and senders are read
    /// more slowly; with all of it waiting for a database that is away, they get an error.
    pub backlog_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            stanzas_per_second: 200,
            bytes_per_second: 1 << 20,
            logins_per_minute: 30,
            registrations_per_hour: 10,
            connections_per_address: 64,
            failed_resumes_per_minute: 30,
            sessions_per_account: 20,
            backlog_bytes: 64 << 20,
        }
    }
}

/// `[redis]`: counts that a cluster shares.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// `redis://`, `rediss://`, also of Sentinels or a cluster.
    #[serde(deserialize_with = "redis_url")]
    pub url: cluster::mirror::Address,
}

fn redis_url<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<cluster::mirror::Address, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(de::Error::custom)
}

/// `[admin]`: the operator's interface.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Health, metrics and the API.
    pub listen: SocketAddr,
    /// The accounts that administer the server by commands of their clients (XEP-0133).
    #[serde(deserialize_with = "value::accounts")]
    pub jids: Vec<BareJid>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9090)),
            jids: Vec::new(),
        }
    }
}

impl Admin {
    /// An address that nobody here can have would look like an administrator and be none.
    pub(super) fn settle(&self, domains: &[String]) -> Result<(), ConfigError> {
        let is_ours = |jid: &BareJid| {
            jid.local().is_some() && domains.iter().any(|domain| domain == jid.domain())
        };
        match self.jids.iter().find(|jid| !is_ours(jid)) {
            Some(jid) => Err(Rule::NotOurAccount(jid.to_string()).broken("admin.jids")),
            None => Ok(()),
        }
    }
}

/// `[drain]`: how a node of a cluster stops.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// How long a node that is told to stop goes on accepting clients, while balancers learn that it is not ready.
    #[serde(deserialize_with = "value::duration")]
    pub grace: Duration,
    /// The time over which the closing of its connections is spread.
    #[serde(deserialize_with = "value::duration")]
    pub spread: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(5),
            spread: Duration::from_secs(5),
        }
    }
}

/// The longest of either time, in seconds: an hour.
const LONGEST_DRAIN: u64 = 3600;

impl Drain {
    pub(super) fn settle(&self) -> Result<(), ConfigError> {
        for (time, key) in [(self.grace, "drain.grace"), (self.spread, "drain.spread")] {
            if time > Duration::from_secs(LONGEST_DRAIN) {
                return Err(Rule::Between(0, LONGEST_DRAIN).broken(key));
            }
        }
        Ok(())
    }
}

/// `[log]`: what is written to standard error.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Whether lines are for people or for programs.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,node::session=debug`.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".to_owned(),
        }
    }
}

impl Log {
    pub(super) fn settle(&self) -> Result<(), ConfigError> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        // The library accepts any word as the name of a module.
        let is_path = |module: &str| {
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
            !module.is_empty() && module.chars().all(word)
        };
        let known = |part: &str| match part.rsplit_once('=') {
            Some((module, level)) => is_path(module) && LEVELS.contains(&level),
            None => LEVELS.contains(&part),
        };
        match self.level.split(',').all(|part| known(part.trim())) {
            true => Ok(()),
            false => Err(Rule::NotALevel(self.level.clone()).broken("log.level")),
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}
