//! The state that the parts of a running node share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cluster::id::Owner;
use cluster::session::query;
use cluster::status::{NotReady, ShardStatus};
use cluster::{Cluster, ConnId, ShardId, Unavailable};
use futures_util::future::BoxFuture;
use proto::stanza::error::{Condition, ErrorType, StanzaError};
use proto::stream::{self, StreamError};
use proto::{BareJid, Jid};
use tokio::sync::Semaphore;

use crate::auth::{Failures, StreamSettings, Throttle, Tokens};
use crate::config::Config;
use crate::hooks::{ArchiveTail, Edge, Online, Presences, Registry, Told};
use crate::listen::bosh;
use crate::listen::gate::Gate;
use crate::listen::refusal::Refusals;
use crate::listen::tls::Certificates;
use crate::live::Live;
use crate::maintenance::Maintenance;
use crate::metrics::{Disk, Metrics, Sample};
use crate::session::Directory;
use crate::session::depart::Departures;
use crate::session::journal::Journal;
use crate::session::pause_detector::PauseDetector;

/// How long a query of an archive waits to know the latest state of its shard.
const LATEST: Duration = Duration::from_secs(2);

/// Handles that every part of a node may use. What a part owns alone is not here.
pub struct App {
    /// The configuration, as of the start.
    pub config: Config,
    /// The configuration that is in force now.
    pub live: Live,
    /// The replicated state.
    pub cluster: Cluster,
    /// What resolves stanzas: database, accounts.
    pub edge: Arc<Edge>,
    /// The handlers that services have registered.
    pub services: Arc<Registry>,
    /// The connections of this process.
    pub directory: Arc<Directory>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The server's certificate.
    pub certificates: Certificates,
    /// The settings of client streams.
    pub stream_settings: StreamSettings,
    /// Tokens for the next login.
    pub tokens: Tokens,
    /// Detects that this process was paused.
    pub pause_detector: Arc<PauseDetector>,
    /// Bounds the connections without a session.
    pub gate: Arc<Gate>,
    /// Refuses connections.
    pub refusals: Refusals,
    /// The sessions of BOSH.
    pub bosh: bosh::Sessions,
    /// Logs what unknown clients do, within a bound.
    pub journal: Journal,
    /// Failed logins and resumptions, of all nodes.
    pub failures: Arc<Failures>,
    /// Limits how often sessions take a resource from each other.
    pub takeovers: Throttle,
    /// Bounds how many passwords are checked at a time.
    pub hashing: Semaphore,
    /// The last commands of closed connections that are not committed yet.
    pub departures: Departures,
    /// Whether the node is stopping and takes no new connections.
    pub draining: AtomicBool,
    /// Whether an operator has taken the node out of service.
    pub maintenance: Arc<Maintenance>,
}

/// Why this node should get no connections now.
#[derive(Debug, thiserror::Error)]
pub enum Unready {
    /// It is being stopped.
    #[error("draining")]
    Draining,
    /// An operator has taken it out of service.
    #[error("taken out of service by `holdfast cluster drain`")]
    Drained,
    /// The cluster cannot commit, or this node lags behind.
    #[error("{0}")]
    Cluster(#[from] NotReady),
}

impl App {
    /// Whether clients should be sent here (`/readyz`).
    pub fn ready(&self) -> Result<(), Unready> {
        if self.draining.load(Ordering::Relaxed) {
            return Err(Unready::Draining);
        }
        if self.maintenance.is_on() {
            return Err(Unready::Drained);
        }
        Ok(self.cluster.ready()?)
    }

    /// Whether it closes connections because it stops serving, and clients go on elsewhere.
    pub fn is_leaving(&self) -> bool {
        self.draining.load(Ordering::Relaxed) || self.maintenance.is_closed()
    }

    /// The stream error for a client that this node cannot serve. It says why if an operator can do something about it.
    pub fn trouble(&self) -> StreamError {
        match self.cluster.shortage() {
            Some(shortage) => StreamError::new(stream::Condition::ResourceConstraint)
                .with_text(shortage.to_string()),
            None => StreamError::new(stream::Condition::InternalServerError),
        }
    }

