//! The configuration: one typed struct per section, loaded once at the start.
//!
//! A value comes from a flag, else from the environment, else from the file, else it is the default. Anything that is
//! wrong stops the start, and the error says where it stands and what would be right (T-78). That includes unknown
//! keys: they are probably misspelt, and a server must not run with half of what its operator wanted.
//!
//! # Invariants
//!
//! 1. No file, flag or variable makes [`Config::load`] panic.
//! 2. Paths in a loaded [`Config`] do not depend on the working directory any more than the file does.
//! 3. Nothing secret appears in the `Debug` output of a [`Config`] (T-73).

mod cluster;
mod error;
mod keys;
mod quotas;
mod section;
mod source;
mod storage;
mod table;
mod value;
mod web;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use self::cluster::{Cluster, PeerAddress};
pub use error::{ConfigError, Origin, Problem, Rule, UnknownVariable};
pub use quotas::{Bound, Quotas, within};
pub use section::{Admin, Auth, C2s, Drain, Limits, Log, LogFormat, Redis, Registration, Sm, Tls};
pub use storage::{Storage, StorageUrl};
pub use table::{SharedKey, Table, Tables};
pub use value::{Network, NotADuration, Secret, parse_duration};
pub(crate) use value::{duration, one_or_many};
pub use web::Web;

use self::source::Layers;
use self::table::Configured;

/// Everything that may be configured.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    #[serde(skip)]
    file: Option<PathBuf>,
    /// What services are told.
    #[serde(skip)]
    configured: Configured,
    domain: Option<String>,
    #[serde(deserialize_with = "value::one_or_many")]
    domains: Vec<String>,
    data_dir: Option<PathBuf>,
    /// Clients' connections.
    pub c2s: C2s,
    /// Clients in browsers.
    pub web: Web,
    /// Certificates.
    pub tls: Tls,
    /// How clients prove who they are.
    pub auth: Auth,
    /// Stream management.
    pub sm: Sm,
    /// The database.
    pub storage: Storage,
    /// Rates and counts.
    pub limits: Limits,
    /// What one account may take.
    pub quotas: Quotas,
    /// The Redis that shows counts of sessions to other programs. Absent: only the shards know them.
    pub redis: Option<Redis>,
    /// The other nodes. Absent: this node is alone.
    pub cluster: Option<Cluster>,
    /// How this node stops.
    pub drain: Drain,
    /// The operator's interface.
    pub admin: Admin,
    /// Logs.
    pub log: Log,
}

impl Config {
    /// Loads the configuration; `tables` are those of services, `sets` the `section.key=value` of `--set`, `env` the
    /// environment.
    ///
    /// Relative paths are taken from the file's directory or, without a file, the working directory.
    pub fn load(
        tables: &Tables,
        path: Option<&Path>,
        sets: &[String],
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut layers = Layers::new(tables);
        let mut base = PathBuf::new();
        if let Some(path) = path {
            layers.add_file(path)?;
            base = path.parent().map(Path::to_path_buf).unwrap_or_default();
        }
        layers.add_env(env)?;
        layers.add_sets(sets)?;
        let mut config = layers.finish()?;
        config.file = path.map(Path::to_path_buf);
        config.anchor(&base)?;
        config.settle()?;
        Ok(config)
    }

    /// The file that it was read from, if any.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// What a service is told in its table.
    pub fn table<T: Table>(&self) -> T {
        self.configured.get()
    }

    /// In which sections services are told something else.
    pub fn changed_tables<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = &'static str> + 'a {
        self.configured.changed(&other.configured)
    }

    /// The domains that are served here, prepared; at least one.
    pub fn domains(&self) -> &[String] {
        &self.domains
    }

    /// Where this node keeps its log, snapshots, certificate, token and, by default, the database.
    pub fn data_dir(&self) -> &Path {
        self.data_dir.as_deref().unwrap_or(Path::new("data"))
    }

