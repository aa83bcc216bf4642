//! The command line: parses the arguments and calls what carries them out.
//!
//! Exit codes: 0 it worked, 1 it failed, 2 wrong usage (by clap).

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use proto::Jid;

use super::advice;
use super::check;
use super::client::{self, ApiRequest, Client, ClientError};
use super::dns;
use super::limits::LimitsCommand;
use super::recover::{self, RecoverOptions, RecoveryError};
use super::user::{self, UserCommand, UserError};
use crate::config::{Config, ConfigError};
use crate::demo::{self, DemoError, DemoOptions, Interrupted, orphan};
use crate::services;

/// The XMPP server that does not lose your session
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    source: Source,
    #[command(subcommand)]
    command: Command,
}

/// Where the configuration comes from.
#[derive(Clone, Debug, Args)]
struct Source {
    /// The configuration; without one: a single node, SQLite, a self-signed certificate, localhost
    #[arg(long, global = true, env = "HOLDFAST_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets one key, e.g. --set log.level=debug; may be repeated
    #[arg(long, global = true, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node
    Serve {
        /// For the demo: end when standard input does, and remove this directory then
        #[arg(long, hide = true, value_name = "DIR", num_args = 0..=1)]
        until_input_ends: Option<Option<PathBuf>>,
    },
    /// Run a cluster here, with clients that chat, and kill its nodes while they do
    Demo(DemoOptions),
    /// Check configuration, certificate, database, Redis and peers; exit 1 with what to do
    Check {
        /// Something else than all of that
        #[command(subcommand)]
        what: Option<CheckCommand>,
    },
    /// Accounts, straight in the configured database
    #[command(subcommand)]
    User(UserCommand),
    /// The nodes of the cluster, as a running node sees them; and disaster recovery
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Live and hibernated sessions, as a running node sees them
    #[command(subcommand)]
    Session(SessionCommand),
    /// How many sessions of an account may hibernate, and how many do
    #[command(subcommand)]
    Limits(LimitsCommand),
    /// Tell something to everybody who is online, once, also to those whose clients are away for a moment
    Announce {
        /// What
        text: String,
        /// Only to accounts of this domain; by default to those of all
        #[arg(long)]
        domain: Option<String>,
        /// The node that is asked
        #[command(flatten)]
        target: Target,
    },
    /// What became of a message: accepted, committed, archived, written, acknowledged; when and where
    Trace {
        /// Its archive id (the stanza-id), or the id that its sender gave it
        id: String,
        /// The node
        #[command(flatten)]
        target: Target,
    },
    /// Print a completion script, e.g. holdfast completions bash > /etc/bash_completion.d/holdfast
    Completions {
        /// The shell
        shell: Shell,
    },
}

impl Command {
    /// Names an argument about the configuration that was given to a command which reads none. A variable in the
    /// environment is meant for all commands, so it is no mistake.
    fn ignored(&self, source: &Source) -> Option<&'static str> {
        if !matches!(self, Self::Demo(_) | Self::Completions { .. }) {
            return None;
        }
        let everywhere = std::env::var_os("HOLDFAST_CONFIG").map(PathBuf::from);
        match source.config.is_some() && source.config != everywhere {
            true => Some("--config"),
            false => (!source.set.is_empty()).then_some("--set"),
        }
    }
}

/// The running node to ask, and the form of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Target {
    /// The node's admin address; by default the configured one
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The file with its token; by default the one in the configured data directory
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The commands about the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum ClusterCommand {
    /// Nodes, shards, leaders, lag and sessions
    Status(Target),
    /// Gives up a node that is away and will not come back as it was: others take its place
    Remove {
        /// Its number, `cluster.node_id`
        node: u64,
        /// The node that is asked
        #[command(flatten)]
        target: Target,
    },
    /// Takes a node out of service, which goes on running: it leads nothing, and its clients go elsewhere
    Drain {
        /// Its number, `cluster.node_id`
        node: u64,
        /// The node that is asked
        #[command(flatten)]
        target: Target,
    },
    /// Puts a drained node back into service, as a restart does too
    Undrain {
        /// Its number, `cluster.node_id`
        node: u64,
        /// The node that is asked
        #[command(flatten)]
        target: Target,
    },
    /// Disaster: makes this stopped node a cluster of its own, as most disks of its cluster are lost
    ///
    /// Says what is on this node's disk and exactly what may be lost, and changes nothing unless it is confirmed. Then
    /// this node alone votes in every shard, under a new cluster id: nodes with disks of the old cluster are refused from
    /// then on, and nodes with empty data directories join. Bring back a majority of the disks instead, if there is one.
    Recover(RecoverOptions),
}

