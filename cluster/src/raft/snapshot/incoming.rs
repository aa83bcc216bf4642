//! Snapshots on their way from another node: pieces that come together in a file.
//!
//! # Invariants
//!
//! 1. A group has one transfer at a time, the latest to begin: it has one leader.
//! 2. A transfer that stands still for `IDLE` is given up, and its file with it: there is one unfinished file
//!    per group at most, and none for long. In memory there is only the part at hand.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::{Received, SnapshotError, SnapshotFile, Temporary};
use crate::NodeId;
use crate::raft::types::SnapshotMeta;

/// How long a transfer may stand still.
const IDLE: Duration = Duration::from_secs(30);

/// Bytes of a snapshot file.
#[derive(Debug)]
pub struct Part {
    /// Parts of different attempts do not mix.
    pub transfer: u64,
    /// Where they belong.
    pub offset: u64,
    /// The bytes.
    pub data: Bytes,
    /// No more follow.
    pub last: bool,
}

/// What came of a part.
#[derive(Debug)]
pub enum Collected {
    /// More are to come.
    Part,
    /// It was the last one, and the file is good.
    Whole(SnapshotMeta, Received),
}

/// Why a part is of no use. The sender begins anew.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It does not follow what is there.
    #[error("a part of another transfer")]
    OutOfOrder,
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
    // Parts of one transfer arrive one after another; the lock is held to take it out or put it back.
    waiting: Arc<Mutex<Waiting>>,
}

/// The transfers that wait for their next part, by their group.
#[derive(Default)]
struct Waiting {
    transfers: HashMap<u64, Transfer>,
    /// Somebody looks for those that stand still.
    swept: bool,
}

struct Transfer {
    from: NodeId,
    number: u64,
    file: File,
    fresh: Temporary,
    length: u64,
    touched: Instant,
}

impl Default for Incoming {
    fn default() -> Self {
        Self::new(IDLE)
    }
}

impl Incoming {
    fn new(idle: Duration) -> Self {
        Self {
            idle,
            waiting: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a part to what has come for a group.
    pub async fn collect(
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
            transfer.touched = Instant::now();
            Ok::<_, SnapshotError>(transfer)
        });
        let transfer = written.await.map_err(|_| Refused::Interrupted)??;
        if part.last {
            let file = file.clone();
            let read = spawn_blocking(move || file.receive(transfer.fresh));
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
        // The one before it has no more to come, and its file makes room.
        let before = self.lock().transfers.remove(&group);
        let file = file.clone();
        let create = spawn_blocking(move || {
            drop(before);
            let made = file.temporary();
            made.map_err(SnapshotError::io(file.path()))
        });
        let (fresh, file) = create.await.map_err(|_| Refused::Interrupted)??;
        Ok(Transfer {
            from,
            number,
            file,
            fresh,
            length: 0,
            touched: Instant::now(),
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

    /// Unless another one has begun meanwhile.
    fn keep(&self, group: u64, transfer: Transfer) {
        let mut waiting = self.lock();
        waiting.transfers.entry(group).or_insert(transfer);
        if !waiting.swept {
            waiting.swept = true;
            tokio::spawn(self.clone().sweep());
        }
    }

    /// Gives up what stands still, until there is nothing left.
    async fn sweep(self) {
        let mut any = true;
        while any {
            sleep(self.idle).await;
            let mut waiting = self.lock();
            let stale = |_: &u64, known: &mut Transfer| known.touched.elapsed() >= self.idle;
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
    use std::fs;

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
        let incoming = Incoming::default();
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
        let refused = Incoming::default().collect(&file, A, part).await;
        let Err(Refused::Snapshot(SnapshotError::Damaged { .. })) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(files(&dir), 0);
    }

    #[tokio::test]
    async fn a_transfer_that_stands_still_is_given_up() {
        let (sender, (dir, file)) = (sender(), place());
        let incoming = Incoming::new(Duration::from_millis(20));
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
