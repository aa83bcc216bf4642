//! What an operator decides: one typed struct per section, loaded once at the start.
//!
//! A value comes from a flag, else the environment, else the file, else the default. Whatever does not
//! fit stops the start with the place where it stands and what would fit (T-78): an unknown key is a
//! misspelt decision, and a server must not run on half of what its operator wanted.
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
mod value;

use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use self::cluster::{Cluster, PeerAddress};
pub use error::{ConfigError, Origin, Problem, Rule};
pub use quotas::Quotas;
pub use section::{
    Admin, Archive, Auth, C2s, KeepByDefault, Limits, Log, LogFormat, Push, Redis, Sm, Tls,
};
pub use storage::{Storage, StorageUrl};
pub use value::{Network, NotADuration, Secret, parse_duration};

use crate::config::source::Layers;

/// Everything that may be configured.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    domain: Option<String>,
    #[serde(deserialize_with = "value::one_or_many")]
    domains: Vec<String>,
    data_dir: Option<PathBuf>,
    /// Clients' connections.
    pub c2s: C2s,
    /// Certificates.
    pub tls: Tls,
    /// How clients prove who they are.
    pub auth: Auth,
    /// Stream management.
    pub sm: Sm,
    /// The database.
    pub storage: Storage,
    /// The message archive.
    pub archive: Archive,
    /// What services learn that wake users' devices.
    pub push: Push,
    /// Rates and counts.
    pub limits: Limits,
    /// What one account may take.
    pub quotas: Quotas,
    /// Counts that the cluster shares. Absent: the shards hold them.
    pub redis: Option<Redis>,
    /// The other nodes. Absent: this node is alone.
    pub cluster: Option<Cluster>,
    /// The operator's interface.
    pub admin: Admin,
    /// Logs.
    pub log: Log,
}

impl Config {
    /// Loads the configuration; `sets` are the `section.key=value` of `--set`, `env` the environment.
    ///
    /// Relative paths are taken from the file's directory or, without a file, the working directory.
    pub fn load(
        path: Option<&Path>,
        sets: &[String],
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut layers = Layers::default();
        let mut base = PathBuf::new();
        if let Some(path) = path {
            layers.add_file(path)?;
            base = path.parent().map(Path::to_path_buf).unwrap_or_default();
        }
        layers.add_env(env)?;
        layers.add_sets(sets)?;
        let mut config: Self = layers.finish()?;
        config.anchor(&base);
        config.settle()?;
        Ok(config)
    }

    /// The domains that are served here, prepared; at least one.
    pub fn domains(&self) -> &[String] {
        &self.domains
    }

    /// Where this node keeps its log, snapshots, certificate, token and, by default, the database.
    pub fn data_dir(&self) -> &Path {
        self.data_dir.as_deref().unwrap_or(Path::new("data"))
    }

    /// What the shards need to know.
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

