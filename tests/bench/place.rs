//! Where a bench takes place: nodes of its own, or a server that is there already.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use node::admin::request::Method;
use node::demo::client::{Connection, Credentials, trusting};
use node::demo::make_accounts;
use node::demo::nodes::Nodes;
use node::demo::session::Session;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tests::process::binary;
use tokio::net::lookup_host;
use tokio::task::JoinSet;

use crate::Failure;
use crate::usage::Usage;

/// What the machine can do is measured, and all clients come from one address at once.
const LIMITS: &str = "[limits]\nconnections_per_address = 0\nstanzas_per_second = 0\n\
    bytes_per_second = 0\nsessions_per_account = 10000\n";
/// How long a node may take to be ready.
const START: Duration = Duration::from_secs(60);
/// How many clients log in at a time.
const AT_A_TIME: usize = 16;

/// Which servers are measured.
#[derive(Args, Clone)]
pub struct Where {
    /// How many nodes of Holdfast to start
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub nodes: u8,
    /// Have the archive keep all messages; with --at this is that server's to do, and only told
    #[arg(long)]
    pub archive: bool,
    /// Run the servers on these cores and the clients on the others, e.g. 0 or 0-2; with --at the server must be there already
    #[arg(long, value_name = "CORES")]
    pub cores: Option<String>,
    /// Start no nodes, and measure a server that listens here, with TLS from the first byte
    #[arg(long, value_name = "HOST:PORT", requires_all = ["pid", "ca", "accounts"], conflicts_with = "nodes")]
    pub at: Option<String>,
    /// With --at: the processes of that server; once for each
    #[arg(long, value_name = "PID", requires = "at")]
    pub pid: Vec<u32>,
    /// With --at: the certificates to trust, PEM
    #[arg(long, value_name = "FILE", requires = "at")]
    pub ca: Option<PathBuf>,
    /// With --at: accounts of that server, each line JID,PASSWORD
    #[arg(long, value_name = "FILE", requires = "at")]
    pub accounts: Option<PathBuf>,
}

impl Where {
    /// The begin of a bench's line.
    pub fn line(&self, bench: &str) -> Map<String, Value> {
        let mut line = Map::new();
        line.insert("bench".into(), json!(bench));
        match &self.at {
            Some(at) => line.insert("at".into(), json!(at)),
            None => line.insert("nodes".into(), json!(self.nodes)),
        };
        line.insert("archive".into(), json!(self.archive));
        if let Some(cores) = &self.cores {
            line.insert("cores".into(), json!(cores));
        }
        line
    }
}

/// Some servers and what clients need to log in there.
pub struct Place {
    /// Where they log in.
    pub addresses: Vec<SocketAddr>,
    /// Who logs in.
    pub accounts: Vec<Credentials>,
    tls: Arc<ClientConfig>,
    nodes: Option<Nodes>,
    pids: Vec<u32>,
    _dir: Option<TempDir>,
}

impl Place {
    /// Starts what was asked for, with so many accounts. `extra` is added to the nodes' configuration.
    pub async fn prepare(asked: &Where, accounts: usize, extra: &str) -> Result<Self, Failure> {
        match &asked.at {
            Some(at) => Self::outside(asked, at, accounts).await,
            None => Self::inside(asked, accounts, extra).await,
        }
    }

    async fn inside(asked: &Where, accounts: usize, extra: &str) -> Result<Self, Failure> {
        let dir = tempfile::tempdir()?;
        let server = match &asked.cores {
            Some(cores) => pinned(dir.path(), cores)?,
            None => binary(),
        };
        let keep = if asked.archive { "always" } else { "never" };
        let config = format!("{LIMITS}[archive]\ndefault = \"{keep}\"\n{extra}");
        let mut nodes = Nodes::prepare(dir.path(), &server, asked.nodes.into(), &config)?;
        nodes.remove_with_us();
        let accounts = make_accounts(&nodes, accounts).await?;
        nodes.start_all()?;
        let mut place = Self {
            addresses: nodes.backends().iter().map(|b| b.clients).collect(),
            accounts,
            tls: whole_handshakes([nodes.certificate()])?,
            nodes: Some(nodes),
            pids: Vec::new(),
            _dir: Some(dir),
        };
        place.wait().await?;
        Ok(place)
    }

