//! Disaster recovery: a stopped node goes on alone with what it has, as most disks of its cluster are lost.
//!
//! This is the one thing that may lose what was acknowledged, and so it is never done by itself. [`Recovery::open`]
//! reads everything and changes nothing; what it finds is for an operator to judge ([`Found`]). [`Recovery::carry_out`]
//! makes another cluster of it, under a new id and with a new node id. Whoever comes back with a disk of the old
//! cluster is refused by the greeting, as any stranger is, and cannot vote; who comes with an empty one joins.
//!
//! What is new is written beside what there is, and takes its place when all of it is on disk:
//!
//! ```text
//! identity, log, snapshots                       the old cluster; recovery.new may be there, and is made anew
//!        │  recovery.new is renamed to recovery-ID: from here on it has to be finished
//!        ▼
//! each part moves to before-recovery-ID, and the one of recovery-ID takes its place;
//! a node does not start, and the same command goes on where it stopped
//!        │  recovery-ID is empty and goes
//!        ▼
//! identity, log, snapshots                       the new cluster; the old files stay in before-recovery-ID
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::claim::{self, Claim, DirError};
use crate::config::{Config, ConfigError};
use crate::disk;
use crate::fail;
use crate::identity::{Identity, IdentityError};
use crate::raft::log::{LOCK, LogError, Options, segment_bytes};
use crate::raft::salvage::{self, Remains, Renewed, SalvageError};
use crate::raft::types::Seat;
use crate::room::Room;
use crate::session::{Forgotten, ShardState, mend};
use crate::{NodeId, ShardId, codec};

pub use self::found::{Found, MemberFound, Place, ReplicaFound, Role, ShardFound};

mod found;

/// What a cluster is kept in; the rest of the data directory is not concerned.
const PARTS: [&str; 3] = ["identity", "log", "snapshots"];
/// What is being written.
const NEW: &str = "recovery.new";
/// What has been written, and is to take its place. The id of the node follows.
const READY: &str = "recovery-";
/// What was there before. The id of the node follows.
const BEFORE: &str = "before-recovery-";

/// A node cannot be recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The configuration contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The configuration names no cluster.
    #[error("the configuration has no [cluster], so that there is nothing to recover")]
    Alone,
    /// Another process has the data directory, or it is not fit for one.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// No node of a cluster has run there.
    #[error("there is no data of a cluster in {}", dir.display())]
    Nothing {
        /// The data directory.
        dir: PathBuf,
    },
    /// The node was given up by its cluster, which has gone on without it.
    #[error(
        "node {0} was given up by its cluster before: what is here is older than what others had"
    )]
    GivenUp(NodeId),
    /// No vote is missing.
    #[error("this node is the only voter of every shard: it needs no recovery, but a start")]
    Whole,
    /// The identity cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The files cannot be read or written.
    #[error(transparent)]
    Salvage(#[from] SalvageError),
    /// There is too little room to write everything once more.
    #[error("{needed} bytes are needed on the disk of {}, and {free} are free", dir.display())]
    Room {
        /// The data directory.
        dir: PathBuf,
        /// How many are needed.
        needed: u64,
        /// How many are free.
        free: u64,
    },
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl From<LogError> for RecoverError {
    fn from(error: LogError) -> Self {
        Self::Salvage(error.into())
    }
}

/// What was made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The new cluster, as it is written.
    pub cluster: String,
    /// The new name of this disk.
    pub node: NodeId,
    /// Where the old files are.
    pub kept: PathBuf,
}

/// A stopped node whose data directory nobody else can use meanwhile.
#[derive(Debug)]
pub struct Recovery {
    dir: PathBuf,
    seat: Seat,
    phrase: String,
    step: Step,
    _claim: Claim,
}

#[derive(Debug)]
enum Step {
    Begin(Box<Begin>),
    /// It was confirmed before, and interrupted.
    Finish,
}

#[derive(Debug)]
struct Begin {
    found: Found,
    identity: Identity,
    renewed: Vec<Renewed>,
    others: BTreeSet<NodeId>,
    _log: File,
}

