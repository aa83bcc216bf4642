//! `holdfast cluster recover`: a stopped node goes on alone, after most disks of its cluster were lost.

use std::fmt::Write as _;
use std::io::{self, BufRead as _, Read as _, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use clap::Args;
use cluster::ShardId;
use cluster::recover::{
    Found, MemberFound, RecoverError, Recovery, ReplicaFound, Role, ShardFound,
};

use crate::clock;
use crate::config::Config;
use crate::preflight;
use crate::serve::ServeError;

/// The most bytes that are read of what is typed.
const LONGEST: u64 = 1024;
/// How long another node may take to answer when it is asked whether it runs.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether to do it.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct RecoverOptions {
    /// Do it; without this nothing is changed. The id of this node's disk, which the dry run shows, confirms it: here,
    /// or typed when asked
    #[arg(long, value_name = "ID", num_args = 0..=1)]
    confirm: Option<Option<String>>,
}

/// Why nothing was recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ServeError),
    /// What is there cannot be recovered, or not be read.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The operator has typed something else.
    #[error("nothing is changed: {typed:?} is not the id of this disk, {expected}")]
    NotConfirmed {
        /// What was typed.
        typed: String,
        /// What should have been.
        expected: String,
    },
    /// Standard input or output.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Shows what there is and what may be lost, and does it if it is confirmed.
pub async fn run(
    config: &Config,
    options: RecoverOptions,
    out: &mut (dyn Write + Send),
) -> Result<(), RecoveryError> {
    let recovery = Recovery::open(&preflight::cluster(config)?)?;
    if options.confirm.is_none() {
        writeln!(out, "This is a dry run: nothing is changed.\n")?;
    }
    match recovery.found() {
        Some(found) => {
            out.write_all(report(found).as_bytes())?;
            let running = running(found);
            if !running.is_empty() {
                let running = running.join(", ");
                writeln!(
                    out,
                    "\nWARNING: somebody listens at {running}. As long as a majority of the voters has its disks, start \
                     it instead: it has everything."
                )?;
            }
        }
        None => writeln!(
            out,
            "A recovery of this node was confirmed before, and interrupted. It can only be finished."
        )?,
    }
    let expected = recovery.phrase().to_owned();
    let Some(typed) = options.confirm else {
        writeln!(
            out,
            "\nTo do it: holdfast cluster recover --confirm {expected}"
        )?;
        return Ok(());
    };
    let typed = match typed {
        Some(typed) => typed,
        None => ask(out, &expected)?,
    };
    if typed.trim() != expected {
        return Err(RecoveryError::NotConfirmed { typed, expected });
    }
    let done = recovery.carry_out().await?;
    writeln!(
        out,
        "\nThis node is cluster {} now, and the only voter of every shard (its disk is {}). Start it with `holdfast \
         serve`; then start the others with empty data directories. The old files are in {}: remove them when they are \
         needed no more, and never bring them back.",
        done.cluster,
        done.node,
        done.kept.display()
    )?;
    Ok(())
}

/// Has the operator type what confirms it.
fn ask(out: &mut (dyn Write + Send), expected: &str) -> io::Result<String> {
    write!(
        out,
        "\nWhat is said to be lost above is lost for good. Type the id of this disk, {expected}, to go on: "
    )?;
    out.flush()?;
    let mut typed = String::new();
    io::BufReader::new(io::stdin().take(LONGEST)).read_line(&mut typed)?;
    Ok(typed.trim().to_owned())
}

/// The other voters that somebody listens for.
fn running(found: &Found) -> Vec<String> {
    let mut addresses: Vec<&str> = Vec::new();
    for shard in found.shards.values() {
        let ShardFound::Replica(replica) = shard else {
            continue;
        };
        let others = replica
            .voters
            .iter()
            .filter(|voter| voter.node != found.node);
        addresses.extend(others.map(|voter| &*voter.address));
    }
    addresses.sort_unstable();
    addresses.dedup();
    let answers = |address: &&str| {
        let mut places = address.to_socket_addrs().into_iter().flatten();
        places.any(|place| TcpStream::connect_timeout(&place, PATIENCE).is_ok())
    };
    addresses
        .into_iter()
        .filter(answers)
        .map(str::to_owned)
        .collect()
}

