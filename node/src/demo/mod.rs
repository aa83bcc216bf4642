//! `holdfast demo`: the whole promise in one command.
//!
//! It runs real nodes on loopback, a balancer without affinity, and clients that chat with stream management, while it
//! kills one node after the other with `kill -9`, and if asked has nodes join and leave. At the end every message is
//! accounted for.
//!
//! The parts serve tests as well: [`nodes`], [`balancer`], [`client`] with [`session`], and [`tally`].

pub mod balancer;
pub mod client;
pub(crate) mod conversation;
mod interrupt;
pub mod nodes;
mod options;
pub(crate) mod orphan;
mod outside;
pub(crate) mod progress;
mod scale;
pub mod session;
mod strike;
pub mod tally;

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use proto::BareJid;
use proto::sasl::{Digest, ScramKeys};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

pub use options::{BadOptions, DemoOptions};
pub use outside::{Outside, OutsideError};

use crate::clock;
use crate::config::StorageUrl;
use crate::services;
use crate::storage::{AccountKeys, Storage, StorageError};
use balancer::Balancer;
use client::Credentials;
use conversation::{Phase, Talk};
pub use interrupt::Interrupted;
use interrupt::Interrupts;
use nodes::{DOMAIN, NodeError, Nodes};
use progress::Progress;
pub use scale::ScaleError;
use session::SessionError;
use strike::Striker;
use tally::Report;

/// How long a node may take to become ready.
const START: Duration = Duration::from_secs(60);
/// How long clients may take to log in.
const GATHER: Duration = Duration::from_secs(30);
/// How long messages may take to arrive at the end.
const SETTLE: Duration = Duration::from_secs(30);
/// How often it is checked whether what has to come has come.
const GLANCE: Duration = Duration::from_millis(20);
/// How long to wait for duplicates at the end.
const LINGER: Duration = Duration::from_millis(500);
/// Passwords are random here, so that one round would do; the standard asks for this many.
const ITERATIONS: u32 = 4096;
/// The keys for `[c2s]`: the balancer passes on the clients' addresses, which differ, so no limit has to be turned off.
const CONFIGURATION: &str = "proxy_protocol = true\ntrusted_proxies = [\"127.0.0.1/32\"]\n";

