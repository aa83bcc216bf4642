//! What Holdfast costs: real processes, real clients, TLS, stream management, and each acknowledged stanza on disk.
//!
//! ```sh
//! cargo build --locked --release --workspace --bins   # once; all below is `target/release/bench`
//! bench chat                           # messages at full speed: 200 sessions, 4 on their way each, one node
//! bench chat --rate 500                # so many messages a second, whatever the server does; p50, p99
//! bench chat --nodes 3 --archive --to full
//! bench idle --sessions 5000           # memory of sessions that do nothing, and the processor time of their node
//! bench login                          # TLS handshake in full, SCRAM, bind, stream management, presence
//! bench resume --nodes 3               # clients that lose their connection while all chat, and come back
//! bench token                          # the same with a token instead of the password, beside logins
//! bench roster                         # changes of status, each for 20 contacts
//! bench big contacts                   # one large account beside one of a tenth: contacts, pubsub, blocked, resources
//! bench big archive                    # pages of, and messages into, an archive of 10^6 messages beside one of 10^3
//! bench mam                            # pages of 50 out of archives, right after a burst and of a fresh server
//! bench kill                           # kill -9 under load: this is `holdfast demo --json`
//! bench floor                          # the same generator through a relay that does nothing but TLS
//! tests/bench/peers                    # all that beside ejabberd and Prosody
//! ```
//!
//! Each prints one line of JSON; `bench BENCH --help` explains the options. Without `--at` it starts nodes of the
//! `holdfast` that was built beside it (or `HOLDFAST_BIN`) in a directory of their own. With `--at HOST:PORT --pid PID --ca
//! FILE --accounts FILE` the same clients measure a server that is there already, whichever it is.
//!
//! What a line holds: `cpu_us_per_…` is the processor time (user and system) of all processes of the servers and of
//! nobody else, for each message, login, change or page's message; `wakeups_per_…` counts how often one of their threads
//! slept and was woken (voluntary context switches); `syncs_per_…` the syncs of the replicated log, as the nodes count
//! them; `written_bytes_per_…` is what they handed to the system to write, to files and to sockets (the floor's are to
//! sockets only); `memory_mib` is their PSS. `lost`, `doubled` and `reordered` follow from numbers in the messages,
//! `refused` counts those that came back as errors. Rows of the archive may be written behind the messages:
//! `cpu_us_per_message_to_the_end` also counts what the servers do in the three seconds after the last one.
//!
//! An open loop (`--rate`) counts from when a message was due and not from when it was sent, so that a server which
//! stands still is charged for the messages that had to wait for it (no coordinated omission). How late the generator
//! itself was is `generator_late_…`. With `--cores 0` servers run on core 0 and the generator on the others: without,
//! they take time and caches from each other. On a machine with other work only processor time can be compared.

mod big;
mod chat;
mod client;
mod floor;
mod idle;
mod mam;
mod order;
mod place;
mod roster;
mod talk;
mod token;
mod usage;

use std::error::Error;
use std::process::{Command, ExitCode};

use clap::{Args, Parser};
use tests::process::binary;

/// What goes wrong ends the bench, and is told.
type Failure = Box<dyn Error + Send + Sync>;

/// Measures Holdfast, or another server; each bench prints one line of JSON
#[derive(Parser)]
#[command(name = "bench")]
enum Bench {
    /// Messages between clients that are online
    Chat(chat::Chat),
    /// The same through a relay that does nothing but TLS
    Floor(chat::Chat),
    /// Sessions that do nothing
    Idle(idle::Idle),
    /// Logins, each with a whole TLS handshake
    Login(idle::Login),
    /// Clients that come back while all chat
    Resume(chat::Resume),
    /// Clients that come back with a token, in one round trip, beside logins
    Token(token::Token),
    /// Changes of status
    Roster(roster::Roster),
    /// Large accounts beside smaller ones
    Big(big::Big),
    /// Pages of archives
    Mam(mam::Mam),
    /// Nodes that are killed under load: `holdfast demo --json`, with its options
    Kill(Kill),
    /// What `bench floor` starts
    #[command(hide = true)]
    Relay(floor::Relay),
}

#[derive(Args)]
struct Kill {
    /// More options of `holdfast demo`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

fn main() -> ExitCode {
    let bench = Bench::parse();
    match run(bench) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(bench: Bench) -> Result<ExitCode, Failure> {
    let bench = match bench {
        Bench::Relay(relay) => {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build()?.block_on(relay.run())?;
            return Ok(ExitCode::SUCCESS);
        }
        Bench::Kill(kill) => {
            let mut demo = Command::new(binary());
            let status = demo.args(["demo", "--json"]).args(kill.options).status()?;
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
        }
        other => other,
    };
    bench.leave_cores()?;
    let runtime = tokio::runtime::Runtime::new()?;
    println!("{}", runtime.block_on(bench.measure())?);
    Ok(ExitCode::SUCCESS)
}

impl Bench {
    async fn measure(self) -> Result<serde_json::Value, Failure> {
        match self {
            Self::Chat(chat) => chat.run().await,
            Self::Floor(chat) => floor::run(chat).await,
            Self::Idle(idle) => idle.run().await,
            Self::Login(login) => login.run().await,
            Self::Resume(resume) => resume.run().await,
            Self::Token(token) => token.run().await,
            Self::Roster(roster) => roster.run().await,
            Self::Big(big) => big.run().await,
            Self::Mam(mam) => mam.run().await,
            Self::Kill(_) | Self::Relay(_) => Err("this measures nothing".into()),
        }
    }

    fn place(&self) -> Option<&place::Where> {
        match self {
            Self::Chat(chat) | Self::Floor(chat) => Some(&chat.place),
            Self::Idle(idle) => Some(&idle.place),
            Self::Login(login) => Some(&login.place),
            Self::Resume(resume) => Some(&resume.place),
            Self::Token(token) => Some(&token.place),
            Self::Roster(roster) => Some(&roster.place),
            Self::Big(big) => Some(&big.place),
            Self::Mam(mam) => Some(&mam.place),
            Self::Kill(_) | Self::Relay(_) => None,
        }
    }

    /// Moves this process off the servers' cores, before its threads start.
    fn leave_cores(&self) -> Result<(), Failure> {
        match self.place().and_then(|place| place.cores.as_deref()) {
            Some(cores) => place::leave(cores),
            None => Ok(()),
        }
    }
}