    /// The settings of the shards.
    pub fn settings(&self) -> ::cluster::session::Settings {
        ::cluster::session::Settings {
            max_hibernated_sessions: self.sm.max_hibernated_sessions,
            max_old_sessions: self.sm.max_old_sessions,
            sessions_per_account: self.limits.sessions_per_account,
            on_timeout: self.sm.on_timeout,
            push_hibernation_time: u64::try_from(self.sm.push_hibernation_time.as_millis())
                .unwrap_or(u64::MAX),
            max_queue_stanzas: self.sm.max_queue_stanzas,
            max_queue_bytes: self.sm.max_queue_bytes,
            max_queue_ids: self.sm.max_queue_ids,
            max_backlog_bytes: self.limits.backlog_bytes,
            max_account_queue_bytes: self.quotas.queue_bytes,
            max_directed: self.quotas.directed_presence,
            max_directed_bytes: self.quotas.directed_presence_bytes,
            ..::cluster::session::Settings::default()
        }
    }

    /// Where the page is that explains invitations, if web clients are told where to connect.
    pub fn invite_page(&self) -> Option<String> {
        self.web.page("/invite")
    }

    /// Problems that are likely to surprise the operator. Only files of this machine are read.
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let own_machine = self.domains.iter().all(|domain| domain == "localhost");
        if self.tls.certificate.is_none() && !own_machine {
            problems.push(Problem::NoCertificate);
        }
        problems.extend(self.exposed());
        problems.extend(self.configured.secrets().filter_map(unreadable));
        let Web {
            listen,
            url,
            bosh_url,
        } = &self.web;
        if !listen.is_empty() && url.is_none() && bosh_url.is_none() {
            problems.push(Problem::NoWebUrl);
        }
        if self.auth.registration == Registration::Open {
            problems.push(Problem::OpenRegistration);
            if self.limits.registrations_per_hour == 0 {
                problems.push(Problem::UnlimitedRegistration);
            }
        }
        if self.cluster.as_ref().is_some_and(|c| c.peers.len() == 2) {
            problems.push(Problem::TwoSeats);
        }
        if self.cluster.is_some() && self.redis.is_none() {
            problems.push(Problem::NoRedis);
        }
        problems
    }

    /// Files with secrets that anybody on this machine may read. Access by a group is fine, as orchestrators give
    /// secrets to a process by its group.
    pub fn exposed(&self) -> impl Iterator<Item = Problem> + '_ {
        let cluster = self.cluster.iter();
        let cluster = cluster.flat_map(|c| [&c.secret_file, &c.key]).flatten();
        let password = self.file.iter().filter(|file| self.holds_password(file));
        let services = self.configured.secrets();
        let all = self.tls.key.iter().chain(cluster).chain(password);
        let all = all.map(PathBuf::as_path).chain(services);
        all.filter_map(|path| {
            let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
            let path = path.to_owned();
            (mode & 0o007 != 0).then_some(Problem::Exposed { path, mode })
        })
    }

    /// Whether the database's URL stands in the file, with a password in it.
    fn holds_password(&self, file: &Path) -> bool {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        match self.storage.url() {
            StorageUrl::Postgres(url) => {
                let authority = url.reveal().split('@').next().unwrap_or_default();
                authority.matches(':').count() > 1 && text.contains(url.reveal())
            }
            StorageUrl::Sqlite(_) => false,
        }
    }

    fn anchor(&mut self, base: &Path) -> Result<(), ConfigError> {
        let data_dir = self.data_dir.get_or_insert_with(|| "data".into());
        let tls = [
            ("tls.certificate", self.tls.certificate.as_mut()),
            ("tls.key", self.tls.key.as_mut()),
        ];
        let cluster = self.cluster.iter_mut().flat_map(Cluster::files_mut);
        let files = [("data_dir", Some(&mut *data_dir))].into_iter().chain(tls);
        for (key, file) in files.chain(cluster) {
            let Some(file) = file else { continue };
            if file.as_os_str().is_empty() {
                return Err(Rule::EmptyPath.broken(key));
            }
            *file = base.join(&*file);
        }
        self.storage.anchor(base, data_dir);
        self.configured.anchor(base);
        Ok(())
    }

    /// All addresses that are listened on, with their keys.
    pub fn listeners(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> + '_ {
        let c2s = &self.c2s;
        let plain = c2s.listen.iter().map(|address| ("c2s.listen", *address));
        let tls = c2s.listen_tls.iter().map(|a| ("c2s.listen_tls", *a));
        let cluster = self.cluster.iter().map(|c| ("cluster.listen", c.listen));
        let admin = [("admin.listen", self.admin.listen)];
        let web = self.web.listen.iter().map(|a| ("web.listen", *a));
        plain.chain(tls).chain(web).chain(admin).chain(cluster)
    }

    /// Refuses two listeners on one port. Port 0 stands for any free port.
    fn ports(&self) -> Result<(), ConfigError> {
        let all: Vec<_> = self.listeners().filter(|(_, a)| a.port() != 0).collect();
        let overlap = |one: &SocketAddr, other: &SocketAddr| {
            let any = one.ip().is_unspecified() || other.ip().is_unspecified();
            one.port() == other.port() && (any || one.ip() == other.ip())
        };
        for (place, (key, address)) in all.iter().enumerate() {
            if all[..place]
                .iter()
                .any(|(_, other)| overlap(address, other))
            {
                return Err(Rule::PortTwice(*address).broken(key));
            }
        }
        Ok(())
    }

    /// Normalises values that can be written in several ways, and refuses what cannot work.
    fn settle(&mut self) -> Result<(), ConfigError> {
        match (self.domain.take(), self.domains.is_empty()) {
            (Some(_), false) => return Err(Rule::OneDomainKey.broken("domain")),
            (Some(domain), true) => self.domains.push(domain),
            // The default, localhost, would be another machine for the clients of a cluster.
            (None, true) if self.cluster.is_some() => return Err(Rule::NoDomain.broken("domain")),
            (None, true) => self.domains.push("localhost".to_owned()),
            (None, false) => {}
        }
        for domain in &mut self.domains {
            let prepared = proto::BareJid::new(domain)
                .ok()
                .filter(|jid| jid.local().is_none());
            let prepared =
                prepared.ok_or_else(|| Rule::NotADomain(domain.clone()).broken("domain"))?;
            *domain = prepared.domain().to_owned();
        }
        self.domain = self.domains.first().cloned();
        self.tls.settle()?;
        self.c2s.settle()?;
        self.web.settle()?;
        self.auth.settle()?;
        self.sm.settle()?;
        self.quotas.settle()?;
        self.configured.check()?;
        self.drain.settle()?;
        self.log.settle()?;
        self.admin.settle(&self.domains)?;
        if let Some(cluster) = &mut self.cluster {
            cluster.settle()?;
            if !self.storage.is_postgres() && !cluster.is_loopback() {
                return Err(Rule::ClusterNeedsPostgres.broken("storage.url"));
            }
            if let StorageUrl::Sqlite(file) = self.storage.url()
                && cluster.peers.len() > 1
                && self
                    .data_dir
                    .as_ref()
                    .is_some_and(|dir| file.starts_with(dir))
            {
                return Err(Rule::DatabaseOfOneNode(file.clone()).broken("storage.url"));
            }
        }
        self.ports()?;
        Ok(())
    }
}

/// A secret of a service that cannot be read.
fn unreadable(path: &Path) -> Option<Problem> {
    let reason = match std::fs::read(path) {
        Ok(bytes) if bytes.trim_ascii().is_empty() => "it is empty".to_owned(),
        Ok(_) => return None,
        Err(error) => error.to_string(),
    };
    let path = path.to_owned();
    Some(Problem::NoSecret { path, reason })
}

#[cfg(test)]
mod tests;
