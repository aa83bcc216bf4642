//! The identity of a data directory: a node id that is made once and never reused.
//!
//! A node id names the data directory, not the seat or the machine. What a Raft voter has promised is on
//! its disk, so an emptied disk must come back under another name (T-69), and one that was replaced must
//! not come back at all. A small text file remembers this; it is replaced as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::disk;
use crate::{BootId, NodeId};

const FILE: &str = "identity";
const HEAD: &str = "holdfast-identity 1";
/// A node that was alone had so many shards when their number was not yet written down.
const SHARDS_BEFORE: u16 = 3;
/// The advice to operators for a data directory that cannot be used any more. Only these three go: a database or
/// certificates may lie beside them.
pub const ANEW: &str = "move identity, log and snapshots, and nothing else, out of it: \
     a node of a cluster then joins anew and loses nothing that the others have (never bring back an older copy of \
     them: what it has voted for since would be undone); a single node keeps accounts and archives, and loses what \
     its sessions had not been given yet";

/// Names a cluster for ever; drawn when it is born.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub u64);

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incarnation {
    /// The cluster, once the node belongs to one.
    pub cluster: Option<ClusterId>,
    /// This disk.
    pub node: NodeId,
    /// The seat it was made for.
    pub seat: u64,
    /// Whether a group has voted or taken entries: from then on the log must not be empty.
    pub voted: bool,
    /// The first voters by seat, if this node was there at the birth.
    pub founders: BTreeMap<u64, NodeId>,
    /// Incarnations that were replaced; they are refused.
    pub retired: BTreeSet<NodeId>,
    /// How many shards the accounts are spread over; it never changes. Older builds did not write it down.
    pub shards: Option<u16>,
}

/// Why a node cannot know its identity. It must not start.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The operating system refused.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file is not what was written.
    #[error("{} is damaged at line {line}; {ANEW}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// The number of the line.
        line: usize,
    },
    /// The volume of another seat.
    #[error("{} belongs to seat {found}, but this node is configured as seat {configured}", file.display())]
    OtherSeat {
        /// The file.
        file: PathBuf,
        /// Whose disk it is.
        found: u64,
        /// Who asked.
        configured: u64,
    },
    /// There is a log, but no identity that says whose it is.
    #[error("{} is missing although there is a log beside it; {ANEW}", file.display())]
    LogWithoutIdentity {
        /// The file.
        file: PathBuf,
    },
    /// This node has voted, and its votes are gone.
    #[error("the log of node {node} is gone from {}; {ANEW}", dir.display())]
    LogMissing {
        /// The node.
        node: NodeId,
        /// Where it should be.
        dir: PathBuf,
    },
    /// A recovery has been interrupted: the files are partly old and partly new.
    #[error(
        "a recovery of {} is not finished: run `holdfast cluster recover --confirm` again",
        dir.display()
    )]
    HalfRecovered {
        /// The data directory.
        dir: PathBuf,
    },
    /// Accounts would be looked for in other shards than those that have them.
    #[error(
        "{} was made for {found} shards, and {configured} are configured: the number can never change, set \
         cluster.shards = {found}",
        file.display()
    )]
    OtherShards {
        /// The file.
        file: PathBuf,
        /// How many there are.
        found: u16,
        /// How many there should be.
        configured: u16,
    },
    /// The node belongs to a cluster already, and was asked to join another.
    #[error("this node belongs to cluster {:016x}, not {:016x}", ours.0, theirs.0)]
    OtherCluster {
        /// The one it belongs to.
        ours: ClusterId,
        /// The other.
        theirs: ClusterId,
    },
}

/// The incarnation of this node and the run of its process. Clones share it.
#[derive(Clone, Debug)]
pub struct Identity {
    file: PathBuf,
    boot: BootId,
    /// How many shards are configured.
    shards: Option<u16>,
    // A lock, since several tasks change the identity now and then; each holds it for one small write.
    kept: Arc<Mutex<Incarnation>>,
}

impl Identity {
    /// Reads the identity in `dir`, or makes a new one if the directory holds no log either. Blocks.
    pub fn open(dir: &Path, seat: u64, log_is_new: bool) -> Result<Self, IdentityError> {
        let file = dir.join(FILE);
        let io = |source| IdentityError::Io {
            file: file.clone(),
            source,
        };
        if !dir.exists() {
            disk::private_dir(dir).map_err(io)?;
        }
        disk::private_file(&file).map_err(io)?;
        // An earlier process may have renamed the file without syncing the directory, so that the name is only in the
        // cache.
        disk::sync_dir(dir).map_err(io)?;
        let incarnation = match read(dir, seat, log_is_new)? {
            Some(known) => known,
            None => {
                let fresh = Incarnation::new(NodeId(clock::random()), seat);
                write(&file, &fresh).map_err(io)?;
                fresh
            }
        };
        Ok(Self::of(dir, incarnation))
    }