    async fn outside(asked: &Where, at: &str, count: usize) -> Result<Self, Failure> {
        // The arguments are required together.
        let (Some(ca), Some(file)) = (&asked.ca, &asked.accounts) else {
            return Err("--at needs --ca and --accounts".into());
        };
        let found = lookup_host(at).await;
        let found = found.map_err(|error| format!("--at {at}: {error}"))?.next();
        let certificates = CertificateDer::pem_file_iter(ca)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| format!("--ca {}: {error}", ca.display()))?;
        let mut accounts = read_accounts(file)?;
        if accounts.len() < count {
            let (file, there) = (file.display(), accounts.len());
            return Err(format!("{file} has {there} accounts, and this takes {count}").into());
        }
        accounts.truncate(count);
        Ok(Self {
            addresses: vec![found.ok_or_else(|| format!("--at {at}: no such host"))?],
            accounts,
            tls: whole_handshakes(certificates)?,
            nodes: None,
            pids: asked.pid.clone(),
            _dir: None,
        })
    }

    async fn wait(&mut self) -> Result<(), Failure> {
        if let Some(nodes) = &mut self.nodes {
            for index in 0..nodes.len() {
                nodes.ready(index, START).await?;
            }
            self.pids = (0..nodes.len())
                .filter_map(|index| nodes.pid(index))
                .collect();
        }
        Ok(())
    }

    /// Kills our own nodes and starts them again. Of a server that was there already this is not ours to do.
    pub async fn restart(&mut self) -> Result<bool, Failure> {
        let Some(nodes) = &mut self.nodes else {
            return Ok(false);
        };
        nodes.stop().await;
        nodes.start_all()?;
        self.wait().await?;
        Ok(true)
    }

    /// The database of our own nodes, which have read nothing from it that is not there yet.
    pub fn database(&self) -> Result<PathBuf, Failure> {
        let nodes = self
            .nodes
            .as_ref()
            .ok_or("this fills the database, so not with --at")?;
        Ok(nodes.database())
    }

    /// The processes.
    pub fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// Their counters now.
    pub async fn usage(&self) -> Result<Usage, Failure> {
        let mut syncs = None;
        if let Some(nodes) = &self.nodes {
            for index in 0..nodes.len() {
                let answer = nodes.ask(index, Method::Get, "/metrics").await?;
                let text = String::from_utf8_lossy(&answer.body);
                let lines = text.lines();
                let counts =
                    lines.filter_map(|line| line.strip_prefix("holdfast_fsync_seconds_count "));
                let counts = counts.filter_map(|count| count.trim().parse::<u64>().ok());
                syncs = Some(syncs.unwrap_or(0) + counts.sum::<u64>());
            }
        }
        Usage::read(&self.pids, syncs)
    }

    /// Connects and logs in, without a session.
    pub async fn connect(&self, server: usize, account: usize) -> Result<Connection, Failure> {
        let address = self.addresses[server % self.addresses.len()];
        let account = &self.accounts[account];
        let mut connection = Connection::open_tls(address, &account.domain, &self.tls).await?;
        connection.login(account).await?;
        Ok(connection)
    }

    /// Connects, and says nothing yet; with whose connection it is to be.
    pub async fn open(&self, account: usize) -> Result<(Connection, &Credentials), Failure> {
        let address = self.addresses[account % self.addresses.len()];
        let account = &self.accounts[account];
        let connection = Connection::open_tls(address, &account.domain, &self.tls).await?;
        Ok((connection, account))
    }

    /// A client that is online, with stream management.
    pub async fn client(
        &self,
        server: usize,
        account: usize,
    ) -> Result<(Connection, Session), Failure> {
        let mut connection = self.connect(server, account).await?;
        let session = Session::start(&mut connection, None).await?;
        Ok((connection, session))
    }

    /// A client for each of these accounts, in their order, spread over the servers.
    pub async fn clients(
        self: &Arc<Self>,
        accounts: std::ops::Range<usize>,
    ) -> Result<Vec<(Connection, Session)>, Failure> {
        let mut opening = JoinSet::new();
        let mut open = Vec::new();
        for account in accounts {
            let place = self.clone();
            opening.spawn(async move {
                let client = place.client(account, account).await?;
                Ok::<_, Failure>((account, client))
            });
            if opening.len() >= AT_A_TIME {
                open.extend(opening.join_next().await.transpose()?.transpose()?);
            }
        }
        while let Some(done) = opening.join_next().await {
            open.push(done??);
        }
        open.sort_by_key(|(account, _)| *account);
        Ok(open.into_iter().map(|(_, client)| client).collect())
    }
}