impl Recovery {
    /// Reads what a stopped node has. Blocks as long as its start would, and changes nothing.
    pub fn open(config: &Config) -> Result<Self, RecoverError> {
        config.check()?;
        if config.is_single() {
            return Err(RecoverError::Alone);
        }
        let dir = config.data_dir.clone();
        let nothing = || RecoverError::Nothing { dir: dir.clone() };
        let claim = claim::hold_dir(&dir)?.ok_or_else(nothing)?;
        let seat = Seat {
            seat: config.seat,
            address: config.advertise.clone(),
        };
        let (phrase, step) = match unfinished(&dir).map_err(io_at(&dir))? {
            Some(id) => (id, Step::Finish),
            None => {
                let begin = examine(&dir, config)?.ok_or_else(nothing)?;
                (begin.found.node.to_string(), Step::Begin(Box::new(begin)))
            }
        };
        Ok(Self {
            dir,
            seat,
            phrase,
            step,
            _claim: claim,
        })
    }

    /// What was found; none if a recovery was interrupted that only has to be finished.
    pub fn found(&self) -> Option<&Found> {
        match &self.step {
            Step::Begin(begin) => Some(&begin.found),
            Step::Finish => None,
        }
    }

    /// What an operator has to type: it names this disk, so that it is right on no other node.
    pub fn phrase(&self) -> &str {
        &self.phrase
    }

    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes another cluster of what there is, with this node as its only member. If it is interrupted nothing has
    /// changed, or it goes on where it stopped when it is called again. Blocks.
    pub async fn carry_out(self) -> Result<Done, RecoverError> {
        let Self {
            dir,
            seat,
            phrase,
            step,
            _claim,
        } = self;
        let number = seat.seat;
        if let Step::Begin(begin) = step {
            prepare(&dir, &phrase, seat, *begin).await?;
        }
        let kept = dir.join(format!("{BEFORE}{phrase}"));
        disk::private_dir(&kept).map_err(io_at(&kept))?;
        while step_once(&dir, &phrase)? {
            fail::point("recovery");
        }
        let ready = dir.join(format!("{READY}{phrase}"));
        fs::remove_dir(&ready).map_err(io_at(&ready))?;
        disk::sync_dir(&dir).map_err(io_at(&dir))?;
        let identity = Identity::peek(&dir, number, false)?;
        let identity = identity.ok_or_else(|| RecoverError::Nothing { dir: dir.clone() })?;
        Ok(Done {
            cluster: cluster_of(&identity).unwrap_or_default(),
            node: identity.node(),
            kept,
        })
    }
}

/// Refuses a data directory in which a recovery was interrupted: it is partly old and partly new.
pub(crate) fn refuse_unfinished(dir: &Path) -> Result<(), IdentityError> {
    let found = unfinished(dir).map_err(|source| IdentityError::Io {
        file: dir.to_owned(),
        source,
    })?;
    match found {
        Some(_) => Err(IdentityError::HalfRecovered {
            dir: dir.to_owned(),
        }),
        None => Ok(()),
    }
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> RecoverError {
    move |source| RecoverError::Io {
        path: path.to_owned(),
        source,
    }
}

fn cluster_of(identity: &Identity) -> Option<String> {
    identity
        .cluster()
        .map(|cluster| format!("{:016x}", cluster.0))
}

/// The id of the node whose recovery was interrupted, if one was.
fn unfinished(dir: &Path) -> io::Result<Option<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name();
        if let Some(id) = name.to_str().and_then(|name| name.strip_prefix(READY)) {
            return Ok(Some(id.to_owned()));
        }
    }
    Ok(None)
}

