//! Takes over what an operator changes in files while the node runs: the configuration, certificates, secrets.
//!
//! The files are looked at every second, so that a changed ConfigMap or Secret needs neither a signal nor a
//! restart. Orchestrators do not write into such a file: they turn a symbolic link above it to another directory. So it
//! is compared what each path leads to. A change is taken over once nothing has changed from one look to the next,
//! because a file may be written slowly, or its key after the certificate. What cannot be used is told once, and what
//! was in force stays. SIGHUP has everything read at once.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cluster::config::LinkAuth;
use tokio::signal::unix::{SignalKind, signal};

use crate::app::App;
use crate::config::{Config, ConfigError};
use crate::listen::tls::Certificates;
use crate::preflight;
use crate::serve::ServeError;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Reads the configuration anew.
pub type Reload = Box<dyn Fn() -> Result<Config, ConfigError>>;

/// What is taken over together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The configuration.
    Configuration,
    /// The certificate for clients.
    Certificate,
    /// By what nodes know each other.
    Cluster,
}

/// What tells a file from the one that was there before; none if there is no file.
type Print = Option<(u64, u64, i64, i64, u64)>;

fn print(file: &Path) -> Print {
    let found = std::fs::metadata(file).ok()?;
    let (device, inode) = (found.dev(), found.ino());
    Some((
        device,
        inode,
        found.ctime(),
        found.ctime_nsec(),
        found.len(),
    ))
}

/// The files of a part, as they were seen.
#[derive(Debug)]
struct Files {
    part: Part,
    paths: Vec<PathBuf>,
    /// At the last look.
    seen: Vec<Print>,
    /// When they were last read.
    read: Vec<Print>,
}

impl Files {
    fn new(part: Part, paths: Vec<PathBuf>) -> Self {
        let (seen, read) = (Vec::new(), Vec::new());
        let mut files = Self {
            part,
            paths,
            seen,
            read,
        };
        files.take();
        files
    }

    /// Takes them for read as they are now.
    fn take(&mut self) {
        self.seen = self.paths.iter().map(|path| print(path)).collect();
        self.read.clone_from(&self.seen);
    }

    /// Whether they have changed since they were last read, and do not change any more.
    fn look(&mut self) -> bool {
        let now: Vec<Print> = self.paths.iter().map(|path| print(path)).collect();
        let rests = now == self.seen;
        self.seen = now;
        let changed = rests && self.seen != self.read;
        if changed {
            self.read.clone_from(&self.seen);
        }
        changed
    }
}

/// The files from which a node has taken something.
#[derive(Debug)]
pub struct Watched(Vec<Files>);

impl Watched {
    /// The files of this configuration, as they are now.
    pub fn new(config: &Config) -> Self {
        let of = |files: &[&Option<PathBuf>]| files.iter().copied().flatten().cloned().collect();
        let cluster = config.cluster.as_ref().map(|cluster| {
            let files = [
                &cluster.secret_file,
                &cluster.ca,
                &cluster.certificate,
                &cluster.key,
            ];
            Files::new(Part::Cluster, of(&files))
        });
        let configuration = config.file().map(Path::to_path_buf).into_iter().collect();
        let certificate = of(&[&config.tls.certificate, &config.tls.key]);
        let others = [
            Files::new(Part::Configuration, configuration),
            Files::new(Part::Certificate, certificate),
        ];
        Self(others.into_iter().chain(cluster).collect())
    }

    fn all(&mut self) -> Vec<Part> {
        self.0.iter_mut().for_each(Files::take);
        self.0.iter().map(|files| files.part).collect()
    }

    fn changed(&mut self) -> Vec<Part> {
        let changed = self
            .0
            .iter_mut()
            .filter_map(|files| files.look().then_some(files.part));
        changed.collect()
    }
}

/// Takes over what changes, for as long as the node runs.
pub async fn run(app: Arc<App>, mut watched: Watched, reload: Reload) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        return;
    };
    loop {
        let parts = tokio::select! {
            _ = hangup.recv() => watched.all(),
            () = cluster::beat(LOOK) => watched.changed(),
        };
        for part in parts {
            match part {
                Part::Configuration => reconfigure(&app, &reload),
                Part::Certificate => match app.certificates.refresh() {
                    Ok(()) => announce_certificate(&app.certificates),
                    Err(error) => tracing::error!(%error, "the certificate in use stays"),
                },
                Part::Cluster => match know_each_other(&app) {
                    Ok(()) => {}
                    Err(error) => {
                        tracing::error!(%error, "what nodes know each other by stays");
                    }
                },
            }
        }
    }
}

/// Reads the configuration again. If it is refused nothing changes.
fn reconfigure(app: &App, reload: &Reload) {
    match reload() {
        Ok(fresh) => {
            let waiting = app.live.reload(&fresh);
            let now = app.live.get();
            app.cluster.set_settings(preflight::shard_settings(&now));
            if let Some(cluster) = &now.cluster {
                app.cluster.set_patience(cluster.patience());
            }
            tracing::info!("the configuration was read again");
            for section in waiting {
                tracing::warn!(section, "something has changed here that needs a restart");
            }
        }
        Err(error) => tracing::error!(%error, "the configuration in force stays"),
    }
}

/// Reads the cluster's secrets or certificates again.
fn know_each_other(app: &App) -> Result<(), ServeError> {
    let Some(section) = &app.config.cluster else {
        return Ok(());
    };
    let auth = preflight::link_auth(section)?;
    auth.check()?;
    app.cluster.set_auth(&auth)?;
    match auth {
        LinkAuth::Secrets(all) => {
            tracing::info!(secrets = all.len(), "the cluster's secrets were read again");
        }
        LinkAuth::Certificates { .. } => {
            tracing::info!("the cluster's certificates were read again");
        }
    }
    Ok(())
}

/// Tells which certificate clients see, and what is wrong with it.
pub fn announce_certificate(certificates: &Certificates) {
    let file = certificates.file().display();
    let current = certificates.current();
    let verdict = current.verdict();
    let end = verdict.end.as_deref().unwrap_or("unknown");
    tracing::info!(certificate = %file, valid_until = end, "certificate");
    for fault in &verdict.faults {
        tracing::warn!(certificate = %file, "{fault}");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_change_is_seen_once_and_only_when_it_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "one").unwrap();
        let mut files = Files::new(Part::Cluster, vec![file.clone()]);
        assert!(!files.look());
        std::fs::write(&file, "half of tw").unwrap();
        assert!(!files.look(), "it may still be written");
        std::fs::write(&file, "half of two").unwrap();
        assert!(!files.look());
        assert!(files.look());
        assert!(!files.look());
        std::fs::remove_file(&file).unwrap();
        assert!(!files.look());
        assert!(files.look(), "that it is gone is a change as well");
    }

    #[test]
    fn a_link_above_the_file_that_leads_elsewhere_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for version in ["v1", "v2"] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("file"), "as long").unwrap();
        }
        symlink("v1", at("data")).unwrap();
        symlink("data/file", at("file")).unwrap();
        let mut files = Files::new(Part::Cluster, vec![at("file")]);
        symlink("v2", at("data.new")).unwrap();
        std::fs::rename(at("data.new"), at("data")).unwrap();
        assert!(!files.look());
        assert!(files.look());
    }
}