/// TLS that trusts these certificates and makes every handshake in full: which tickets a server hands out, and when,
/// would else decide what a login costs.
pub fn whole_handshakes(
    certificates: impl IntoIterator<Item = CertificateDer<'static>>,
) -> Result<Arc<ClientConfig>, Failure> {
    let mut tls = ClientConfig::clone(&*trusting(certificates)?);
    tls.resumption = Resumption::disabled();
    Ok(Arc::new(tls))
}

/// Moves this process to the cores that are not in a list like 0-2,5.
pub fn leave(list: &str) -> Result<(), Failure> {
    let range = |part: &str| -> Option<RangeInclusive<usize>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    let all = std::thread::available_parallelism()?.get();
    let wrong = || {
        format!(
            "--cores {list}: expected some of the cores 0 to {}, e.g. 0 or 0-2, and not all",
            all - 1
        )
    };
    let named: Option<Vec<_>> = list.split(',').map(range).collect();
    let named: BTreeSet<usize> = named.into_iter().flatten().flatten().collect();
    let others: Vec<String> = (0..all)
        .filter(|core| !named.contains(core))
        .map(|core| core.to_string())
        .collect();
    if named.is_empty() || named.last() >= Some(&all) || others.is_empty() {
        return Err(wrong().into());
    }
    let own = std::process::id().to_string();
    let mut taskset = Command::new("taskset");
    let done = taskset.args(["-cp", &others.join(","), &own]).output()?;
    match done.status.success() {
        true => Ok(()),
        false => Err(wrong().into()),
    }
}

/// A command that runs our server on some cores. It sees no others, so that it also sizes its threads by them.
fn pinned(dir: &Path, list: &str) -> Result<PathBuf, Failure> {
    let path = dir.join("holdfast-pinned");
    let server = binary();
    let server = server.to_str().ok_or("the path of holdfast is not UTF-8")?;
    let quoted = server.replace('\'', "'\\''");
    let script = format!("#!/bin/sh\nexec taskset -c {list} '{quoted}' \"$@\"\n");
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
    Ok(path)
}

fn read_accounts(file: &Path) -> Result<Vec<Credentials>, Failure> {
    let name = file.display();
    let text = fs::read_to_string(file).map_err(|error| format!("--accounts {name}: {error}"))?;
    let lines = text.lines().filter(|line| !line.is_empty()).enumerate();
    let accounts = lines.map(|(number, line)| {
        let parts = line.split_once(',').and_then(|(jid, password)| {
            let (username, domain) = jid.split_once('@')?;
            Some(Credentials {
                username: username.to_owned(),
                domain: domain.to_owned(),
                password: password.to_owned(),
            })
        });
        parts.ok_or_else(|| format!("{name} line {}: expected JID,PASSWORD", number + 1).into())
    });
    accounts.collect()
}
