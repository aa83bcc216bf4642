//! Runs a node, from loading its configuration to closing its last connection.

use std::io::{self, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use actix_rt::Arbiter;
use cluster::claim::{self, DirError};
use cluster::config::ConfigError as BadCluster;
use cluster::disk;
use cluster::{Cluster, StartError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, watch};

use crate::admin::http;
use crate::app::{App, LocalPresences};
use crate::auth::{
    Accounts, Failures, StreamSettings, Throttle, Tokens, offer, registration, revoke,
};
use crate::config::{Config, LogFormat, Registration};
use crate::hooks::{Clash, Edge, Registry};
use crate::host::NodeHost;
use crate::listen::c2s::{self, ListenError, Listener};
use crate::listen::gate::Gate;
use crate::listen::refusal::Refusals;
use crate::listen::tls::TlsError;
use crate::listen::{Door, bosh};
use crate::live::Live;
use crate::maintenance::Maintenance;
use crate::metrics::Metrics;
use crate::reload::{Reload, Watched};
use crate::session::depart::Departures;
use crate::session::journal::{self, Journal};
use crate::session::pause_detector::PauseDetector;
use crate::session::{Directory, sweep};
use crate::storage::{Storage, StorageError};
use crate::trace::Trail;
use crate::{
    clock, database, drain, maintenance, outage, preflight, readiness, reload, services, telemetry,
};

/// How often per minute an account's sessions may take a resource from each other.
const TAKEOVERS: u32 = 6;
/// How long to wait for a port that is taken: the former process may not be completely gone.
const PORT: Duration = Duration::from_secs(5);
/// How often the port is tried meanwhile, and how often a starting node checks whether it is ready.
const POLL: Duration = Duration::from_millis(50);

/// Why a node does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data directory cannot be made, or is not fit to hold secrets.
    #[error(transparent)]
    DataDir(#[from] DirError),
    /// The cluster's secret cannot be read.
    #[error("cannot read cluster.secret_file {0}: {1}")]
    Secret(PathBuf, io::Error),
    /// The key of the tokens cannot be read.
    #[error("cannot use auth.token_key_file {0}: {1}")]
    TokenKey(PathBuf, io::Error),
    /// The cluster is configured without a way for nodes to know each other.
    #[error(
        "the cluster needs cluster.secret_file, or cluster.ca, cluster.certificate and cluster.key"
    )]
    NoLinkAuth,
    /// The cluster's configuration contradicts itself.
    #[error("cluster: {0}")]
    BadCluster(#[from] BadCluster),
    /// The means by which nodes know each other cannot be used.
    #[error("cluster: {0}")]
    LinkTls(#[from] cluster::tls::TlsError),
    /// Neither certificate nor self-signed one.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The database cannot be used.
    #[error("cannot use the database: {0}")]
    Storage(#[from] StorageError),
    /// Services contradict each other.
    #[error(transparent)]
    Services(#[from] Clash),
    /// The cluster does not start.
    #[error(transparent)]
    Cluster(#[from] StartError),
    /// The admin interface cannot be served.
    #[error(transparent)]
    Admin(#[from] http::AdminError),
    /// A port is taken.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A file of this node.
    #[error("cannot write {0}: {1}")]
    Write(PathBuf, io::Error),
    /// Signals or threads of this process.
    #[error("{0}")]
    Process(#[from] io::Error),
    /// A second signal cut the drain short.
    #[error("stopped before the drain was over")]
    CutShort,
}

/// Runs a node until it is told to stop; `again` reads the configuration when it may have changed. The process is to end
/// then: what the node's tasks hold is not given back.
pub fn run(config: Config, again: Reload) -> Result<(), ServeError> {
    telemetry::install(&config.log);
    let file = config.file().unwrap_or(Path::new("none"));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        configuration = %file.display(),
        data_dir = %config.data_dir().display(),
        database = config.storage.url().engine(),
        "starting"
    );
    for problem in config.exposed() {
        tracing::warn!("{problem}");
    }
    raise_descriptors();
    let system = actix::System::new();
    let ended = system.block_on(node(config, again));
    // Dropped with the system, a task that waits for the database would give its connection back where no runtime runs
    // any more, and panic.
    std::mem::forget(system);
    ended
}

async fn node(config: Config, again: Reload) -> Result<(), ServeError> {
    let mut stops = Stops::new()?;
    // The directory is claimed before the ports, so that a second process in it gets the right error.
    let _claim = claim::claim_dir(config.data_dir())?;
    let watched = Watched::new(&config);
    let opened = tokio::select! {
        opened = open(config) => opened?,
        // Nothing has been promised yet.
        () = stops.next() => return Ok(()),
    };
    let (listeners, admin, app) = opened;
    let addresses = Addresses::of(&listeners, admin.address);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let arbiters: Vec<Arbiter> = (0..cores).map(|_| Arbiter::new()).collect();
    let (stop, stopped) = watch::channel(false);
    actix_rt::spawn(http::open(app.clone(), admin.into_std())?);
    actix_rt::spawn(reload::run(app.clone(), watched, again));
    actix_rt::spawn(services::retention(app.clone()));
    actix_rt::spawn(services::compare_blocklists(app.clone()));
    actix_rt::spawn(services::tell_statements(app.clone()));
    actix_rt::spawn(share_failures(app.clone()));
    actix_rt::spawn(turn_journal(app.clone()));
    actix_rt::spawn(database::watch(app.clone()));
    actix_rt::spawn(sweep::run(app.clone()));
    actix_rt::spawn(revoke::run(app.clone()));
    actix_rt::spawn(offer::run(app.clone()));
    actix_rt::spawn(registration::run(app.clone()));
    actix_rt::spawn(maintenance::run(app.clone()));
    let (open, opened) = watch::channel(true);
    actix_rt::spawn(outage::watch(app.clone(), open));
    for listener in listeners {
        let handles = arbiters.iter().map(Arbiter::handle).collect();
        let (app, stopped, opened) = (app.clone(), stopped.clone(), opened.clone());
        actix_rt::spawn(c2s::accept(app, listener, handles, stopped, opened));
    }
    let was_ready = tokio::select! {
        announced = addresses.announce(&app) => {
            announced?;
            actix_rt::spawn(readiness::watch(app.clone()));
            stops.next().await;
            true
        }
        () = stops.next() => false,
    };
    tokio::select! {
        () = drain::drain(&app, &stop, was_ready) => Ok(()),
        () = stops.next() => Err(ServeError::CutShort),
    }
}

/// Takes the ports and starts everything that does not listen.
async fn open(config: Config) -> Result<(Vec<Listener>, Listener, Arc<App>), ServeError> {
    let listeners = bind(&config).await?;
    let admin = patiently(|| c2s::bind(config.admin.listen, Door::StartTls)).await?;
    Ok((listeners, admin, assemble(config).await?))
}

/// The signals that stop a node.
struct Stops {
    terminate: Signal,
    interrupt: Signal,
}

impl Stops {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Starts everything that does not listen.
async fn assemble(config: Config) -> Result<Arc<App>, ServeError> {
    let certificates = preflight::certificates(&config)?;
    reload::announce_certificate(&certificates);
    let token_key = preflight::token_key(&config)?;
    let storage = database::open(&config).await?;
    let lifetime = config.auth.token_lifetime;
    let tokens = Tokens::new(storage.clone(), lifetime, token_key, clock::now);
    let presences = Arc::new(LocalPresences::default());
    let services = Arc::new(Registry::new(services::ALL, &config)?);
    let edge = Arc::new(edge(&config, storage, &services, presences.clone()));
    let directory = Arc::new(Directory::default());
    let settings = preflight::cluster(&config)?;
    let metrics = Arc::new(Metrics::new(&settings.metrics, clock::now()));
    let failures = Arc::new(Failures::new(&config.limits));
    let maintenance = Arc::new(Maintenance::new(seat(&config)));
    let host = NodeHost {
        directory: directory.clone(),
        edge: edge.clone(),
        services: services.clone(),
        failures: failures.clone(),
        maintenance: maintenance.clone(),
        presences: presences.clone(),
        metrics: metrics.clone(),
        shards: settings.shards,
    };
    let links = bind_links(&config).await?;
    let cluster = Cluster::start_on(settings, links, Arc::new(host)).await?;
    presences.attach(cluster.clone());
    let stream_settings = StreamSettings::new(stream_settings(&config, &services));
    stream_settings.look(&edge.storage).await;
    let gate = Gate::new(config.limits.connections_per_address);
    Ok(Arc::new(App {
        cluster,
        edge,
        services,
        directory,
        metrics,
        certificates,
        stream_settings,
        tokens,
        pause_detector: PauseDetector::begin(clock::instant),
        gate,
        refusals: Refusals::default(),
        bosh: bosh::Sessions::default(),
        journal: Journal::default(),
        failures,
        takeovers: Throttle::new(TAKEOVERS),
        hashing: Semaphore::new(2),
        departures: Departures::default(),
        draining: AtomicBool::new(false),
        maintenance,
        live: Live::new(config.clone()),
        config,
    }))
}

fn seat(config: &Config) -> u64 {
    config.cluster.as_ref().map_or(1, |cluster| cluster.seat())
}

fn edge(
    config: &Config,
    storage: Storage,
    services: &Registry,
    presences: Arc<LocalPresences>,
) -> Edge {
    Edge {
        trail: Trail::new(seat(config), clock::now),
        domains: config.domains().to_vec(),
        accounts: Accounts::new(storage.clone(), clock::now),
        storage,
        presences,
        visibility: services.visibility().clone(),
        blocking: services.blocking().clone(),
        nodes: services.nodes().clone(),
        contacts: services.contacts().clone(),
        now: clock::now,
        random: clock::random,
        started: clock::now(),
        administrators: config.admin.jids.clone(),
    }
}

fn stream_settings(config: &Config, services: &Registry) -> proto::stream::Settings {
    proto::stream::Settings {
        domains: config.domains().to_vec(),
        mechanisms: config.auth.mechanisms.clone(),
        max_stanza_bytes: config.c2s.max_stanza_bytes,
        tokens: !config.auth.token_lifetime.is_zero(),
        features: services.features().caps().into_iter().collect(),
        registration: config.auth.registration != Registration::Off,
        ..proto::stream::Settings::default()
    }
}

async fn bind(config: &Config) -> Result<Vec<Listener>, ServeError> {
    let doors = [
        (Door::StartTls, &config.c2s.listen),
        (Door::Tls, &config.c2s.listen_tls),
        (Door::Web, &config.web.listen),
    ];
    let mut listeners = Vec::new();
    for (door, addresses) in doors {
        for address in addresses {
            listeners.push(patiently(|| c2s::bind(*address, door)).await?);
        }
    }
    Ok(listeners)
}

/// The listener for other nodes, if there are any.
async fn bind_links(config: &Config) -> Result<Option<TcpListener>, ListenError> {
    let Some(cluster) = &config.cluster else {
        return Ok(None);
    };
    let bound = patiently(|| c2s::bind(cluster.listen, Door::StartTls)).await?;
    Ok(Some(bound.into_std()))
}

/// Opens a listener, and waits a little if its port is taken: after a `kill -9` the system may hold it
/// for some moments more.
async fn patiently(
    mut open: impl FnMut() -> Result<Listener, ListenError>,
) -> Result<Listener, ListenError> {
    let deadline = clock::instant() + PORT;
    let mut said = false;
    loop {
        match open() {
            Err(error) if error.is_taken() && clock::instant() < deadline => {
                if !std::mem::replace(&mut said, true) {
                    let seconds = PORT.as_secs();
                    tracing::warn!(%error, "the node waits up to {seconds} s for its port");
                }
                tokio::time::sleep(POLL).await;
            }
            opened => return opened,
        }
    }
}

/// Where this node listens; the ports may have been chosen by the system.
#[derive(serde::Serialize)]
struct Addresses {
    c2s: Vec<String>,
    c2s_tls: Vec<String>,
    web: Vec<String>,
    admin: String,
}

impl Addresses {
    fn of(listeners: &[Listener], admin: std::net::SocketAddr) -> Self {
        let some = |door| {
            let some = listeners.iter().filter(move |l| l.door == door);
            some.map(|l| l.address.to_string()).collect()
        };
        Self {
            c2s: some(Door::StartTls),
            c2s_tls: some(Door::Tls),
            web: some(Door::Web),
            admin: admin.to_string(),
        }
    }

    /// A file for programs, and one line for whoever started us once clients are welcome.
    async fn announce(&self, app: &App) -> Result<(), ServeError> {
        let (file, partial) = (app.file("addresses.json"), app.file("addresses.json.new"));
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        let written = disk::create(&partial)
            .and_then(|mut made| made.write_all(&text))
            .and_then(|()| std::fs::rename(&partial, &file));
        match written {
            // A node that is started on a full disk waits for room, as one does that was running.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                tracing::warn!(file = %file.display(), %error, "addresses are not written");
            }
            written => written.map_err(|error| ServeError::Write(file, error))?,
        }
        let (c2s, tls) = (self.c2s.join(","), self.c2s_tls.join(","));
        let web = self.web.join(",");
        tracing::info!(%c2s, c2s_tls = %tls, %web, admin = %self.admin, "listening");
        let mut said = String::new();
        while let Err(unready) = app.ready() {
            let unready = unready.to_string();
            if unready != said {
                tracing::info!(reason = %unready, "not ready yet");
                said = unready;
            }
            tokio::time::sleep(POLL).await;
        }
        // A program that reads the log would stumble over a line that is no JSON; it has the one below.
        if app.config.log.format == LogFormat::Text {
            // Standard output may be closed, which does not matter.
            drop(writeln!(
                io::stdout(),
                "ready c2s={c2s} c2s_tls={tls} web={web} admin={}",
                self.admin
            ));
        }
        tracing::info!("ready");
        Ok(())
    }
}

async fn turn_journal(app: Arc<App>) {
    loop {
        tokio::time::sleep(journal::MINUTE).await;
        app.journal.turn();
    }
}

async fn share_failures(app: Arc<App>) {
    app.failures.share(&app.cluster).await;
}

/// Raises the limit of file descriptors as far as the system allows.
fn raise_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(%error, soft, "the limit of open files stays low");
    }
}