    /// The metrics page. Some values are computed only when it is asked for.
    pub fn metrics_text(&self) -> String {
        let cluster = &self.cluster;
        let disk = Disk {
            log: cluster.log_bytes(),
            snapshots: cluster.snapshot_bytes(),
            is_short: cluster.shortage().is_some(),
        };
        self.metrics.text(&Sample {
            is_ready: self.ready().is_ok(),
            status: cluster.status(),
            totals: cluster.totals(),
            disk,
            limits: cluster.limit_counts(),
            has_redis: self.config.redis.is_some(),
            dissents: cluster::dissent::seen(),
            requests: self.services.requests(),
            certificate_end: self.certificates.current().verdict().ends,
        })
    }

    /// The path of a file in the data directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.config.data_dir().join(name)
    }
}

/// Looks up presence in the cluster, once this node has one.
#[derive(Default)]
pub struct LocalPresences {
    cluster: OnceLock<Cluster>,
}

impl LocalPresences {
    /// The cluster has started.
    pub fn attach(&self, cluster: Cluster) {
        // A process has one cluster, so this can be set once only.
        drop(self.cluster.set(cluster));
    }

    /// The shards that this node leads.
    pub fn led(&self) -> Vec<ShardStatus> {
        self.cluster.get().map(Cluster::led).unwrap_or_default()
    }

    /// A connection of this process, as an owner.
    pub fn owner(&self, conn: ConnId) -> Option<Owner> {
        Some(self.cluster.get()?.owner(conn))
    }
}

impl LocalPresences {
    /// See [`Presences::online`].
    async fn all_online(&self, domain: &str, most: usize) -> Result<Online, Unavailable> {
        let cluster = self.cluster.get().ok_or(Unavailable)?;
        let mut online = Online::default();
        for shard in (0..cluster.shards()).map(ShardId) {
            let mut after = None;
            loop {
                let some = query::Online {
                    domain: domain.to_owned(),
                    after,
                };
                let (found, rest) = cluster.query_shard(shard, some).await?;
                online.count += found.len();
                online.first.extend(found);
                online.first.sort_unstable();
                online.first.truncate(most);
                match rest {
                    Some(last) => after = Some(last),
                    None => break,
                }
            }
        }
        Ok(online)
    }
}

impl Presences for LocalPresences {
    fn sessions<'a>(&'a self, account: &'a BareJid) -> BoxFuture<'a, Vec<Jid>> {
        Box::pin(async move {
            let Some(cluster) = self.cluster.get() else {
                return Vec::new();
            };
            let of = account.clone();
            let sessions = cluster.query_latest(account, query::Sessions { account: of });
            let sessions = sessions.await.unwrap_or_default();
            sessions.into_iter().map(|view| view.jid).collect()
        })
    }

    fn online<'a>(&'a self, domain: &'a str, most: usize) -> Told<'a, Online> {
        let lacks = |_| StanzaError::new(Condition::InternalServerError).with_type(ErrorType::Wait);
        Box::pin(async move { self.all_online(domain, most).await.map_err(lacks) })
    }

    fn available<'a>(&'a self, account: &'a BareJid) -> BoxFuture<'a, Vec<Jid>> {
        Box::pin(async move {
            let Some(cluster) = self.cluster.get() else {
                return Vec::new();
            };
            let of = account.clone();
            let available = query::Available { account: of };
            cluster.query(account, available).await.unwrap_or_default()
        })
    }

    /// The answer includes everything that was committed before the call, by any node.
    fn archive_tail<'a>(&'a self, account: &'a BareJid) -> BoxFuture<'a, ArchiveTail> {
        Box::pin(async move {
            let Some(cluster) = self.cluster.get() else {
                return ArchiveTail::default();
            };
            let of = account.clone();
            let tail = query::ArchiveTail { account: of };
            let latest = cluster.query_latest(account, tail.clone());
            let latest = tokio::time::timeout(LATEST, latest).await;
            let (current, rows) = match latest {
                Ok(Ok(tail)) => (true, tail),
                Ok(Err(_)) | Err(_) => {
                    let known = tokio::time::timeout(LATEST, cluster.query(account, tail)).await;
                    (false, known.unwrap_or(Err(Unavailable)).unwrap_or_default())
                }
            };
            ArchiveTail { rows, current }
        })
    }
}
