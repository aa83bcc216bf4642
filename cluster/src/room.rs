//! Divides the file system between log, snapshots and a reserve, so that a node never fills it by itself (T-75).
//!
//! The log grows with every entry and shrinks only when a snapshot replaces old entries, and a snapshot needs room
//! before any of the log can go. So the log gets a [`Budget`] that leaves room for snapshots.
//!
//! # Bounds
//!
//! A part of the disk is kept in reserve for what is neither log nor snapshot. Snapshots are written one after another,
//! so as much as the largest one has is kept free for the next. Of what is left the log gets a third: a snapshot grows
//! by what the log brought since the last one, once or twice, as a message may be kept for each of its two sides. From
//! half of that on snapshots are taken early; beyond all of it no entry is taken until a part of the log is gone. Where
//! that would be too little for the log to work with, or where the next snapshot finds no room, the node is short of
//! disk: others lead and serve its clients. The log then gets room for two more of its files, for entries that make the
//! state smaller, such as reports that effects are done. When half of the reserve is gone too, which only other
//! programs can bring about, it gets nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use tokio::sync::watch;

use crate::raft::groups::Groups;
use crate::raft::log::{Log, Options, Pressure, segment_bytes};

/// The most that is kept free of a file system, in bytes.
const RESERVE: u64 = 1 << 30;
/// The part of a file system that is kept free: one in so many.
const RESERVE_PART: u64 = 20;
/// The part of what is left that the log gets: one in so many.
const SHARE: u64 = 3;
/// The fewest segments that the log can work with: one to write to, the next one, and two old ones that groups may
/// still need.
const FEWEST: u64 = 4;
/// How many segments the log may have, if there is room, before old ones have to go.
const USUAL: u64 = 16;
/// The log may take this many times what is usual, however large the disk is, because its entries are in memory too.
const MOST: u64 = 4;
/// How often the file system is asked for its room.
const CHECK: Duration = Duration::from_millis(250);
/// The same while this node writes nothing and nothing is lacking.
const RARELY: Duration = Duration::from_secs(1);
/// When the log has been full for so many checks and nothing of it went, it waits for a snapshot in vain.
const STUCK: u32 = 8;

/// What the disk or the system lacks at the moment. Nothing is lost, and nothing that would need it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Shortage {
    /// What is left does not suffice for the reserve, the log and its snapshots.
    #[error("the disk is nearly full: {} MiB are left, and {} MiB are needed for the log, its snapshots and a reserve", left >> 20, needed >> 20)]
    Reserve {
        /// Bytes.
        left: u64,
        /// Bytes.
        needed: u64,
    },
    /// The log may not grow before a snapshot lets a part of it go, and none is completed.
    #[error(
        "the log has taken its share of the disk, and no snapshot is completed that would shorten it"
    )]
    Snapshot,
    /// The disk is completely full.
    #[error("the disk is full, the log waits for room")]
    Full,
    /// Too many files are open.
    #[error("too many files are open, the log waits for the next")]
    Descriptors,
}

/// What the log may take up, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Beyond this, snapshots are taken so that its older parts can go.
    pub soft: u64,
    /// Beyond this, no entry is taken.
    pub hard: u64,
}

impl Budget {
    /// The budget as long as the room of the file system is not known.
    pub(crate) fn unknown(segment: u64) -> Self {
        Self {
            soft: segment.saturating_mul(USUAL),
            hard: u64::MAX,
        }
    }

    /// The budget while there is too little room.
    fn short(segment: u64, is_anything_left: bool) -> Self {
        Self {
            soft: segment,
            hard: if is_anything_left { 2 * segment } else { 0 },
        }
    }
}

/// How much room a file system has, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// The size of the file system.
    pub total: u64,
    /// The bytes that this process may still write.
    pub free: u64,
}

/// What this node has on the file system, in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    /// In the log.
    log: u64,
    /// In one file of the log.
    segment: u64,
    /// In the largest snapshot.
    largest: u64,
    /// In all snapshots.
    snapshots: u64,
    /// In files that are not yet snapshots, and will take the place of one.
    unfinished: u64,
}

impl Room {
    /// The room where `path` is.
    pub fn at(path: &Path) -> io::Result<Self> {
        let found = statvfs(path)?;
        let block = found.fragment_size();
        Ok(Self {
            total: block.saturating_mul(found.blocks()),
            free: block.saturating_mul(found.blocks_available()),
        })
    }

