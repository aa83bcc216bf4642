//! The log of one group, as openraft uses it.

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::storage::RaftLogStorage;
use openraft::{OptionalSend, RaftLogReader};
use tokio::sync::oneshot;

use super::memory::MemoryLog;
use super::record::{self, Kind};
use super::writer::{Change, Done, Writer};
use crate::bound;
use crate::raft::types::{Entry, IoFlushed, LogId, LogState, TC, Vote};

/// The most bytes of entries that are read at a time for one peer. One entry is always read.
const READ_BYTES: usize = bound::ENTRY;

/// The log of one group. Clones share it.
#[derive(Clone)]
pub struct GroupLog {
    id: u64,
    // A lock, since replication tasks read while openraft's core appends. Changes are handed to the writer under it, so
    // that the file gets them in the same order as memory.
    group: Arc<Mutex<MemoryLog>>,
    writer: Arc<Writer>,
}

impl GroupLog {
    pub(super) fn new(id: u64, group: Arc<Mutex<MemoryLog>>, writer: Arc<Writer>) -> Self {
        Self { id, group, writer }
    }

    /// Whether nothing is known of this group: no vote, no entry, no purge.
    pub fn is_empty(&self) -> bool {
        let group = self.lock();
        group.vote.is_none() && group.last().is_none()
    }

    /// The last entry that was purged. A snapshot must cover it.
    pub fn purged(&self) -> Option<LogId> {
        self.lock().purged()
    }

    /// The last entry.
    pub fn last(&self) -> Option<LogId> {
        self.lock().last()
    }

    /// A poisoned lock is usable: nothing that can panic runs under it.
    fn lock(&self) -> MutexGuard<'_, MemoryLog> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a change to the writer; `group` is the log after it.
    fn write(
        &self,
        group: &MemoryLog,
        records: Vec<u8>,
        highest: Option<u64>,
        done: Done,
    ) -> io::Result<()> {
        self.writer.write(Change {
            group: self.id,
            records,
            marks: group.marks(),
            highest,
            done,
        })
    }

    fn record<T: serde::Serialize>(&self, kind: Kind, value: &T) -> Vec<u8> {
        let mut out = Vec::new();
        record::put(kind, self.id, value, &mut out);
        out
    }
}

impl RaftLogReader<TC> for GroupLog {
    async fn try_get_log_entries<R>(&mut self, range: R) -> Result<Vec<Entry>, io::Error>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        Ok(self.lock().range(range, usize::MAX))
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self.lock().range(start..end, READ_BYTES))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.lock().vote)
    }
}

impl RaftLogStorage<TC> for GroupLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState, io::Error> {
        Ok(self.lock().state())
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (done, saved) = oneshot::channel();
        let records = self.record(Kind::Vote, vote);
        {
            let mut group = self.lock();
            group.vote = Some(*vote);
            self.write(&group, records, None, Done::Saved(done))?;
        }
        saved
            .await
            .map_err(|_| io::Error::other("the log has stopped"))?
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let records = self.record(Kind::Committed, &committed);
        let mut group = self.lock();
        group.committed = committed;
        self.write(&group, records, None, Done::Unawaited)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IoFlushed) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        let mut group = self.lock();
        for entry in entries {
            record::put(Kind::Entry, self.id, &entry, &mut records);
            group.append(entry).map_err(io::Error::other)?;
        }
        if records.is_empty() {
            callback.io_completed(Ok(()));
            return Ok(());
        }
        let highest = group.last().map(|last| last.index);
        self.write(&group, records, highest, Done::Flushed(callback))
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let records = self.record(Kind::Truncate, &last);
        let mut group = self.lock();
        group.truncate_after(last);
        self.write(&group, records, None, Done::Unawaited)
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let records = self.record(Kind::Purge, &upto);
        let mut group = self.lock();
        group.purge(upto);
        self.write(&group, records, None, Done::Unawaited)
    }
}

#[cfg(test)]
mod tests {
    use openraft::StorageError;
    use openraft::storage::RaftLogStorageExt;
    use openraft::testing::log::{StoreBuilder, Suite};
    use proptest::prelude::*;

