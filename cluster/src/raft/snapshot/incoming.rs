//! Receives snapshots from other nodes and collects their parts in files.
//!
//! # Invariants
//!
//! 1. A group has one transfer at a time, the latest that has begun, since it has one leader.
//! 2. A transfer that makes no progress for `IDLE` is given up, with its file. So there is at most one unfinished file
//!    per group, and none for long. Only one part at a time is in memory.
//! 3. A transfer begins only if there is room for a file as large as this node's own snapshot, beside what other
//!    transfers still need and half of the disk's reserve. One that could not complete would only take room from the
//!    log. If there is no room for a second snapshot, it takes the [`Turn`] of those that this node writes.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::OwnedMutexGuard;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::{Received, SnapshotError, SnapshotFile, Temporary, Turn};
use crate::NodeId;
use crate::clock;
use crate::raft::types::SnapshotMeta;
use crate::room::Room;

/// How long a transfer may make no progress.
const IDLE: Duration = Duration::from_secs(30);
/// A refusal is logged again if it comes so long after the last one.
const QUIET: Duration = Duration::from_secs(60);

/// A part of a snapshot file.
#[derive(Debug)]
pub struct Part {
    /// The number of the attempt, so that parts of different attempts do not mix.
    pub transfer: u64,
    /// Where in the file it belongs.
    pub offset: u64,
    /// The bytes.
    pub data: Bytes,
    /// Whether it is the last part.
    pub last: bool,
}

/// What a part has led to.
#[derive(Debug)]
pub enum Collected {
    /// More parts are to come.
    Part,
    /// It was the last part, and the file is good.
    Whole(SnapshotMeta, Received),
}

/// Why a part is refused. The sender has to begin again.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It does not follow the parts before it.
    #[error("a part of another transfer")]
    OutOfOrder,
    /// There is not enough room for the whole snapshot.
    #[error("it would need {} MiB of the disk, and {} MiB are free", needed >> 20, free >> 20)]
    NoRoom {
        /// The bytes that the snapshot needs, roughly.
        needed: u64,
        /// The bytes that are free.
        free: u64,
    },
    /// The file cannot be written, or is not good.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The process is about to end.
    #[error("interrupted")]
    Interrupted,
}

/// The transfers to this node, one for each group. Clones share them.
#[derive(Clone)]
pub struct Incoming {
    idle: Duration,
    turn: Turn,
    // A lock, which is held only to take a transfer out or put it back: parts of one transfer arrive one after another.
    waiting: Arc<Mutex<Waiting>>,
}

/// The transfers that wait for their next part, by their group.
#[derive(Default)]
struct Waiting {
    transfers: HashMap<u64, Transfer>,
    /// The groups whose parts were refused, and when that happened last.
    refused: HashMap<u64, Instant>,
    /// Whether a task is looking for transfers without progress.
    swept: bool,
}

struct Transfer {
    from: NodeId,
    number: u64,
    file: File,
    fresh: Temporary,
    length: u64,
    /// How many bytes it will have in the end, roughly.
    expected: u64,
    /// Held if no other snapshot may be written meanwhile.
    turn: Option<OwnedMutexGuard<()>>,
    touched: Instant,
}

impl Incoming {
    /// Transfers take turns with the snapshots that this node writes if there is little room.
    pub fn new(turn: Turn) -> Self {
        Self::with(turn, IDLE)
    }