/// What there is, and what may be lost. Pure.
fn report(found: &Found) -> String {
    let mut text = format!(
        "cluster {}, node {}, disk {}\n",
        found.cluster, found.seat, found.node
    );
    for (shard, what) in &found.shards {
        text.push('\n');
        match what {
            ShardFound::Replica(replica) => replica_report(*shard, found, replica, &mut text),
            ShardFound::Outdated(last) => {
                let had = format!(
                    "others have taken this node's vote after entry {} of term {}",
                    last.index, last.term
                );
                lost_report(*shard, &had, &mut text);
            }
            ShardFound::Missing => lost_report(*shard, "this node has no replica", &mut text),
        }
    }
    for forgotten in &found.forgotten {
        // Writing to memory does not fail.
        let _ = writeln!(
            text,
            "\nshard {} had taken {} items of shard {} that are not here: messages, presence or changes of rosters",
            forgotten.by, forgotten.items, forgotten.from
        );
    }
    text.push_str(
        "\nAccounts, rosters, archives and all else that is in the database are not touched.\n\n\
         If several nodes have survived, stop them all and compare these dry runs: of a shard, the log with the higher \
         term of its\nlast entry has more, and with equal terms the one with the higher entry. Recover one node only, \
         and empty the others.\nA node of the old cluster that comes back later is refused until its `identity`, `log` \
         and `snapshots` are moved away.\n",
    );
    text
}

fn lost_report(shard: ShardId, why: &str, text: &mut String) {
    // Writing to memory does not fail.
    let _ = writeln!(
        text,
        "shard {shard}: LOST as a whole, as {why}\n  \
         lost             all sessions of its accounts, what waited in them, and messages that were not in the \
         database yet;\n                   \
         clients log in anew\n  \
         what is made     an empty shard"
    );
}

fn replica_report(shard: ShardId, found: &Found, replica: &ReplicaFound, text: &mut String) {
    let others = replica
        .voters
        .iter()
        .filter(|voter| voter.node != found.node);
    let name = |voter: &MemberFound| format!("{} ({})", voter.seat, voter.node);
    let others: Vec<_> = others.map(name).collect();
    let role = match replica.role {
        Role::Leader => "led",
        Role::Voter => "voted",
        Role::Learner => "had a copy and no vote",
    };
    let at = time(replica.at);
    let index = |index: Option<u64>| index.map_or_else(|| String::from("none"), |n| n.to_string());
    let ReplicaFound { last, totals, .. } = replica;
    let tail = match replica.unconfirmed {
        0 => String::from("nothing: all that is here was known to be committed"),
        entries => format!(
            "the last {entries} entries{}, which were not known to be committed and count from now on",
            replica
                .unconfirmed_since
                .map(|since| format!(" (since {})", time(since)))
                .unwrap_or_default()
        ),
    };
    let led = match replica.role {
        Role::Leader => format!(
            "\n                   (this node led in term {}: if nobody led after it, nothing is)",
            replica.term
        ),
        Role::Voter | Role::Learner => String::new(),
    };
    // Writing to memory does not fail.
    let _ = writeln!(
        text,
        "shard {shard}: this node {role} in term {}; the others that voted: {}\n  \
         last entry       term {}, entry {}, of {at}\n  \
         committed        up to entry {} as far as known here; in a snapshot: up to entry {}\n  \
         what is kept     {} sessions, {} of them without a connection; {} stanzas in their queues; {} messages that \
         wait for a login;\n                   {} writes that the database has not confirmed\n  \
         becomes true     {tail}\n  \
         may be lost      what the others committed after entry {}: messages that were acknowledged, and sessions that \
         began, moved\n                   or ended, since {at}{led}",
        replica.term,
        others.join(", "),
        last.term,
        last.index,
        index(replica.committed),
        index(replica.snapshot),
        totals.sessions,
        totals.hibernated,
        totals.queued,
        totals.undelivered,
        totals.effects,
        last.index,
    );
}

/// A time of a shard, which has none before its first entry.
fn time(millis: u64) -> String {
    match millis {
        0 => String::from("an unknown time"),
        millis => clock::text(millis).unwrap_or_else(|| format!("{millis} ms after 1970")),
    }
}