/// Reads everything and judges it; none if no node has written there.
fn examine(dir: &Path, config: &Config) -> Result<Option<Begin>, RecoverError> {
    if !dir.join("log").join(LOCK).is_file() {
        return Ok(None);
    }
    let (groups, lock) = salvage::log(dir)?;
    let Some(identity) = Identity::peek(dir, config.seat, groups.is_empty())? else {
        return Ok(None);
    };
    // Shards that are not looked for would be lost.
    identity.check_shards(config.shards)?;
    let me = identity.node();
    let Some(cluster) = cluster_of(&identity) else {
        return Ok(None);
    };
    if identity.is_retired(me) {
        return Err(RecoverError::GivenUp(me));
    }
    let remains = salvage::read(dir, config.shards, &identity, groups)?;
    if remains.values().all(Option::is_none) {
        return Ok(None);
    }
    if remains
        .values()
        .all(|remains| is_alone(me, remains.as_ref()))
    {
        return Err(RecoverError::Whole);
    }
    let others = remains.values().flatten().flat_map(|remains| {
        let nodes = remains.members.nodes.keys();
        nodes.copied().map(NodeId)
    });
    let others = others.filter(|node| *node != me).collect();
    let (mut shards, mut renewed) = (BTreeMap::new(), Vec::new());
    for (shard, remains) in remains {
        shards.insert(shard, found::judge(me, remains.as_ref()));
        let remains = remains.filter(|remains| remains.members.contains(me));
        renewed.push(remains.map_or_else(|| empty(shard, config.shards), Renewed::from));
    }
    let forgotten = mend_all(&mut renewed);
    let found = Found {
        cluster,
        node: me,
        seat: config.seat,
        shards,
        forgotten,
    };
    Ok(Some(Begin {
        found,
        identity,
        renewed,
        others,
        _log: lock,
    }))
}

fn is_alone(me: NodeId, remains: Option<&Remains>) -> bool {
    let alone = BTreeSet::from([me.0]);
    remains.is_some_and(|remains| remains.members.configs == [alone])
}

fn empty(shard: ShardId, shards: u16) -> Renewed {
    Renewed {
        state: ShardState::new(shard, shards),
        last: None,
        vote: None,
    }
}

fn mend_all(renewed: &mut Vec<Renewed>) -> Vec<Forgotten> {
    let places: Vec<_> = renewed
        .iter()
        .map(|shard| (shard.last, shard.vote))
        .collect();
    let mut states: Vec<ShardState> = renewed.drain(..).map(|shard| shard.state).collect();
    let forgotten = mend(&mut states);
    let all = states.into_iter().zip(places);
    renewed.extend(all.map(|(state, (last, vote))| Renewed { state, last, vote }));
    forgotten
}

/// Writes everything anew beside what there is, and then gives it the name by which it has to be finished.
async fn prepare(dir: &Path, phrase: &str, seat: Seat, begin: Begin) -> Result<(), RecoverError> {
    let fresh = dir.join(NEW);
    match fs::remove_dir_all(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_at(&fresh)(error));
        }
        _ => {}
    }
    check_room(dir, &begin.renewed)?;
    disk::private_dir(&fresh).map_err(io_at(&fresh))?;
    let identity = Identity::begin_anew(&fresh, &begin.identity.incarnation(), begin.others)?;
    salvage::write(&fresh, &identity, seat, begin.renewed).await?;
    fail::point("recovery written");
    disk::sync_dir(&fresh).map_err(io_at(&fresh))?;
    fs::rename(&fresh, dir.join(format!("{READY}{phrase}"))).map_err(io_at(&fresh))?;
    disk::sync_dir(dir).map_err(io_at(dir))?;
    fail::point("recovery ready");
    Ok(())
}

/// A snapshot would wait for room, which a command must not.
fn check_room(dir: &Path, renewed: &[Renewed]) -> Result<(), RecoverError> {
    let room = Room::at(dir).map_err(io_at(dir))?;
    let records = renewed.iter().flat_map(|shard| shard.state.records());
    let bytes: usize = records.map(|record| codec::size(&record)).sum();
    let log = segment_bytes(room, Options::default().segment_bytes);
    let (needed, free) = (bytes as u64 + 2 * log, room.free);
    match free >= needed {
        true => Ok(()),
        false => Err(RecoverError::Room {
            dir: dir.to_owned(),
            needed,
            free,
        }),
    }
}

/// Moves the next part, the old one out of the way or the new one into its place; false if all have been.
fn step_once(dir: &Path, phrase: &str) -> Result<bool, RecoverError> {
    let ready = dir.join(format!("{READY}{phrase}"));
    let kept = dir.join(format!("{BEFORE}{phrase}"));
    let Some(part) = PARTS.iter().find(|part| ready.join(part).exists()) else {
        return Ok(false);
    };
    let place = dir.join(part);
    let (from, to) = match place.exists() {
        true => (place, kept.join(part)),
        false => (ready.join(part), place),
    };
    fs::rename(&from, &to).map_err(io_at(&from))?;
    for changed in [&*kept, &ready, dir] {
        disk::sync_dir(changed).map_err(io_at(changed))?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