    fn with(turn: Turn, idle: Duration) -> Self {
        Self {
            idle,
            turn,
            waiting: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a part to the transfer of a group. It logs one line when parts are refused and one when a snapshot is
    /// complete after all, however often it was tried.
    pub async fn collect(
        &self,
        file: &SnapshotFile,
        (from, group): (NodeId, u64),
        part: Part,
    ) -> Result<Collected, Refused> {
        let collected = self.add(file, (from, group), part).await;
        match &collected {
            Err(why) => {
                let now = clock::instant();
                let before = self.lock().refused.insert(group, now);
                if before.is_none_or(|before| now - before > QUIET) {
                    tracing::warn!(node = %from, group, "a snapshot is refused: {why}");
                }
            }
            Ok(Collected::Whole(..)) => {
                if self.lock().refused.remove(&group).is_some() {
                    tracing::info!(node = %from, group, "a snapshot that was refused has come");
                }
            }
            Ok(Collected::Part) => {}
        }
        collected
    }

    async fn add(
        &self,
        file: &SnapshotFile,
        (from, group): (NodeId, u64),
        part: Part,
    ) -> Result<Collected, Refused> {
        let mut transfer = match part.offset {
            0 => self.begin(file, from, group, part.transfer).await?,
            _ => self.resume(from, group, &part).ok_or(Refused::OutOfOrder)?,
        };
        let written = spawn_blocking(move || {
            let written = transfer.file.write_all(&part.data);
            written.map_err(SnapshotError::io(&transfer.fresh.0))?;
            transfer.length += part.data.len() as u64;
            transfer.touched = clock::instant();
            Ok::<_, SnapshotError>(transfer)
        });
        let transfer = written.await.map_err(|_| Refused::Interrupted)??;
        if part.last {
            let file = file.clone();
            let read = spawn_blocking(move || file.receive(transfer.fresh, transfer.turn));
            let (meta, received) = read.await.map_err(|_| Refused::Interrupted)??;
            return Ok(Collected::Whole(meta, received));
        }
        self.keep(group, transfer);
        Ok(Collected::Part)
    }

    async fn begin(
        &self,
        file: &SnapshotFile,
        from: NodeId,
        group: u64,
        number: u64,
    ) -> Result<Transfer, Refused> {
        // The former transfer gets no more parts, and its file makes room.
        let (before, others) = {
            let transfers = &mut self.lock().transfers;
            let before = transfers.remove(&group);
            let rest = |known: &Transfer| known.expected.saturating_sub(known.length);
            (before, transfers.values().map(rest).sum::<u64>())
        };
        let (file, turn) = (file.clone(), self.turn.clone());
        let create = spawn_blocking(move || {
            drop(before);
            let io = SnapshotError::io(file.path());
            // There may be no own snapshot yet.
            let expected = fs::metadata(file.path()).map_or(0, |known| known.len());
            let room = Room::at(file.path().parent().unwrap_or(file.path())).map_err(io)?;
            let (needed, free) = (expected + others + room.reserve() / 2, room.free);
            let turn = match free < needed + expected {
                true => Some(turn.try_lock_owned().ok()),
                false => None,
            };
            if free < needed || matches!(turn, Some(None)) {
                return Err(Refused::NoRoom { needed, free });
            }
            let (fresh, file) = file.temporary().map_err(io)?;
            Ok((fresh, file, expected, turn.flatten()))
        });
        let (fresh, file, expected, turn) = create.await.map_err(|_| Refused::Interrupted)??;
        Ok(Transfer {
            from,
            number,
            file,
            fresh,
            length: 0,
            expected,
            turn,
            touched: clock::instant(),
        })
    }

    fn resume(&self, from: NodeId, group: u64, part: &Part) -> Option<Transfer> {
        let transfers = &mut self.lock().transfers;
        let known = transfers.get(&group)?;
        if (known.from, known.number) != (from, part.transfer) {
            return None;
        }
        let known = transfers.remove(&group)?;
        (known.length == part.offset).then_some(known)
    }

    /// Puts a transfer back, unless another one has begun meanwhile.
    fn keep(&self, group: u64, transfer: Transfer) {
        let mut waiting = self.lock();
        waiting.transfers.entry(group).or_insert(transfer);
        if !waiting.swept {
            waiting.swept = true;
            tokio::spawn(self.clone().sweep());
        }
    }

    /// Gives up transfers that make no progress, until there are none left.
    async fn sweep(self) {
        let mut any = true;
        while any {
            sleep(self.idle).await;
            let mut waiting = self.lock();
            let now = clock::instant();
            let stale = |_: &u64, known: &mut Transfer| now - known.touched >= self.idle;
            let gone: Vec<Transfer> = waiting
                .transfers
                .extract_if(stale)
                .map(|(_, t)| t)
                .collect();
            any = !waiting.transfers.is_empty();
            waiting.swept = any;
            drop(waiting);
            spawn_blocking(move || drop(gone));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::super::tests::{large, place};
    use super::*;
    use crate::raft::types::SnapshotMeta;

    const A: (NodeId, u64) = (NodeId(1), 1);

    struct Sender {
        bytes: Vec<u8>,
    }

    impl Sender {
        fn part(&self, transfer: u64, from: usize, to: usize) -> Part {
            Part {
                transfer,
                offset: from as u64,
                data: Bytes::copy_from_slice(&self.bytes[from..to]),
                last: to == self.bytes.len(),
            }
        }
    }

    fn sender() -> Sender {
        let (_dir, file) = place();
        let meta = SnapshotMeta::default();
        file.save(&meta, &large()).expect("saves");
        let bytes = fs::read(file.path()).expect("reads");
        Sender { bytes }
    }

    fn files(dir: &tempfile::TempDir) -> usize {
        fs::read_dir(dir.path()).expect("lists").count()
    }

    #[tokio::test]
    async fn parts_come_together_in_order_only() {
        let (sender, (dir, file)) = (sender(), place());
        let incoming = Incoming::new(Turn::default());
        let collect = |who, part| incoming.collect(&file, who, part);
        let end = sender.bytes.len();
        let other = (NodeId(2), 1);
        for (who, transfer, from) in [(A, 2, 10), (other, 1, 10), (A, 1, 11)] {
            let begun = collect(A, sender.part(1, 0, 10)).await.expect("begins");
            assert!(matches!(begun, Collected::Part));
            let refused = collect(who, sender.part(transfer, from, end)).await;
            assert!(
                matches!(refused, Err(Refused::OutOfOrder)),
                "{who:?} {transfer} {from}"
            );
        }
        assert!(
            collect(A, sender.part(1, 10, end)).await.is_err(),
            "after a hole"
        );
        collect(A, sender.part(1, 0, 10)).await.expect("begins");
        collect(A, sender.part(1, 10, 30)).await.expect("goes on");
        let whole = collect(A, sender.part(1, 30, end)).await.expect("ends");
        let Collected::Whole(meta, received) = whole else {
            panic!("not whole")
        };
        assert_eq!(
            (meta, &*received.state),
            (SnapshotMeta::default(), &large())
        );
        assert_eq!(files(&dir), 1);
        drop(received);
        assert_eq!(files(&dir), 0, "it is gone unless it is installed");
    }

    #[tokio::test]
    async fn what_came_is_read_before_it_is_installed() {
        let (mut sender, (dir, file)) = (sender(), place());
        let middle = sender.bytes.len() / 2;
        sender.bytes[middle] ^= 1;
        let part = sender.part(1, 0, sender.bytes.len());
        let refused = Incoming::new(Turn::default()).collect(&file, A, part).await;
        let Err(Refused::Snapshot(SnapshotError::Damaged { .. })) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(files(&dir), 0);
    }

    #[tokio::test]
    async fn a_transfer_that_stands_still_is_given_up() {
        let (sender, (dir, file)) = (sender(), place());
        let incoming = Incoming::with(Turn::default(), Duration::from_millis(20));
        let begun = incoming.collect(&file, A, sender.part(1, 0, 10)).await;
        assert!(matches!(begun, Ok(Collected::Part)));
        assert_eq!(files(&dir), 1);
        let gone = async {
            while files(&dir) > 0 || incoming.lock().swept {
                sleep(Duration::from_millis(1)).await;
            }
        };
        let patience = Duration::from_secs(10);
        timeout(patience, gone).await.expect("is given up");
        let late = incoming.collect(&file, A, sender.part(1, 10, 20)).await;
        assert!(matches!(late, Err(Refused::OutOfOrder)));
    }
}