    /// What is kept free for what is neither log nor snapshot.
    pub fn reserve(&self) -> u64 {
        RESERVE.min(self.total / RESERVE_PART)
    }

    /// Decides what the log may take up, and whether room is lacking. Once it was, it takes a little more room to count
    /// as enough again, so that the answer does not flicker. Pure.
    fn budget(&self, held: Held, was_short: bool) -> (Budget, Option<Shortage>) {
        let kept = self.reserve() + held.largest;
        let fewest = SHARE * FEWEST * held.segment;
        let free = self.free + held.unfinished;
        let lacks = |left: u64, needed: u64| {
            let enough = if was_short {
                needed + needed / 4
            } else {
                needed
            };
            (left < enough).then_some(Shortage::Reserve { left, needed })
        };
        // The next snapshot can use what is free now. Once it is written, the room of the log is there as well.
        let short = lacks(free, kept).or_else(|| lacks(free + held.log, kept + fewest));
        if short.is_some() {
            let is_anything_left = self.free > self.reserve() / 2;
            return (Budget::short(held.segment, is_anything_left), short);
        }
        let usual = (USUAL * held.segment).max(held.snapshots);
        let hard = ((free + held.log - kept) / SHARE).min(MOST * usual);
        let soft = usual.min(hard / 2);
        (Budget { soft, hard }, None)
    }
}

/// What a node that starts in `dir` would lack; the directory need not exist yet.
pub fn foretell(dir: &Path) -> io::Result<Option<Shortage>> {
    let there = dir.ancestors().find(|path| path.exists());
    let there = there.filter(|path| !path.as_os_str().is_empty());
    let room = Room::at(there.unwrap_or(Path::new(".")))?;
    let (mut log, mut snapshots) = (0, Vec::new());
    if dir.join("log").exists() {
        log = bytes_of(&dir.join("log"), |_| true)?.iter().sum();
    }
    if dir.join("snapshots").exists() {
        snapshots = bytes_of(&dir.join("snapshots"), is_snapshot)?;
    }
    let held = Held {
        log,
        segment: segment_bytes(room, Options::default().segment_bytes),
        largest: snapshots.iter().copied().max().unwrap_or_default(),
        snapshots: snapshots.iter().sum(),
        unfinished: 0,
    };
    Ok(room.budget(held, false).1)
}

/// Gives the log its budget again and again, and reports what is lacking below `dir`, for as long as anybody listens.
pub(crate) async fn watch(
    dir: PathBuf,
    log: Log,
    groups: Groups,
    said: watch::Sender<Option<Shortage>>,
) {
    let mut short = None;
    let mut standstill = Standstill::default();
    let mut before = None;
    while !said.is_closed() {
        let known = groups.all().iter();
        let known: Vec<u64> = known.map(|group| group.machine.snapshot_bytes()).collect();
        let (place, length) = (dir.clone(), log.usage().bytes);
        let look =
            move || io::Result::Ok((Room::at(&place)?, unfinished(&place.join("snapshots"))?));
        match tokio::task::spawn_blocking(look).await {
            Ok(Ok((room, unfinished))) => {
                let held = Held {
                    log: length,
                    segment: log.segment_bytes(),
                    largest: known.iter().copied().max().unwrap_or_default(),
                    snapshots: known.iter().sum(),
                    unfinished,
                };
                let (budget, lacks) = room.budget(held, short.is_some());
                short = lacks;
                log.set_budget(budget);
            }
            Ok(Err(error)) => tracing::debug!("the room on the disk is not known: {error}"),
            // The process is about to end.
            Err(_) => return,
        }
        let usage = log.usage();
        let stuck = standstill.look(*log.pressure().borrow() == Pressure::Full, usage.bytes);
        let stuck = stuck.then_some(Shortage::Snapshot);
        let lacks = usage.lacks.or(short).or(stuck);
        tell(&said, lacks);
        let written = Some((usage.bytes, known));
        let rests = written == before && lacks.is_none();
        before = written;
        crate::clock::beat(if rests { RARELY } else { CHECK }).await;
    }
}

/// Bytes of files that are not yet snapshots.
fn unfinished(snapshots: &Path) -> io::Result<u64> {
    let files = bytes_of(snapshots, |name| !is_snapshot(name))?;
    Ok(files.iter().sum())
}

fn is_snapshot(name: &Path) -> bool {
    name.extension().is_some_and(|kind| kind == "snapshot")
}