    /// What is likely to surprise the operator, without looking beyond this machine's files.
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let own_machine = self.domains.iter().all(|domain| domain == "localhost");
        if self.tls.certificate.is_none() && !own_machine {
            problems.push(Problem::NoCertificate);
        }
        let files = [
            ("tls.certificate", self.tls.certificate.as_deref()),
            ("tls.key", self.tls.key.as_deref()),
        ];
        let cluster = self.cluster.iter().flat_map(Cluster::files);
        for (key, file) in files.into_iter().chain(cluster) {
            let Some(file) = file else { continue };
            if let Err(error) = std::fs::File::open(file) {
                problems.push(Problem::Unreadable {
                    key,
                    path: file.to_owned(),
                    reason: error.kind(),
                });
            }
        }
        if self.cluster.is_some() && self.redis.is_none() {
            problems.push(Problem::NoRedis);
        }
        problems
    }

    fn anchor(&mut self, base: &Path) {
        let data_dir = base.join(self.data_dir());
        self.data_dir = Some(data_dir.clone());
        self.storage.anchor(base, &data_dir);
        let tls = [&mut self.tls.certificate, &mut self.tls.key];
        let cluster = self.cluster.iter_mut().flat_map(Cluster::files_mut);
        for file in tls.into_iter().chain(cluster).flatten() {
            *file = base.join(&*file);
        }
    }

    /// Prepares what is written more than one way, and refuses what cannot work.
    fn settle(&mut self) -> Result<(), ConfigError> {
        match (self.domain.take(), self.domains.is_empty()) {
            (Some(_), false) => return Err(Rule::OneDomainKey.broken("domain")),
            (Some(domain), true) => self.domains.push(domain),
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
        self.auth.settle()?;
        self.sm.settle()?;
        self.quotas.settle()?;
        self.log.settle()?;
        if let Some(cluster) = &mut self.cluster {
            cluster.settle()?;
            if !self.storage.is_postgres() && !cluster.is_loopback() {
                return Err(Rule::ClusterNeedsPostgres.broken("storage.url"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("example.toml");

    fn load(text: &str, sets: &[&str], env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("holdfast.toml");
        std::fs::write(&path, text).unwrap();
        let sets: Vec<_> = sets.iter().map(|set| (*set).to_owned()).collect();
        let env = env
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Config::load(Some(&path), &sets, env)
    }

    #[track_caller]
    fn refused(text: &str, sets: &[&str], env: &[(&str, &str)], expect: &[&str]) {
        let error = load(text, sets, env).unwrap_err().to_string();
        for part in expect {
            assert!(error.contains(part), "{error:?} lacks {part:?}");
        }
    }

    #[test]
    fn without_a_file_one_node_serves_localhost() {
        let config = Config::load(None, &[], []).unwrap();
        assert_eq!(config.domains(), ["localhost"]);
        assert_eq!(config.data_dir(), Path::new("data"));
        assert_eq!(
            config.storage.url(),
            &StorageUrl::Sqlite("data/holdfast.db".into())
        );
        assert!(config.cluster.is_none() && config.redis.is_none());
    }

    #[test]
    fn the_example_holds_every_key() {
        let config = load(EXAMPLE, &[], &[]).unwrap();
        assert_eq!(config.sm.hibernation_time.as_secs(), 300);
        assert_eq!(config.quotas, Quotas::default());
        assert_eq!(config.cluster.unwrap().node_id, Some(1));
        // A key that excludes another one stands there as a comment.
        let text = EXAMPLE.replace("# ", "");
        let mut section = "";
        let mut found = std::collections::BTreeSet::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                section = name;
            } else if let Some((key, _)) = line.split_once(" = ") {
                found.insert((section, key));
            }
        }
        let keys = keys::SECTIONS
            .iter()
            .flat_map(|(section, keys)| keys.iter().map(move |key| (*section, *key)));
        for key in keys.chain(keys::TOP.iter().map(|key| ("", *key))) {
            assert!(found.contains(&key), "{key:?}");
        }
    }

    #[test]
    fn quotas_are_bounded_on_both_sides() {
        for (key, one_less, one_more) in [
            ("roster_contacts", "0", "10001"),
            ("roster_bytes", "999", "409601"),
            ("vcard_bytes", "999", "262145"),
            ("queue_bytes", "65535", "1099511627777"),
            ("directed_presence", "0", "5001"),
        ] {
            for value in [one_less, one_more] {
                let set = format!("quotas.{key}={value}");
                refused("", &[&set], &[], &[&format!("quotas.{key}"), "between"]);
            }
        }
    }

    #[test]
    fn t_78_one_typo_in_any_line_is_refused_with_its_line_and_the_nearest_key() {
        for (index, line) in EXAMPLE.lines().enumerate() {
            let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) else {
                continue;
            };
            let wrong = line.replacen(key, &format!("{key}x"), 1);
            let text: Vec<_> = EXAMPLE
                .lines()
                .enumerate()
                .map(|(n, l)| if n == index { &wrong } else { l })
                .collect();
            refused(
                &text.join("\n"),
                &[],
                &[],
                &[&format!("line {}", index + 1), &format!("`{key}`")],
            );
        }
    }

    #[test]
    fn t_78_a_section_that_does_not_exist_is_refused() {
        refused("[smm]\nx = 1", &[], &[], &["line 1", "smm", "`sm`"]);
        refused("sm = 3", &[], &[], &["line 1", "sm"]);
    }

    #[test]
    fn flag_beats_environment_beats_file_beats_default() {
        let file =
            "[sm]\nmax_old_sessions = 1\nmax_hibernated_sessions = 1\nhibernation_time = '1s'";
        let env = [
            ("HOLDFAST_SM__MAX_OLD_SESSIONS", "2"),
            ("HOLDFAST_SM__MAX_HIBERNATED_SESSIONS", "2"),
        ];
        let config = load(file, &["sm.max_old_sessions=3"], &env).unwrap();
        assert_eq!(config.sm.max_old_sessions, 3);
        assert_eq!(config.sm.max_hibernated_sessions, 2);
        assert_eq!(config.sm.hibernation_time.as_secs(), 1);
        assert_eq!(config.sm.max_ack_delay.as_secs(), 60);
    }

    #[test]
    fn an_error_names_the_place_it_comes_from() {
        refused(
            "[sm]\n\nhibernation_time = 'soon'",
            &[],
            &[],
            &["line 3", "sm.hibernation_time", "soon"],
        );
        refused(
            "",
            &["sm.on_timeout=never"],
            &[],
            &["--set", "sm.on_timeout"],
        );
        refused(
            "",
            &[],
            &[("HOLDFAST_C2S__LISTEN", "x")],
            &["HOLDFAST_C2S__LISTEN"],
        );
        refused(
            "",
            &[],
            &[("HOLDFAST_SM__MAX_OLD", "1")],
            &["HOLDFAST_SM__MAX_OLD", "max_old_sessions"],
        );
        refused("a = [", &[], &[], &["line 1"]);
        refused("", &["sm"], &[], &["--set", "section.key=value"]);
    }

    #[test]
    fn variables_that_kubernetes_makes_up_are_not_ours() {
        let env = [
            ("HOLDFAST_SERVICE_HOST", "10.0.0.1"),
            ("HOLDFAST_PORT", "tcp://10.0.0.1:5222"),
        ];
        assert!(load("", &[], &env).is_ok());
    }

    #[test]
    fn paths_are_taken_from_the_directory_of_the_file() {
        let config = load(
            "data_dir = 'd'\n[tls]\ncertificate = 'c.pem'\nkey = '/k.pem'",
            &[],
            &[],
        )
        .unwrap();
        assert!(config.data_dir().is_absolute() && config.data_dir().ends_with("d"));
        assert!(config.tls.certificate.as_ref().unwrap().is_absolute());
        assert_eq!(config.tls.key.as_deref(), Some(Path::new("/k.pem")));
        let StorageUrl::Sqlite(file) = config.storage.url() else {
            panic!("not SQLite")
        };
        assert!(file.is_absolute() && file.ends_with("d/holdfast.db"));
    }

    #[test]
    fn what_would_end_every_connection_or_hide_the_log_is_refused() {
        for (set, part) in [
            ("c2s.idle_timeout=0s", "1s"),
            ("c2s.ping_timeout=0s", "1s"),
            ("sm.max_ack_delay=10ms", "1s"),
            ("log.level=zzz", "zzz"),
            ("log.level=node=loud", "loud"),
            ("log.level==info", "=info"),
            ("log.level=[=info", "[=info"),
            ("log.level=foo bar=info", "foo bar"),
        ] {
            refused("", &[set], &[], &[part, set.split('=').next().unwrap()]);
        }
        assert!(load("", &["log.level=info,node::session=debug"], &[]).is_ok());
    }

    #[test]
    fn a_relative_file_leads_to_the_same_places_as_an_absolute_one() {
        let mut storage = Storage::default();
        storage.anchor(Path::new("conf"), Path::new("conf/data"));
        let at = |path: &str| StorageUrl::Sqlite(path.into());
        assert_eq!(storage.url(), &at("conf/data/holdfast.db"));
        let mut storage = Storage::at(at("own.db"));
        storage.anchor(Path::new("conf"), Path::new("conf/data"));
        assert_eq!(storage.url(), &at("conf/own.db"));
    }

    #[test]
    fn a_cluster_refuses_sqlite_unless_all_its_addresses_are_loopback() {
        let cluster = |host: &str| {
            format!(
                "[cluster]\nnode_id = 1\nsecret_file = 's'\nlisten = '127.0.0.1:7400'\n\
                 peers = ['1@127.0.0.1:7400', '2@{host}:7401']"
            )
        };
        assert!(load(&cluster("localhost"), &[], &[]).is_ok());
        refused(&cluster("10.1.1.1"), &[], &[], &["storage.url", "postgres"]);
        assert!(
            load(
                &cluster("10.1.1.1"),
                &["storage.url=postgres://u:p@h/d"],
                &[]
            )
            .is_ok()
        );
    }

    #[test]
    fn t_71_a_redis_that_anyone_could_change_is_refused_without_repeating_its_url() {
        refused(
            "",
            &["redis.url=redis://far.example"],
            &[],
            &["redis.url", "password or TLS"],
        );
        let error = load("", &["redis.url=http://:hunter2@h"], &[]).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn t_73_no_secret_is_printed() {
        let config = load(
            "",
            &[
                "storage.url=postgres://u:hunter2@h/d",
                "redis.url=redis://:hunter2@h",
            ],
            &[],
        );
        assert!(!format!("{:?}", config.unwrap()).contains("hunter2"));
    }

    proptest::proptest! {
        #[test]
        fn t_78_no_file_makes_it_panic(text in "(\\[[a-z]{0,3}\\]|[a-z._]{0,4} = [\\['\"0-9a-z]{0,5}|\n| |.){0,20}") {
            drop(load(&text, &[], &[]));
        }

        #[test]
        fn t_78_no_flag_makes_it_panic(text in "[a-z]{0,3}\\.?[a-z0-9_]{0,8}=?.{0,10}") {
            drop(Config::load(None, &[text], []));
        }
    }
}