/// Why the demo did not come to an end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Options that cannot work.
    #[error(transparent)]
    Options(#[from] BadOptions),
    /// A node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A cluster that runs elsewhere.
    #[error(transparent)]
    Outside(#[from] OutsideError),
    /// The accounts cannot be made.
    #[error("cannot make the accounts: {0}")]
    Accounts(#[from] StorageError),
    /// A client's session.
    #[error("a client failed: {0}")]
    Client(#[from] SessionError),
    /// The cluster does not do what it should with nodes that come or go.
    #[error("{0}")]
    Scale(#[from] ScaleError),
    /// The clients did not come online in time.
    #[error("the clients did not come online, or not see each other, in {} s", GATHER.as_secs())]
    Gather,
    /// TLS for the clients.
    #[error("cannot use the nodes' certificate: {0}")]
    Tls(#[from] rustls::Error),
    /// The histogram of times.
    #[error("cannot measure: {0}")]
    Measure(#[from] hdrhistogram::CreationError),
    /// Files, sockets and threads of this process.
    #[error("{0}")]
    Process(#[from] io::Error),
    /// A task has panicked.
    #[error("a client broke: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// How a demo went.
#[derive(Debug)]
pub struct Ending {
    /// What became of the messages; nothing if it was stopped before that was known.
    pub report: Option<Report>,
    /// Set if it was ended early.
    pub interrupted: Option<Interrupted>,
}

impl Ending {
    /// Whether no message was lost, duplicated or reordered, and no session was lost.
    pub fn is_clean(&self) -> bool {
        self.report.as_ref().is_none_or(Report::is_clean)
    }

    /// What is shown at the end.
    pub fn text(&self, json: bool) -> io::Result<String> {
        let Some(report) = &self.report else {
            return Ok(String::new());
        };
        Ok(match json {
            true => serde_json::to_string(report).map_err(io::Error::other)? + "\n",
            false => format!("\n{report}"),
        })
    }
}

/// Runs the demo. Whatever ends it, its nodes are gone afterwards, and so are their files if all is well or if it was
/// killed.
pub fn run(options: &DemoOptions) -> Result<Ending, DemoError> {
    options.check()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    if let Some(outside) = &options.outside {
        return runtime.block_on(outside::play(options, outside));
    }
    let dir = tempfile::Builder::new()
        .prefix("holdfast-demo-")
        .tempdir()?;
    let result = runtime.block_on(async {
        let mut nodes = Nodes::prepare_to_grow(
            dir.path(),
            &std::env::current_exe()?,
            (options.founders(), options.nodes),
            CONFIGURATION,
        )?;
        if !options.keep {
            nodes.remove_with_us();
        }
        let played = play(options, &mut nodes).await;
        nodes.stop().await;
        played
    });
    let clean = result.as_ref().is_ok_and(Ending::is_clean);
    if options.keep || !clean {
        let kept = dir.keep();
        // If standard error is closed, there is nowhere to report it.
        drop(writeln!(
            io::stderr(),
            "Configurations and logs are kept in {}",
            kept.display()
        ));
    }
    result
}

async fn play(options: &DemoOptions, nodes: &mut Nodes) -> Result<Ending, DemoError> {
    let progress = Progress::start();
    let mut interrupts = Interrupts::new(progress.closed())?;
    let count = options.founders();
    let start = match count {
        1 => "one node starts".to_owned(),
        _ => format!("{count} nodes start"),
    };
    let clients = options.clients;
    progress.event(&format!(
        "{start}, with {clients} clients behind a balancer"
    ));
    let mut clients = JoinSet::new();
    let talk = tokio::select! {
        talk = gather(options, nodes, progress, &mut clients) => talk?,
        interrupted = interrupts.next() => {
            return Ok(Ending { report: None, interrupted: Some(interrupted) });
        }
    };
    talk.phase.send_replace(Phase::Talk);
    let interrupted = tokio::select! {
        result = go_through(nodes, &talk, options) => result.map(|()| None)?,
        () = watch_over(&talk) => None,
        Some(ended) = clients.join_next() => ended?.map(|()| None)?,
        interrupted = interrupts.next() => Some(interrupted),
    };
    if interrupted.is_some() {
        nodes.start_all()?;
    }
    finish(&talk, clients, &mut interrupts, interrupted).await
}

/// Ends the chat and sums it up.
async fn finish(
    talk: &Talk,
    mut clients: JoinSet<Result<(), SessionError>>,
    interrupts: &mut Interrupts,
    interrupted: Option<Interrupted>,
) -> Result<Ending, DemoError> {
    if interrupted.is_some() {
        let text = "interrupted: what is under way may arrive; once more to stop at once";
        talk.progress.event(text);
    }
    // After an interrupt only a second one skips this.
    tokio::select! {
        () = settle(talk) => {}
        _ = interrupts.next(), if interrupted != Some(Interrupted::CLOSED) => {
            talk.progress.event("stopped: what was under way is not counted");
            return Ok(Ending { report: None, interrupted });
        }
    }
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    let report = Some(talk.tally().report());
    Ok(Ending {
        report,
        interrupted,
    })
}

/// Starts the nodes and has all clients come online.
async fn gather(
    options: &DemoOptions,
    nodes: &mut Nodes,
    progress: Progress,
    clients: &mut JoinSet<Result<(), SessionError>>,
) -> Result<Arc<Talk>, DemoError> {
    let accounts = make_accounts(nodes, options.clients).await?;
    nodes.start_all()?;
    for index in nodes.members() {
        nodes.ready(index, START).await?;
    }
    let balancer = Balancer::start_proxy(nodes.backends()).await?;
    let tls = client::trusting([nodes.certificate()])?;
    let talk = Arc::new(Talk::new(
        balancer,
        tls,
        (accounts, options.pace),
        progress,
    )?);
    // Else all clients would go to the node that the balancer has found first.
    let found = async {
        let members = nodes.members();
        while !members.iter().all(|node| talk.balancer.is_well(*node)) {
            sleep(GLANCE).await;
        }
    };
    let found = timeout(GATHER, found).await;
    found.map_err(|_| DemoError::Gather)?;
    come_online(&talk, clients).await?;
    Ok(talk)
}

/// Has all clients log in, and waits until they are online and see each other.
async fn come_online(
    talk: &Arc<Talk>,
    clients: &mut JoinSet<Result<(), SessionError>>,
) -> Result<(), DemoError> {
    let count = talk.accounts.len();
    for me in 0..count {
        clients.spawn(conversation::client(talk.clone(), me));
    }
    let mut online = talk.online.subscribe();
    tokio::select! {
        gathered = timeout(GATHER, async {
            online.wait_for(|online| *online == count).await?;
            talk.phase.send_replace(Phase::Meet);
            while !talk.tally().are_acquainted() {
                sleep(GLANCE).await;
            }
            Ok::<_, watch::error::RecvError>(())
        }) => {
            gathered.map_err(|_| DemoError::Gather)?.map_err(io::Error::other)?;
        }
        Some(ended) = clients.join_next() => ended??,
    }
    talk.progress.event("everyone is online, and talks");
    Ok(())
}

/// Makes accounts directly in the database, as `holdfast user add` does.
pub async fn make_accounts(nodes: &Nodes, count: usize) -> Result<Vec<Credentials>, DemoError> {
    let storage = Storage::open(
        &StorageUrl::Sqlite(nodes.database()),
        &services::needs().schema,
    )
    .await?;
    let now = clock::now();
    let mut accounts = Vec::new();
    for number in 1..=count {
        let username = format!("client-{number}");
        let password = clock::hex::<16>();
        let salt = clock::bytes::<16>();
        let keys = |digest| Some(ScramKeys::derive(digest, &password, &salt, ITERATIONS));
        let keys = AccountKeys {
            sha1: keys(Digest::Sha1),
            sha256: keys(Digest::Sha256),
            sha512: keys(Digest::Sha512),
        };
        let jid = BareJid::from_parts(Some(&username), DOMAIN).map_err(io::Error::other)?;
        storage.create_account(&jid, &keys, now).await?;
        accounts.push(Credentials {
            username,
            domain: DOMAIN.to_owned(),
            password,
        });
    }
    storage.close().await;
    Ok(accounts)
}

/// Has the nodes go through what they are to go through, until the time is over.
async fn go_through(
    nodes: &mut Nodes,
    talk: &Talk,
    options: &DemoOptions,
) -> Result<(), DemoError> {
    let end = clock::timer() + options.duration;
    let mut striker = Striker::new(options.kill_every);
    if options.scale {
        scale::grow_and_shrink(nodes, talk, &mut striker, options.duration).await?;
    }
    striker.until(end, nodes, talk).await
}

/// Prints a line each second, for ever.
async fn watch_over(talk: &Talk) {
    loop {
        sleep(Duration::from_secs(1)).await;
        let report = talk.tally().report();
        let nodes = 0..talk.balancer.len();
        let well: String = nodes
            .map(|node| {
                if talk.balancer.is_well(node) {
                    '+'
                } else {
                    '-'
                }
            })
            .collect();
        // Of a cluster that runs elsewhere nothing is known.
        let nodes = match well.is_empty() {
            true => String::new(),
            false => format!("nodes {well}  "),
        };
        talk.progress.event(&format!(
            "{nodes}sent {}  acknowledged {}  delivered {}  duplicated {}  reordered {}  kills {}  resumes {}",
            report.sent,
            report.acknowledged,
            report.delivered,
            report.duplicated,
            report.reordered,
            report.kills,
            report.resumes,
        ));
    }
}

/// Ends the chat: clients stop sending, wait for what is under way, and log out.
async fn settle(talk: &Talk) {
    talk.phase.send_replace(Phase::Settle);
    let deadline = clock::timer() + SETTLE;
    while !talk.tally().is_settled() && clock::timer() < deadline {
        sleep(GLANCE).await;
    }
    sleep(LINGER).await;
    talk.phase.send_replace(Phase::Leave);
}