    /// Refuses another number of shards than the one that the data directory was made for. It is written down once the
    /// node belongs to a cluster. Blocks.
    pub fn agree_on(mut self, shards: u16) -> Result<Self, IdentityError> {
        self.check_shards(shards)?;
        self.shards = Some(shards);
        if self.cluster().is_some() {
            self.change(|kept| kept.shards = Some(shards))?;
        }
        Ok(self)
    }

    /// Refuses another number of shards than the one that the data directory was made for, and changes nothing.
    pub fn check_shards(&self, shards: u16) -> Result<(), IdentityError> {
        match self.lock().shards {
            Some(found) if found != shards => Err(IdentityError::OtherShards {
                file: self.file.clone(),
                found,
                configured: shards,
            }),
            _ => Ok(()),
        }
    }

    /// Reads the identity in `dir` as [`open`](Self::open) does, if there is one, and changes nothing. Blocks.
    pub fn peek(dir: &Path, seat: u64, log_is_new: bool) -> Result<Option<Self>, IdentityError> {
        let known = read(dir, seat, log_is_new)?;
        Ok(known.map(|known| Self::of(dir, known)))
    }

    /// Makes the identity of a node that goes on alone, in another cluster, with what it had before as a member of this
    /// one. All whom it knew, itself included, are refused from then on. Blocks.
    pub fn begin_anew(
        dir: &Path,
        before: &Incarnation,
        others: impl IntoIterator<Item = NodeId>,
    ) -> Result<Self, IdentityError> {
        let mut retired = before.retired.clone();
        retired.insert(before.node);
        retired.extend(others);
        let fresh = Incarnation {
            cluster: Some(ClusterId(clock::random())),
            voted: true,
            retired,
            shards: before.shards,
            ..Incarnation::new(NodeId(clock::random()), before.seat)
        };
        let file = dir.join(FILE);
        write(&file, &fresh).map_err(|source| IdentityError::Io { file, source })?;
        Ok(Self::of(dir, fresh))
    }

    fn of(dir: &Path, incarnation: Incarnation) -> Self {
        Self {
            file: dir.join(FILE),
            boot: BootId(clock::random()),
            shards: None,
            kept: Arc::new(Mutex::new(incarnation)),
        }
    }

    /// This disk.
    pub fn node(&self) -> NodeId {
        self.lock().node
    }

    /// This seat.
    pub fn seat(&self) -> u64 {
        self.lock().seat
    }

    /// This run of the process.
    pub fn boot(&self) -> BootId {
        self.boot
    }

    /// The cluster, once the node belongs to one.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.lock().cluster
    }

    /// Everything that the file says.
    pub fn incarnation(&self) -> Incarnation {
        self.lock().clone()
    }

    /// Whether an incarnation was replaced.
    pub fn is_retired(&self, node: NodeId) -> bool {
        self.lock().retired.contains(&node)
    }

    /// Makes the node a member of `cluster`. Blocks.
    pub fn join(&self, cluster: ClusterId) -> Result<(), IdentityError> {
        match self.cluster() {
            Some(ours) if ours == cluster => Ok(()),
            Some(ours) => Err(IdentityError::OtherCluster {
                ours,
                theirs: cluster,
            }),
            None => self.change(|kept| {
                kept.cluster = Some(cluster);
                kept.shards = self.shards;
            }),
        }
    }

    /// Makes the node a member of a new cluster with these first voters. Blocks.
    pub fn found(
        &self,
        cluster: ClusterId,
        founders: &BTreeMap<u64, NodeId>,
    ) -> Result<(), IdentityError> {
        match self.cluster() {
            Some(ours) if ours != cluster => Err(IdentityError::OtherCluster {
                ours,
                theirs: cluster,
            }),
            _ => self.change(|kept| {
                kept.cluster = Some(cluster);
                kept.shards = self.shards;
                kept.founders = founders.clone();
            }),
        }
    }

    /// Remembers that a group has voted or taken entries: without its log this node may not start from here on. Blocks.
    pub fn set_voted(&self) -> Result<(), IdentityError> {
        self.change(|kept| kept.voted = true)
    }

    /// Remembers that an incarnation was replaced. Blocks.
    pub fn retire(&self, node: NodeId) -> Result<(), IdentityError> {
        self.change(|kept| {
            kept.retired.insert(node);
        })
    }

    fn change(&self, change: impl FnOnce(&mut Incarnation)) -> Result<(), IdentityError> {
        let mut kept = self.lock();
        let mut changed = kept.clone();
        change(&mut changed);
        if *kept != changed {
            write(&self.file, &changed).map_err(|source| IdentityError::Io {
                file: self.file.clone(),
                source,
            })?;
            *kept = changed;
        }
        Ok(())
    }

    /// A poisoned lock does no harm: the value is only ever replaced as a whole, after it was written.
    fn lock(&self) -> MutexGuard<'_, Incarnation> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Incarnation {
    fn new(node: NodeId, seat: u64) -> Self {
        let (founders, retired) = (BTreeMap::new(), BTreeSet::new());
        Self {
            cluster: None,
            node,
            seat,
            voted: false,
            founders,
            retired,
            shards: None,
        }
    }

    fn text(&self) -> String {
        let mut text = format!(
            "{HEAD}\nnode {}\nseat {}\nvoted {}\n",
            self.node, self.seat, self.voted
        );
        // Writing to a string does not fail.
        if let Some(cluster) = self.cluster {
            let _ = writeln!(text, "cluster {:016x}", cluster.0);
        }
        if let Some(shards) = self.shards {
            let _ = writeln!(text, "shards {shards}");
        }
        for (seat, node) in &self.founders {
            let _ = writeln!(text, "founder {seat} {node}");
        }
        for node in &self.retired {
            let _ = writeln!(text, "retired {node}");
        }
        text.push_str("end\n");
        text
    }
}