    use super::super::{Log, Options};
    use super::*;
    use crate::ShardId;
    use crate::raft::Fatal;
    use crate::raft::machine::Machine;
    use crate::raft::machine::tests::Deaf;
    use crate::raft::types::Proposal;

    struct Fresh;

    impl StoreBuilder<TC, GroupLog, Machine, tempfile::TempDir> for Fresh {
        async fn build(&self) -> Result<(tempfile::TempDir, GroupLog, Machine), StorageError<TC>> {
            let dir = tempfile::tempdir().expect("dir");
            let options = Options {
                segment_bytes: 4096,
                fsync: false,
                ..Options::default()
            };
            let log = Log::open(&dir.path().join("log"), options).expect("opens");
            let machine = Machine::open(
                (ShardId(1), 1),
                dir.path(),
                None,
                Arc::new(Deaf),
                Fatal::abort(),
            );
            Ok((dir, log.group(1), machine.expect("opens")))
        }
    }

    #[test]
    fn openraft_finds_log_and_machine_sound() {
        let runtime = tokio::runtime::Runtime::new().expect("runtime");
        runtime.block_on(Suite::test_all(Fresh)).expect("passes");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Append(u8),
        Truncate(u8),
        Purge(u8),
        Vote,
        Committed,
        Restart,
    }

    fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
        let step = prop_oneof![
            6 => (1..5u8).prop_map(Step::Append),
            1 => (0..5u8).prop_map(Step::Truncate),
            2 => (0..8u8).prop_map(Step::Purge),
            1 => Just(Step::Vote),
            1 => Just(Step::Committed),
            1 => Just(Step::Restart),
        ];
        prop::collection::vec((0..3u64, step), 1..80)
    }

    fn id(term: u64, index: u64) -> LogId {
        openraft::testing::log_id::<TC>(term, 1, index)
    }

    /// One step; `term` makes each different.
    async fn take(group: &mut GroupLog, term: u64, step: &Step) {
        let next = group.last().map_or(0, |last| last.index + 1);
        match step {
            Step::Append(count) => {
                let entry = |index| Entry {
                    log_id: id(term, index),
                    payload: openraft::EntryPayload::Normal(Proposal(vec![term as u8; 20].into())),
                };
                group
                    .blocking_append((next..next + u64::from(*count)).map(entry))
                    .await
                    .expect("appends");
            }
            Step::Truncate(count) => {
                let keep = next.saturating_sub(u64::from(*count));
                let last = group
                    .lock()
                    .range(..keep, usize::MAX)
                    .pop()
                    .map(|entry| entry.log_id);
                group
                    .truncate_after(last.or(group.purged()))
                    .await
                    .expect("truncates");
            }
            Step::Purge(count) => {
                let front = group.lock().range(.., usize::MAX);
                if let Some(entry) = front.into_iter().take(usize::from(*count)).last() {
                    group.purge(entry.log_id).await.expect("purges");
                }
            }
            Step::Vote => group.save_vote(&Vote::new(term, 1)).await.expect("saves"),
            Step::Committed => group.save_committed(group.last()).await.expect("saves"),
            Step::Restart => {}
        }
    }

    fn picture(group: &GroupLog) -> (super::super::memory::Marks, Vec<Entry>) {
        let group = group.lock();
        (group.marks(), group.range(.., usize::MAX))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_restart_changes_nothing(steps in steps()) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            let dir = tempfile::tempdir().expect("dir");
            let options = Options { segment_bytes: 512, fsync: false, ..Options::default() };
            let open = || Log::open(dir.path(), options.clone()).expect("opens");
            let mut log = Some(open());
            for (n, (group, step)) in steps.iter().enumerate() {
                let current = log.get_or_insert_with(open);
                runtime.block_on(take(&mut current.group(*group), n as u64 + 1, step));
                if matches!(step, Step::Restart) {
                    let before: Vec<_> = (0..3).map(|id| picture(&current.group(id))).collect();
                    log = None;
                    let current = log.get_or_insert_with(open);
                    let after: Vec<_> = (0..3).map(|id| picture(&current.group(id))).collect();
                    prop_assert_eq!(before, after);
                }
            }
        }
    }
}
