//! The demo's chat with a cluster that runs somewhere else, through its balancer. Whoever runs the cluster does with it
//! whatever its clients must not notice: a rollout, a lost machine, another number of nodes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::BareJid;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};
use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::balancer::Balancer;
use super::client::{self, Credentials};
use super::conversation::{Phase, Talk};
use super::interrupt::Interrupts;
use super::progress::Progress;
use super::{DemoError, DemoOptions, Ending};
use crate::admin::import;

/// A cluster that runs already.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Outside {
    /// Starts no nodes, and chats through this port of a running cluster, where TLS comes first
    #[arg(long, value_name = "HOST:PORT", required = false, requires_all = ["ca", "accounts"],
          conflicts_with_all = ["nodes", "scale", "kill_every", "keep"])]
    pub against: String,
    /// With --against: the certificates to trust, PEM
    #[arg(long, value_name = "FILE", required = false, requires = "against")]
    pub ca: PathBuf,
    /// With --against: accounts of that cluster, a file as for `user import`; each is one client
    #[arg(
        long,
        value_name = "FILE",
        required = false,
        requires = "against",
        conflicts_with = "clients"
    )]
    pub accounts: PathBuf,
}

/// Why there is no chat with a cluster that runs elsewhere.
#[derive(Debug, thiserror::Error)]
pub enum OutsideError {
    /// A file.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file with certificates.
    #[error("{}: {source}", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// A line of the file with accounts.
    #[error("{} line {number}: expected an account's JID, a comma and its password", path.display())]
    Account {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        number: usize,
    },
    /// Nobody could talk to anybody.
    #[error("{} must hold 2 to 1000 accounts", .0.display())]
    Number(PathBuf),
    /// The address.
    #[error("{address:?} cannot be found: {source}")]
    Address {
        /// As it was given.
        address: String,
        /// The error of the resolver.
        source: io::Error,
    },
}

impl Outside {
    async fn balancer(&self) -> Result<Balancer, OutsideError> {
        let failed = |source| OutsideError::Address {
            address: self.against.clone(),
            source,
        };
        let found = lookup_host(&self.against).await.map_err(failed)?.next();
        let address = found.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        Ok(Balancer::of_others(address))
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, DemoError> {
        let failed = |source| OutsideError::Certificates {
            path: self.ca.clone(),
            source,
        };
        let certificates = CertificateDer::pem_file_iter(&self.ca).map_err(failed)?;
        let certificates: Result<Vec<_>, _> = certificates.collect();
        Ok(client::trusting(certificates.map_err(failed)?)?)
    }

    fn credentials(&self) -> Result<Vec<Credentials>, OutsideError> {
        let path = &self.accounts;
        let text = fs::read_to_string(path).map_err(|source| OutsideError::Read {
            path: path.clone(),
            source,
        })?;
        let accounts = read(path, &text)?;
        match (2..=1000).contains(&accounts.len()) {
            true => Ok(accounts),
            false => Err(OutsideError::Number(path.clone())),
        }
    }
}

fn read(path: &Path, text: &str) -> Result<Vec<Credentials>, OutsideError> {
    let account = |(number, line): (usize, &str)| {
        let fields = import::fields(line).ok();
        let account = fields.and_then(|[jid, password]| {
            let jid = BareJid::new(jid.trim()).ok()?;
            Some(Credentials {
                username: jid.local()?.to_owned(),
                domain: jid.domain().to_owned(),
                password,
            })
        });
        let path = path.to_owned();
        account.ok_or(OutsideError::Account { path, number })
    };
    import::rows(text).map(account).collect()
}

/// Has the clients chat until the time is over, or until a signal.
pub(super) async fn play(options: &DemoOptions, outside: &Outside) -> Result<Ending, DemoError> {
    let progress = Progress::start();
    let mut interrupts = Interrupts::new(progress.closed())?;
    let accounts = outside.credentials()?;
    progress.event(&format!(
        "{} clients connect to {}",
        accounts.len(),
        outside.against
    ));
    let (balancer, tls) = (outside.balancer().await?, outside.tls()?);
    let talk = Arc::new(Talk::new(
        balancer,
        tls,
        (accounts, options.pace),
        progress,
    )?);
    let mut clients = JoinSet::new();
    tokio::select! {
        online = super::come_online(&talk, &mut clients) => online?,
        interrupted = interrupts.next() => {
            return Ok(Ending { report: None, interrupted: Some(interrupted) });
        }
    }
    talk.phase.send_replace(Phase::Talk);
    let interrupted = tokio::select! {
        () = sleep(options.duration) => None,
        () = super::watch_over(&talk) => None,
        Some(ended) = clients.join_next() => ended?.map(|()| None)?,
        interrupted = interrupts.next() => Some(interrupted),
    };
    super::finish(&talk, clients, &mut interrupts, interrupted).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_those_that_were_imported() {
        let read = |text: &str| super::read(Path::new("a.csv"), text);
        let two = read("jid,password\na@x,one\n\nB@x,\"t,wo\"\n").unwrap();
        let two: Vec<_> = two
            .iter()
            .map(|account| (account.username.as_str(), account.password.as_str()))
            .collect();
        assert_eq!(two, [("a", "one"), ("b", "t,wo")]);
        for wrong in ["a@x", "x,one"] {
            let text = format!("a@x,one\n{wrong}\n");
            let error = read(&text).err().unwrap();
            assert!(error.to_string().contains("a.csv line 2"), "{error}");
        }
    }
}