/// How many shards the data directory was made for, if it is in use already. Blocks.
pub fn shards(dir: &Path) -> Option<u16> {
    let text = fs::read_to_string(dir.join(FILE)).ok()?;
    // What is wrong with it is told when the node starts.
    let known = parse(&text).ok()?;
    // Before it belongs to a cluster nothing is in any shard.
    known.cluster?;
    Some(known.shards.unwrap_or(SHARDS_BEFORE))
}

/// Empties the data directory of a node that is no longer a member of its cluster, so that it joins anew. Everything
/// that it had acknowledged is with the members. Blocks.
pub fn clear_if_replaced(dir: &Path) -> Result<(), IdentityError> {
    let file = dir.join(FILE);
    let text = fs::read_to_string(&file).unwrap_or_default();
    let replaced = parse(&text)
        .ok()
        .filter(|known| known.retired.contains(&known.node));
    let Some(known) = replaced else {
        return Ok(());
    };
    tracing::warn!(
        "node {} is no longer a member of its cluster: its log and snapshots are removed",
        known.node
    );
    let remove = || {
        for part in ["log", "snapshots"] {
            match fs::remove_dir_all(dir.join(part)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        // The identity goes last: if the process is killed meanwhile, the next start finishes this.
        fs::remove_file(&file)?;
        disk::sync_dir(dir)
    };
    remove().map_err(|source| IdentityError::Io { file, source })
}

/// The identity in `dir`, if the node can go on with it; none if it is to be made.
fn read(dir: &Path, seat: u64, log_is_new: bool) -> Result<Option<Incarnation>, IdentityError> {
    let file = dir.join(FILE);
    let incarnation = match fs::read_to_string(&file) {
        Ok(text) => parse(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound && log_is_new => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(IdentityError::LogWithoutIdentity { file });
        }
        // The file is not even text.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(1),
        Err(source) => return Err(IdentityError::Io { file, source }),
    };
    let incarnation = incarnation.map_err(|line| {
        let file = file.clone();
        IdentityError::Damaged { file, line }
    })?;
    if incarnation.seat != seat {
        let (found, configured) = (incarnation.seat, seat);
        return Err(IdentityError::OtherSeat {
            file,
            found,
            configured,
        });
    }
    if incarnation.voted && log_is_new {
        let (node, dir) = (incarnation.node, dir.join("log"));
        return Err(IdentityError::LogMissing { node, dir });
    }
    Ok(Some(incarnation))
}

/// The last line proves that the file is whole. The error is the number of the bad line.
fn parse(text: &str) -> Result<Incarnation, usize> {
    let mut lines = text.lines().enumerate();
    let mut found = Incarnation::new(NodeId(0), 0);
    let (mut node, mut seat) = (false, false);
    if lines.next().map(|(_, line)| line) != Some(HEAD) {
        return Err(1);
    }
    for (n, line) in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let bad = n + 1;
        match words[..] {
            ["node", id] => (found.node, node) = (NodeId(hex(id).ok_or(bad)?), true),
            ["seat", number] => (found.seat, seat) = (number.parse().map_err(|_| bad)?, true),
            ["voted", flag] => found.voted = flag.parse().map_err(|_| bad)?,
            ["shards", number] => found.shards = Some(number.parse().map_err(|_| bad)?),
            ["cluster", id] => found.cluster = Some(ClusterId(hex(id).ok_or(bad)?)),
            ["founder", seat, id] => {
                found
                    .founders
                    .insert(seat.parse().map_err(|_| bad)?, NodeId(hex(id).ok_or(bad)?));
            }
            ["retired", id] => {
                found.retired.insert(NodeId(hex(id).ok_or(bad)?));
            }
            ["end"] if node && seat && text.lines().count() == bad => return Ok(found),
            _ => return Err(bad),
        }
    }
    Err(text.lines().count())
}

fn hex(text: &str) -> Option<u64> {
    let plain = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

/// Writes the file beside its final name, syncs it, renames it and syncs the directory.
fn write(path: &Path, incarnation: &Incarnation) -> io::Result<()> {
    let fresh = path.with_extension("tmp");
    let mut file = disk::create(&fresh)?;
    file.write_all(incarnation.text().as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    match path.parent() {
        Some(dir) => disk::sync_dir(dir),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