/// What else can be checked.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum CheckCommand {
    /// Print the DNS records and web pages by which clients find this server, to compare with what is published
    Dns {
        /// The name by which clients reach the nodes, or the balancer in front of them; by default each domain itself
        #[arg(long, value_name = "NAME", value_parser = advice::host_name)]
        target: Option<String>,
    },
}

/// The commands about sessions.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum SessionCommand {
    /// All sessions, or those of one account
    List {
        /// The account
        jid: Option<String>,
        /// The node
        #[command(flatten)]
        target: Target,
    },
    /// One session: its queue, owner and epoch
    Show {
        /// The session's full JID
        jid: String,
        /// The node
        #[command(flatten)]
        target: Target,
    },
    /// End a session, or all of an account
    End {
        /// A full JID, or an account's
        jid: String,
        /// The node
        #[command(flatten)]
        target: Target,
    },
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    User(#[from] UserError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Serve(#[from] crate::serve::ServeError),
    #[error("see above")]
    Check,
    #[error(transparent)]
    Demo(#[from] DemoError),
    #[error("messages or sessions were lost, or messages duplicated or reordered")]
    Broken,
    #[error("interrupted")]
    Interrupted(Interrupted),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Recover(#[from] RecoveryError),
    #[error("{0:?} is not an address")]
    NotAnAddress(String),
    #[error("the node reaches no majority, so that nothing can be committed through it")]
    NoMajority,
}

/// Parses the command line and carries it out.
pub fn main() -> ExitCode {
    let Cli { source, command } = Cli::parse();
    if let Some(unused) = command.ignored(&source) {
        let why = format!("{unused} means nothing to this command, which reads no configuration");
        Cli::command()
            .error(ErrorKind::ArgumentConflict, why)
            .exit();
    }
    match run(&source, command) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our output has closed it, such as `head`.
        Err(Failure::Io(error) | Failure::User(UserError::Output(error)))
            if error.kind() == io::ErrorKind::BrokenPipe =>
        {
            ExitCode::SUCCESS
        }
        Err(Failure::Interrupted(interrupted)) => ExitCode::from(interrupted.exit_code()),
        Err(error) => {
            // If standard error is closed, there is nowhere to report it.
            drop(writeln!(io::stderr(), "holdfast: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(source: &Source, command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve { until_input_ends } => {
            if let Some(files) = until_input_ends {
                orphan::end_with_input(files);
            }
            let again = source.clone();
            let reload = Box::new(move || load(&again));
            Ok(crate::serve::run(load(source)?, reload)?)
        }
        Command::Demo(options) => demonstrate(&options),
        Command::Check {
            what: Some(CheckCommand::Dns { target }),
        } => {
            let config = load(source)?;
            Ok(dns::run(&config, target.as_deref(), &mut io::stdout())?)
        }
        Command::Check { what: None } => {
            let config = load(source)?;
            let works = runtime()?.block_on(check::run(&config, &mut io::stdout()))?;
            if works { Ok(()) } else { Err(Failure::Check) }
        }
        Command::User(command) => {
            let config = load(source)?;
            let now = crate::clock::now();
            Ok(runtime()?.block_on(user::run(&config, command, now, &mut io::stdout()))?)
        }
        Command::Cluster(command) => about_cluster(source, command),
        Command::Session(command) => {
            let (target, question) = question(command)?;
            ask(&load(source)?, &target, &question)
        }
        Command::Limits(command) => {
            let (target, question) = command.question(address)?;
            ask(&load(source)?, &target, &question)
        }
        Command::Announce {
            text,
            domain,
            target,
        } => ask(&load(source)?, &target, &ApiRequest::Announce(text, domain)),
        Command::Trace { id, target } => ask(&load(source)?, &target, &ApiRequest::Trace(id)),
        Command::Completions { shell } => {
            // The script is generated into memory, because the generator panics when it writes to a closed pipe.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "holdfast", &mut script);
            Ok(io::stdout().write_all(&script)?)
        }
    }
}

/// Runs the demo and prints its result. If a signal ended it, the exit code is the one that shells expect.
fn demonstrate(options: &DemoOptions) -> Result<(), Failure> {
    let ending = demo::run(options)?;
    let shown = io::stdout().write_all(ending.text(options.json)?.as_bytes());
    if shown.is_err() && ending.interrupted.is_none() {
        return Err(Failure::Interrupted(Interrupted::CLOSED));
    }
    match (ending.is_clean(), ending.interrupted) {
        (false, _) => Err(Failure::Broken),
        (true, Some(interrupted)) => Err(Failure::Interrupted(interrupted)),
        (true, None) => Ok(()),
    }
}

fn address(text: &str) -> Result<Jid, Failure> {
    Jid::new(text).map_err(|_| Failure::NotAnAddress(text.to_owned()))
}

/// Carries a cluster command out: all but one ask a running node.
fn about_cluster(source: &Source, command: ClusterCommand) -> Result<(), Failure> {
    let config = load(source)?;
    let (target, question) = match command {
        ClusterCommand::Status(target) => (target, ApiRequest::ClusterStatus),
        ClusterCommand::Remove { node, target } => (target, ApiRequest::ClusterRemove(node)),
        ClusterCommand::Drain { node, target } => (target, ApiRequest::ClusterDrain(node)),
        ClusterCommand::Undrain { node, target } => (target, ApiRequest::ClusterUndrain(node)),
        ClusterCommand::Recover(options) => {
            let mut out = io::stdout();
            let recovered = recover::run(&config, options, &mut out);
            return Ok(runtime()?.block_on(recovered)?);
        }
    };
    ask(&config, &target, &question)
}

/// Turns a session command into a request and the node to ask.
fn question(command: SessionCommand) -> Result<(Target, ApiRequest), Failure> {
    Ok(match command {
        SessionCommand::List { jid, target } => {
            let jid = jid.as_deref().map(address).transpose()?;
            (target, ApiRequest::SessionList(jid))
        }
        SessionCommand::Show { jid, target } => (target, ApiRequest::SessionShow(address(&jid)?)),
        SessionCommand::End { jid, target } => (target, ApiRequest::SessionEnd(address(&jid)?)),
    })
}

/// Asks a running node and prints its answer.
fn ask(config: &Config, target: &Target, question: &ApiRequest) -> Result<(), Failure> {
    let client = Client::choose(config, target.url.as_deref(), target.token_file.as_deref())?;
    let answer = runtime()?.block_on(client::answer(&client, question, target.json))?;
    io::stdout().write_all(answer.text.as_bytes())?;
    match answer.is_well {
        true => Ok(()),
        false => Err(Failure::NoMajority),
    }
}

fn load(source: &Source) -> Result<Config, ConfigError> {
    // Variables that are not Unicode are none of ours.
    let env = std::env::vars_os()
        .filter_map(|(key, value)| key.into_string().ok().zip(value.into_string().ok()));
    Config::load(
        &services::needs().tables,
        source.config.as_deref(),
        &source.set,
        env,
    )
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_surface_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_of_the_design_is_understood() {
        for line in [
            "holdfast serve --config x.toml --set sm.s2s=false --set log.level=debug",
            "holdfast demo --nodes 3 --clients 2 --duration 10s --kill-every 2s --json",
            "holdfast demo --nodes 5 --scale",
            "holdfast check --config x.toml",
            "holdfast check dns --config x.toml",
            "holdfast check dns --target xmpp.x",
            "holdfast user add a@x --password-stdin",
            "holdfast user passwd a@x",
            "holdfast user remove a@x --yes --config x.toml",
            "holdfast user disable a@x",
            "holdfast user enable a@x",
            "holdfast user list",
            "holdfast user list x --json",
            "holdfast user import f.csv",
            "holdfast user export a@x",
            "holdfast user export a@x --output f.xml --with-keys",
            "holdfast user invite",
            "holdfast user invite --name alice --ttl 12h --contact bob@x --json",
            "holdfast user invite --domain x",
            "holdfast user invitations --json",
            "holdfast user uninvite 0123",
            "holdfast cluster status --json --url http://h:1 --token-file t",
            "holdfast cluster remove 3 --json",
            "holdfast cluster drain 3",
            "holdfast cluster undrain 3 --url http://h:1 --token-file t",
            "holdfast cluster recover --config x.toml",
            "holdfast cluster recover --confirm",
            "holdfast cluster recover --confirm 00000000000000ab --config x.toml",
            "holdfast session list",
            "holdfast session show a@x/r",
            "holdfast session end a@x/r",
            "holdfast limits show a@x --json",
            "holdfast announce now --domain x --json",
            "holdfast trace 0190 --json",
            "holdfast limits set a@x --hibernated 3 --old default",
            "holdfast completions bash",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn wrong_usage_ends_with_2() {
        for line in [
            "holdfast",
            "holdfast serv",
            "holdfast user add",
            "holdfast limits set a@x",
            "holdfast limits set a@x --old many",
            "holdfast demo --duration soon",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
        assert_eq!(parse("holdfast --version").unwrap_err().exit_code(), 0);
    }

    #[test]
    fn t_73_a_password_is_no_argument() {
        assert!(parse("holdfast user add a@x secret").is_err());
        assert!(parse("holdfast user add a@x --password secret").is_err());
    }
}