/// The sizes of those files of a directory that are asked for by name.
fn bytes_of(dir: &Path, asked: impl Fn(&Path) -> bool) -> io::Result<Vec<u64>> {
    let mut sizes = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // A file that has just been renamed or removed is not counted.
        if asked(Path::new(&entry.file_name()))
            && let Ok(known) = entry.metadata()
        {
            sizes.push(known.len());
        }
    }
    Ok(sizes)
}

/// Counts the checks in which the log was full and nothing of it went.
#[derive(Debug, Default)]
struct Standstill {
    looks: u32,
    bytes: u64,
}

impl Standstill {
    fn look(&mut self, is_full: bool, bytes: u64) -> bool {
        if !is_full || bytes != self.bytes {
            self.looks = 0;
        }
        self.bytes = bytes;
        self.looks = self.looks.saturating_add(1);
        self.looks > STUCK
    }
}

/// Logs one line when something begins to lack, and one when nothing lacks any more.
fn tell(said: &watch::Sender<Option<Shortage>>, now: Option<Shortage>) {
    let before = said.send_replace(now);
    match (before, now) {
        (None, Some(shortage)) => {
            tracing::error!("{shortage}: nothing new is accepted until there is more");
        }
        (Some(_), None) => tracing::info!("there is room on the disk again: the node goes on"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn room(total: u64, free: u64) -> Room {
        Room {
            total: total * MIB,
            free: free * MIB,
        }
    }

    fn held(log: u64, largest: u64) -> Held {
        Held {
            log: log * MIB,
            segment: MIB,
            largest: largest * MIB,
            snapshots: 3 * largest * MIB,
            unfinished: 0,
        }
    }

    /// The bound of the log if nothing is lacking.
    fn hard(room: Room, held: Held) -> Option<u64> {
        let (budget, lacks) = room.budget(held, false);
        assert!(budget.soft <= budget.hard / 2 || budget.hard == 0);
        lacks.is_none().then_some(budget.hard / MIB)
    }

    #[test]
    fn t_75_the_reserve_grows_with_the_disk_and_ends_at_a_gigabyte() {
        let reserve = |total| Room { total, free: 0 }.reserve();
        assert_eq!((reserve(100), reserve(1 << 40)), (5, 1 << 30));
    }

    #[test]
    fn t_75_the_log_leaves_room_for_the_next_snapshot_however_long_it_is() {
        // What the log takes it does not lose: 200 - 10 - 20 - 3 * 20 in all, but once.
        assert_eq!(hard(room(200, 140), held(0, 20)), Some(36));
        assert_eq!(hard(room(200, 104), held(36, 20)), Some(36));
        assert_eq!(hard(room(200, 120), held(0, 0)), Some(36));
        assert_eq!(hard(room(100_000, 90_000), held(0, 0)), Some(64));
        assert_eq!(hard(room(100_000, 90_000), held(0, 1000)), Some(12_000));
    }

    #[test]
    fn t_75_too_little_for_the_log_or_the_next_snapshot_is_a_shortage() {
        assert_eq!(hard(room(200, 22), held(0, 0)), Some(4));
        assert_eq!(hard(room(200, 21), held(0, 0)), None);
        // Somebody else has taken what the next snapshot would need.
        assert_eq!(hard(room(200, 30), held(60, 20)), Some(20));
        assert_eq!(hard(room(200, 29), held(60, 20)), None);
        let mut writing = held(60, 20);
        writing.unfinished = 15 * MIB;
        assert_eq!(hard(room(200, 15), writing), Some(20));
    }

    #[test]
    fn t_75_whoever_is_short_may_still_say_what_makes_the_state_smaller() {
        let few = |free| room(200, free).budget(held(1, 60), false).0.hard;
        assert_eq!([40, 6, 5].map(few), [2 * MIB, 2 * MIB, 0]);
    }

    #[test]
    fn t_75_it_takes_a_little_more_to_be_well_again() {
        let well = |free| room(200, free).budget(held(0, 0), true).1.is_none();
        assert_eq!([22, 27, 28].map(well), [false, false, true]);
    }

    #[test]
    fn a_log_that_stands_still_at_its_bound_is_told_apart_from_one_that_is_busy() {
        let mut standstill = Standstill::default();
        let looks: Vec<bool> = (0..STUCK).map(|_| standstill.look(true, 7)).collect();
        assert!(!looks.contains(&true));
        assert!(standstill.look(true, 7));
        assert!(!standstill.look(true, 6));
        assert!(!standstill.look(false, 6));
    }
}
